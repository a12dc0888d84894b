//! tokenizer.json files: the ids of the tokenizers library (peers/tokenizer_goldens.py), and files that are wrong.

#[path = "tokenizers/cases.rs"]
mod cases;

use cases::with;
use model::text::Vocabulary;
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tensor::rng::Philox;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()
}

#[test]
fn ids_are_those_of_the_library() {
    #[derive(serde::Deserialize)]
    struct Goldens {
        texts: Vec<String>,
        ids: HashMap<String, Vec<Vec<u32>>>,
    }
    let goldens: Goldens = serde_json::from_str(&file("goldens")).unwrap();
    assert!(goldens.ids.len() >= 11);
    for (name, cases) in &goldens.ids {
        let vocabulary = Vocabulary::from_json(&file(name)).unwrap();
        for (text, ids) in goldens.texts.iter().zip(cases) {
            assert_eq!(&vocabulary.encode(text, false), ids, "{name}: {text:?}");
            let back = String::from_utf8_lossy(&vocabulary.decode(ids, false)).into_owned();
            if ["gpt2", "llama3", "digits", "llama2"].contains(&name.as_str()) && !text.contains('\u{2581}') {
                assert_eq!(back, *text, "{name}");
            }
        }
    }
    let llama3 = Vocabulary::from_json(&file("llama3")).unwrap();
    assert_eq!(llama3.surround(vec![7]), [0, 7]);
    assert_eq!(llama3.encode("<|end|>", true), [0]);
    assert!(!llama3.encode("<|end|>", false).contains(&0));
    let bert = Vocabulary::from_json(&file("bert")).unwrap();
    assert_eq!(bert.surround(vec![9]), [2, 9, 3]);
    assert!(bert.encode("[SEP] [MASK]", false).iter().all(|id| *id == 1 || *id > 4));
}

#[test]
fn what_is_wrong_is_named() {
    for (case, text, said) in cases::cases() {
        let start = Instant::now();
        let error = Vocabulary::from_json(&text).expect_err(case).to_string();
        assert!(start.elapsed() < Duration::from_secs(5), "{case}: {:?}", start.elapsed());
        for said in said {
            assert!(error.contains(said), "{case}: no {said:?} in {error}");
        }
    }
}

#[test]
fn patterns_that_look_like_bombs_take_linear_time() {
    for pattern in ["(a+)+$", "(a|aa)+$", "(a*)*b|a"] {
        let step = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps = json!({"type": "Sequence", "pretokenizers": [step, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        let text = format!("{}!", "a".repeat(3000));
        let Ok(vocabulary) = Vocabulary::from_json(&with("gpt2", "/pre_tokenizer", steps)) else { continue };
        let start = Instant::now();
        assert_eq!(vocabulary.decode(&vocabulary.encode(&text, false), false), text.as_bytes());
        assert!(start.elapsed() < Duration::from_secs(2), "{pattern}: {:?}", start.elapsed());
    }
}

#[test]
fn hard_texts_are_taken() {
    for name in ["gpt2", "llama3", "llama2"] {
        let vocabulary = Vocabulary::from_json(&file(name)).unwrap();
        for text in ["a".repeat(1 << 20), "\0\u{10ffff}\u{fffd}".repeat(1000), "thecat".repeat(50_000)] {
            assert_eq!(vocabulary.decode(&vocabulary.encode(&text, false), false), text.as_bytes(), "{name}");
        }
    }
}

/// One of many small changes to the bytes of a file.
fn mutate(random: &Philox, round: u64, seed: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let mut drawn = round * 64;
    let mut draw = |below: usize| {
        drawn += 1;
        random.below(drawn, u32::try_from(below.max(1)).unwrap()) as usize
    };
    for _ in 0..1 + draw(3) {
        let at = draw(bytes.len());
        match draw(6) {
            0 => bytes[at] = draw(256) as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..(at + draw(12)).min(bytes.len()))),
            3 => {
                let part = bytes[at..(at + draw(40)).min(bytes.len())].to_vec();
                let to = draw(bytes.len());
                bytes.splice(to..to, part);
            }
            4 => bytes[at] = b"0123456789-{}[],:\"e."[draw(20)],
            _ => {
                let word = words[draw(words.len())].as_bytes();
                let end = (at + draw(2) * word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
        }
        if bytes.is_empty() {
            return bytes;
        }
    }
    bytes
}

#[test]
fn changed_files_are_refused_or_work() {
    const WORDS: &[&str] = &[
        "null",
        "-1",
        "0",
        "4294967296",
        "1e400",
        "true",
        "\"\"",
        "[]",
        "{}",
        "\"BPE\"",
        "\"Unigram\"",
        "\"WordPiece\"",
        "\"Split\"",
        "\"Sequence\"",
        "\"Metaspace\"",
        "\"Digits\"",
        "\"type\"",
        "\"Replace\"",
        "\"\\ud800\"",
        "\\u0000",
        "a+",
    ];
    let seeds: Vec<Vec<u8>> = ["tiny_bpe", "tiny_bert", "tiny_unigram"].map(|name| tiny(name).into_bytes()).into();
    let random = Philox::new(11, "tokenizer.json");
    let rounds = if cfg!(debug_assertions) { 100_000 } else { 400_000 };
    let (mut good, start) = (0, Instant::now());
    for round in 0..rounds {
        let seed = &seeds[(round % 3) as usize];
        let bytes = mutate(&random, round, seed, WORDS);
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        if let Ok(vocabulary) = Vocabulary::from_json(text) {
            good += 1;
            let ids = vocabulary.encode("ab ba\u{e9} [UNK]  a", round % 2 == 0);
            assert!(ids.iter().all(|id| (*id as usize) < vocabulary.size()), "{text}");
            vocabulary.decode(&ids, true);
        }
    }
    println!("{rounds} changed files, {good} still good, {:?}", start.elapsed());
    assert!(good > rounds / 100, "only {good} were good enough to be used");
}

/// A tokenizer of a few tokens.
fn tiny(name: &str) -> String {
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let (model, rule, decoder) = match name {
        "tiny_bpe" => {
            let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": {"a": 0, "b": 1, "ab": 2, "\u{120}": 3, "\u{120}b": 4}, "merges": [["a", "b"], ["\u{120}", "b"]]});
            (model, level.clone(), level)
        }
        "tiny_bert" => {
            let model = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "ab": 3, "##a": 4}});
            (model, json!({"type": "BertPreTokenizer"}), json!({"type": "WordPiece", "prefix": "##", "cleanup": true}))
        }
        _ => {
            let model = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
                "vocab": [["<unk>", 0.0], ["\u{2581}", -1.5], ["a", -2.0], ["b", -2.5], ["\u{2581}ab", -3.0]]});
            let space =
                json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
            (model, space.clone(), space)
        }
    };
    json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 5, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"String": "c"}, "content": "a"}]},
        "pre_tokenizer": rule, "post_processor": null, "decoder": decoder, "model": model})
    .to_string()
}
