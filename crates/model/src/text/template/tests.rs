//! The tests of jinja2: what may stand behind `is`.

use super::ast::Compare;
use super::call::Given;
use super::error::{Error, Kind, Result};
use super::eval::holds;
use super::filters;
use super::meter::{spend, spend_bytes, spend_chars};
use super::operate::binary;
use super::run::Run;
use super::strings;
use super::value::{Value, equal};
use std::rc::Rc;

pub(super) const NAMES: [&str; 38] = [
    "odd",
    "even",
    "divisibleby",
    "defined",
    "undefined",
    "filter",
    "test",
    "none",
    "boolean",
    "false",
    "true",
    "integer",
    "float",
    "lower",
    "upper",
    "string",
    "mapping",
    "number",
    "sequence",
    "iterable",
    "callable",
    "sameas",
    "escaped",
    "in",
    "eq",
    "equalto",
    "ne",
    "gt",
    "greaterthan",
    "ge",
    "lt",
    "lessthan",
    "le",
    "==",
    "!=",
    ">",
    "<",
    ">=",
];

/// Whether there is a test `name`.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || name == "<="
}

/// Whether `value is name(given)`.
pub(super) fn check(run: &mut Run, name: &str, value: &Value, given: Given) -> Result<bool> {
    spend(1)?;
    let comparison = match name {
        "eq" | "equalto" | "==" => Some(Compare::Eq),
        "ne" | "!=" => Some(Compare::Ne),
        "lt" | "lessthan" | "<" => Some(Compare::Lt),
        "le" | "<=" => Some(Compare::Le),
        "gt" | "greaterthan" | ">" => Some(Compare::Gt),
        "ge" | ">=" => Some(Compare::Ge),
        "in" => Some(Compare::In),
        _ => None,
    };
    if let Some(comparison) = comparison {
        let [other] = given.all(name, ["other"])?;
        return holds(comparison, value, &other);
    }
    let mut rest = |by: Value| binary(run, super::ast::Binary::Mod, value, &by);
    match name {
        "divisibleby" => {
            let [by] = given.all(name, ["num"])?;
            return equal(&rest(by)?, &Value::Int(0));
        }
        "sameas" => {
            let [other] = given.all(name, ["other"])?;
            return same(value, &other);
        }
        "odd" | "even" => {
            let [] = given.all(name, [])?;
            return equal(&rest(Value::Int(2))?, &Value::Int(i128::from(name == "odd")));
        }
        _ => {}
    }
    let [] = given.all(name, [])?;
    Ok(match name {
        "defined" => !matches!(value, Value::Undefined(..)),
        "undefined" => matches!(value, Value::Undefined(..)),
        "filter" => filters::is_known(value.to_text()?.as_str()),
        "test" => is_known(value.to_text()?.as_str()),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.number().is_some(),
        "lower" | "upper" => {
            let text = value.to_text()?;
            spend_chars(text.len().saturating_mul(2))?;
            if name == "lower" { strings::is_lower(text.as_str()) } else { strings::is_upper(text.as_str()) }
        }
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => matches!(
            value,
            Value::Str(_)
                | Value::List(_)
                | Value::Tuple(_)
                | Value::Dict(_)
                | Value::Range(..)
                | Value::View("_GroupTuple", _)
                | Value::Undefined(..)
        ),
        "iterable" => is_iterable(value),
        // Undefined has a `__call__`, which fails.
        "callable" => matches!(
            value,
            Value::Macro(_) | Value::Function(_) | Value::Method(_) | Value::Loop(_) | Value::Undefined(..)
        ),
        "escaped" => false,
        _ => return Err(Error::new(Kind::Syntax, format!("there is no test `{name}`"))),
    })
}

/// Whether it can be gone over.
pub(super) fn is_iterable(value: &Value) -> bool {
    matches!(
        value,
        Value::Undefined(..)
            | Value::Str(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::View(..)
            | Value::Generator(_)
            | Value::Range(..)
            | Value::Loop(_)
    )
}

/// Whether they are one object, as far as that can be told: of equal strings and numbers Python may make one object
/// or several.
fn same(a: &Value, b: &Value) -> Result<bool> {
    Ok(match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b) || (a.items.is_empty() && b.items.is_empty()),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Int(a), Value::Int(b)) if a != b || (-5..=256).contains(a) => a == b,
        (Value::Float(a), Value::Float(b)) if a != b => false,
        (Value::Str(a), Value::Str(b)) if a.is_same(b) || a.len() < 2 => a.as_str() == b.as_str(),
        (Value::Str(a), Value::Str(b)) => {
            spend_bytes(a.len().min(b.len()))?;
            if a.as_str() == b.as_str() {
                return Err(unsure());
            }
            false
        }
        (Value::Int(_), Value::Int(_)) | (Value::Float(_), Value::Float(_)) => return Err(unsure()),
        (Value::Object(_), _) | (Value::Macro(_), _) | (Value::Function(_), _) => equal(a, b)?,
        _ => false,
    })
}

fn unsure() -> Error {
    let what = "`sameas` of equal strings, floats or large numbers: these may be one object in Python, or several; compare with `==`";
    Error::new(Kind::Refused, what)
}
