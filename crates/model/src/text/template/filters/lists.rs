//! Filters of lists and dictionaries.

use super::super::call::Given;
use super::super::error::{At, Error, Result};
use super::super::meter::{Held, spend, spend_chars};
use super::super::methods;
use super::super::operate::{add, index};
use super::super::run::Run;
use super::super::sort::sorted;
use super::super::strings;
use super::super::text::Builder;
use super::super::value::{Value, compare, equal};
use super::super::{filters, tests};
use super::{is_true, words};
use std::cmp::Ordering;

/// `value | name(given)`.
pub(super) fn apply(run: &mut Run, name: &str, value: &Value, given: Given) -> Result<Value> {
    match name {
        "list" => {
            let [] = given.all(name, [])?;
            Value::list(value.iterate()?.items.clone())
        }
        "join" => {
            let [between, attribute] = given.some(name, ["d", "attribute"])?;
            let between = between.map_or_else(|| Value::str(""), Ok)?.to_text()?;
            let mut items = value.iterate()?.items.clone();
            spend(items.len() / 2)?;
            if let Some(attribute) = attribute.filter(|a| !matches!(a, Value::None)) {
                items = items.iter().map(|item| at(run, item, &attribute)).collect::<Result<_>>()?;
            }
            strings::join(words::texts(&items), &between).map(Value::Str)
        }
        "first" | "last" => {
            let [] = given.all(name, [])?;
            if name == "last" && matches!(value, Value::Generator(_)) {
                return Err(Error::value("a generator has no last element: make it a list"));
            }
            let items = value.iterate()?;
            let found = if name == "first" { items.items.first() } else { items.items.last() };
            Ok(found.cloned().unwrap_or_else(|| Value::undefined(format!("there is no {name} element: it is empty"))))
        }
        "reverse" => {
            let [] = given.all(name, [])?;
            if let Value::Str(text) = value {
                let mut out = Builder::new();
                spend(text.len())?;
                for (start, c) in text.as_str().char_indices().rev() {
                    out.push_part(text, start..start + c.len_utf8())?;
                }
                return Ok(Value::Str(out.finish()));
            }
            let mut items = value.iterate()?.items.clone();
            items.reverse();
            if matches!(value, Value::Generator(_)) { Value::list(items) } else { Value::generator(items) }
        }
        "map" => map(run, value, given),
        "select" | "reject" | "selectattr" | "rejectattr" => select(run, name, value, given),
        "sort" => {
            let [reverse, case, attribute] = given.some(name, ["reverse", "case_sensitive", "attribute"])?;
            let items = keyed(run, value, attribute.as_ref(), is_true(case.as_ref()), true)?;
            let items = sorted(items, is_true(reverse.as_ref()), compare)?;
            Value::list(items.into_iter().map(|(_, item)| item).collect())
        }
        "dictsort" => dictsort(value, given),
        "min" | "max" => {
            let [case, attribute] = given.some(name, ["case_sensitive", "attribute"])?;
            let mut items = keyed(run, value, attribute.as_ref(), is_true(case.as_ref()), false)?.into_iter();
            let Some(mut best) = items.next() else {
                return Ok(Value::undefined("there is no element: it is empty"));
            };
            let better = if name == "min" { Ordering::Less } else { Ordering::Greater };
            for item in items {
                if compare(&item.0, &best.0)? == Some(better) {
                    best = item;
                }
            }
            Ok(best.1)
        }
        "unique" => {
            let [case, attribute] = given.some(name, ["case_sensitive", "attribute"])?;
            let mut kept: Vec<(Value, Value)> = Vec::new();
            'items: for (key, item) in keyed(run, value, attribute.as_ref(), is_true(case.as_ref()), false)? {
                if matches!(key, Value::List(_) | Value::Dict(_)) {
                    return Err(Error::value(format!("`unique` can't tell a {} from another", key.type_name())));
                }
                for (other, _) in &kept {
                    if equal(&key, other)? {
                        continue 'items;
                    }
                }
                kept.push((key, item));
            }
            Value::generator(kept.into_iter().map(|(_, item)| item).collect())
        }
        "sum" => {
            let [attribute, start] = given.some(name, ["attribute", "start"])?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in &value.iterate()?.items {
                spend(1)?;
                let item = match &attribute {
                    None | Some(Value::None) => item.clone(),
                    Some(attribute) => at(run, item, attribute)?,
                };
                sum = add(&sum, &item)?;
            }
            Ok(sum)
        }
        "groupby" => group(run, value, given),
        "batch" => batch(value, given),
        _ => cut(value, given),
    }
}

