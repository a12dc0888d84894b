//! `rondo demo`: with nothing but this program, trains a small model on the project's own source and documents.

mod curve;
mod dial;
mod own;
mod pace;
mod screen;

use super::screen::duration;
use super::signals::Signals;
use super::{DeviceFlags, Failure, Outcome, command, json, product, say};
use ::train::bigram::Bigram;
use ::train::config::Overrides;
use ::train::data::Batches;
use ::train::folder::Claim;
use ::train::summary::Summary;
use ::train::{Ending, Error, Run};
use device::Device;
use graph::Tuning;
use pace::Pace;
use screen::Screen;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The project's source and documents, a line of JSON each.
const CORPUS: &str = include_str!(concat!(env!("OUT_DIR"), "/corpus.jsonl"));
/// Where run folders are made without --out.
const RUNS: &str = "runs";
/// What samples begin with: as this project's text does, and as any text can.
const OWN_PROMPTS: &str = r#"["/// The ", "    let "]"#;
const ANY_PROMPTS: &str = r#"["\n"]"#;
/// The share of this machine's limit that the first guess at a step's time takes.
const EXPECTED_SHARE: f64 = 0.4;
/// What training gets of the time at least, whatever the tokenizer took.
const LEAST_TRAINING: f64 = 0.5;

/// Train a small model on this project's own source in under a minute, with nothing to download.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Minutes that it takes, about.
    #[arg(long, value_name = "M", default_value_t = 0.75)]
    minutes: f64,
    /// Learn this text file (UTF-8, or JSONL with `text` in each line), or all files of this folder.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Layers; width, heads, batch and learning rate follow.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    depth: u32,
    /// Seed of the initial weights and of the order of the text.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The run's folder [default: a free runs/demo-SEED].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print what it came to as JSON on stdout, in place of the table.
    #[arg(long)]
    json: bool,
}

/// What the demo came to.
#[derive(serde::Serialize)]
struct Report<'a> {
    /// The run's folder.
    #[serde(serialize_with = "super::serialize_path")]
    run: &'a Path,
    /// Mean nats per token of the held-out text: the model's, and those of a table of token pairs.
    validation_loss: f64,
    bigram_loss: f64,
    /// The same in bits per byte of text.
    validation_bits_per_byte: f64,
    bigram_bits_per_byte: f64,
    /// What the table was made with.
    bigram_lambda: f64,
    bigram_added: f64,
    /// Seconds from the start of the program's work to here.
    seconds: f64,
    /// run.json.
    summary: &'a Summary,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let start = Instant::now();
    if !(args.minutes > 0.0 && args.minutes <= 1e5) {
        return Err(Failure::usage(format!("--minutes is {}; it must be above 0, and at most 100000", args.minutes)));
    }
    let signals = Signals::catch(args.json)?;
    let device = args.device.open()?;
    let time = Duration::from_secs_f64(60.0 * args.minutes);
    let mut run = create(&args, &device, time, &signals)?;
    let held_out = Text::new(&run)?;
    screen::describe(&run, args.depth as usize, run.batches().valid_per_epoch(), held_out.bytes_a_token);
    say(format_args!(
        "goal    a table of token pairs has {:.3} nats a token on the held-out text (lambda {:.2}, add {})",
        held_out.bigram_loss, held_out.bigram.lambda, held_out.bigram.added
    ));
    held_out.keep(run.path())?;
    let limits = device::limits::kept(&device, device::limits::default_file().as_deref())?;
    run.set_limits(limits);
    let limit_seconds = run.trainer().limit_seconds(&limits);
    signals.begin()?;
    let stop = &signals.stop;
    let mut screen = Screen::new(&run, limit_seconds, held_out.bigram_loss, args.json, Arc::clone(stop));
    screen.begin();
    let deadline = (start + time).max(Instant::now() + time.mul_f64(LEAST_TRAINING));
    let mut pace = Pace::new(deadline, run.batches().steps_per_epoch());
    let ending = train(&mut run, &mut pace, limit_seconds / EXPECTED_SHARE, stop, &mut screen);
    screen.clear();
    let ending = ending?;
    let (Ending::Finished(summary) | Ending::Interrupted(summary)) = &ending;
    if let (Some(path), false) = (&screen.last_saved, args.json) {
        let hash = &summary.parameters_sha256;
        say(format_args!("saved   {}   sha256 {}…", path.display(), hash.get(..12).unwrap_or(hash)));
    }
    let folder = run.path();
    if let Ending::Interrupted(_) = ending {
        if args.json {
            product(json(summary));
        }
        let again = command(words(&["train", "--resume"], folder));
        say(format_args!("Resume: {again}          # continues bit for bit"));
        return Err(signals.failure());
    }
    finish(&args, &run, summary, &held_out, pace.is_capped(run.total_steps()), start.elapsed());
    Ok(())
}

