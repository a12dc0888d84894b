//! The filters of jinja2, with `tojson` as Hugging Face has it.

mod lists;
mod words;

use super::call::Given;
use super::digits;
use super::error::{Error, Kind, Result};
use super::format;
use super::json::tojson;
use super::meter::{spend, spend_chars};
use super::methods;
use super::operate::{self, index};
use super::run::Run;
use super::strings;
use super::value::Value;
use std::num::IntErrorKind;

pub(super) const NAMES: [&str; 45] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
];
pub(super) const MORE: [&str; 2] = ["urlencode", "wordcount"];
/// jinja2's, for pages of the web and for chance, which no chat template needs.
const REFUSED: [&str; 7] = ["filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr"];

/// Whether there is a filter `name`.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || MORE.contains(&name) || REFUSED.contains(&name)
}

/// `value | name(given)`.
pub(super) fn apply(run: &mut Run, name: &str, value: &Value, given: Given) -> Result<Value> {
    spend(3)?;
    match name {
        "capitalize" | "center" | "indent" | "lower" | "replace" | "title" | "trim" | "truncate" | "upper"
        | "urlencode" | "wordcount" | "e" | "escape" | "forceescape" => words::apply(name, value, given),
        "batch" | "dictsort" | "first" | "groupby" | "join" | "last" | "list" | "map" | "max" | "min" | "reject"
        | "rejectattr" | "reverse" | "select" | "selectattr" | "slice" | "sort" | "sum" | "unique" => {
            lists::apply(run, name, value, given)
        }
        "tojson" => tojson(value, given),
        "default" | "d" => {
            let [default, boolean] = given.some(name, ["default_value", "boolean"])?;
            let is_bad = matches!(value, Value::Undefined(..)) || (is_true(boolean.as_ref()) && !value.is_true());
            if is_bad { default.map_or_else(|| Value::str(""), Ok) } else { Ok(value.clone()) }
        }
        "length" | "count" => {
            let [] = given.all(name, [])?;
            let len = match value {
                Value::Loop(state) => run.loop_len(state)?,
                other => other.len()?,
            };
            Ok(Value::Int(i128::try_from(len).unwrap_or(i128::MAX)))
        }
        "items" => {
            let [] = given.all(name, [])?;
            match value {
                Value::Undefined(..) => Value::generator(Vec::new()),
                Value::Dict(dict) => Value::generator(methods::pairs(dict)?),
                _ => Err(Error::value(format!("`items` needs a dictionary, and not a {}", value.type_name()))),
            }
        }
        "string" | "safe" => {
            let [] = given.all(name, [])?;
            value.to_text().map(Value::Str)
        }
        "attr" => {
            let [attribute] = given.all(name, ["name"])?;
            // An entry of a dictionary is no attribute.
            match value {
                Value::Dict(_) => match methods::find(value, attribute.to_text()?.as_str()) {
                    Some(method) => Ok(method),
                    None => Ok(Value::undefined("a dict has no such attribute")),
                },
                _ => run.attribute(value, attribute.to_text()?.as_str()),
            }
        }
        "format" => {
            let text = value.to_text()?;
            if !given.named.is_empty() {
                if !given.positional.is_empty() {
                    return Err(Error::value("`format` takes values with names or without, and not both"));
                }
                let mut dict = super::value::Dict::default();
                for (name, value) in given.named {
                    dict.insert(Value::str(&name)?, value)?;
                }
                return format::percent(run, &text, &Value::Dict(std::rc::Rc::new(dict)));
            }
            format::percent(run, &text, &Value::tuple(given.positional)?)
        }
        "abs" => {
            let [] = given.all(name, [])?;
            value.defined()?;
            match (value.int(), value.number()) {
                (Some(i), _) => i.checked_abs().map(Value::Int).ok_or_else(|| Error::value("a number too large")),
                (_, Some(f)) => Ok(Value::Float(f.abs())),
                _ => Err(Error::value(format!("`abs` needs a number, and not a {}", value.type_name()))),
            }
        }
        "int" => int(value, given),
        "float" => {
            let [default] = given.some(name, ["default"])?;
            value.defined()?;
            let default = default.unwrap_or(Value::Float(0.0));
            Ok(value.number().map_or_else(|| parsed(value), |f| Ok(Some(f)))?.map_or(default, Value::Float))
        }
        "round" => round(value, given),
        _ if REFUSED.contains(&name) => {
            Err(Error::new(Kind::Refused, format!("filter `{name}` isn't for chat templates")))
        }
        _ => Err(Error::new(Kind::Syntax, format!("there is no filter `{name}`"))),
    }
}

/// Whether an argument was given and is true.
pub(super) fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(Value::is_true)
}

/// A string's number without the white space around it, and with the digits of ASCII.
fn plain(text: &str) -> String {
    let digit = |c: char| digits::decimal(c).and_then(|value| char::from_digit(value, 10)).unwrap_or(c);
    text.trim_matches(strings::is_space).chars().map(digit).collect()
}

