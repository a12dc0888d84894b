//! `rondo doctor`: what this machine offers, what it does at best, and what to do about what is missing.

use super::{Failure, Outcome, product, say};
use device::{Choice, Device, Error, Options};
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Say which devices, features and limits this machine has.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One line of the examination.
#[derive(Debug, Serialize)]
struct Finding {
    /// `ok`, `warn`, `--` where something optional is absent, or `fail`.
    verdict: &'static str,
    /// What was looked at.
    what: &'static str,
    /// What was found.
    text: String,
    /// What to do.
    advice: Option<String>,
    /// The open device, as plans may know it, with limits as measured.
    spec: Option<graph::Spec>,
}

impl Finding {
    fn new(verdict: &'static str, what: &'static str, text: String) -> Self {
        Finding { verdict, what, text, advice: None, spec: None }
    }
}

/// Free space below which checkpoints are at risk.
const LITTLE_DISK: u64 = 2 << 30;
/// Seconds of an fsync above which checkpoints are slow.
const SLOW_SYNC: f64 = 0.1;
/// Open files below which a program with many of them may run out.
const FEW_FILES: u64 = 1024;
/// Free memory below which models of a useful size won't fit.
const LITTLE_MEMORY: u64 = 1 << 30;

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let examinations: [fn() -> Finding; 7] = [
        memory,
        disk,
        open_files,
        cores,
        || device("cpu", Choice::Cpu),
        || device("cuda", Choice::Cuda(0)),
        || device("vulkan", Choice::Vulkan(None)),
    ];
    say(format_args!("rondo {} · measuring the devices takes a few seconds", env!("CARGO_PKG_VERSION")));
    let mut findings = Vec::new();
    for examine in examinations {
        let f = examine();
        if !args.json {
            product(format_args!("{:4}  {:7}  {}", f.verdict, f.what, f.text));
            if let Some(advice) = &f.advice {
                product(format_args!("{:15}help: {advice}", ""));
            }
        }
        findings.push(f);
    }
    if args.json {
        product(super::json(&findings));
    } else if findings.iter().all(|f| f.verdict != "fail") {
        say("Try it: rondo demo");
    }
    match findings.iter().find(|f| f.verdict == "fail") {
        Some(f) => Err(Failure::failed(format!("{}: {}", f.what, f.text))),
        None => Ok(()),
    }
}

fn device(what: &'static str, choice: Choice) -> Finding {
    let device = match Device::open(choice, &Options::default()) {
        Ok(device) => device,
        Err(Error::Unavailable { what: missing, advice, .. }) => {
            return Finding { advice: Some(advice), ..Finding::new("--", what, missing) };
        }
        Err(e) => return Finding::new("fail", what, e.to_string()),
    };
    let mut spec = device.spec().clone();
    let measured = match device::limits::measure(&device, device::limits::default_file().as_deref()) {
        Ok(limits) => limits,
        Err(e) => return Finding::new("fail", what, format!("{}: {e}", spec.name)),
    };
    spec.limits = measured;
    let mut text = format!("{} · {}", spec.name, spec.architecture);
    if choice != Choice::Cpu {
        let memory = gibibytes(spec.memory_bytes);
        text += &format!(" · {} units · subgroups of {} · {memory}", spec.units, spec.subgroup_size);
    }
    if choice == Choice::Cpu {
        text += &instructions();
    }
    if !spec.features.is_empty() {
        text += &format!(" · {}", spec.features.join(" "));
    }
    text += &format!(" · {}", super::bench::describe(&measured));
    let advice = match choice {
        Choice::Cuda(_) if !spec.has("cublaslt") => Some(
            "cuBLASLt isn't there, so Rondo's own matmul runs; it comes with the CUDA toolkit or with PyTorch".into(),
        ),
        Choice::Cpu if spec.architecture == "portable" => {
            Some("this processor has no AVX2; the portable kernels are several times slower".into())
        }
        _ => None,
    };
    Finding { advice, spec: Some(spec), ..Finding::new("ok", what, text) }
}

