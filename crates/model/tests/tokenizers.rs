//! tokenizer.json files: the ids of the tokenizers library (peers/tokenizer_goldens.py), and files that are wrong.

#[path = "tokenizers/cases.rs"]
mod cases;

use cases::with;
use model::text::{Stream, Vocabulary};
use serde_json::{Value, json};
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
fn added_tokens_take_white_space_and_stand_alone_as_in_the_library() {
    let token = |id: u32, content: &str, key: &str, special: bool| {
        let mut token = json!({"id": id, "content": content, "normalized": false, "special": special});
        token[key] = true.into();
        token
    };
    let added = json!([
        token(455, "<mask>", "lstrip", true),
        token(456, "<r>", "rstrip", true),
        token(260, "cat", "single_word", false)
    ]);
    let vocabulary = Vocabulary::from_json(&with("gpt2", "/added_tokens", added)).unwrap();
    // What the library gives for the same file.
    let cases: [(&str, &[u32]); 6] = [
        ("the  <mask> cat", &[270, 455, 221, 260]),
        ("cats cat", &[260, 83, 221, 260]),
        ("cat", &[260]),
        ("_cat cat_ (cat)", &[63, 260, 264, 63, 221, 8, 260, 9]),
        ("a <r>  <mask>\n<mask> b<r> cat", &[65, 221, 456, 455, 455, 221, 66, 456, 260]),
        (" <mask>", &[455]),
    ];
    for (text, ids) in cases {
        assert_eq!(vocabulary.encode(text, true), ids, "{text:?}");
    }
}

#[test]
fn one_character_again_and_again_takes_a_second_at_most() {
    let goldens: serde_json::Value = serde_json::from_str(&file("goldens")).unwrap();
    for name in goldens["ids"].as_object().unwrap().keys() {
        let vocabulary = Vocabulary::from_json(&file(name)).unwrap();
        for one in ["a", " ", "\n", "0", "\u{e9}", "\u{6f22}", "\u{1F600}", "\u{301}", "!", "\u{2581}", "\u{200d}"] {
            // A quarter of a MiB, so that a machine that does other things too has time; squared, it would take minutes.
            let text = one.repeat((1 << 18) / one.len());
            let start = Instant::now();
            let ids = vocabulary.encode(&text, false);
            assert!(start.elapsed() < Duration::from_secs(1), "{name}: {one:?} took {:?}", start.elapsed());
            vocabulary.decode(&ids, false);
        }
    }
}

#[test]
fn what_comes_token_by_token_is_what_comes_at_once() {
    let goldens: serde_json::Value = serde_json::from_str(&file("goldens")).unwrap();
    let random = Philox::new(3, "stream");
    let mut split = 0;
    for (round, name) in (0u64..).zip(goldens["ids"].as_object().unwrap().keys()) {
        let vocabulary = Vocabulary::from_json(&file(name)).unwrap();
        let count = vocabulary.size() as u32;
        // Ids by chance make bytes that are no text; those of a text make characters.
        let chance: Vec<u32> = (0..20_000).map(|i| random.below(round << 32 | i, count)).collect();
        let text = "na\u{ef}ve \u{732b}\u{1F600}\u{1F44D}\u{1F3FD} ".repeat(50);
        for (ids, characters) in [(chance, false), (vocabulary.encode(&text, false), true)] {
            let (mut decoder, mut stream) = (vocabulary.decoder(true), Stream::default());
            let mut shown: Vec<String> = ids.iter().map(|id| stream.push(&decoder.push(*id))).collect();
            split += shown.iter().filter(|part| part.is_empty()).count();
            shown.push(stream.finish());
            let whole = vocabulary.decode(&ids, true);
            assert_eq!(shown.concat(), String::from_utf8_lossy(&whole), "{name}");
            if characters && std::str::from_utf8(&whole).is_ok_and(|whole| !whole.contains('\u{fffd}')) {
                assert!(shown.iter().all(|part| !part.contains('\u{fffd}')), "{name}");
            }
        }
    }
    assert!(split > 1000, "only {split} tokens ended within a character");
}

#[test]
fn what_is_wrong_is_named() {
    for (case, text, said) in cases::cases() {
        let start = Instant::now();
        let error = Vocabulary::from_json(&text).map(|_| ()).expect_err(case).to_string();
        assert!(start.elapsed() < Duration::from_secs(1), "{case}: {:?}", start.elapsed());
        for said in said {
            assert!(error.contains(said), "{case}: no {said:?} in {error}");
        }
    }
}