/// A string as a float, as Python reads it.
fn parsed(value: &Value) -> Result<Option<f64>> {
    let Value::Str(text) = value else { return Ok(None) };
    spend_chars(text.len().saturating_mul(3))?;
    let text = &plain(text.as_str());
    if !has_digits_around(text) {
        return Ok(None);
    }
    let number = text.replace('_', "");
    let is_plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let lower = number.trim_start_matches(['+', '-']).to_ascii_lowercase();
    let is_word = ["inf", "infinity", "nan"].contains(&lower.as_str());
    let is_number = number.chars().all(is_plain) && number.contains(|c: char| c.is_ascii_digit());
    Ok(if is_word || is_number { number.parse().ok() } else { None })
}

/// Whether each `_` of a number stands between two digits, as Python wants it.
fn has_digits_around(number: &str) -> bool {
    let (mut before, mut rest) = (false, number.chars().peekable());
    while let Some(c) = rest.next() {
        if c == '_' && !(before && rest.peek().is_some_and(char::is_ascii_alphanumeric)) {
            return false;
        }
        before = c.is_ascii_alphanumeric();
    }
    true
}

fn int(value: &Value, given: Given) -> Result<Value> {
    let [default, base] = given.some("int", ["default", "base"])?;
    let default = default.unwrap_or(Value::Int(0));
    let base = base.map_or(Ok(10), |base| index(&base))?;
    value.defined()?;
    if let Value::Str(text) = value {
        spend_chars(text.len().saturating_mul(4))?;
        let text = plain(text.as_str());
        let is_plain = has_digits_around(&text);
        let text = text.replace('_', "").to_lowercase();
        let (sign, digits) = text.strip_prefix('-').map_or(("", text.trim_start_matches('+')), |d| ("-", d));
        let digits = match base {
            16 => digits.trim_start_matches("0x"),
            8 => digits.trim_start_matches("0o"),
            2 => digits.trim_start_matches("0b"),
            _ => digits,
        };
        let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
        let base = base.filter(|_| is_plain && !digits.starts_with(['+', '-']));
        match base.map(|base| i128::from_str_radix(&format!("{sign}{digits}"), base)) {
            Some(Ok(whole)) => return Ok(Value::Int(whole)),
            Some(Err(e)) if matches!(e.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => {
                return Err(operate::too_large());
            }
            _ => {}
        }
        // What is beyond any float is no number to Python either.
        return match parsed(value)? {
            Some(f) if f.is_finite() => format::truncated(f).map(Value::Int),
            _ => Ok(default),
        };
    }
    if let Some(whole) = value.int() {
        return Ok(Value::Int(whole));
    }
    match value.number() {
        Some(f) if !f.is_nan() => format::truncated(f).map(Value::Int),
        _ => Ok(default),
    }
}

fn round(value: &Value, given: Given) -> Result<Value> {
    let [precision, method] = given.some("round", ["precision", "method"])?;
    let precision = precision.map_or(Ok(0), |p| index(&p))?.clamp(-400, 400);
    let method = method.map_or_else(|| Value::str("common"), Ok)?.to_text()?;
    let number =
        value.number().ok_or_else(|| operate::positive(value).err().unwrap_or_else(|| Error::value("no number")))?;
    format::spend_digits(number, usize::try_from(precision).unwrap_or(0))?;
    let scale = 10f64.powi(i32::try_from(precision).unwrap_or(0));
    match method.as_str() {
        "common" => {
            if let (Some(whole), 0..) = (value.int(), precision) {
                return Ok(Value::Int(whole));
            }
            if let (Some(whole), Ok(places)) = (value.int(), u32::try_from(-precision)) {
                return rounded_to(whole, places).map(Value::Int);
            }
            if !number.is_finite() {
                return Ok(Value::Float(number));
            }
            let rounded = match usize::try_from(precision) {
                Ok(places) => format!("{number:.places$}").parse().unwrap_or(number),
                // No float has so many digits before the point.
                Err(_) if precision < -309 => 0f64.copysign(number),
                Err(_) => (number * scale).round_ties_even() / scale,
            };
            Ok(Value::Float(rounded))
        }
        "ceil" | "floor" => {
            let scaled = number * scale;
            if scale == 0.0 || !scaled.is_finite() {
                return Err(Error::value("a number that is too large to round, or a precision beyond floats"));
            }
            // A whole number has no negative 0.
            let whole = if method.as_str() == "ceil" { scaled.ceil() } else { scaled.floor() } + 0.0;
            Ok(Value::Float(whole / scale))
        }
        other => Err(Error::value(format!("`round` knows common, ceil and floor, and not `{}`", short(other)))),
    }
}

/// The nearest multiple of 10 to the power of `places`; of two the even one.
fn rounded_to(whole: i128, places: u32) -> Result<i128> {
    let Some(unit) = 10i128.checked_pow(places) else { return Ok(0) };
    let (below, rest) = (whole.div_euclid(unit), whole.rem_euclid(unit));
    let up = rest > unit - rest || (rest == unit - rest && below % 2 != 0);
    (below + i128::from(up)).checked_mul(unit).ok_or_else(operate::too_large)
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
