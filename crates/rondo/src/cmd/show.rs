//! `rondo show`: what a run is, how it went, which checkpoints it has, and what can be done with it; or a model file.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use ::train::checkpoint;
use ::train::config::{Config, Overrides};
use ::train::summary::Summary;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Show what a run is and how it went, or what a model file holds and the memory that running it would take.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder, such as runs/hlx-full-0; a GGUF or safetensors file; or a folder with a model in safetensors.
    #[arg(value_name = "RUN_OR_FILE")]
    run: PathBuf,
    /// Read every byte: of checkpoints, to compare it with its SHA-256; of a model, to decode it.
    #[arg(long)]
    verify: bool,
    /// Of a model, tell the memory for a sequence of N positions; may be repeated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Vec<u32>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A checkpoint as it lies there.
#[derive(Debug, Serialize)]
struct Checkpoint {
    step: usize,
    #[serde(serialize_with = "super::serialize_path")]
    path: PathBuf,
    bytes: u64,
    /// What is wrong with it, if anything.
    problem: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(serialize_with = "super::serialize_path")]
    run: PathBuf,
    /// What run.json says; none before the run has ended for the first time.
    summary: Option<Value>,
    /// As this build reads it, or as it lies there.
    config: Option<Config>,
    /// What another version has written otherwise, or is damaged.
    unread: Vec<String>,
    /// The last step in metrics.jsonl.
    last_step: usize,
    validation: Vec<(f64, f64)>,
    checkpoints: Vec<Checkpoint>,
    verified: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    if !args.run.join("config.toml").is_file() && super::show_file::is_model(&args.run) {
        let contexts: Vec<usize> = args.context.iter().map(|context| *context as usize).collect();
        return super::show_file::run(&args.run, args.verify, &contexts, args.json);
    }
    let report = read(&args.run, args.verify)?;
    if args.json {
        product(super::json(&report));
    } else {
        print(&report);
    }
    report.unread.iter().for_each(|what| say(format_args!("warning: {what}")));
    next(&report);
    let broken = report.checkpoints.iter().filter(|c| c.problem.is_some()).count();
    if args.verify && broken > 0 {
        let what =
            format!("{}: {broken} of {} checkpoints are not whole", args.run.display(), report.checkpoints.len());
        let help = "--resume goes on from the latest whole one; delete the others";
        return Err(Failure::bad_file(format!("{what}\n  help: {help}")));
    }
    Ok(())
}

fn read(run: &Path, verify: bool) -> Result<Report, Failure> {
    let name = run.display();
    let bad = |what: &str, help: &str| Failure::bad_file(format!("{name}: {what}\n  help: {help}"));
    let help = "name a run's folder, such as runs/hlx-full-0, or a model file";
    if let Err(e) = run.metadata()
        && e.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Err(bad(&e.to_string(), "name a file or folder that you may read"));
    }
    if !run.exists() {
        let near = ::train::folder::latest(Path::new("runs"), None);
        let help = near.map_or(help.into(), |path| format!("the run that changed last is {}", path.display()));
        return Err(bad("there is no such folder or file", &help));
    }
    if let Some(file) = tensor::file::gguf_in(run).filter(|_| !run.join("config.toml").is_file()) {
        return Err(bad("there is no run in it (no config.toml)", &format!("there is {file} in it: name that file")));
    }
    if !run.join("config.toml").is_file() {
        return Err(bad("there is no run in it (no config.toml), and no model", help));
    }
    let mut unread = Vec::new();
    let overrides = Overrides { file: Some(run.join("config.toml")), ..Overrides::default() };
    let config = overrides.resolve().map_err(|e| unread.push(e.to_string())).ok();
    let summary = summary(&run.join("run.json"), &mut unread);
    // A run without a step is one all the same.
    let curves = lab::plot::Curves::read(run).ok();
    let last_step = curves.as_ref().map_or(0, |c| c.steps() as usize);
    let validation = curves.map(|c| c.validation).unwrap_or_default();
    let found = checkpoint::list(&run.join("checkpoints")).into_iter();
    let checkpoints = found.map(|(step, path)| examine(step, path, verify)).collect();
    Ok(Report { run: run.into(), summary, config, unread, last_step, validation, checkpoints, verified: verify })
}

/// What a run.json says, also one that lacks what this build writes.
fn summary(file: &Path, unread: &mut Vec<String>) -> Option<Value> {
    let text = fs::read_to_string(file).ok()?;
    let mut wrong = |what: String| unread.push(format!("{}: {what}", file.display()));
    let value = match serde_json::from_str::<Value>(&text) {
        Ok(value) if value.is_object() => value,
        Ok(_) => {
            wrong("it is not a run's summary; it is written again when the run goes on and ends".into());
            return None;
        }
        Err(e) => {
            wrong(format!("{e}; it is written again when the run goes on and ends"));
            return None;
        }
    };
    if let Err(e) = serde_json::from_value::<Summary>(value.clone()) {
        wrong(format!("{e}: another version of Rondo wrote it, and `-` stands for what it lacks"));
    }
    Some(value)
}

/// Compares a checkpoint's files with its manifest, which is whole itself: their sizes, and their contents if that is
/// asked for.
fn examine(step: usize, path: PathBuf, verify: bool) -> Checkpoint {
    let mut bytes = 0;
    let problem = problem(step, &path, verify, &mut bytes).err();
    // The line begins with the folder already.
    let problem = problem.map(|what| what.strip_prefix(&format!("{}/", path.display())).unwrap_or(&what).to_string());
    Checkpoint { step, path, bytes, problem }
}

