//! `rondo run` as a user has it: what was learned comes back, whole characters, one clear error for each bad folder.

#[cfg(unix)]
mod terminal;
#[path = "../../../device/tests/there/mod.rs"]
mod there;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// X of the lines `X -> X` that `hlx-full` learns.
const LINES: [&str; 16] = [
    "Hello world",
    "Machine learning",
    "Neural network",
    "Deep learning",
    "Transformer model",
    "Attention mechanism",
    "Gradient descent",
    "Backpropagation",
    "Activation function",
    "Loss function",
    "Learning rate",
    "Training data",
    "Batch normalization",
    "Convolutional layer",
    "Recurrent network",
    "Language model",
];
const CPU: [&str; 4] = ["--device", "cpu", "--threads", "1"];

fn rondo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn done(folder: &Path, args: &[&str]) -> Output {
    rondo(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn expect(output: &Output, code: i32, said: &str) {
    let stderr = text(&output.stderr);
    let found = output.status.code();
    assert!(
        found == Some(code) && stderr.contains(said),
        "exit {found:?}, not {code} with `{said}`; stderr:\n{stderr}"
    );
}

/// A folder with the runs `learned` (hlx-full, whole) and `started` (tiny-llama, 2 steps): trained once for all tests.
fn runs() -> &'static Path {
    static RUNS: OnceLock<PathBuf> = OnceLock::new();
    RUNS.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("run");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        let train = |preset, name, steps| {
            let line = [&["train", "--preset", preset, "--out", name, "--steps", steps][..], &CPU].concat();
            expect(&done(&place, &line), 0, "");
        };
        train("hlx-full", "learned", "400");
        train("tiny-llama", "started", "2");
        place
    })
}

/// A copy of the run `learned`'s last checkpoint: a model folder of one's own.
fn model(name: &str) -> PathBuf {
    let (from, to) = (runs().join("learned/checkpoints/step-400"), runs().join(name));
    fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs::copy(from.join(file), to.join(file)).unwrap();
    }
    to
}

/// The first sixteen characters of each line, and the shortest beginning that is no other line's.
fn prefixes() -> Vec<(String, String)> {
    let lines: Vec<String> = LINES.iter().map(|x| format!("{x} -> {x}")[..16].to_string()).collect();
    let unique = |line: &String| {
        let is_its_own = |length: &usize| lines.iter().filter(|l| l.starts_with(&line[..*length])).count() == 1;
        line[..(1..=16).find(is_its_own).unwrap()].to_string()
    };
    let shortest: Vec<String> = lines.iter().map(unique).collect();
    shortest.into_iter().zip(lines).collect()
}

#[test]
fn every_line_that_was_learned_comes_back_from_its_shortest_beginning() {
    for (prefix, line) in prefixes() {
        let output = done(runs(), &[&["run", "learned", &prefix, "--greedy"][..], &CPU].concat());
        expect(&output, 0, "learned after step 400");
        // The prompt isn't repeated, and the context, 16 positions, ends the answer.
        assert_eq!(text(&output.stdout), format!("{}\n", &line[prefix.len()..]));
    }
}

#[test]
fn every_line_comes_back_on_gpus_as_well() {
    let folder = model::Folder::open(&model("for-gpus")).unwrap();
    for choice in [device::Choice::Vulkan(None), device::Choice::Cuda(0)] {
        let Some(device) = there::open(choice, &device::Options::default()) else { continue };
        // As the verb does it, but for recordings that are made once and not for each of sixteen lines.
        let mut engine = engine::Engine::new(&device, &folder.config, engine::Options::default(), |entry| {
            Ok(folder.parameter(&entry.name, &entry.ty.shape).unwrap())
        })
        .unwrap();
        for (prefix, line) in prefixes() {
            let prompt = folder.tokenizer.encode(prefix.as_bytes()).unwrap();
            let request =
                engine::Request { prompt, sampling: engine::Sampling::GREEDY, max_tokens: 100, stop: Vec::new() };
            let tokens = engine.generate(&request).unwrap();
            let bytes: Vec<u8> = tokens.flat_map(|token| folder.tokenizer.bytes(token.unwrap().id)).collect();
            assert_eq!(text(&bytes), line[prefix.len()..], "{device}", device = device.spec().name);
        }
        drop(engine);
        let kind = if matches!(choice, device::Choice::Cuda(_)) { "cuda" } else { "vulkan" };
        let output = done(runs(), &["run", "for-gpus", "Deep", "--greedy", "--device", kind]);
        expect(&output, 0, "asked for");
        assert_eq!(text(&output.stdout), " learning ->\n");
    }
}

