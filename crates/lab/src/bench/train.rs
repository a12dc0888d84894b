//! Training beside a peer: interleaved pairs from the same initial weights, the losses compared before any speed is told.

use crate::peer::torch::{Measured, Settings, Torch};
use crate::stats::Stats;
use device::Device;
use graph::{Limits, Tuning};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};
use train::{Config, Run};

/// Losses further apart than this, relative to the peer's, are of another training, and no speed is told.
const SAME_LOSS: f64 = 1e-3;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our side failed.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The peer failed.
    #[error(transparent)]
    Peer(#[from] crate::peer::torch::Error),
    /// The losses are not the same.
    #[error("the losses are not the peer's: step {step}: {ours} here, {theirs} there; no speed is compared")]
    Losses {
        /// The first step, from 1 on, that is too far off.
        step: usize,
        /// Our loss.
        ours: f64,
        /// The peer's.
        theirs: f64,
    },
    /// The two sides made a different number of steps.
    #[error("{ours} steps here, {theirs} there: not the same training")]
    Steps {
        /// Our steps.
        ours: usize,
        /// The peer's.
        theirs: usize,
    },
    /// A file that can't be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// One pair of runs.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Whether ours ran first; the order alternates.
    pub ours_first: bool,
    /// Our median milliseconds of an epoch.
    pub ours_ms: f64,
    /// The peer's.
    pub peer_ms: f64,
    /// How many times faster ours is.
    pub ratio: f64,
    /// Largest relative difference of a step's loss.
    pub worst_loss: f64,
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was trained.
    pub preset: String,
    /// Passes over the data of each run.
    pub epochs: usize,
    /// Passes that the medians leave out.
    pub warmup: usize,
    /// Steps of each run.
    pub steps: usize,
    /// Where ours ran.
    pub device: String,
    /// The peer's name, version and mode.
    pub peer: String,
    /// Where it ran.
    pub peer_device: String,
    /// The pairs, in order.
    pub pairs: Vec<Pair>,
    /// Our milliseconds of an epoch.
    pub ours_ms: Stats,
    /// The peer's.
    pub peer_ms: Stats,
    /// How many times faster ours is.
    pub ratio: Stats,
    /// Largest relative difference of a step's loss over all pairs.
    pub worst_loss: f64,
    /// An epoch's milliseconds at the machine's measured limits.
    pub limit_ms: f64,
    /// That, as a share of our median.
    pub percent_of_limit: f64,
}

/// Two sides that train the same configuration.
pub struct Bench<'a> {
    /// Where ours runs.
    pub device: &'a Device,
    /// Its measured limits.
    pub limits: Limits,
    /// What is trained.
    pub config: Config,
    /// The other side.
    pub torch: Torch,
    /// How it trains.
    pub settings: Settings,
    /// An empty folder for both sides' files.
    pub folder: PathBuf,
}

struct Ours {
    epoch_ms: f64,
    losses: Vec<f32>,
}

impl Bench<'_> {
    /// Runs `pairs` pairs, `progress` being told of each. The first comparison of losses comes before any pair's speed.
    ///
    /// # Errors
    /// When a side fails, or the losses differ.
    pub fn run(&self, pairs: usize, mut progress: impl FnMut(usize, &Pair)) -> Result<Report, Error> {
        let start = self.run_at("start")?;
        let weights = start.path().join("checkpoints").join("step-0");
        let config = start.path().join("config.toml");
        let epoch = start.batches().steps_per_epoch();
        let limit_ms = 1e3 * epoch as f64 * start.trainer().limit_seconds(&self.limits);
        let steps = start.total_steps();
        drop(start);
        let mut done: Vec<Pair> = Vec::new();
        let mut peer: Option<Measured> = None;
        for i in 0..pairs.max(1) {
            let ours_first = i % 2 == 0;
            let theirs = || self.torch.train(&self.folder, &config, &weights, &self.settings);
            let (ours, theirs) = if ours_first {
                let ours = self.ours(i)?;
                (ours, theirs()?)
            } else {
                let theirs = theirs()?;
                (self.ours(i)?, theirs)
            };
            let worst_loss = compare(&ours.losses, &theirs.losses)?;
            let (ours_ms, peer_ms) = (ours.epoch_ms, theirs.epoch_ms_median);
            let pair = Pair { ours_first, ours_ms, peer_ms, ratio: peer_ms / ours_ms, worst_loss };
            progress(i + 1, &pair);
            done.push(pair);
            peer.get_or_insert(theirs);
        }
        let stats = |of: fn(&Pair) -> f64| {
            Stats::of(&done.iter().map(of).collect::<Vec<_>>()).expect("there is at least one pair")
        };
        let peer = peer.expect("there is at least one pair");
        let ours_ms = stats(|p| p.ours_ms);
        Ok(Report {
            preset: self.config.preset.clone(),
            epochs: self.config.epochs,
            warmup: self.settings.warmup,
            steps,
            device: format!("{}: {}", self.device.spec().kind, self.device.spec().name),
            peer: peer.peer,
            peer_device: peer.device,
            ours_ms,
            peer_ms: stats(|p| p.peer_ms),
            ratio: stats(|p| p.ratio),
            worst_loss: stats(|p| p.worst_loss).max,
            limit_ms,
            percent_of_limit: 100.0 * limit_ms / ours_ms.median,
            pairs: done,
        })
    }

    /// A new run with its initial weights saved.
    fn run_at(&self, name: &str) -> Result<Run, Error> {
        let tuning = Tuning::default();
        let mut run = Run::create(self.device, self.config.clone(), &self.folder.join(name), tuning)?;
        run.save(&mut ())?;
        Ok(run)
    }

    fn ours(&self, pair: usize) -> Result<Ours, Error> {
        let path = self.folder.join(format!("pair-{pair}"));
        let mut run = Run::create(self.device, self.config.clone(), &path, Tuning::default())?;
        run.train(&AtomicBool::new(false), &mut ())?;
        let epoch = run.batches().steps_per_epoch();
        let history = run.history();
        let epochs: Vec<f64> = history.step_ms.chunks_exact(epoch).map(|steps| steps.iter().sum()).collect();
        let timed = if epochs.len() > self.settings.warmup { &epochs[self.settings.warmup..] } else { &epochs[..] };
        let epoch_ms = Stats::of(timed).map_or(f64::NAN, |s| s.median);
        let ours = Ours { epoch_ms, losses: history.losses.clone() };
        drop(run);
        // The next pair writes as much again.
        fs::remove_dir_all(&path).map_err(|source| Error::Io { path, source })?;
        Ok(ours)
    }
}

