//! Byte-level BPE between GGUF's keys and tokenizer.json.
#![forbid(unsafe_code)]

use super::{Keys, Parts, tokens};
use crate::text::Vocabulary;
use serde_json::{Map, Value as Json, json};
use tensor::file::gguf::{Array, Metadata, Value};

/// How text is cut before pairs are merged: GGUF's name of it, and tokenizer.json's pattern.
const CUTS: &[(&str, &str)] = &[
    (
        "llama-bpe",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "tekken",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    ("gpt-2", ""),
];

/// The parts of tokenizer.json.
pub(super) fn parts(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Parts, String> {
    let cut = metadata.get("tokenizer.ggml.pre").and_then(Value::text).unwrap_or("gpt-2");
    let Some((_, pattern)) = CUTS.iter().find(|(name, _)| *name == cut) else {
        return Err(format!("how it cuts text, `{cut}`, has no pattern here"));
    };
    let merges = metadata.get("tokenizer.ggml.merges").and_then(Value::array).and_then(Array::strings);
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": pattern.is_empty() });
    let before = match *pattern {
        "" => bytes.clone(),
        _ => json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false }, bytes,
        ]}),
    };
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
        pre_tokenizer: before,
        decoder: bytes,
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
    let before = all.get("pre_tokenizer").map(Json::to_string).unwrap_or_default();
    let patterns = CUTS.iter().find(|(_, pattern)| !pattern.is_empty() && before.contains(&json!(pattern).to_string()));
    let plain = before.contains("ByteLevel") && !before.contains("Split") && !before.contains("\"use_regex\":false");
    let (cut, _) = patterns.or(CUTS.last().filter(|_| plain)).ok_or("how it cuts text is not known")?;
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
