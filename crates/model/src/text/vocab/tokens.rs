//! The tokens of a vocabulary: texts, kinds and the ids with a meaning, read from GGUF metadata without believing it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use tensor::file::gguf::{Array, Metadata, Value};

/// What is wrong with a vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what}")]
pub struct Problem {
    /// The key or the entry.
    pub field: String,
    /// What is wrong with it.
    pub what: String,
}

/// The error for `field`.
pub fn problem(field: impl Into<String>, what: impl Into<String>) -> Problem {
    Problem { field: field.into(), what: what.into() }
}

type Result<T> = std::result::Result<T, Problem>;

/// What a token is for, with GGUF's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A piece of text.
    #[default]
    Normal,
    /// What stands for text that has no token.
    Unknown,
    /// A signal to the model; no text gives it unless that is asked for.
    Control,
    /// A text that is always one token.
    UserDefined,
    /// In the vocabulary, and never seen by the model.
    Unused,
    /// A single byte.
    Byte,
}

impl Kind {
    fn of_number(number: u64) -> Option<Kind> {
        Some(match number {
            // 0 says nothing: a token like others.
            0 | 1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

/// The ids with a meaning, and what is put around a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// Begins a text.
    pub bos: Option<u32>,
    /// Ends a text.
    pub eos: Option<u32>,
    /// Ends a turn.
    pub eot: Option<u32>,
    /// Stands for text that has no token.
    pub unknown: Option<u32>,
    /// Fills up rows.
    pub padding: Option<u32>,
    /// Stands between texts.
    pub separator: Option<u32>,
    /// All that end an answer.
    pub ends: Vec<u32>,
    /// Whether `bos` goes before a text.
    pub add_bos: bool,
    /// Whether `eos` goes after a text.
    pub add_eos: bool,
}

/// The tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// The text of each, as the file has it.
    pub texts: Vec<String>,
    /// What each is for.
    pub kinds: Vec<Kind>,
    /// How likely each is; only SentencePiece has it.
    pub scores: Vec<f32>,
    /// The id of each text.
    pub ids: HashMap<String, u32>,
}

/// Names of tokens that end a turn, where a file doesn't say which does.
const TURN_ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// Longest text of a token that is printed in an error.
const SHOWN: usize = 40;

/// A token's text for an error.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    format!("{short:?}")
}

impl Tokens {
    /// Tokens, kinds and scores of a file.
    ///
    /// # Errors
    /// The key and the entry that are wrong.
    pub fn read(metadata: &Metadata) -> Result<Tokens> {
        const KEY: &str = "tokenizer.ggml.tokens";
        let texts =
            list(metadata, KEY)?.ok_or_else(|| problem(KEY, "it is missing, and there is no text without it"))?;
        let Array::String(texts) = texts else {
            return Err(problem(KEY, format!("it is a list of {}; it must be one of texts", texts.kind().name())));
        };
        if texts.is_empty() {
            return Err(problem(KEY, "it is empty"));
        }
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in (0u32..).zip(texts) {
            // Empty ones are places that nothing fills.
            if !text.is_empty()
                && let Some(first) = ids.insert(text.clone(), id)
            {
                let what = format!("token {id} is {} again, as token {first} is", shown(text));
                return Err(problem(KEY, what));
            }
        }
        let mut tokens = Tokens {
            kinds: kinds(metadata, texts.len())?,
            scores: scores(metadata, texts.len())?,
            texts: texts.to_vec(),
            ids,
        };
        tokens.check_bytes(KEY)?;
        tokens.control_by_form();
        Ok(tokens)
    }

    /// Tokens in the order of their ids, without scores.
    pub fn of(all: impl ExactSizeIterator<Item = (String, Kind)>) -> Tokens {
        let count = all.len();
        let mut tokens = Tokens {
            texts: Vec::with_capacity(count),
            kinds: Vec::with_capacity(count),
            scores: Vec::new(),
            ids: HashMap::with_capacity(count),
        };
        for (id, (text, kind)) in (0u32..).zip(all) {
            tokens.ids.insert(text.clone(), id);
            tokens.texts.push(text);
            tokens.kinds.push(kind);
        }
        tokens
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// What `id` is for.
    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// The text of `id` as the file has it.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }

    /// Ids, texts and kinds.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0u32..).zip(&self.texts).zip(&self.kinds).map(|((id, text), kind)| (id, text.as_str(), *kind))
    }

    fn check_bytes(&self, key: &str) -> Result<()> {
        let mut seen = [None; 256];
        for (id, text, _) in self.iter().filter(|(_, _, kind)| *kind == Kind::Byte) {
            let byte = byte_of(text).ok_or_else(|| {
                let what =
                    format!("token {id} is of the kind byte, and its text {} is none of <0x00> to <0xFF>", shown(text));
                problem(key, what)
            })?;
            if let Some(first) = seen.get_mut(usize::from(byte)).and_then(|place| place.replace(id)) {
                return Err(problem(key, format!("token {id} is the byte of token {first} again")));
            }
        }
        Ok(())
    }

    /// What looks like a signal to the model is one, whatever the file says: else a user's text could be one.
    pub fn control_by_form(&mut self) {
        for (text, kind) in self.texts.iter().zip(&mut self.kinds) {
            if *kind == Kind::UserDefined && looks_like_control(text) {
                *kind = Kind::Control;
            }
        }
    }

    /// What is named `<0xXX>` is a byte.
    pub fn bytes_by_form(&mut self) {
        for (text, kind) in self.texts.iter().zip(&mut self.kinds) {
            if *kind == Kind::Normal && byte_of(text).is_some() {
                *kind = Kind::Byte;
            }
        }
    }

