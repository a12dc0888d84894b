//! `"..." % values` and `"...".format(...)`.

use super::error::{Error, Result};
use super::meter::{Held, spend, spend_chars};
use super::run::Run;
use super::strings::padded;
use super::text::{Builder, Text};
use super::value::{Value, float};

/// Most digits behind the point.
const MOST_DIGITS: usize = 300;

/// How one value is laid out.
#[derive(Debug, Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

/// `text % values`.
pub(super) fn percent(run: &mut Run, text: &Text, values: &Value) -> Result<Value> {
    let single = [values.clone()];
    let positional: &[Value] = match values {
        Value::Tuple(list) => &list.items,
        _ => &single,
    };
    let mut next = positional.iter();
    let mut out = Builder::new();
    spend_chars(text.len())?;
    let s = text.as_str();
    let mut at = 0;
    let mut used_name = false;
    while let Some(found) = s.get(at..).and_then(|rest| rest.find('%')) {
        spend(1)?;
        out.push_part(text, at..at + found)?;
        let rest = s.get(at + found + 1..).unwrap_or_default();
        if rest.starts_with('%') {
            out.push_str("%", false)?;
            at += found + 2;
            continue;
        }
        let (name, rest) = match rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            Some((name, rest)) => (Some(name), rest),
            None => (None, rest),
        };
        let mut take = || next.next().cloned().ok_or_else(|| Error::value("not enough values for the format"));
        let (spec, rest) = percent_spec(rest, &mut take)?;
        let value = match (name, values) {
            (None, _) => take()?,
            (Some(name), Value::Dict(dict)) => {
                used_name = true;
                let missing = || Error::value(format!("the format asks for `{name}`, which isn't there"));
                dict.get_str(name).cloned().ok_or_else(missing)?
            }
            (Some(_), _) => return Err(Error::value("a format with names needs a dictionary")),
        };
        out.push(&percent_value(&value, spec)?)?;
        at = s.len() - rest.len();
    }
    out.push_part(text, at..text.len())?;
    if next.next().is_some()
        && !used_name
        && matches!(
            values,
            Value::Tuple(_) | Value::Str(_) | Value::Int(_) | Value::Bool(_) | Value::Float(_) | Value::None
        )
    {
        return Err(Error::value("the format doesn't use all values"));
    }
    let _ = run;
    Ok(Value::Str(out.finish()))
}

/// Flags, width, precision and kind behind a `%`, and what follows.
fn percent_spec<'s>(mut rest: &'s str, take: &mut dyn FnMut() -> Result<Value>) -> Result<(Spec, &'s str)> {
    let mut spec = Spec::default();
    while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
        match flag {
            '-' => spec.align = Some('<'),
            '0' => spec.fill = Some('0'),
            '#' => spec.alternate = true,
            // A plus goes before a space.
            sign if spec.sign != Some('+') => spec.sign = Some(sign),
            _ => {}
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut number = |rest: &mut &'s str| -> Result<usize> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            return usize::try_from(super::operate::index(&take()?)?).map_err(|_| Error::value("a negative width"));
        }
        Ok(digits(rest)?.unwrap_or(0))
    };
    spec.width = number(&mut rest)?;
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = Some(number(&mut rest)?);
    }
    let kind = rest.chars().next().ok_or_else(|| Error::value("a format ends within a `%`"))?;
    spec.kind = Some(kind);
    Ok((spec, rest.get(kind.len_utf8()..).unwrap_or_default()))
}

/// Takes a number from the start of `rest`.
fn digits(rest: &mut &str) -> Result<Option<usize>> {
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if number.is_empty() {
        return Ok(None);
    }
    *rest = after;
    number.parse().map(Some).map_err(|_| Error::value("a width that is too large"))
}

fn percent_value(value: &Value, mut spec: Spec) -> Result<Text> {
    let text = match spec.kind {
        Some('s' | 'r' | 'a') => {
            let mut out = Builder::new();
            if spec.kind == Some('s') {
                value.print(&mut out)?
            } else {
                value.repr(&mut out)?
            }
            spec.fill = None;
            cut(&out.finish(), spec.precision)?
        }
        Some('c') => value.to_text()?,
        Some('d' | 'i' | 'u') => {
            value.defined()?;
            let whole = match value {
                Value::Float(f) => Some(truncated(*f)?),
                other => other.int(),
            };
            let whole =
                whole.ok_or_else(|| Error::value(format!("`%d` needs a number, not a {}", value.type_name())))?;
            Text::plain(&signed(whole < 0, &whole.unsigned_abs().to_string(), spec.sign))?
        }
        Some('x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
            value.defined()?;
            Text::plain(&number(value, &spec)?)?
        }
        kind => return Err(Error::value(format!("`%{}` is no format", kind.unwrap_or(' ')))),
    };
    let align = spec.align.unwrap_or('>');
    let zero = spec.fill == Some('0') && align == '>';
    laid_out(&text, spec.width, if zero { '=' } else { align }, if zero { '0' } else { ' ' })
}

