//! `rondo show`: what a run is, how it went, which checkpoints it has, and what can be done with it.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use ::train::checkpoint::{self, Manifest};
use ::train::config::{Config, Overrides};
use ::train::summary::Summary;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Show what a run is and how it went: configuration, losses, speeds, hashes, checkpoints.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A run's folder, such as runs/hlx-full-0.
    run: PathBuf,
    /// Read every byte of the checkpoints and compare it with its SHA-256.
    #[arg(long)]
    verify: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A checkpoint as it lies there.
#[derive(Debug, Serialize)]
struct Checkpoint {
    step: usize,
    path: PathBuf,
    bytes: u64,
    /// What is wrong with it, if anything.
    problem: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    run: PathBuf,
    /// What run.json says; none before the run has ended for the first time.
    summary: Option<Summary>,
    config: Config,
    /// The last step in metrics.jsonl.
    last_step: usize,
    validation: Vec<(f64, f64)>,
    checkpoints: Vec<Checkpoint>,
    verified: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let report = read(&args.run, args.verify)?;
    if args.json {
        product(super::json(&report));
    } else {
        print(&report);
    }
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
    let help = "name a run's folder, such as runs/hlx-full-0";
    if !run.exists() {
        let near = ::train::folder::latest(Path::new("runs"), None);
        let help = near.map_or(help.into(), |path| format!("the run that changed last is {}", path.display()));
        return Err(bad("there is no such folder", &help));
    }
    if !run.is_dir() {
        return Err(bad("it is a file, and no run's folder", help));
    }
    if !run.join("config.toml").is_file() {
        return Err(bad("there is no run in it (no config.toml)", help));
    }
    let overrides = Overrides { file: Some(run.join("config.toml")), ..Overrides::default() };
    let config = overrides.resolve().map_err(::train::Error::from)?;
    let file = run.join("run.json");
    let summary = match fs::read_to_string(&file) {
        Ok(text) => Some(serde_json::from_str(&text).map_err(|e| {
            let what = format!("{}: not a summary that this build reads: {e}", file.display());
            Failure::bad_file(format!("{what}\n  help: it is written again when the run goes on and ends"))
        })?),
        Err(_) => None,
    };
    // A run without a step is one all the same.
    let curves = lab::plot::Curves::read(run).ok();
    let last_step = curves.as_ref().map_or(0, |c| c.steps() as usize);
    let validation = curves.map(|c| c.validation).unwrap_or_default();
    let found = checkpoint::list(&run.join("checkpoints")).into_iter();
    let checkpoints = found.map(|(step, path)| examine(step, path, verify)).collect();
    Ok(Report { run: run.into(), summary, config, last_step, validation, checkpoints, verified: verify })
}

/// Compares a checkpoint's files with its manifest: their sizes, and their contents if that is asked for.
fn examine(step: usize, path: PathBuf, verify: bool) -> Checkpoint {
    let mut bytes = 0;
    let problem = problem(step, &path, verify, &mut bytes).err();
    Checkpoint { step, path, bytes, problem }
}

fn problem(step: usize, path: &Path, verify: bool, bytes: &mut u64) -> Result<(), String> {
    let text = fs::read_to_string(path.join("manifest.json")).map_err(|e| format!("manifest.json: {e}"))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| format!("manifest.json: {e}"))?;
    *bytes = text.len() as u64;
    if manifest.step != step {
        return Err(format!("it holds step {}", manifest.step));
    }
    for (name, record) in &manifest.files {
        let file = path.join(name);
        let size = fs::metadata(&file).map_err(|e| format!("{name}: {e}"))?.len();
        *bytes += size;
        if size != record.bytes {
            return Err(format!("{name} has {size} bytes; the manifest says {}", record.bytes));
        }
        let same = |contents: Vec<u8>| tensor::hash::sha256(&contents) == record.sha256;
        if verify && !fs::read(&file).map(same).map_err(|e| format!("{name}: {e}"))? {
            return Err(format!("{name} isn't what the manifest's SHA-256 says"));
        }
    }
    Ok(())
}

fn print(report: &Report) {
    let line = |what: &str, text: String| product(format_args!("{what:11} {text}"));
    let config = &report.config;
    let (model, data) = (&config.model, &config.data);
    let status = report.summary.as_ref().map_or("no run.json: it runs, or has never ended", |s| s.status.as_str());
    line("run", format!("{} · {} · {status}", report.run.display(), config.preset));
    line("model", {
        let heads = format!("{} heads", model.num_heads);
        let count = report.summary.as_ref().map(|s| format!(" · {} parameters", s.num_parameters)).unwrap_or_default();
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

fn print_summary(s: &Summary, report: &Report, line: &impl Fn(&str, String)) {
    let number = |x: Option<f64>, digits: usize| x.map_or("-".to_string(), |x| format!("{x:.digits$}"));
    line("device", format!("{} · {} · rondo {} ({} build)", s.device, s.device_name, s.version, s.build));
    let later =
        if report.last_step > s.steps { format!(" · {} since", report.last_step - s.steps) } else { String::new() };
    let skipped = if s.skipped_steps > 0 { format!(" · {} skipped", s.skipped_steps) } else { String::new() };
    line("steps", format!("{}{later}{skipped} · {:.1} s", s.steps, s.wall_seconds));
    line("loss", format!("final {} · best {}", number(s.final_loss, 4), number(s.best_loss, 4)));
    if let Some(loss) = s.validation_loss {
        let best = number(s.best_validation_loss.map(f64::from), 4);
        let place = s.best_checkpoint.as_ref().map(|path| format!(" in {path}")).unwrap_or_default();
        line("validation", format!("last {loss:.4} · best {best}{place} · {} evaluations", report.validation.len()));
    }
    line(
        "speed",
        format!(
            "{} tok/s · {} ms a step · {}% of limit",
            number(s.tokens_per_second, 0),
            number(s.step_ms_median, 3),
            number(s.percent_of_limit, 1)
        ),
    );
    line("memory", format!("{:.1} MB on the device", s.peak_bytes as f64 / 1e6));
    line("parameters", format!("sha256 {}", s.parameters_sha256));
    line("losses", format!("sha256 {}", s.losses_sha256));
}

fn next(report: &Report) {
    let run = report.run.display();
    say(format_args!("See its curve: rondo plot {run}"));
    if report.checkpoints.is_empty() {
        return;
    }
    say(format_args!("Try it:        rondo run {run}"));
    let more = match report.summary.as_ref().is_some_and(|s| s.status == "finished") {
        true => " --epochs N",
        false => "",
    };
    say(format_args!("Train on:      rondo train --resume {run}{more}"));
}
