//! Arithmetic, indices and slices as Python has them.

use super::ast::Binary;
use super::error::{Error, Kind, Result};
use super::format;
use super::meter::spend;
use super::numbers::{divided, float_divmod};
use super::run::Run;
use super::text::{Builder, Text};
use super::value::{List, Value};
use std::rc::Rc;

/// Steps of a division: one is done bit by bit.
const DIVISION: usize = 12;

/// A whole number that counts or points at something.
pub(super) fn index(value: &Value) -> Result<i64> {
    value.defined()?;
    let int = value.int().ok_or_else(|| Error::value(format!("a {} is no whole number", value.type_name())))?;
    i64::try_from(int).map_err(|_| Error::value("a number is too large to count with"))
}

fn wrong(op: &str, left: &Value, right: &Value) -> Error {
    Error::value(format!("`{op}` can't be done with a {} and a {}", left.type_name(), right.type_name()))
}

/// The error for whole numbers that Python would have.
pub(super) fn too_large() -> Error {
    Error::new(Kind::Limit, "a whole number of more than 127 bits")
}

/// `-x`.
pub(super) fn negative(value: &Value) -> Result<Value> {
    value.defined()?;
    match (value.int(), value.number()) {
        (Some(i), _) => i.checked_neg().map(Value::Int).ok_or_else(too_large),
        (None, Some(f)) => Ok(Value::Float(-f)),
        _ => Err(Error::value(format!("a {} has no negative", value.type_name()))),
    }
}

/// `+x`.
pub(super) fn positive(value: &Value) -> Result<Value> {
    value.defined()?;
    match (value.int(), value.number()) {
        (Some(i), _) => Ok(Value::Int(i)),
        (None, Some(f)) => Ok(Value::Float(f)),
        _ => Err(Error::value(format!("a {} is no number", value.type_name()))),
    }
}

/// `left op right`.
pub(super) fn binary(run: &mut Run, op: Binary, left: &Value, right: &Value) -> Result<Value> {
    // `%` formats even with what isn't there.
    if let (Binary::Mod, Value::Str(text)) = (op, left) {
        return format::percent(run, text, right);
    }
    left.defined()?;
    right.defined()?;
    match op {
        Binary::Add => add(left, right),
        Binary::Mul => multiply(left, right),
        Binary::Sub => arithmetic("-", left, right, i128::checked_sub, |a, b| Ok(a - b)),
        Binary::Div => {
            nonzero(right)?;
            match (left.int(), right.int(), left.number(), right.number()) {
                (Some(a), Some(b), ..) => {
                    spend(DIVISION)?;
                    Ok(Value::Float(divided(a, b)))
                }
                (_, _, Some(a), Some(b)) => Ok(Value::Float(a / b)),
                _ => Err(wrong("/", left, right)),
            }
        }
        Binary::FloorDiv => {
            nonzero(right)?;
            arithmetic("//", left, right, floor_div, |a, b| Ok(divmod(a, b)?.0))
        }
        Binary::Mod => {
            nonzero(right)?;
            arithmetic("%", left, right, floor_mod, |a, b| Ok(divmod(a, b)?.1))
        }
        Binary::Pow => power(left, right),
    }
}

fn nonzero(value: &Value) -> Result<()> {
    if value.number() == Some(0.0) { Err(Error::value("division by zero")) } else { Ok(()) }
}

/// `float_divmod`, which goes through the binary places between both.
fn divmod(a: f64, b: f64) -> Result<(f64, f64)> {
    let exponent = |f: f64| (f.to_bits() >> 52) & 0x7ff;
    let places = exponent(a).saturating_sub(exponent(b));
    spend(DIVISION + usize::try_from(places / 16).unwrap_or(0))?;
    Ok(float_divmod(a, b))
}

fn floor_div(a: i128, b: i128) -> Option<i128> {
    let quotient = a.checked_div(b)?;
    if a.checked_rem(b)? != 0 && (a < 0) != (b < 0) { quotient.checked_sub(1) } else { Some(quotient) }
}

