//! `rondo template` through the real binary: where templates come from, the exact text, and what is wrong.

#[path = "../../model/tests/templates/bad.rs"]
mod bad;

use bad::Outcome;
use serde_json::{Value as Json, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tensor::file::gguf::{self, Array, Metadata, Value};

/// KiB of addresses that a rendering may take: what the program maps at its start, and far less than hostile
/// templates would like.
const ADDRESSES: usize = 192 << 10;

fn rondo(words: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {ADDRESSES}; exec \"$0\" template \"$@\""), env!("CARGO_BIN_EXE_rondo")]);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A binary that doesn't want its input closes it.
    let _ = pipe.write_all(input);
    drop(pipe);
    child.wait_with_output().unwrap()
}

fn text(words: &[&str], input: &[u8]) -> String {
    let output = rondo(words, input);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An error with its exit code and words.
fn refused(words: &[&str], input: &[u8], code: i32, said: &[&str]) {
    let output = rondo(words, input);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{words:?}: {error}");
    assert!(
        output.stdout.is_empty() && error.starts_with("error: ") && !error.contains("panicked"),
        "{words:?}: {error}"
    );
    for said in said {
        assert!(error.contains(said), "{words:?}: no {said:?} in {error}");
    }
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-template-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TALK: &str = r#"{"messages": [{"role": "user", "content": "Hi <|end|>"}], "add_generation_prompt": true}"#;

#[test]
fn the_text_is_exactly_jinja2s() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/templates");
    let read = |name: &str| -> Json { serde_json::from_str(&fs::read_to_string(folder.join(name)).unwrap()).unwrap() };
    let (conversations, goldens) = (read("conversations.json"), read("goldens.json"));
    let place = Place::new("goldens");
    for (file, goldens) in goldens["own"].as_object().unwrap() {
        let template = folder.join("own").join(file).display().to_string();
        // A few, since each is a process; the library's test takes all.
        for (name, golden) in goldens.as_object().unwrap().iter().skip(1).step_by(5) {
            let mut conversation = conversations[name].clone();
            let Some(golden) = golden["text"].as_str().filter(|_| conversation["messages"].is_array()) else {
                continue;
            };
            // A template alone brings no tokens.
            conversation["bos_token"] = json!("<s>");
            conversation["eos_token"] = json!("</s>");
            let input = place.file("talk.json", conversation.to_string());
            assert_eq!(text(&[&template, &input, "--now", "2026-03-05T07:08:09"], b""), golden, "{file}, {name}");
            assert_eq!(text(&[&template, "-", "--now", "2026-03-05"], conversation.to_string().as_bytes()), golden);
        }
    }
}

#[test]
fn templates_come_from_files_folders_and_gguf() {
    let place = Place::new("places");
    let plain = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}{{ eos_token }}";
    let talk = place.file("talk.json", TALK);
    assert_eq!(text(&[&place.file("plain.jinja", plain), &talk], b""), "[Hi <|end|>]");

    let strings = |all: &[&str]| Value::Array(Array::String(all.iter().map(ToString::to_string).collect()));
    let metadata: Metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("tokenizer.chat_template", Value::String(plain.into())),
        (
            "tokenizer.chat_template.tool_use",
            Value::String("tools: {{ tools | length }} {{ messages | length }}".into()),
        ),
        ("tokenizer.ggml.tokens", strings(&["<a>", "<b>", "<c>"])),
        ("tokenizer.ggml.bos_token_id", Value::U32(2)),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
    ]
    .into_iter()
    .collect();
    let file = place.file("model.gguf", gguf::write(Vec::new(), &metadata, &[]).unwrap());
    assert_eq!(text(&[&file, &talk], b""), "<c>[Hi <|end|>]<a>");
    let with_tools = r#"{"messages": [], "tools": [{}, {}]}"#;
    assert_eq!(text(&[&file, "-"], with_tools.as_bytes()), "tools: 2 0");
    assert_eq!(text(&[&file, "-", "--name", "default"], with_tools.as_bytes()), "<c><a>");
    refused(&[&file, &talk, "--name", "nosuch"], b"", 3, &["model.gguf", "`nosuch`", "default, tool_use"]);
    let mut wrong = metadata.clone();
    wrong.set("tokenizer.ggml.bos_token_id", Value::U32(3));
    let file = place.file("model.gguf", gguf::write(Vec::new(), &wrong, &[]).unwrap());
    refused(&[&file, &talk], b"", 3, &["tokenizer.ggml.bos_token_id", "byte ", "which has 3"]);
    wrong.set("tokenizer.chat_template", Value::U32(3));
    let file = place.file("model.gguf", gguf::write(Vec::new(), &wrong, &[]).unwrap());
    refused(&[&file, &talk], b"", 3, &["tokenizer.chat_template", "byte ", "string"]);

    let model = Place::new("model");
    refused(&[&model.path(), &talk], b"", 3, &["no chat template"]);
    let config = json!({"chat_template": plain, "bos_token": {"content": "<1>"}, "eos_token": "<2>"});
    model.file("tokenizer_config.json", config.to_string());
    assert_eq!(text(&[&model.path(), &talk], b""), "<1>[Hi <|end|>]<2>");
    let several = json!({"chat_template": [{"name": "default", "template": "d"}, {"name": "rag", "template": "r{{ bos_token }}"}], "bos_token": "<3>"});
    model.file("tokenizer_config.json", several.to_string());
    assert_eq!(text(&[&model.path(), &talk, "--name", "rag"], b""), "r<3>");
    model.file("chat_template.jinja", "file {{ bos_token }}");
    model.file("additional_chat_templates/tool_use.jinja", "tools");
    assert_eq!(text(&[&model.path(), &talk], b""), "file <3>");
    assert_eq!(text(&[&model.path(), &talk, "--name", "tool_use"], b""), "tools");
    // A JSON file of the folder is as good as the folder, and never a template itself.
    let config = model.file("tokenizer_config.json", several.to_string());
    assert_eq!(text(&[&config, &talk, "--name", "rag"], b""), "r<3>");
    assert_eq!(text(&[&config, &talk], b""), "d");
    let one = model.file("one.json", json!({"chat_template": "{{ eos_token }}!", "eos_token": "<4>"}).to_string());
    let output = rondo(&[&one, &talk], b"");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"<4>!".as_slice()));
    for (contents, said) in
        [("{\"x\": 1}", "no field `chat_template`"), ("{{ 1 }}", "not valid JSON"), ("[]", "no field")]
    {
        refused(&[&model.file("other.json", contents), &talk], b"", 3, &["other.json", said, "help"]);
    }
    model.file("tokenizer_config.json", r#"{"chat_template": 5}"#);
    refused(&[&model.path(), &talk], b"", 3, &["tokenizer_config.json", "`chat_template`"]);
    model.file("tokenizer_config.json", "{");
    refused(&[&model.path(), &talk], b"", 3, &["tokenizer_config.json", "not valid JSON", "line 1"]);
}