#[test]
fn patterns_that_look_like_bombs_take_linear_time() {
    let mut taken = 0;
    for pattern in ["(a+)+$", "(a|aa)+$", "(a*)*b|a"] {
        let step = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let steps = json!({"type": "Sequence", "pretokenizers": [step, {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
        let text = format!("{}!", "a".repeat(3000));
        let Ok(vocabulary) = Vocabulary::from_json(&with("gpt2", "/pre_tokenizer", steps)) else { continue };
        taken += 1;
        let start = Instant::now();
        assert_eq!(vocabulary.decode(&vocabulary.encode(&text, false), false), text.as_bytes());
        assert!(start.elapsed() < Duration::from_secs(2), "{pattern}: {:?}", start.elapsed());
    }
    assert_eq!(taken, 3);
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

/// What a change may put in.
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
    "\"WordLevel\"",
    "\"Split\"",
    "\"Sequence\"",
    "\"Metaspace\"",
    "\"Digits\"",
    "\"ByteLevel\"",
    "\"FixedLength\"",
    "\"Whitespace\"",
    "\"TemplateProcessing\"",
    "\"type\"",
    "\"Replace\"",
    "\"Removed\"",
    "\"\\ud800\"",
    "\\u0000",
    "a+",
    "(?=a)",
];

/// Values of a file in order.
fn places(value: &Value, path: String, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| places(value, format!("{path}/{key}"), into));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| places(value, format!("{path}/{at}"), into))
        }
        _ => {}
    }
    into.push(path);
}

/// A file that is still JSON: some of its values are replaced by others of the files, or by words.
fn exchange(random: &Philox, round: u64, seeds: &[Value]) -> String {
    let mut drawn = round * 64;
    let mut draw = |below: usize| {
        drawn += 1;
        random.below(drawn, u32::try_from(below.max(1)).unwrap()) as usize
    };
    let mut all = seeds[draw(seeds.len())].clone();
    for _ in 0..1 + draw(3) {
        let (mut to, mut from) = (Vec::new(), Vec::new());
        let other = &seeds[draw(seeds.len())];
        places(&all, String::new(), &mut to);
        places(other, String::new(), &mut from);
        let new = match draw(3) {
            0 => serde_json::from_str(WORDS[draw(WORDS.len())]).unwrap_or(json!("\u{e9}(")),
            _ => other.pointer(&from[draw(from.len())]).cloned().unwrap_or_default(),
        };
        if let Some(place) = all.pointer_mut(&to[draw(to.len())]) {
            *place = new;
        }
    }
    all.to_string()
}

/// Files that are changed: `None` for one that isn't text, else whether it could be used.
fn changed(seeds: &[Value], round: u64) -> Option<bool> {
    let random = Philox::new(11, "tokenizer.json");
    let text = if round.is_multiple_of(2) {
        let seed = seeds[(round / 2) as usize % seeds.len()].to_string();
        String::from_utf8(mutate(&random, round, seed.as_bytes(), WORDS)).ok()?
    } else {
        exchange(&random, round, seeds)
    };
    let start = Instant::now();
    let vocabulary = Vocabulary::from_json(&text);
    if let Ok(vocabulary) = &vocabulary {
        let ids = vocabulary.encode("ab ba\u{e9} [UNK]  a", round % 4 < 2);
        assert!(ids.iter().all(|id| (*id as usize) < vocabulary.size()), "round {round}: {text}");
        vocabulary.decode(&ids, true);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "round {round}: {:?}: {text}", start.elapsed());
    Some(vocabulary.is_ok())
}

fn tiny_files() -> Vec<Value> {
    let names = ["tiny_bpe", "tiny_bert", "tiny_unigram", "tiny_words", "tiny_pairs"];
    names.iter().map(|name| serde_json::from_str(&tiny(name)).unwrap()).collect()
}