/// The run, in its folder, with the text beside it.
fn create(args: &Args, device: &Device, time: Duration, signals: &Signals) -> Result<Run, Failure> {
    if let Some(text) = &args.text {
        own::is_there(text)?;
    }
    let claim = match &args.out {
        Some(out) => Claim::of(out)?,
        None => Claim::free(Path::new(RUNS), "demo", args.seed)?,
    };
    let path = claim.path().to_path_buf();
    signals.hold(claim);
    let text = match &args.text {
        Some(text) => {
            say(format_args!("data    {}", text.display()));
            text.clone()
        }
        None => {
            say(format_args!(
                "data    this project's own source and documents: {} files, {:.2} MB",
                CORPUS.lines().count(),
                CORPUS.len() as f64 / 1e6
            ));
            own_text(&path)?
        }
    };
    let mut set = dial::settings(args.depth as usize, time.as_secs_f64());
    set.push(format!("sample.prompts={}", if args.text.is_some() { ANY_PROMPTS } else { OWN_PROMPTS }));
    set.push(format!("seed={}", args.seed));
    set.push(format!("data.path={}", text.display()));
    let config = Overrides { set, ..Overrides::default() }.resolve().map_err(Error::from)?;
    Run::create(device, config, &path, Tuning::default()).map_err(|e| match &args.text {
        Some(text) => own::failure(e, text),
        None => e.into(),
    })
}

/// The embedded text as a file of the run's folder, so that the run goes on with other builds of this program too.
fn own_text(folder: &Path) -> Result<PathBuf, Failure> {
    let file = folder.join("corpus.jsonl");
    if !folder.join("config.toml").exists() {
        let failed = |path: &Path, e| Failure::from(Error::io(path)(e));
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        tensor::file::atomic::write(&file, CORPUS.as_bytes()).map_err(|e| failed(&file, e))?;
    }
    Ok(file)
}

/// Trains, with the length set again from what steps really take as long as the rate doesn't fall yet.
fn train(
    run: &mut Run,
    pace: &mut Pace,
    expected: f64,
    stop: &AtomicBool,
    screen: &mut Screen,
) -> Result<Ending, Failure> {
    let mut length = pace.length(0, expected, Instant::now());
    run.set_length(length)?;
    screen.length(run.config(), false);
    let mut warned = false;
    while let Some(next) = pace.next(run.step(), length) {
        run.advance(next, stop, screen)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        length = pace.again(run.step(), length, Instant::now());
        run.set_length(length)?;
        screen.length(run.config(), pace.is_measured());
        if let Some(seconds) = pace.excess(run.step(), length, Instant::now()).filter(|_| !warned) {
            warned = true;
            screen.clear();
            say(format_args!(
                "note    {} steps are the least that show anything, and take about {} from here: a smaller --depth is faster",
                length.steps,
                duration(seconds)
            ));
        }
    }
    if pace.is_capped(length.steps) {
        screen.clear();
        say(format_args!(
            "note    {} steps are all that help: more passes over so little text learn it by heart",
            length.steps
        ));
    }
    Ok(run.train(stop, screen)?)
}

/// The held-out text, and what a table of token pairs comes to on it.
struct Text {
    bytes_a_token: f64,
    bigram: Bigram,
    bigram_loss: f64,
}

impl Text {
    fn new(run: &Run) -> Result<Text, Failure> {
        let held_out = run.validation().ok_or_else(|| Failure::failed("nothing was kept apart for validation"))?;
        let bigram = Bigram::train(run.batches(), run.config().model.vocab_size);
        let bytes = |batches: &Batches| -> usize {
            (0..batches.rows())
                .flat_map(|row| batches.pairs(row))
                .map(|(_, target)| run.tokenizer().bytes(target).len())
                .sum()
        };
        let bytes_a_token = bytes(held_out) as f64 / held_out.valid_per_epoch() as f64;
        Ok(Text { bytes_a_token, bigram_loss: bigram.loss(held_out), bigram })
    }

