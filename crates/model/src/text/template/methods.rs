//! The methods that Python's strings, lists and dictionaries have, as far as they change nothing.

use super::call::Given;
use super::digits;
use super::error::{Error, Kind, Result};
use super::format;
use super::meter::{spend, spend_bytes, spend_chars, spend_search};
use super::operate::{index, slice};
use super::run::{Object, Run};
use super::strings::{self, Ends, is_space};
use super::text::{Text, replace};
use super::value::{Dict, Value, equal};
use std::rc::Rc;

pub(super) const OF_STRINGS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
pub(super) const OF_DICTS: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
pub(super) const OF_LISTS: [&str; 3] = ["copy", "count", "index"];
/// What is there, and can't be called here.
pub(super) const UNCALLED: [&str; 4] = ["encode", "fromkeys", "maketrans", "translate"];
/// What changes a value: jinja2's sandbox says that it isn't there.
const REFUSED_OF_DICTS: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];
const REFUSED_OF_LISTS: [&str; 8] = ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];

/// Method `name` of `of`, if its kind has it.
pub(super) fn find(of: &Value, name: &str) -> Option<Value> {
    let (has, refused): (&[&'static str], &[&'static str]) = match of {
        Value::Str(_) => (&OF_STRINGS, &[]),
        Value::Dict(_) => (&OF_DICTS, &REFUSED_OF_DICTS),
        Value::List(_) => (&OF_LISTS, &REFUSED_OF_LISTS),
        Value::Tuple(_) => (&["count", "index"], &[]),
        Value::Float(_) => (&["is_integer"], &[]),
        Value::Int(_) | Value::Bool(_) => (&["bit_length"], &[]),
        _ => return None,
    };
    if let Some(method) = has.iter().find(|method| **method == name) {
        return Some(Value::Method(Rc::new((of.clone(), method))));
    }
    let what =
        || format!("`{name}` of a {} isn't for templates: they change nothing that they are given", of.type_name());
    refused.contains(&name).then(|| Value::refused(what()))
}

/// Calls method `name` of `of`.
pub(super) fn call(run: &mut Run, of: &Value, name: &str, given: Given) -> Result<Value> {
    spend(3)?;
    if UNCALLED.contains(&name) {
        let what = format!("`{name}` of a {} isn't for chat templates", of.type_name());
        return Err(Error::new(Kind::Refused, what));
    }
    match of {
        Value::Str(text) => match name {
            "format" => format::braces(run, text, &given.positional, &given.named),
            "format_map" => {
                let [map] = given.all(name, ["mapping"])?;
                let Value::Dict(dict) = map else { return Err(Error::value("`format_map` needs a dictionary")) };
                spend(dict.entries.len().saturating_mul(4))?;
                let mut named = Vec::new();
                for (key, value) in &dict.entries {
                    named.push((key.to_text()?.as_str().to_string(), value.clone()));
                }
                format::braces(run, text, &[], &named)
            }
            name if name.starts_with("is") => {
                let [] = given.all(name, [])?;
                spend_chars(text.len())?;
                Ok(Value::Bool(is(text.as_str(), name)))
            }
            _ => of_string(text, name, given),
        },
        Value::Dict(dict) => of_dict(dict, name, given),
        Value::List(list) | Value::Tuple(list) => of_list(of, &list.items, name, given),
        Value::Loop(state) if name == "cycle" => {
            let count = given.positional.len();
            let at = state.index.get().checked_rem(count).ok_or_else(|| Error::value("`cycle` needs items"))?;
            given.positional.get(at).cloned().ok_or_else(|| Error::value("`cycle` needs items"))
        }
        Value::Loop(state) => {
            let now = Value::tuple(given.positional)?;
            let before = state.changed.borrow().clone();
            let is_same = before.map_or(Ok(false), |before| equal(&before, &now))?;
            *state.changed.borrow_mut() = Some(now);
            Ok(Value::Bool(!is_same))
        }
        Value::Object(i) => match (run.objects.get_mut(*i), name) {
            (Some(Object::Cycler(items, at)), "next") => {
                let value = items.items.get(*at).cloned().unwrap_or(Value::None);
                *at = (*at + 1) % items.items.len().max(1);
                Ok(value)
            }
            (Some(Object::Cycler(_, at)), _) => {
                *at = 0;
                Ok(Value::None)
            }
            _ => Err(Error::value(format!("`{name}` can't be called"))),
        },
        Value::Float(f) => Ok(Value::Bool(f.fract() == 0.0)),
        Value::Int(i) => Ok(Value::Int(i128::from(128 - i.unsigned_abs().leading_zeros()))),
        Value::Bool(b) => Ok(Value::Int(i128::from(*b))),
        _ => Err(Error::value(format!("`{name}` can't be called"))),
    }
}

