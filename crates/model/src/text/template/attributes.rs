//! `x.name` and `x[key]`, and what a template may not reach.

use super::error::{Error, Result};
use super::meter::spend;
use super::methods;
use super::operate::index;
use super::run::{Object, Run};
use super::value::{LoopState, Value};
use std::rc::Rc;

impl Run {
    /// `of.name`: a method first, then an entry.
    pub(super) fn attribute(&mut self, of: &Value, name: &str) -> Result<Value> {
        of.defined()?;
        if let Some(value) = self.own(of, name)? {
            return Ok(value);
        }
        if let Value::Dict(dict) = of
            && let Some(value) = dict.get_str(name)
        {
            return Ok(value.clone());
        }
        Ok(missing(of, name))
    }

    /// `of[key]`: an entry first, then a method.
    pub(super) fn item(&mut self, of: &Value, key: &Value) -> Result<Value> {
        of.defined()?;
        let found = match (of, key) {
            (Value::Dict(dict), Value::List(_) | Value::Dict(_)) => {
                let _ = dict;
                None
            }
            (Value::Dict(dict), key) => dict.get(key)?.cloned(),
            (
                Value::List(list) | Value::Tuple(list) | Value::View("_GroupTuple", list),
                Value::Int(_) | Value::Bool(_),
            ) => place(key, list.items.len())?.and_then(|i| list.items.get(i).cloned()),
            (Value::Str(text), Value::Int(_) | Value::Bool(_)) => match place(key, text.num_chars())? {
                Some(i) => Some(Value::Str(text.slice(text.byte_of(i)..text.byte_of(i + 1))?)),
                None => None,
            },
            (Value::Range(start, _, step), Value::Int(_) | Value::Bool(_)) => {
                let i =
                    place(key, of.range_len())?.filter(|i| *i < of.range_len()).and_then(|i| i128::try_from(i).ok());
                i.map(|i| Value::Int(i128::from(*start) + i128::from(*step) * i))
            }
            _ => None,
        };
        if let Some(value) = found {
            return Ok(value);
        }
        match key {
            Value::Str(name) => match self.own(of, name.as_str())? {
                Some(value) => Ok(value),
                None => Ok(missing(of, name.as_str())),
            },
            _ => Ok(Value::undefined(format!("a {} has no such element", of.type_name()))),
        }
    }

    /// What every value of this kind has.
    fn own(&mut self, of: &Value, name: &str) -> Result<Option<Value>> {
        spend(3 + name.len() / 64)?;
        if name.starts_with("__") && name.ends_with("__") {
            let has = matches!(of, Value::Dict(dict) if dict.get_str(name).is_some());
            let what = format!("`{name}` is an inside of Python, which no chat template needs");
            return Ok((!has).then(|| Value::refused(what)));
        }
        Ok(match of {
            Value::Loop(state) => return self.loop_attribute(state, name),
            Value::Object(i) => return self.object_attribute(*i, name),
            Value::Macro(called) if called.code.is_block => None,
            Value::Macro(called) => match name {
                "name" if called.code.name.is_empty() => Some(Value::None),
                "name" => Some(Value::str(&called.code.name)?),
                "arguments" => {
                    let names = called.code.parameters.iter().map(|(name, _)| Value::str(name));
                    Some(Value::tuple(names.collect::<Result<_>>()?)?)
                }
                "catch_kwargs" => Some(Value::Bool(called.code.takes_named)),
                "catch_varargs" => Some(Value::Bool(called.code.takes_rest)),
                "caller" => Some(Value::Bool(called.code.takes_caller)),
                _ => None,
            },
            Value::View("_GroupTuple", list) => match name {
                "grouper" => list.items.first().cloned(),
                "list" => list.items.get(1).cloned(),
                _ => None,
            },
            _ => methods::find(of, name),
        })
    }

    fn loop_attribute(&mut self, state: &Rc<LoopState>, name: &str) -> Result<Option<Value>> {
        let at = state.index.get();
        let number = |n: usize| Ok(Some(Value::Int(i128::try_from(n).unwrap_or(i128::MAX))));
        match name {
            "index" => number(at + 1),
            "index0" => number(at),
            "length" => number(self.loop_len(state)?),
            "revindex" => number(self.loop_len(state)?.saturating_sub(at)),
            "revindex0" => number(self.loop_len(state)?.saturating_sub(at + 1)),
            "first" => Ok(Some(Value::Bool(at == 0))),
            "last" => Ok(Some(Value::Bool(self.loop_item(state, at + 1)?.is_none()))),
            "depth" => number(state.depth + 1),
            "depth0" => number(state.depth),
            "previtem" => match at.checked_sub(1) {
                Some(before) => self.loop_item(state, before),
                None => Ok(Some(Value::undefined("there is no item before the first"))),
            },
            "nextitem" => {
                let next = self.loop_item(state, at + 1)?;
                Ok(Some(next.unwrap_or_else(|| Value::undefined("there is no item after the last"))))
            }
            "cycle" => Ok(Some(Value::Method(Rc::new((Value::Loop(state.clone()), "cycle"))))),
            "changed" => Ok(Some(Value::Method(Rc::new((Value::Loop(state.clone()), "changed"))))),
            _ => Ok(None),
        }
    }

    fn object_attribute(&mut self, number: usize, name: &str) -> Result<Option<Value>> {
        let method = |name| Ok(Some(Value::Method(Rc::new((Value::Object(number), name)))));
        match (self.objects.get(number), name) {
            (Some(Object::Itself), _) => self.block(name),
            (Some(Object::Namespace(attributes)), _) => Ok(attributes.get_str(name).cloned()),
            (Some(Object::Cycler(items, at)), "current") => Ok(items.items.get(*at).cloned()),
            (Some(Object::Cycler(items, _)), "items") => Ok(Some(Value::Tuple(items.clone()))),
            (Some(Object::Cycler(_, at)), "pos") => Ok(Some(Value::Int(i128::try_from(*at).unwrap_or(0)))),
            (Some(Object::Cycler(..)), "next") => method("next"),
            (Some(Object::Cycler(..)), "reset") => method("reset"),
            (Some(Object::Joiner(_, used)), "used") => Ok(Some(Value::Bool(*used))),
            _ => Ok(None),
        }
    }
}

/// The place of an index that may count from the end.
fn place(key: &Value, len: usize) -> Result<Option<usize>> {
    let Ok(i) = index(key) else {
        // Far beyond any end.
        return if key.int().is_some() { Ok(None) } else { Err(Error::value("an index must be a whole number")) };
    };
    Ok(match usize::try_from(i.unsigned_abs()) {
        Ok(i_from_end) if i < 0 => len.checked_sub(i_from_end),
        Ok(i) => Some(i),
        Err(_) => None,
    })
}

fn missing(of: &Value, name: &str) -> Value {
    let short: String = name.chars().take(60).collect();
    Value::undefined(format!("a {} has no attribute `{short}`", of.type_name()))
}