    /// Writes what the table comes to into the run's folder, for pictures of the run.
    fn keep(&self, run: &Path) -> Outcome {
        let Bigram { lambda, added, .. } = self.bigram;
        let text = json(&serde_json::json!({ "loss": self.bigram_loss, "lambda": lambda, "added": added }));
        let file = run.join("bigram.json");
        Ok(tensor::file::atomic::write(&file, text.as_bytes()).map_err(|e| Error::io(&file)(e))?)
    }

    /// Nats per token as bits per byte of text.
    fn bits_per_byte(&self, nats: f64) -> f64 {
        nats / std::f64::consts::LN_2 / self.bytes_a_token
    }
}

/// The words of a command line, with a path at the end.
fn words<'a>(words: &'a [&'a str], path: &'a Path) -> Vec<&'a OsStr> {
    words.iter().map(OsStr::new).chain([path.as_os_str()]).collect()
}

/// The same demo, with more time.
fn longer(args: &Args) -> String {
    let mut words: Vec<OsString> = vec!["demo".into()];
    let mut add = |flag: &str, value: OsString| words.extend([flag.into(), value]);
    if let Some(text) = &args.text {
        add("--text", text.into());
    }
    if args.depth != 4 {
        add("--depth", args.depth.to_string().into());
    }
    if args.seed != 0 {
        add("--seed", args.seed.to_string().into());
    }
    add("--minutes", (2.0 * args.minutes).to_string().into());
    command(words)
}

fn finish(args: &Args, run: &Run, summary: &Summary, held_out: &Text, is_capped: bool, took: Duration) {
    let model = summary.validation_loss.map_or(f64::NAN, f64::from);
    let table = held_out.bigram_loss;
    let (folder, bits) = (run.path(), |nats| held_out.bits_per_byte(nats));
    if args.json {
        product(json(&Report {
            run: folder,
            validation_loss: model,
            bigram_loss: table,
            validation_bits_per_byte: bits(model),
            bigram_bits_per_byte: bits(table),
            bigram_lambda: held_out.bigram.lambda,
            bigram_added: held_out.bigram.added,
            seconds: took.as_secs_f64(),
            summary,
        }));
    } else {
        let picture = std::io::stdout().is_terminal().then(|| curve::curve(&run.history().losses, table)).flatten();
        if let Some(picture) = picture {
            product(format_args!("\n{picture}"));
        }
        product(format_args!(
            "\nheld-out text, nats a token: model {model:.3} | bigram table {table:.3}   (bits a byte: {:.3} | {:.3})",
            bits(model),
            bits(table)
        ));
    }
    if model.is_nan() || model >= table {
        say(match is_capped {
            true => "The model is not below the table: more text would help, more time would not".to_string(),
            false => format!("The model is not below the table yet. More time helps: {}", longer(args)),
        });
    }
    match lab::plot::write(folder) {
        Ok(png) => say(format_args!("curve   {}", png.display())),
        // All is saved; the picture can be drawn again.
        Err(e) => say(format_args!("warning: no picture: {e}")),
    }
    say(format_args!("{:.1} s in all", took.as_secs_f64()));
    let steps = (2 * run.step()).to_string();
    let on = [words(&["train", "--resume"], folder), vec![OsStr::new("--steps"), OsStr::new(&steps)]].concat();
    let file = folder.join("config.toml");
    say(format_args!("\nTalk to it:     {}", command(words(&["run"], folder))));
    say(format_args!("See the curve:  {}", command(words(&["plot"], folder))));
    say(format_args!("Train on:       {}", command(on)));
    say(format_args!("Again, the same bits: {}", command(words(&["train", "--config"], &file))));
    say(format_args!("Make it yours:  rondo demo --text FILE --minutes 10"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_text_is_this_project() {
        let documents: Vec<Value> = CORPUS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let field = |document: &Value, name: &str| document[name].as_str().unwrap().to_string();
        let paths: Vec<_> = documents.iter().map(|d| field(d, "path")).collect();
        assert!(
            paths.is_sorted() && !paths.iter().any(|p| p.split('/').any(|name| ["LICENSE", "target"].contains(&name))),
            "{paths:?}"
        );
        let this = documents.iter().find(|d| field(d, "path").ends_with("src/cmd/demo/mod.rs")).unwrap();
        assert_eq!(field(this, "text"), include_str!("mod.rs").replace("\r\n", "\n"));
    }
}
