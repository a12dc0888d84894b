//! The command line: parses the flags, runs one verb, and turns its outcome into an exit code.

mod cmd;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use cmd::Failure;
use cmd::debug::{Dial, VARIABLE};
use cmd::terminal::{Color, Terminal};
use std::ffi::OsString;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: device::count::CountingAllocator = device::count::CountingAllocator;

/// Trains, runs and measures transformer language models on CPUs, NVIDIA GPUs and any vendor's GPU.
#[derive(Parser)]
#[command(name = "rondo", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 bad input file, 4 not enough resources, 129, 130 or 143 interrupted\n\
                  With --json a failure's last line on stderr is {\"error\", \"help\", \"code\"}\n\
                  RONDO_DEBUG=1 to 5 makes train and plan show more of what they do"
)]
struct Cli {
    /// When messages have colors; `auto` heeds NO_COLOR and TERM=dumb.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(cmd::demo::Args),
    Train(cmd::train::Args),
    Run(cmd::run::Args),
    Plan(cmd::plan::Args),
    Plot(cmd::plot::Args),
    Convert(cmd::convert::Args),
    Synth(cmd::synth::Args),
    Quantize(cmd::quantize::Args),
    Tune(cmd::tune::Args),
    Ops(cmd::ops::Args),
    Check(cmd::check::Args),
    Bench(cmd::bench::Args),
    Fuzz(cmd::fuzz::Args),
    Doctor(cmd::doctor::Args),
    Show(cmd::show::Args),
    Template(cmd::template::Args),
    Tokenize(cmd::tokenize::Args),
    Completions(cmd::completions::Args),
    #[command(hide = true)]
    Manual(cmd::manual::Args),
}

fn main() -> ExitCode {
    cmd::signals::let_long_writes_fail();
    let words: Vec<OsString> = std::env::args_os().collect();
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let outcome = parse(&words).and_then(|cli| {
        let dial = Dial::parse(std::env::var_os(VARIABLE).as_deref())?;
        run(cli.verb, dial, &words)
    });
    // The first thing that went wrong is the one to tell.
    let outcome = outcome.and_then(|()| cmd::written());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(json);
            ExitCode::from(failure.code)
        }
    }
}

/// The command line as parsed; help and version are printed here, and are no failure but without a verb.
fn parse(words: &[OsString]) -> Result<Cli, Failure> {
    let color = asked_color(words);
    let text = |name| std::env::var(name).ok();
    let no_color = text("NO_COLOR").is_some_and(|value| !value.is_empty());
    Terminal::new(color, no_color, text("TERM").as_deref(), text("COLUMNS").as_deref()).install();
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let matches = Cli::command().color(choice).try_get_matches_from(words);
    matches.and_then(|matches| Cli::from_arg_matches(&matches)).map_err(cmd::usage_error)
}

/// What `--color` says, before the rest is parsed: errors of parsing have colors as well.
fn asked_color(words: &[OsString]) -> Color {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--").collect();
    let after = words.iter().position(|word| word == "--color").and_then(|i| words.get(i + 1));
    let value = words.iter().find_map(|word| word.strip_prefix("--color=")).or(after.map(AsRef::as_ref));
    value.and_then(|value| clap::ValueEnum::from_str(value, false).ok()).unwrap_or_default()
}

fn run(verb: Verb, dial: Dial, words: &[OsString]) -> cmd::Outcome {
    match verb {
        Verb::Demo(args) => cmd::demo::run(args),
        Verb::Train(args) => cmd::train::run(args, dial, words),
        Verb::Run(args) => cmd::run::run(args),
        Verb::Plan(args) => cmd::plan::run(args, dial),
        Verb::Plot(args) => cmd::plot::run(args),
        Verb::Convert(args) => cmd::convert::run(args),
        Verb::Synth(args) => cmd::synth::run(args),
        Verb::Quantize(args) => cmd::quantize::run(args),
        Verb::Tune(args) => cmd::tune::run(args),
        Verb::Ops(args) => cmd::ops::run(args),
        Verb::Check(args) => cmd::check::run(args),
        Verb::Bench(args) => cmd::bench::run(args),
        Verb::Doctor(args) => cmd::doctor::run(args),
        Verb::Show(args) => cmd::show::run(args),
        Verb::Template(args) => cmd::template::run(args),
        Verb::Tokenize(args) => cmd::tokenize::run(args),
        Verb::Completions(args) => cmd::completions::run(args, Cli::command()),
        Verb::Fuzz(args) => cmd::fuzz::run(args),
        Verb::Manual(args) => cmd::manual::run(args, Cli::command()),
    }
}
