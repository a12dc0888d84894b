//! `rondo bench`: times ops and block formats against this machine's limits, and training against peers.

use super::{DeviceFlags, Failure, Outcome, product, say};
use ::train::config::{Corpus, Overrides};
use device::Choice;
use device::check::CheckError;
use graph::{DeviceKind, Limits};
use lab::bench::ops::{Timing, time, timed_cases};
use lab::bench::train::{Bench, Error, Report, append_csv};
use lab::peer::torch::{Settings, Torch};
use lab::stats::Stats;
use serde_json::json;
use std::path::PathBuf;
use tensor::{DType, quant};

/// Time ops or block formats against this machine's limits, or training against a peer.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    Ops(Ops),
    Formats(Formats),
    Train(Train),
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

/// Time block formats in memory, to bf16 and from f16: GB/s read and written, share of a copy's rate measured in turns with them.
#[derive(clap::Args, Debug)]
struct Formats {
    /// One element type, such as q4_k; all without it.
    dtype: Option<DType>,
    /// CPU threads [default: the cores that this process may use].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Train a preset beside a peer: interleaved pairs from the same initial weights, losses compared first.
#[derive(clap::Args, Debug)]
struct Train {
    /// A named workload of the hlx corpus: hlx-simple, hlx-full.
    preset: String,
    /// The peer.
    #[arg(long, value_name = "PEER", value_parser = ["torch"], default_value = "torch")]
    against: String,
    /// Pairs of runs; which side goes first alternates.
    #[arg(long, value_name = "N", default_value_t = 7)]
    pairs: usize,
    /// Passes over the data of each run [default: the preset's].
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Passes that the medians leave out.
    #[arg(long, value_name = "N", default_value_t = 5)]
    warmup: usize,
    /// Seed of the initial weights.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The Python that has PyTorch.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: String,
    /// How PyTorch launches its steps; the last two are for CUDA.
    #[arg(long, value_parser = ["eager", "compile", "reduce-overhead", "graph"], default_value = "eager")]
    mode: String,
    #[command(flatten)]
    device: DeviceFlags,
    /// Add a line a pair to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    match args.what {
        What::Ops(args) => ops(&args),
        What::Formats(args) => formats(&args),
        What::Train(args) => train(&args),
    }
}

