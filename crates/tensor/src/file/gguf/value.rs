//! GGUF's metadata: typed values under string keys, in the file's order.

use std::collections::HashMap;
use std::fmt;

macro_rules! kinds {
    ($($variant:ident $rust:ty, $number:literal $name:literal;)*) => {
        /// The type of a value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
            /// A list of values of one type.
            Array,
        }

        /// A value.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("A value of type `", $name, "`.")] $variant($rust),)*
            /// A list of values of one type.
            Array(Array),
        }

        /// A list of values of one type.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("Values of type `", $name, "`.")] $variant(Vec<$rust>),)*
            /// Lists, each of values of one type.
            Array(Vec<Array>),
        }

        impl Kind {
            /// GGUF's number of it.
            pub const fn number(self) -> u32 {
                match self { $(Kind::$variant => $number,)* Kind::Array => 9 }
            }

            /// The type of GGUF's number.
            pub fn of_number(number: u32) -> Option<Kind> {
                match number { $($number => Some(Kind::$variant),)* 9 => Some(Kind::Array), _ => None }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* Kind::Array => "array" }
            }
        }

        impl Value {
            /// Its type.
            pub const fn kind(&self) -> Kind {
                match self { $(Value::$variant(_) => Kind::$variant,)* Value::Array(_) => Kind::Array }
            }
        }

        impl Array {
            /// The type of its values.
            pub const fn kind(&self) -> Kind {
                match self { $(Array::$variant(_) => Kind::$variant,)* Array::Array(_) => Kind::Array }
            }

            /// How many values.
            pub fn len(&self) -> usize {
                match self { $(Array::$variant(values) => values.len(),)* Array::Array(values) => values.len() }
            }
        }
    };
}

kinds! {
    U8 u8, 0 "u8";
    I8 i8, 1 "i8";
    U16 u16, 2 "u16";
    I16 i16, 3 "i16";
    U32 u32, 4 "u32";
    I32 i32, 5 "i32";
    F32 f32, 6 "f32";
    Bool bool, 7 "bool";
    String String, 8 "string";
    U64 u64, 10 "u64";
    I64 i64, 11 "i64";
    F64 f64, 12 "f64";
}

impl Array {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The strings, if it is a list of strings.
    pub fn strings(&self) -> Option<&[String]> {
        if let Array::String(values) = self { Some(values) } else { None }
    }

    /// The numbers, if it is a list of f32.
    pub fn floats(&self) -> Option<&[f32]> {
        if let Array::F32(values) = self { Some(values) } else { None }
    }

    /// The numbers as u64, if it is a list of whole numbers and none is negative.
    pub fn unsigned(&self) -> Option<Vec<u64>> {
        fn all<T: Copy>(values: &[T]) -> Option<Vec<u64>>
        where
            u64: TryFrom<T>,
        {
            values.iter().map(|v| u64::try_from(*v).ok()).collect()
        }
        match self {
            Array::U8(v) => all(v),
            Array::I8(v) => all(v),
            Array::U16(v) => all(v),
            Array::I16(v) => all(v),
            Array::U32(v) => all(v),
            Array::I32(v) => all(v),
            Array::U64(v) => all(v),
            Array::I64(v) => all(v),
            Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::String(_) | Array::Array(_) => None,
        }
    }
}

impl Value {
    /// The number, if it is a whole one and not negative.
    pub fn unsigned(&self) -> Option<u64> {
        match self {
            Value::U8(v) => Some(u64::from(*v)),
            Value::U16(v) => Some(u64::from(*v)),
            Value::U32(v) => Some(u64::from(*v)),
            Value::U64(v) => Some(*v),
            Value::I8(v) => u64::try_from(*v).ok(),
            Value::I16(v) => u64::try_from(*v).ok(),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => None,
        }
    }

    /// The number, if it is a floating-point one.
    pub fn float(&self) -> Option<f64> {
        match self {
            Value::F32(v) => Some(f64::from(*v)),
            Value::F64(v) => Some(*v),
            _ => None,
        }
    }

    /// The flag, if it is one.
    pub fn flag(&self) -> Option<bool> {
        if let Value::Bool(v) = self { Some(*v) } else { None }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Value::String(v) = self { Some(v) } else { None }
    }

    /// The list, if it is one.
    pub fn array(&self) -> Option<&Array> {
        if let Value::Array(v) = self { Some(v) } else { None }
    }
}

/// The first values of a long list, as `show` prints them.
fn list<T>(f: &mut fmt::Formatter<'_>, values: &[T], show: fn(&T) -> String) -> fmt::Result {
    const MOST: usize = 6;
    let shown: Vec<_> = values.iter().take(MOST).map(show).collect();
    let more = values.len().saturating_sub(MOST);
    write!(f, "[{}", shown.join(", "))?;
    if more > 0 { write!(f, ", and {more} more]") } else { f.write_str("]") }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Array::U8(v) => list(f, v, ToString::to_string),
            Array::I8(v) => list(f, v, ToString::to_string),
            Array::U16(v) => list(f, v, ToString::to_string),
            Array::I16(v) => list(f, v, ToString::to_string),
            Array::U32(v) => list(f, v, ToString::to_string),
            Array::I32(v) => list(f, v, ToString::to_string),
            Array::F32(v) => list(f, v, ToString::to_string),
            Array::Bool(v) => list(f, v, ToString::to_string),
            Array::U64(v) => list(f, v, ToString::to_string),
            Array::I64(v) => list(f, v, ToString::to_string),
            Array::F64(v) => list(f, v, ToString::to_string),
            Array::Array(v) => list(f, v, ToString::to_string),
            Array::String(v) => list(f, v, |text| format!("{text:?}")),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::U16(v) => v.fmt(f),
            Value::I16(v) => v.fmt(f),
            Value::U32(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
            Value::U64(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::String(v) => write!(f, "{v:?}"),
            Value::Array(v) => v.fmt(f),
        }
    }
}

/// Keys and values, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pairs: Vec<(String, Value)>,
    places: HashMap<String, usize>,
    /// Where each pair is in its file; 0 for those that were set later.
    offsets: Vec<u64>,
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.places.get(key).and_then(|place| self.pairs.get(*place)).map(|(_, value)| value)
    }

    /// Sets a key: the old value is replaced in its place, a new key goes to the end.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.places.get(&key).and_then(|place| self.pairs.get_mut(*place)) {
            Some(pair) => pair.1 = value,
            None => {
                self.places.insert(key.clone(), self.pairs.len());
                self.pairs.push((key, value));
                self.offsets.push(0);
            }
        }
    }

    /// Notes where the pair that was added last is in its file.
    pub(super) fn found_at(&mut self, offset: u64) {
        if let Some(last) = self.offsets.last_mut() {
            *last = offset;
        }
    }

    /// Bytes from the file's start to a key, if it was read from one.
    pub fn offset(&self, key: &str) -> Option<u64> {
        self.places.get(key).and_then(|place| self.offsets.get(*place)).copied()
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.pairs == other.pairs
    }
}

impl<K: Into<String>> FromIterator<(K, Value)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, Value)>>(pairs: I) -> Self {
        let mut metadata = Metadata::default();
        pairs.into_iter().for_each(|(key, value)| metadata.set(key, value));
        metadata
    }
}
