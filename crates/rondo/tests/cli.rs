//! The command line as a user has it: exit codes, what goes to stdout and stderr, files, interruption.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("rondo-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn rondo(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        command.args(line.split_whitespace()).current_dir(&self.0);
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CPU: &str = "--device cpu --threads 1";

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(output: &Output, wanted: i32, said: &str) {
    let stderr = text(&output.stderr);
    assert!(code(output) == wanted && stderr.contains(said), "exit {}, stderr:\n{stderr}", code(output));
}

#[test]
fn usage_and_bad_files_have_exit_codes_of_their_own() {
    let place = Place::new("codes");
    expect(&place.rondo("train --presett hlx-full"), 2, "--preset");
    expect(&place.rondo("train"), 2, "--preset");
    expect(&place.rondo("train --preset hlx-ful"), 2, "the presets are hlx-simple, hlx-full");
    expect(&place.rondo("train --preset hlx-full --set optimiser.lr=1"), 2, "did you mean `optimizer.lr`?");
    expect(&place.rondo("train --preset hlx-full --device tpu"), 2, "unknown device `tpu`");
    expect(&place.rondo("train --preset hlx-full --device cpu --threads 0"), 2, "--threads must be at least 1");
    expect(&place.rondo("train --config missing.toml"), 3, "missing.toml");
    fs::write(place.0.join("bad.toml"), "batch_siz = 4\n").unwrap();
    expect(&place.rondo("train --preset hlx-full --config bad.toml"), 3, "bad.toml line 1: unknown key `batch_siz`");
    let data = format!("train --preset hlx-full --set data.corpus=jsonl --set data.path=rows.jsonl {CPU}");
    expect(&place.rondo(&data), 3, "rows.jsonl");
    fs::write(place.0.join("rows.jsonl"), "{\"input\": \"a\", \"output\": \"b\"}\n{\"input\": 3}\n").unwrap();
    expect(&place.rondo(&data), 3, "rows.jsonl line 2");
    fs::write(place.0.join("bad.txt"), b"one\ntw\xffo\n").unwrap();
    fs::create_dir(place.0.join("empty")).unwrap();
    let text = format!("train --preset gpt-small-test --set data.tokenizer=bpe {CPU} --set model.vocab_size=300");
    expect(&place.rondo(&format!("{text} --set data.path=bad.txt")), 3, "bad.txt line 2: not valid UTF-8");
    expect(&place.rondo(&format!("{text} --set data.path=empty")), 3, "empty: the folder has no files");
    expect(&place.rondo(&format!("{text} --set model.vocab_size=256")), 2, "data.tokenizer bpe needs at least 257");
    expect(&place.rondo("train --resume nowhere"), 3, "there is no run in it");
    expect(&place.rondo("plan hlx-full --set batch_size=1000000 --spec cpu"), 4, "");
    for device in ["cuda:99", "vulkan:99"] {
        let line = format!("train --preset hlx-full --device {device}");
        expect(&place.rondo(&line), 4, "is not available: ");
        expect(&place.rondo(&line), 4, "use --device cpu");
    }
    assert!(!place.0.join("runs").exists(), "what can't begin leaves no folder");
}