#[test]
fn changed_files_are_refused_or_work() {
    const ROUNDS: u64 = 100_000;
    let (seeds, start) = (tiny_files(), Instant::now());
    let good = std::thread::scope(|scope| {
        let part = |from: u64| {
            let seeds = &seeds;
            scope.spawn(move || (from..ROUNDS).step_by(2).filter(|round| changed(seeds, *round) == Some(true)).count())
        };
        [part(0), part(1)].map(|part| part.join().unwrap()).iter().sum::<usize>()
    });
    println!("{ROUNDS} changed files, {good} still good, {:?}", start.elapsed());
    assert!(good > ROUNDS as usize / 100, "only {good} were good enough to be used");
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
        "tiny_words" => {
            let model = json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2, "ab": 3, "ba": 4}});
            let rules = json!([{"type": "Whitespace"}, {"type": "Digits", "individual_digits": true},
                {"type": "Split", "pattern": {"Regex": "a|b"}, "behavior": "MergedWithPrevious", "invert": false},
                {"type": "Punctuation", "behavior": "Isolated"}]);
            let parts = json!([{"type": "Replace", "pattern": {"String": "a"}, "content": "b"},
                {"type": "Strip", "content": " ", "start": 0, "stop": 1}, {"type": "Fuse"}]);
            (model, json!({"type": "Sequence", "pretokenizers": rules}), json!({"type": "Sequence", "decoders": parts}))
        }
        "tiny_pairs" => {
            let model = json!({"type": "BPE", "dropout": null, "unk_token": "a", "continuing_subword_prefix": "#",
                "end_of_word_suffix": "$", "fuse_unk": true, "byte_fallback": false,
                "vocab": {"a": 0, "#b": 1, "ab": 2, "b": 3, "#a$": 4}, "merges": ["a #b"]});
            (model, json!({"type": "FixedLength", "length": 3}), json!({"type": "BPEDecoder", "suffix": "$"}))
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
        "pre_tokenizer": rule, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"a": {"id": "a", "ids": [1], "tokens": ["a"]}}}, "decoder": decoder, "model": model})
    .to_string()
}

#[test]
fn texts_are_read_however_they_are_written() {
    let plain = with("words", "/model/vocab", json!({"<unk>": 0, "a": 1, "\u{e9}\"": 2}));
    let escaped = plain.replace("\"a\":1", "\"\\u0061\":1").replace("\u{e9}", "\\u00e9");
    assert_ne!(plain, escaped);
    for text in [&plain, &escaped] {
        let vocabulary = Vocabulary::from_json(text).unwrap();
        let texts: Vec<_> = (0..3).map(|id| vocabulary.token(id).unwrap().0).collect();
        assert_eq!(texts, ["<unk>", "a", "\u{e9}\""]);
    }
    // Merges in both of their forms, and before the tokens.
    let mut gpt2: Value = serde_json::from_str(&file("gpt2")).unwrap();
    let model = gpt2["model"].as_object_mut().unwrap();
    let pairs: Vec<Value> = model["merges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|merge| match merge {
            Value::String(merge) => json!(merge.split(' ').collect::<Vec<_>>()),
            pair => json!(format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())),
        })
        .collect();
    let vocab = model.shift_remove("vocab").unwrap();
    model["merges"] = pairs.into();
    model.insert("vocab".into(), vocab);
    let (one, other) =
        (Vocabulary::from_json(&file("gpt2")).unwrap(), Vocabulary::from_json(&gpt2.to_string()).unwrap());
    let text = "The cat isn't thereafter, na\u{ef}ve.";
    assert_eq!(one.encode(text, false), other.encode(text, false));
}

#[test]
fn a_large_vocabulary_is_read_soon() {
    // As many tokens and merges as Gemma 3's, in 30 MB.
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    let mut texts: Vec<String> = (0..=255u8).map(|byte| name_of(byte).to_string()).collect();
    let mut merges = Vec::new();
    for a in &letters {
        for b in &letters {
            texts.push(format!("{a}{b}"));
            merges.push(json!([a.to_string(), b.to_string()]));
        }
    }
    'all: for a in &letters {
        for b in &letters {
            for c in &letters {
                for d in &letters {
                    if texts.len() == 262_144 {
                        break 'all;
                    }
                    texts.push(format!("{a}{b}{c}{d}"));
                    merges.push(json!([format!("{a}{b}"), format!("{c}{d}")]));
                }
            }
        }
    }
    let mut all: Value = serde_json::from_str(&file("gpt2")).unwrap();
    all["added_tokens"] = json!([]);
    all["model"]["vocab"] = texts.iter().enumerate().map(|(id, text)| (text.clone(), Value::from(id))).collect();
    all["model"]["merges"] = merges.iter().chain(&merges).cloned().collect();
    let text = serde_json::to_string_pretty(&all).unwrap();
    let start = Instant::now();
    let vocabulary = Vocabulary::from_json(&text).unwrap();
    println!("{} MB in {:?}", text.len() / 1_000_000, start.elapsed());
    assert_eq!(vocabulary.size(), 262_144);
    assert_eq!(vocabulary.encode("abcd", false).len(), 1);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// The character that stands for a byte.
fn name_of(byte: u8) -> char {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let before = (0..byte).filter(|byte| !is_plain(*byte)).count() as u32;
    if is_plain(byte) { char::from(byte) } else { char::from_u32(256 + before).unwrap() }
}
