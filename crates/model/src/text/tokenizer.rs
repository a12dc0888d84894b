//! From text to tokens: a character or a byte a token, or byte-pair encoding trained on the text itself.
#![forbid(unsafe_code)]

use super::Vocabulary;
use super::vocab::name_of;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Trained};

/// The token that ends a document and fills up rows, in every tokenizer.
pub const END: u32 = 0;
/// Its name in byte-pair encoding.
const END_NAME: &str = "<|end|>";
/// `ascii`'s token of every character above 127.
const OTHER: u32 = 127;
/// Tokens that byte-pair encoding begins with: the end, and every byte.
pub const SMALLEST_VOCABULARY: usize = 257;

/// Texts are trained on in pieces of about this many bytes.
const PIECE: usize = 1 << 14;

/// From text to tokens.
#[derive(Clone, Debug)]
pub enum Tokenizer {
    /// A character a token: its code up to 127, and 127 above.
    Ascii,
    /// A byte a token.
    Byte,
    /// Byte-pair encoding over bytes, words cut as in GPT-2 (Sennrich et al. 2016; Radford et al. 2019).
    Bpe(Box<Pairs>),
}

/// Byte-pair encoding of a tokenizer.json.
#[derive(Clone, Debug)]
pub struct Pairs {
    vocabulary: Vocabulary,
    json: String,
}

impl Pairs {
    /// Its tokens.
    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }
}