#[test]
fn a_prompt_may_be_piped_and_the_answer_may_be_json() {
    let args = ["run", "learned", "--greedy", "--json", "--device", "cpu", "--threads", "1", "--verbose"];
    let mut child =
        rondo(runs(), &args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Deep\n").unwrap();
    let output = child.wait_with_output().unwrap();
    expect(&output, 0, "% of this machine's limit");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["text"], &answer["finish_reason"]), (&" learning ->".into(), &"context".into()));
    assert_eq!((&answer["prompt_tokens"], &answer["tokens"]), (&4.into(), &12.into()));
    // In the fewest digits, not as the f32 that it is.
    let warm = done(runs(), &[&["run", "learned", "Deep", "--json"][..], &CPU].concat());
    assert!(text(&warm.stdout).contains("\"temperature\": 0.8,"), "{}", text(&warm.stdout));
    assert!(
        answer["tokens_per_second"].as_f64() > Some(0.0) && answer["percent_of_limit"].as_f64() > Some(0.0),
        "{answer}"
    );
}

#[test]
fn the_seed_decides_and_threads_do_not() {
    let answer = |more: &[&str]| {
        let output =
            done(runs(), &[&["run", "started", "Once", "--max-tokens", "40", "--device", "cpu"], more].concat());
        expect(&output, 0, "");
        output.stdout
    };
    let first = answer(&["--threads", "1"]);
    assert_eq!(first, answer(&["--threads", "2"]));
    assert_eq!(first, answer(&["--threads", "1", "--seed", "0", "--temperature", "0.8", "--top-p", "0.95"]));
    let seeds: BTreeSet<_> = ["1", "2", "3"].map(|seed| answer(&["--threads", "1", "--seed", seed])).into();
    assert_eq!(seeds.len(), 3);
    assert_eq!(answer(&["--temperature", "0"]), answer(&["--greedy"]));
}

#[test]
fn only_whole_characters_are_shown() {
    // A model that hardly learned makes any bytes, and so many that are no characters.
    let line =
        [&["run", "started", "\u{e9}t\u{e9}", "--temperature", "2", "--top-p", "1", "--max-tokens", "50"][..], &CPU]
            .concat();
    let output = done(runs(), &line);
    expect(&output, 0, "");
    let shown = text(&output.stdout);
    assert!(shown.ends_with('\n') && shown.contains(char::REPLACEMENT_CHARACTER), "{shown}");
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let line = [&["run", "started", "Once", "--max-tokens", "60"][..], &CPU].concat();
    let mut child = rondo(runs(), &line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success() && !said.contains("error") && !said.contains("panic"), "{said}");
}

