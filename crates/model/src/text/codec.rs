//! Whatever turns text into tokens and back, opened by its path: a GGUF file, a model's folder or a tokenizer.json.
#![forbid(unsafe_code)]

use super::{Tokenizer, Vocabulary, utf8};
use std::io::Read;
use std::path::{Path, PathBuf};
use tensor::file::gguf;

/// Largest tokenizer.json, in bytes.
const LARGEST: u64 = 256 << 20;
/// What to do about a vocabulary that is wrong.
const HELP: &str = "the file is damaged or was converted wrongly; get it again, or convert the original model again";

/// From text to tokens and back.
#[derive(Clone, Debug)]
pub enum Codec {
    /// One that Rondo has made.
    Own(Tokenizer),
    /// A model file's.
    Vocabulary(Box<Vocabulary>),
}

/// Why there is no tokenizer or no chat template: the file, what is wrong with it, what to do.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
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
    /// A GGUF file that is wrong.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// A chat template that is wrong.
    #[error(transparent)]
    Template(Box<super::template::Error>),
}

impl Codec {
    /// Opens the tokenizer at `path`.
    ///
    /// # Errors
    /// When there is none, or what is wrong with it.
    pub fn open(path: &Path) -> Result<Codec, CodecError> {
        if path.is_dir() {
            let (config, file) = (path.join("config.json"), path.join("tokenizer.json"));
            return match own_kind(&config)? {
                Some(kind) => {
                    let tokenizer = Tokenizer::named(&kind, &text(&file)?);
                    tokenizer.map(Codec::Own).map_err(|what| CodecError::Format { path: file, what })
                }
                None => json(&file),
            };
        }
        is_file(path)?;
        let mut magic = [0; 4];
        let io = |source| CodecError::Io { path: path.into(), source };
        let count = std::fs::File::open(path).and_then(|mut file| file.read(&mut magic)).map_err(io)?;
        let old = [b"ggml", b"lmgg", b"fmgg", b"tjgg", b"GGML", b"GGJT"];
        if magic == *b"GGUF" || old.contains(&&magic) || path.extension().is_some_and(|e| e == "gguf") {
            return of_gguf(&gguf::File::open(path)?);
        }
        if count == 0 {
            let what = "it is empty: not valid JSON, and no GGUF file\n  help: give a GGUF file, a model's folder or a tokenizer.json".into();
            return Err(CodecError::Format { path: path.into(), what });
        }
        json(path)
    }

    /// Tokens of a text, without those that go around it. With `special` the names of control tokens become these, as
    /// far as the tokenizer has any; without, a text never becomes one. Bytes that are no UTF-8 are only for `byte`.
    ///
    /// # Errors
    /// What is wrong with the text, with its line.
    pub fn encode(&self, text: &[u8], special: bool) -> Result<Vec<u32>, (Option<usize>, String)> {
        match self {
            Codec::Own(tokenizer) => tokenizer.encode(text),
            Codec::Vocabulary(vocabulary) => {
                let text = utf8(text).map_err(|(line, _)| (line, "not valid UTF-8".into()))?;
                Ok(vocabulary.encode(text, special))
            }
        }
    }

    /// `ids` with the tokens around them that the model expects.
    pub fn surround(&self, ids: Vec<u32>) -> Vec<u32> {
        match self {
            Codec::Own(_) => ids,
            Codec::Vocabulary(vocabulary) => vocabulary.surround(ids),
        }
    }

    /// The bytes of `ids`; control tokens have theirs only with `special`.
    pub fn decode(&self, ids: &[u32], special: bool) -> Vec<u8> {
        match self {
            Codec::Own(tokenizer) => ids.iter().flat_map(|id| tokenizer.bytes(*id)).collect(),
            Codec::Vocabulary(vocabulary) => vocabulary.decode(ids, special),
        }
    }

