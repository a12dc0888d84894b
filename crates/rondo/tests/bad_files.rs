//! The catalogue of bad model files through the binary: exit code 3 with one error, in a second, in little memory.
#![cfg(target_os = "linux")]

#[path = "../../model/tests/bad_files/mod.rs"]
mod bad_files;

use bad_files::{Case, Outcome, cases};
use nix::sys::resource::{UsageWho, getrusage};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Enough of one that the tensors are looked at.
const CONFIG: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 5e5}"#;
/// What a process may take beyond the files and what one takes that only says its version.
const MORE_BYTES: i64 = 64 << 20;

/// The largest memory of any child so far, in bytes.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("it can be asked").max_rss() * 1024
}

struct Place(PathBuf);

impl Place {
    /// What is wrong with what the binary does with these words, if anything; all of `said` must be on stderr.
    fn run(&self, words: &[&str], code: i32, said: &[&str]) -> Option<String> {
        let begun = Instant::now();
        let output =
            Command::new(env!("CARGO_BIN_EXE_rondo")).args(words).current_dir(&self.0).output().expect("it runs");
        let (took, text) = (begun.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
        let errors = text.lines().filter(|line| line.starts_with("error: ")).count();
        let fine = output.status.code() == Some(code)
            && errors == usize::from(code != 0)
            && !text.contains("panicked")
            && said.iter().all(|said| text.contains(said))
            && took < Duration::from_secs(1);
        (!fine).then(|| format!("{words:?} should say {said:?}: {} after {took:?}: {text}", output.status))
    }

    /// The verbs that read model files, each on this case.
    fn wrong(&self, case: &Case) -> Vec<String> {
        let path = case.write(&self.0.join("case"));
        let path = path.to_str().expect("it is text");
        let (code, said) = match &case.outcome {
            Outcome::Refused(said) => (3, said.clone()),
            Outcome::Read(warning) => (0, warning.iter().copied().collect()),
        };
        // A file of a model that nobody knows is no bad file: it is shown.
        let shown = if case.id == "GG33" { 0 } else { code };
        let mut found = vec![self.run(&["show", path, "--verify"], shown, &said)];
        let config = self.0.join("case/config.json");
        if case.id.starts_with("GG") {
            // What can be converted takes memory for that.
            if code != 0 || case.bytes() < 1 << 20 {
                found.push(self.run(&["convert", path, "out"], code, &said));
            }
            // What it is a model of, and whether it is all of it, is nothing to quantizing.
            if case.id < "GG33" && !["GG18", "GG21"].contains(&case.id) && code != 0 {
                found.push(self.run(&["quantize", path, "out", "--to", "q8_0"], code, &said));
            }
            // It has no vocabulary in any case.
            found.push(self.run(&["tokenize", path, "text"], 3, &[]));
        } else if code != 0 && !path.ends_with(".json") {
            std::fs::write(config, CONFIG).expect("it can be written");
            found.push(self.run(&["convert", "case", "out"], code, &said));
        }
        let left: Vec<_> = std::fs::read_dir(&self.0).expect("it is there").flatten().map(|e| e.file_name()).collect();
        found.push((code != 0 && left.len() > 1).then(|| format!("it left {left:?}")));
        let _ = std::fs::remove_dir_all(self.0.join("out"));
        found.into_iter().flatten().map(|what| format!("{} {}: {what}", case.id, case.what)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn every_case_ends_with_code_3() {
    let place = Place(std::env::temp_dir().join(format!("rondo-bad-binary-{}", std::process::id())));
    std::fs::create_dir_all(&place.0).expect("the folder for temporary files can be written");
    assert!(Path::new(env!("CARGO_BIN_EXE_rondo")).is_file());
    assert_eq!(place.run(&["--version"], 0, &[]), None);
    let before = peak();
    // The largest last: the memory that is known is that of the largest process so far.
    let mut all = cases();
    all.sort_by_key(Case::bytes);
    let mut found = Vec::new();
    for case in &all {
        found.extend(place.wrong(case));
        let (took, files) = (peak() - before, case.bytes() as i64);
        if took > files + MORE_BYTES {
            found.push(format!("{} {}: {took} bytes of memory for {files} of files", case.id, case.what));
        }
    }
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), all.len(), found.join("\n"));
    println!("{} cases; {} bytes at most beyond the {before} of one that says its version", all.len(), peak() - before);
}
