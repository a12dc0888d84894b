//! The verbs, one file each, and what they share: outcomes with exit codes, the device flags, printing.

pub mod bench;
pub mod check;
pub mod completions;
pub mod convert;
pub mod debug;
pub mod demo;
pub mod doctor;
pub mod fuzz;
pub mod manual;
pub mod ops;
pub mod output;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod quantize;
pub mod run;
pub mod samples;
pub mod screen;
pub mod show;
pub mod show_file;
pub mod signals;
pub mod synth;
pub mod template;
pub mod terminal;
pub mod tokenize;
pub mod train;
pub mod tune;

use ::train::config::{Config, Overrides};
use ::train::keys;
use device::{Choice, Device, Options};
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Why a verb ended early, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    /// 1 failed, 2 usage, 3 bad input file, 4 not enough resources, 129, 130 or 143 interrupted.
    pub code: u8,
    /// What is wrong, where, and what to do; empty where all was said already.
    pub message: String,
}

/// What a verb answers.
pub type Outcome = Result<(), Failure>;

impl Failure {
    /// Exit code 1: it was tried and failed.
    pub fn failed(what: impl Display) -> Self {
        Failure { code: 1, message: what.to_string() }
    }

    /// Exit code 2: flags or configuration that make no sense.
    pub fn usage(what: impl Display) -> Self {
        Failure { code: 2, message: what.to_string() }
    }

    /// Exit code 3: a file that can't be used.
    pub fn bad_file(what: impl Display) -> Self {
        Failure { code: 3, message: what.to_string() }
    }

    /// Exit code 4: memory, room on the disk, or a device that isn't there.
    pub fn resources(what: impl Display) -> Self {
        Failure { code: 4, message: what.to_string() }
    }

    /// What is wrong, without what to do.
    pub fn first_line(&self) -> String {
        self.message.lines().next().unwrap_or_default().to_string()
    }

    /// Says it on stderr; with `json` as one line of JSON, the last one.
    pub fn print(&self, json: bool) {
        if json && self.code != 0 {
            say(self.json());
        } else if !self.message.is_empty() {
            say(format_args!("error: {}", self.message));
        }
    }

    /// `{"error": …, "help": …, "code": …}`: what is wrong, what to do (or null), and the exit code.
    fn json(&self) -> serde_json::Value {
        let is_help = |line: &&str| line.trim_start().starts_with("help:");
        let help: Vec<_> = self.message.lines().filter(is_help).map(|l| l.trim_start()[5..].trim()).collect();
        let error: Vec<_> = self.message.lines().filter(|line| !is_help(line)).collect();
        let error = match (error.join("\n"), self.code) {
            (empty, 129 | 130 | 143) if empty.is_empty() => "interrupted".into(),
            (empty, _) if empty.is_empty() => "a verb is missing".into(),
            (error, _) => error,
        };
        let help = (!help.is_empty()).then(|| help.join("\n"));
        serde_json::json!({ "error": error, "help": help, "code": self.code })
    }
}

/// Prints help and version where they are asked for; everything else that the parser says becomes a failure.
pub fn usage_error(error: clap::Error) -> Failure {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            note(error.print());
            written().err().unwrap_or(Failure { code: 0, message: String::new() })
        }
        // A verb is missing: its help is the answer.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure { code: 2, message: String::new() }
        }
        _ => Failure::usage(in_our_words(&error.render().to_string())),
    }
}

