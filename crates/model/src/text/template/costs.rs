//! What every filter, test, method, function and operator costs: none may go on for long on little fuel.

use super::error::Kind;
use super::{Input, Limits, Now, Template, call, filters, methods, tests};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// What the templates go over, by name: long lists and texts, words, messages, pairs, a dictionary, long numbers.
/// `S` and `U` are the conversation's.
const GIVEN: [(&str, &str); 12] = [
    ("L", "range(100000) | list"),
    ("LL", "[range(100000) | list, range(100000) | list]"),
    ("T", "'ab cd\n' * 23000"),
    ("W", "range(4000) | map('string') | list"),
    ("M", "[{'role': 'user1', 'content': 1}, {'role': 'user2', 'content': 2}] * 500"),
    ("P", "range(4000) | map('string') | batch(2) | list"),
    ("D", "dict(range(4000) | map('string') | batch(2))"),
    ("F", "1e308"),
    ("E", "2 ** 100"),
    ("R", "range(100000)"),
    ("N", "'5'"),
    ("G", "12345"),
];

/// Few enough for a test.
const STEPS: u64 = 300_000;

fn conversation() -> Map<String, Value> {
    let text = "Word \u{e9}\u{df} &amp; <b>\t\u{1}\n";
    let all = json!({"messages": [], "U": text.repeat(140_000 / text.len()), "S": "x".repeat(140_000)});
    all.as_object().unwrap().clone()
}

/// A template that sets what `expression` uses.
fn given(expression: &str) -> String {
    let used = |name: &str| expression.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name);
    let set = GIVEN.iter().filter(|(name, _)| used(name)).map(|(name, value)| format!("{{% set {name} = {value} %}}"));
    set.collect()
}

/// Arguments to try a name with, beside none.
fn arguments(name: &str) -> &'static [&'static str] {
    match name {
        "attr" => &["'upper'", "'items'"],
        "batch" | "slice" => &["3", "1", "5000, 'x'"],
        "center" | "ljust" | "rjust" | "zfill" => &["200000", "200000, '\u{e9}'"],
        "default" | "d" => &["S, true"],
        "dictsort" => &["true, 'value'", "by='value'"],
        "format" => &["L", "S", "F"],
        "groupby" => &["'content'", "0", "'role'"],
        "indent" => &["4, true, true", "S"],
        "join" => &["', '", "W", "', ', 'role'", "L"],
        "map" => &["'string'", "attribute='role'", "'upper'", "attribute='x.y.z', default=1"],
        "max" | "min" | "unique" | "sort" => &["attribute='role'", "true", "false, true", "attribute='role,content'"],
        "sum" => &["'content'", "attribute=0", "start=[]", "start=5"],
        "reject" | "select" => &["'string'", "'in', W", "'eq', S", "'odd'"],
        "rejectattr" | "selectattr" => &["'role'", "'role', 'eq', 'user1'", "'content', 'odd'"],
        "replace" => &["'x', 'yy'", "'', '-'", "'xxxxxxxxxxxxxxxxxxxy', 'z'", "'a', S, 1", "S, 'a'"],
        "round" => &["300", "-3", "2, 'floor'"],
        "tojson" => &["indent=2", "sort_keys=true", "ensure_ascii=true"],
        "trim" | "strip" | "lstrip" | "rstrip" => &["'abcdx \n'", "S", "U"],
        "truncate" => &["139000", "139000, true"],
        "int" => &["0, 16"],
        "divisibleby" => &["3"],
        "in" => &["L", "S", "W", "D", "M", "P"],
        "sameas" => &["L", "S", "F", "none"],
        "eq" | "equalto" | "ne" | "gt" | "greaterthan" | "ge" | "lt" | "lessthan" | "le" => {
            &["L", "S ~ ''", "M", "W[:]", "D", "P", "F", "E"]
        }
        "split" | "rsplit" => &["'x'", "'zzzzz'", "none, 3", "'ab', 1"],
        "find" | "rfind" | "index" | "rindex" | "count" | "partition" | "rpartition" => {
            &["'xxxxxxxxxxxxxxxxxxxxxy'", "'x'", "'\u{1}\nz'", "S", "'x', 5, 100000", "99999", "'&'"]
        }
        "startswith" | "endswith" => &["S", "('a', S, 'b')", "U", "'x', 70000"],
        "removeprefix" | "removesuffix" => &["S", "'x'", "U"],
        "expandtabs" => &["3"],
        "splitlines" => &["true"],
        "get" => &["'key 1'", "5", "S"],
        "format_map" => &["D"],
        "range" => &["5", "0, 100000, 3"],
        "dict" => &["D", "P", "a=1, b=S"],
        "namespace" => &["D", "P", "a=1, b=S"],
        "cycler" => &["1, 2", "*L"],
        "joiner" => &["S", "L"],
        "strftime_now" => &["'%c' * 1000", "'%Y-%m-%d'", "'x' * 4096"],
        _ => &[],
    }
}

fn operands() -> impl Iterator<Item = &'static str> {
    GIVEN.iter().map(|(name, _)| *name).chain(["S", "U"])
}