impl Tokenizer {
    /// Byte-pair encoding of `vocab_size` tokens at most, trained on `texts`. The same texts give the same tokens.
    ///
    /// # Errors
    /// What the tokenizers crate says.
    pub fn train<'a>(texts: impl Iterator<Item = &'a str>, vocab_size: usize) -> Result<Tokenizer, String> {
        let mut pairs = Trained::new(BPE::default());
        pairs.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        pairs.with_decoder(Some(ByteLevel::default()));
        let bytes: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .min_frequency(2)
            .vocab_size(vocab_size)
            .initial_alphabet(bytes)
            .special_tokens(vec![AddedToken::from(END_NAME, true)]);
        let all: Vec<&str> = texts.flat_map(pieces).collect();
        pairs.train(&mut TrainerWrapper::from(trainer.build()), all.into_iter()).map_err(|e| e.to_string())?;
        Self::from_json(&pairs.to_string(true).map_err(|e| e.to_string())?)
    }

    /// The tokenizer of a tokenizer.json that `to_json` has made of byte-pair encoding.
    ///
    /// # Errors
    /// The field that is wrong, and how.
    pub fn from_json(text: &str) -> Result<Tokenizer, String> {
        let vocabulary = Vocabulary::from_json(text).map_err(|problem| problem.to_string())?;
        Ok(Tokenizer::Bpe(Box::new(Pairs { vocabulary, json: text.into() })))
    }

    /// The tokenizer of a model folder, by its name there; `json` is its tokenizer.json.
    ///
    /// # Errors
    /// An unknown name, or what is wrong with the file.
    pub fn named(name: &str, json: &str) -> Result<Tokenizer, String> {
        match name {
            "ascii" => Ok(Tokenizer::Ascii),
            "byte" => Ok(Tokenizer::Byte),
            "bpe" => Self::from_json(json),
            _ => Err(format!("the tokenizer is of the kind `{name}`; ascii, byte and bpe are known")),
        }
    }

    /// Tokens of a text, in which the name of a special token is text like any other. Bytes that are no UTF-8 are only for
    /// `byte`.
    ///
    /// # Errors
    /// What is wrong with the text, with its line.
    pub fn encode(&self, bytes: &[u8]) -> Result<Vec<u32>, (Option<usize>, String)> {
        match self {
            Tokenizer::Byte => Ok(bytes.iter().map(|b| u32::from(*b)).collect()),
            Tokenizer::Ascii => Ok(utf8(bytes)?.chars().map(|c| if c.is_ascii() { c as u32 } else { OTHER }).collect()),
            // A text may speak of `<|end|>`; only what puts documents together ends one.
            Tokenizer::Bpe(pairs) => Ok(pairs.vocabulary.encode(utf8(bytes)?, false)),
        }
    }

    /// The bytes that a token stands for; none for one that ends documents or isn't there.
    pub fn bytes(&self, token: u32) -> Vec<u8> {
        match self {
            Tokenizer::Ascii if token == OTHER => "\u{fffd}".into(),
            Tokenizer::Ascii => u8::try_from(token).ok().filter(|b| *b != 0 && b.is_ascii()).into_iter().collect(),
            Tokenizer::Byte => u8::try_from(token).into_iter().collect(),
            Tokenizer::Bpe(pairs) => pairs.vocabulary.bytes(token, false),
        }
    }

    /// Bytes of text that a token stands for at most.
    pub fn longest_token_bytes(&self) -> usize {
        match self {
            // Any character is a token.
            Tokenizer::Ascii => char::MAX.len_utf8(),
            Tokenizer::Byte => 1,
            Tokenizer::Bpe(_) => {
                (0..self.vocab_size() as u32).map(|token| self.bytes(token).len()).max().unwrap_or(0).max(1)
            }
        }
    }

    /// How many tokens there are.
    pub fn vocab_size(&self) -> usize {
        match self {
            Tokenizer::Ascii => 128,
            Tokenizer::Byte => 256,
            Tokenizer::Bpe(pairs) => pairs.vocabulary.size(),
        }
    }

    /// tokenizer.json, as the tokenizers crate and its like read it: `ascii` and `byte` are byte-pair encodings without
    /// pairs.
    pub fn to_json(&self) -> String {
        let vocabulary = |tokens: Vec<String>| -> Map<String, Value> {
            tokens.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect()
        };
        let plain = |vocab: Map<String, Value>, unknown: Value, pre_tokenizer: Value, decoder: Value| {
            let model = json!({
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": [],
            });
            let all = json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
            });
            serde_json::to_string_pretty(&all).expect("it is plain data")
        };
        match self {
            Tokenizer::Ascii => {
                let tokens = (0..128u8).map(|b| char::from(b).to_string()).collect();
                let other = char::from(OTHER as u8).to_string();
                plain(vocabulary(tokens), other.into(), Value::Null, json!({"type": "Fuse"}))
            }
            Tokenizer::Byte => {
                let level =
                    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
                plain(
                    vocabulary((0..=255).map(|byte| name_of(byte).to_string()).collect()),
                    Value::Null,
                    level.clone(),
                    level,
                )
            }
            Tokenizer::Bpe(pairs) => pairs.json.clone(),
        }
    }

    /// Its name in configurations.
    pub fn name(&self) -> &'static str {
        match self {
            Tokenizer::Ascii => "ascii",
            Tokenizer::Byte => "byte",
            Tokenizer::Bpe(_) => "bpe",
        }
    }
}

/// Text, or the line of the first byte that is none.
pub fn utf8(bytes: &[u8]) -> Result<&str, (Option<usize>, String)> {
    std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        (Some(line), "not valid UTF-8; any bytes can be read with data.tokenizer=\"byte\"".into())
    })
}

