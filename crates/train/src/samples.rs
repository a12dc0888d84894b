//! samples.txt: text that the model has made on the way, each with its step and prompt.
#![forbid(unsafe_code)]

use crate::Error;
use crate::config::Config;
use crate::trainer::Trainer;
use device::Device;
use graph::Tuning;
use model::text::Tokenizer;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use tensor::file::atomic;

/// What begins the line above each sample, with the step after it.
const HEAD: &str = "--- step ";

/// A run between two steps, for whoever makes text of it. All submitted steps are done.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Steps done.
    pub step: usize,
    /// The parameters, to lend.
    pub trainer: &'a Trainer,
    /// What the run was made of, `sample` among it.
    pub config: &'a Config,
    /// Text to tokens and back.
    pub tokenizer: &'a Tokenizer,
    /// Where it trains.
    pub device: &'a Device,
    /// Its chosen lowerings.
    pub tuning: &'a Tuning,
}

/// Text that the model has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What it was given to begin with.
    pub prompt: String,
    /// What it made of that, without the prompt.
    pub text: String,
}

/// Adds the samples of a step; the file is written whole, or stays as it was.
///
/// # Errors
/// When it can't be read or written.
pub fn append(path: &Path, step: usize, samples: &[Sample]) -> Result<(), Error> {
    let mut text = read(path)?;
    for Sample { prompt, text: made } in samples {
        // A string takes whatever is written to it.
        let _ = writeln!(text, "{HEAD}{step}, {prompt:?}\n{prompt}{made}\n");
    }
    atomic::write(path, text.as_bytes()).map_err(Error::io(path))
}

/// Removes samples of later steps than `step`.
///
/// # Errors
/// When the file is there and can't be read or written.
pub fn keep(path: &Path, step: usize) -> Result<(), Error> {
    let text = read(path)?;
    let of = |line: &str| line.strip_prefix(HEAD)?.split(',').next()?.parse::<usize>().ok();
    let mut kept = String::new();
    let mut is_kept = true;
    for line in text.split_inclusive('\n') {
        is_kept = of(line).map_or(is_kept, |s| s <= step);
        if is_kept {
            kept.push_str(line);
        }
    }
    if kept == text { Ok(()) } else { atomic::write(path, kept.as_bytes()).map_err(Error::io(path)) }
}

fn read(path: &Path) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Error::io(path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_later_steps_are_removed() {
        let path = std::env::temp_dir().join(format!("rondo-samples-{}.txt", std::process::id()));
        keep(&path, 3).unwrap();
        assert!(!path.exists());
        let of = |prompt: &str, text: &str| Sample { prompt: prompt.into(), text: text.into() };
        append(&path, 5, &[of("the ", "fox\nran"), of("a \"b\"\n", "c")]).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(first, "--- step 5, \"the \"\nthe fox\nran\n\n--- step 5, \"a \\\"b\\\"\\n\"\na \"b\"\nc\n\n");
        append(&path, 10, &[of("the ", "end")]).unwrap();
        keep(&path, 10).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("--- step 10, \"the \"\nthe end\n\n"));
        keep(&path, 9).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        fs::remove_file(path).unwrap();
    }
}