/// A float as a whole number, cut off.
pub(super) fn truncated(f: f64) -> Result<i128> {
    spend(8)?;
    if f.is_finite() && f.abs() < 1.7e38 {
        return format!("{:.0}", f.trunc()).parse().map_err(|_| Error::value("a number that is too large"));
    }
    if f.is_finite() {
        Err(super::operate::too_large())
    } else {
        Err(Error::value(format!("{} is no whole number", float(f))))
    }
}

fn cut(text: &Text, most: Option<usize>) -> Result<Text> {
    most.map_or_else(|| Ok(text.clone()), |most| text.slice(0..text.byte_of(most)))
}

fn signed(is_negative: bool, digits: &str, sign: Option<char>) -> String {
    match sign {
        _ if is_negative => format!("-{digits}"),
        Some(sign @ ('+' | ' ')) => format!("{sign}{digits}"),
        _ => digits.into(),
    }
}

/// A number by its kind, with its sign.
fn number(value: &Value, spec: &Spec) -> Result<String> {
    spend(8)?;
    let kind = spec.kind.unwrap_or(if matches!(value, Value::Float(_)) { 'r' } else { 'd' });
    if let (Some(whole), 'd' | 'n' | 'x' | 'X' | 'o' | 'b') = (value.int(), kind) {
        let size = whole.unsigned_abs();
        let (prefix, digits) = match kind {
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0o", format!("{size:o}")),
            'b' => ("0b", format!("{size:b}")),
            _ => ("", size.to_string()),
        };
        let digits = grouped(&digits, spec.grouping);
        let prefix = if spec.alternate { prefix } else { "" };
        return Ok(signed(whole < 0, &format!("{prefix}{digits}"), spec.sign));
    }
    let f = value.number().ok_or_else(|| Error::value(format!("a {} has no format `{kind}`", value.type_name())))?;
    spend_digits(f, spec.precision.unwrap_or(6).min(MOST_DIGITS))?;
    let places = spec.precision.unwrap_or(6);
    if places > MOST_DIGITS {
        return Err(Error::value(format!("more than {MOST_DIGITS} digits")));
    }
    let size = f.abs();
    let text = if f.is_nan() {
        "nan".into()
    } else if f.is_infinite() {
        "inf".into()
    } else {
        match kind {
            'f' | 'F' => format!("{size:.places$}"),
            'e' | 'E' => exponent(&format!("{size:.places$e}")),
            'g' | 'G' => general(size, places.max(1)),
            '%' => format!("{:.places$}%", size * 100.0),
            'r' if spec.precision.is_none() => float(size),
            'r' => general(size, places.max(1)),
            _ => return Err(Error::value(format!("a {} has no format `{kind}`", value.type_name()))),
        }
    };
    let whole = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, fraction) = text.split_at_checked(whole).unwrap_or((&text, ""));
    let text = grouped(whole, spec.grouping) + fraction;
    let text = if kind.is_uppercase() { text.to_uppercase() } else { text };
    Ok(signed(f.is_sign_negative() && !f.is_nan(), &text, spec.sign))
}

/// Uses the fuel of writing a float with `places` digits behind the point.
pub(super) fn spend_digits(f: f64, places: usize) -> Result<()> {
    spend(8 + places + if f.abs() > 1e15 { 120 } else { 0 })
}

/// `1.5e7` as Python writes it: `1.5e+07`.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The shorter of both notations, without zeros at the end.
fn general(size: f64, digits: usize) -> String {
    let text = format!("{size:.*e}", digits - 1);
    let power: i64 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text.to_string(),
    };
    let most = i64::try_from(digits).unwrap_or(i64::MAX);
    if power < -4 || power >= most {
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        return exponent(&format!("{}e{power}", trimmed(mantissa)));
    }
    let places = usize::try_from(most - 1 - power).unwrap_or(0);
    trimmed(&format!("{size:.places$}"))
}

fn grouped(digits: &str, grouping: Option<char>) -> String {
    let Some(mark) = grouping else { return digits.into() };
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(mark);
        }
        out.push(c);
    }
    out
}

/// `text` in `width` characters; `=` puts the fill behind the sign.
fn laid_out(text: &Text, width: usize, align: char, fill: char) -> Result<Text> {
    let room = width.saturating_sub(text.num_chars());
    if room == 0 {
        return Ok(text.clone());
    }
    Held::new(room)?;
    let fill = fill.to_string();
    match align {
        '<' => padded(text, 0, room, &fill),
        '^' => padded(text, room / 2, room - room / 2, &fill),
        '=' => {
            let sign = usize::from(text.as_str().starts_with(['-', '+', ' ']));
            let mut out = Builder::new();
            out.push_part(text, 0..sign)?;
            out.repeat(&fill, room)?;
            out.push_part(text, sign..text.len())?;
            Ok(out.finish())
        }
        _ => padded(text, room, 0, &fill),
    }
}

