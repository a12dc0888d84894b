//! `rondo train`: trains a model from a preset or a configuration file, or goes on with a run.

use super::debug::Dial;
use super::screen::Screen;
use super::signals::Signals;
use super::{DeviceFlags, Failure, Outcome, command, product, say};
use ::train::config::{Overrides, PRESETS};
use ::train::folder::{self, Claim};
use ::train::{Ending, Run};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where run folders are made without --out.
const RUNS: &str = "runs";

/// Train a model from a preset or a configuration file, or go on with a run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A named workload: hlx-simple, hlx-full, gpt-small-test, tiny-llama.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A configuration file (TOML); its keys go over the preset's.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// One key over all others, such as optimizer.lr=1e-3; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder [default: a free runs/PRESET-SEED].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of the initial weights.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Steps in all.
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    steps: Option<usize>,
    /// Passes over the data in all.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Go on with a run from its latest whole checkpoint [without DIR: --out, or the run that changed last].
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    /// Write the initial weights as checkpoint step-0, and stop.
    #[arg(long, conflicts_with = "resume")]
    init_only: bool,
    /// Choose lowerings by this table of `rondo tune`; a run that goes on keeps its own.
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    tuning: Option<PathBuf>,
    /// Run the ops one by one, as traced.
    #[arg(long)]
    no_fuse: bool,
    /// Write event files for TensorBoard as well, into the run's folder `tensorboard`.
    #[arg(long)]
    tensorboard: bool,
    /// Print the configuration as resolved, the plan's size and the expected time; write nothing.
    #[arg(long, conflicts_with_all = ["resume", "init_only"])]
    dry_run: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print run.json on stdout in place of the table.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// All keys that flags set, in order.
    fn settings(&self) -> Vec<String> {
        let mut set = self.set.clone();
        set.extend(self.seed.map(|seed| format!("seed={seed}")));
        set.extend(self.steps.map(|steps| format!("steps={steps}")));
        set.extend(self.epochs.iter().flat_map(|epochs| [format!("epochs={epochs}"), "steps=0".into()]));
        set.extend(self.no_fuse.then(|| "fuse=false".into()));
        set.extend(self.tensorboard.then(|| "log.tensorboard=true".into()));
        set
    }

    /// The folder of the run to go on with.
    fn resumed(&self, given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        let found = given.or(self.out.as_ref()).cloned();
        found.or_else(|| folder::latest(Path::new(RUNS), self.preset.as_deref())).ok_or_else(|| {
            Failure::usage(format!("there is no run in {RUNS}/ to go on with\n  help: name its folder: --resume DIR"))
        })
    }

    /// Whether the run in `path` is of the preset that is named, if one is: a run that goes on keeps its own.
    fn agrees_with(&self, path: &Path) -> Outcome {
        let file = path.join("config.toml");
        // A run that can't be read is told of where it is opened.
        let Ok(config) = (Overrides { file: Some(file), ..Overrides::default() }).resolve() else { return Ok(()) };
        match &self.preset {
            Some(name) if *name != config.preset => Err(Failure::usage(format!(
                "--preset {name}: {} is a run of {}\n  help: leave --preset out to go on with it, or --resume to begin a new run",
                path.display(),
                config.preset
            ))),
            _ => Ok(()),
        }
    }
}

