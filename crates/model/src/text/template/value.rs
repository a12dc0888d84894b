//! Values as Python has them: truth, equality, order, `str` and `repr`.

use super::ast::{For, Macro};
use super::error::{Error, Kind, Result};
use super::meter::{Held, spend, spend_bytes, spend_search, spent};
use super::numbers;
use super::text::{Builder, Text};
use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// How deep lists and dictionaries may lie in each other.
const DEEPEST: usize = 200;
/// Entries from which a dictionary has an index.
const INDEXED: usize = 12;

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// With what its use is, and says.
    Undefined(Kind, Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text),
    List(Rc<List>),
    Tuple(Rc<List>),
    Dict(Rc<Dict>),
    /// `dict.keys()`, `.values()`, `.items()`.
    View(&'static str, Rc<List>),
    /// What `map`, `select` and their like give: it can be gone over once.
    Generator(Rc<RefCell<Option<Rc<List>>>>),
    /// Start, stop, step.
    Range(i64, i64, i64),
    /// An object of the rendering: a namespace, a cycler, a joiner, by number.
    Object(usize),
    Macro(Rc<MacroValue>),
    Function(&'static str),
    Method(Rc<(Value, &'static str)>),
    Loop(Rc<LoopState>),
}

#[derive(Debug)]
pub(super) struct List {
    pub items: Vec<Value>,
    depth: usize,
    _held: Held,
}

#[derive(Debug, Default)]
pub(super) struct Dict {
    pub entries: Vec<(Value, Value)>,
    index: HashMap<String, usize>,
    depth: usize,
    held: Held,
}

/// A macro, and the scope that it was written in.
#[derive(Debug)]
pub(super) struct MacroValue {
    pub code: Arc<Macro>,
    pub scope: usize,
}

/// Where a loop is.
#[derive(Debug)]
pub(super) struct LoopState {
    pub code: Arc<For>,
    /// The one that the loop stands in.
    pub scope: usize,
    pub source: Rc<List>,
    /// What of the source has met the loop's condition so far, where it has one.
    pub met: RefCell<Vec<Value>>,
    /// How many of the source have been asked.
    pub asked: Cell<usize>,
    pub index: Cell<usize>,
    pub depth: usize,
    pub changed: RefCell<Option<Value>>,
}

impl List {
    pub(super) fn new(items: Vec<Value>) -> Result<Rc<List>> {
        // Each was cloned, and is dropped.
        spend(items.len() / 2)?;
        let held = Held::new(items.len().saturating_mul(size_of::<Value>()) + size_of::<List>())?;
        let depth = deeper(items.iter().map(Value::depth).max().unwrap_or(0))?;
        Ok(Rc::new(List { items, depth, _held: held }))
    }
}

impl Dict {
    /// Appends `repr(x)`.
    pub(super) fn repr(&self, out: &mut Builder) -> Result<()> {
        out.push_str("{", false)?;
        for (i, (key, value)) in self.entries.iter().enumerate() {
            out.push_str(if i > 0 { ", " } else { "" }, false)?;
            key.repr(out)?;
            out.push_str(": ", false)?;
            value.repr(out)?;
        }
        out.push_str("}", false)
    }

    pub(super) fn get(&self, key: &Value) -> Result<Option<&Value>> {
        Ok(self.find(key)?.and_then(|i| self.entries.get(i)).map(|(_, value)| value))
    }

    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        spent(1 + key.len() / 32);
        if self.entries.len() > INDEXED {
            return self.index.get(key).and_then(|i| self.entries.get(*i)).map(|(_, value)| value);
        }
        let is_it = |(k, _): &&(Value, Value)| matches!(k, Value::Str(text) if text.as_str() == key);
        self.entries.iter().find(is_it).map(|(_, value)| value)
    }

    fn find(&self, key: &Value) -> Result<Option<usize>> {
        if let (Value::Str(text), true) = (key, self.entries.len() > INDEXED) {
            spend(2 + text.len() / 32)?;
            return Ok(self.index.get(text.as_str()).copied());
        }
        if matches!(key, Value::List(_) | Value::Dict(_)) {
            return Err(Error::value(format!("a {} can't be a key", key.type_name())));
        }
        spend(self.entries.len() / 8)?;
        for (i, (k, _)) in self.entries.iter().enumerate() {
            if equal(k, key)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    pub(super) fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        self.depth = self.depth.max(deeper(key.depth().max(value.depth()))?);
        if let Some(i) = self.find(&key)? {
            if let Some(entry) = self.entries.get_mut(i) {
                entry.1 = value;
            }
            return Ok(());
        }
        let room = if let Value::Str(text) = &key { text.len() + 64 } else { 0 };
        let own = if self.entries.is_empty() { size_of::<Dict>() } else { 0 };
        self.held.grow(own + 2 * size_of::<Value>() + room)?;
        spend(2)?;
        self.entries.push((key, value));
        let first = if self.entries.len() == INDEXED + 1 { 0 } else { self.entries.len() - 1 };
        if self.entries.len() > INDEXED {
            for (i, (key, _)) in self.entries.iter().enumerate().skip(first) {
                if let Value::Str(text) = key {
                    self.index.insert(text.as_str().into(), i);
                }
            }
        }
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize> {
    if depth >= DEEPEST {
        return Err(Error::new(
            Kind::Limit,
            format!("lists and dictionaries lie more than {DEEPEST} deep in each other"),
        ));
    }
    Ok(depth + 1)
}

impl Value {
    pub(super) fn str(text: &str) -> Result<Value> {
        Ok(Value::Str(Text::plain(text)?))
    }

    pub(super) fn list(items: Vec<Value>) -> Result<Value> {
        Ok(Value::List(List::new(items)?))
    }

    pub(super) fn tuple(items: Vec<Value>) -> Result<Value> {
        Ok(Value::Tuple(List::new(items)?))
    }

    pub(super) fn generator(items: Vec<Value>) -> Result<Value> {
        Ok(Value::Generator(Rc::new(RefCell::new(Some(List::new(items)?)))))
    }

    pub(super) fn undefined(message: impl Into<String>) -> Value {
        spent(4);
        // Whoever prints it needs no more, and a name in it may be long.
        let message: String = message.into().chars().take(200).collect();
        Value::Undefined(Kind::Undefined, message.into())
    }

    pub(super) fn refused(message: impl Into<String>) -> Value {
        Value::Undefined(Kind::Refused, message.into().into())
    }

    fn depth(&self) -> usize {
        match self {
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => list.depth,
            Value::Dict(dict) => dict.depth,
            Value::Method(method) => method.0.depth() + 1,
            Value::Generator(items) => {
                items.try_borrow().ok().and_then(|i| i.as_ref().map(|l| l.depth)).unwrap_or(0) + 1
            }
            Value::Loop(state) => state.source.depth + 1,
            _ => 0,
        }
    }

    /// The type's name in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(..) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
            Value::Dict(_) => "dict",
            Value::View(kind, _) => kind,
            Value::Generator(_) => "generator",
            Value::Range(..) => "range",
            Value::Object(_) => "object",
            Value::Macro(_) => "Macro",
            Value::Function(_) => "function",
            Value::Method(_) => "method",
            Value::Loop(_) => "LoopContext",
        }
    }

    /// An error if the value isn't there.
    pub(super) fn defined(&self) -> Result<()> {
        match self {
            Value::Undefined(kind, message) => Err(Error::new(*kind, &**message)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(..) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(text) => text.len() > 0,
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => !list.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Range(..) => self.range_len() > 0,
            _ => true,
        }
    }

    /// Elements of a range.
    pub(super) fn range_len(&self) -> usize {
        let Value::Range(start, stop, step) = *self else { return 0 };
        let (start, stop, step) = (i128::from(start), i128::from(stop), i128::from(step));
        let distance = if step > 0 { stop - start } else { start - stop };
        let step = step.abs().max(1);
        usize::try_from((distance + step - 1) / step).unwrap_or(0)
    }

    /// The length, where there is one.
    pub(super) fn len(&self) -> Result<usize> {
        match self {
            Value::Undefined(..) => Ok(0),
            Value::Str(text) => Ok(text.num_chars()),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => Ok(list.items.len()),
            Value::Dict(dict) => Ok(dict.entries.len()),
            Value::Range(..) => Ok(self.range_len()),
            _ => Err(Error::value(format!("a {} has no length", self.type_name()))),
        }
    }

    /// What going over it gives, if it can be gone over.
    pub(super) fn iterate(&self) -> Result<Rc<List>> {
        let items = match self {
            Value::Undefined(..) => Vec::new(),
            Value::List(list) | Value::Tuple(list) | Value::View(_, list) => return Ok(list.clone()),
            Value::Generator(items) => match items.borrow_mut().take() {
                Some(items) => return Ok(items),
                None => Vec::new(),
            },
            Value::Dict(dict) => dict.entries.iter().map(|(key, _)| key.clone()).collect(),
            Value::Str(text) => {
                let mut items = Vec::new();
                for (start, c) in text.as_str().char_indices() {
                    items.push(Value::Str(text.slice(start..start + c.len_utf8())?));
                }
                items
            }
            Value::Range(start, _, step) => {
                let count = self.range_len();
                spend(count)?;
                let next = |i: &i128| Some(i + i128::from(*step));
                std::iter::successors(Some(i128::from(*start)), next).take(count).map(Value::Int).collect()
            }
            _ => return Err(Error::value(format!("a {} can't be gone over", self.type_name()))),
        };
        List::new(items)
    }

    /// As `str(x)`.
    pub(super) fn to_text(&self) -> Result<Text> {
        match self {
            Value::Str(text) => Ok(text.clone()),
            _ => {
                let mut out = Builder::new();
                self.print(&mut out)?;
                Ok(out.finish())
            }
        }
    }

    /// Appends `str(x)`.
    pub(super) fn print(&self, out: &mut Builder) -> Result<()> {
        match self {
            Value::Str(text) => out.push(text),
            Value::Undefined(..) => Ok(()),
            _ => self.repr(out),
        }
    }

    /// Appends `repr(x)`.
    pub(super) fn repr(&self, out: &mut Builder) -> Result<()> {
        // A number is worked out digit by digit.
        spend(match self {
            Value::Float(_) => 8,
            Value::Int(_) | Value::Range(..) => 3,
            _ => 1,
        })?;
        match self {
            Value::Undefined(..) => out.push_str("Undefined", false),
            Value::None => out.push_str("None", false),
            Value::Bool(true) => out.push_str("True", false),
            Value::Bool(false) => out.push_str("False", false),
            Value::Int(i) => out.push_str(&i.to_string(), false),
            Value::Float(f) => out.push_str(&float(*f), false),
            Value::Str(text) => quoted(text, out),
            Value::List(list) => between(&list.items, "[", "]", out),
            Value::Tuple(list) => between(&list.items, "(", if list.items.len() == 1 { ",)" } else { ")" }, out),
            Value::View("_GroupTuple", list) => between(&list.items, "(", ")", out),
            Value::View(kind, list) => {
                out.push_str(kind, false)?;
                between(&list.items, "([", "])", out)
            }
            Value::Dict(dict) => dict.repr(out),
            Value::Range(start, stop, 1) => out.push_str(&format!("range({start}, {stop})"), false),
            Value::Range(start, stop, step) => out.push_str(&format!("range({start}, {stop}, {step})"), false),
            Value::Macro(called) if called.code.is_block => {
                Err(Error::value(format!("block `{}` has no text before it is called", called.code.name)))
            }
            // A call block's body.
            Value::Macro(called) if called.code.name.is_empty() => out.push_str("<Macro anonymous>", false),
            Value::Macro(macro_value) => out.push_str(&format!("<Macro '{}'>", macro_value.code.name), false),
            _ => Err(Error::value(format!("a {} has no text", self.type_name()))),
        }
    }

    /// `ascii(x)`.
    pub(super) fn ascii(&self) -> Result<Text> {
        let mut out = Builder::new();
        self.repr(&mut out)?;
        out.finish().map(|part| {
            let mut to = String::with_capacity(part.len());
            for c in part.chars() {
                if c.is_ascii() { to.push(c) } else { escape(c, &mut to) }
            }
            to
        })
    }

    /// As a number, where it is one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// As a whole number, where it is one.
    pub(super) fn int(&self) -> Option<i128> {
        match self {
            Value::Bool(b) => Some(i128::from(*b)),
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }
}

fn between(items: &[Value], begin: &str, end: &str, out: &mut Builder) -> Result<()> {
    out.push_str(begin, false)?;
    for (i, item) in items.iter().enumerate() {
        out.push_str(if i > 0 { ", " } else { "" }, false)?;
        item.repr(out)?;
    }
    out.push_str(end, false)
}

fn quoted(text: &Text, out: &mut Builder) -> Result<()> {
    let s = text.as_str();
    spend_search(s.len())?;
    let quote = if s.contains('\'') && !s.contains('"') { '"' } else { '\'' };
    let mark = if quote == '"' { "\"" } else { "'" };
    out.push_str(mark, false)?;
    out.push(&text.map(|part| escaped(part, quote))?)?;
    out.push_str(mark, false)
}

fn escaped(part: &str, quote: char) -> String {
    let mut to = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            c if c == quote => to.extend(['\\', c]),
            c if is_printable(c) => to.push(c),
            c => escape(c, &mut to),
        }
    }
    to
}

/// Appends `c` as `\xe9`, `\u20ac` or `\U0001f600`.
pub(super) fn escape(c: char, to: &mut String) {
    match c {
        c if c < '\u{100}' => hex(to, "\\x", u32::from(c), 2),
        c if c < '\u{10000}' => hex(to, "\\u", u32::from(c), 4),
        c => hex(to, "\\U", u32::from(c), 8),
    }
}

/// Appends `number` in `digits` hexadecimal digits behind `mark`.
pub(super) fn hex(to: &mut String, mark: &str, number: u32, digits: u32) {
    to.push_str(mark);
    for place in (0..digits).rev() {
        to.extend(char::from_digit(number >> (4 * place) & 15, 16));
    }
}

/// What Python shows as it is: no control or format character, no space but the plain one.
pub(super) fn is_printable(c: char) -> bool {
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(u32::from(c),
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xe0000..=0xe0fff | 0xf0000..))
}

/// Digits from which on there may be two shortest notations that are as near, of which Python takes the even one.
const TIED: usize = 15;

/// A float as Python's `repr` has it: the shortest digits that read back, with an exponent from 1e16 and below 1e-4.
pub(super) fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".into();
    }
    if f.is_infinite() {
        return if f > 0.0 { "inf" } else { "-inf" }.into();
    }
    let mut text = format!("{f:e}");
    let digits = text.split('e').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count();
    if digits >= TIED {
        let even = format!("{f:.*e}", digits - 1);
        if even.parse() == Ok(f) {
            text = even;
        }
    }
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let places = digits.trim_start_matches('-').len().saturating_sub(2);
    let places = i32::try_from(places).unwrap_or(0).saturating_sub(exponent).max(1);
    format!("{f:.*}", usize::try_from(places).unwrap_or(1))
}