#[test]
fn a_run_leaves_its_folder_and_prints_its_table() {
    let place = Place::new("run");
    let train = format!("train --preset hlx-full --set model.num_layers=1 --epochs 5 --set checkpoint.every=8 {CPU}");
    let output = place.rondo(&train);
    expect(&output, 0, "saved   runs/hlx-full-0/checkpoints/step-20");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(err.starts_with("rondo ") && err.lines().next().unwrap().contains("asked for"), "{err}");
    assert_eq!(out.lines().filter(|l| l.contains("/5")).count(), 5, "{out}");

    let run: Value = serde_json::from_slice(&fs::read(place.0.join("runs/hlx-full-0/run.json")).unwrap()).unwrap();
    for key in [
        "preset",
        "device",
        "seed",
        "num_parameters",
        "steps",
        "final_loss",
        "best_loss",
        "step_ms_median",
        "epoch_ms_median",
        "tokens_per_second",
        "valid_tokens_per_second",
        "peak_arena_bytes",
        "percent_of_limit",
        "parameters_sha256",
        "losses_sha256",
        "submissions_per_step",
        "allocations_per_step",
        "device_allocations_per_step",
        "wall_seconds",
        "tuning",
    ] {
        assert!(!run[key].is_null(), "run.json has no {key}: {run}");
    }
    assert_eq!(
        (&run["steps"], &run["allocations_per_step"], &run["submissions_per_step"]),
        (&20.into(), &0.0.into(), &1.0.into())
    );
    let folder = place.0.join("runs/hlx-full-0");
    let lines = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), &last["step"], &last["applied"]), (20, &20.into(), &20.into()));
    assert!(last["elapsed_sec"].as_f64() > Some(0.0) && last["grad_norm"].is_f64() && last["loss"].is_f64());
    let mut steps: Vec<_> = names(&folder.join("checkpoints"));
    steps.sort();
    assert_eq!(steps, ["step-16", "step-20", "step-8"]);
    assert_eq!(names(&folder.join("checkpoints/step-20")).len(), 5);

    // A second run takes a free name; a taken --out is refused; --json prints run.json and nothing else.
    let again = place.rondo(&format!("{train} --json"));
    expect(&again, 0, "runs/hlx-full-0-2");
    let printed: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(printed["parameters_sha256"], run["parameters_sha256"]);
    expect(&place.rondo(&format!("{train} --out runs/hlx-full-0")), 1, "--resume runs/hlx-full-0");
    // Going on with a finished run changes nothing; with more epochs it goes on.
    expect(&place.rondo(&format!("train --resume runs/hlx-full-0 {CPU}")), 0, "after step 20");
    let done = place.rondo(&format!("train --resume runs/hlx-full-0 {CPU} --json"));
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), run, "what is done prints what it came to");
    keeps_what_it_is(&place);
    let longer = place.rondo(&format!("train --resume runs/hlx-full-0 --epochs 6 --json {CPU}"));
    let printed: Value = serde_json::from_slice(&longer.stdout).unwrap();
    assert_eq!(printed["steps"], 24);
}

/// What a run that goes on can't become is refused by name, and nothing of it is changed.
fn keeps_what_it_is(place: &Place) {
    let file = place.0.join("runs/hlx-full-0/config.toml");
    let before = fs::read_to_string(&file).unwrap();
    let resume = |more: &str| place.rondo(&format!("train --resume runs/hlx-full-0 {CPU} {more}"));
    expect(&resume("--steps 8"), 2, "runs/hlx-full-0 has done 20 steps; it can't come to 8\n  help: ");
    expect(&resume("--epochs 1"), 2, "has done 20 steps");
    let other = resume("--seed 4 --set optimizer.lr=0.5");
    expect(&other, 2, "seed is 0 and can't become 4, optimizer.lr is ");
    let help = "help: begin a new run: rondo train --config runs/hlx-full-0/config.toml --set seed=4 --set \
                optimizer.lr=0.5 --out NEW";
    expect(&other, 2, help);
    expect(&resume("--preset hlx-simple"), 2, "--preset hlx-simple: runs/hlx-full-0 is a run of hlx-full");
    expect(&resume("--preset hlx-full"), 0, "after step 20");
    expect(&resume("--set checkpoint.keep=7"), 0, "after step 20");
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "no step was taken");
    fs::write(&file, before.lines().filter(|l| !l.starts_with("batch_size")).collect::<Vec<_>>().join("\n")).unwrap();
    // The preset in the file fills it in, to another value or the same; without one there is nothing to begin from.
    let damaged = fs::read_to_string(&file).unwrap();
    fs::write(&file, damaged.lines().filter(|l| !l.starts_with("preset")).collect::<Vec<_>>().join("\n")).unwrap();
    expect(&resume(""), 3, "`batch_size` is missing\n  help: restore runs/hlx-full-0/config.toml from a copy");
    fs::write(&file, before).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn initial_weights_are_a_checkpoint_of_their_own() {
    let place = Place::new("init");
    let output = place.rondo(&format!("train --preset hlx-simple --init-only --out fresh --seed 3 {CPU}"));
    expect(&output, 0, "--resume fresh");
    assert_eq!(text(&output.stdout).trim(), "fresh/checkpoints/step-0");
    assert_eq!(names(&place.0.join("fresh/checkpoints/step-0")).len(), 5);
    let rest = place.rondo(&format!("train --resume fresh --steps 4 --json {CPU}"));
    let whole = place.rondo(&format!("train --preset hlx-simple --seed 3 --steps 4 --json {CPU}"));
    let hash = |o: &Output| serde_json::from_slice::<Value>(&o.stdout).unwrap()["parameters_sha256"].clone();
    assert_eq!(hash(&rest), hash(&whole));
}