/// The largest relative difference of a step's loss.
fn compare(ours: &[f32], theirs: &[Option<f64>]) -> Result<f64, Error> {
    if ours.len() != theirs.len() {
        return Err(Error::Steps { ours: ours.len(), theirs: theirs.len() });
    }
    let mut worst = 0.0f64;
    for (i, (&ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let (ours, theirs) = (f64::from(ours), theirs.unwrap_or(f64::NAN));
        let difference = (ours - theirs).abs() / theirs.abs();
        if difference.is_nan() || difference > SAME_LOSS {
            return Err(Error::Losses { step: i + 1, ours, theirs });
        }
        worst = worst.max(difference);
    }
    Ok(worst)
}

/// The columns of bench/*.csv: a line a pair.
const COLUMNS: &str = "unix_seconds,version,preset,epochs,device,peer,peer_device,pair,ours_first,ours_epoch_ms,\
                       peer_epoch_ms,ratio,worst_loss_difference,limit_epoch_ms";

/// Adds a report's pairs to a CSV file, made with its columns if it isn't there.
///
/// # Errors
/// When the file can't be read or written, or has other columns.
pub fn append_csv(path: &Path, report: &Report) -> Result<(), Error> {
    let failed = |source| Error::Io { path: path.into(), source };
    let mut text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => format!("{COLUMNS}\n"),
        Err(e) => return Err(failed(e)),
    };
    if text.lines().next() != Some(COLUMNS) {
        return Err(failed(std::io::Error::other("it has other columns; name another file")));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    for (i, p) in report.pairs.iter().enumerate() {
        text += &format!(
            "{now},{},{},{},{},{},{},{},{},{:.4},{:.4},{:.4},{:.2e},{:.4}\n",
            env!("CARGO_PKG_VERSION"),
            field(&report.preset),
            report.epochs,
            field(&report.device),
            field(&report.peer),
            field(&report.peer_device),
            i + 1,
            p.ours_first,
            p.ours_ms,
            p.peer_ms,
            p.ratio,
            p.worst_loss,
            report.limit_ms
        );
    }
    tensor::file::atomic::write(path, text.as_bytes()).map_err(failed)
}

fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_must_be_the_same_before_speed_counts() {
        let worst = compare(&[2.0, 1.0], &[Some(2.0), Some(1.0001)]).unwrap();
        assert!((worst - 1e-4).abs() < 1e-6, "{worst}");
        assert!(matches!(compare(&[2.0], &[Some(2.1)]), Err(Error::Losses { step: 1, .. })));
        assert!(matches!(compare(&[f32::NAN], &[None]), Err(Error::Losses { .. })));
        assert!(matches!(compare(&[2.0], &[]), Err(Error::Steps { .. })));
    }

    #[test]
    fn names_with_commas_are_one_field() {
        assert_eq!(field("AMD EPYC, 2 threads"), "\"AMD EPYC, 2 threads\"");
        assert_eq!(field("plain"), "plain");
    }
}
