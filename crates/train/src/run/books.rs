//! What is counted while steps run, and the rows of the table.

use super::Run;
use crate::data::Counts;
use crate::observe::Row;
use crate::trainer::Measured;
use device::count::host_allocations;
use device::{Counters, Ticket};
use std::collections::VecDeque;
use std::time::Instant;

/// Steps that warm up: what is counted and how far the host runs ahead begins after them.
pub(super) const WARM_UP: usize = 8;

/// What the wrappers count from the end of the warm-up to the last step's submission; checkpoints are left out.
#[derive(Default)]
pub(super) struct Counted {
    pub steps: u64,
    pub submissions: u64,
    pub host_waits: u64,
    pub device_allocations: u64,
    pub host_allocations: u64,
}

/// The wrappers' counters at one moment.
pub(super) struct Moment(pub Counters, pub u64);

/// What is counted while steps run.
#[derive(Default)]
pub(super) struct Books {
    pub flight: VecDeque<Ticket>,
    pub measured: Vec<Measured>,
    pub counted: Counted,
    pub mark: Option<Instant>,
    pub start: Option<Instant>,
}

impl Run {
    pub(super) fn moment(&self) -> Moment {
        Moment(self.device.counters(), host_allocations())
    }

    /// Adds what was counted since `before` to the books, once the warm-up is over.
    pub(super) fn count(&mut self, Moment(before, allocations): Moment, steps: u64) {
        if self.history.step_ms.len() < WARM_UP {
            return;
        }
        let (now, counted) = (self.device.counters(), &mut self.books.counted);
        counted.steps += steps;
        counted.submissions += now.submissions - before.submissions;
        counted.host_waits += now.host_waits - before.host_waits;
        counted.device_allocations += now.device_allocations - before.device_allocations;
        counted.host_allocations += host_allocations() - allocations;
    }

    pub(super) fn row(&self, step: usize, unit: usize, total: usize) -> Row {
        let from = (step - 1) / unit * unit;
        let here = self.history.losses.len() - self.history.step_ms.len();
        let timed = from.max(here)..step;
        let seconds = self.history.step_ms[timed.start - here..].iter().sum::<f64>() / 1e3;
        let sum =
            |count: fn(Counts) -> usize| timed.clone().map(|s| count(self.batches.counts(s))).sum::<usize>() as f64;
        Row {
            number: step.div_ceil(unit),
            of: total.div_ceil(unit),
            step,
            loss: self.history.mean_loss(from..step),
            lr: self.rate(step - 1),
            ms: 1e3 * seconds,
            tokens_per_second: sum(|b| b.positions) / seconds,
            valid_tokens_per_second: sum(|b| b.valid) / seconds,
            percent_of_limit: 100.0 * self.limit_seconds() * timed.len() as f64 / seconds,
        }
    }

    pub(super) fn limit_seconds(&self) -> f64 {
        self.trainer.limit_seconds(self.limits.as_ref().unwrap_or(&self.device.spec().limits))
    }

    pub(super) fn elapsed_sec(&self) -> f64 {
        self.before_sec + self.books.start.map_or(0.0, |s| s.elapsed().as_secs_f64())
    }
}

/// Steps of one line of the table: a pass over the data, or a tenth of a run that has fewer than two.
pub(super) fn row_steps(total: usize, epoch: usize) -> usize {
    if total >= 2 * epoch { epoch } else { total.div_ceil(10).max(1) }
}