/// The parser's message: without its first word, and with its tips as help.
fn in_our_words(text: &str) -> String {
    let text = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let verb = verb_of(text);
    let key = unknown_flag(text).and_then(keys::nearest).filter(|_| TAKES_KEYS.contains(&verb.as_str()));
    let similar = text.contains("tip: a similar ");
    let key = key.filter(|_| !similar).map(|key| format!("  help: did you mean `--set {key}=VALUE`?"));
    let lines = text.lines().filter(|line| !line.trim().is_empty()).map(|line| match line.trim_start() {
        // Nobody who mistypes a flag means it as a value.
        tip if tip.starts_with("tip: to pass ") => key.clone().unwrap_or_default(),
        tip if tip.starts_with("tip: ") => format!("  help: {}", in_few_words(&tip[5..])),
        more if more.starts_with("For more information") => {
            let key = key.iter().filter(|_| !text.contains("tip: to pass ")).map(|key| format!("{key}\n"));
            format!("{}  help: `rondo help{verb}` says what it takes", key.collect::<String>())
        }
        _ => line.to_string(),
    });
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The verbs that take `--set KEY=VALUE`, as `verb_of` gives them.
const TAKES_KEYS: [&str; 3] = [" train", " plan", " tune"];

/// The verb that a message is about, from its line of usage: ` bench train`, or nothing before a verb is known. Messages
/// about a flag's value have no such line.
fn verb_of(text: &str) -> String {
    let Some(usage) = text.lines().find_map(|line| line.trim().strip_prefix("Usage: rondo ")) else {
        return " VERB".into();
    };
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    usage.split(' ').take_while(plain).map(|word| format!(" {word}")).collect()
}

/// The flag that isn't known, without its dashes.
fn unknown_flag(text: &str) -> Option<&str> {
    text.strip_prefix("unexpected argument '--")?.split(['\'', '=']).next()
}

/// A command line of this program with these words, to be pasted into a shell.
pub fn command<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |word: S| match word.as_ref().to_string_lossy() {
        word if !word.is_empty() && word.chars().all(plain) => word.into_owned(),
        word => format!("'{}'", word.replace('\'', "'\\''")),
    };
    std::iter::once("rondo".to_string()).chain(words.into_iter().map(quoted)).collect::<Vec<_>>().join(" ")
}

/// `a similar argument exists: '--preset'` as the question that it is.
fn in_few_words(tip: &str) -> String {
    match tip.strip_prefix("a similar ").and_then(|rest| rest.split_once(" exists: ")) {
        Some((_, name)) => format!("did you mean {}?", name.replace('\'', "`")),
        None => tip.to_string(),
    }
}

impl From<device::Error> for Failure {
    fn from(error: device::Error) -> Self {
        match error {
            device::Error::Unavailable { .. } | device::Error::Memory { .. } => Failure::resources(error),
            _ => Failure::failed(error),
        }
    }
}

impl From<tensor::file::Error> for Failure {
    fn from(error: tensor::file::Error) -> Self {
        use std::io::ErrorKind;
        let text = error.to_string();
        let help = match &error {
            tensor::file::Error::Io { source, .. } if !text.contains("help: ") => match source.kind() {
                ErrorKind::NotFound => "name a file that is there",
                ErrorKind::PermissionDenied => "name a file that you may read",
                ErrorKind::InvalidInput | ErrorKind::NotADirectory => "name a model file",
                _ => return Failure::bad_file(text),
            },
            _ => return Failure::bad_file(text),
        };
        Failure::bad_file(format!("{text}\n  help: {help}"))
    }
}

impl From<::train::Error> for Failure {
    fn from(error: ::train::Error) -> Self {
        use ::train::Error;
        use ::train::config::Origin;
        match error {
            Error::Config(ref e) if matches!(e.origin, Origin::File(_)) => Failure::bad_file(error),
            Error::Config(_) => Failure::usage(error),
            Error::Data { .. } | Error::Newer { .. } | Error::Tensors(_) => Failure::bad_file(error),
            Error::Plan(graph::plan::PlanError::Memory { .. } | graph::plan::PlanError::Allocation { .. }) => {
                Failure::resources(error)
            }
            Error::Device(e) => e.into(),
            Error::Stopped { source, kept } => {
                let Failure { code, message } = Failure::from(*source);
                Failure { code, message: format!("{message}\n  {kept}") }
            }
            _ => Failure::failed(error),
        }
    }
}

/// The flags of verbs about a configuration's step.
#[derive(clap::Args, Clone, Debug)]
pub struct StepFlags {
    /// A named workload: hlx-simple, hlx-full, gpt-small-test, tiny-llama.
    #[arg(required_unless_present = "config")]
    pub preset: Option<String>,
    /// A configuration file (TOML); its keys go over the preset's.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One key over all others, such as batch_size=8; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl StepFlags {
    /// The configuration that they ask for, with one more key set.
    pub fn resolve(&self, more: Option<&str>) -> Result<Config, Failure> {
        let set = self.set.iter().map(String::as_str).chain(more).map(String::from).collect();
        let overrides = Overrides { preset: self.preset.clone(), file: self.config.clone(), set };
        Ok(overrides.resolve().map_err(::train::Error::from)?)
    }

