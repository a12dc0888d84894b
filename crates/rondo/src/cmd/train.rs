//! `rondo train`: trains a model from a preset or a configuration file, or goes on with a run.

use super::debug::Dial;
use super::samples::Samples;
use super::{DeviceFlags, Failure, Outcome, product, say};
use ::train::config::Overrides;
use ::train::evaluate::Evaluation;
use ::train::run::Row;
use ::train::samples::{Moment, Sample};
use ::train::summary::Summary;
use ::train::trainer::Measured;
use ::train::{Ending, Observer, Run, folder};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where run folders are made without --out.
const RUNS: &str = "runs";
/// Lines that the table has about.
const TABLE_LINES: usize = 10;
/// Lines of progress where stderr is no terminal.
const PROGRESS_LINES: usize = 10;

/// Train a model from a preset or a configuration file, or go on with a run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A named workload: hlx-simple, hlx-full, gpt-small-test, tiny-llama.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["config", "resume"])]
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
        set
    }

    /// The folder of the run to go on with.
    fn resumed(&self, given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
        let found = given.or(self.out.as_ref()).cloned();
        found.or_else(|| folder::latest(Path::new(RUNS), self.preset.as_deref())).ok_or_else(|| {
            Failure::usage(format!("there is no run in {RUNS}/ to go on with\n  help: name its folder: --resume DIR"))
        })
    }
}

/// Runs the verb.
pub fn run(args: Args, dial: Dial) -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let mut screen = Screen::new(&args, Arc::clone(&stop));
    if args.steps == Some(0) || args.epochs == Some(0) {
        return Err(Failure::usage(
            "a run has at least one step\n  help: --init-only writes the initial weights alone",
        ));
    }
    let mut run = open(&args, &mut screen)?;
    dial.begun(&run)?;
    if args.init_only {
        return init_only(&mut run, &mut screen);
    }
    if run.step() >= run.total_steps() {
        let (path, total) = (run.path().display(), run.total_steps());
        say(format_args!("{path} has done all its {total} steps; train it on with --resume {path} --epochs N"));
        return Ok(());
    }
    // The first run on a machine measures it, which takes about a second; later ones read what was measured.
    let limits = device::limits::kept(run.device(), device::limits::default_file().as_deref())?;
    run.set_limits(limits);
    let signal = catch_signals(&stop)?;
    describe(&run);
    screen.begin(&run);
    let ending = run.train(&stop, &mut screen);
    screen.clear();
    let ending = ending?;
    let (Ending::Finished(summary) | Ending::Interrupted(summary)) = &ending;
    screen.finish(summary, run.path());
    // All is saved: what measuring does to the state is thrown away.
    dial.ended(&mut run, &limits)?;
    let folder = run.path().display();
    match ending {
        Ending::Finished(_) => {
            say(format_args!("Train on: rondo train --resume {folder} --epochs N"));
            Ok(())
        }
        Ending::Interrupted(_) => {
            say(format_args!("Resume: rondo train --resume {folder}          # continues bit for bit"));
            Err(Failure { code: signal.load(Ordering::Relaxed) as u8, message: String::new() })
        }
    }
}

fn open(args: &Args, screen: &mut Screen) -> Result<Run, Failure> {
    if let Some(given) = &args.resume {
        let path = args.resumed(given.as_ref())?;
        let device = args.device.open()?;
        let run = Run::resume(&device, &path, &args.settings(), screen)?;
        say(format_args!("resume  {} after step {}", path.display(), run.step()));
        return Ok(run);
    }
    let overrides = Overrides { preset: args.preset.clone(), file: args.config.clone(), set: args.settings() };
    let config = overrides.resolve().map_err(::train::Error::from)?;
    let device = args.device.open()?;
    let named = args.out.clone();
    let path = named.unwrap_or_else(|| folder::free_name(Path::new(RUNS), &config.preset, config.seed));
    let tuning = super::tune::table(args.tuning.as_deref(), &config, device.spec())?;
    Ok(Run::create(&device, config, &path, tuning)?)
}

fn init_only(run: &mut Run, screen: &mut Screen) -> Outcome {
    run.save(screen)?;
    let path = run.path().join("checkpoints/step-0");
    if screen.json {
        product(serde_json::json!({ "checkpoint": path, "num_parameters": run.trainer().num_parameters() }));
    } else {
        product(path.display());
    }
    say(format_args!("Train it: rondo train --resume {}", run.path().display()));
    Ok(())
}