/// Every expression that is tried, by the name that it is about.
fn expressions() -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    let mut add = |name: &str, form: &dyn Fn(&str, &str) -> Vec<String>| {
        let tries = std::iter::once("").chain(arguments(name).iter().copied());
        let tries = tries.flat_map(|args| operands().flat_map(move |operand| form(operand, args)));
        all.push((name.to_string(), tries.collect()));
    };
    for name in filters::NAMES.iter().chain(&filters::MORE) {
        add(name, &|operand, args| vec![format!("{operand} | {name}({args}) is defined")]);
    }
    for name in tests::NAMES.iter().filter(|name| name.starts_with(char::is_alphabetic)) {
        add(name, &|operand, args| vec![format!("{operand} is {name}({args})")]);
    }
    for name in [&methods::OF_STRINGS[..], &methods::OF_DICTS, &methods::OF_LISTS].concat() {
        if !methods::UNCALLED.contains(&name) {
            add(name, &|operand, args| vec![format!("{operand}.{name}({args})")]);
        }
    }
    for name in call::FUNCTIONS.iter().filter(|name| !["raise_exception", "lipsum"].contains(name)) {
        add(name, &|_, args| vec![format!("{name}({args})")]);
    }
    for (name, operator) in [
        ("+", "{0} + {1}"),
        ("*", "{0} * 3"),
        ("-", "{0} - {1}"),
        ("/", "{0} / {1}"),
        ("//", "{0} // {1}"),
        ("rest", "{0} % {1}"),
        ("**", "{0} ** 2"),
        ("~", "{0} ~ {1}"),
        ("equal", "{0} == {1}"),
        ("less", "{0} < {1}"),
        ("element", "{1} in {0}"),
        ("slice of", "{0}[5:-5]"),
        ("back", "{0}[::-1]"),
        ("at", "{0}[70000]"),
        ("attribute", "{0}.missing"),
        ("negative", "-{0}"),
        ("percent", "'%s' % [{0}]"),
        ("float", "'%.300f' % {0}"),
        ("braces", "'{{:>200}} {{}}'.format({0}, {0})"),
        ("list", "[{0}, {1}]"),
        ("call", "dict(a={0}, **D)"),
        ("copies", "(({0}, {1}), {{'a': {0}}}) | string | length"),
    ] {
        let form = |left: &str, right: &str| operator.replace("{0}", left).replace("{1}", right);
        let form = |left: &str, right: &str| form(left, right).replace("{{", "{").replace("}}", "}");
        let pairs = operands().flat_map(|operand| [form(operand, operand), form(operand, "S"), form(operand, "L")]);
        all.push((name.to_string(), pairs.collect()));
    }
    all
}

/// What came of it, and how long it took.
fn tried(source: &str, steps: u64, conversation: &Map<String, Value>) -> (Result<String, (Kind, String)>, Duration) {
    let limits = Limits { steps, time: Some(Duration::from_secs(60)), ..Limits::default() };
    let start = Instant::now();
    let template = Template::with_limits("t", source, limits).unwrap();
    let rendered = template.render(Input { conversation, tokens: &[], now: Now::new(1_750_000_000) });
    (rendered.map(|r| r.text).map_err(|e| (e.kind, e.message)), start.elapsed())
}

/// Looks at one of every so many tries, and answers with what took the longest for a step.
fn all_in_loops(one_in: usize) -> (usize, Vec<(f64, String)>) {
    let conversation = conversation();
    let (mut wrong, mut slow, mut looped, mut number) = (Vec::new(), Vec::new(), 0, 0);
    for (name, tries) in expressions() {
        let mut works = 0;
        for expression in tries {
            number += 1;
            if works > 0 && number % one_in > 0 {
                continue;
            }
            let set = given(&expression);
            let once = format!("{set}{{{{ ({expression}) is defined }}}}");
            if tried(&once, 40_000_000, &conversation).0.is_err() {
                continue;
            }
            works += 1;
            let often = format!(
                "{set}{{% set A = range(100000) %}}{{% for i in A %}}{{% for j in A %}}{{% set x = {expression} %}}{{% endfor %}}{{% endfor %}}"
            );
            let (result, took) = tried(&often, STEPS, &conversation);
            looped += 1;
            slow.push((took.as_secs_f64(), expression.clone()));
            match result {
                Err((Kind::Limit, message)) if message.contains("steps") || message.contains("memory") => {}
                other => wrong.push(format!("{expression}: {other:?} after {took:?}")),
            }
        }
        if works == 0 {
            wrong.push(format!("{name}: nothing works"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    slow.sort_by(|a, b| b.0.total_cmp(&a.0));
    (looped, slow)
}

#[test]
fn nothing_goes_on_for_long_on_little_fuel() {
    let (looped, slow) = all_in_loops(20);
    let (longest, expression) = &slow[0];
    println!("{looped} templates, the longest took {longest:.2} s: {expression}");
    assert!(looped > 200 && *longest < 5.0, "{looped} templates, {longest:.2} s: {expression}");
}

/// `cargo test --release -p rondo-model --lib -- --ignored --nocapture every_cost`
#[test]
#[ignore = "takes minutes, and says something in a release build alone"]
fn every_cost_in_nanoseconds_a_step() {
    let (looped, slow) = all_in_loops(1);
    for (took, expression) in slow.iter().take(60) {
        println!("{:6.1} ns {expression}", took * 1e9 / (STEPS as f64 + 300_000.0));
    }
    println!("{looped} templates");
    assert!(slow[0].0 * 1e9 / (STEPS as f64) < 200.0);
}
