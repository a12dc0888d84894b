//! What a GGUF file's metadata or a Hugging Face `config.json` says, under one set of keys.
#![forbid(unsafe_code)]

use serde_json::{Map, Value as Json, json};
use std::path::{Path, PathBuf};
use tensor::file::gguf::{self, Array, Metadata, Value};
use tensor::file::{Error, Problem};

/// A key's names: in GGUF behind the architecture's name and a dot, and in `config.json`. Empty where there is none.
#[derive(Clone, Copy, Debug)]
pub struct Key(pub &'static str, pub &'static str);

/// What to do about a configuration that makes no sense.
const HELP: &str = "the file is damaged, or was made for another program; get it again";

/// A `config.json`.
#[derive(Debug)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    text: String,
    keys: Map<String, Json>,
}

impl ConfigFile {
    /// Bytes of one at most.
    const LARGEST: u64 = 4 << 20;

    /// Reads it.
    ///
    /// # Errors
    /// When it can't be read, or isn't an object in JSON.
    pub fn open(path: &Path) -> Result<ConfigFile, Error> {
        let bytes = std::fs::metadata(path).map_err(Error::io(path))?.len();
        let wrong = |offset: usize, what: String| Problem::new(offset as u64, "the file", what).within(path);
        if bytes > Self::LARGEST {
            return Err(wrong(0, format!("it has {bytes} bytes; more than {} are refused", Self::LARGEST)));
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let keys = serde_json::from_str(&text).map_err(|e| {
            let before: usize = text.split_inclusive('\n').take(e.line().saturating_sub(1)).map(str::len).sum();
            wrong(before.saturating_add(e.column().saturating_sub(1)), format!("it is no object in JSON: {e}"))
        })?;
        Ok(ConfigFile { path: path.into(), text, keys })
    }

    /// What stands at a key; null counts as nothing.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// What a key is where it isn't there at all; null stays nothing.
    pub(super) fn unsaid(&mut self, key: &str, value: u64) {
        self.keys.entry(key).or_insert_with(|| json!(value));
    }

    /// An error about a key.
    pub fn error(&self, key: &str, what: impl Into<String>) -> Error {
        self.error_with(key, what, HELP)
    }

    /// An error about a key that asks for what isn't computed.
    pub fn other_model(&self, key: &str, what: impl Into<String>) -> Error {
        self.error_with(
            key,
            what,
            "without it the model would answer otherwise: get one of a family as it is published",
        )
    }

    /// An error about a key, and what to do.
    pub fn error_with(&self, key: &str, what: impl Into<String>, help: &'static str) -> Error {
        let offset = self.text.find(&format!("\"{key}\"")).unwrap_or(0) as u64;
        Problem::new(offset, format!("key `{key}`"), what).help(help).within(&self.path)
    }
}

/// Where a configuration comes from.
pub enum Source<'a> {
    /// A GGUF file and the prefix of its keys.
    Gguf {
        /// The file.
        file: &'a gguf::File,
        /// `general.architecture`.
        architecture: &'a str,
    },
    /// A `config.json`.
    HuggingFace(&'a ConfigFile),
}

impl Source<'_> {
    fn gguf_key(architecture: &str, key: Key) -> String {
        format!("{architecture}.{}", key.0)
    }

    /// Whether it says anything at a key.
    pub fn has(&self, key: Key) -> bool {
        match self {
            Source::Gguf { file, architecture } => {
                !key.0.is_empty() && file.metadata().get(&Self::gguf_key(architecture, key)).is_some()
            }
            Source::HuggingFace(config) => !key.1.is_empty() && config.get(key.1).is_some(),
        }
    }

    /// An error about a key.
    pub fn error(&self, key: Key, what: impl Into<String>) -> Error {
        match self {
            Source::Gguf { file, architecture } => file.key_error(&Self::gguf_key(architecture, key), what, HELP),
            Source::HuggingFace(config) => config.error(key.1, what),
        }
    }

    /// An error about a key that asks for what isn't computed.
    pub fn unsupported(&self, key: Key, what: impl Into<String>) -> Error {
        let help = "it is not computed here, and without it the model would answer otherwise: get another model";
        match self {
            Source::Gguf { file, architecture } => file.key_error(&Self::gguf_key(architecture, key), what, help),
            Source::HuggingFace(config) => config.other_model(key.1, what),
        }
    }

    /// A whole number; a list of one number a layer is that number where all are equal.
    pub fn size(&self, key: Key) -> Result<Option<usize>, Error> {
        if !self.has(key) {
            return Ok(None);
        }
        let found = match self {
            Source::Gguf { file, architecture } => {
                let value = file.metadata().get(&Self::gguf_key(architecture, key));
                match value.and_then(Value::array) {
                    Some(array) => Some(self.per_layer(key, array)?),
                    None => value.and_then(Value::unsigned),
                }
            }
            Source::HuggingFace(config) => config.get(key.1).and_then(Json::as_u64),
        };
        let size = found.and_then(|size| usize::try_from(size).ok());
        size.map(Some).ok_or_else(|| self.error(key, "it must be a whole number that isn't negative"))
    }

