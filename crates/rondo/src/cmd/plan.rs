//! `rondo plan`: shows a preset's training step as it would run on a machine.

use super::Outcome;

/// Show a preset's training step as planned for a machine.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A named workload, such as hlx-full.
    preset: String,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    Err(super::Failure::usage(format!("no preset `{}`", args.preset)))
}