fn problem(step: usize, path: &Path, verify: bool, bytes: &mut u64) -> Result<(), String> {
    let read = if verify { checkpoint::verify(path) } else { checkpoint::manifest(path) };
    let manifest = read.map_err(|e| e.to_string())?;
    *bytes = fs::metadata(path.join("manifest.json")).map_or(0, |data| data.len());
    if manifest.step != step {
        return Err(format!("it holds step {}", manifest.step));
    }
    for (name, record) in &manifest.files {
        let size = fs::metadata(path.join(name)).map_err(|e| format!("{name}: {e}"))?.len();
        *bytes += size;
        if size != record.bytes {
            return Err(format!("{name} has {size} bytes; the manifest says {}", record.bytes));
        }
    }
    Ok(())
}

fn print(report: &Report) {
    let line = |what: &str, text: String| product(format_args!("{what:11} {text}"));
    let summary = report.summary.as_ref();
    let status = summary.map_or("no run.json: it runs, or has never ended", |s| word(s, "status"));
    let preset = report.config.as_ref().map(|config| config.preset.as_str());
    let preset = preset.or(summary.map(|s| word(s, "preset"))).unwrap_or(MISSING);
    line("run", format!("{} · {preset} · {status}", report.run.display()));
    match &report.config {
        Some(config) => print_config(config, summary, &line),
        None => line("config", "this build can't read config.toml".into()),
    }
    match &report.summary {
        Some(summary) => print_summary(summary, report, &line),
        None => line("steps", report.last_step.to_string()),
    }
    for c in &report.checkpoints {
        let state = match (&c.problem, report.verified) {
            (Some(problem), _) => format!("NOT WHOLE: {problem}"),
            (None, true) => "whole, every byte".into(),
            (None, false) => "whole by size".into(),
        };
        line("checkpoint", format!("{} · {:.1} MB · {state}", c.path.display(), c.bytes as f64 / 1e6));
    }
    if report.checkpoints.is_empty() {
        line("checkpoint", "none".into());
    }
}

fn print_config(config: &Config, summary: Option<&Value>, line: &impl Fn(&str, String)) {
    let (model, data) = (&config.model, &config.data);
    line("model", {
        let heads = format!("{} heads", model.num_heads);
        let count = summary.map(|s| format!(" · {} parameters", number(s, "num_parameters", 0))).unwrap_or_default();
        let (layers, width, context) = (model.num_layers, model.hidden_size, model.max_context);
        format!("{layers} layers · {width} wide · {heads} · vocabulary {} · context {context}{count}", model.vocab_size)
    });
    let source = if data.path.is_empty() { "built in" } else { &data.path };
    let batch = match config.grad_accumulation {
        1 => format!("{} rows a step", config.batch_size),
        n => format!("{n} × {} rows a step", config.batch_size),
    };
    line("data", format!("{}, {source} · {batch}", format!("{:?}", data.corpus).to_lowercase()));
    let optimizer = format!("{:?}", config.optimizer.kind).to_lowercase();
    line("optimizer", format!("{optimizer} · learning rate {:e} · seed {}", config.optimizer.lr, config.seed));
}

/// What stands for what isn't there.
const MISSING: &str = "-";

/// A text of run.json.
fn word<'a>(summary: &'a Value, key: &str) -> &'a str {
    summary[key].as_str().unwrap_or(MISSING)
}

/// A number of run.json.
fn number(summary: &Value, key: &str, digits: usize) -> String {
    summary[key].as_f64().map_or(MISSING.into(), |x| format!("{x:.digits$}"))
}

fn print_summary(s: &Value, report: &Report, line: &impl Fn(&str, String)) {
    let count = |key: &str| s[key].as_u64().unwrap_or(0) as usize;
    let device = [word(s, "device"), word(s, "device_name")].join(" · ");
    line("device", format!("{device} · rondo {} ({} build)", word(s, "version"), word(s, "build")));
    let (steps, skipped) = (count("steps"), count("skipped_steps"));
    let later =
        if report.last_step > steps { format!(" · {} since", report.last_step - steps) } else { String::new() };
    let skipped = if skipped > 0 { format!(" · {skipped} skipped") } else { String::new() };
    line("steps", format!("{}{later}{skipped} · {} s", number(s, "steps", 0), number(s, "wall_seconds", 1)));
    line("loss", format!("final {} · best {}", number(s, "final_loss", 4), number(s, "best_loss", 4)));
    if s["validation_loss"].is_number() {
        let (last, best) = (number(s, "validation_loss", 4), number(s, "best_validation_loss", 4));
        let place = s["best_checkpoint"].as_str().map(|path| format!(" in {path}")).unwrap_or_default();
        line("validation", format!("last {last} · best {best}{place} · {} evaluations", report.validation.len()));
    }
    line(
        "speed",
        format!(
            "{} tok/s · {} ms a step · {}% of limit",
            number(s, "tokens_per_second", 0),
            number(s, "step_ms_median", 3),
            number(s, "percent_of_limit", 1)
        ),
    );
    let bytes = s["peak_bytes"].as_f64().map_or(MISSING.into(), |bytes| format!("{:.1} MB", bytes / 1e6));
    line("memory", format!("{bytes} on the device"));
    line("parameters", format!("sha256 {}", word(s, "parameters_sha256")));
    line("losses", format!("sha256 {}", word(s, "losses_sha256")));
}

fn next(report: &Report) {
    let run = report.run.display();
    say(format_args!("See its curve: rondo plot {run}"));
    if report.checkpoints.is_empty() {
        return;
    }
    say(format_args!("Try it:        rondo run {run}"));
    let more = match report.summary.as_ref().is_some_and(|s| word(s, "status") == "finished") {
        true => " --epochs N",
        false => "",
    };
    say(format_args!("Train on:      rondo train --resume {run}{more}"));
}
