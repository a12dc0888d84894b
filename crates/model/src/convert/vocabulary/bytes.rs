//! Byte-level BPE between GGUF's keys and tokenizer.json.
#![forbid(unsafe_code)]

use super::{Keys, Parts, tokens};
use crate::text::Vocabulary;
use serde_json::{Map, Value as Json, json};
use tensor::file::gguf::{Array, Metadata, Value};

/// A step that cuts text before pairs are merged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step<'p> {
    /// At what matches a pattern.
    Split(&'p str),
    /// Around each digit.
    Digits,
    /// By GPT-2's rules, and into bytes.
    Words,
    /// Into bytes.
    Bytes,
}

/// How text is cut: GGUF's name of it, and the steps of tokenizer.json.
const CUTS: &[(&str, &[Step])] = &[
    (
        "llama-bpe",
        &[
            Step::Split(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            Step::Bytes,
        ],
    ),
    (
        "qwen2",
        &[
            Step::Split(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            Step::Bytes,
        ],
    ),
    (
        "tekken",
        &[
            Step::Split(
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ),
            Step::Bytes,
        ],
    ),
    ("smollm", &[Step::Digits, Step::Words]),
    ("gpt-2", &[Step::Words]),
];

impl<'p> Step<'p> {
    /// What a step of a tokenizer.json is; nothing for those that no rule of GGUF's has.
    fn read(step: &'p Json) -> Option<Step<'p>> {
        let flag = |key: &str| step.get(key).and_then(Json::as_bool);
        Some(match step.get("type")?.as_str()? {
            "Split" if step.get("behavior")?.as_str() == Some("Isolated") && flag("invert") != Some(true) => {
                Step::Split(step.get("pattern")?.get("Regex")?.as_str()?)
            }
            "Digits" if flag("individual_digits") == Some(true) => Step::Digits,
            "ByteLevel" if flag("add_prefix_space") == Some(false) => match flag("use_regex") {
                Some(false) => Step::Bytes,
                _ => Step::Words,
            },
            _ => return None,
        })
    }

    fn json(self) -> Json {
        let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex });
        match self {
            Step::Split(pattern) => {
                json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
            }
            Step::Digits => json!({ "type": "Digits", "individual_digits": true }),
            Step::Words => bytes(true),
            Step::Bytes => bytes(false),
        }
    }
}

/// The parts of tokenizer.json.
pub(super) fn parts(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Parts, String> {
    let cut = metadata.get("tokenizer.ggml.pre").and_then(Value::text).unwrap_or("gpt-2");
    let Some((_, steps)) = CUTS.iter().find(|(name, _)| *name == cut) else {
        return Err(format!("how it cuts text, `{cut}`, has no steps here"));
    };
    let merges = metadata.get("tokenizer.ggml.merges").and_then(Value::array).and_then(Array::strings);
    let steps: Vec<Json> = steps.iter().map(|step| step.json()).collect();
    let unknown = vocabulary.special().unknown.and_then(|id| vocabulary.token(id)).map(|(text, _)| text);
    let model = [
        ("type", json!("BPE")),
        ("dropout", Json::Null),
        ("unk_token", json!(unknown)),
        ("continuing_subword_prefix", Json::Null),
        ("end_of_word_suffix", Json::Null),
        ("fuse_unk", json!(false)),
        ("byte_fallback", json!(false)),
        ("ignore_merges", json!(["llama-bpe", "tekken"].contains(&cut))),
        ("merges", json!(merges)),
    ];
    Ok(Parts {
        normalizer: if cut == "qwen2" { json!({ "type": "NFC" }) } else { Json::Null },
        pre_tokenizer: match steps.as_slice() {
            [step] => step.clone(),
            _ => json!({ "type": "Sequence", "pretokenizers": steps }),
        },
        decoder: Step::Words.json(),
        model: Map::from_iter(model.map(|(key, value)| (key.to_string(), value))),
        holds_added: unknown.is_some(),
    })
}

/// GGUF's keys of a tokenizer.json.
pub(super) fn keys(vocabulary: &Vocabulary, all: &Json, vocab_size: usize) -> Result<Keys, String> {
    let model = all.get("model").ok_or("it has no model")?;
    if model.get("type").and_then(Json::as_str) != Some("BPE") {
        return Err("it is neither byte-level BPE nor SentencePiece, the kinds that are converted".into());
    }
    let sequence = |step: &'_ Json| step.get("type").and_then(Json::as_str) == Some("Sequence");
    let before = all.get("pre_tokenizer").ok_or("how it cuts text is not said")?;
    let steps = if sequence(before) { before.get("pretokenizers").and_then(Json::as_array) } else { None };
    let steps: Option<Vec<Step>> =
        steps.map_or(std::slice::from_ref(before), Vec::as_slice).iter().map(Step::read).collect();
    let steps = steps.ok_or("how it cuts text has no name in GGUF")?;
    let (cut, _) = CUTS.iter().find(|(_, those)| **those == steps).ok_or("how it cuts text has no name in GGUF")?;
    // Qwen's files compose characters; GGUF has no word for it, and those who read it know by the rules' name.
    let composes = |normalizer: &Json| *cut == "qwen2" && normalizer.get("type").and_then(Json::as_str) == Some("NFC");
    if all.get("normalizer").is_some_and(|normalizer| !normalizer.is_null() && !composes(normalizer)) {
        return Err("it changes characters before it cuts them, which GGUF can't say".into());
    }
    let merges = merges(model)?.into_iter().map(|[left, right]| format!("{left} {right}")).collect();
    let (tokens, kinds) = tokens(vocabulary, vocab_size)?;
    Ok(of_lists(cut, tokens, kinds, merges))
}

/// GGUF's keys of tokens, their kinds and merges.
pub(super) fn of_lists(pre: &'static str, tokens: Vec<String>, kinds: Vec<i32>, merges: Vec<String>) -> Keys {
    let lists = vec![
        ("tokenizer.ggml.tokens", Array::String(tokens)),
        ("tokenizer.ggml.token_type", Array::I32(kinds)),
        ("tokenizer.ggml.merges", Array::String(merges)),
    ];
    Keys { model: "gpt2", pre, lists, flags: Vec::new(), warning: None }
}

/// Merges of a tokenizer.json's model, which writes them in two ways.
pub(super) fn merges(model: &Json) -> Result<Vec<[&str; 2]>, String> {
    let all = model.get("merges").and_then(Json::as_array).ok_or("it has no merges")?;
    let pairs: Option<Vec<[&str; 2]>> = all.iter().map(merge).collect();
    pairs.ok_or("its merges are no pairs".into())
}

fn merge(merge: &Json) -> Option<[&str; 2]> {
    match merge {
        Json::String(text) => text.split_once(' ').map(|(left, right)| [left, right]),
        pair => Some([pair.get(0)?.as_str()?, pair.get(1)?.as_str()?]),
    }
}