fn floor_mod(a: i128, b: i128) -> Option<i128> {
    let rest = a.checked_rem(b)?;
    if rest != 0 && (rest < 0) != (b < 0) { rest.checked_add(b) } else { Some(rest) }
}

fn arithmetic(
    op: &str,
    left: &Value,
    right: &Value,
    whole: fn(i128, i128) -> Option<i128>,
    float: fn(f64, f64) -> Result<f64>,
) -> Result<Value> {
    match (left.int(), right.int(), left.number(), right.number()) {
        (Some(a), Some(b), ..) => whole(a, b).map(Value::Int).ok_or_else(too_large),
        (_, _, Some(a), Some(b)) => float(a, b).map(Value::Float),
        _ => Err(wrong(op, left, right)),
    }
}

/// `left + right`.
pub(super) fn add(left: &Value, right: &Value) -> Result<Value> {
    let joined = |a: &Rc<List>, b: &Rc<List>| -> Result<Vec<Value>> {
        spend(a.items.len() + b.items.len())?;
        Ok(a.items.iter().chain(&b.items).cloned().collect())
    };
    match (left, right) {
        (Value::Str(a), Value::Str(b)) => {
            let mut out = Builder::new();
            out.push(a)?;
            out.push(b)?;
            Ok(Value::Str(out.finish()))
        }
        (Value::List(a), Value::List(b)) => Value::list(joined(a, b)?),
        (Value::Tuple(a), Value::Tuple(b)) => Value::tuple(joined(a, b)?),
        _ => {
            left.defined()?;
            right.defined()?;
            arithmetic("+", left, right, i128::checked_add, |a, b| Ok(a + b))
        }
    }
}

fn multiply(left: &Value, right: &Value) -> Result<Value> {
    let (repeated, count) = match (left, right) {
        (Value::Str(_) | Value::List(_) | Value::Tuple(_), count) => (left, count),
        (count, Value::Str(_) | Value::List(_) | Value::Tuple(_)) => (right, count),
        _ => return arithmetic("*", left, right, i128::checked_mul, |a, b| Ok(a * b)),
    };
    let Some(count) = count.int() else { return Err(wrong("*", left, right)) };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    match repeated {
        Value::Str(text) => repeat(text, count).map(Value::Str),
        Value::List(list) => Value::list(repeat_list(list, count)?),
        Value::Tuple(list) => Value::tuple(repeat_list(list, count)?),
        _ => Err(wrong("*", left, right)),
    }
}

fn repeat(text: &Text, count: usize) -> Result<Text> {
    let mut out = Builder::new();
    if text.runs().iter().all(|(_, is_content)| !is_content) {
        out.repeat(text.as_str(), count)?;
        return Ok(out.finish());
    }
    spend(count)?;
    for _ in 0..count {
        out.push(text)?;
    }
    Ok(out.finish())
}

fn repeat_list(list: &Rc<List>, count: usize) -> Result<Vec<Value>> {
    let items = list.items.len().saturating_mul(count);
    spend(items)?;
    // Asked for before it is allocated.
    super::meter::Held::new(items.saturating_mul(size_of::<Value>()))?;
    Ok(list.items.iter().cycle().take(items).cloned().collect())
}

fn power(left: &Value, right: &Value) -> Result<Value> {
    if let (Some(base), Some(exponent)) = (left.int(), right.int()) {
        if exponent >= 0 {
            if let -1..=1 = base {
                let sign = if base < 0 && exponent % 2 != 0 { -1 } else { base.abs() };
                return Ok(Value::Int(if exponent == 0 { 1 } else { sign }));
            }
            let exponent = u32::try_from(exponent).map_err(|_| too_large())?;
            return base.checked_pow(exponent).map(Value::Int).ok_or_else(too_large);
        }
        nonzero(left)?;
    }
    match (left.number(), right.number()) {
        (Some(0.0), Some(b)) if b < 0.0 => Err(Error::value("division by zero")),
        (Some(a), Some(b)) => {
            let result = a.powf(b);
            if result.is_nan() && !a.is_nan() && !b.is_nan() {
                return Err(Error::value("a power that is no real number"));
            }
            if result.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(Error::value("a power that is too large"));
            }
            Ok(Value::Float(result))
        }
        _ => Err(wrong("**", left, right)),
    }
}