/// `text.format(...)`.
pub(super) fn braces(run: &mut Run, text: &Text, positional: &[Value], named: &[(String, Value)]) -> Result<Value> {
    spend_chars(text.len())?;
    let s = text.as_str();
    let mut out = Builder::new();
    let (mut at, mut count) = (0, 0);
    while let Some(found) = s.get(at..).and_then(|rest| rest.find(['{', '}'])) {
        spend(1)?;
        out.push_part(text, at..at + found)?;
        let rest = s.get(at + found..).unwrap_or_default();
        if rest.starts_with("{{") || rest.starts_with("}}") {
            out.push_part(text, at + found..at + found + 1)?;
            at += found + 2;
            continue;
        }
        let field = rest.strip_prefix('{').and_then(|r| r.split_once('}')).map(|(field, _)| field);
        let field = field.ok_or_else(|| Error::value("a brace in a format has no partner"))?;
        if field.contains('{') {
            return Err(Error::value("a format within a format"));
        }
        at += found + field.len() + 2;
        let (path, spec) = field.split_once(':').unwrap_or((field, ""));
        let (path, conversion) = path.split_once('!').map_or((path, None), |(path, c)| (path, Some(c)));
        let value = resolve(run, path, positional, named, &mut count)?;
        let value = match conversion {
            None => value,
            Some("s") => Value::Str(value.to_text()?),
            Some("r" | "a") => {
                let mut out = Builder::new();
                value.repr(&mut out)?;
                Value::Str(out.finish())
            }
            Some(other) => return Err(Error::value(format!("`!{other}` is no conversion"))),
        };
        out.push(&brace_value(&value, spec)?)?;
    }
    out.push_part(text, at..text.len())?;
    Ok(Value::Str(out.finish()))
}

/// The value that `path` of a format names: an argument, then attributes and items of it.
fn resolve(
    run: &mut Run,
    path: &str,
    positional: &[Value],
    named: &[(String, Value)],
    count: &mut usize,
) -> Result<Value> {
    spend(1 + named.len() / 8 + path.len() / 8)?;
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, mut rest) = path.split_at_checked(end).unwrap_or((path, ""));
    let missing = || Error::value(format!("the format asks for `{first}`, which wasn't given"));
    let number = if first.is_empty() { Some(std::mem::replace(count, *count + 1)) } else { first.parse().ok() };
    let mut value = match number {
        Some(i) => positional.get(i).cloned().ok_or_else(missing)?,
        None => named.iter().find(|(name, _)| name == first).map(|(_, value)| value.clone()).ok_or_else(missing)?,
    };
    while !rest.is_empty() {
        spend(1)?;
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at_checked(end).unwrap_or((after, ""));
            value = run.attribute(&value, name)?;
            rest = after;
        } else {
            let inner = rest.strip_prefix('[').and_then(|r| r.split_once(']'));
            let (key, after) = inner.ok_or_else(|| Error::value("a bracket in a format has no partner"))?;
            let key = key.parse().map_or_else(|_| Value::str(key), |i| Ok(Value::Int(i)))?;
            value = run.item(&value, &key)?;
            rest = after;
        }
        value.defined()?;
    }
    Ok(value)
}

fn brace_value(value: &Value, text: &str) -> Result<Text> {
    let spec = brace_spec(text)?;
    let is_number = value.number().is_some() && (!matches!(value, Value::Bool(_)) || spec.kind.is_some());
    if !text.is_empty() && !is_number && !matches!(value, Value::Str(_) | Value::Bool(_)) {
        return Err(Error::value(format!("a {} has no format `{text}`", value.type_name())));
    }
    let shown = match is_number && !text.is_empty() {
        true => Text::plain(&number(value, &spec)?)?,
        false if matches!(spec.kind, None | Some('s')) => cut(&value.to_text()?, spec.precision)?,
        false => return Err(Error::value(format!("a {} has no format `{text}`", value.type_name()))),
    };
    let align = spec.align.unwrap_or(if is_number { '>' } else { '<' });
    laid_out(&shown, spec.width, align, spec.fill.unwrap_or(' '))
}

fn brace_spec(text: &str) -> Result<Spec> {
    let mut spec = Spec::default();
    let mut rest = text;
    let mut chars = rest.chars();
    let (first, second) = (chars.next(), chars.next());
    let is_align = |c: Option<char>| c.is_some_and(|c| "<>^=".contains(c));
    if is_align(second) {
        (spec.fill, spec.align) = (first, second);
        rest = chars.as_str();
    } else if is_align(first) {
        spec.align = first;
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut skip = |set: &str| -> Option<char> {
        let c = rest.chars().next().filter(|c| set.contains(*c))?;
        rest = rest.get(1..).unwrap_or_default();
        Some(c)
    };
    spec.sign = skip("+- ");
    spec.alternate = skip("#").is_some();
    if skip("0").is_some() && spec.align.is_none() {
        (spec.fill, spec.align) = (Some('0'), Some('='));
    }
    spec.width = digits(&mut rest)?.unwrap_or(0);
    let mut chars = rest.chars();
    if let Some(mark @ (',' | '_')) = chars.next() {
        spec.grouping = Some(mark);
        rest = chars.as_str();
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        spec.precision = digits(&mut rest)?;
    }
    let mut chars = rest.chars();
    spec.kind = chars.next();
    if chars.next().is_some() {
        return Err(Error::value(format!("`{text}` is no format")));
    }
    Ok(spec)
}