    fn per_layer(&self, key: Key, array: &Array) -> Result<u64, Error> {
        // How many layers there are can't itself be said layer by layer.
        if key.0 == super::NUM_LAYERS.0 {
            return Err(self.error(key, format!("it is a list of {}; it must be one whole number", array.len())));
        }
        let layers = self.need(super::NUM_LAYERS)?;
        if array.len() != layers {
            return Err(self.error(key, format!("it has {} numbers; there are {layers} layers", array.len())));
        }
        match array.unsigned().unwrap_or_default().as_slice() {
            [first, rest @ ..] if rest.iter().all(|size| size == first) => Ok(*first),
            [] => Err(self.error(key, "it must be whole numbers that aren't negative")),
            _ => Err(self.unsupported(key, "it differs from layer to layer, which is not supported")),
        }
    }

    /// A whole number that must be there.
    pub fn need(&self, key: Key) -> Result<usize, Error> {
        self.size(key)?.ok_or_else(|| self.error(key, "it is missing"))
    }

    /// A number.
    pub fn number(&self, key: Key) -> Result<Option<f32>, Error> {
        if !self.has(key) {
            return Ok(None);
        }
        let found = match self {
            Source::Gguf { file, architecture } => {
                let value = file.metadata().get(&Self::gguf_key(architecture, key));
                value.and_then(|value| value.float().or_else(|| value.unsigned().map(|whole| whole as f64)))
            }
            Source::HuggingFace(config) => config.get(key.1).and_then(Json::as_f64),
        };
        let number = found.filter(|number| number.is_finite()).map(|number| number as f32);
        number.map(Some).ok_or_else(|| self.error(key, "it must be a number"))
    }

    /// A flag.
    pub fn flag(&self, key: Key) -> Result<Option<bool>, Error> {
        if !self.has(key) {
            return Ok(None);
        }
        let found = match self {
            Source::Gguf { file, architecture } => {
                file.metadata().get(&Self::gguf_key(architecture, key)).and_then(Value::flag)
            }
            Source::HuggingFace(config) => config.get(key.1).and_then(Json::as_bool),
        };
        found.map(Some).ok_or_else(|| self.error(key, "it must be true or false"))
    }

    /// A text.
    pub fn text(&self, key: Key) -> Result<Option<String>, Error> {
        if !self.has(key) {
            return Ok(None);
        }
        let found = match self {
            Source::Gguf { file, architecture } => {
                file.metadata().get(&Self::gguf_key(architecture, key)).and_then(Value::text)
            }
            Source::HuggingFace(config) => config.get(key.1).and_then(Json::as_str),
        };
        found.map(|text| Some(text.to_string())).ok_or_else(|| self.error(key, "it must be a text"))
    }

    /// The f32 numbers of a tensor of a GGUF file, such as the factors of rotary frequencies.
    pub fn tensor(&self, name: &str) -> Option<Vec<f32>> {
        let Source::Gguf { file, .. } = self else { return None };
        let (tensor, bytes) = file.tensor(name)?;
        let (numbers, _) = bytes.as_chunks::<4>();
        (tensor.dtype == tensor::DType::F32).then(|| numbers.iter().map(|n| f32::from_le_bytes(*n)).collect())
    }
}

/// A configuration in both forms.
#[derive(Debug, Default)]
pub struct Described {
    architecture: String,
    /// GGUF's keys.
    pub gguf: Metadata,
    /// Those of `config.json`.
    pub hugging_face: Map<String, Json>,
}

impl Described {
    /// Nothing yet, of an architecture by GGUF's name.
    pub fn new(architecture: &str) -> Described {
        Described { architecture: architecture.into(), ..Described::default() }
    }

    fn put(&mut self, key: Key, value: Value, json: Json) {
        if !key.0.is_empty() {
            self.gguf.set(format!("{}.{}", self.architecture, key.0), value);
        }
        if !key.1.is_empty() {
            self.hugging_face.insert(key.1.into(), json);
        }
    }

    /// A whole number.
    pub fn size(&mut self, key: Key, size: usize) {
        self.put(key, Value::U32(u32::try_from(size).unwrap_or(u32::MAX)), json!(size));
    }

    /// A number.
    pub fn number(&mut self, key: Key, number: f32) {
        // The shortest decimals that mean this f32.
        let exact = number.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(number));
        self.put(key, Value::F32(number), json!(exact));
    }

    /// A flag.
    pub fn flag(&mut self, key: Key, flag: bool) {
        self.put(key, Value::Bool(flag), json!(flag));
    }

    /// Nothing, where Hugging Face's class has something else by itself.
    pub fn null(&mut self, key: Key) {
        self.hugging_face.insert(key.1.into(), Json::Null);
    }

    /// A text.
    pub fn text(&mut self, key: Key, text: &str) {
        self.put(key, Value::String(text.into()), json!(text));
    }
}