/// A string argument.
fn string(method: &str, value: &Value) -> Result<Text> {
    value.defined()?;
    match value {
        Value::Str(text) => Ok(text.clone()),
        _ => Err(Error::value(format!("`{method}` needs a string, and not a {}", value.type_name()))),
    }
}

fn optional(method: &str, value: Option<&Value>) -> Result<Option<Text>> {
    match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => string(method, value).map(Some),
    }
}

/// How often at most, where less than 0 is without end.
fn most(value: Option<&Value>) -> Result<usize> {
    match value {
        None => Ok(usize::MAX),
        Some(value) => Ok(usize::try_from(index(value)?).unwrap_or(usize::MAX)),
    }
}

fn width(value: &Value) -> Result<usize> {
    Ok(usize::try_from(index(value)?.max(0)).unwrap_or(usize::MAX))
}

fn of_string(text: &Text, name: &str, given: Given) -> Result<Value> {
    if !given.named.is_empty() && !["split", "rsplit", "splitlines", "expandtabs"].contains(&name) {
        return Err(Error::value(format!("`{name}` of a str takes no named arguments")));
    }
    let changed = match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.some(name, ["chars"])?;
            let chars = optional(name, chars.as_ref())?;
            let ends = match name {
                "strip" => Ends::Both,
                "lstrip" => Ends::Left,
                _ => Ends::Right,
            };
            strings::strip(text, chars.as_ref().map(Text::as_str), ends)?
        }
        "split" | "rsplit" => {
            let [separator, times] = given.some(name, ["sep", "maxsplit"])?;
            let separator = optional(name, separator.as_ref())?;
            let (separator, times) = (separator.as_ref().map(Text::as_str), most(times.as_ref())?);
            let cut = if name == "split" { strings::split } else { strings::split_right };
            return Value::list(cut(text, separator, times)?);
        }
        "splitlines" => {
            let [keep] = given.some(name, ["keepends"])?;
            let lines = strings::lines(text, keep.is_some_and(|k| k.is_true()))?;
            return Value::list(lines.into_iter().map(Value::Str).collect());
        }
        "startswith" | "endswith" => return ends(text, name, given),
        "find" | "rfind" | "index" | "rindex" | "count" => return search(text, name, given),
        "partition" | "rpartition" => return partition(text, name, given),
        "replace" => {
            let [old, new, count] = given.some(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(Error::value("`replace` needs what to replace, and by what"));
            };
            replace(text, &string(name, &old)?, &string(name, &new)?, most(count.as_ref())?)?
        }
        "join" => {
            let [items] = given.all(name, ["iterable"])?;
            items.defined()?;
            strings::join(items.iterate()?.items.iter().map(|item| string(name, item)), text)?
        }
        "removeprefix" | "removesuffix" => {
            let [part] = given.all(name, ["prefix"])?;
            let part = string(name, &part)?;
            spend_bytes(part.len())?;
            let (s, part) = (text.as_str(), part.as_str());
            match name {
                "removeprefix" => text.slice(s.len() - s.strip_prefix(part).unwrap_or(s).len()..s.len())?,
                _ => text.slice(0..s.strip_suffix(part).unwrap_or(s).len())?,
            }
        }
        "center" | "ljust" | "rjust" | "zfill" => aligned(text, name, given)?,
        "expandtabs" => expand_tabs(text, given)?,
        _ => {
            let [] = given.all(name, [])?;
            match name {
                "upper" => text.map(str::to_uppercase)?,
                "lower" => text.map(str::to_lowercase)?,
                "casefold" => text.map(strings::case_folded)?,
                "capitalize" => strings::capitalize(text)?,
                "title" => strings::title(text, strings::title_case, |c| !strings::is_cased(c))?,
                "swapcase" => text.map(strings::swap_case)?,
                _ => return Err(Error::value(format!("a string has no method `{name}`"))),
            }
        }
    };
    Ok(Value::Str(changed))
}

/// The part of `text` that `start` and `end` leave.
fn part(text: &Text, start: Option<&Value>, end: Option<&Value>) -> Result<Text> {
    slice(&Value::Str(text.clone()), start, end, None)?.to_text()
}

