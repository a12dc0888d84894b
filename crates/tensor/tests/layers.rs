//! The crates see each other only as the architecture says: `cargo tree` of each names just the crates below it.

use std::collections::BTreeSet;
use std::process::Command;

/// Crate, and the crates of this workspace that it may see.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("tensor", &[]),
    ("graph", &["tensor"]),
    ("ops", &["tensor", "graph"]),
    ("device", &["tensor", "graph"]),
    ("model", &["tensor", "graph", "ops"]),
    ("engine", &["tensor", "graph", "ops", "device", "model"]),
    ("train", &["tensor", "graph", "ops", "device", "model"]),
    ("lab", &["tensor", "graph", "ops", "device", "model", "train"]),
];

#[test]
fn dependencies_point_up_only() {
    for (name, allowed) in MAY_SEE {
        let out = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "-p", &format!("rondo-{name}")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout);
        let seen: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.split(' ').next()?.strip_prefix("rondo-"))
            .filter(|seen| seen != name)
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(seen.is_subset(&allowed), "`{name}` sees {seen:?}; it may see {allowed:?}");
    }
}

/// What reads files and configurations that others have made.
const PARSES: &[&str] = &[
    "/tensor/src/file/",
    "/tensor/src/quant/",
    "/model/src/config.rs",
    "/model/src/family/",
    "/model/src/convert/",
    "/model/src/text/",
    "/lab/src/fuzz/",
];

/// Whether a file has nothing but modules of which some may have unsafe code: a lint forbidden there is forbidden below.
fn is_folder(path: &std::path::Path, source: &str) -> bool {
    path.ends_with("mod.rs")
        && ["pub mod simd;", "pub mod mmap;", "pub mod common;", "mod common;"]
            .iter()
            .any(|line| source.lines().any(|l| l == *line))
}

/// Whether a module that a file is part of forbids it.
fn above_forbids(path: &std::path::Path) -> bool {
    let modules = path.ancestors().skip(1).take_while(|folder| !folder.ends_with("src")).map(|f| f.join("mod.rs"));
    modules.filter(|above| above != path).any(|above| {
        let source = std::fs::read_to_string(above).unwrap_or_default();
        source.lines().any(|line| line == "#![forbid(unsafe_code)]")
    })
}

#[test]
fn unsafe_code_is_where_the_architecture_says() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut open = vec![crates];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder is there").flatten() {
            let path = entry.path();
            let text = path.to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if text.ends_with(".rs") && !text.contains("/tests/") {
                let cpu = text.contains("/ops/src/") && (text.ends_with("/cpu.rs") || text.contains("/cpu/"));
                let bytes = text.ends_with("/tensor/src/file/mmap.rs")
                    || (text.contains("/tensor/src/quant/") && text.ends_with("/simd.rs"));
                let allowed = text.contains("/device/src/") || cpu || bytes;
                let source = std::fs::read_to_string(&path).expect("sources are text");
                let has = source
                    .lines()
                    .any(|l| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"));
                assert!(allowed || !has, "{text} holds unsafe code");
                let parses = PARSES.iter().any(|part| text.contains(part))
                    && !allowed
                    && !path.ends_with("tests.rs")
                    && !is_folder(&path, &source);
                let forbids = source.lines().any(|line| line == "#![forbid(unsafe_code)]");
                assert!(!parses || forbids || above_forbids(&path), "{text} parses files, and must forbid unsafe code");
            }
        }
    }
}
