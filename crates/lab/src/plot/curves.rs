//! A run as curves: what its metrics.jsonl holds of each step, and the smoothing of it.
#![forbid(unsafe_code)]

use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a run has no picture.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such run.
    #[error("{path}: there is no run in it (no metrics.jsonl)\n  help: name a run's folder, such as runs/hlx-full-0", path = .0.display())]
    NoRun(PathBuf),
    /// No step is in its file.
    #[error("{path}: no step is in it yet\n  help: plot it once `rondo train` has done some", path = .0.display())]
    Empty(PathBuf),
    /// A line that isn't the last can't be read.
    #[error("{path} line {line}: {what}", path = .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1 on.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A file can't be read or written.
    #[error("{path}: {what}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        what: std::io::Error,
    },
}

/// Values by step.
pub type Points = Vec<(f64, f64)>;

/// What a run's picture is drawn from.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Its name in the legend: the folder's.
    pub name: String,
    /// What it is, in a few words under the title.
    pub note: String,
    /// Positions of one step, where they are known.
    pub tokens_per_step: Option<f64>,
    /// Loss per valid target by step.
    pub loss: Points,
    /// The same on the validation data.
    pub validation: Points,
    /// Learning rate by step.
    pub lr: Points,
    /// Norm of the gradient by step, before clipping.
    pub grad_norm: Points,
    /// Steps whose loss or gradient wasn't finite.
    pub skipped: Vec<f64>,
    /// What a table of token pairs comes to on the validation data, where that was found out.
    pub bigram: Option<f64>,
}

/// A line of metrics.jsonl; numbers that aren't finite are `null` in it.
#[derive(Deserialize)]
struct Line {
    step: f64,
    loss: Option<f64>,
    grad_norm: Option<f64>,
    lr: Option<f64>,
    validation_loss: Option<f64>,
}

