//! `"..." % values` and `"...".format(...)`.

use super::error::{Error, Kind, Result};
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
    is_negative: bool,
    /// Whether a 0 before the width said fill and alignment.
    is_zero: bool,
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
    // What C would call the size of it.
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
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
            spec.fill = None;
            cut(&converted(value, spec.kind)?, spec.precision)?
        }
        Some('c') => {
            spec.fill = None;
            match value {
                Value::Str(text) if text.num_chars() == 1 => text.clone(),
                other => character(other)?,
            }
        }
        Some('d' | 'i' | 'u') => {
            value.defined()?;
            let whole = match value {
                Value::Float(f) => Some(truncated(*f)?),
                other => other.int(),
            };
            let whole =
                whole.ok_or_else(|| Error::value(format!("`%d` needs a number, not a {}", value.type_name())))?;
            Text::plain(&integer(whole, 'd', &spec)?)?
        }
        Some('x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => {
            value.defined()?;
            Text::plain(&number(value, &spec)?)?
        }
        kind => return Err(Error::value(format!("`%{}` is no format", kind.unwrap_or(' ')))),
    };
    let align = spec.align.unwrap_or('>');
    let zero = spec.fill == Some('0') && align == '>';
    laid_out(&text, &spec, if zero { '=' } else { align }, if zero { '0' } else { ' ' })
}

/// The character that a whole number stands for.
fn character(value: &Value) -> Result<Text> {
    value.defined()?;
    let code = value.int().and_then(|i| u32::try_from(i).ok()).and_then(char::from_u32);
    let code = code.ok_or_else(|| Error::value(format!("this {} is no character", value.type_name())))?;
    Text::plain(code.encode_utf8(&mut [0; 4]))
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

/// A whole number by its kind, with its sign.
fn integer(whole: i128, kind: char, spec: &Spec) -> Result<String> {
    let size = whole.unsigned_abs();
    let (prefix, digits, group) = match kind {
        'x' => ("0x", format!("{size:x}"), 4),
        'X' => ("0X", format!("{size:X}"), 4),
        'o' => ("0o", format!("{size:o}"), 4),
        'b' => ("0b", format!("{size:b}"), 4),
        _ => ("", size.to_string(), 3),
    };
    let prefix = if spec.alternate { prefix } else { "" };
    let least = spec.precision.unwrap_or(0);
    if least > MOST_DIGITS {
        return Err(Error::value(format!("more than {MOST_DIGITS} digits")));
    }
    let digits = spec.grouped(&format!("{digits:0>least$}"), prefix.len(), group)?;
    Ok(signed(whole < 0, &format!("{prefix}{digits}"), spec.sign))
}

/// A number by its kind, with its sign.
fn number(value: &Value, spec: &Spec) -> Result<String> {
    spend(8)?;
    let kind = spec.kind.unwrap_or(if matches!(value, Value::Float(_)) { 'r' } else { 'd' });
    if let (Some(whole), 'd' | 'n' | 'x' | 'X' | 'o' | 'b') = (value.int(), kind) {
        return integer(whole, kind, spec);
    }
    let f = value.number().ok_or_else(|| Error::value(format!("a {} has no format `{kind}`", value.type_name())))?;
    spend_digits(f, spec.precision.unwrap_or(6).min(MOST_DIGITS))?;
    let places = spec.precision.unwrap_or(6);
    if places > MOST_DIGITS {
        return Err(Error::value(format!("more than {MOST_DIGITS} digits")));
    }
    let size = f.abs();
    let text = if f.is_nan() || f.is_infinite() {
        let name = if f.is_nan() { "nan" } else { "inf" };
        format!("{name}{}", if kind == '%' { "%" } else { "" })
    } else {
        let pointed = |text: String| if spec.alternate && !text.contains('.') { text + "." } else { text };
        match kind {
            'f' | 'F' => pointed(format!("{size:.places$}")),
            'e' | 'E' if spec.alternate && places == 0 => exponent(&format!("{size:.0e}").replace('e', ".e")),
            'e' | 'E' => exponent(&format!("{size:.places$e}")),
            'g' | 'G' | 'n' => general(size, places.max(1), spec.alternate, false),
            '%' => pointed(format!("{:.places$}", size * 100.0)) + "%",
            'r' if spec.precision.is_none() => float(size),
            'r' => general(size, places.max(1), spec.alternate, true),
            _ => return Err(Error::value(format!("a {} has no format `{kind}`", value.type_name()))),
        }
    };
    let whole = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, fraction) = text.split_at_checked(whole).unwrap_or((&text, ""));
    let text = if f.is_finite() { spec.grouped(whole, fraction.len(), 3)? + fraction } else { text };
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

/// The shorter of both notations, without zeros at the end unless `whole` keeps them; `shown` is that of a float whose
/// format has no letter, which has a point.
fn general(size: f64, digits: usize, whole: bool, shown: bool) -> String {
    let text = format!("{size:.*e}", digits - 1);
    let power: i64 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        _ if whole && !text.contains('.') => format!("{text}."),
        true if !whole => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        _ => text.to_string(),
    };
    let most = i64::try_from(digits).unwrap_or(i64::MAX);
    if power < -4 || power >= most - i64::from(shown) {
        let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
        return exponent(&format!("{}e{power}", trimmed(mantissa)));
    }
    let places = usize::try_from(most - 1 - power).unwrap_or(0);
    let text = trimmed(&format!("{size:.places$}"));
    if shown && !text.contains('.') { text + ".0" } else { text }
}