/// What `attribute` names of `item`: names and numbers with dots between them.
fn at(run: &mut Run, item: &Value, attribute: &Value) -> Result<Value> {
    at_or(run, item, attribute, None)
}

/// `at` with what stands in for each part of the path that isn't there.
fn at_or(run: &mut Run, item: &Value, attribute: &Value, default: Option<&Value>) -> Result<Value> {
    spend(1)?;
    let default = default.filter(|default| !matches!(default, Value::None));
    let given = |found: Value| match (&found, default) {
        (Value::Undefined(..), Some(default)) => default.clone(),
        _ => found,
    };
    let Value::Str(path) = attribute else { return run.item(item, attribute).map(given) };
    spend_chars(path.len())?;
    let mut value = item.clone();
    for part in path.as_str().split('.') {
        spend(1)?;
        let key = match part.parse() {
            Ok(i) if part.chars().all(|c| c.is_ascii_digit()) => Value::Int(i),
            _ => Value::str(part)?,
        };
        value = given(run.item(&value, &key)?);
    }
    Ok(value)
}

/// The items of `value`, each behind what it is compared by; with `several` that is a list of attributes, which names
/// with commas between them say, and in which what is missing equals what is missing.
fn keyed(
    run: &mut Run,
    value: &Value,
    attribute: Option<&Value>,
    case: bool,
    several: bool,
) -> Result<Vec<(Value, Value)>> {
    let items = value.iterate()?;
    Held::new(items.items.len().saturating_mul(2 * size_of::<Value>()))?;
    let mut keyed = Vec::with_capacity(items.items.len());
    for item in &items.items {
        spend(2)?;
        let key = match attribute {
            None | Some(Value::None) => item.clone(),
            Some(Value::Str(names)) if several => {
                spend_chars(names.len())?;
                let names: Vec<Value> = names.as_str().split(',').map(Value::str).collect::<Result<_>>()?;
                let parts = names.iter().map(|name| at(run, item, name).and_then(|v| plain(v, case)));
                Value::list(parts.collect::<Result<_>>()?)?
            }
            Some(attribute) => at(run, item, attribute)?,
        };
        keyed.push((plain(key, case)?, item.clone()));
    }
    Ok(keyed)
}

/// A key, small if case makes no difference.
fn plain(key: Value, case: bool) -> Result<Value> {
    match &key {
        Value::Str(text) if !case => text.map(str::to_lowercase).map(Value::Str),
        _ => Ok(key),
    }
}

fn map(run: &mut Run, value: &Value, mut given: Given) -> Result<Value> {
    if !value.is_true() {
        return Value::generator(Vec::new());
    }
    let mut out = Vec::new();
    if given.positional.is_empty() && given.named.iter().any(|(name, _)| name == "attribute") {
        let [attribute, default] = given.some("map", ["attribute", "default"])?;
        let attribute = attribute.unwrap_or(Value::None);
        for item in &value.iterate()?.items {
            out.push(at_or(run, item, &attribute, default.as_ref())?);
        }
        return Value::generator(out);
    }
    if given.positional.is_empty() {
        return Err(Error::value("`map` needs a filter or an attribute"));
    }
    let filter = given.positional.remove(0).to_text()?;
    for item in &value.iterate()?.items {
        // The filter may be this one again.
        run.descend(At::default())?;
        out.push(filters::apply(run, filter.as_str(), item, given.copy()?)?);
        run.ascend();
    }
    Value::generator(out)
}

fn select(run: &mut Run, name: &str, value: &Value, mut given: Given) -> Result<Value> {
    if !value.is_true() {
        return Value::generator(Vec::new());
    }
    let wanted = name.starts_with("select");
    let attribute = match name.ends_with("attr") {
        true if given.positional.is_empty() => return Err(Error::value(format!("`{name}` needs an attribute"))),
        true => Some(given.positional.remove(0)),
        false => None,
    };
    let test = if given.positional.is_empty() { None } else { Some(given.positional.remove(0).to_text()?) };
    let mut out = Vec::new();
    for item in &value.iterate()?.items {
        spend(1)?;
        let tested = match &attribute {
            Some(attribute) => at(run, item, attribute)?,
            None => item.clone(),
        };
        let meets = match &test {
            Some(test) => tests::check(run, test.as_str(), &tested, given.copy()?)?,
            None => tested.is_true(),
        };
        if meets == wanted {
            out.push(item.clone());
        }
    }
    Value::generator(out)
}

