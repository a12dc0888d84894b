//! How much of this machine's memory there is and is free: what the system says, and what every control group allows.

use std::fs;
use std::path::{Path, PathBuf};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// What the machine has.
    pub machine: u64,
    /// What this process may use of it at the most: all, or a control group's limit if that is less.
    pub total: u64,
    /// What can be had now without swapping: what the system has available, or what a control group's limit leaves.
    pub free: u64,
}

/// What a device of `total` bytes must keep for what no plan counts: data sets, drivers, other programs' changes.
pub fn reserve(total: u64) -> u64 {
    (total / 50).clamp(64 << 20, 512 << 20)
}

/// This machine's memory as it is now.
pub fn host() -> HostMemory {
    read(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
}

fn read(proc: &Path, groups: &Path) -> HostMemory {
    let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let info = text("meminfo");
    let total = field(&info, "MemTotal:").map_or(8 << 30, |kib| kib * 1024);
    let free = field(&info, "MemAvailable:").map_or(total, |kib| kib * 1024);
    let mut memory = HostMemory { machine: total, total, free: free.min(total) };
    for folder in folders(groups, &text("self/cgroup")) {
        if let Some((limit, used)) = limited(&folder) {
            memory.total = memory.total.min(limit);
            memory.free = memory.free.min(limit.saturating_sub(used));
        }
    }
    memory
}

/// The folders of the control groups that this process is in, each with all above it: a limit there counts as well.
fn folders(groups: &Path, own: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let base = match controllers {
            "" => groups.to_path_buf(),
            some if some.split(',').any(|c| c == "memory") => groups.join("memory"),
            _ => continue,
        };
        // In a container the path may be that of the host, of which only the root is to be seen.
        all.extend(Path::new(path.trim_start_matches('/')).ancestors().map(|above| base.join(above)));
    }
    all
}

/// A control group's limit, and what is used of it that can't be given back at once: not pages of files.
fn limited(folder: &Path) -> Option<(u64, u64)> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let (limit, used, files) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current")?, "inactive_file"),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes")?, "total_inactive_file"),
    };
    let files = text("memory.stat").and_then(|stat| field(&stat, files)).unwrap_or(0);
    Some((limit, used.saturating_sub(files)))
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A machine of 16 GiB with 10 available, and the given files of control groups.
    fn machine(name: &str, own: &str, files: &[(&str, &str)]) -> (u64, u64) {
        let root = std::env::temp_dir().join(format!("rondo-room-{name}-{}", std::process::id()));
        let info = format!("MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable:  {} kB\n", 16 << 20, 10 << 20);
        for (file, text) in [("proc/meminfo", info.as_str()), ("proc/self/cgroup", own)].iter().chain(files) {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        let memory = read(&root.join("proc"), &root.join("groups"));
        fs::remove_dir_all(root).expect("removed");
        assert_eq!(memory.machine, 16 * GIB);
        (memory.total, memory.free)
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        assert_eq!(machine("plain", "0::/\n", &[]), (16 * GIB, 10 * GIB));
        let (four, three, two) = ((4 * GIB).to_string(), (3 * GIB).to_string(), (2 * GIB).to_string());
        // Version 2: the limit stands above the group, and a gibibyte of files can be given back.
        let stat = format!("anon 5\ninactive_file {GIB}\n");
        let unified = [
            ("groups/a/memory.max", four.as_str()),
            ("groups/a/memory.current", three.as_str()),
            ("groups/a/memory.stat", stat.as_str()),
            ("groups/a/b/memory.max", "max\n"),
            ("groups/a/b/memory.current", "17"),
        ];
        assert_eq!(machine("two", "0::/a/b\n", &unified), (4 * GIB, 2 * GIB));
        // Version 1, in a container that shows the host's path: only the root is there.
        let own = "4:memory,cpu:/docker/17\n3:cpuset:/docker/17\n0::/\n";
        let old =
            [("groups/memory/memory.limit_in_bytes", two.as_str()), ("groups/memory/memory.usage_in_bytes", "1000\n")];
        assert_eq!(machine("one", own, &old), (2 * GIB, 2 * GIB - 1000));
        let none = [
            ("groups/memory/memory.limit_in_bytes", "9223372036854771712"),
            ("groups/memory/memory.usage_in_bytes", "1000"),
        ];
        assert_eq!(machine("none", own, &none), (16 * GIB, 10 * GIB));
        // More in use than there may be.
        let over = [("groups/memory.max", two.as_str()), ("groups/memory.current", three.as_str())];
        assert_eq!(machine("over", "0::/\n", &over), (2 * GIB, 0));
    }

    #[test]
    fn a_machine_without_such_files_is_taken_to_have_some() {
        let nowhere = Path::new("/nowhere");
        assert_eq!(read(nowhere, nowhere), HostMemory { machine: 8 * GIB, total: 8 * GIB, free: 8 * GIB });
        let HostMemory { machine, total, free } = host();
        assert!(free <= total && total <= machine && total > 0);
    }

    #[test]
    fn the_reserve_is_a_share_within_bounds() {
        assert_eq!([GIB, 10 * GIB, 1000 * GIB].map(|total| reserve(total) >> 20), [64, 204, 512]);
    }
}