impl Spec {
    /// `digits` with marks between groups of `group`; where zeros fill up the width, these are grouped too. `beside`
    /// characters stand beside them, and a sign.
    fn grouped(&self, digits: &str, beside: usize, group: usize) -> Result<String> {
        let Some(mark) = self.grouping else { return Ok(digits.into()) };
        let mut count = digits.len();
        if self.fill == Some('0') && self.align == Some('=') {
            Held::new(self.width.saturating_mul(2))?;
            let sign = usize::from(self.is_negative || self.sign.is_some_and(|sign| sign != '-'));
            let width = self.width.saturating_sub(beside + sign);
            count = count.max(width - width / (group + 1));
            count += usize::from(count + (count - 1) / group < width);
        }
        spend(count / 8)?;
        let mut out = String::new();
        for (i, c) in std::iter::repeat_n('0', count - digits.len()).chain(digits.chars()).enumerate() {
            if i > 0 && (count - i).is_multiple_of(group) {
                out.push(mark);
            }
            out.push(c);
        }
        Ok(out)
    }
}

/// `text` laid out in `spec`'s width; `=` puts the fill behind the sign.
fn laid_out(text: &Text, spec: &Spec, align: char, fill: char) -> Result<Text> {
    let room = spec.width.saturating_sub(text.num_chars());
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
            let has_prefix = spec.alternate && matches!(spec.kind, Some('x' | 'X' | 'o' | 'b'));
            let head = sign + if has_prefix { 2 } else { 0 };
            let mut out = Builder::new();
            out.push_part(text, 0..head)?;
            out.repeat(&fill, room)?;
            out.push_part(text, head..text.len())?;
            Ok(out.finish())
        }
        _ => padded(text, room, 0, &fill),
    }
}

/// `str(x)`, `repr(x)` or `ascii(x)`.
fn converted(value: &Value, kind: Option<char>) -> Result<Text> {
    match kind {
        Some('r') => {
            let mut out = Builder::new();
            value.repr(&mut out)?;
            Ok(out.finish())
        }
        Some('a') => value.ascii(),
        _ => value.to_text(),
    }
}

/// What a format is given.
struct Values<'a> {
    positional: &'a [Value],
    named: &'a [(String, Value)],
    /// The next of those that say no number.
    next: usize,
    /// Whether one has said its number: then all must.
    is_numbered: bool,
}

/// `text.format(...)`.
pub(super) fn braces(run: &mut Run, text: &Text, positional: &[Value], named: &[(String, Value)]) -> Result<Value> {
    let mut values = Values { positional, named, next: 0, is_numbered: false };
    Ok(Value::Str(filled(run, text, &mut values, true)?))
}

/// `text` with its fields filled; those in a field's format may have none in theirs.
fn filled(run: &mut Run, text: &Text, values: &mut Values, is_outer: bool) -> Result<Text> {
    spend_chars(text.len())?;
    let s = text.as_str();
    let mut out = Builder::new();
    let mut at = 0;
    while let Some(found) = s.get(at..).and_then(|rest| rest.find(['{', '}'])) {
        spend(1)?;
        out.push_part(text, at..at + found)?;
        let rest = s.get(at + found..).unwrap_or_default();
        if rest.starts_with("{{") || rest.starts_with("}}") {
            out.push_part(text, at + found..at + found + 1)?;
            at += found + 2;
            continue;
        }
        let field = rest.strip_prefix('{').and_then(field);
        let field = field.ok_or_else(|| Error::value("a brace in a format has no partner"))?;
        at += found + field.len() + 2;
        // A colon or an exclamation mark in brackets is part of a key.
        let mut in_brackets = false;
        let end = field.find(|c: char| {
            in_brackets = if in_brackets { c != ']' } else { c == '[' };
            !in_brackets && ":!{".contains(c)
        });
        let (path, tail) = field.split_at_checked(end.unwrap_or(field.len())).unwrap_or((field, ""));
        let value = resolve(run, path, values)?;
        let (conversion, tail) = match tail.strip_prefix('!') {
            Some(tail) => tail.split_at_checked(tail.find(':').unwrap_or(tail.len())).unwrap_or((tail, "")),
            None => ("s", tail),
        };
        let value = match conversion {
            "s" if !field.contains('!') => value,
            "s" | "r" | "a" => Value::Str(converted(&value, conversion.chars().next())?),
            other => return Err(Error::value(format!("`!{other}` is no conversion"))),
        };
        let spec = match tail.strip_prefix(':') {
            Some(spec) if spec.contains(['{', '}']) && is_outer => {
                filled(run, &Text::plain(spec)?, values, false)?.as_str().to_string()
            }
            Some(spec) if !spec.contains(['{', '}']) => spec.to_string(),
            None if tail.is_empty() => String::new(),
            _ => return Err(Error::value("a format within a format's format")),
        };
        out.push(&brace_value(&value, &spec)?)?;
    }
    out.push_part(text, at..text.len())?;
    Ok(out.finish())
}

