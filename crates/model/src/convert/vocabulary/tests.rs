//! Tokenizers there and back: the same tokens and the same ids.

use super::*;
use tensor::rng::Philox;

/// A SentencePiece vocabulary of every part of some words, the more frequent and the longer first.
fn sentence(prefixed: bool, bytes: bool) -> Metadata {
    const WORDS: &str = "the cat and the dog and the caterpillar saw aaaa bananas in an underground theatre, \u{e9}t\u{e9} \u{6f22}\u{5b57}";
    let mut counts: Vec<(String, usize)> = Vec::new();
    for word in WORDS.split(' ') {
        let word = format!("\u{2581}{word}");
        let ends: Vec<usize> = word.char_indices().map(|(at, _)| at).chain([word.len()]).collect();
        for (i, from) in ends.iter().enumerate() {
            for to in ends.iter().skip(i + 1) {
                let part = &word[*from..*to];
                match counts.iter_mut().find(|(text, _)| text == part) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((part.into(), 1)),
                }
            }
        }
    }
    counts.sort_by_key(|(text, count)| std::cmp::Reverse(count * text.len()));
    let mut tokens: Vec<(String, i32, f32)> =
        vec![("<unk>".into(), 2, 0.0), ("<s>".into(), 3, 0.0), ("</s>".into(), 3, 0.0)];
    if bytes {
        tokens.extend((0..=255).map(|byte: u8| (format!("<0x{byte:02X}>"), 6, 0.0)));
    }
    tokens.push(("  ".into(), 4, -1000.0));
    tokens.push(("<|turn|>".into(), 3, -1000.0));
    tokens.extend(counts.into_iter().enumerate().map(|(rank, (text, _))| (text, 1, -(rank as f32))));
    tokens.extend((0..3).map(|i| (format!("[PAD{}]", tokens.len() + i), 5, -1e4)).collect::<Vec<_>>());
    let mut metadata = Metadata::default();
    metadata.set("tokenizer.ggml.model", Value::String("llama".into()));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens.iter().map(|t| t.0.clone()).collect())));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(tokens.iter().map(|t| t.1).collect())));
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(tokens.iter().map(|t| t.2).collect())));
    metadata.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
    metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(prefixed));
    metadata
}

fn vocabulary(metadata: &Metadata) -> Vocabulary {
    Vocabulary::from_gguf(metadata).expect("it is good").expect("it has tokens")
}

fn size(metadata: &Metadata) -> usize {
    metadata.get("tokenizer.ggml.tokens").and_then(Value::array).and_then(Array::strings).expect("texts").len()
}

/// Texts of parts of words, spaces, and characters that have no token.
fn texts() -> Vec<String> {
    let parts =
        ["the", "cat", " ", "  ", "aa", "a", "under", "nana", "\u{e9}", "\u{6f22}", "\n", "z\u{1f600}", "theatre", ","];
    let random = Philox::new(5, "texts");
    let mut drawn = 0;
    let mut draw = |below: u32| {
        drawn += 1;
        random.below(drawn, below)
    };
    (0..300).map(|_| (0..draw(24)).map(|_| parts[draw(parts.len() as u32) as usize]).collect()).collect()
}

#[test]
fn sentence_piece_comes_back() {
    for (prefixed, bytes) in [(true, true), (false, true), (true, false)] {
        let metadata = sentence(prefixed, bytes);
        let one = vocabulary(&metadata);
        let (json, config) = tokenizer_json(&metadata).expect("it is made").expect("there is one");
        assert!(config.contains("\"bos_token\": \"<s>\""), "{config}");
        let two = Vocabulary::from_json(&json).expect("it is good");
        let all: Json = serde_json::from_str(&json).expect("it is JSON");
        let plain = Metadata::default();
        let (back, warning) = of_json(&json, &all, &Json::Null, size(&metadata), &plain).expect("it comes back");
        assert_eq!(warning, Vec::<String>::new());
        let three = vocabulary(&back);
        for text in texts().iter().map(String::as_str).chain(SAMPLES) {
            let ids = one.encode(text, false);
            assert_eq!(two.encode(text, false), ids, "{text:?}");
            assert_eq!(three.encode(text, false), ids, "{text:?}");
        }
        for there in [&two, &three] {
            assert_eq!(one.surround(vec![9]), there.surround(vec![9]));
            assert_eq!(one.encode("a<|turn|>", true), there.encode("a<|turn|>", true));
        }
        for key in ["tokens", "token_type"].map(|name| format!("tokenizer.ggml.{name}")) {
            assert_eq!(back.get(&key), metadata.get(&key), "{key}");
        }
    }
}