#[test]
fn json_says_what_is_content() {
    let place = Place::new("json");
    let file = place.file("a.jinja", "<|{{ messages[0].role }}|>{{ messages[0].content }}<|end|>");
    let answer: Json = serde_json::from_str(&text(&[&file, "-", "--json"], TALK.as_bytes())).unwrap();
    assert_eq!(answer["text"], "<|user|>Hi <|end|><|end|>");
    // The first `<|end|>` is the user's words; the second is a control token.
    assert_eq!(answer["content"], json!([[8, 18]]));
    let output = rondo(&[&place.file("b.jinja", "nothing\n"), "-"], TALK.as_bytes());
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"nothing".as_slice()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("warning: no word of the conversation"));
    let now = place.file("c.jinja", "{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}");
    assert_eq!(text(&[&now, "-", "--now", "2024-02-29"], TALK.as_bytes()), "29 Feb 2024Hi <|end|>");
}

#[test]
fn wrong_conversations_and_flags_are_named() {
    let place = Place::new("wrong");
    let file = place.file("a.jinja", "x{{ messages[0].content }}");
    for (input, said) in [
        ("", "not valid JSON"),
        ("{\"messages\": [}", "line 1 column 15"),
        ("[]", "must be an object"),
        ("{}", "field `messages` is missing"),
        ("{\"messages\": 5}", "must be a list"),
        ("{\"messages\": [{}, \"x\"]}", "`messages[1]`"),
        ("{\"messages\": [{\"content\": \"\\ud800\"}]}", "half of a UTF-16 pair"),
        ("{\"messages\": [{\"content\": \"\\udc00x\"}]}", "half of a UTF-16 pair"),
        ("{\"messages\": [{\"content\": \"\\ud800\\u0041\"}]}", "half of a UTF-16 pair"),
    ] {
        refused(&[&file, &place.file("talk.json", input)], b"", 3, &["talk.json", said]);
    }
    refused(
        &[&place.file("empty.jinja", "{{ messages[0]['role'] }}"), "-"],
        b"{\"messages\": []}",
        3,
        &["`messages` is empty"],
    );
    // Python takes the last of several, and some editors begin with a mark.
    let twice = "\u{feff}{\"messages\": [{\"content\": \"one\", \"content\": \"two\"}], \"x\": 1, \"x\": 2}";
    let output = rondo(&[&file, "-"], twice.as_bytes());
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"xtwo".as_slice(), b"".as_slice()));
    refused(&[&file, "-"], b"\xff\xfe{\x00", 3, &["standard input", "UTF-16"]);
    refused(&[&file, "-"], &[b'['; 100_000], 3, &["standard input", "recursion limit"]);
    refused(&[&file, "/nowhere.json"], b"", 3, &["/nowhere.json", "No such file", "help: give a JSON file"]);
    refused(&["/nowhere.jinja", "-"], TALK.as_bytes(), 3, &["/nowhere.jinja", "No such file", "help: give a GGUF"]);
    let large = place.file("large.jinja", "x".repeat(300_000));
    refused(&[&large, "-"], TALK.as_bytes(), 3, &["large.jinja", "262144 bytes", "help: give"]);
    refused(&[&place.file("bytes.jinja", b"ab\xffc"), "-"], TALK.as_bytes(), 3, &["bytes.jinja", "byte 2", "UTF-8"]);
    refused(&[&place.file("cut.gguf", "GGUF"), "-"], TALK.as_bytes(), 3, &["cut.gguf"]);
    refused(&[&file], b"", 2, &["CONVERSATION"]);
    refused(&[&file, "-", "--now", "2026-02-30"], b"", 2, &["2026-02-30"]);
    refused(&[&file, "-", "--nam", "x"], b"", 2, &["--name"]);
    let raising = place.file("r.jinja", "\n{{ raise_exception('roles must alternate') }}");
    refused(&[&raising, "-"], TALK.as_bytes(), 3, &["r.jinja: line 2, column", "roles must alternate", "help"]);
    let token = place.file("t.jinja", "{{ 'x' + eos_token }}");
    refused(&[&token, "-"], TALK.as_bytes(), 3, &["`eos_token` isn't defined", "give the model itself"]);
    let line = rondo(&[&raising, "-", "--json"], TALK.as_bytes()).stderr;
    let error: Json = serde_json::from_str(String::from_utf8_lossy(&line).lines().last().unwrap()).unwrap();
    assert_eq!(error["code"], 3);
}

#[test]
fn bad_templates_have_one_clear_error() {
    let place = Place::new("bad");
    let talk = place.file("talk.json", TALK);
    let mut slowest = Duration::ZERO;
    let cases = bad::cases();
    for (id, template, want, said) in &cases {
        let file = place.file("the.jinja", template);
        let start = Instant::now();
        let output = rondo(&[&file, &talk], b"");
        slowest = slowest.max(start.elapsed());
        let head: String = template.chars().take(100).collect();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // What a rendering says of other variables than the library's test has is beside the point here.
        let code = if *want == Outcome::Text { 0 } else { 3 };
        assert_eq!(output.status.code(), Some(code), "{id} {head}: {error}");
        if code == 3 {
            let has_place = error.contains("the.jinja: line ") || error.contains("bytes");
            assert!(error.starts_with("error: ") && has_place && error.contains(said), "{id} {head}: {error}");
            assert!(output.stdout.is_empty() && !error.contains("panicked"), "{id} {head}: {error}");
        }
    }
    println!("{} templates, the slowest process took {slowest:?}", cases.len());
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