/// `a == b`.
pub(super) fn equal(a: &Value, b: &Value) -> Result<bool> {
    spend(1)?;
    Ok(match (a, b) {
        (Value::Undefined(..), Value::Undefined(..)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            spend_bytes(a.len().min(b.len()))?;
            a.as_str() == b.as_str()
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            if a.items.len() != b.items.len() {
                return Ok(false);
            }
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if a.entries.len() != b.entries.len() {
                return Ok(false);
            }
            for (key, value) in &a.entries {
                match b.get(key)? {
                    Some(other) if equal(value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(..), Value::Range(..)) => {
            let (a, b) = (a.iterate()?, b.iterate()?);
            equal(&Value::List(a), &Value::List(b))?
        }
        (Value::Object(a), Value::Object(b)) => a == b,
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => ordered(a, b) == Some(Some(Ordering::Equal)),
    })
}

/// The order of two numbers, exactly; the inner is none for not-a-number, the outer for what is no number.
fn ordered(a: &Value, b: &Value) -> Option<Option<Ordering>> {
    Some(match (a.int(), b.int(), a.number()?, b.number()?) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (Some(a), None, _, b) => numbers::order(a, b),
        (None, Some(b), a, _) => numbers::order(b, a).map(Ordering::reverse),
        (None, None, a, b) => a.partial_cmp(&b),
    })
}

/// The order of `a` and `b`; none for not-a-number.
pub(super) fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>> {
    spend(1)?;
    a.defined()?;
    b.defined()?;
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => {
            spend_bytes(a.len().min(b.len()))?;
            Ok(Some(a.as_str().cmp(b.as_str())))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b)? {
                    return compare(a, b);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => ordered(a, b)
            .ok_or_else(|| Error::value(format!("a {} and a {} have no order", a.type_name(), b.type_name()))),
    }
}

/// `needle in haystack`.
pub(super) fn contains(haystack: &Value, needle: &Value) -> Result<bool> {
    match (haystack, needle) {
        (Value::Str(text), Value::Str(part)) => {
            spend_search(text.len().saturating_add(part.len()))?;
            Ok(text.as_str().contains(part.as_str()))
        }
        (Value::Str(_), other) => {
            Err(Error::value(format!("only a string can be in a string, and not a {}", other.type_name())))
        }
        (Value::Dict(dict), key) => Ok(dict.get(key)?.is_some()),
        _ => {
            for item in &haystack.iterate()?.items {
                if equal(item, needle)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