/// Merges that aren't all pairs of tokens would give other ids once they are scores.
#[test]
fn other_merges_are_refused() {
    let metadata = sentence(true, true);
    let (json, _) = tokenizer_json(&metadata).expect("it is made").expect("there is one");
    let good: Json = serde_json::from_str(&json).expect("it is JSON");
    let changed = |change: &dyn Fn(&mut Vec<Json>)| {
        let mut all = good.clone();
        change(all["model"]["merges"].as_array_mut().expect("a list"));
        of_json(&all.to_string(), &all, &Json::Null, 10_000, &Metadata::default()).map(|_| ())
    };
    assert_eq!(changed(&|_| ()), Ok(()));
    let error = changed(&|merges| _ = merges.remove(7)).expect_err("one is missing");
    assert!(error.contains("all pairs of tokens that are a token"), "{error}");
    // A token's merges in two places: what stands between has a score of both sides.
    let apart = |merges: &mut Vec<Json>| {
        let text = |m: &Json| format!("{}{}", m[0].as_str().expect("text"), m[1].as_str().expect("text"));
        let at = merges.windows(2).position(|two| text(&two[0]) == text(&two[1])).expect("a token of two merges");
        let first = merges.remove(at);
        merges.push(first);
    };
    assert!(changed(&apart).expect_err("apart").contains("all pairs of tokens"));
    let few = of_json(&json, &good, &Json::Null, 20, &Metadata::default()).expect_err("too many");
    assert!(few.contains("and the model 20"), "{few}");
    // An own file of the trained kind, whose trainer lists only the pairs it has seen.
    let trained = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tokenizers/llama2.json"))
        .expect("it is there");
    let all: Json = serde_json::from_str(&trained).expect("it is JSON");
    assert!(of_json(&trained, &all, &Json::Null, 10_000, &Metadata::default()).is_err());
}

/// Metaspace puts no space before a text that has one; GGUF always does, and that is said.
#[test]
fn what_gguf_cannot_say_is_told() {
    let (json, _) = tokenizer_json(&sentence(true, true)).expect("it is made").expect("there is one");
    // After a token that stands in a text GGUF puts a space as well, so there is none here.
    let mut all: Json = serde_json::from_str(&json.replace("\"  \"", "\"@@@@\"")).expect("it is JSON");
    all["normalizer"] = Json::Null;
    all["pre_tokenizer"] =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false});
    let told = json!({"add_bos_token": false, "add_eos_token": true});
    let mut ids = Metadata::default();
    ids.set("tokenizer.ggml.eos_token_id", Value::U32(2));
    let (back, warning) = of_json(&all.to_string(), &all, &told, 10_000, &ids).expect("it is made");
    assert!(warning[0].contains("begins with a space"), "{warning:?}");
    assert_eq!(vocabulary(&back).surround(vec![9]), [9, 2]);
}

