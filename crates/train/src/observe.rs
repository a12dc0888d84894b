//! Who is told what happens in a run, and how a run ends.

use crate::evaluate::Evaluation;
use crate::samples::{Moment, Sample};
use crate::summary::Summary;
use crate::trainer::Measured;
use std::path::Path;

/// How a run ended.
#[derive(Debug)]
pub enum Ending {
    /// All steps are done.
    Finished(Box<Summary>),
    /// It was stopped after a step and saved; it can go on.
    Interrupted(Box<Summary>),
}

/// A line of the table: one pass over the data, or a part of a run that has few.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The number of the pass, from 1 on; of parts where there are few passes.
    pub number: usize,
    /// Of so many.
    pub of: usize,
    /// Steps done.
    pub step: usize,
    /// Mean loss per valid target.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Milliseconds that it took.
    pub ms: f64,
    /// Positions a second.
    pub tokens_per_second: f64,
    /// Targets that count, a second.
    pub valid_tokens_per_second: f64,
    /// The time at the machine's limits, as a share of it.
    pub percent_of_limit: f64,
}

/// Who is told what happens.
pub trait Observer {
    /// A step's results are known.
    fn step(&mut self, _step: usize, _of: usize, _measured: &Measured) {}
    /// A line of the table is complete.
    fn row(&mut self, _row: &Row) {}
    /// The loss on the validation data is known.
    fn evaluation(&mut self, _evaluation: &Evaluation) {}
    /// Something that the user should know.
    fn warning(&mut self, _text: &str) {}
    /// It is time for samples: text that the model makes of each of `now.config.sample.prompts`.
    ///
    /// # Errors
    /// Why it can't be made; the run goes on, and says so.
    fn sample(&mut self, _now: &Moment) -> Result<Vec<Sample>, String> {
        Ok(Vec::new())
    }
    /// A checkpoint is durable.
    fn saved(&mut self, _path: &Path) {}
}

/// Tells nobody.
impl Observer for () {}