/// The first signal, Ctrl-C or a request to end, asks for a stop after the step; the second ends the process. Answers
/// where the exit code of the first one will be.
fn catch_signals(stop: &Arc<AtomicBool>) -> Result<Arc<AtomicUsize>, Failure> {
    let first = Arc::new(AtomicUsize::new(130));
    for (signal, code) in [(signal_hook::consts::SIGINT, 130u8), (signal_hook::consts::SIGTERM, 143)] {
        use signal_hook::flag;
        flag::register_conditional_shutdown(signal, code.into(), Arc::clone(stop)).map_err(Failure::failed)?;
        flag::register_usize(signal, Arc::clone(&first), code.into()).map_err(Failure::failed)?;
        flag::register(signal, Arc::clone(stop)).map_err(Failure::failed)?;
    }
    Ok(first)
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

/// What the user sees: progress on stderr, the table on stdout.
struct Screen {
    json: bool,
    terminal: bool,
    stop: Arc<AtomicBool>,
    said_stop: bool,
    line_shown: bool,
    shown: Option<Instant>,
    last_saved: Option<PathBuf>,
    samples: Samples,
    rows_between: usize,
}

impl Screen {
    fn new(args: &Args, stop: Arc<AtomicBool>) -> Self {
        Screen {
            json: args.json,
            terminal: std::io::stderr().is_terminal(),
            stop,
            said_stop: false,
            line_shown: false,
            shown: None,
            last_saved: None,
            samples: Samples::default(),
            rows_between: 1,
        }
    }

    fn begin(&mut self, run: &Run) {
        if self.json {
            return;
        }
        let epochs = run.total_steps().div_ceil(run.batches().steps_per_epoch());
        self.rows_between = (epochs / TABLE_LINES).max(1);
        let what = if run.total_steps() >= 2 * run.batches().steps_per_epoch() { "epoch" } else { "part" };
        product(format_args!(
            "{what:>9}  {:>7}  {:>8}  {:>8}  {:>8}  {:>9}  {:>9}  {:>8}",
            "step", "loss", "lr", "ms", "tok/s", "valid/s", "of limit"
        ));
    }

    /// Removes the line that is being updated.
    fn clear(&mut self) {
        if std::mem::take(&mut self.line_shown) {
            update(format_args!(""));
        }
    }

    fn finish(&self, summary: &Summary, path: &Path) {
        if self.json {
            // The file is the same summary; a run that had nothing to do keeps the one it had.
            let text = std::fs::read_to_string(path.join("run.json"));
            product(text.unwrap_or_else(|_| serde_json::to_string_pretty(summary).unwrap_or_default()));
        } else {
            print_summary(summary);
        }
        if let Some(path) = &self.last_saved {
            say(format_args!("saved   {}", path.display()));
        }
    }
}

/// Shows a line in place of the one before.
fn update(text: impl std::fmt::Display) {
    let mut stderr = std::io::stderr().lock();
    // A progress line that can't be shown is no reason to stop.
    let _ = write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush());
}

fn print_summary(s: &Summary) {
    let number = |x: Option<f64>, digits: usize| x.map_or("-".to_string(), |x| format!("{x:.digits$}"));
    product(format_args!(
        "\n{} · {} · {} steps: final loss {}, best {}",
        s.preset,
        s.device_name,
        s.steps,
        number(s.final_loss, 4),
        number(s.best_loss, 4)
    ));
    if let Some(loss) = s.validation_loss {
        let kept = s.best_checkpoint.as_ref().map(|path| format!(" · best checkpoint {path}")).unwrap_or_default();
        product(format_args!(
            "validation loss {loss:.4}, best {}{kept}",
            number(s.best_validation_loss.map(f64::from), 4)
        ));
    }
    product(format_args!(
        "median {} ms an epoch, {} ms a step ({}% of this machine's limit) · {} tok/s, {} valid tok/s · {:.2} s in all",
        number(s.epoch_ms_median, 2),
        number(s.step_ms_median, 3),
        number(s.percent_of_limit, 1),
        number(s.tokens_per_second, 0),
        number(s.valid_tokens_per_second, 0),
        s.wall_seconds
    ));
    product(format_args!("parameters sha256 {}\nlosses     sha256 {}", s.parameters_sha256, s.losses_sha256));
}

impl Observer for Screen {
    fn step(&mut self, step: usize, of: usize, measured: &Measured) {
        if self.stop.load(Ordering::Relaxed) && !std::mem::replace(&mut self.said_stop, true) {
            self.clear();
            say(format_args!("stopping after this step (Ctrl-C again to quit now)"));
        }
        let due = self.shown.is_none_or(|t| t.elapsed() >= Duration::from_millis(100));
        if self.terminal && due && step < of {
            self.shown = Some(Instant::now());
            self.line_shown = true;
            update(format_args!("step {step} of {of}   loss {:.4}   |g| {:.3}", measured.loss, measured.grad_norm));
        } else if !self.terminal && step.is_multiple_of(of.div_ceil(PROGRESS_LINES)) {
            say(format_args!("step {step} of {of}   loss {:.4}   |g| {:.3}", measured.loss, measured.grad_norm));
        }
    }

    fn row(&mut self, row: &Row) {
        let wanted = row.number == 1 || row.number == row.of || row.number.is_multiple_of(self.rows_between);
        if self.json || !wanted {
            return;
        }
        self.clear();
        product(format_args!(
            "{:>9}  {:>7}  {:>8.4}  {:>8.1e}  {:>8.2}  {:>9.0}  {:>9.0}  {:>7.1}%",
            format_args!("{}/{}", row.number, row.of).to_string(),
            row.step,
            row.loss,
            row.lr,
            row.ms,
            row.tokens_per_second,
            row.valid_tokens_per_second,
            row.percent_of_limit
        ));
    }

    fn evaluation(&mut self, evaluation: &Evaluation) {
        if self.json {
            return;
        }
        self.clear();
        let loss = evaluation.loss.map_or("-".into(), |loss| format!("{loss:.4}"));
        product(format_args!("{:>9}  {:>7}  {loss:>8}", "validate", evaluation.step));
    }

    fn warning(&mut self, text: &str) {
        self.clear();
        say(format_args!("warning: {text}"));
    }

    fn sample(&mut self, now: &Moment) -> Result<Vec<Sample>, String> {
        let made = self.samples.make(now)?;
        self.clear();
        if !self.json {
            made.iter().for_each(|s| {
                product(format_args!("{:>9}  {:>7}  {:?}", "sample", now.step, s.prompt.clone() + &s.text))
            });
        }
        Ok(made)
    }

    fn saved(&mut self, path: &Path) {
        self.last_saved = Some(path.into());
    }
}