#[test]
fn byte_level_comes_back() {
    for name in ["llama3", "qwen2", "gpt2", "digits"] {
        let path = format!("{}/tests/tokenizers/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("it is there");
        let all: Json = serde_json::from_str(&text).expect("it is JSON");
        let (metadata, warning) = of_json(&text, &all, &Json::Null, 600, &Metadata::default()).expect("it is made");
        assert_eq!(warning, Vec::<String>::new());
        let (again, _) = tokenizer_json(&metadata).expect("it is made").expect("there is one");
        let vocabularies =
            [Vocabulary::from_json(&text), Vocabulary::from_json(&again)].map(|v| v.expect("it is good"));
        let [one, two] = &vocabularies;
        let three = vocabulary(&metadata);
        for text in texts().iter().map(String::as_str).chain(SAMPLES) {
            let ids = one.encode(text, false);
            assert_eq!(two.encode(text, false), ids, "{name}: {text:?}");
            assert_eq!(three.encode(text, false), ids, "{name}: {text:?}");
        }
        assert_eq!(one.surround(vec![9]), two.surround(vec![9]));
        assert_eq!(one.surround(vec![9]), three.surround(vec![9]));
    }
}

/// What GGUF's rules don't have is refused, or told.
#[test]
fn other_ways_to_cut_are_refused() {
    let read = |name: &str| {
        let path = format!("{}/tests/tokenizers/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str::<Json>(&std::fs::read_to_string(path).expect("it is there")).expect("it is JSON")
    };
    let made = |all: &Json| of_json(&all.to_string(), all, &Json::Null, 600, &Metadata::default());
    let pattern = read("llama3")["pre_tokenizer"]["pretokenizers"][0]["pattern"].clone();
    let split = |behavior: &str| json!({ "type": "Split", "pattern": pattern, "behavior": behavior, "invert": false });
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let digits = json!({ "type": "Digits", "individual_digits": true });
    let sequence = |steps: &[&Json]| json!({ "type": "Sequence", "pretokenizers": steps });
    let mut prefixed = read("gpt2");
    prefixed["pre_tokenizer"]["add_prefix_space"] = true.into();
    let mut lower = read("gpt2");
    lower["normalizer"] = json!({ "type": "Lowercase" });
    let mut all = vec![prefixed, lower, read("unigram"), read("bert"), read("characters")];
    for steps in [
        sequence(&[&split("Removed"), &bytes]),
        sequence(&[&digits, &split("Isolated"), &bytes]),
        sequence(&[&split("Isolated")]),
    ] {
        let mut other = read("llama3");
        other["pre_tokenizer"] = steps;
        all.push(other);
    }
    for (index, all) in all.iter().enumerate() {
        assert!(made(all).is_err(), "{index}");
    }
    // What is a whole token in one is cut in the other: the token's own text finds it.
    let mut taken_apart = read("llama3");
    let free = taken_apart["model"]["vocab"].as_object().expect("an object").len();
    taken_apart["model"]["vocab"]["qzxqzx"] = free.into();
    assert!(made(&taken_apart).is_ok());
    taken_apart["model"]["ignore_merges"] = false.into();
    assert!(made(&taken_apart).expect_err("it is a token in GGUF").contains("qzxqzx"));
    let mut beside = read("gpt2");
    let size = beside["model"]["vocab"].as_object().expect("an object").len();
    let token = json!({ "id": size, "content": "<mask>", "lstrip": true, "rstrip": false, "single_word": false,
        "normalized": false, "special": true });
    beside["added_tokens"].as_array_mut().expect("a list").push(token);
    assert_eq!(made(&beside).expect("it is made").1, [BESIDE]);
}

#[test]
fn templates_keep_their_names() {
    let named = json!([{ "name": "default", "template": "d" }, { "name": "tool_use", "template": "t" }]);
    for (beside, separate, expected) in [
        (json!("one"), None, json!("one")),
        (json!("one"), Some("file"), json!("file")),
        (named.clone(), None, named.clone()),
        (Json::Null, None, Json::Null),
    ] {
        let mut metadata = Metadata::default();
        templates(Some(&beside), separate.map(String::from), &mut metadata);
        assert_eq!(chat_template(&metadata).unwrap_or_default(), expected);
    }
}

/// The vocabularies of real models, where they are at hand: each as tokenizer.json gives the ids of its list of texts.
#[test]
fn real_vocabularies_become_tokenizer_json() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab");
    for name in ["llama-spm", "phi-3", "llama-bpe", "qwen2", "gpt-2"] {
        let path = folder.join(format!("ggml-vocab-{name}.gguf"));
        let Ok(file) = tensor::file::gguf::File::open(&path) else {
            eprintln!("skipped: {} is not there", path.display());
            continue;
        };
        let (json, _) =
            tokenizer_json(file.metadata()).unwrap_or_else(|e| panic!("{name}: {e}")).expect("there is one");
        let vocabulary = Vocabulary::from_json(&json).expect("it is good");
        let list = |end: &str| {
            std::fs::read_to_string(folder.join(format!("ggml-vocab-{name}.gguf.{end}"))).expect("it is there")
        };
        let (inputs, ids) = (list("inp"), list("out"));
        for (text, ids) in inputs.split("\n__ggml_vocab_test__\n").zip(ids.lines()) {
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().expect("an id")).collect();
            assert_eq!(vocabulary.encode(text, false), ids, "{name}: {text:?}");
        }
        let all: Json = serde_json::from_str(&json).expect("it is JSON");
        let back = of_json(&json, &all, &Json::Null, 200_000, &Metadata::default());
        back.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
