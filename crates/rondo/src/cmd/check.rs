//! `rondo check`: every case of every op on a device, compared with its reference.

use super::{DeviceFlags, Failure, Outcome, product};

/// Compare ops with their references on a device: every case, every lowering.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// One op; all without it.
    op: Option<String>,
    #[command(flatten)]
    device: DeviceFlags,
    /// Also the cases of models' own shapes: minutes, and gigabytes of memory.
    #[arg(long)]
    large: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let ops = lab::ops_named(args.op.as_deref()).map_err(Failure::usage)?;
    let device = args.device.open()?;
    let width = ops.iter().map(|op| op.name.len()).max().unwrap_or(0);
    if !args.json {
        product(format_args!(
            "{:width$}  {:>4}  {:>11}  {:>9}  {:7}  worst case",
            "op", "runs", "worst error", "tolerance", "verdict"
        ));
    }
    let mut reports = Vec::new();
    for op in ops {
        let report = lab::check::check(&device, op, args.large);
        if !args.json {
            product(format_args!(
                "{:width$}  {:4}  {:11.1e}  {:9.1e}  {:7}  {}",
                report.op,
                report.runs,
                report.worst_error,
                report.tolerance,
                report.verdict(),
                report.worst_case
            ));
            report.failures.iter().for_each(|line| product(format_args!("  {line}")));
        }
        reports.push(report);
    }
    if args.json {
        product(super::json(&reports));
    }
    let wrong = reports.iter().filter(|r| !r.failures.is_empty()).count();
    let messages = device.counters().validation_messages;
    match (wrong, messages) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::failed(format!("the validation layers have {messages} messages"))),
        _ => Err(Failure::failed(format!("{wrong} of {} ops are wrong on {}", reports.len(), device.spec().name))),
    }
}
