//! JSON into values, and values into JSON as Python's `json.dumps` writes it.

use super::call::Given;
use super::error::{At, Error, Result};
use super::meter::spend;
use super::operate::index;
use super::text::{Builder, Text};
use super::value::{Dict, Value, compare, float, hex};
use std::rc::Rc;

/// A conversation's value; its strings are content, but for names of roles.
pub(super) fn value(json: &serde_json::Value, is_role: bool) -> Result<Value> {
    Ok(match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(b) => Value::Bool(*b),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(i), ..) => Value::Int(i.into()),
            (_, Some(u), _) => Value::Int(u.into()),
            (_, _, f) => Value::Float(f.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => {
            let is_name = is_role && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            Value::Str(if is_name { Text::plain(text)? } else { Text::content(text)? })
        }
        serde_json::Value::Array(items) => {
            Value::list(items.iter().map(|item| value(item, false)).collect::<Result<_>>()?)?
        }
        serde_json::Value::Object(entries) => {
            let mut dict = Dict::default();
            for (key, entry) in entries {
                dict.insert(Value::Str(Text::content(key)?), value(entry, key == "role")?)?;
            }
            Value::Dict(Rc::new(dict))
        }
    })
}

/// How JSON is laid out.
struct Layout {
    indent: Option<Text>,
    between: Text,
    after_key: Text,
    ascii: bool,
    sort: bool,
}

/// The filter `tojson`, with the arguments that Hugging Face gives it.
pub(super) fn tojson(of: &Value, given: Given) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort] = given.some("tojson", names)?;
    let is_true = |value: Option<Value>| value.is_some_and(|v| v.is_true());
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text),
        Some(value) => {
            let width = usize::try_from(index(&value)?.max(0)).unwrap_or(usize::MAX);
            let mut out = Builder::new();
            out.repeat(" ", width)?;
            Some(out.finish())
        }
    };
    let (between, after_key) = match separators {
        None | Some(Value::None) => (Text::plain(if indent.is_some() { "," } else { ", " })?, Text::plain(": ")?),
        Some(pair) => match pair.iterate()?.items.as_slice() {
            [Value::Str(between), Value::Str(after_key)] => (between.clone(), after_key.clone()),
            _ => return Err(Error::value("`separators` must be two strings")),
        },
    };
    let layout = Layout { indent, between, after_key, ascii: is_true(ascii), sort: is_true(sort) };
    let mut out = Builder::new();
    write(of, &layout, 0, &mut out)?;
    Ok(Value::Str(out.finish()))
}

fn line(layout: &Layout, depth: usize, out: &mut Builder) -> Result<()> {
    let Some(indent) = &layout.indent else { return Ok(()) };
    spend(depth / 8)?;
    out.push_str("\n", false)?;
    for _ in 0..depth {
        out.push(indent)?;
    }
    Ok(())
}

fn write(value: &Value, layout: &Layout, depth: usize, out: &mut Builder) -> Result<()> {
    spend(match value {
        Value::Float(_) => 8,
        Value::Int(_) => 3,
        _ => 1,
    })?;
    match value {
        Value::Str(text) => string(text, layout, out),
        Value::List(list) | Value::Tuple(list) | Value::View("_GroupTuple", list) => {
            if list.items.is_empty() {
                return out.push_str("[]", false);
            }
            out.push_str("[", false)?;
            for (i, item) in list.items.iter().enumerate() {
                if i > 0 {
                    out.push(&layout.between)?;
                }
                line(layout, depth + 1, out)?;
                write(item, layout, depth + 1, out)?;
            }
            line(layout, depth, out)?;
            out.push_str("]", false)
        }
        Value::Dict(dict) => object(dict, layout, depth, out),
        other => match scalar(other) {
            Some(text) => out.push_str(&text, false),
            None => {
                let what = match other {
                    Value::Undefined(_, message) => format!(": {message}"),
                    _ => String::new(),
                };
                Err(Error::value(format!("JSON has no {}{what}", other.type_name())))
            }
        },
    }
}

fn object(dict: &Dict, layout: &Layout, depth: usize, out: &mut Builder) -> Result<()> {
    if dict.entries.is_empty() {
        return out.push_str("{}", false);
    }
    spend(dict.entries.len() / 2)?;
    let mut entries: Vec<(Value, &Value)> = dict.entries.iter().map(|(key, value)| (key.clone(), value)).collect();
    if layout.sort {
        entries = super::sort::sorted(entries, false, compare)?;
    }
    out.push_str("{", false)?;
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(&layout.between)?;
        }
        line(layout, depth + 1, out)?;
        match (key, scalar(key)) {
            (Value::Str(text), _) => string(text, layout, out)?,
            (_, Some(text)) => string(&Text::plain(&text)?, layout, out)?,
            _ => return Err(Error::value(format!("a key in JSON can't be a {}", key.type_name()))),
        }
        out.push(&layout.after_key)?;
        write(value, layout, depth + 1, out)?;
    }
    line(layout, depth, out)?;
    out.push_str("}", false)
}

fn scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::None => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Float(f) if f.is_nan() => "NaN".into(),
        Value::Float(f) if f.is_infinite() => if *f > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Value::Float(f) => float(*f),
        _ => return None,
    })
}

fn string(text: &Text, layout: &Layout, out: &mut Builder) -> Result<()> {
    out.push_str("\"", false)?;
    out.push(&text.map(|part| escaped(part, layout.ascii))?)?;
    out.push_str("\"", false)
}

fn escaped(part: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || (ascii && !(' '..='~').contains(&c)) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    hex(&mut out, "\\u", u32::from(*unit), 4);
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The first whole number of a JSON text that a parser without longer numbers would make a float of, and where it is.
pub fn long_number(json: &str) -> Option<(At, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let (mut rest, mut at) = (json, At { line: 1, column: 1 });
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        let mut bytes = c.len_utf8();
        match c {
            '"' => in_string = !in_string,
            // What is escaped ends no string.
            '\\' if in_string => bytes += rest.get(1..).and_then(|r| r.chars().next()).map_or(0, char::len_utf8),
            '-' | '0'..='9' if !in_string => {
                bytes = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                let number = rest.get(..bytes).unwrap_or_default();
                let is_whole = !number.contains(['.', 'e', 'E']);
                if is_whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some((at, number));
                }
            }
            _ => {}
        }
        let (taken, after) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        if c == '\n' {
            at = At { line: at.line.saturating_add(1), column: 1 };
        } else {
            at.column = at.column.saturating_add(u32::try_from(taken.chars().count()).unwrap_or(u32::MAX));
        }
        rest = after;
    }
    None
}