#[test]
fn tuning_tables_are_made_used_and_refused() {
    let place = Place::new("tuning");
    expect(&place.rondo(&format!("tune hlx-simple --set model.num_layers=1 --out fresh.json {CPU}")), 0, "fresh.json");
    assert_eq!(fs::read_to_string(place.0.join("fresh.json")).unwrap(), "{}", "a CPU has no choice");
    let train = format!("train --preset hlx-simple --set model.num_layers=1 --steps 1 {CPU} --tuning");
    expect(&place.rondo(&format!("{train} fresh.json")), 0, "0 of 0 entries are calls of this step");

    let refused = |text: &str, said: &str| {
        fs::write(place.0.join("bad.json"), text).unwrap();
        for line in [format!("{train} bad.json"), "plan hlx-simple --spec h200 --tuning bad.json".into()] {
            expect(&place.rondo(&line), 3, said);
        }
        expect(&place.rondo(&format!("{train} bad.json --out elsewhere")), 3, "bad.json: ");
        assert!(!place.0.join("elsewhere").exists());
    };
    refused("{\"matmul\"", "not a tuning table");
    refused("{\"matmul\": 3}", "expected a string");
    refused("{\"mattmul x\": \"whole\"}", "there is no op `mattmul`");
    expect(&place.rondo(&format!("{train} missing.json")), 3, "missing.json");
    expect(&place.rondo("tune hlx-simple --out nowhere/t.json"), 2, "there is no folder nowhere");
    expect(&place.rondo(&format!("train --resume runs/hlx-simple-0 --tuning fresh.json {CPU}")), 2, "--tuning");

    let plan: Value = serde_json::from_slice(&place.rondo("plan hlx-simple --spec h200 --json").stdout).unwrap();
    let nodes = plan["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|n| n["op"] == "matmul" && n["variant"] != "whole").unwrap();
    let inputs: Vec<_> = node["inputs"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let key = format!("matmul {} {}", node["params"].as_str().unwrap(), inputs.join(" "));
    fs::write(place.0.join("whole.json"), serde_json::json!({ &key: "whole" }).to_string()).unwrap();
    let tuned = place.rondo("plan hlx-simple --spec h200 --json --tuning whole.json");
    expect(&tuned, 0, "1 of 1 entries");
    let tuned: Value = serde_json::from_slice(&tuned.stdout).unwrap();
    let index = nodes.iter().position(|n| n == node).unwrap();
    assert_eq!(tuned["nodes"][index]["variant"], "whole");
    // The same table makes no sense on a processor.
    expect(&place.rondo("plan hlx-simple --spec cpu --tuning whole.json"), 3, "there is no lowering `whole`");
}

#[test]
fn the_debug_dial_shows_and_changes_nothing() {
    let place = Place::new("dial");
    let line = format!("--preset hlx-full --set model.num_layers=1 --steps 3 --json {CPU}");
    let with = |level: &str, line: &str| place.command(line).env("RONDO_DEBUG", level).output().unwrap();
    let quiet = place.rondo(&format!("train {line}"));
    let loud = with("5", &format!("train {line}"));
    expect(&loud, 0, "no tensor is further from the reference");
    let err = text(&loud.stderr);
    for said in [
        "device  cpu",
        " operations; ",
        "memory  ",
        "us a step",
        "graph after prune",
        "most at one level",
        " level 0 after []",
    ] {
        assert!(err.contains(said), "{said}: {err}");
        assert!(!text(&quiet.stderr).contains(said), "{said}");
    }
    for key in ["parameters_sha256", "losses_sha256"] {
        let value = |o: &Output| serde_json::from_slice::<Value>(&o.stdout).unwrap()[key].clone();
        assert_eq!(value(&loud), value(&quiet), "{key}");
    }
    // Going on from the measured run's checkpoint is going on from its last step.
    let rest = |run: &str| place.rondo(&format!("train --resume runs/{run} --steps 5 --json {CPU}"));
    let hash = |o: &Output| serde_json::from_slice::<Value>(&o.stdout).unwrap()["parameters_sha256"].clone();
    assert_eq!(hash(&rest("hlx-full-0-2")), hash(&rest("hlx-full-0")));

    let one = text(&with("1", "plan hlx-full --spec cpu").stderr);
    assert!(one.contains("memory  ") && !one.contains("graph after"), "{one}");
    let four = text(&with("4", "plan hlx-full --spec h200").stderr);
    assert!(four.contains("graph after fuse") && four.contains("groups of"), "{four}");
    assert!(four.contains("model/src/transformer.rs:"), "ops are named with the line of the model that made them");
    for bad in ["6", "on"] {
        expect(&with(bad, "ops"), 2, "RONDO_DEBUG=");
    }
}

#[test]
fn plans_are_shown_for_machines_that_are_not_here() {
    let place = Place::new("plan");
    let output = place.rondo("plan hlx-full --spec cpu --json");
    expect(&output, 0, "planned for");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let launches = plan["launches"].as_array().unwrap();
    assert!(launches.len() > 50 && launches.iter().any(|l| l["op"] == "attention"), "{}", plan["totals"]);
    assert!(
        plan["totals"]["arena_bytes"].as_u64() > Some(0) && plan["totals"]["expected_seconds"].as_f64() > Some(0.0)
    );
    fs::write(place.0.join("machine.json"), plan["spec"].to_string()).unwrap();
    let table = place.rondo("plan hlx-full --spec machine.json");
    expect(&table, 0, "planned for");
    assert!(text(&table.stdout).contains("launches in"), "{}", text(&table.stdout));
    let unfused = place.rondo("plan hlx-full --spec cpu --json --no-fuse");
    let unfused: Value = serde_json::from_slice(&unfused.stdout).unwrap();
    assert!(unfused["nodes"].as_array().unwrap().len() > plan["nodes"].as_array().unwrap().len());
}

#[test]
fn samples_on_the_way_are_shown_and_kept() {
    let place = Place::new("samples");
    let small = "--preset hlx-full --set model.num_layers=1 --steps 4 --set grad_accumulation=2 --set batch_size=2";
    let line = format!("train {small} --set sample.every=2 --set sample.prompts=Deep --set sample.max_tokens=5 {CPU}");
    let output = place.rondo(&format!("{line} --out a"));
    expect(&output, 0, "of 2 micro-batches");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(shown.lines().filter(|l| l.contains("sample") && l.contains("\"Deep")).count(), 2, "{shown}");
    let kept = fs::read_to_string(place.0.join("a/samples.txt")).unwrap();
    let heads: Vec<_> = kept.lines().filter(|l| l.starts_with("---")).collect();
    assert_eq!(heads, ["--- step 2, \"Deep\"", "--- step 4, \"Deep\""]);
    // A prompt that the tokenizer doesn't take is told, and the run goes on.
    let output = place.rondo(&format!(
        "{line} --set data.corpus=text --set data.tokenizer=byte --out b --set sample.prompts={}",
        "x".repeat(40)
    ));
    expect(&output, 0, "warning: step 2: no samples: prompt");
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_saves_says_how_to_go_on_and_goes_on() {
    let place = Place::new("interrupt");
    let new = format!("train --preset hlx-full --set model.num_layers=1 --epochs 100000 --out long {CPU}");
    // Ctrl-C, and what systems send before they end a process.
    let again = format!("train --resume long {CPU}");
    for (line, signal, code) in [(new, "-INT", 130), (again, "-TERM", 143)] {
        let (quiet, kept) = (std::process::Stdio::null(), std::process::Stdio::piped());
        let metrics = place.0.join("long/metrics.jsonl");
        let lines = || fs::metadata(&metrics).map_or(0, |m| m.len());
        let before = lines();
        let child = place.command(&line).stdout(quiet).stderr(kept).spawn().unwrap();
        let begun = std::time::Instant::now();
        while lines() <= before && begun.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let kill = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        expect(&output, code, "Resume: rondo train --resume long");
    }
    let run: Value = serde_json::from_slice(&fs::read(place.0.join("long/run.json")).unwrap()).unwrap();
    let steps = run["steps"].as_u64().unwrap();
    assert!(run["status"] == "interrupted" && steps > 0, "{run}");
    assert!(place.0.join(format!("long/checkpoints/step-{steps}/manifest.json")).exists());
    let rest = place.rondo(&format!("train --resume long --steps {} --json {CPU}", steps + 3));
    expect(&rest, 0, &format!("after step {steps}"));
}

#[test]
#[cfg(unix)]
fn a_run_killed_while_it_saves_goes_on_to_the_same_bits() {
    let place = Place::new("killed");
    let line = format!("--preset hlx-simple --set model.num_layers=1 --set checkpoint.every=1 --steps 60 --json {CPU}");
    let whole = place.rondo(&format!("train --out whole {line}"));
    expect(&whole, 0, "");
    let resume = format!("train --resume killed --json {CPU}");
    for (attempt, wait) in [0, 3, 11, 17].into_iter().enumerate() {
        let line = if attempt == 0 { format!("train --out killed {line}") } else { resume.clone() };
        let (quiet, also) = (std::process::Stdio::null(), std::process::Stdio::null());
        let mut child = place.command(&line).stdout(quiet).stderr(also).spawn().unwrap();
        let folder = place.0.join("killed/checkpoints");
        let saved = || fs::read_dir(&folder).map_or(0, |d| d.flatten().filter(|e| !name(e).contains('.')).count());
        let before = saved();
        while saved() < before + 3 && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // Somewhere in a step or in the next save.
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let rest = place.rondo(&resume);
    expect(&rest, 0, "after step");
    for key in ["parameters_sha256", "losses_sha256", "steps"] {
        let value = |o: &Output| serde_json::from_slice::<Value>(&o.stdout).unwrap()[key].clone();
        assert_eq!(value(&rest), value(&whole), "{key}");
    }
    assert_eq!(fs::read_to_string(place.0.join("killed/metrics.jsonl")).unwrap().lines().count(), 60);
}

fn name(entry: &fs::DirEntry) -> String {
    entry.file_name().to_string_lossy().into_owned()
}

#[test]
fn a_reader_that_leaves_stops_nothing() {
    let place = Place::new("reader");
    let line = format!("train --preset hlx-simple --set model.num_layers=1 --epochs 3 --out a {CPU}");
    let (out, err) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let mut child = place.command(&line).stdout(out).stderr(err).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert!(child.wait().unwrap().success());
    assert!(place.0.join("a/run.json").exists());
}

#[test]
fn the_demo_learns_its_own_source_and_says_how_to_go_on() {
    let place = Place::new("demo");
    expect(&place.rondo("demo --minutes 0"), 2, "--minutes is 0");
    expect(&place.rondo("demo --depth 0"), 2, "--depth");
    expect(&place.rondo(&format!("demo --text nowhere.txt {CPU}")), 3, "nowhere.txt");
    assert!(!place.0.join("runs").exists(), "what can't begin leaves no folder");

    let output = place.rondo(&format!("demo --minutes 0.05 --depth 1 --seed 3 {CPU}"));
    expect(&output, 0, "Talk to it:     rondo run runs/demo-3");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("held-out text, nats a token: model ") && stdout.contains(" | bigram table "), "{stdout}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'), "no terminal, no colours");
    let run = place.0.join("runs/demo-3");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    let summary: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    let steps = summary["steps"].as_u64().unwrap();
    assert!(config.contains(&format!("\nsteps = {steps}\n")), "{config}");

    // The text came with the program, and beside it lies all that the same bits need.
    let again = place.rondo(&format!("train --config runs/demo-3/config.toml --out again {CPU} --json"));
    expect(&again, 0, "");
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["parameters_sha256"], summary["parameters_sha256"]);
    // Elsewhere the run finds its text in its own folder.
    fs::rename(&run, place.0.join("moved")).unwrap();
    let more = place.rondo(&format!("train --resume moved --steps {} {CPU}", steps + 2));
    expect(&more, 0, &format!("resume  moved after step {steps}"));
}

#[test]
#[cfg(unix)]
fn what_ends_before_training_leaves_nothing_and_a_killed_demo_goes_on() {
    let place = Place::new("demo-ends");
    let start = |line: &str| {
        let (quiet, kept) = (std::process::Stdio::null(), std::process::Stdio::piped());
        place.command(line).stdout(quiet).stderr(kept).spawn().unwrap()
    };
    let until = |path: &str| {
        let begun = std::time::Instant::now();
        while !place.0.join(path).exists() && begun.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    // Its tokenizer takes a while.
    let child = start(&format!("demo --depth 1 {CPU}"));
    until("runs/demo-0/corpus.jsonl");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    expect(&child.wait_with_output().unwrap(), 130, "interrupted before training began");
    assert!(!place.0.join("runs").exists());

    let mut child = start(&format!("demo --depth 1 --minutes 1 {CPU}"));
    until("runs/demo-0/checkpoints");
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    let saved = fs::read_dir(place.0.join("runs/demo-0/checkpoints")).unwrap();
    let step = saved.flatten().find_map(|e| name(&e).strip_prefix("step-")?.parse::<usize>().ok()).unwrap();
    let more = place.rondo(&format!("train --resume runs/demo-0 --steps {} {CPU}", step + 2));
    expect(&more, 0, "resume  runs/demo-0 after step");
}

#[test]
fn runs_that_begin_at_once_have_names_of_their_own() {
    let place = Place::new("names");
    let line = format!("train --preset hlx-simple --set model.num_layers=1 --steps 2 {CPU}");
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let (quiet, kept) = (std::process::Stdio::null(), std::process::Stdio::piped());
            place.command(&line).stdout(quiet).stderr(kept).spawn().unwrap()
        })
        .collect();
    runs.into_iter().for_each(|run| expect(&run.wait_with_output().unwrap(), 0, ""));
    let mut names = names(&place.0.join("runs"));
    names.sort();
    assert_eq!(names, ["hlx-simple-0", "hlx-simple-0-2", "hlx-simple-0-3"]);
}

#[test]
fn the_demo_takes_a_text_and_answers_in_json() {
    let place = Place::new("demo-text");
    let words: String = (0..4000).map(|i| format!("word {} and {}\n", i % 17, i % 5)).collect();
    fs::write(place.0.join("my.txt"), words).unwrap();
    for (name, bytes, said) in
        [("empty", &b""[..], "too little text"), ("image", &[0xff; 99], "line 1: not valid UTF-8")]
    {
        fs::write(place.0.join(name), bytes).unwrap();
        let output = place.rondo(&format!("demo --text {name} {CPU}"));
        expect(&output, 3, said);
        assert!(!["eval.", "data.", "model."].iter().any(|key| text(&output.stderr).contains(key)));
    }
    let output = place.rondo(&format!("demo --text my.txt --minutes 0.05 --depth 2 --out mine --json {CPU}"));
    expect(&output, 0, "data    my.txt");
    let lines = text(&output.stderr);
    let progress = lines.lines().filter(|l| l.contains("% of limit")).count();
    assert!((3..=12).contains(&progress), "no terminal shows about ten lines: {lines}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"));
    assert!(number("bigram_loss") > 0.0 && number("validation_loss") > 0.0);
    let ratio = number("bigram_loss") / number("bigram_bits_per_byte");
    assert!((ratio - number("validation_loss") / number("validation_bits_per_byte")).abs() < 1e-9);
    assert_eq!((&report["run"], &report["summary"]["preset"]), (&"mine".into(), &"demo".into()));
    assert!(place.0.join("mine/tokenizer.json").exists() && place.0.join("mine/plots/curves.png").exists());
    let picture = fs::read_to_string(place.0.join("mine/plots/curves.svg")).unwrap();
    assert!(picture.contains(&format!("table of token pairs  {:.4}", number("bigram_loss"))));
    let loss = report["summary"]["final_loss"].as_f64().unwrap();
    assert!(report["summary"]["tokens_per_second"].as_f64().unwrap() > 0.0 && loss > 0.0);
}