/// A text in pieces, cut where a single line end stands between two words: no token of byte-pair encoding goes over it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let may_cut = |at: &usize| {
            let solid = |i: usize| bytes.get(i).is_some_and(|b| b.is_ascii_graphic());
            bytes[*at - 1] == b'\n' && solid(*at) && *at >= 2 && solid(*at - 2)
        };
        let cut = (PIECE..bytes.len()).find(may_cut).unwrap_or(bytes.len());
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "The cat sat on the mat, and the cat ate.\n\n  Then the cat slept: été, 猫.\n";

    fn read(json: &str) -> Trained {
        json.parse().unwrap()
    }

    #[test]
    fn plain_tokenizers_are_the_same_as_their_files() {
        let ascii = Tokenizer::Ascii.encode(TEXT.as_bytes()).unwrap();
        assert_eq!(ascii.iter().filter(|t| **t == OTHER).count(), 3);
        assert_eq!(read(&Tokenizer::Ascii.to_json()).encode(TEXT, false).unwrap().get_ids(), ascii);
        let byte = Tokenizer::Byte.encode(TEXT.as_bytes()).unwrap();
        let file = read(&Tokenizer::Byte.to_json());
        assert_eq!(file.encode(TEXT, false).unwrap().get_ids(), byte);
        assert_eq!(file.decode(&byte, false).unwrap(), TEXT);
        assert_eq!(file.get_vocab_size(true), 256);
    }

    #[test]
    fn trained_pairs_are_the_same_each_time_and_give_back_the_text() {
        let long = TEXT.repeat(2000);
        let train = || Tokenizer::train([long.as_str(), TEXT].into_iter(), 300).unwrap();
        let (first, second) = (train(), train());
        assert_eq!(first.to_json(), second.to_json());
        let tokens = first.encode(long.as_bytes()).unwrap();
        let pairs = read(&first.to_json());
        let back: Vec<u8> = tokens.iter().flat_map(|token| first.bytes(*token)).collect();
        assert_eq!(String::from_utf8(back).unwrap(), long);
        assert!(pairs.get_vocab_size(true) <= 300 && tokens.iter().all(|t| *t < 300 && *t != END));
        assert!(tokens.len() < long.len() / 2, "{} tokens for {} bytes", tokens.len(), long.len());
        assert_eq!(pairs.decode(&tokens, false).unwrap(), long);
        assert_eq!(tokens.iter().map(|t| first.bytes(*t).len()).sum::<usize>(), long.len());
        assert!(first.bytes(END).is_empty());
        let longest = tokens.iter().map(|t| first.bytes(*t).len()).max().unwrap();
        assert!((longest..20).contains(&first.longest_token_bytes()), "{}", first.longest_token_bytes());
        // As the library has them, and read from its file.
        assert_eq!(pairs.encode(long.as_str(), false).unwrap().get_ids(), tokens);
        let stored = Tokenizer::from_json(&first.to_json()).unwrap();
        assert_eq!(stored.encode(long.as_bytes()).unwrap(), tokens);
    }

    #[test]
    fn the_name_of_the_end_within_a_text_is_text() {
        let speaks_of_it = format!("{TEXT}<|end|> and{END_NAME}<|end|>\n");
        let trained = Tokenizer::train([TEXT, speaks_of_it.repeat(50).as_str()].into_iter(), 300).unwrap();
        let read = Tokenizer::from_json(&trained.to_json()).unwrap();
        for tokenizer in [Tokenizer::Ascii, trained, read] {
            let tokens = tokenizer.encode(speaks_of_it.as_bytes()).unwrap();
            assert!(!tokens.contains(&END), "{}", tokenizer.name());
            let back: Vec<u8> = tokens.iter().flat_map(|token| tokenizer.bytes(*token)).collect();
            assert!(String::from_utf8(back).unwrap().ends_with("<|end|> and<|end|><|end|>\n"), "{}", tokenizer.name());
        }
    }

    #[test]
    fn bytes_of_tokens() {
        assert_eq!(Tokenizer::Ascii.bytes(65), b"A");
        assert_eq!(Tokenizer::Byte.bytes(200), [200]);
        assert!(Tokenizer::Ascii.bytes(0).is_empty() && Tokenizer::Byte.bytes(256).is_empty());
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_line() {
        let (line, what) = Tokenizer::Ascii.encode(b"one\ntwo\xff\n").unwrap_err();
        assert!(line == Some(2) && what.starts_with("not valid UTF-8"), "{what}");
        assert_eq!(Tokenizer::Byte.encode(b"\xff").unwrap(), [255]);
    }

    #[test]
    fn pieces_are_the_text() {
        let text = "word\n\nword\n  word\nword ".repeat(5000);
        assert!(pieces(&text).count() > 3 && pieces(&text).collect::<String>() == text);
    }
}
