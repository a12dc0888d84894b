//! PyTorch: finds it, and has it train a preset from our initial weights by `peers/hlx.py`.
#![forbid(unsafe_code)]

use serde::Deserialize;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, as it lies in the tree.
const PROGRAM: &str = include_str!("../../../../peers/hlx.py");
/// What asks a Python for its PyTorch.
const PROBE: &str = "import tomllib, torch; print(torch.__version__, torch.cuda.is_available())";

/// Why there is nothing to compare with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Python that was named can't be started.
    #[error("{python} can't be started: {what}\n  help: name a Python that has PyTorch: --python PATH")]
    NoPython {
        /// What was started.
        python: String,
        /// What the system said.
        what: String,
    },
    /// A Python without PyTorch, or older than 3.11.
    #[error(
        "{python} has no PyTorch, or is older than 3.11: {what}\n  help: `{python} -m pip install torch`, or name another with --python PATH"
    )]
    NoTorch {
        /// The Python.
        python: String,
        /// Its last words.
        what: String,
    },
    /// PyTorch has no such device.
    #[error(
        "PyTorch {version} of {python} sees no CUDA device\n  help: install a PyTorch built for CUDA, or compare on --device cpu"
    )]
    NoCuda {
        /// The Python.
        python: String,
        /// The version of PyTorch.
        version: String,
    },
    /// The program failed.
    #[error("PyTorch failed: {0}")]
    Failed(String),
    /// A file that can't be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A Python with PyTorch.
#[derive(Clone, Debug)]
pub struct Torch {
    python: String,
    /// The version of PyTorch.
    pub version: String,
    /// Whether it sees a CUDA device.
    pub cuda: bool,
}

/// How the peer trains.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `cpu`, `cuda`, `cuda:N`.
    pub device: String,
    /// `eager`, `compile`, `reduce-overhead` or `graph`.
    pub mode: String,
    /// CPU threads.
    pub threads: Option<usize>,
    /// Passes over the data.
    pub epochs: usize,
    /// Passes that the median leaves out.
    pub warmup: usize,
}

/// What the peer measured.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    /// Its name, version and mode.
    pub peer: String,
    /// Where it ran.
    pub device: String,
    /// Median milliseconds of an epoch, without the warm-up.
    pub epoch_ms_median: f64,
    /// The loss of each step; `None` where it isn't finite.
    pub losses: Vec<Option<f64>>,
}

impl Torch {
    /// Asks a Python for its PyTorch.
    ///
    /// # Errors
    /// When it can't be started or has none.
    pub fn find(python: &str) -> Result<Torch, Error> {
        let out = start(python, ["-c", PROBE])?;
        let text = String::from_utf8_lossy(&out.stdout);
        match (out.status.success(), text.trim().rsplit_once(' ')) {
            (true, Some((version, cuda))) => {
                Ok(Torch { python: python.into(), version: version.into(), cuda: cuda == "True" })
            }
            _ => Err(Error::NoTorch { python: python.into(), what: last_line(&out.stderr) }),
        }
    }

    /// Trains the configuration `config` from the checkpoint folder `weights`; `folder` takes the program's text.
    ///
    /// # Errors
    /// When it fails, or a device is asked for that it doesn't see.
    pub fn train(&self, folder: &Path, config: &Path, weights: &Path, settings: &Settings) -> Result<Measured, Error> {
        if settings.device.starts_with("cuda") && !self.cuda {
            return Err(Error::NoCuda { python: self.python.clone(), version: self.version.clone() });
        }
        let program = folder.join("hlx.py");
        std::fs::write(&program, PROGRAM).map_err(|source| Error::Io { path: program.clone(), source })?;
        let mut arguments: Vec<String> = vec![program.display().to_string()];
        let flags = [
            ("--config", config.display().to_string()),
            ("--weights", weights.display().to_string()),
            ("--device", settings.device.clone()),
            ("--mode", settings.mode.clone()),
            ("--epochs", settings.epochs.to_string()),
            ("--warmup", settings.warmup.to_string()),
        ];
        arguments.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]));
        arguments.extend(settings.threads.iter().flat_map(|n| ["--threads".to_string(), n.to_string()]));
        let out = start(&self.python, &arguments)?;
        if !out.status.success() {
            return Err(Error::Failed(last_line(&out.stderr)));
        }
        // What a library says on stdout comes before the program's own last line.
        serde_json::from_str(&last_line(&out.stdout)).map_err(|e| Error::Failed(format!("its report: {e}")))
    }
}

fn start<S: AsRef<OsStr>>(python: &str, arguments: impl IntoIterator<Item = S>) -> Result<std::process::Output, Error> {
    let out = Command::new(python).args(arguments).output();
    out.map_err(|e| Error::NoPython { python: python.into(), what: e.to_string() })
}

fn last_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let error = Torch::find("/nowhere/python").unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/python can't be started") && error.contains("--python PATH"), "{error}");
        // `false` starts and fails, as a Python without PyTorch does.
        let error = Torch::find("false").unwrap_err().to_string();
        assert!(error.contains("has no PyTorch") && error.contains("pip install torch"), "{error}");
    }
}
