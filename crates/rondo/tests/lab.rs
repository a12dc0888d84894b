//! The verbs that check and measure, as a user starts them.

use std::process::{Command, Output};

fn rondo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rondo")).args(arguments).output().expect("the program starts")
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let out = rondo(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}"))
}

/// Exit code, and what was said on stderr.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let out = rondo(arguments);
    assert!(out.stdout.is_empty(), "{arguments:?} failed and had a product");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn every_op_is_listed_and_can_be_checked_by_name() {
    let table = json(&["ops", "--json"]);
    let names: Vec<_> = table.as_array().unwrap().iter().map(|row| row["op"].as_str().unwrap()).collect();
    assert_eq!(names.len(), ops::OPS.len());
    let report = json(&["check", names[0], "--device", "cpu", "--threads", "1", "--json"]);
    assert_eq!(report[0]["op"], names[0]);
    assert_eq!(report[0]["failures"], serde_json::json!([]));
    assert!(report[0]["runs"].as_u64().unwrap() > 0);
}

#[test]
fn doctor_measures_the_processor() {
    let findings = json(&["doctor", "--json"]);
    let cpu = findings.as_array().unwrap().iter().find(|f| f["what"] == "cpu").unwrap();
    assert_eq!(cpu["verdict"], "ok");
    assert!(cpu["spec"]["limits"]["f32_flops"].as_f64().unwrap() > 1e8);
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let (code, text) = refusal(&["check", "mattmul"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("there is no op `mattmul`"), "{text}");
    let (code, text) = refusal(&["bench", "train", "hlx-simple", "--python", "/nowhere/python"]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("--python PATH"), "{text}");
    let (code, text) = refusal(&["bench", "train", "gpt-small-test"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("hlx-full"), "{text}");
    let (code, text) = refusal(&["bench", "train", "no-such-preset"]);
    assert_eq!(code, Some(2), "{text}");
}
