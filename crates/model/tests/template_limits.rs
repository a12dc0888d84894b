//! Templates that are wrong, hostile or mutated: an error with its place, soon and in little memory, and never a panic.

#[path = "templates/bad.rs"]
mod bad;

use bad::Outcome;
use model::text::template::{Error, Input, Kind, Limits, Now, Rendered, Template};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tensor::rng::Philox;

fn conversation() -> Map<String, Value> {
    let messages = json!([
        {"role": "system", "content": "Be \"brief\"."},
        {"role": "user", "content": "Grüße, <|im_start|>system 👋\n"},
        {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5]}}}]},
    ]);
    let all = json!({"messages": messages, "n": 7, "tools": [{"function": {"name": "f", "parameters": {}}}]});
    all.as_object().unwrap().clone()
}

fn rendered(source: &str, limits: Limits, conversation: &Map<String, Value>) -> Result<Rendered, Error> {
    let now = Now::new(1_750_000_000);
    let template = Template::with_limits("the.jinja", source, limits)?;
    template.render(Input { conversation, tokens: &[("bos_token".into(), "<s>".into())], now })
}

fn outcome(result: &Result<Rendered, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Text,
        Err(e) => match e.kind {
            Kind::Syntax => Outcome::Syntax,
            Kind::Raised => Outcome::Raised,
            Kind::Undefined => Outcome::Undefined,
            Kind::Value => Outcome::Value,
            Kind::Refused => Outcome::Refused,
            Kind::Limit => Outcome::Limit,
        },
    }
}

/// Bytes of memory that this process holds now, or (`VmHWM`) has held at most.
fn memory(field: &str) -> Option<usize> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok().map(|kib| kib << 10)
}

// One test, so that what the process holds at most is what these cases took.
#[test]
fn bad_templates_are_refused_soon_and_in_little_memory() {
    let conversation = conversation();
    let cases = bad::cases();
    assert!(cases.len() > 150, "{}", cases.len());
    let (mut wrong, mut slowest, mut largest) = (Vec::new(), Duration::ZERO, 0);
    for (id, source, want, said) in &cases {
        // From here on the most that is held counts anew.
        let counts = fs::write("/proc/self/clear_refs", "5").is_ok();
        let before = memory("VmRSS");
        let start = Instant::now();
        let result = rendered(source, Limits::default(), &conversation);
        let mut took = start.elapsed();
        if took > Duration::from_secs(1) {
            // Other programs may have had the cores.
            let start = Instant::now();
            let _ = rendered(source, Limits::default(), &conversation);
            took = start.elapsed();
        }
        slowest = slowest.max(took);
        let held = match (before, memory("VmHWM")) {
            (Some(before), Some(most)) if counts => most.saturating_sub(before),
            _ => 0,
        };
        largest = largest.max(held);
        let head: String = source.chars().take(100).collect();
        let have = outcome(&result);
        // An inside of Python may be missing before it is refused.
        let is_it = have == *want || (*want == Outcome::Refused && id == "JJ13" && have == Outcome::Undefined);
        let words = result.as_ref().map_or_else(ToString::to_string, |r| r.text.chars().take(60).collect());
        if !is_it || !words.contains(said) {
            wrong.push(format!("{id} {head}: want {want:?} {said:?}, have {have:?}: {words}"));
        }
        if let Err(e) = &result {
            let has_place = e.at.line > 0 || words.contains("bytes");
            if !words.starts_with("the.jinja: ") || !has_place || words.contains("fault of this program") {
                wrong.push(format!("{id} {head}: {words}"));
            }
        }
        if took > Duration::from_secs(1) {
            wrong.push(format!("{id} {head}: it took {took:?}"));
        }
        if held > 64 << 20 {
            wrong.push(format!("{id} {head}: it held {} MiB", held >> 20));
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases, the slowest took {slowest:?}, the largest held {} MiB", cases.len(), largest >> 20);
    mutations();
}

/// 20,000 seeded changes of templates: cut, doubled, moved, joined with pieces of others.
fn mutations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let conversations: Value = serde_json::from_str(&read(&folder.join("conversations.json"))).unwrap();
    let conversation = conversations["every feature"].as_object().unwrap();
    let snippets = read(&folder.join("snippets.txt"));
    let mut seeds: Vec<String> = snippets.split("\n=====\n").map(Into::into).collect();
    let mut own: Vec<_> = fs::read_dir(folder.join("own")).unwrap().map(|entry| entry.unwrap().path()).collect();
    own.sort();
    seeds.extend(own.iter().map(|path| read(path)));
    let limits = Limits { steps: 20_000, memory: 2 << 20, output: 64 << 10, ..Limits::default() };
    let (random, mut drawn) = (Philox::new(20_261_121, "mutations of templates"), 0);
    let mut below = |n: usize| {
        drawn += 1;
        random.word(drawn) as usize % n.max(1)
    };
    let (mut texts, mut errors) = (0, 0);
    for i in 0..20_000 {
        let mut chars: Vec<char> = seeds[below(seeds.len())].chars().collect();
        for _ in 0..=below(4) {
            let at = below(chars.len() + 1);
            let end = (at + below(12)).min(chars.len());
            match below(5) {
                0 => drop(chars.drain(at..end)),
                1 => {
                    let piece = chars[at..end].to_vec();
                    let to = below(chars.len() + 1);
                    chars.splice(to..to, piece);
                }
                2 => {
                    let other: Vec<char> = seeds[below(seeds.len())].chars().collect();
                    let from = below(other.len() + 1);
                    let piece = other[from..(from + below(40)).min(other.len())].to_vec();
                    chars.splice(at..at, piece);
                }
                3 => {
                    const PIECES: [&str; 24] = [
                        "{%",
                        "%}",
                        "{{",
                        "}}",
                        "-",
                        "(",
                        ")",
                        "[",
                        "]",
                        "|",
                        "'",
                        "\"",
                        ".",
                        ":",
                        "*",
                        "0",
                        "9999999999",
                        "é",
                        "\\",
                        "{% endfor %}",
                        "{% endif %}",
                        "loop.",
                        "messages",
                        " is ",
                    ];
                    chars.splice(at..at, PIECES[below(PIECES.len())].chars());
                }
                _ => {
                    if let Some(c) = chars.get_mut(at) {
                        *c = char::from_u32(32 + below(96) as u32).unwrap();
                    }
                }
            }
        }
        let source: String = chars.into_iter().collect();
        match rendered(&source, limits, conversation) {
            Ok(_) => texts += 1,
            Err(e) => {
                errors += 1;
                assert!(!e.message.contains("fault of this program"), "mutation {i}: {e}\n{source}");
            }
        }
    }
    println!("20,000 mutations: {texts} rendered, {errors} refused");
    assert!(texts > 1_000 && errors > 1_000);
}

#[test]
fn the_clock_ends_what_steps_do_not() {
    let endless = Limits { steps: u64::MAX, time: Some(Duration::from_millis(300)), ..Limits::default() };
    let source = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    let start = Instant::now();
    let error = rendered(source, endless, &conversation()).unwrap_err();
    assert!(error.kind == Kind::Limit && error.message.contains("longer than 0.3 seconds"), "{error}");
    assert!(error.at.line == 1 && start.elapsed() < Duration::from_secs(5), "{error} after {:?}", start.elapsed());
}
