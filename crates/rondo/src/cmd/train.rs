//! `rondo train`: trains a model from a preset or a configuration file.

use super::{DeviceFlags, Outcome};

/// Train a model from a preset or a configuration file.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A named workload, such as hlx-full.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print run.json on stdout in place of the table.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let _device = args.device.open()?;
    Err(super::Failure::usage(format!("no preset `{}`; json {}", args.preset.unwrap_or_default(), args.json)))
}
