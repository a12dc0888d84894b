//! `rondo template`: a conversation as the text that a model sees, by the model's own chat template.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, piece, product, say};
use model::text::CodecError;
use model::text::template::{Error, Input, Kind, Now, Rendered, Source, long_number};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest conversation, in bytes.
const LARGEST: u64 = 64 << 20;

/// Show a conversation as the text that a model sees.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A GGUF file, the folder of a Hugging Face model, its tokenizer_config.json, or a template (.jinja).
    model: PathBuf,
    /// A JSON file, or - for standard input: an object with `messages`, and optionally `tools`, `documents`,
    /// `add_generation_prompt` or any other variable of the template.
    conversation: PathBuf,
    /// Which of the model's templates [default: its default, or tool_use if there are tools].
    #[arg(long)]
    name: Option<String>,
    /// The date and time that the template is told, such as 2026-01-31 or 2026-01-31T12:30:00 [default: now, in UTC].
    #[arg(long, value_name = "TIME", value_parser = Now::parse)]
    now: Option<Now>,
    /// As JSON, with the byte ranges that are the conversation's own words.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let conversation = conversation(&args.conversation)?;
    let source = Source::open(&args.model).map_err(failure)?;
    let has_tools = conversation.get("tools").is_some_and(|tools| tools.as_array().is_none_or(|all| !all.is_empty()));
    let template = source.template(args.name.as_deref(), has_tools).map_err(failure)?;
    let input = Input { conversation: &conversation, tokens: &source.tokens, now: args.now.unwrap_or_else(now) };
    let is_empty = conversation.get("messages").and_then(Value::as_array).is_some_and(Vec::is_empty);
    let hint = |e: &Error| is_empty && matches!(e.kind, Kind::Undefined | Kind::Value | Kind::Raised);
    let rendered = template.render(input).map_err(|e| match hint(&e) {
        true => Failure::bad_file(format!("{e}\n  help: `messages` is empty: give the template at least one message")),
        false => bad_template(&e),
    })?;
    if rendered.content.is_empty() && says_something(&conversation) {
        say("warning: no word of the conversation is in the text: the template leaves all of it out");
    }
    if args.json {
        product(json(&rendered))
    } else {
        _ = piece(&rendered.text)
    }
    Ok(())
}

fn json(rendered: &Rendered) -> Value {
    let ranges = |ranges: &[std::ops::Range<usize>]| -> Value {
        ranges.iter().map(|range| serde_json::json!([range.start, range.end])).collect()
    };
    serde_json::json!({
        "text": rendered.text,
        "content": ranges(&rendered.content),
        "generations": ranges(&rendered.generations),
    })
}

fn now() -> Now {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now::new(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// The variables in the file: an object, whose messages are objects too.
fn conversation(path: &Path) -> Result<Map<String, Value>, Failure> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_string() } else { path.display().to_string() };
    let bad = |what: String| Failure::bad_file(format!("{name}: {what}"));
    let shape = "\n  help: such as {\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"add_generation_prompt\": true}";
    let mut bytes = Vec::new();
    let read = match is_stdin {
        true => std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    let input = "give a JSON file with the conversation, or - for standard input";
    read.map_err(|e| bad(format!("{e}\n  help: {input}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        let what = format!("more than {LARGEST} bytes, which is too long for a conversation");
        return Err(bad(format!("{what}\n  help: {input} of at most {} MiB", LARGEST >> 20)));
    }
    // Some editors begin a text with the mark of its byte order.
    let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let all: Value = serde_json::from_slice(json).map_err(|e| bad(not_json(&e, json, shape)))?;
    let Value::Object(all) = all else { return Err(bad(format!("it must be an object{shape}"))) };
    if let Some((at, number)) = std::str::from_utf8(json).ok().and_then(long_number) {
        let short: String = number.chars().take(40).collect();
        let what = format!("line {}, column {}: the whole number {short} has more than 64 bits", at.line, at.column);
        return Err(bad(format!("{what}\n  help: write it as a string, or as a float such as 1e20")));
    }
    match all.get("messages") {
        None => Err(bad(format!("field `messages` is missing{shape}"))),
        Some(Value::Array(messages)) => match messages.iter().position(|message| !message.is_object()) {
            Some(i) => Err(bad(format!("`messages[{i}]` must be an object{shape}"))),
            None => Ok(all),
        },
        Some(_) => Err(bad(format!("`messages` must be a list{shape}"))),
    }
}

/// What is wrong with a text that isn't JSON.
fn not_json(error: &serde_json::Error, json: &[u8], shape: &str) -> String {
    let said = error.to_string();
    if said.contains("surrogate") || said.contains("unexpected end of hex escape") {
        let help = "write the character itself, or both halves, such as \\ud83d\\ude00";
        return format!(
            "not valid JSON: {error}: half of a UTF-16 pair (\\ud800 to \\udfff) is no character\n  help: {help}"
        );
    }
    if json.starts_with(b"\xff\xfe") || json.starts_with(b"\xfe\xff") {
        return format!("it is UTF-16, and JSON is UTF-8{shape}");
    }
    format!("not valid JSON: {error}{shape}")
}

/// Whether any message has words.
fn says_something(conversation: &Map<String, Value>) -> bool {
    let messages = conversation.get("messages").and_then(Value::as_array);
    let has_words =
        |message: &Value| message.get("content").and_then(Value::as_str).is_some_and(|c| !c.trim().is_empty());
    messages.is_some_and(|messages| messages.iter().any(has_words))
}

fn failure(error: CodecError) -> Failure {
    match error {
        CodecError::Template(e) => bad_template(&e),
        CodecError::Io { .. } => {
            Failure::bad_file(format!("{error}\n  help: give a GGUF file, a model's folder or a .jinja file"))
        }
        other => Failure::bad_file(other),
    }
}

fn bad_template(error: &Error) -> Failure {
    let help = match error.kind {
        Kind::Syntax => "this is no Jinja that Python's jinja2 would read; mend the template",
        Kind::Raised => "change the conversation as the template asks",
        Kind::Undefined if error.message.contains("_token` isn't") => {
            "a template alone brings no tokens: give the model itself, or put it into the conversation's object"
        }
        Kind::Undefined | Kind::Value => "the template expects a conversation of another form, or has a mistake there",
        Kind::Refused => "a chat template has no business there; don't use it, or mend it",
        Kind::Limit => "chat templates need far less; don't use it, or mend it",
    };
    Failure::bad_file(format!("{error}\n  help: {help}"))
}