fn ops(args: &Ops) -> Outcome {
    let ops = lab::ops_named(args.op.as_deref()).map_err(Failure::usage)?;
    let device = args.device.open()?;
    let limits = device::limits::measure(&device, device::limits::default_file().as_deref())?;
    say(format_args!("measured limits: {}", describe(&limits)));
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
                    say(format_args!("{name}  left out: {e}"));
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

fn formats(args: &Formats) -> Outcome {
    let device = DeviceFlags { device: Choice::Cpu, threads: args.threads }.open()?;
    let limits = device::limits::measure(&device, device::limits::default_file().as_deref())?;
    say(format_args!("measured limits: {}", describe(&limits)));
    let all = quant::FORMATS.iter().map(|format| format.dtype);
    let dtypes: Vec<DType> = args.dtype.map_or_else(|| all.collect(), |dtype| vec![dtype]);
    if !args.json {
        let columns = ["from", "to", "ms", "GB/s", "copied", "% of copy", "% of limit", "CV"];
        let [from, to, ms, rate, copied, of_copy, limit, cv] = columns;
        product(format_args!("{from:8}  {to:8}  {ms:>8}  {rate:>7}  {copied:>7}  {of_copy:>9}  {limit:>10}  {cv:>6}"));
    }
    let mut rows = Vec::new();
    for dtype in dtypes {
        for timing in lab::bench::formats::time(dtype, device.spec().units as usize, &limits).map_err(Failure::usage)? {
            if !args.json {
                let lab::bench::formats::Timing { from, to, milliseconds, percent_of_copy: of_copy, .. } = &timing;
                let cv = format!("{:.1}%", 100.0 * milliseconds.cv);
                let (ms, rate, limit) = (milliseconds.median, timing.gigabytes_per_second, timing.percent_of_limit);
                let copied = timing.copy_gigabytes_per_second;
                product(format_args!(
                    "{from:8}  {to:8}  {ms:8.2}  {rate:7.1}  {copied:7.1}  {of_copy:9.1}  {limit:10.1}  {cv:>6}"
                ));
            }
            rows.push(timing);
        }
    }
    if args.json {
        product(super::json(&json!({"device": device.spec(), "limits": limits, "rows": rows})));
    }
    Ok(())
}

fn line(t: &Timing) -> String {
    format!(
        "{:10.2}  {:8.1}  {:8.1}  {:10.1}  {:8}",
        t.microseconds, t.gigabytes_per_second, t.gigaflops, t.percent_of_limit, t.limit
    )
}

fn train(args: &Train) -> Outcome {
    let mut overrides = Overrides::preset(&args.preset).with(&format!("seed={}", args.seed));
    if let Some(epochs) = args.epochs {
        overrides = overrides.with(&format!("epochs={epochs}")).with("steps=0");
    }
    let config = overrides.resolve().map_err(::train::Error::from)?;
    if config.data.corpus != Corpus::Hlx {
        let what = format!("preset {} is not of the hlx corpus, the only one that the peer's side knows", args.preset);
        return Err(Failure::usage(format!("{what}\n  help: use hlx-simple or hlx-full")));
    }
    if let Some(path) = &args.csv {
        super::output::place(path, "--csv ")?;
    }
    let torch = Torch::find(&args.python).map_err(Failure::resources)?;
    let device = args.device.open()?;
    let on_cpu = device.spec().kind == DeviceKind::Cpu;
    let peer_device = match args.device.device {
        Choice::Cuda(index) => format!("cuda:{index}"),
        _ if on_cpu => "cpu".into(),
        // A Vulkan GPU's peer is the GPU that PyTorch sees, if any.
        _ => if torch.cuda { "cuda:0" } else { "cpu" }.into(),
    };
    if peer_device == "cpu" && matches!(args.mode.as_str(), "graph" | "reduce-overhead") {
        return Err(Failure::usage(format!("--mode {} needs a CUDA device", args.mode)));
    }
    let folder = Temporary::new()?;
    let threads = on_cpu.then_some(device.spec().units as usize);
    let (epochs, warmup) = (config.epochs, args.warmup);
    let settings = Settings { device: peer_device, mode: args.mode.clone(), threads, epochs, warmup };
    let limits = device::limits::measure(&device, device::limits::default_file().as_deref())?;
    say(format_args!("measured limits: {}", describe(&limits)));
    let bench = Bench { device: &device, limits, config, torch, settings, folder: folder.0.clone() };
    let report = bench.run(args.pairs, |i, pair| {
        say(format_args!(
            "pair {i} of {}: losses within {:.1e} · {:.2} ms an epoch here, {:.2} there · {:.2}x",
            args.pairs, pair.worst_loss, pair.ours_ms, pair.peer_ms, pair.ratio
        ));
    });
    let report = report.map_err(|e| match e {
        Error::Train(e) => e.into(),
        e => Failure::failed(e),
    })?;
    if let Some(path) = &args.csv {
        append_csv(path, &report).map_err(Failure::failed)?;
    }
    if args.json {
        product(super::json(&report))
    } else {
        table(&report)
    }
    Ok(())
}

fn table(report: &Report) {
    let Report { preset, epochs, steps, worst_loss, .. } = report;
    product(format_args!(
        "{preset}: {epochs} epochs, {steps} steps; losses within {worst_loss:.1e} of the peer's at every step"
    ));
    product(format_args!("{:34}  {:>8}  {:>8}  {:>8}  {:>6}", "ms an epoch", "median", "min", "max", "CV"));
    let line = |name: &str, s: &Stats| {
        let cv = format!("{:.1}%", 100.0 * s.cv);
        product(format_args!("{name:34}  {:8.2}  {:8.2}  {:8.2}  {cv:>6}", s.median, s.min, s.max));
    };
    line(
        &format!("rondo {}, {}", env!("CARGO_PKG_VERSION"), report.device.split(':').next().unwrap_or("")),
        &report.ours_ms,
    );
    line(&format!("{}, {}", report.peer, report.peer_device), &report.peer_ms);
    line("times faster", &report.ratio);
    let Report { limit_ms, percent_of_limit, .. } = report;
    product(format_args!(
        "at this machine's measured limits an epoch takes {limit_ms:.2} ms: rondo is at {percent_of_limit:.1}% of limit"
    ));
}

/// A folder that goes when it is no longer needed.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("rondo-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Failure::failed(format!("{}: {e}", path.display())))?;
        Ok(Temporary(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A temporary folder that stays does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
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
