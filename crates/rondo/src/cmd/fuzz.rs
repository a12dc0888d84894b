//! `rondo fuzz`: a parser on inputs that were changed at random, for hours where that is wanted.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use lab::fuzz::{Report, run as fuzz, target};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Feed a parser with inputs that were changed at random, and keep those that show a mistake.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// gguf, safetensors, tokenizer or template.
    target: String,
    /// How long, in minutes of all threads.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    minutes: f64,
    /// What the changes are drawn from; each thread has its own, from this number on.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Threads.
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: u64,
    /// A folder of further inputs to begin with.
    #[arg(long, value_name = "FOLDER")]
    inputs: Option<PathBuf>,
    /// Where inputs that show a mistake are written.
    #[arg(long, default_value = "findings", value_name = "FOLDER")]
    out: PathBuf,
    /// Print executions, their rate and the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let target = target(&args.target).map_err(Failure::usage)?;
    let seconds = args.minutes * 60.0 / args.threads.max(1) as f64;
    let Ok(limit) = Duration::try_from_secs_f64(seconds) else {
        return Err(Failure::usage(format!("--minutes {}: it must be a number that isn't negative", args.minutes)));
    };
    let mut inputs = Vec::new();
    if let Some(folder) = &args.inputs {
        let failed = |e: std::io::Error| Failure::bad_file(format!("{}: {e}", folder.display()));
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() {
                inputs.push(std::fs::read(path).map_err(failed)?);
            }
        }
    }
    say(format_args!("{} for {seconds:.0} s on {} threads", target.name, args.threads.max(1)));
    let begun = Instant::now();
    let one = |thread: u64| fuzz(target, inputs.clone(), args.seed.wrapping_add(thread), |_| begun.elapsed() < limit);
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.threads.max(1)).map(|thread| scope.spawn(move || one(thread))).collect();
        workers.into_iter().map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let executions: u64 = reports.iter().map(|report| report.executions).sum();
    let taken: u64 = reports.iter().map(|report| report.taken).sum();
    let kinds = reports.iter().map(|report| report.kinds).max().unwrap_or(0);
    let spent = begun.elapsed().as_secs_f64() * reports.len() as f64;
    let findings: Vec<_> = reports.iter().flat_map(|report| &report.findings).collect();
    let rate = executions as f64 / spent;
    let mut kept = Vec::new();
    for finding in &findings {
        let path = args.out.join(format!("{}-{}", target.name, finding.execution));
        let written = tensor::file::disk::create_folders(&args.out)
            .and_then(|()| tensor::file::atomic::write(&path, &finding.input));
        written.map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
        say(format_args!("{}: {}", path.display(), finding.what));
        kept.push(
            serde_json::json!({ "path": super::path_text(path), "execution": finding.execution, "what": finding.what }),
        );
    }
    match args.json {
        true => product(super::json(&serde_json::json!({
            "target": target.name, "executions": executions, "per_second_and_thread": rate, "taken": taken,
            "kinds": kinds, "findings": kept,
        }))),
        false => product(format_args!(
            "{}: {executions} executions · {rate:.0} a second and thread · {taken} taken · {kinds} kinds of answers · {} findings",
            target.name,
            findings.len()
        )),
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(Failure::failed(format!("{count} inputs show a mistake"))),
    }
}