/// Runs the verb; `words` is the command line, for hints.
pub fn run(args: Args, dial: Dial, words: &[OsString]) -> Outcome {
    let signals = Signals::catch(args.json)?;
    let mut screen = Screen::new(args.json, Arc::clone(&signals.stop));
    if args.steps == Some(0) || args.epochs == Some(0) {
        return Err(Failure::usage(
            "a run has at least one step\n  help: --init-only writes the initial weights alone",
        ));
    }
    if args.preset.is_none() && args.config.is_none() && args.resume.is_none() {
        let known: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
        return Err(Failure::usage(format!(
            "what to train isn't said\n  help: --preset NAME, one of {}; or --config FILE (TOML); or --resume [DIR] to go on \
             with a run",
            known.join(", ")
        )));
    }
    if args.dry_run {
        return dry_run(&args, words);
    }
    let mut run = open(&args, &mut screen, &signals)?;
    dial.begun(&run)?;
    if args.init_only {
        signals.begin()?;
        return init_only(&mut run, &mut screen, args.json);
    }
    if run.is_complete() {
        let (path, total) = (run.path().display(), run.total_steps());
        say(format_args!("{path} has done all its {total} steps; train it on with --resume {path} --epochs N"));
        if args.json {
            let file = run.path().join("run.json");
            let text = std::fs::read_to_string(&file);
            product(text.map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?.trim_end());
        }
        return Ok(());
    }
    // The first run on a machine measures it, which takes about a second; later ones read what was measured.
    let limits = device::limits::kept(run.device(), device::limits::default_file().as_deref())?;
    run.set_limits(limits);
    describe(&run);
    signals.begin()?;
    screen.begin(&run, &limits);
    let ending = run.train(&signals.stop, &mut screen);
    screen.clear();
    let ending = ending?;
    let (Ending::Finished(summary) | Ending::Interrupted(summary)) = &ending;
    screen.finish(summary, run.path());
    // All is saved: what measuring does to the state is thrown away.
    dial.ended(&mut run, &limits)?;
    end(&run, &ending, &signals)
}

/// The picture of the run, and what to do next.
fn end(run: &Run, ending: &Ending, signals: &Signals) -> Outcome {
    let folder = run.path().display();
    match lab::plot::write(run.path()) {
        Ok(picture) => say(format_args!("plot    {}", picture.display())),
        // The run is whole without its picture.
        Err(e) => say(format_args!("warning: no picture was drawn: {e}")),
    }
    match ending {
        Ending::Finished(_) => {
            say(format_args!("Try it:   rondo run {folder}"));
            say(format_args!("Look:     rondo show {folder}"));
            say(format_args!("Train on: rondo train --resume {folder} --epochs N"));
            Ok(())
        }
        Ending::Interrupted(_) => {
            say(format_args!("Resume: rondo train --resume {folder}          # continues bit for bit"));
            Err(signals.failure())
        }
    }
}

fn open(args: &Args, screen: &mut Screen, signals: &Signals) -> Result<Run, Failure> {
    if let Some(given) = &args.resume {
        let path = args.resumed(given.as_ref())?;
        args.agrees_with(&path)?;
        let device = args.device.open()?;
        let run = Run::resume(&device, &path, &args.settings(), screen)?;
        say(format_args!("resume  {} after step {}", path.display(), run.step()));
        return Ok(run);
    }
    let overrides = Overrides { preset: args.preset.clone(), file: args.config.clone(), set: args.settings() };
    let config = overrides.resolve().map_err(::train::Error::from)?;
    let device = args.device.open()?;
    let tuning = super::tune::table(args.tuning.as_deref(), &config, device.spec())?;
    let claim = match &args.out {
        Some(out) => Claim::of(out)?,
        None => Claim::free(Path::new(RUNS), &config.preset, config.seed)?,
    };
    let path = claim.path().to_path_buf();
    signals.hold(claim);
    Ok(Run::create(&device, config, &path, tuning)?)
}

