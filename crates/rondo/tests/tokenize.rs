//! `rondo tokenize` through the real binary: ids of every kind of file, and vocabularies that are wrong.

#[path = "../../model/tests/tokenizers/cases.rs"]
mod cases;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tensor::file::gguf::{self, Array, Metadata, Value};

fn rondo(words: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    command.arg("tokenize").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A binary that doesn't want its input closes it.
    let _ = writer.join();
    output
}

fn text(words: &[&str], input: &[u8]) -> String {
    let output = rondo(words, input);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/tokenizers")
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-tokenize-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn ids_and_text() {
    let all: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(goldens().join("goldens.json")).unwrap()).unwrap();
    let file = goldens().join("llama3.json").display().to_string();
    for (text_, ids) in all["texts"].as_array().unwrap().iter().zip(all["ids"]["llama3"].as_array().unwrap()).skip(5) {
        let (text_, ids) = (text_.as_str().unwrap(), ids.as_array().unwrap());
        let line = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(text(&[&file, text_], b""), format!("{line}\n"));
        assert_eq!(text(&[&file], text_.as_bytes()), format!("{line}\n"));
        assert_eq!(text(&[&file, "--decode", &line], b""), text_);
        assert_eq!(text(&[&file, "--decode"], line.as_bytes()), text_);
        let words: Vec<_> = [file.as_str(), "--decode"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(text(&words, b""), text_);
    }
    let plain = text(&[&file, "a<|end|>"], b"");
    assert!(!plain.split_whitespace().any(|id| id == "0"), "{plain}");
    let special = text(&[&file, "--special", "a<|end|>"], b"");
    assert!(special.starts_with("0 ") && special.ends_with(" 0\n"), "{special}");
    let json: serde_json::Value = serde_json::from_str(&text(&[&file, "--json", "the cat"], b"")).unwrap();
    assert!(json["megabytes_per_second"].as_f64().unwrap() > 0.0 && json["vocab_size"] == 451, "{json}");
    let place = Place::new("folder");
    fs::copy(goldens().join("bert.json"), place.0.join("tokenizer.json")).unwrap();
    assert_eq!(text(&[&place.0.display().to_string(), "--special", "cat"], b"").split_whitespace().next(), Some("2"));
}

#[test]
fn wrong_tokenizers_have_one_clear_error() {
    let place = Place::new("wrong");
    for (case, contents, said) in cases::cases() {
        refused(case, &place.file("tokenizer.json", contents), said);
    }
    refused("no text", &place.file("tokenizer.json", b"{\"a\": \"\xff\"}"), &["byte 7", "UTF-8"]);
    refused("missing", "/nowhere/tokenizer.json", &["/nowhere/tokenizer.json", "No such file"]);
    refused("empty", &place.file("model.bin", ""), &["model.bin", "empty"]);
    let text = rondo(&[&goldens().join("gpt2.json").display().to_string()], b"one\ntwo\xff");
    assert_eq!(text.status.code(), Some(3));
    let id = rondo(&[&goldens().join("gpt2.json").display().to_string(), "--decode", "3 4 100000"], b"");
    assert!(id.status.code() == Some(3) && String::from_utf8_lossy(&id.stderr).contains("id 3 is `100000`"));
}

/// KiB that a process needs before it has read anything.
const BARE: u64 = 96 << 10;

/// Refused in a second, and without more memory than the file's size and 64 MiB.
fn refused(case: &str, file: &str, said: &[&str]) {
    let start = Instant::now();
    let size = fs::metadata(file).map_or(0, |about| about.len());
    let limit = BARE + (64 << 10) + size / 1024;
    let line = format!("ulimit -v {limit}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, "sh", env!("CARGO_BIN_EXE_rondo"), "tokenize", file, "some text"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{case}: {error}");
    assert!(
        start.elapsed() < Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 }),
        "{case}: {:?}",
        start.elapsed()
    );
    assert!(!error.contains("panicked") && error.starts_with("error: "), "{case}: {error}");
    for said in said.iter().chain([&file]) {
        assert!(error.contains(said), "{case}: no {said:?} in {error}");
    }
}

#[test]
fn hard_texts_are_taken_and_come_back() {
    let place = Place::new("hard");
    let file = |name: &str| goldens().join(format!("{name}.json")).display().to_string();
    let strange = "\0\u{10ffff}\u{feff}\u{e000}a\u{301}\r\n\t ".to_string();
    // A MiB of the hardest pieces, and of one letter.
    for hard in [strange, "thecat".repeat(175_000), "a".repeat(1 << 20)] {
        for name in ["gpt2", "llama3", "llama2"] {
            let start = Instant::now();
            let ids = text(&[&file(name)], hard.as_bytes());
            assert_eq!(text(&[&file(name), "--decode"], ids.as_bytes()), hard, "{name}");
            let most = if cfg!(debug_assertions) { 20 } else { 4 };
            assert!(start.elapsed() < Duration::from_secs(most), "{name}: {:?}", start.elapsed());
        }
    }
    // Byte tokens that are none are tokens like others where the file doesn't say what they are.
    let odd =
        cases::with("words", "/model/vocab", serde_json::json!({"<unk>": 0, "<0x-1>": 1, "<0xZZ>": 2, "<0x100>": 3}));
    assert_eq!(text(&[&place.file("odd.json", odd), "x"], b""), "0\n");
}

