//! Limits measured once and kept on disk, so that every run can state its share of what the machine does at best.

use crate::{Device, Error};
use graph::{Limits, Spec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tensor::file::atomic;

/// The file in which limits are kept when no other is given: `~/.cache/rondo/limits.json`.
pub fn default_file() -> Option<PathBuf> {
    Some(std::env::home_dir()?.join(".cache/rondo/limits.json"))
}

/// The limits of `device` as kept in `file`, or measured now (in about a second) and kept there. A file that can't be
/// read or written is no error: the limits are then measured again next time.
///
/// # Errors
/// When the device fails while it is measured.
pub fn kept(device: &Device, file: Option<&Path>) -> Result<Limits, Error> {
    let key = key(device.spec());
    match file.map(read).unwrap_or_default().get(&key) {
        Some(limits) => Ok(*limits),
        None => measure(device, file),
    }
}

/// The limits of `device` as kept in `file`, if they were ever measured; nothing is measured or written.
pub fn known(device: &Device, file: Option<&Path>) -> Option<Limits> {
    file.map(read).unwrap_or_default().get(&key(device.spec())).copied()
}

/// Measures the limits of `device`, and keeps the best figures ever measured: a busy machine measures too little.
///
/// # Errors
/// When the device fails while it is measured.
pub fn measure(device: &Device, file: Option<&Path>) -> Result<Limits, Error> {
    let (key, now) = (key(device.spec()), device.measure_limits()?);
    let Some(file) = file else { return Ok(now) };
    let mut all = read(file);
    let best = match all.get(&key) {
        Some(before) => Limits {
            bytes_per_second: now.bytes_per_second.max(before.bytes_per_second),
            f32_flops: now.f32_flops.max(before.f32_flops),
            launch_seconds: now.launch_seconds.min(before.launch_seconds),
        },
        None => now,
    };
    all.insert(key, best);
    if let (Some(folder), Ok(text)) = (file.parent(), serde_json::to_string_pretty(&all)) {
        // Without a cache the limits are measured again.
        let _ = std::fs::create_dir_all(folder).and_then(|()| atomic::write(file, text.as_bytes()));
    }
    Ok(best)
}

fn key(spec: &Spec) -> String {
    // The units of a processor are its threads.
    format!("{} {} {} {} {}", env!("CARGO_PKG_VERSION"), spec.kind, spec.name, spec.architecture, spec.units)
}

fn read(file: &Path) -> BTreeMap<String, Limits> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Choice, Options};

    #[test]
    fn limits_are_kept_and_only_grow() {
        let options = Options { threads: Some(1), ..Options::default() };
        let device = Device::open(Choice::Cpu, &options).expect("the processor is there");
        let file = std::env::temp_dir().join(format!("rondo-limits-{}/limits.json", std::process::id()));
        let more = Spec { units: device.spec().units + 1, ..device.spec().clone() };
        assert_ne!(key(&more), key(device.spec()), "with more threads it does more");
        let first = kept(&device, Some(&file)).expect("measured");
        assert_eq!(kept(&device, Some(&file)).expect("read"), first);
        let again = measure(&device, Some(&file)).expect("measured");
        assert!(again.bytes_per_second >= first.bytes_per_second && again.f32_flops >= first.f32_flops);
        std::fs::write(&file, "not json").expect("written");
        assert!(kept(&device, Some(&file)).expect("measured").f32_flops > 0.0);
        std::fs::remove_dir_all(file.parent().expect("a folder")).expect("removed");
    }
}