#[test]
fn folders_and_checkpoints_are_found() {
    let run = |args: &[&str]| done(runs(), &[&["run"], args, &["--greedy"], &CPU].concat());
    model("alone");
    let alone = run(&["alone", "Deep"]);
    expect(&alone, 0, "model   alone: 4 layers");
    assert_eq!(text(&alone.stdout), " learning ->\n");
    expect(&run(&["learned", "Deep", "--checkpoint", "step-400"]), 0, "after step 400");
    expect(&run(&["learned", "Deep", "--checkpoint", "step-3"]), 3, "no whole checkpoint `step-3`; there are: step-");
    expect(&run(&["alone", "Deep", "--checkpoint", "best"]), 2, "it has no checkpoints");
    expect(&run(&["alone", "Deep", "--ctx", "8"]), 0, "context 8 of 16");
    expect(&run(&["alone", "Deep", "--ctx", "17"]), 2, "a context of 17 tokens is asked for; the model has 16");
    expect(&run(&["alone", "Deep", "--ctx", "1"]), 2, "help: it must be at least 2; the model has 16");
    expect(&run(&["alone", "Deep", "--ctx", "0"]), 2, "--ctx is 0; it must be at least 2");
    expect(&run(&["alone", "Deep learning -> Deep learning"]), 2, "the prompt has 30 tokens, and the context");
    expect(&run(&["alone", "Deep", "--max-tokens", "0"]), 2, "max_tokens must be at least 1");
    expect(&run(&["alone", "Deep", "--top-p", "1.5"]), 2, "top_p is 1.5");
    expect(&run(&["nowhere", "Deep"]), 3, "nowhere is not there");
    // A newest checkpoint that is damaged: the one before is used, and it is said.
    let copy = runs().join("damaged/checkpoints");
    for step in ["step-399", "step-400"] {
        fs::create_dir_all(copy.join(step)).unwrap();
        for file in fs::read_dir(runs().join("learned/checkpoints/step-400")).unwrap().flatten() {
            fs::copy(file.path(), copy.join(step).join(file.file_name())).unwrap();
        }
    }
    let weights = copy.join("step-400/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    let output = run(&["damaged", "Deep"]);
    expect(&output, 0, "this checkpoint is skipped");
    assert_eq!(text(&output.stdout), " learning ->\n");
    expect(&run(&["damaged", "Deep", "--checkpoint", "step-400"]), 3, "model.safetensors");
}

#[test]
fn a_folder_without_a_model_says_where_one_is() {
    let run = |folder: &str| done(runs(), &[&["run", folder, "Deep"][..], &CPU].concat());
    runs();
    let place = runs().join("several");
    for name in ["one", "two"] {
        let checkpoint = place.join(name).join("checkpoints/step-400");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::copy(runs().join("learned/config.toml"), place.join(name).join("config.toml")).unwrap();
    }
    expect(&run("several"), 3, "several is neither a run nor a model\n  help: there is in it: rondo run several/one, ");
    fs::create_dir_all(runs().join("empty")).unwrap();
    expect(&run("empty"), 3, "empty is neither a run nor a model\n  help: name a run's folder");
    let said = "learned/checkpoints holds a run's checkpoints\n  help: rondo run learned, or of step 400: rondo run ";
    expect(&run("learned/checkpoints"), 3, said);
    // A run that has only begun.
    let young = runs().join("young");
    fs::create_dir_all(&young).unwrap();
    fs::copy(runs().join("learned/config.toml"), young.join("config.toml")).unwrap();
    for _ in 0..2 {
        expect(&run("young"), 3, "young: no checkpoint yet; the run saves its first one at step 400");
        expect(&run("young"), 3, "rondo train --resume young");
        fs::create_dir_all(young.join("checkpoints")).unwrap();
    }
}

#[test]
fn numbers_below_zero_are_refused_in_words() {
    let refused = |args: &[&str], said: &str| {
        let output = done(runs(), &[&["run", "learned", "Deep"], args, &CPU].concat());
        expect(&output, 2, said);
        let said = text(&output.stderr);
        assert!(!said.contains("-- -1"), "{said}");
    };
    refused(&["--temperature", "-1"], "temperature is -1; it must be 0 or more");
    refused(&["--top-p", "-0.5"], "top_p is -0.5; it must be above 0 and at most 1");
    refused(&["--min-p", "-1"], "min_p is -1; it must be from 0 to 1");
    for flag in ["--top-k", "--seed", "--max-tokens", "--ctx"] {
        refused(&[flag, "-1"], "it must be a whole number from 0");
        refused(&[flag, "-1"], "help: `rondo help VERB` says what it takes");
    }
    let smooth = done(runs(), &["plot", "learned", "--smooth", "-1"]);
    expect(&smooth, 2, "it must be a whole number from 0");
}

#[cfg(unix)]
#[test]
fn standard_input_is_read_as_far_as_there_is_use_in_it() {
    let mut endless = rondo(runs(), &[&["run", "learned"][..], &CPU].concat());
    let output = endless.stdin(fs::File::open("/dev/zero").unwrap()).output().unwrap();
    expect(
        &output,
        2,
        "the prompt on standard input is longer than 1.0 MB\n  help: prompt and answer together have 16",
    );
    let latin = runs().join("latin.txt");
    fs::write(&latin, b"Deep\ncaf\xe9").unwrap();
    let mut latin_1 = rondo(runs(), &[&["run", "learned"][..], &CPU].concat());
    let output = latin_1.stdin(fs::File::open(latin).unwrap()).output().unwrap();
    expect(&output, 2, "not valid UTF-8: byte 9 (0xE9, in line 2) begins no character\n  help: this model reads text");
}

#[cfg(target_os = "linux")]
#[test]
fn a_product_that_cannot_be_written_is_an_error() {
    let plan = ["plan", "hlx-simple", "--spec", "h200", "--json"];
    let run = [&["run", "learned", "Deep", "--greedy"][..], &CPU].concat();
    for args in [
        &["show", "learned"][..],
        &["ops"],
        &plan,
        &["--help"],
        &["completions", "bash"],
        &run,
        &[&run[..], &["--json"]].concat(),
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = rondo(runs(), args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        expect(&output, 1, "standard output can't be written: No space left on device");
        assert_eq!(text(&output.stderr).matches("can't be written").count(), 1);
    }
}

#[test]
fn a_folder_that_is_no_model_is_refused_in_a_line() {
    let refused = |name: &str, file: &str, change: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>, said: &str| {
        let folder = model(name);
        match change(fs::read(folder.join(file)).unwrap()) {
            Some(bytes) => fs::write(folder.join(file), bytes).unwrap(),
            None => fs::remove_file(folder.join(file)).unwrap(),
        }
        let output = done(runs(), &[&["run", name, "Deep"][..], &CPU].concat());
        expect(&output, 3, said);
        let said = text(&output.stderr);
        assert!(said.contains(&format!("{name}/{file}")) || said.contains(&format!("error: {name}")), "{said}");
        assert!(output.stdout.is_empty());
    };
    let put = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| {
            let changed = text(&bytes).replacen(from, to, 1);
            assert_ne!(changed.as_bytes(), bytes, "`{from}` is there");
            Some(changed.into_bytes())
        }
    };
    refused("no-config", "config.json", &|_| None, "No such file");
    refused("no-tokenizer", "tokenizer.json", &|_| None, "No such file");
    refused("no-weights", "model.safetensors", &|_| None, "No such file");
    refused("cut", "model.safetensors", &|bytes| Some(bytes[..bytes.len() - 5].into()), "model.safetensors");
    refused("cut-early", "model.safetensors", &|_| Some(b"{".into()), "model.safetensors");
    refused("no-json", "config.json", &|_| Some(b"{\"model_type".into()), "not valid JSON");
    refused("another", "config.json", &put("\"rondo\"", "\"qwen9\""), "model_type is `qwen9`");
    refused("newer", "config.json", &put("\"vocab_size\"", "\"window\": 4, \"vocab_size\""), "the key `window`");
    refused("newer-kind", "config.json", &put("\"attention\"", "\"lookahead\""), "lookahead");
    refused("newer-text", "config.json", &put("\"ascii\"", "\"words\""), "kind `words`");
    refused("senseless", "config.json", &put("\"num_heads\": 4", "\"num_heads\": 3"), "which 3 heads");
    refused("deeper", "config.json", &put("\"num_layers\": 4", "\"num_layers\": 5"), "doesn't have it");
    refused("wider", "config.json", &put("\"vocab_size\": 128", "\"vocab_size\": 256"), "the model needs [256, 256]");
    refused("narrower", "config.json", &put("\"vocab_size\": 128", "\"vocab_size\": 64"), "they don't belong together");
}