    /// The command that trains it, with more words.
    pub fn train(&self, more: &[OsString]) -> String {
        let preset = self.preset.iter().flat_map(|name| ["--preset".into(), name.into()]);
        let file = self.config.iter().flat_map(|file| ["--config".into(), file.into()]);
        let set = self.set.iter().flat_map(|key| ["--set".into(), key.into()]);
        let words = std::iter::once("train".into()).chain(preset).chain(file).chain(set);
        command(words.chain(more.iter().cloned()).collect::<Vec<OsString>>())
    }
}

/// The flags of every verb that computes.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceFlags {
    /// Where to compute: best, cpu, cuda, cuda:N, vulkan or vulkan:N.
    #[arg(long, default_value = "best", value_name = "DEVICE")]
    pub device: Choice,
    /// CPU threads [default: the cores that this process may use].
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl DeviceFlags {
    /// Opens the device, and names it with the reason in the first line on stderr.
    pub fn open(&self) -> Result<Device, Failure> {
        if self.threads == Some(0) {
            return Err(Failure::usage("--threads must be at least 1"));
        }
        let options = Options { threads: self.threads, ..Options::default() };
        let device = Device::open(self.device, &options)?;
        say(format_args!("rondo {} · {}", env!("CARGO_PKG_VERSION"), describe(&device)));
        Ok(device)
    }
}

/// The device in words, with the reason for taking it.
pub fn describe(device: &Device) -> String {
    let spec = device.spec();
    let gibibytes = spec.memory_bytes as f64 / f64::from(1u32 << 30);
    let memory = if spec.kind == graph::DeviceKind::Cpu { "RAM" } else { "memory" };
    let (kind, name, architecture, reason) = (spec.kind, &spec.name, &spec.architecture, device.reason());
    format!("{kind} · {name}, {architecture} · {gibibytes:.1} GiB {memory} · {reason}")
}

/// Says something on stderr, whether or not anybody reads it.
pub fn say(text: impl Display) {
    // Work goes on without its reader.
    let _ = writeln!(std::io::stderr().lock(), "{}", terminal::painted(&harmless(&text.to_string())));
}

/// A message of several lines without what steers a terminal: names and texts out of files are in it.
fn harmless(text: &str) -> String {
    let part = |part: &str| tensor::file::printable(part).into_owned();
    let line = |line: &str| line.split('\t').map(part).collect::<Vec<_>>().join("\t");
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Prints the product of a verb on stdout. A reader who has left (`| head`) is no error; what else keeps it from being
/// written is one when the verb has ended.
pub fn product(text: impl Display) {
    note(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints a piece of the product at once, and answers whether there is use in more of it.
pub fn piece(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    note(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

/// Why the product isn't whole, if it isn't.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Whether something was written to stdout; why not is kept.
fn note(outcome: std::io::Result<()>) -> bool {
    match &outcome {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            UNWRITTEN.get_or_init(|| e.to_string());
        }
        // Nothing is left to tell a reader who has gone, and stderr has had the messages.
        _ => {}
    }
    outcome.is_ok()
}

/// Whether all of the product was written that somebody reads.
///
/// # Errors
/// What was in the way, such as a full disk.
pub fn written() -> Outcome {
    note(std::io::stdout().flush());
    let what = |why: &String| Failure::failed(format!("standard output can't be written: {why}"));
    UNWRITTEN.get().map_or(Ok(()), |why| Err(what(why)))
}

/// A whole number of a flag.
pub fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("it must be a whole number from 0 to {}", u64::MAX))
}

/// A number of things that a flag gives.
pub fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("it must be a whole number from 0 to {}", u32::MAX))
}

/// A path as a text for JSON, where what is no UTF-8 becomes U+FFFD: data with such a path would be no JSON.
pub fn path_text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// The same for `serialize_with`.
pub fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Plain data as JSON, indented.
pub fn json(data: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(data).expect("it is plain data")
}
