//! tokenizer.json files that are wrong, and what is said of each: for the tests of the library and of the binary.

use serde_json::{Value, json};
use std::path::Path;

fn file(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/tokenizers");
    std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap()
}

fn value(name: &str) -> Value {
    serde_json::from_str(&file(name)).unwrap()
}

/// `base` with the value at `path` replaced.
pub fn with(base: &str, path: &str, new: Value) -> String {
    let mut all = value(base);
    *all.pointer_mut(path).unwrap_or_else(|| panic!("{base} has no {path}")) = new;
    all.to_string()
}

fn added(tokens: &[(u64, &str)]) -> Value {
    tokens.iter().map(|(id, text)| json!({"id": id, "content": text, "special": true})).collect()
}

/// How a file of pairs begins.
const HEAD: &str = "\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",";

/// A file of words with `vocab` as it stands here.
fn vocab_text(vocab: &str) -> String {
    with("words", "/model/vocab", json!("HERE")).replace("\"HERE\"", vocab)
}

/// Names of cases, files, and what the error says.
pub fn cases() -> Vec<(&'static str, String, &'static [&'static str])> {
    let text = |s: &str| s.to_string();
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let strip = |start: u64, stop: u64| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
    let template = |name: &str, ids: Value| {
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": name, "type_id": 0}}], "pair": [],
               "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": ids, "tokens": ["[CLS]"]}}})
    };
    let charsmap = |map: &str| json!({"type": "Precompiled", "precompiled_charsmap": map});
    let vocab = |pairs: Value| with("words", "/model/vocab", pairs);
    let deep = (0..9).fold(json!({"type": "NFC"}), |step, _| json!({"type": "Sequence", "normalizers": [step]}));
    let many = json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 100]});
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"});
    let bomb = json!({"type": "Sequence", "normalizers": vec![double; 20]});
    let cut = file("gpt2");
    let cut = cut.chars().take(cut.chars().count() / 2).collect::<String>();
    vec![
        ("TK01 cut", cut, &["not valid JSON", "column"]),
        ("TK01 number", text("404"), &["no JSON object"]),
        ("TK01 page", text("<!DOCTYPE html><html></html>"), &["not valid JSON", "line 1"]),
        ("TK01 empty", text(""), &["not valid JSON"]),
        ("TK01 pointer", text("version https://git-lfs.github.com/spec/v1\noid"), &["LFS"]),
        ("TK01 list", text("[]"), &["no JSON object"]),
        ("TK01 other", text("{}"), &["model", "missing"]),
        ("TK01 deep", "[".repeat(100_000), &["not valid JSON", "EOF"]),
        (
            "TK16 empty merges",
            format!("{{{}\"merges\":[{}[\"\",\"\"]]}}}}", HEAD, "[\"\",\"\"],".repeat(1 << 20)),
            &["model.merges[0]", "two tokens"],
        ),
        (
            "TK16 merges",
            format!("{{{}\"merges\":[{}[\"a\",\"b\"]]}}}}", HEAD, "[\"a\",\"b\"],".repeat(1 << 19)),
            &["model.vocab", "missing"],
        ),
        (
            "TK16 many merges",
            format!("{{{}\"merges\":[{}[\"a\",\"b\"]]}}}}", HEAD, "[\"a\",\"b\"],".repeat(1 << 20)),
            &["model.merges", "more than 1048576"],
        ),
        (
            "TK16 many tokens",
            format!("{{{}\"vocab\":{{{}\"a\":0}}}}}}", HEAD, "\"a\":0,".repeat(1 << 20)),
            &["model.vocab", "more than 393216"],
        ),
        ("TK16 lists", format!("{{\"a\":[{}[]]}}", "[],".repeat(5 << 20)), &["model", "missing"]),
        ("TK16 lists of a step", format!("{{\"normalizer\":[{}[]]}}", "[],".repeat(5 << 20)), &["more than 40 MiB"]),
        (
            "TK16 lists of the model",
            format!("{{{}\"x\":[{}[]]}}}}", HEAD, "[],".repeat(5 << 20)),
            &["more than 40 MiB"],
        ),
        (
            "TK16 one token again",
            format!("{{{}\"vocab\":{{{}\"a\":0}}}}}}", HEAD, "\"a\":0,".repeat(1 << 18)),
            &["model.vocab", "another token"],
        ),
        ("TK16 twice", vocab_text("{\"<unk>\": 0, \"a\": 1, \"a\": 2}"), &["model.vocab", "\"a\"", "another one"]),
        ("version", with("gpt2", "/version", json!("2.0")), &["version", "1.0"]),
        ("TK02 model", with("gpt2", "/model/type", json!("Odd")), &["model.type", "Odd", "Unigram"]),
        ("TK02 normalizer", with("gpt2", "/normalizer", json!({"type": "Odd"})), &["normalizer.type", "Odd"]),
        ("TK02 rule", with("gpt2", "/pre_tokenizer/type", json!("Odd")), &["pre_tokenizer.type", "Odd"]),
        ("TK02 decoder", with("gpt2", "/decoder/type", json!("Odd")), &["decoder.type", "Odd"]),
        ("TK02 post", with("gpt2", "/post_processor", json!({"type": "Odd"})), &["post_processor.type", "Odd"]),
        ("TK02 no type", with("gpt2", "/pre_tokenizer", json!({})), &["pre_tokenizer.type", "missing"]),
        ("TK02 text", with("gpt2", "/pre_tokenizer", json!("ByteLevel")), &["pre_tokenizer", "object"]),
        ("TK02 deep", with("gpt2", "/normalizer", deep), &["normalizer", "deeper"]),
        ("TK02 many", with("gpt2", "/normalizer", many), &["normalizer", "64 steps"]),
        ("TK03 one", with("gpt2", "/model/merges", json!(["ab"])), &["model.merges[0]", "two tokens"]),
        ("TK03 three", with("gpt2", "/model/merges", json!(["a b", "a b c"])), &["model.merges[1]"]),
        ("TK03 list", with("gpt2", "/model/merges", json!([["a"]])), &["model.merges[0]"]),
        ("TK03 number", with("gpt2", "/model/merges", json!([5])), &["model.merges[0]"]),
        ("TK03 none", with("gpt2", "/model/merges", json!(null)), &["model.merges"]),
        ("TK04 part", with("gpt2", "/model/merges", json!(["a \u{732b}"])), &["model.merges", "merge 0", "no token"]),
        ("TK04 sum", with("gpt2", "/model/merges", json!([["q", "q"]])), &["model.merges", "\"qq\"", "no token"]),
        ("TK04 long", with("gpt2", "/model/merges", json!([["q".repeat(5000), "q"]])), &["model.merges", "no token"]),
        ("TK05 gap", vocab(json!({"<unk>": 0, "a": 2})), &["model.vocab", "no token has the id 1"]),
        ("TK05 twice", vocab(json!({"<unk>": 0, "a": 0})), &["model.vocab", "another token"]),
        ("TK05 large", vocab(json!({"<unk>": 0, "a": 2_147_483_648u64})), &["model.vocab", "2147483648"]),
        ("TK05 negative", vocab(json!({"<unk>": 0, "a": -1})), &["model.vocab", "-1"]),
        ("TK05 text", vocab(json!({"<unk>": "0"})), &["model.vocab"]),
        ("TK05 empty", with("gpt2", "/model/vocab", json!({})), &["model.vocab"]),
        ("TK06 unknown", with("words", "/model/unk_token", json!("zzz")), &["model.unk_token", "zzz"]),
        ("TK06 id", with("unigram", "/model/unk_id", json!(100_000)), &["model.unk_id", "100000"]),
        ("TK06 no id", with("unigram", "/model/unk_id", json!(null)), &["model.unk_id"]),
        ("TK07 score", with("unigram", "/model/vocab/3", json!(["a"])), &["model.vocab[3]"]),
        ("TK07 type", with("unigram", "/model/vocab/3/1", json!("x")), &["model.vocab[3]"]),
        (
            "TK08 absent",
            with("bert", "/post_processor", template("[SEP]", json!([2]))),
            &["post_processor.single", "[SEP]"],
        ),
        ("TK08 id", with("bert", "/post_processor", template("[CLS]", json!([2_000_000]))), &["no token"]),
        ("TK08 no id", with("bert", "/post_processor", template("[CLS]", json!([]))), &["no token"]),
        ("TK08 strip", with("gpt2", "/decoder", strip(3, 2)), &["decoder.Strip", "start 3 and stop 2"]),
        ("TK08 strips", with("gpt2", "/decoder", strip(0, 1 << 40)), &["decoder.Strip.stop"]),
        (
            "TK09",
            with("gpt2", "/pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
            &["length", "at least 1"],
        ),
        ("TK10 none", with("unigram", "/normalizer", charsmap("")), &["normalizer.type", "Precompiled"]),
        ("TK10 one byte", with("unigram", "/normalizer", charsmap("AA==")), &["normalizer.type", "Precompiled"]),
        ("TK10 two bytes", with("unigram", "/normalizer", charsmap("AAA=")), &["normalizer.type", "Precompiled"]),
        ("TK10 three bytes", with("unigram", "/normalizer", charsmap("AAAA")), &["normalizer.type", "Precompiled"]),
        ("TK10 a lie", with("unigram", "/normalizer", charsmap("/////w==")), &["normalizer.type", "Precompiled"]),
        (
            "TK11",
            with(
                "gpt2",
                "/truncation",
                json!({"max_length": 5, "stride": 5, "strategy": "LongestFirst", "direction": "Right"}),
            ),
            &["truncation.stride"],
        ),
        ("TK11 length", with("gpt2", "/truncation", json!({"max_length": -1})), &["truncation.max_length"]),
        (
            "TK12 invalid",
            with("gpt2", "/pre_tokenizer", split("(a")),
            &["pre_tokenizer.Split.pattern", "can't be used"],
        ),
        ("TK12 long", with("gpt2", "/pre_tokenizer", split(&"a".repeat(1 << 20))), &["pattern", "1048576 bytes"]),
        ("TK12 bomb", with("gpt2", "/pre_tokenizer", split(r"((\w{1,900}){1,900}){1,900}")), &["pattern"]),
        ("TK12 nested", with("gpt2", "/pre_tokenizer", split(&"(".repeat(5000))), &["pattern"]),
        ("TK12 look", with("gpt2", "/pre_tokenizer", split("(?<=a+)b")), &["pattern"]),
        ("TK12 nothing", with("gpt2", "/pre_tokenizer", split("a*")), &["pattern", "empty"]),
        ("TK13 far", with("gpt2", "/added_tokens", added(&[(0, "<|end|>"), (90_000, "x")])), &["model.vocab", "90000"]),
        ("TK13 empty", with("gpt2", "/added_tokens", added(&[(500, "")])), &["added_tokens[0]", "empty"]),
        ("TK13 twice", with("gpt2", "/added_tokens", added(&[(500, "x"), (501, "x")])), &["added_tokens[1]", "[0]"]),
        ("TK13 other id", with("gpt2", "/added_tokens", added(&[(500, "a")])), &["added_tokens", "500"]),
        (
            "TK15 surrogate",
            file("words").replacen("\"vocab\":{", "\"vocab\":{\"\\ud800\":9999,", 1),
            &["not valid JSON", "column"],
        ),
        ("growth", with("words", "/normalizer", bomb), &["normalizer.Replace", "64 times"]),
        ("chance", with("gpt2", "/model/dropout", json!(0.5)), &["model.dropout"]),
    ]
}