#[test]
fn folders_of_runs_have_tokenizers_too() {
    let place = Place::new("run");
    let pair = |kind: &str| format!("{{\"model_type\": \"rondo\", \"tokenizer\": \"{kind}\"}}");
    place.file("config.json", pair("byte"));
    place.file("tokenizer.json", "{}");
    let folder = place.0.display().to_string();
    assert_eq!(text(&[&folder, "a\u{e9}"], b""), "97 195 169\n");
    assert_eq!(text(&[&folder, "--decode", "97 195 169"], b""), "a\u{e9}");
    place.file("config.json", pair("odd"));
    refused("kind", &folder, &["`odd`", "ascii, byte and bpe"]);
    place.file("config.json", pair("bpe"));
    let end = serde_json::json!({"<|end|>": 0, "a": 1, "b": 2, "ab": 3});
    let all = cases::with("gpt2", "/model/vocab", end);
    let mut all: serde_json::Value = serde_json::from_str(&all).unwrap();
    all["model"]["merges"] = serde_json::json!([["a", "b"]]);
    place.file("tokenizer.json", all.to_string());
    assert_eq!(text(&[&folder, "abba"], b""), "3 2 1\n");
    // What the tokenizers crate would panic at is refused here as well.
    all["pre_tokenizer"] = serde_json::json!({"type": "FixedLength", "length": 0});
    place.file("tokenizer.json", all.to_string());
    refused("run", &folder, &["tokenizer.json", "length"]);
}

fn texts(values: &[&str]) -> Value {
    Value::Array(Array::String(values.iter().map(ToString::to_string).collect()))
}

#[test]
fn wrong_vocabularies_of_gguf_are_named_with_their_place() {
    let place = Place::new("gguf");
    let good: Metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "<|end|>"])),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 1, 3]))),
        ("tokenizer.ggml.merges", texts(&["a b"])),
        ("tokenizer.ggml.eos_token_id", Value::U32(3)),
    ]
    .into_iter()
    .collect();
    let write = |metadata: &Metadata| place.file("v.gguf", gguf::write(Vec::new(), metadata, &[]).unwrap());
    assert_eq!(text(&[&write(&good), "abba<|end|>"], b""), "2 1 0\n");
    assert_eq!(text(&[&write(&good), "abba<|end|>", "--special"], b""), "2 1 0 3\n");
    let cases: &[(&str, &str, Value, &[&str])] = &[
        ("TK03", "merges", texts(&["ab"]), &["merge 0"]),
        ("TK04", "merges", texts(&["b b"]), &["merge 0", "\"bb\""]),
        ("TK05", "tokens", texts(&["a", "b", "ab", "a"]), &["token 3", "token 0"]),
        ("TK06", "eos_token_id", Value::U32(4), &["it is 4", "0 to 3"]),
        ("TK06 padding", "padding_token_id", Value::U32(u32::MAX), &["4294967295"]),
        ("TK07", "token_type", Value::Array(Array::I32(vec![1, 1, 1])), &["3 entries", "4 tokens"]),
        ("TK07 scores", "scores", Value::Array(Array::U8(vec![1; 4])), &["list of u8"]),
        ("TK05 none", "tokens", texts(&[]), &["empty"]),
        ("TK06 begin", "bos_token_id", Value::I32(-1), &["-1"]),
        ("TK07 long", "token_type", Value::Array(Array::I32(vec![1; 9])), &["9 entries"]),
        ("TK07 kind", "token_type", Value::Array(Array::I32(vec![1, 1, 1, 9])), &["token 3", "kind 9"]),
        ("TK14", "token_type", Value::Array(Array::I32(vec![6, 1, 1, 3])), &["token 0", "<0x00>"]),
        ("rule", "pre", Value::String("new".into()), &["new", "qwen2"]),
        ("model", "model", Value::String("t5".into()), &["t5", "gpt2, llama, bert and no_vocab"]),
        ("none", "model", Value::String("no_vocab".into()), &["no vocabulary"]),
    ];
    for (case, key, value, said) in cases {
        let mut metadata = good.clone();
        metadata.set(format!("tokenizer.ggml.{key}"), value.clone());
        // A token of the kind byte that names none is the token's fault.
        let key = if *case == "TK14" { "tokenizer.ggml.tokens".into() } else { format!("tokenizer.ggml.{key}") };
        let said: Vec<&str> = said.iter().copied().chain([key.as_str(), "byte "]).collect();
        refused(case, &write(&metadata), &said);
    }
}

#[test]
fn shared_vocabularies_through_the_binary() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vocab");
    for name in ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let file = shared.join(format!("ggml-vocab-{name}.gguf")).display().to_string();
        let Ok(texts) = fs::read_to_string(format!("{file}.inp")) else {
            println!("skipped: {file} isn't here");
            continue;
        };
        let ids = fs::read_to_string(format!("{file}.out")).unwrap();
        // A few, since each opens the file anew; the library's test takes all.
        for (text_, ids) in texts.split("\n__ggml_vocab_test__\n").zip(ids.lines()).step_by(9) {
            assert_eq!(text(&[&file], text_.as_bytes()).trim(), ids.trim(), "{name}: {text_:?}");
            assert_eq!(text(&[&file, "--decode"], ids.as_bytes()), text_, "{name}");
        }
    }
}