fn dictsort(value: &Value, given: Given) -> Result<Value> {
    let [case, by, reverse] = given.some("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by = by.map_or_else(|| Value::str("key"), Ok)?.to_text()?;
    let place = match by.as_str() {
        "key" => 0,
        "value" => 1,
        _ => return Err(Error::value("`dictsort` sorts by key or by value")),
    };
    let Value::Dict(dict) = value else {
        value.defined()?;
        return Err(Error::value(format!("`dictsort` needs a dictionary, and not a {}", value.type_name())));
    };
    let mut items = Vec::new();
    for (pair, (key, entry)) in methods::pairs(dict)?.into_iter().zip(&dict.entries) {
        spend(1)?;
        let sorted_by = if place == 0 { key } else { entry };
        items.push((plain(sorted_by.clone(), is_true(case.as_ref()))?, pair));
    }
    let items = sorted(items, is_true(reverse.as_ref()), compare)?;
    Value::list(items.into_iter().map(|(_, pair)| pair).collect())
}

fn group(run: &mut Run, value: &Value, given: Given) -> Result<Value> {
    let [attribute, default, case] = given.some("groupby", ["attribute", "default", "case_sensitive"])?;
    let attribute = attribute.ok_or_else(|| Error::value("`groupby` needs an attribute"))?;
    let case = is_true(case.as_ref());
    let mut items = Vec::new();
    for item in &value.iterate()?.items {
        let key = at_or(run, item, &attribute, default.as_ref())?;
        items.push((plain(key.clone(), case)?, (key, item.clone())));
    }
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (sorted_by, (key, item)) in sorted(items, false, compare)? {
        match groups.last_mut() {
            Some((last, _, members)) if equal(last, &sorted_by)? => members.push(item),
            _ => groups.push((sorted_by, key, vec![item])),
        }
    }
    let mut out = Vec::new();
    for (_, key, members) in groups {
        let Value::List(pair) = Value::list(vec![key, Value::list(members)?])? else { continue };
        out.push(Value::View("_GroupTuple", pair));
    }
    Value::list(out)
}

fn batch(value: &Value, given: Given) -> Result<Value> {
    let [count, fill] = given.some("batch", ["linecount", "fill_with"])?;
    let count = index(&count.ok_or_else(|| Error::value("`batch` needs a count"))?)?;
    // A row ends when it is as long as that, which none is at -1, and the empty one is at 0.
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for item in &value.iterate()?.items {
        spend(1)?;
        match rows.last_mut() {
            Some(row) if row.len() != count => row.push(item.clone()),
            None if count == 0 => rows.extend([Vec::new(), vec![item.clone()]]),
            _ => rows.push(vec![item.clone()]),
        }
    }
    let count = if count == usize::MAX { 0 } else { count };
    if let (Some(row), Some(fill)) = (rows.last_mut(), fill.filter(|f| !matches!(f, Value::None))) {
        let missing = count.saturating_sub(row.len());
        Held::new(missing.saturating_mul(size_of::<Value>()))?;
        row.extend(std::iter::repeat_n(fill, missing));
    }
    Value::generator(rows.into_iter().map(Value::list).collect::<Result<_>>()?)
}

fn cut(value: &Value, given: Given) -> Result<Value> {
    let [slices, fill] = given.some("slice", ["slices", "fill_with"])?;
    let slices = index(&slices.ok_or_else(|| Error::value("`slice` needs a count"))?)?;
    let slices =
        usize::try_from(slices).ok().filter(|s| *s > 0).ok_or_else(|| Error::value("`slice` needs a count"))?;
    Held::new(slices.saturating_mul(2 * size_of::<Value>()))?;
    spend(slices)?;
    let items = value.iterate()?;
    let (each, longer) = (items.items.len() / slices, items.items.len() % slices);
    let mut rest = items.items.iter();
    let mut out = Vec::new();
    for i in 0..slices {
        let mut part: Vec<Value> = rest.by_ref().take(each + usize::from(i < longer)).cloned().collect();
        if let Some(fill) = fill.as_ref().filter(|f| !matches!(f, Value::None) && i >= longer) {
            part.push(fill.clone());
        }
        out.push(Value::list(part)?);
    }
    Value::generator(out)
}
