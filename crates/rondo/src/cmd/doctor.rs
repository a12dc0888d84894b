//! `rondo doctor`: what this machine offers, what it does at best, and what to do about what is missing.

use super::{Failure, Outcome, product};
use device::{Choice, Device, Error, Options, probe};
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
/// Free memory below which models of a useful size won't fit.
const LITTLE_MEMORY: u64 = 1 << 30;

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let findings = vec![
        device("cpu", Choice::Cpu),
        memory(),
        device("cuda", Choice::Cuda(0)),
        device("vulkan", Choice::Vulkan(None)),
        disk(),
    ];
    if args.json {
        product(super::json(&findings));
    } else {
        for f in &findings {
            product(format_args!("{:4}  {:7}  {}", f.verdict, f.what, f.text));
            if let Some(advice) = &f.advice {
                product(format_args!("{:15}help: {advice}", ""));
            }
        }
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

fn memory() -> Finding {
    let all = probe::memory_bytes();
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free =
        info.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let Some(free) = free.map(|kib| kib * 1024) else {
        return Finding::new("ok", "memory", gibibytes(all));
    };
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = group.and_then(|text| text.trim().parse().ok()).map_or("none".into(), gibibytes);
    let text = format!("{}, {} free · limit {limit}", gibibytes(all), gibibytes(free.min(all)));
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
    Finding::new("ok", "disk", text)
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