    /// The ids with a meaning.
    ///
    /// # Errors
    /// An id that isn't there, or a flag that is none.
    pub fn special(&mut self, metadata: &Metadata, add_bos: bool) -> Result<Special> {
        let id = |name: &str| self.id(metadata, &format!("tokenizer.ggml.{name}_token_id"));
        let mut special = Special {
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            unknown: id("unknown")?,
            padding: id("padding")?,
            separator: id("seperator")?.or(id("separator")?),
            ends: Vec::new(),
            add_bos: flag(metadata, "tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos),
            add_eos: flag(metadata, "tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        };
        let others = ["cls", "mask", "eom", "fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"];
        for name in others {
            id(name)?;
        }
        if special.eot.is_none() {
            special.eot = TURN_ENDS.iter().find_map(|name| self.ids.get(*name).copied());
        }
        let ends = self.ends(special.eos.into_iter().chain(special.eot));
        for id in ends.iter().chain(&special.bos) {
            if let Some(kind) = self.kinds.get_mut(*id as usize).filter(|kind| **kind == Kind::UserDefined) {
                *kind = Kind::Control;
            }
        }
        for (wanted, id, key) in [(special.add_bos, special.bos, "bos"), (special.add_eos, special.eos, "eos")] {
            if wanted && id.is_none() && metadata.get(&format!("tokenizer.ggml.add_{key}_token")).is_some() {
                let what = format!("it is true, and there is no tokenizer.ggml.{key}_token_id");
                return Err(problem(format!("tokenizer.ggml.add_{key}_token"), what));
            }
        }
        special.ends = ends;
        Ok(special)
    }

    /// What ends an answer: these, and those that have such names.
    pub fn ends(&self, given: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let named = TURN_ENDS.iter().filter_map(|name| self.ids.get(*name).copied());
        let mut ends: Vec<u32> = given.into_iter().chain(named).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    fn id(&self, metadata: &Metadata, key: &str) -> Result<Option<u32>> {
        let Some(value) = metadata.get(key) else { return Ok(None) };
        let count = self.len();
        let id = value.unsigned().ok_or_else(|| problem(key, format!("it is {value}; it must be a token's id")))?;
        match u32::try_from(id) {
            Ok(small) if usize::try_from(id).is_ok_and(|id| id < count) => Ok(Some(small)),
            _ => Err(problem(key, format!("it is {id}, and the tokens are 0 to {}", count.saturating_sub(1)))),
        }
    }
}

/// Whether a text has the form of control tokens.
pub fn looks_like_control(text: &str) -> bool {
    let between = |start: &str, end: &str| text.len() > 3 && text.starts_with(start) && text.ends_with(end);
    between("<|", "|>")
        || between("<｜", "｜>")
        || matches!(
            text,
            "<s>"
                | "</s>"
                | "<unk>"
                | "<pad>"
                | "<bos>"
                | "<eos>"
                | "<mask>"
                | "<start_of_turn>"
                | "<end_of_turn>"
                | "[INST]"
                | "[/INST]"
                | "[BOS]"
                | "[EOS]"
                | "[CLS]"
                | "[SEP]"
                | "[PAD]"
                | "[MASK]"
                | "[UNK]"
        )
}

/// The byte that `<0xXX>` names.
pub fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The list at `key`, if there is something.
pub fn list<'m>(metadata: &'m Metadata, key: &str) -> Result<Option<&'m Array>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(problem(key, format!("it is a {}; it must be a list", other.kind().name()))),
    }
}

/// The flag at `key`, if there is something.
pub fn flag(metadata: &Metadata, key: &str) -> Result<Option<bool>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(problem(key, format!("it is a {}; it must be a bool", other.kind().name()))),
    }
}

/// The text at `key`, if there is something.
pub fn text<'m>(metadata: &'m Metadata, key: &str) -> Result<Option<&'m str>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(problem(key, format!("it is a {}; it must be a text", other.kind().name()))),
    }
}

fn right_length(key: &str, length: usize, tokens: usize) -> Result<()> {
    if length == tokens {
        return Ok(());
    }
    Err(problem(key, format!("it has {length} entries, and there are {tokens} tokens")))
}

fn kinds(metadata: &Metadata, tokens: usize) -> Result<Vec<Kind>> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let numbers = match list(metadata, KEY)? {
        None => return Ok(vec![Kind::Normal; tokens]),
        Some(list @ (Array::I32(_) | Array::U32(_))) => list,
        Some(other) => {
            return Err(problem(KEY, format!("it is a list of {}; it must be one of i32", other.kind().name())));
        }
    };
    right_length(KEY, numbers.len(), tokens)?;
    let numbers = numbers.unsigned().ok_or_else(|| problem(KEY, "a kind is negative; they are 0 to 6"))?;
    let kind = |(id, number): (usize, &u64)| {
        Kind::of_number(*number)
            .ok_or_else(|| problem(KEY, format!("token {id} is of the kind {number}; they are 0 to 6")))
    };
    numbers.iter().enumerate().map(kind).collect()
}

fn scores(metadata: &Metadata, tokens: usize) -> Result<Vec<f32>> {
    const KEY: &str = "tokenizer.ggml.scores";
    let scores = match list(metadata, KEY)? {
        None => return Ok(Vec::new()),
        Some(Array::F32(scores)) => scores,
        Some(other) => {
            return Err(problem(KEY, format!("it is a list of {}; it must be one of f32", other.kind().name())));
        }
    };
    right_length(KEY, scores.len(), tokens)?;
    match scores.iter().position(|score| score.is_nan()) {
        Some(id) => Err(problem(KEY, format!("token {id} has no number as its score"))),
        None => Ok(scores.to_vec()),
    }
}
