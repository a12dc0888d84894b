//! What a run comes to: the history of its steps, and run.json.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::data::{Batches, Counts};
use graph::Tuning;
use serde::{Deserialize, Serialize};
use tensor::hash::Hasher;

/// Least steps over which a loss is stated.
const LEAST_WINDOW: usize = 4;

/// Every step's loss, and how long the steps of this process took.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Losses of all steps from the first on.
    pub losses: Vec<f32>,
    /// How many targets counted, of the same steps.
    pub valid: Vec<u32>,
    /// Milliseconds of the last steps.
    pub step_ms: Vec<f64>,
}

impl History {
    /// Makes room, so that adding steps allocates nothing.
    pub fn reserve(&mut self, steps: usize) {
        self.losses.reserve(steps);
        self.valid.reserve(steps);
        self.step_ms.reserve(steps);
    }

    /// Mean loss per valid target of the steps `range`; steps without a finite loss are left out.
    pub fn mean_loss(&self, range: std::ops::Range<usize>) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for step in range {
            let valid = f64::from(self.valid[step]);
            if self.losses[step].is_finite() {
                sum += f64::from(self.losses[step]) * valid;
                count += valid;
            }
        }
        sum / count
    }

    /// Steps over which a loss is stated: a pass over the data, or a tenth of the steps where that is less; four at
    /// least, since one step's loss says little.
    fn window(&self, batches: &Batches) -> usize {
        batches.steps_per_epoch().min(self.losses.len().div_ceil(10).max(LEAST_WINDOW))
    }

    /// Mean loss of the last pass over the data, or of the last tenth of the steps.
    pub fn final_loss(&self, batches: &Batches) -> f64 {
        let end = self.losses.len();
        self.mean_loss(end.saturating_sub(self.window(batches))..end)
    }

    /// The best mean loss of so many steps, from the first on and of the last ones.
    pub fn best_loss(&self, batches: &Batches) -> f64 {
        let window = self.window(batches);
        let all = (0..self.losses.len() / window).map(|i| self.mean_loss(i * window..(i + 1) * window));
        all.fold(f64::NAN, f64::min).min(self.final_loss(batches))
    }

    /// What is counted of a step of this process, on average, in its median time: a second's worth.
    pub fn per_second(&self, batches: &Batches, count: fn(Counts) -> usize) -> Option<f64> {
        let offset = self.losses.len() - self.step_ms.len();
        let all: usize = (offset..self.losses.len()).map(|step| count(batches.counts(step))).sum();
        self.step_ms_median().map(|ms| 1e3 * all as f64 / self.step_ms.len() as f64 / ms)
    }

    /// SHA-256 over the bits of all losses, little-endian, in order.
    pub fn losses_sha256(&self) -> String {
        let mut hasher = Hasher::default();
        self.losses.iter().for_each(|l| hasher.update(&l.to_bits().to_le_bytes()));
        hasher.finish()
    }

    /// Median milliseconds of a step of this process.
    pub fn step_ms_median(&self) -> Option<f64> {
        median(self.step_ms.clone())
    }

    /// Median milliseconds of a whole pass over the data, of those of this process.
    pub fn epoch_ms_median(&self, batches: &Batches) -> Option<f64> {
        let epoch = batches.steps_per_epoch();
        let first = (self.losses.len() - self.step_ms.len()).next_multiple_of(epoch);
        let offset = self.losses.len() - self.step_ms.len();
        let sums = (first / epoch..self.losses.len() / epoch).map(|e| {
            let start = e * epoch - offset;
            self.step_ms[start..start + epoch].iter().sum()
        });
        median(sums.collect())
    }
}

/// The middle of the sorted values; the mean of the two middle ones where their number is even.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// run.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `finished`, `interrupted` where it can go on, or `failed` where numbers were not finite too often.
    pub status: String,
    /// The preset that it began from.
    pub preset: String,
    /// The version of Rondo.
    pub version: String,
    /// `release` or `debug`.
    pub build: String,
    /// The kind of device.
    pub device: String,
    /// The device's name and architecture.
    pub device_name: String,
    /// The device's units: threads of a processor.
    pub device_units: u32,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Numbers in all parameters.
    pub num_parameters: usize,
    /// Steps done.
    pub steps: usize,
    /// Steps whose gradient wasn't finite; they changed nothing.
    pub skipped_steps: usize,
    /// Mean loss per valid target of the last epoch, or of the last tenth of the steps where that is less.
    pub final_loss: Option<f64>,
    /// The best of as many steps.
    pub best_loss: Option<f64>,
    /// Mean loss per valid target on the validation data, of the last evaluation.
    pub validation_loss: Option<f32>,
    /// The lowest of all evaluations.
    pub best_validation_loss: Option<f32>,
    /// The checkpoint with the lowest validation loss of those that are there, in the run's folder.
    pub best_checkpoint: Option<String>,
    /// Median milliseconds of a step.
    pub step_ms_median: Option<f64>,
    /// Median milliseconds of an epoch.
    pub epoch_ms_median: Option<f64>,
    /// Positions a second.
    pub tokens_per_second: Option<f64>,
    /// Targets that count, a second.
    pub valid_tokens_per_second: Option<f64>,
    /// Bytes of the arena.
    pub peak_arena_bytes: u64,
    /// Bytes of the arena, the regions and the step's own buffers.
    pub peak_bytes: u64,
    /// The least time that the step can take at the measured limits (`Plan::limit_seconds`), as a share of its median time.
    pub percent_of_limit: Option<f64>,
    /// SHA-256 over the parameters in the order of their names: name, sizes as u64, bytes.
    pub parameters_sha256: String,
    /// SHA-256 over the bits of all step losses, little-endian.
    pub losses_sha256: String,
    /// Submissions, graph launches or flat-list runs a step.
    pub submissions_per_step: Option<f64>,
    /// Host allocations a step, of the steps after the first four.
    pub allocations_per_step: Option<f64>,
    /// Device allocations a step.
    pub device_allocations_per_step: Option<f64>,
    /// Waits of the host for the device, a step.
    pub host_waits_per_step: Option<f64>,
    /// Seconds of training, saving included.
    pub wall_seconds: f64,
    /// Chosen lowerings.
    pub tuning: Tuning,
    /// The configuration as resolved.
    pub config: Config,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
