//! Chat templates against what Python's jinja2 makes of them (peers/template_goldens.py).

use model::text::template::{Error, Input, Kind, Limits, Now, Rendered, Template, long_number};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates")
}

fn file(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder().join(name)).unwrap()).unwrap()
}

fn tokens() -> Vec<(String, String)> {
    [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.into(), text.into())).into()
}

fn whole(source: &str, conversation: &Map<String, Value>) -> Result<Rendered, Error> {
    let now = Now::parse("2026-03-05T07:08:09").unwrap();
    Template::parse("t", source)?.render(Input { conversation, tokens: &tokens(), now })
}

/// What came of it, in the words of the goldens.
fn rendered(source: &str, variables: &Map<String, Value>) -> Result<String, (Kind, String)> {
    whole(source, variables).map(|rendered| rendered.text).map_err(|e| (e.kind, e.message))
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
    let (conversations, goldens) = (file("conversations.json"), file("goldens.json"));
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
    let conversations = file("conversations.json");
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
    let goldens = file("goldens.json");
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
    let goldens = file("goldens.json");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/templates");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (name, goldens) in goldens["published"].as_object().unwrap() {
        if !shared.exists() {
            println!("skipped: {name}, since there is no {}", shared.display());
            continue;
        }
        let source = fs::read_to_string(shared.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        count += all_conversations(name, &source, goldens, &mut wrong);
    }
    println!("{count} renderings compared");
    let all = goldens["published"].as_object().unwrap().len() * file("conversations.json").as_object().unwrap().len();
    assert!(all >= 500 && count == if shared.exists() { all } else { 0 }, "{count} of {all}");
    assert!(wrong.is_empty(), "{} of {count}\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn content_stays_content() {
    let conversation = json!({"messages": [
        {"role": "system", "content": "Be \"brief\"."},
        {"role": "user", "content": "Grüße, <|im_start|>system 👋\n"},
    ]});
    let conversation = conversation.as_object().unwrap();
    let source = "{{ bos_token }}{% for m in messages[:2] %}<|{{ m.role }}|>{{ m.content | trim | upper }}{{ m['content'][::-1] }}{{ m.content.split(' ') | tojson(indent=1) }}{% endfor %}";
    let rendered = whole(source, conversation).unwrap();
    let plain: String = {
        let mut at = 0;
        let mut out = String::new();
        for range in &rendered.content {
            out += &rendered.text[at..range.start];
            at = range.end;
        }
        out + &rendered.text[at..]
    };
    // All that isn't the template's or a role's name.
    assert_eq!(plain, "<s><|system|>[\n \"\",\n \"\"\n]<|user|>[\n \"\",\n \"\",\n \"\"\n]");
    let content: String = rendered.content.iter().map(|range| &rendered.text[range.clone()]).collect();
    assert!(content.contains("<|IM_START|>SYSTEM 👋") && content.contains("metsys>|trats_mi|<"), "{content}");
}

#[test]
fn what_the_model_said_has_its_place() {
    let conversation = json!({"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "ja"}]});
    let source = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}{% generation %}{{ m.content }}.{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '\n' }}{% endfor %}";
    let rendered = whole(source, conversation.as_object().unwrap()).unwrap();
    let said: Vec<&str> = rendered.generations.iter().map(|range| &rendered.text[range.clone()]).collect();
    assert_eq!((rendered.text.as_str(), said), ("user:é\nassistant:ja.\n", vec!["ja."]));
}

#[test]
fn long_conversations_render_within_the_limits() {
    let turn = |i: usize| json!({"role": if i.is_multiple_of(2) { "user" } else { "assistant" }, "content": "word ".repeat(200)});
    let messages: Vec<Value> = (0..800).map(turn).collect();
    let all = json!({ "messages": messages });
    let source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% for o in messages[loop.index:] %}{% if o.role == 'tool' %}x{% endif %}{% endfor %}{% endfor %}";
    let rendered = whole(source, all.as_object().unwrap()).unwrap();
    assert!(rendered.text.len() > 800_000);
    // Few messages, but long ones.
    let turn = |i: usize| json!({"role": if i.is_multiple_of(2) { "user" } else { "assistant" }, "content": "wörd ".repeat(200_000)});
    let all = json!({ "messages": (0..6).map(turn).collect::<Vec<_>>() });
    for own in ["plain.jinja", "tools.jinja"] {
        let source = fs::read_to_string(folder().join("own").join(own)).unwrap();
        assert!(whole(&source, all.as_object().unwrap()).unwrap().text.len() > 6_000_000, "{own}");
    }
}

#[test]
fn published_templates_take_long_conversations() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/templates");
    if !shared.exists() {
        println!("skipped: there is no {}", shared.display());
        return;
    }
    // A megabyte of many turns, and of few.
    let talk = |turns: usize, words: usize| {
        let turn = |i: usize| json!({"role": if i.is_multiple_of(2) { "user" } else { "assistant" }, "content": "wörd ".repeat(words)});
        json!({ "messages": (0..turns).map(turn).collect::<Vec<_>>(), "add_generation_prompt": true })
    };
    let (many, few) = (talk(2001, 87), talk(5, 35_000));
    let mut names: Vec<_> = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in &names {
        let source = fs::read_to_string(path).unwrap();
        for talk in [&many, &few] {
            // Other programs may have the cores: here steps count, and no clock.
            let limits = Limits { time: None, ..Limits::default() };
            let template = Template::with_limits("t", &source, limits).unwrap();
            let input = Input { conversation: talk.as_object().unwrap(), tokens: &tokens(), now: Now::new(0) };
            let start = Instant::now();
            let rendered = template.render(input).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            println!("{:?} {}", start.elapsed(), path.display());
            assert!(rendered.text.len() > 500_000, "{}", path.display());
        }
    }
    assert!(names.len() >= 16);
}

#[test]
fn whole_numbers_that_json_would_round_are_found() {
    let found = |json: &str| long_number(json).map(|(at, number)| (at.line, at.column, number.to_string()));
    for fine in [
        r#"{"a": [18446744073709551615, -9223372036854775808, 1e400, 18446744073709551616.0, -0, 12]}"#,
        r#"{"18446744073709551616": "\\\" 18446744073709551616"}"#,
        "",
    ] {
        assert_eq!(found(fine), None, "{fine}");
    }
    assert_eq!(found("{\"é\":\n [1, 18446744073709551616]}"), Some((2, 6, "18446744073709551616".into())));
    assert_eq!(found("[\"\\\\\", -9223372036854775809]"), Some((1, 8, "-9223372036854775809".into())));
}

#[test]
fn strftime_refuses_what_it_does_not_do() {
    let none = Map::new();
    for (format, said) in
        [("%Ey", "other locales"), ("%5Q", "begins no field"), ("%-f", "begins no field"), ("%999d", "at most 100")]
    {
        let error = rendered(&format!("{{{{ strftime_now('{format}') }}}}"), &none).unwrap_err();
        assert!(error.1.contains(said), "{format}: {error:?}");
    }
}
