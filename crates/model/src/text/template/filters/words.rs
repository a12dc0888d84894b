//! Filters of strings.

use super::super::call::Given;
use super::super::digits;
use super::super::error::{Error, Kind, Result};
use super::super::meter::{spend, spend_chars};
use super::super::operate::index;
use super::super::strings::{self, Ends, capitalize, escaped, lines, padded, strip, title};
use super::super::tests;
use super::super::text::{Builder, Text, replace};
use super::super::value::Value;
use super::is_true;

/// How much longer than asked a text may be before it is cut.
const LEEWAY: i64 = 5;

/// `value | name(given)`.
pub(super) fn apply(name: &str, value: &Value, given: Given) -> Result<Value> {
    if matches!(name, "indent" | "truncate") && !matches!(value, Value::Str(_)) {
        if name == "truncate" && matches!(value, Value::Undefined(..)) {
            return Ok(value.clone());
        }
        value.defined()?;
        return Err(Error::value(format!("`{name}` needs a string, and not a {}", value.type_name())));
    }
    if name == "urlencode" && !matches!(value, Value::Str(_)) && tests::is_iterable(value) {
        return Err(Error::new(Kind::Refused, format!("`urlencode` of a {}: of text alone", value.type_name())));
    }
    let text = value.to_text()?;
    let changed = match name {
        "trim" => {
            let [chars] = given.some(name, ["chars"])?;
            let chars = match chars {
                None | Some(Value::None) => None,
                Some(chars) => Some(chars.to_text()?),
            };
            strip(&text, chars.as_ref().map(Text::as_str), Ends::Both)?
        }
        "replace" => {
            let [old, new, count] = given.some(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Error::value("`replace` needs what to replace, and by what"));
            };
            let most = match count {
                None | Some(Value::None) => usize::MAX,
                Some(count) => usize::try_from(index(&count)?).unwrap_or(usize::MAX),
            };
            replace(&text, &old.to_text()?, &new.to_text()?, most)?
        }
        "center" => {
            let [width] = given.some(name, ["width"])?;
            let width = usize::try_from(width.map_or(Ok(80), |w| index(&w))?.max(0)).unwrap_or(usize::MAX);
            let room = width.saturating_sub(text.num_chars());
            let left = room / 2 + (room & width & 1);
            padded(&text, left, room - left, " ")?
        }
        "indent" => indent(&text, given)?,
        "truncate" => truncate(&text, given)?,
        _ => {
            let [] = given.all(name, [])?;
            match name {
                "capitalize" => capitalize(&text)?,
                "lower" => text.map(str::to_lowercase)?,
                "upper" => text.map(str::to_uppercase)?,
                "title" => title(
                    &text,
                    |c, out| out.extend(c.to_uppercase()),
                    |c| strings::is_space(c) || "-({[<".contains(c),
                )?,
                "urlencode" => text.map(url)?,
                "wordcount" => {
                    spend_chars(text.len())?;
                    let is_word = |c: char| digits::is_letter(c) || digits::is_numeric(c) || c == '_';
                    let words = text.as_str().split(|c| !is_word(c)).filter(|word| !word.is_empty()).count();
                    return Ok(Value::Int(i128::try_from(words).unwrap_or(i128::MAX)));
                }
                _ => text.map(escaped)?,
            }
        }
    };
    Ok(Value::Str(changed))
}

fn indent(text: &Text, given: Given) -> Result<Text> {
    let [width, first, blank] = given.some("indent", ["width", "first", "blank"])?;
    let indent = match width {
        None => Text::plain("    ")?,
        Some(Value::Str(text)) => text,
        Some(width) => {
            let mut out = Builder::new();
            out.repeat(" ", usize::try_from(index(&width)?.max(0)).unwrap_or(usize::MAX))?;
            out.finish()
        }
    };
    let blank = is_true(blank.as_ref());
    let mut out = Builder::new();
    if is_true(first.as_ref()) {
        out.push(&indent)?;
    }
    // jinja2 ends the text with a line's end before it takes the lines.
    let mut all = Builder::new();
    all.push(text)?;
    all.push_str("\n", false)?;
    for (i, line) in lines(&all.finish(), false)?.iter().enumerate() {
        if i > 0 {
            out.push_str("\n", false)?;
            if blank || line.len() > 0 {
                out.push(&indent)?;
            }
        }
        out.push(line)?;
    }
    Ok(out.finish())
}

fn truncate(text: &Text, given: Given) -> Result<Text> {
    let [length, kill, end, leeway] = given.some("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = length.map_or(Ok(255), |l| index(&l))?;
    let end = end.map_or_else(|| Value::str("..."), Ok)?.to_text()?;
    let leeway = match leeway {
        None | Some(Value::None) => LEEWAY,
        Some(leeway) => index(&leeway)?,
    };
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    if length < count(end.num_chars()) || leeway < 0 {
        return Err(Error::value("`truncate` needs a length of at least that of its end, and a leeway of at least 0"));
    }
    if count(text.num_chars()) <= length.saturating_add(leeway) {
        return Ok(text.clone());
    }
    let kept = usize::try_from(length - count(end.num_chars())).unwrap_or(0);
    let mut kept = text.slice(0..text.byte_of(kept))?;
    if !is_true(kill.as_ref())
        && let Some(at) = kept.as_str().rfind(' ')
    {
        kept = kept.slice(0..at)?;
    }
    let mut out = Builder::new();
    out.push(&kept)?;
    out.push(&end)?;
    Ok(out.finish())
}

/// `part` as a piece of an address.
fn url(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' | b'/' => out.push(char::from(byte)),
            byte => {
                let digit = |half: u8| char::from_digit(half.into(), 16).map(|c| c.to_ascii_uppercase());
                out.push('%');
                out.extend(digit(byte >> 4).into_iter().chain(digit(byte & 15)));
            }
        }
    }
    out
}

/// Strings of a list, counted.
pub(super) fn texts(items: &[Value]) -> impl Iterator<Item = Result<Text>> {
    items.iter().map(|item| {
        spend(1)?;
        item.to_text()
    })
}
