//! `rondo bench`: times ops against this machine's limits, and training against peers.

use super::{DeviceFlags, Failure, Outcome, product};
use device::check::CheckError;
use graph::Limits;
use lab::bench::ops::{Timing, time, timed_cases};
use serde_json::json;

/// Time ops against this machine's limits, or training against a peer.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Ops(Ops),
}

/// Time the large cases of ops: microseconds, GB/s, GFLOP/s, share of the measured limit, worst error.
#[derive(clap::Args, Debug)]
struct Ops {
    /// One op; all without it.
    op: Option<String>,
    #[command(flatten)]
    device: DeviceFlags,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    match args.what {
        What::Ops(args) => ops(&args),
    }
}

fn ops(args: &Ops) -> Outcome {
    let ops = lab::ops_named(args.op.as_deref()).map_err(Failure::usage)?;
    let device = args.device.open()?;
    let limits = device.measure_limits()?;
    eprintln!("measured limits: {}", describe(&limits));
    let width = ops.iter().map(|op| op.name.len()).max().unwrap_or(0);
    let cases: Vec<_> = ops.iter().map(|op| timed_cases(op)).collect();
    let case_width = cases.iter().flatten().map(|c| c.name.len()).max().unwrap_or(0);
    if !args.json {
        product(format_args!(
            "{:width$}  {:case_width$}  {:>10}  {:>8}  {:>8}  {:>10}  {:8}  worst error",
            "op", "case", "us", "GB/s", "GFLOP/s", "% of limit", "limit"
        ));
    }
    let (mut rows, mut failed) = (Vec::new(), 0);
    for (op, cases) in ops.iter().zip(cases) {
        let report = lab::check::check(&device, op, false);
        failed += usize::from(!report.failures.is_empty());
        for case in &cases {
            let name = format!("{:width$}  {:case_width$}", op.name, case.name);
            match time(&device, &limits, op, case) {
                Ok(timing) => {
                    let error = format!("{:.1e} {}", report.worst_error, report.verdict());
                    if !args.json {
                        product(format_args!("{name}  {}  {error}", line(&timing)));
                    }
                    rows.push(
                        json!({"timing": timing, "worst_error": report.worst_error, "verdict": report.verdict()}),
                    );
                }
                // A case too large for this machine is no failure of the op.
                Err(e @ CheckError::Plan(graph::PlanError::Memory { .. } | graph::PlanError::Allocation { .. })) => {
                    eprintln!("{name}  left out: {e}");
                }
                Err(e) => return Err(Failure::failed(format!("{} {}: {e}", op.name, case.name))),
            }
        }
    }
    if args.json {
        product(super::json(&json!({"device": device.spec(), "limits": limits, "rows": rows})));
    }
    if failed > 0 {
        return Err(Failure::failed(format!("{failed} ops are wrong; `rondo check` says where")));
    }
    Ok(())
}

fn line(t: &Timing) -> String {
    format!(
        "{:10.2}  {:8.1}  {:8.1}  {:10.1}  {:8}",
        t.microseconds, t.gigabytes_per_second, t.gigaflops, t.percent_of_limit, t.limit
    )
}

/// Limits in words.
pub fn describe(limits: &Limits) -> String {
    format!(
        "{:.1} GB/s copied (read + written), {:.0} GFLOP/s f32, {:.2} us a launch",
        limits.bytes_per_second / 1e9,
        limits.f32_flops / 1e9,
        limits.launch_seconds * 1e6
    )
}