/// Instruction sets that matter here, as far as the system names them.
fn instructions() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let known = [
        ("avx2", "AVX2"),
        ("fma", "FMA"),
        ("f16c", "F16C"),
        ("avx512f", "AVX-512"),
        ("avx512_vnni", "VNNI"),
        ("avx512_bf16", "BF16"),
        ("amx_tile", "AMX"),
    ];
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let names: Vec<_> = known.iter().filter(|(flag, _)| has(flag)).map(|(_, name)| *name).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(" ")) }
}

fn memory() -> Finding {
    let device::room::HostMemory { machine, total, free } = device::room::host();
    let limit = if total < machine { gibibytes(total) } else { "none".into() };
    let text = format!("{}, {} free · limit {limit}", gibibytes(machine), gibibytes(free));
    if free < LITTLE_MEMORY {
        let advice =
            Some("close other programs, or train with a smaller batch_size and a larger grad_accumulation".into());
        return Finding { advice, ..Finding::new("warn", "memory", text) };
    }
    Finding::new("ok", "memory", text)
}

fn disk() -> Finding {
    let folder = if Path::new("runs").is_dir() { Path::new("runs") } else { Path::new(".") };
    let seconds = match fsync_seconds(folder) {
        Ok(seconds) => seconds,
        Err(e) => {
            let advice = Some("run where files may be written, or name a folder with --out".into());
            return Finding { advice, ..Finding::new("warn", "disk", format!("{}: {e}", folder.display())) };
        }
    };
    let sync = format!("fsync {:.1} ms", seconds * 1e3);
    let Some(free) = free_bytes(folder) else { return Finding::new("ok", "disk", sync) };
    let text = format!("{} free in {} · {sync}", gibibytes(free), folder.display());
    if free < LITTLE_DISK {
        let advice = Some("checkpoints may not fit; free some space, or name another folder with --out".into());
        return Finding { advice, ..Finding::new("warn", "disk", text) };
    }
    if seconds > SLOW_SYNC {
        let advice =
            Some("each checkpoint waits for the disk; a larger checkpoint.every, or a local disk, helps".into());
        return Finding { advice, ..Finding::new("warn", "disk", text) };
    }
    Finding::new("ok", "disk", text)
}

/// How many files may be open: each kept-open data file, and later each connection, takes one.
fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let Some(limit) = line.and_then(|line| line.split_whitespace().next()) else {
        return Finding::new("--", "files", "the limit of open files is not known on this system".into());
    };
    let text = format!("{limit} may be open at once");
    if limit.parse().is_ok_and(|n: u64| n < FEW_FILES) {
        let advice = Some(format!("raise it for many data files or connections: ulimit -n {}", 16 * FEW_FILES));
        return Finding { advice, ..Finding::new("warn", "files", text) };
    }
    Finding::new("ok", "files", text)
}

/// Threads that training takes, and what else wants the cores: threads spin between the levels of a step.
fn cores() -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let there = info.lines().filter(|line| line.starts_with("processor")).count().max(threads);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let allowed =
        if there > threads { format!(" of {there} (the rest are not this process's to use)") } else { String::new() };
    let text = format!("{threads} threads on {threads} cores{allowed} · load {load:.1}");
    if load > 0.5 * threads as f64 {
        let few = (threads / 2).max(1);
        let advice =
            Some(format!("other programs take part of the cores, so speeds will be lower; try --threads {few}"));
        return Finding { advice, ..Finding::new("warn", "threads", text) };
    }
    Finding::new("ok", "threads", text)
}

/// Seconds until a small file is durable.
fn fsync_seconds(folder: &Path) -> std::io::Result<f64> {
    let path = folder.join(format!(".rondo-doctor-{}.tmp", std::process::id()));
    let mut file = std::fs::File::create(&path)?;
    let start = Instant::now();
    let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(&path)?;
    written.map(|()| seconds)
}

/// Free bytes of the disk, as the system's `df` tells them.
fn free_bytes(folder: &Path) -> Option<u64> {
    let out = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse::<u64>().ok()?.checked_mul(1024)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}
