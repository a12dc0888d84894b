//! Gathers this project's source and documents, the text that `rondo demo` learns, as a line of JSON each.
//! Only this crate reads it, so that a changed source builds nothing else again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What is looked through, in the workspace; in a packaged crate there is its own source alone.
const PLACES: &[&str] =
    &["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "bench", "crates", "docs", "peers", "presets"];
/// What counts as source or document.
const EXTENSIONS: &[&str] = &["rs", "cu", "cuh", "comp", "glsl", "py", "toml", "md", "txt"];

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let root = here.join("../..");
    let is_workspace = root.join("crates/rondo/build.rs").is_file();
    let (root, places) = if is_workspace { (root, PLACES) } else { (here, &["src", "build.rs"][..]) };
    let mut files = Vec::new();
    for place in places {
        let path = root.join(place);
        // A folder stands for all that is in it, so that a new file is seen as well.
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, place, &mut files);
    }
    files.sort();
    let mut lines = String::new();
    for (name, path) in files {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // The same text whatever line ends a checkout has.
        let _ = writeln!(lines, "{{\"path\": {}, \"text\": {}}}", quoted(&name), quoted(&text.replace("\r\n", "\n")));
    }
    fs::write(out.join("corpus.jsonl"), lines).expect("cargo made the folder");
}

/// Files of the known kinds under `path`, with their names from the root on; hidden ones and what is built are passed over.
fn collect(path: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) {
    if path.is_file() {
        if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known)) {
            files.push((name.into(), path.into()));
        }
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with('.') && file != "target" && file != "runs" && file != "__pycache__" {
            collect(&entry.path(), &format!("{name}/{file}"), files);
        }
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json.push_str("\\n"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json + "\""
}
