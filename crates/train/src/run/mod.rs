//! A training run: what it holds; how it begins, steps, counts and saves are its modules.

mod begin;
mod books;
mod faults;
mod save;
mod steps;

use crate::config::Config;
use crate::data::{Batches, Staging};
use crate::evaluate::{Evaluation, Evaluator};
use crate::folder::Folder;
use crate::metrics::Metrics;
pub use crate::observe::{Ending, Observer, Row};
use crate::summary::History;
use crate::trainer::Trainer;
use books::Books;
use device::Device;
use graph::{Limits, Tuning};
use model::text::Tokenizer;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A run that can be trained on.
pub struct Run {
    folder: Folder,
    config: Config,
    batches: Batches,
    notes: Vec<String>,
    tokenizer: Tokenizer,
    staging: Staging,
    trainer: Trainer,
    evaluator: Option<Evaluator>,
    evaluations: Vec<Evaluation>,
    data_sha256: String,
    device: Device,
    tuning: Tuning,
    metrics: Metrics,
    history: History,
    skipped: usize,
    in_a_row: usize,
    quiet_until: usize,
    before_sec: f64,
    last_checkpoint: Option<(usize, PathBuf)>,
    /// When the next checkpoint by time is due, once steps were taken.
    save_due: Option<Instant>,
    books: Books,
    limits: Option<Limits>,
}

/// How long a run is, and how often it evaluates and makes samples on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Steps in all.
    pub steps: usize,
    /// The last steps, in which the rate of `wsd` falls; 0 with other schedules.
    pub decay_steps: usize,
    /// Steps between evaluations.
    pub eval_every: usize,
    /// Steps between samples.
    pub sample_every: usize,
}

impl Run {
    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Measured limits, which shares are stated of; without them the device's estimates are taken.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration as resolved.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// What of the data isn't learned, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What made tokens of the data.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The validation data, if any is kept apart.
    pub fn validation(&self) -> Option<&Batches> {
        self.evaluator.as_ref().map(Evaluator::batches)
    }

    /// Evaluations so far, in order.
    pub fn evaluations(&self) -> &[Evaluation] {
        &self.evaluations
    }

    /// The recorded step.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// The recorded step, to look into or to change.
    pub fn trainer_mut(&mut self) -> &mut Trainer {
        &mut self.trainer
    }

    /// The lowerings that were chosen by a table.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Losses and times so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.history.losses.len()
    }

    /// Steps in all.
    pub fn total_steps(&self) -> usize {
        total_steps(&self.config, &self.batches)
    }

    /// Whether all is done, run.json too: a process may have been ended just before it.
    pub fn is_complete(&self) -> bool {
        self.step() >= self.total_steps() && self.is_summed_up()
    }

    /// Learning rate of the step after `done` steps.
    pub fn rate(&self, done: usize) -> f64 {
        self.config.schedule.rate(self.config.optimizer.lr, done, self.total_steps())
    }
}

/// Steps of a whole run.
pub fn total_steps(config: &Config, batches: &Batches) -> usize {
    if config.steps > 0 { config.steps } else { config.epochs.saturating_mul(batches.steps_per_epoch()) }
}
