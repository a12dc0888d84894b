//! SentencePiece's BPE between GGUF, which has a score a token, and tokenizer.json, which has the merges that follow from them.
#![forbid(unsafe_code)]

use super::bytes::merges;
use super::{Keys, Parts, tokens};
use crate::text::Vocabulary;
use crate::text::vocab::{Kind, Prefix, SPACE, scored_pairs};
use serde_json::{Map, Value as Json, json};
use std::collections::HashSet;
use tensor::file::gguf::{Array, Metadata};

/// The parts of tokenizer.json.
pub(super) fn parts(vocabulary: &Vocabulary, metadata: &Metadata) -> Result<Parts, String> {
    let text = |id: u32| vocabulary.token(id).map(|(text, _)| text).unwrap_or_default();
    let pairs = scored_pairs(metadata).map_err(|e| e.to_string())?;
    let merges: Vec<Json> = pairs.iter().map(|[left, right, _]| json!([text(*left), text(*right)])).collect();
    let has_bytes = (0u32..).map_while(|id| vocabulary.token(id)).any(|(_, kind)| kind == Kind::Byte);
    let (space, prefixed) = (SPACE.to_string(), vocabulary.prefix() == Some(Prefix::Always));
    let escape = json!({ "type": "Replace", "pattern": { "String": " " }, "content": space });
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": space }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefixed {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let model = [
        ("type", json!("BPE")),
        ("dropout", Json::Null),
        ("unk_token", json!(vocabulary.special().unknown.map(text))),
        ("continuing_subword_prefix", Json::Null),
        ("end_of_word_suffix", Json::Null),
        ("fuse_unk", json!(false)),
        ("byte_fallback", json!(has_bytes)),
        ("ignore_merges", json!(false)),
        ("merges", Json::Array(merges)),
    ];
    Ok(Parts {
        normalizer: match prefixed {
            true => json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": space }, escape] }),
            false => escape,
        },
        pre_tokenizer: Json::Null,
        decoder: json!({ "type": "Sequence", "decoders": decoders }),
        model: Map::from_iter(model.map(|(key, value)| (key.to_string(), value))),
        holds_added: true,
    })
}

/// GGUF's keys of a tokenizer.json whose merges are those that scores would give.
pub(super) fn keys(vocabulary: &Vocabulary, all: &Json, prefix: Prefix, vocab_size: usize) -> Result<Keys, String> {
    const OTHERS: &str = "its merges are not those of SentencePiece, all pairs of tokens that are a token";
    let model = all.get("model").ok_or("it has no model")?;
    let (tokens, kinds) = tokens(vocabulary, vocab_size)?;
    let id = |text: &str| vocabulary.id(text).ok_or("its merges are no tokens");
    let (mut listed, mut scores, mut rank, mut last) = (HashSet::new(), vec![f32::MIN; tokens.len()], 0f32, None);
    for [left, right] in merges(model)? {
        let merged = id(&[left, right].concat())?;
        listed.insert((id(left)?, id(right)?));
        if last != Some(merged) {
            let score = scores.get_mut(merged as usize).filter(|score| **score == f32::MIN).ok_or(OTHERS)?;
            // Whole numbers that f32 holds: there are at most a million merges.
            *score = -rank;
            (rank, last) = (rank + 1.0, Some(merged));
        }
    }
    // What no merge makes comes after all that one does, as in SentencePiece's files.
    scores.iter_mut().filter(|score| **score == f32::MIN).for_each(|score| *score = -rank);
    let prefixed = prefix != Prefix::Never;
    let warning = "a text that begins with a space gets another one in GGUF, which it doesn't in tokenizer.json";
    let keys = Keys {
        model: "llama",
        pre: "default",
        lists: vec![
            ("tokenizer.ggml.tokens", Array::String(tokens)),
            ("tokenizer.ggml.scores", Array::F32(scores)),
            ("tokenizer.ggml.token_type", Array::I32(kinds)),
        ],
        flags: vec![("tokenizer.ggml.add_space_prefix", prefixed)],
        warning: (prefixed && prefix != Prefix::Always).then_some(warning),
    };
    let mut metadata = Metadata::default();
    keys.lists.iter().for_each(|(key, list)| metadata.set(*key, tensor::file::gguf::Value::Array(list.clone())));
    let pairs = scored_pairs(&metadata).map_err(|e| e.to_string())?;
    let all_listed = pairs.iter().all(|[left, right, _]| listed.contains(&(*left, *right)));
    all_listed.then_some(keys).ok_or_else(|| OTHERS.into())
}
