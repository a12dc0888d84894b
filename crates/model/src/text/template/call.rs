//! Calls: arguments, and the functions that every chat template finds.

use super::error::{Error, Kind, Result};
use super::meter::{Held, spend};
use super::run::{Object, Run};
use super::value::{Dict, Value};
use super::{methods, operate};
use std::rc::Rc;

/// Names of functions.
pub(super) const FUNCTIONS: [&str; 8] =
    ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now", "lipsum"];
/// Most elements of a range, as in jinja2's sandbox.
const LONGEST_RANGE: usize = 100_000;

/// What a call was given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub positional: Vec<Value>,
    pub named: Vec<(String, Value)>,
    held: Held,
}

impl Given {
    pub(super) fn name(&mut self, name: &str, value: Value) -> Result<()> {
        spend(1 + self.named.len() / 8 + name.len() / 64)?;
        if self.named.iter().any(|(n, _)| n == name) {
            return Err(Error::value(format!("argument `{name}` is given twice")));
        }
        self.named.push((name.into(), value));
        Ok(())
    }

    /// The same once more.
    pub(super) fn copy(&self) -> Result<Given> {
        let mut copy = Given::default();
        copy.reserve(self.positional.len() + self.named.len())?;
        spend(self.named.iter().map(|(name, _)| 1 + name.len() / 64).sum())?;
        copy.positional.clone_from(&self.positional);
        copy.named.clone_from(&self.named);
        Ok(copy)
    }

    /// Asks for the memory of `count` arguments more.
    pub(super) fn reserve(&mut self, count: usize) -> Result<()> {
        spend(count)?;
        self.held.grow(count.saturating_mul(size_of::<Value>()))
    }

    /// The arguments in order of `names`, as far as they were given.
    pub(super) fn some<const N: usize>(self, what: &str, names: [&str; N]) -> Result<[Option<Value>; N]> {
        let count = self.positional.len();
        if count > N {
            return Err(Error::value(format!("`{what}` takes at most {N} arguments, and not {count}")));
        }
        let mut positional = self.positional.into_iter();
        let mut values: [Option<Value>; N] = std::array::from_fn(|_| positional.next());
        for (name, value) in self.named {
            let slot = names.iter().position(|n| *n == name).and_then(|i| values.get_mut(i));
            match slot {
                Some(slot) if slot.is_none() => *slot = Some(value),
                Some(_) => return Err(Error::value(format!("`{what}`: argument `{name}` is given twice"))),
                None => return Err(Error::value(format!("`{what}` has no argument `{name}`"))),
            }
        }
        Ok(values)
    }

    /// The arguments, all of which are needed.
    pub(super) fn all<const N: usize>(self, what: &str, names: [&str; N]) -> Result<[Value; N]> {
        let values = self.some(what, names)?;
        if let Some((_, name)) = values.iter().zip(names).find(|(value, _)| value.is_none()) {
            return Err(Error::value(format!("`{what}` needs an argument `{name}`")));
        }
        Ok(values.map(|value| value.unwrap_or(Value::None)))
    }
}

impl Run {
    /// Calls a value.
    pub(super) fn call(&mut self, callee: &Value, given: Given) -> Result<Value> {
        match callee {
            Value::Macro(called) => self.call_macro(called, given),
            Value::Function(name) => self.function(name, given),
            Value::Method(method) => methods::call(self, &method.0, method.1, given),
            Value::Loop(state) => self.loop_again(state, given),
            Value::Object(i) => match self.objects.get_mut(*i) {
                Some(Object::Joiner(separator, used)) => {
                    given.all("joiner", [])?;
                    let is_first = !std::mem::replace(used, true);
                    if is_first { Value::str("") } else { Ok(Value::Str(separator.clone())) }
                }
                _ => Err(Error::value("this object can't be called")),
            },
            other => {
                other.defined()?;
                Err(Error::value(format!("a {} can't be called", other.type_name())))
            }
        }
    }

    fn function(&mut self, name: &str, given: Given) -> Result<Value> {
        match name {
            "range" => range(given),
            "dict" => Ok(Value::Dict(Rc::new(dict(given)?))),
            "namespace" => {
                let attributes = dict(given)?;
                for (key, _) in &attributes.entries {
                    if matches!(key, Value::Str(name) if name.as_str().starts_with('_')) {
                        return Err(Error::new(Kind::Refused, "a namespace has no names that start with `_`"));
                    }
                }
                self.object(Object::Namespace(attributes))
            }
            "cycler" => {
                if given.positional.is_empty() || !given.named.is_empty() {
                    return Err(Error::value("`cycler` needs items"));
                }
                let Value::List(items) = Value::list(given.positional)? else { return Ok(Value::None) };
                self.object(Object::Cycler(items, 0))
            }
            "joiner" => {
                let [separator] = given.some("joiner", ["sep"])?;
                let separator = separator.map_or_else(|| Value::str(", "), Ok)?.to_text()?;
                self.object(Object::Joiner(separator, false))
            }
            "lipsum" => Err(Error::new(Kind::Refused, "`lipsum` makes text by chance, which no chat template needs")),
            "raise_exception" => {
                let [message] = given.all("raise_exception", ["message"])?;
                Err(Error::new(Kind::Raised, message.to_text()?.as_str()))
            }
            _ => {
                let [format] = given.all("strftime_now", ["format"])?;
                let Value::Str(format) = &format else {
                    return Err(Error::value("`strftime_now` needs a format: a string"));
                };
                Value::str(&self.now.format(format.as_str())?)
            }
        }
    }
}

fn range(given: Given) -> Result<Value> {
    if !given.named.is_empty() {
        return Err(Error::value("`range` takes no named arguments"));
    }
    let [start, stop, step] = given.some("range", ["start", "stop", "step"])?;
    let int = |value: Option<Value>, otherwise: i64| match value {
        Some(value) => operate::index(&value),
        None => Ok(otherwise),
    };
    let (start, stop, step) = match (start, stop, step) {
        (None, ..) => return Err(Error::value("`range` needs a number")),
        (stop, None, _) => (0, int(stop, 0)?, 1),
        (start, stop, step) => (int(start, 0)?, int(stop, 0)?, int(step, 1)?),
    };
    if step == 0 {
        return Err(Error::value("the step of a `range` can't be 0"));
    }
    let range = Value::Range(start, stop, step);
    if range.range_len() > LONGEST_RANGE {
        return Err(Error::new(Kind::Limit, format!("a `range` of more than {LONGEST_RANGE} elements")));
    }
    Ok(range)
}

/// What `dict(...)` makes: of a dictionary or of pairs, and of named arguments.
fn dict(given: Given) -> Result<Dict> {
    let mut dict = Dict::default();
    if given.positional.len() > 1 {
        return Err(Error::value("`dict` takes one argument without a name"));
    }
    match given.positional.first() {
        None => {}
        Some(Value::Dict(from)) => {
            for (key, value) in &from.entries {
                dict.insert(key.clone(), value.clone())?;
            }
        }
        Some(pairs) => {
            pairs.defined()?;
            for pair in &pairs.iterate()?.items {
                match pair.iterate()?.items.as_slice() {
                    [key, value] => dict.insert(key.clone(), value.clone())?,
                    _ => return Err(Error::value("`dict` needs pairs of a key and a value")),
                }
            }
        }
    }
    for (name, value) in given.named {
        dict.insert(Value::str(&name)?, value)?;
    }
    Ok(dict)
}