/// Whether the part begins behind its end or the text's: not even the empty string is there.
fn is_nowhere(text: &Text, start: Option<&Value>, end: Option<&Value>) -> bool {
    let len = i128::try_from(text.num_chars()).unwrap_or(i128::MAX);
    let place = |i: i128| if i < 0 { i.saturating_add(len).max(0) } else { i };
    let start = start.and_then(Value::int).map_or(0, place);
    start > end.and_then(Value::int).map_or(len, place).min(len)
}

fn ends(text: &Text, name: &str, given: Given) -> Result<Value> {
    let [what, start, end] = given.some(name, ["prefix", "start", "end"])?;
    let what = what.ok_or_else(|| Error::value(format!("`{name}` needs a string")))?;
    let is_beyond = is_nowhere(text, start.as_ref(), end.as_ref());
    let text = part(text, start.as_ref(), end.as_ref())?;
    let is = |what: &Value| -> Result<bool> {
        let what = string(name, what)?;
        spend_bytes(what.len())?;
        let (s, what) = (text.as_str(), what.as_str());
        Ok(!is_beyond && if name == "startswith" { s.starts_with(what) } else { s.ends_with(what) })
    };
    if let Value::Tuple(all) = &what {
        for one in &all.items {
            if is(one)? {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    Ok(Value::Bool(is(&what)?))
}

fn search(text: &Text, name: &str, given: Given) -> Result<Value> {
    let [what, start, end] = given.some(name, ["sub", "start", "end"])?;
    let what = string(name, &what.ok_or_else(|| Error::value(format!("`{name}` needs a string")))?)?;
    let within = part(text, start.as_ref(), end.as_ref())?;
    spend_search(within.len().saturating_add(what.len()))?;
    let (s, what) = (within.as_str(), what.as_str());
    let nowhere = what.is_empty() && is_nowhere(text, start.as_ref(), end.as_ref());
    let count = |n: usize| Value::Int(i128::try_from(n).unwrap_or(i128::MAX));
    if name == "count" {
        let found = if nowhere { 0 } else { s.matches(what).count() };
        spend(found)?;
        return Ok(count(found));
    }
    let found = if name.starts_with('r') { s.rfind(what) } else { s.find(what) };
    let found = found.filter(|_| !nowhere);
    match found {
        Some(byte) => {
            let len = i128::try_from(text.num_chars()).unwrap_or(i128::MAX);
            let start = start.as_ref().and_then(Value::int).unwrap_or(0);
            let before = if start < 0 { (start + len).max(0) } else { start };
            let Value::Int(at) = count(within.char_of(byte)) else { return Ok(Value::None) };
            Ok(Value::Int(before + at))
        }
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Err(Error::value("the substring isn't there")),
    }
}

fn partition(text: &Text, name: &str, given: Given) -> Result<Value> {
    let [separator] = given.all(name, ["sep"])?;
    let separator = string(name, &separator)?;
    if separator.len() == 0 {
        return Err(Error::value("an empty separator"));
    }
    spend_search(text.len().saturating_add(separator.len()))?;
    let s = text.as_str();
    let is_right = name == "rpartition";
    let found = if is_right { s.rfind(separator.as_str()) } else { s.find(separator.as_str()) };
    let (first, second) = match found {
        Some(at) => (at, at + separator.len()),
        None if is_right => (0, 0),
        None => (s.len(), s.len()),
    };
    let parts = [0..first, first..second, second..s.len()];
    Value::tuple(parts.into_iter().map(|range| text.slice(range).map(Value::Str)).collect::<Result<_>>()?)
}

fn aligned(text: &Text, name: &str, given: Given) -> Result<Text> {
    let [wide, fill] = given.some(name, ["width", "fillchar"])?;
    let wide = width(&wide.ok_or_else(|| Error::value(format!("`{name}` needs a width")))?)?;
    let fill = optional(name, fill.as_ref())?;
    let fill = fill.as_ref().map_or(" ", Text::as_str);
    spend_bytes(fill.len())?;
    if fill.chars().count() != 1 {
        return Err(Error::value("the fill must be one character"));
    }
    let len = text.num_chars();
    let room = wide.saturating_sub(len);
    match name {
        "ljust" => strings::padded(text, 0, room, fill),
        "rjust" => strings::padded(text, room, 0, fill),
        "zfill" => {
            let signed = usize::from(text.as_str().starts_with(['+', '-']));
            let rest = strings::padded(&text.slice(signed..text.len())?, room, 0, "0")?;
            strings::join([text.slice(0..signed), Ok(rest)].into_iter(), &Text::plain("")?)
        }
        _ => {
            let left = room / 2 + (room & wide & 1);
            strings::padded(text, left, room - left, fill)
        }
    }
}

fn expand_tabs(text: &Text, given: Given) -> Result<Text> {
    let [size] = given.some("expandtabs", ["tabsize"])?;
    let size = size.map_or(Ok(8), |size| width(&size))?;
    spend_chars(text.len())?;
    super::meter::Held::new(size.saturating_mul(text.as_str().matches('\t').count()))?;
    let mut column = 0;
    text.map(|part| {
        let mut out = String::new();
        for c in part.chars() {
            match c {
                '\t' => {
                    let room = size.saturating_sub(column % size.max(1));
                    out.extend(std::iter::repeat_n(' ', room));
                    column += room;
                }
                '\n' | '\r' => {
                    out.push(c);
                    column = 0;
                }
                c => {
                    out.push(c);
                    column += 1;
                }
            }
        }
        out
    })
}

fn is(s: &str, name: &str) -> bool {
    let all = |is: fn(char) -> bool| !s.is_empty() && s.chars().all(is);
    let cased = strings::is_cased;
    match name {
        "isalnum" => all(|c| digits::is_letter(c) || digits::is_numeric(c)),
        "isalpha" => all(digits::is_letter),
        "isascii" => s.is_ascii(),
        "isdecimal" => all(|c| digits::decimal(c).is_some()),
        "isdigit" => all(digits::is_digit),
        "isnumeric" => all(digits::is_numeric),
        "isidentifier" => {
            let mut chars = s.chars();
            chars.next().is_some_and(digits::starts_name) && chars.all(digits::is_in_name)
        }
        "islower" => strings::is_lower(s),
        "isupper" => strings::is_upper(s),
        "isprintable" => s.chars().all(super::value::is_printable),
        "isspace" => all(is_space),
        // `istitle`: capitals only after what has no case, small letters only after what has.
        _ => {
            let mut after_cased = false;
            s.chars().any(cased)
                && s.chars().all(|c| {
                    let fits = !cased(c) || c.is_lowercase() == after_cased;
                    after_cased = cased(c);
                    fits
                })
        }
    }
}

fn of_dict(dict: &Rc<Dict>, name: &str, given: Given) -> Result<Value> {
    let list = |items: Vec<Value>| match Value::list(items)? {
        Value::List(list) => Ok(list),
        _ => Err(Error::value("no list")),
    };
    match name {
        "get" => {
            if !given.named.is_empty() {
                return Err(Error::value("`get` takes no named arguments"));
            }
            let [key, default] = given.some(name, ["key", "default"])?;
            let key = key.ok_or_else(|| Error::value("`get` needs a key"))?;
            Ok(dict.get(&key)?.cloned().or(default).unwrap_or(Value::None))
        }
        "copy" => Ok(Value::Dict(dict.clone())),
        "keys" => {
            let [] = given.all(name, [])?;
            Ok(Value::View("dict_keys", list(dict.entries.iter().map(|(key, _)| key.clone()).collect())?))
        }
        "values" => {
            let [] = given.all(name, [])?;
            Ok(Value::View("dict_values", list(dict.entries.iter().map(|(_, value)| value.clone()).collect())?))
        }
        _ => {
            let [] = given.all(name, [])?;
            Ok(Value::View("dict_items", list(pairs(dict)?)?))
        }
    }
}

/// The entries of a dictionary as pairs.
pub(super) fn pairs(dict: &Dict) -> Result<Vec<Value>> {
    dict.entries.iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect()
}

fn of_list(of: &Value, items: &[Value], name: &str, given: Given) -> Result<Value> {
    if name == "copy" {
        return Ok(of.clone());
    }
    let [wanted] = given.all(name, ["value"])?;
    spend(1)?;
    let mut count = 0;
    for (i, item) in items.iter().enumerate() {
        if equal(item, &wanted)? {
            if name == "index" {
                return Ok(Value::Int(i128::try_from(i).unwrap_or(i128::MAX)));
            }
            count += 1;
        }
    }
    if name == "count" { Ok(Value::Int(count)) } else { Err(Error::value("the value isn't in the list")) }
}
