//! The command line: parses the flags, runs one verb, and turns its outcome into an exit code.

mod cmd;

use clap::{Parser, Subcommand};
use cmd::debug::{Dial, VARIABLE};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: device::count::CountingAllocator = device::count::CountingAllocator;

/// Trains, runs, serves and measures transformer language models on CPUs, NVIDIA GPUs and any vendor's GPU.
#[derive(Parser)]
#[command(name = "rondo", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 bad input file, 4 not enough resources, 130 or 143 interrupted\n\
                  RONDO_DEBUG=1 to 5 makes train and plan show more of what they do"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(cmd::train::Args),
    Run(cmd::run::Args),
    Plan(cmd::plan::Args),
    Plot(cmd::plot::Args),
    Tune(cmd::tune::Args),
    Ops(cmd::ops::Args),
    Check(cmd::check::Args),
    Bench(cmd::bench::Args),
    Doctor(cmd::doctor::Args),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let dial = Dial::parse(std::env::var_os(VARIABLE).as_deref());
    let outcome = dial.and_then(|dial| run(verb, dial));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code)
        }
    }
}

fn run(verb: Verb, dial: Dial) -> cmd::Outcome {
    match verb {
        Verb::Train(args) => cmd::train::run(args, dial),
        Verb::Run(args) => cmd::run::run(args),
        Verb::Plan(args) => cmd::plan::run(args, dial),
        Verb::Plot(args) => cmd::plot::run(args),
        Verb::Tune(args) => cmd::tune::run(args),
        Verb::Ops(args) => cmd::ops::run(args),
        Verb::Check(args) => cmd::check::run(args),
        Verb::Bench(args) => cmd::bench::run(args),
        Verb::Doctor(args) => cmd::doctor::run(args),
    }
}
