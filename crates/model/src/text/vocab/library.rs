//! Models of tokenizer.json that the tokenizers crate runs: WordPiece, Unigram, WordLevel, and pairs of a rarer kind.
#![forbid(unsafe_code)]

use super::json;
use super::pieces::{self, Before, SPACE};
use super::steps::Steps;
use super::tokens::{Problem, problem};
use serde_json::{Map, Value};
use std::collections::HashMap;
use tokenizers::{Model, ModelWrapper};

/// Pieces whose tokens are remembered within a text.
const REMEMBERED: usize = 1 << 16;
/// Longest piece that is remembered, in bytes.
const LONGEST_REMEMBERED: usize = 64;

/// A model that the tokenizers crate runs.
#[derive(Clone, Debug)]
pub struct Library {
    built: tokenizers::Tokenizer,
    /// What goes before the model; where it isn't known, the crate does it all.
    steps: Option<Steps>,
    /// How tokens become text.
    pub style: Style,
    unknown: Option<u32>,
}

impl Library {
    /// The tokenizers crate on what `guard` has checked, without what we do ourselves.
    ///
    /// # Errors
    /// The field that is wrong, and how.
    pub fn new(mut all: Map<String, Value>, unknown: Option<u32>) -> Result<Library, Problem> {
        let (style, steps) = (Style::of(&all), Steps::of(&all));
        for key in ["truncation", "padding", "post_processor", "decoder"] {
            all.insert(key.into(), Value::Null);
        }
        all.insert("added_tokens".into(), Value::Array(Vec::new()));
        let built = serde_json::from_value::<tokenizers::Tokenizer>(Value::Object(all));
        let built = built.map_err(|e| problem("the file", e.to_string()))?;
        Ok(Library { built, steps, style, unknown })
    }

    /// Tokens of `text`, onto `out`.
    pub fn encode(&self, text: &str, before: Before, out: &mut Vec<u32>) {
        let Some(steps) = &self.steps else {
            match self.built.encode_fast(text, false) {
                Ok(encoded) => out.extend_from_slice(encoded.get_ids()),
                Err(_) => out.extend(self.unknown),
            }
            return;
        };
        let mut seen: HashMap<Box<str>, (usize, usize)> = HashMap::new();
        steps.run(text, before == Before::Nothing, &mut |piece| {
            if let Some((from, to)) = seen.get(piece) {
                return out.extend_from_within(*from..*to);
            }
            let from = out.len();
            let model: &ModelWrapper = self.built.get_model();
            match model.tokenize(piece) {
                Ok(tokens) => out.extend(tokens.into_iter().map(|token| token.id)),
                Err(_) => out.extend(self.unknown),
            }
            if piece.len() <= LONGEST_REMEMBERED && seen.len() < REMEMBERED {
                seen.insert(piece.into(), (from, out.len()));
            }
        });
    }
}

/// How the texts of a tokenizer.json's tokens become text again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// They are names of bytes.
    Bytes,
    /// U+2581 is a space.
    Sentence,
    /// Those that begin with this go on with a word; before others there is a space.
    Words(String),
    /// This ends words.
    Ending(String),
}

impl Style {
    /// That of a checked tokenizer.json.
    fn of(all: &Map<String, Value>) -> Style {
        let model = all.get("model");
        let text = |key: &str| model.and_then(|m| m.get(key)).and_then(Value::as_str).filter(|text| !text.is_empty());
        let (mut steps, mut all_steps) = (Vec::new(), Vec::new());
        json::flatten(all.get("decoder"), "decoders", &mut steps);
        all_steps.extend(steps.into_iter().filter_map(json::kind));
        match text("end_of_word_suffix") {
            Some(ending) => Style::Ending(ending.into()),
            None if all_steps.contains(&"ByteLevel") => Style::Bytes,
            None if all_steps.contains(&"Metaspace") || all_steps.contains(&"ByteFallback") => Style::Sentence,
            None => Style::Words(text("continuing_subword_prefix").unwrap_or("\0").into()),
        }
    }

    /// The bytes of a token with this text.
    pub fn bytes(&self, text: &str) -> Vec<u8> {
        match self {
            Style::Bytes => pieces::bytes_named(text),
            Style::Sentence => text.replace(SPACE, " ").into_bytes(),
            Style::Words(going_on) => match text.strip_prefix(going_on.as_str()) {
                Some(rest) => rest.into(),
                None => format!(" {text}").into_bytes(),
            },
            Style::Ending(ending) => text.replace(ending.as_str(), " ").into_bytes(),
        }
    }
}
