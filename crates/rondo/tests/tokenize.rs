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
    assert!(String::from_utf8_lossy(&text.stderr).contains("help: these tokens are of text"));
    let gpt2 = goldens().join("gpt2.json").display().to_string();
    // A mistake of the command line's is another's than a file's.
    for (words, input, code, said) in [
        (vec!["3 4 100000"], "", 2, "id 3 is `100000`"),
        (vec!["3", "4", "x"], "", 2, "id 3 is `x`"),
        (vec![], "3 4 100000", 3, "standard input: id 3 is `100000`"),
        (vec![",,"], "", 2, "id 1 is missing"),
        (vec!["3,,4"], "", 2, "id 2 is missing"),
        (vec!["3, 4,"], "", 2, "id 3 is missing"),
        (vec![], "[3, , 4]", 3, "id 2 is missing"),
        (vec!["-1"], "", 2, ""),
    ] {
        let words: Vec<_> = [gpt2.as_str(), "--decode"].into_iter().chain(words).collect();
        let id = rondo(&words, input.as_bytes());
        let error = String::from_utf8_lossy(&id.stderr).into_owned();
        assert!(id.status.code() == Some(code) && error.contains(said), "{words:?} {input}: {error}");
        assert!(error.contains("help") && id.stdout.is_empty(), "{words:?} {input}: {error}");
    }
    let same = text_of(&[&gpt2, "--decode", "3 4"]);
    for ids in ["3,4", "[3, 4]", " 3\n4\n", "3 , 4"] {
        assert_eq!(text_of(&[&gpt2, "--decode", ids]), same);
    }
    assert_eq!(text_of(&[&gpt2, "--decode", "[]"]), "");
    refused("folder", &place.0.join("sub").display().to_string(), &["No such file", "help: give a GGUF file"]);
}

fn text_of(words: &[&str]) -> String {
    text(words, b"")
}

#[cfg(unix)]
#[test]
fn pipes_are_refused() {
    let place = Place::new("pipe");
    let pipe = place.0.join("model.json").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    refused("pipe", &pipe, &["not a file", "help"]);
}

#[test]
fn json_has_every_byte() {
    let gpt2 = goldens().join("gpt2.json").display().to_string();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (file, word) in
        [(gpt2.clone(), "a\u{13080} the"), (goldens().join("llama2.json").display().to_string(), "the \u{13080} cat")]
    {
        let json: serde_json::Value = serde_json::from_str(&text(&[&file, "--json", word], b"")).unwrap();
        let bytes: String = json["bytes"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert_eq!((bytes, &json["lossy"]), (hex(word), &true.into()), "{json}");
        assert!(json["pieces"].as_array().unwrap().contains(&"\u{fffd}".into()) && json["input_bytes"] == word.len());
        let ids: Vec<String> = json["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let whole = rondo(&[&file, "--json", "--decode", &ids.join(",")], b"");
        let json: serde_json::Value = serde_json::from_slice(&whole.stdout).unwrap();
        assert!(json["text"] == word && json["lossy"] == false && whole.stderr.is_empty(), "{json}");
        let half = rondo(&[&file, "--json", "--decode", &ids[..ids.len() - 4].join(",")], b"");
        let json: serde_json::Value = serde_json::from_slice(&half.stdout).unwrap();
        let bytes: String = json["bytes"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert!(hex(word).starts_with(&bytes), "{json}");
    }
    let part = rondo(&[&gpt2, "--json", "--decode", "176"], b"");
    let json: serde_json::Value = serde_json::from_slice(&part.stdout).unwrap();
    assert!(json["lossy"] == true && json["text"] == "\u{fffd}", "{json}");
    assert!(String::from_utf8_lossy(&part.stderr).contains("warning"), "{json}");
}

#[test]
fn what_a_vocabulary_leaves_out_is_said() {
    let place = Place::new("lost");
    let vocab = serde_json::json!({"<|end|>": 0, "a": 1, "b": 2});
    let mut all: serde_json::Value = serde_json::from_str(&cases::with("gpt2", "/model/vocab", vocab)).unwrap();
    all["model"]["merges"] = serde_json::json!([]);
    let file = place.file("tokenizer.json", all.to_string());
    let lost = rondo(&[&file, "axb\u{732b}x"], b"");
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert_eq!((lost.status.code(), lost.stdout.as_slice()), (Some(0), b"1 2\n".as_slice()));
    assert!(said.contains("warning") && said.contains("'x' (U+0078)") && said.contains("U+732B"), "{said}");
    let whole = rondo(&[&file, "abba"], b"");
    assert!(whole.status.success() && whole.stderr.is_empty());
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
    let mut count = 0;
    for name in ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"] {
        let file = shared.join(format!("ggml-vocab-{name}.gguf")).display().to_string();
        if !shared.exists() {
            println!("skipped: {name}, since there is no {}", shared.display());
            continue;
        }
        let texts = fs::read_to_string(format!("{file}.inp")).unwrap();
        let ids = fs::read_to_string(format!("{file}.out")).unwrap();
        // A few, since each opens the file anew; the library's test takes all.
        for (text_, ids) in texts.split("\n__ggml_vocab_test__\n").zip(ids.lines()).step_by(9) {
            assert_eq!(text(&[&file], text_.as_bytes()).trim(), ids.trim(), "{name}: {text_:?}");
            assert_eq!(text(&[&file, "--decode"], ids.as_bytes()), text_, "{name}");
            count += 1;
        }
    }
    // 46 texts of each vocabulary, one in nine.
    assert_eq!(count, if shared.exists() { 30 } else { 0 });
}