impl Curves {
    /// The curves of the run in a folder; a last line that was cut short is left out.
    ///
    /// # Errors
    /// When there is no run, no step in it, or a line that is no JSON.
    pub fn read(run: &Path) -> Result<Curves, Error> {
        let path = run.join("metrics.jsonl");
        let text = fs::read_to_string(&path).map_err(|what| match what.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Error::NoRun(run.into()),
            _ => Error::Io { path: path.clone(), what },
        })?;
        let full = fs::canonicalize(run).unwrap_or_else(|_| run.into());
        let name = full.file_name().unwrap_or(run.as_os_str()).to_string_lossy().into_owned();
        let mut curves = Curves { name, ..Curves::default() };
        for (i, line) in text.split_inclusive('\n').enumerate() {
            match serde_json::from_str::<Line>(line) {
                Ok(line) => curves.add(&line),
                Err(_) if !line.ends_with('\n') => {}
                Err(e) => return Err(Error::Line { path, line: i + 1, what: e.to_string() }),
            }
        }
        if curves.loss.is_empty() && curves.skipped.is_empty() {
            return Err(Error::Empty(run.into()));
        }
        curves.describe(run);
        Ok(curves)
    }

    fn add(&mut self, line: &Line) {
        if let Some(loss) = line.validation_loss {
            self.validation.push((line.step, loss));
        }
        let Some(lr) = line.lr else { return };
        self.lr.push((line.step, lr));
        self.loss.extend(line.loss.map(|loss| (line.step, loss)));
        self.grad_norm.extend(line.grad_norm.map(|norm| (line.step, norm)));
        if line.loss.is_none() || line.grad_norm.is_none() {
            self.skipped.push(line.step);
        }
    }

    /// What run.json and config.toml say of it; a run that goes on may have no run.json yet.
    fn describe(&mut self, run: &Path) {
        let summary = fs::read_to_string(run.join("run.json")).ok();
        let summary: Value = summary.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let overrides = train::config::Overrides { file: Some(run.join("config.toml")), ..Default::default() };
        let tokens = overrides
            .resolve()
            .ok()
            .map(|config| config.batch_size * config.grad_accumulation * config.model.max_context);
        self.tokens_per_step = tokens.map(|tokens| tokens as f64);
        let bigram = fs::read(run.join("bigram.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        self.bigram = bigram.and_then(|b: Value| b["loss"].as_f64()).filter(|loss| loss.is_finite() && *loss > 0.0);
        let mut words = Vec::new();
        let parameters = summary["num_parameters"].as_f64();
        words.extend(parameters.map(|n| format!("{} parameters", super::axis::count(n))));
        words.extend(tokens.map(|tokens| format!("{tokens} tokens a step")));
        let device = summary["device_name"].as_str().filter(|name| !name.is_empty());
        words.extend(device.map(str::to_string));
        self.note = words.join(" · ");
    }

    /// The step after the last one.
    pub fn steps(&self) -> f64 {
        let ends = [&self.loss, &self.validation, &self.lr, &self.grad_norm];
        ends.iter().filter_map(|points| points.last()).map(|p| p.0).fold(1.0, f64::max)
    }
}

/// A curve smoothed over about `width` steps: the mean of all points, weighted by exp(-distance / width).
pub fn smoothed(points: &[(f64, f64)], width: f64) -> Points {
    if width <= 1.0 {
        return points.to_vec();
    }
    let before = weighted(points.iter(), width);
    let mut after = weighted(points.iter().rev(), width);
    after.reverse();
    // Each point is in both sums.
    let sums = before.iter().zip(&after).zip(points);
    sums.map(|((a, b), (x, y))| (*x, (a.0 + b.0 - y) / (a.1 + b.1 - 1.0))).collect()
}

/// For each point the weighted sum of the values up to it, and of the weights.
fn weighted<'a>(points: impl Iterator<Item = &'a (f64, f64)>, width: f64) -> Vec<(f64, f64)> {
    let (mut sum, mut weight, mut last) = (0.0, 0.0, None::<f64>);
    let add = |&(x, y): &(f64, f64)| {
        let keep = last.map_or(0.0, |last| (-(x - last).abs() / width).exp());
        last = Some(x);
        (sum, weight) = (sum * keep + y, weight * keep + 1.0);
        (sum, weight)
    };
    points.map(add).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, metrics: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rondo-curves-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("metrics.jsonl"), metrics).unwrap();
        path
    }

    #[test]
    fn lines_become_points() {
        let path = folder(
            "points",
            "{\"step\":1,\"loss\":4.5,\"grad_norm\":1.5,\"elapsed_sec\":0.1,\"lr\":0.001,\"applied\":1,\"skipped\":0}\n\
             {\"step\":2,\"loss\":null,\"grad_norm\":null,\"elapsed_sec\":0.2,\"lr\":0.002}\n\
             {\"step\":2,\"validation_loss\":4.25,\"elapsed_sec\":0.3}\n{\"step\":3,\"lo",
        );
        fs::write(path.join("bigram.json"), "{\"loss\":3.5,\"lambda\":0.9,\"added\":1.0}").unwrap();
        let curves = Curves::read(&path).unwrap();
        assert_eq!(curves.bigram, Some(3.5));
        assert_eq!((curves.loss, curves.grad_norm), (vec![(1.0, 4.5)], vec![(1.0, 1.5)]));
        assert_eq!((curves.lr, curves.validation), (vec![(1.0, 0.001), (2.0, 0.002)], vec![(2.0, 4.25)]));
        assert_eq!(curves.skipped, [2.0]);
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_is_no_run_says_so() {
        let path = folder("none", "");
        assert!(matches!(Curves::read(&path), Err(Error::Empty(_))));
        fs::write(path.join("metrics.jsonl"), "{\"step\":1,\"lr\":0.1,\"loss\":2}\nwhat\n").unwrap();
        assert!(matches!(Curves::read(&path), Err(Error::Line { line: 2, .. })));
        assert!(matches!(Curves::read(&path.join("absent")), Err(Error::NoRun(_))));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn smoothing_keeps_constants_and_straight_lines() {
        let flat: Points = (1..20).map(|i| (f64::from(i), 3.0)).collect();
        assert!(smoothed(&flat, 5.0).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let line: Points = (1..100).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        assert!((smoothed(&line, 5.0)[49].1 - 100.0).abs() < 1e-3, "it doesn't lag");
        let steps = [(1.0, 4.0), (2.0, 2.0)];
        let half = (-0.5f64).exp();
        assert!((smoothed(&steps, 2.0)[0].1 - (4.0 + 2.0 * half) / (1.0 + half)).abs() < 1e-12);
        assert_eq!(smoothed(&steps, 0.0), steps);
    }
}
