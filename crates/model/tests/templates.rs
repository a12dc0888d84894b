//! Chat templates against what Python's jinja2 makes of them (peers/template_goldens.py).

use model::text::template::{Input, Kind, Now, Template};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates")
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn tokens() -> Vec<(String, String)> {
    [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.into(), text.into())).into()
}

/// What came of it, in the words of the goldens.
fn rendered(source: &str, variables: &Map<String, Value>) -> Result<String, (Kind, String)> {
    let now = Now::parse("2026-03-05T07:08:09").unwrap();
    let tokens = tokens();
    let input = Input { conversation: variables, tokens: &tokens, now };
    let rendered = Template::parse("t", source).and_then(|template| template.render(input));
    rendered.map(|rendered| rendered.text).map_err(|e| (e.kind, e.message))
}

/// Why `have` isn't what `golden` says, if it isn't.
fn difference(have: &Result<String, (Kind, String)>, golden: &Value) -> Option<String> {
    let is_same = match (have, golden["text"].as_str(), golden["sha256"].as_str(), golden["error"].as_str()) {
        (Ok(text), Some(golden), _, _) => text == golden,
        (Ok(text), _, Some(golden), _) => {
            let hash: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
            golden == hash
        }
        (Err((kind, message)), _, _, Some(golden_kind)) => match golden_kind {
            "syntax" => matches!(kind, Kind::Syntax | Kind::Refused),
            "undefined" => *kind == Kind::Undefined,
            "raised" => *kind == Kind::Raised && golden["message"] == *message,
            "refused" => *kind == Kind::Refused,
            _ => matches!(kind, Kind::Value | Kind::Limit | Kind::Refused),
        },
        _ => false,
    };
    (!is_same).then(|| format!("have {have:?}\n  want {golden}"))
}

#[test]
fn every_feature_is_as_in_jinja2() {
    let (conversations, goldens) = (json("conversations.json"), json("goldens.json"));
    let variables = conversations["every feature"].as_object().unwrap();
    let text = fs::read_to_string(folder().join("snippets.txt")).unwrap();
    let snippets: Vec<&str> = text.split("\n=====\n").collect();
    let goldens = goldens["snippets"].as_array().unwrap();
    assert_eq!(snippets.len(), goldens.len());
    assert!(snippets.len() > 200);
    let mut wrong = Vec::new();
    for (snippet, golden) in snippets.iter().zip(goldens) {
        if let Some(what) = difference(&rendered(snippet, variables), golden) {
            wrong.push(format!("{snippet}\n  {what}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), snippets.len(), wrong.join("\n\n"));
}

/// Every conversation with a template, and how many were compared.
fn all_conversations(name: &str, source: &str, goldens: &Value, wrong: &mut Vec<String>) -> usize {
    let conversations = json("conversations.json");
    let conversations = conversations.as_object().unwrap();
    for (conversation, variables) in conversations {
        let golden = &goldens[conversation];
        assert!(golden.is_object(), "{name}: no golden of {conversation}");
        if let Some(what) = difference(&rendered(source, variables.as_object().unwrap()), golden) {
            wrong.push(format!("{name}, {conversation}\n  {what}"));
        }
    }
    conversations.len()
}

#[test]
fn own_templates_are_as_in_jinja2() {
    let goldens = json("goldens.json");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, goldens) in goldens["own"].as_object().unwrap() {
        let source = fs::read_to_string(folder().join("own").join(name)).unwrap();
        count += all_conversations(name, &source, goldens, &mut wrong);
    }
    assert!(count >= 100, "{count}");
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn published_templates_are_as_in_jinja2() {
    let goldens = json("goldens.json");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/templates");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, goldens) in goldens["published"].as_object().unwrap() {
        let Ok(source) = fs::read_to_string(shared.join(name)) else {
            println!("skipped: {name} isn't in {}", shared.display());
            continue;
        };
        count += all_conversations(name, &source, goldens, &mut wrong);
    }
    println!("{count} renderings compared");
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n\n"));
}
