//! `rondo tune`: times the lowerings that a preset's step can choose from on a device, and writes the table of the best.
#![forbid(unsafe_code)]

use super::{DeviceFlags, Failure, Outcome, StepFlags, json, product, say};
use ::train::config::Config;
use ::train::step;
use graph::{Spec, Tuning};
use lab::bench::tune::{Choice, Report, Timed, tune};
use std::path::{Path, PathBuf};

/// Time every lowering that ops offer for a preset's step on this device, and write the best as a tuning table.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepFlags,
    /// The table's file, for `rondo train --tuning FILE`; what it holds of other steps stays.
    #[arg(long, value_name = "FILE", default_value = "tuning.json")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceFlags,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let config = args.step.resolve(None)?;
    super::output::place(&args.out, "--out ")?;
    // A file that can't be gone on with is said before minutes of measuring.
    let mut table = if args.out.exists() { read(&args.out)? } else { Tuning::default() };
    let device = args.device.open()?;
    let limits = device::limits::kept(&device, device::limits::default_file().as_deref())?;
    say(format_args!("measured limits: {}", super::bench::describe(&limits)));
    let report = tune(&device, &limits, &config)?;
    table.0.extend(report.tuning.0.clone());
    tensor::file::atomic::write(&args.out, json(&table).as_bytes())
        .map_err(|e| Failure::failed(format!("{}: {e}", args.out.display())))?;
    if args.json {
        product(json(&report));
    } else {
        print(&report);
    }
    say(format_args!("saved   {}", args.out.display()));
    say(format_args!("Train with it: {}", args.step.train(&["--tuning".into(), args.out.clone().into()])));
    Ok(())
}

fn print(report: &Report) {
    if report.choices.is_empty() {
        say("no op of this step has more than one lowering on this device");
    }
    for choice in &report.choices {
        product(format_args!("{} ({} uses)", choice.call, choice.uses));
        choice.offered.iter().enumerate().for_each(|(i, timed)| product(line(choice, timed, i == 0)));
    }
    let Report { default_ms, tuned_ms, .. } = report;
    product(format_args!("a step takes {default_ms:.3} ms with the defaults, {tuned_ms:.3} ms with this table"));
}

fn line(choice: &Choice, timed: &Timed, default: bool) -> String {
    let mark = match (timed.variant == choice.chosen, default) {
        (true, true) => "chosen, the default",
        (true, false) => "chosen",
        (false, true) => "the default",
        (false, false) => "",
    };
    let share = 100.0 * choice.limit_microseconds / timed.microseconds;
    format!("  {:16}  {:10.2} us  {share:5.1}% of limit  {mark}", timed.variant, timed.microseconds)
        .trim_end()
        .to_string()
}

/// The table that a flag names, or an empty one, checked against the step that it is for.
pub fn table(path: Option<&Path>, config: &Config, spec: &Spec) -> Result<Tuning, Failure> {
    let Some(path) = path else { return Ok(Tuning::default()) };
    let tuning = read(path)?;
    let graph = step::graph(config).map_err(::train::Error::from)?;
    let help = "help: make a table on this machine with `rondo tune`";
    let used = tuning
        .check(&graph, spec)
        .map_err(|what| Failure::bad_file(format!("{}: {what}\n  {help}", path.display())))?;
    say(format_args!("tuning  {}: {used} of {} entries are calls of this step", path.display(), tuning.0.len()));
    Ok(tuning)
}

fn read(path: &Path) -> Result<Tuning, Failure> {
    let bad = |what: String| Failure::bad_file(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
    let tuning: Tuning = serde_json::from_str(&text).map_err(|e| {
        bad(format!("not a tuning table, which maps calls to lowerings in JSON: {e}\n  help: `rondo tune` makes one"))
    })?;
    for key in tuning.0.keys() {
        let op = key.split(' ').next().unwrap_or_default();
        if ops::find(op).is_none() {
            return Err(bad(format!("`{key}`: there is no op `{op}`\n  help: `rondo ops` lists them")));
        }
    }
    Ok(tuning)
}
