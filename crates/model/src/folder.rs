//! A model folder: config.json, tokenizer.json and model.safetensors, as checkpoints are.
#![forbid(unsafe_code)]

use crate::Config;
use crate::text::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor::DType;
use tensor::file::safetensors::{self, Stored};

/// What a model folder holds.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The model's shape.
    pub config: Config,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// The parameters, by name.
    pub weights: BTreeMap<String, Stored>,
}

/// Why a folder is no model: the file, what is wrong with it, what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file that can't be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file whose contents can't be used.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A safetensors file that can't be read.
    #[error(transparent)]
    Tensors(#[from] safetensors::Error),
}

impl Folder {
    /// Reads and checks a model folder.
    ///
    /// # Errors
    /// When a file is missing, can't be read, or says something that this build doesn't know.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        let (config, kind) = config(&path.join("config.json"))?;
        let file = path.join("tokenizer.json");
        let tokenizer = Tokenizer::named(&kind, &text(&file)?);
        let tokenizer = tokenizer.map_err(|what| FolderError::Format { path: file.clone(), what })?;
        if tokenizer.vocab_size() > config.vocab_size {
            let (tokens, model) = (tokenizer.vocab_size(), config.vocab_size);
            let what = format!("it has {tokens} tokens, and the model {model}; they don't belong together");
            return Err(FolderError::Format { path: file, what });
        }
        let weights = safetensors::read(&path.join("model.safetensors"))?;
        Ok(Folder { path: path.into(), config, tokenizer, weights })
    }

    /// The parameter `name` as little-endian f32, if it is there with this shape.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parameter(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>, String> {
        let stored = self.weights.get(name).ok_or("model.safetensors doesn't have it")?;
        if *stored.shape != *shape {
            let expected = tensor::Shape::from(shape);
            return Err(format!(
                "model.safetensors has it as {}{}; the model needs {expected}",
                stored.dtype, stored.shape
            ));
        }
        let (words, _) = stored.bytes.as_chunks::<2>();
        match stored.dtype {
            DType::F32 => Ok(stored.bytes.clone()),
            DType::Bf16 => {
                Ok(words.iter().flat_map(|w| half::bf16::from_le_bytes(*w).to_f32().to_le_bytes()).collect())
            }
            DType::F16 => Ok(words.iter().flat_map(|w| half::f16::from_le_bytes(*w).to_f32().to_le_bytes()).collect()),
            other => Err(format!("model.safetensors has it as {other}; f32, bf16 and f16 are read")),
        }
    }
}

/// Whether a config.json is of a model that Rondo trained; one that can't be read is not.
pub(crate) fn is_own(path: &Path) -> bool {
    let all = std::fs::read_to_string(path).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    all.is_some_and(|all| all.get("model_type").and_then(|kind| kind.as_str()) == Some("rondo"))
}

/// The model's shape, and its tokenizer's name.
pub(crate) fn config(path: &Path) -> Result<(Config, String), FolderError> {
    let wrong = |what: String| FolderError::Format { path: path.into(), what };
    let all: serde_json::Value =
        serde_json::from_str(&text(path)?).map_err(|e| wrong(format!("not valid JSON: {e}")))?;
    match all.get("model_type").and_then(|kind| kind.as_str()) {
        Some("rondo") => {}
        Some(other) => {
            return Err(wrong(format!("model_type is `{other}`; models that Rondo trained (`rondo`) are read")));
        }
        None => return Err(wrong("it has no `model_type`; models that Rondo trained (`rondo`) are read".into())),
    }
    let kind = all.get("tokenizer").and_then(|kind| kind.as_str()).unwrap_or("bpe").to_string();
    let config: Config = serde_json::from_value(all.clone()).map_err(|e| wrong(e.to_string()))?;
    let known = serde_json::to_value(&config).unwrap_or_default();
    // A key that is passed over would change what the model computes.
    let is_new = |key: &&String| !["model_type", "tokenizer"].contains(&key.as_str()) && known.get(key).is_none();
    if let Some(key) = all.as_object().into_iter().flat_map(|all| all.keys()).find(is_new) {
        let help = "help: read it with the version of Rondo that wrote it";
        return Err(wrong(format!("it has the key `{key}`, which this build doesn't know\n  {help}")));
    }
    match config.problem() {
        Some(what) => Err(wrong(what)),
        None => Ok((config, kind)),
    }
}

fn text(path: &Path) -> Result<String, FolderError> {
    std::fs::read_to_string(path).map_err(|source| FolderError::Io { path: path.into(), source })
}