    /// The bytes of each of `ids`, which together are those of `decode`.
    pub fn decode_each(&self, ids: &[u32], special: bool) -> Vec<Vec<u8>> {
        match self {
            Codec::Own(tokenizer) => ids.iter().map(|id| tokenizer.bytes(*id)).collect(),
            Codec::Vocabulary(vocabulary) => {
                let mut decoder = vocabulary.decoder(special);
                ids.iter().map(|id| decoder.push(*id)).collect()
            }
        }
    }

    /// Characters of `text`, each once, that no token stands for, not even one for what is unknown: `encode` leaves
    /// them out.
    pub fn lost(&self, text: &str) -> Vec<char> {
        match self {
            Codec::Own(Tokenizer::Bpe(pairs)) => pairs.vocabulary().lost(text),
            Codec::Own(_) => Vec::new(),
            Codec::Vocabulary(vocabulary) => vocabulary.lost(text),
        }
    }

    /// How many tokens there are.
    pub fn vocab_size(&self) -> usize {
        match self {
            Codec::Own(tokenizer) => tokenizer.vocab_size(),
            Codec::Vocabulary(vocabulary) => vocabulary.size(),
        }
    }
}

/// The vocabulary of an open model file.
///
/// # Errors
/// The key that is wrong and where it is; also when the file says that it has none.
pub fn of_gguf(file: &gguf::File) -> Result<Codec, CodecError> {
    match Vocabulary::from_gguf(file.metadata()) {
        Ok(Some(vocabulary)) => Ok(Codec::Vocabulary(Box::new(vocabulary))),
        Ok(None) => {
            let help = "tokens of this model can only be given as numbers";
            Err(file.key_error("tokenizer.ggml.model", "the file has no vocabulary", help).into())
        }
        Err(problem) => Err(file.key_error(&problem.field, problem.what, HELP).into()),
    }
}

/// The kind of tokenizer of a folder that Rondo has written.
fn own_kind(config: &Path) -> Result<Option<String>, CodecError> {
    if !config.exists() {
        return Ok(None);
    }
    let wrong = |what: String| CodecError::Format { path: config.into(), what };
    let all: serde_json::Value =
        serde_json::from_str(&text(config)?).map_err(|e| wrong(format!("not valid JSON: {e}")))?;
    let own = all.get("model_type").and_then(|kind| kind.as_str()) == Some("rondo");
    Ok(own.then(|| all.get("tokenizer").and_then(|kind| kind.as_str()).unwrap_or("bpe").to_string()))
}

fn json(path: &Path) -> Result<Codec, CodecError> {
    match Vocabulary::from_json(&text(path)?) {
        Ok(vocabulary) => Ok(Codec::Vocabulary(Box::new(vocabulary))),
        Err(problem) => Err(CodecError::Format { path: path.into(), what: format!("{problem}\n  help: {HELP}") }),
    }
}

/// What is said of `path`, which must be a file: opening a pipe would wait for whoever writes into it.
pub(super) fn is_file(path: &Path) -> Result<std::fs::Metadata, CodecError> {
    let about = std::fs::metadata(path).map_err(|source| CodecError::Io { path: path.into(), source })?;
    if !about.is_file() {
        let what = "it is not a file\n  help: give a GGUF file, a model's folder or a file of one".into();
        return Err(CodecError::Format { path: path.into(), what });
    }
    Ok(about)
}

/// A file of text that isn't larger than any tokenizer is.
fn text(path: &Path) -> Result<String, CodecError> {
    let io = |source| CodecError::Io { path: path.into(), source };
    let wrong = |what: String| CodecError::Format { path: path.into(), what };
    let about = is_file(path)?;
    if about.len() > LARGEST {
        let what = format!("it has {} bytes; more than {LARGEST} are refused", about.len());
        return Err(wrong(format!("{what}\n  help: give the model's own tokenizer.json, which has some MB")));
    }
    let bytes = std::fs::read(path).map_err(io)?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        wrong(format!("byte {at}: it is no text (not valid UTF-8), so it is no tokenizer.json\n  help: {HELP}"))
    })
}