/// What stands up to the brace that closes the one before `text`.
fn field(text: &str) -> Option<&str> {
    let mut open = 0usize;
    let end = text.find(|c: char| {
        let ends = c == '}' && open == 0;
        match c {
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            _ => {}
        }
        ends
    });
    text.get(..end?)
}

/// The value that `path` of a format names: an argument, then attributes and items of it.
fn resolve(run: &mut Run, path: &str, values: &mut Values) -> Result<Value> {
    spend(1 + values.named.len() / 8 + path.len() / 8)?;
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, mut rest) = path.split_at_checked(end).unwrap_or((path, ""));
    let missing = || Error::value(format!("the format asks for `{first}`, which wasn't given"));
    if first.is_empty() && !rest.is_empty() {
        return Err(missing());
    }
    let number: Option<usize> = if first.is_empty() { Some(values.next) } else { first.parse().ok() };
    if first.is_empty() {
        values.next += 1;
    }
    values.is_numbered |= number.is_some() && !first.is_empty();
    if values.is_numbered && values.next > 0 {
        return Err(Error::value("some fields of a format say their number, and some don't"));
    }
    let named = || values.named.iter().find(|(name, _)| name == first).map(|(_, value)| value.clone());
    let mut value = match number {
        Some(i) => values.positional.get(i).cloned().ok_or_else(missing)?,
        None => named().ok_or_else(missing)?,
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
            let key = key.parse().map_or_else(|_| Value::str(key), |i: u32| Ok(Value::Int(i.into())))?;
            value = run.item(&value, &key)?;
            rest = after;
        }
        if matches!(value, Value::Undefined(Kind::Refused, _)) {
            value.defined()?;
        }
    }
    Ok(value)
}

fn brace_value(value: &Value, text: &str) -> Result<Text> {
    if text.is_empty() {
        return value.to_text();
    }
    let wrong = || Error::value(format!("a {} has no format `{text}`", value.type_name()));
    let mut spec = brace_spec(text)?;
    if let Value::Str(string) = value {
        let is_for_numbers = spec.sign.is_some() || spec.alternate || spec.grouping.is_some();
        let is_behind_sign = spec.align == Some('=') && !spec.is_zero;
        if is_for_numbers || is_behind_sign || !matches!(spec.kind, None | Some('s')) {
            return Err(wrong());
        }
        let align = spec.align.filter(|align| *align != '=').unwrap_or('<');
        return laid_out(&cut(string, spec.precision)?, &spec, align, spec.fill.unwrap_or(' '));
    }
    let number_value = value.number().ok_or_else(wrong)?;
    spec.is_negative = number_value.is_sign_negative() && !number_value.is_nan();
    let is_whole = value.int().is_some() && matches!(spec.kind, None | Some('d' | 'n' | 'x' | 'X' | 'o' | 'b' | 'c'));
    let is_misgrouped = match (spec.grouping, spec.kind) {
        (None, _) | (Some(_), None | Some('d' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => false,
        (Some(mark), kind) => mark == ',' || !matches!(kind, Some('x' | 'X' | 'o' | 'b')),
    };
    if is_misgrouped || (is_whole && spec.precision.is_some()) {
        return Err(wrong());
    }
    let align = spec.align.unwrap_or('>');
    let shown = match spec.kind {
        Some('c') if is_whole && spec.sign.is_none() && !spec.alternate => character(value)?,
        Some('c' | 's') => return Err(wrong()),
        _ => Text::plain(&number(value, &spec)?)?,
    };
    laid_out(&shown, &spec, align, spec.fill.unwrap_or(' '))
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
    if skip("0").is_some() {
        spec.fill = spec.fill.or(Some('0'));
        spec.is_zero = spec.align.is_none();
        spec.align = spec.align.or(Some('='));
    }
    spec.width = digits(&mut rest)?.unwrap_or(0);
    let mut chars = rest.chars();
    if let Some(mark @ (',' | '_')) = chars.next() {
        spec.grouping = Some(mark);
        rest = chars.as_str();
    }
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let places = digits(&mut rest)?;
        spec.precision = Some(places.ok_or_else(|| Error::value("a format's `.` needs a number behind it"))?);
    }
    let mut chars = rest.chars();
    spec.kind = chars.next();
    if chars.next().is_some() {
        return Err(Error::value(format!("`{text}` is no format")));
    }
    Ok(spec)
}