/// What the run would be, as far as that is known without running it.
fn dry_run(args: &Args, words: &[OsString]) -> Outcome {
    let overrides = Overrides { preset: args.preset.clone(), file: args.config.clone(), set: args.settings() };
    let config = overrides.resolve().map_err(::train::Error::from)?;
    let device = args.device.open()?;
    let tuning = super::tune::table(args.tuning.as_deref(), &config, device.spec())?;
    let ::train::data::Data { training: batches, notes, .. } = ::train::data::Data::open(&config)?;
    let plans = ::train::step::plans(&config, device.spec(), &tuning)?;
    let saving = ::train::step::saving_bytes(&config);
    if let Err(refusal) = ::train::step::has_room(&device, &plans, saving, &config) {
        say(format_args!("warning: as things are, it would be refused: {refusal}"));
    }
    let kept = device::limits::known(&device, device::limits::default_file().as_deref());
    let limits = kept.unwrap_or(device.spec().limits);
    let steps = ::train::run::total_steps(&config, &batches);
    // Of accumulated steps the first plan runs once a micro-batch.
    let times = |i: usize| if i == 0 { config.grad_accumulation as f64 } else { 1.0 };
    let seconds: f64 = plans.iter().enumerate().map(|(i, plan)| times(i) * plan.limit_seconds(&limits)).sum();
    let bytes: u64 = graph::plan::lent_by_name(&plans).iter().map(|(_, bytes)| bytes).sum();
    let launches: usize = plans.iter().map(|plan| plan.launches.len()).sum();
    let least = seconds * steps as f64;
    if args.json {
        product(super::json(&serde_json::json!({
            "config": config,
            "device": device.spec(),
            "steps": steps,
            "steps_per_epoch": batches.steps_per_epoch(),
            "launches": launches,
            "bytes": bytes,
            "limit_seconds": least,
            "limits_measured": kept.is_some(),
        })));
        return Ok(());
    }
    product(config.to_toml().trim_end());
    let (positions, context) = (batches.positions_per_epoch(), config.model.max_context);
    say(format_args!("data    {} rows of {context} tokens, {positions} positions an epoch", batches.rows()));
    notes.iter().for_each(|note| say(format_args!("warning: {note}")));
    say(format_args!("plan    {steps} steps of {launches} launches · memory {}", megabytes(bytes)));
    let source = if kept.is_some() { "measured" } else { "estimated" };
    say(format_args!(
        "time    at least {least:.1} s, at this machine's {source} limits; `rondo plan` shows launch by launch"
    ));
    let same = words.iter().skip(1).filter(|word| *word != "--dry-run");
    say(format_args!("Nothing was written. Train it: {}", command(same)));
    Ok(())
}

fn init_only(run: &mut Run, screen: &mut Screen, json: bool) -> Outcome {
    run.save(screen)?;
    let path = run.path().join("checkpoints/step-0");
    if json {
        product(
            serde_json::json!({ "checkpoint": super::path_text(path), "num_parameters": run.trainer().num_parameters() }),
        );
    } else {
        product(path.display());
    }
    say(format_args!("Train it: rondo train --resume {}", run.path().display()));
    Ok(())
}

fn describe(run: &Run) {
    let (config, batches) = (run.config(), run.batches());
    let (arena, all) = run.trainer().memory_bytes();
    let model = &config.model;
    let shared = match model.kv_heads() {
        all if all == model.num_heads => String::new(),
        few => format!(" on {few} of keys and values"),
    };
    let source = match config.data.path.as_str() {
        "" => "built in",
        path => path,
    };
    let corpus = format!("{:?}", config.data.corpus).to_lowercase();
    let apart = run.validation().map(|v| format!(" · {} rows kept apart for validation", v.rows())).unwrap_or_default();
    say(format_args!(
        "data    {corpus}, {source}: {} rows of {} tokens ({}), {} steps an epoch{apart}",
        batches.rows(),
        model.max_context,
        run.tokenizer().name(),
        batches.steps_per_epoch()
    ));
    run.notes().iter().for_each(|note| say(format_args!("warning: {note}")));
    say(format_args!(
        "model   {}: {} layers · {} wide · {} heads{} · {} parameters",
        config.preset,
        model.num_layers,
        model.hidden_size,
        model.num_heads,
        shared,
        run.trainer().num_parameters()
    ));
    let micro_batches = match config.grad_accumulation {
        1 => String::new(),
        n => format!("{n} micro-batches, "),
    };
    say(format_args!(
        "plan    {} steps of {micro_batches}{} launches · arena {} · all memory {}",
        run.total_steps(),
        run.trainer().launches(),
        megabytes(arena),
        megabytes(all)
    ));
    say(format_args!("run     {}   seed {}", run.path().display(), config.seed));
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