/// The first index, the step and the count of a slice of `len` elements.
struct Cut {
    start: i128,
    stop: i128,
    step: i128,
    count: usize,
}

impl Cut {
    fn new(len: usize, start: Option<&Value>, stop: Option<&Value>, step: Option<&Value>) -> Result<Cut> {
        let int = |value: Option<&Value>| -> Result<Option<i128>> {
            match value {
                None | Some(Value::None) => Ok(None),
                Some(value) => {
                    value.defined()?;
                    let what = || Error::value(format!("a slice needs whole numbers, and not a {}", value.type_name()));
                    // Beyond any length it makes no difference by how much.
                    value.int().map(|i| Some(i.clamp(-(1 << 64), 1 << 64))).ok_or_else(what)
                }
            }
        };
        let (start, stop, step) = (int(start)?, int(stop)?, int(step)?.unwrap_or(1));
        if step == 0 {
            return Err(Error::value("the step of a slice can't be 0"));
        }
        let len = i128::try_from(len).unwrap_or(i128::MAX / 4);
        let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
        let place = |i: i128| (if i < 0 { i + len } else { i }).clamp(low, high);
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        let (start, stop) = (start.map_or(first, place), stop.map_or(last, place));
        let distance = if step > 0 { stop - start } else { start - stop };
        let count = (distance + step.abs() - 1) / step.abs();
        Ok(Cut { start, stop, step, count: usize::try_from(count).unwrap_or(0) })
    }

    fn indices(&self) -> impl Iterator<Item = usize> {
        let (start, step) = (self.start, self.step);
        std::iter::successors(Some(start), move |i| Some(i + step))
            .take(self.count)
            .filter_map(|i| usize::try_from(i).ok())
    }
}

/// `of[start:stop:step]`.
pub(super) fn slice(of: &Value, start: Option<&Value>, stop: Option<&Value>, step: Option<&Value>) -> Result<Value> {
    of.defined()?;
    let cut = |len| Cut::new(len, start, stop, step);
    let items = |list: &Rc<List>| -> Result<Vec<Value>> {
        let cut = cut(list.items.len())?;
        spend(cut.count)?;
        Ok(cut.indices().filter_map(|i| list.items.get(i).cloned()).collect())
    };
    match of {
        Value::Str(text) => text_slice(text, &cut(text.num_chars())?),
        Value::List(list) => Value::list(items(list)?),
        Value::Tuple(list) | Value::View("_GroupTuple", list) => Value::tuple(items(list)?),
        Value::Range(first, _, each) => {
            let cut = cut(of.range_len())?;
            let each = i128::from(*each);
            let place = |i: i128| i64::try_from(i128::from(*first) + each * i);
            match (place(cut.start), place(cut.stop), i64::try_from(each.saturating_mul(cut.step))) {
                (Ok(start), Ok(stop), Ok(step)) => Ok(Value::Range(start, stop, step)),
                _ => Err(too_large()),
            }
        }
        _ => Err(Error::value(format!("a {} can't be sliced", of.type_name()))),
    }
}

fn text_slice(text: &Text, cut: &Cut) -> Result<Value> {
    if cut.step == 1 {
        let start = usize::try_from(cut.start).unwrap_or(0);
        let (from, to) = (text.byte_of(start), text.byte_of(start.saturating_add(cut.count)));
        return Ok(Value::Str(text.slice(from..to)?));
    }
    // Where its characters begin is a number each.
    let _held = super::meter::Held::new(text.num_chars().saturating_mul(size_of::<usize>()))?;
    spend(text.len() / 2)?;
    let mut out = Builder::new();
    let borders: Vec<usize> = text.as_str().char_indices().map(|(i, _)| i).chain([text.len()]).collect();
    for i in cut.indices() {
        if let (Some(from), Some(to)) = (borders.get(i), borders.get(i + 1)) {
            out.push_part(text, *from..*to)?;
        }
    }
    Ok(Value::Str(out.finish()))
}
