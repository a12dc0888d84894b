//! Validation: a second recording, forward and loss alone, over the parameters that the training step changes.

use crate::Error;
use crate::config::Config;
use crate::data::{Batches, Staging};
use crate::step;
use crate::trainer::{Trainer, write_layout};
use device::{Device, Recording, Ticket};
use graph::Tuning;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Batches in flight before results are taken in.
const IN_FLIGHT: usize = 64;

/// The loss on data that isn't trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Steps done before it.
    pub step: usize,
    /// Mean loss per valid target; `None` where it isn't finite.
    pub loss: Option<f32>,
}

/// The recording and its data.
pub struct Evaluator {
    recording: Recording,
    batches: Batches,
    staging: Staging,
    tokens: usize,
    targets: usize,
    loss: usize,
    most: usize,
}

impl Evaluator {
    /// Plans and records it over the trainer's parameters, in the trainer's arena where that is large enough.
    ///
    /// # Errors
    /// When it can't run on the device, or its memory doesn't hold it.
    pub fn new(
        device: &Device,
        config: &Config,
        tuning: &Tuning,
        trainer: &Trainer,
        batches: Batches,
    ) -> Result<Evaluator, Error> {
        let plan = step::plan_of(step::trace_evaluation(config)?, config, device.spec(), tuning)?;
        let mut buffers = trainer.buffers().to_vec();
        device.allocate_for(&plan, &mut buffers)?;
        let lent: Vec<_> = buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let mut recording = device.record(plan, &lent)?;
        write_layout(&mut recording, config)?;
        let input = |name: &str| recording.input(name).unwrap_or_else(|| panic!("an evaluation reads `{name}`"));
        let (tokens, targets) = (input("tokens"), input("targets"));
        let loss = recording.output("loss").expect("an evaluation gives `loss`");
        let all = batches.steps_per_epoch();
        let most = if config.eval.batches > 0 { config.eval.batches.min(all) } else { all };
        Ok(Evaluator { recording, batches, staging: Staging::default(), tokens, targets, loss, most })
    }

    /// The data.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// Mean loss per valid target with the parameters as they are.
    pub fn evaluate(&mut self, step: usize) -> Result<Evaluation, Error> {
        let (mut sum, mut count) = (0.0, 0.0);
        let mut flight: VecDeque<(Ticket, usize)> = VecDeque::with_capacity(IN_FLIGHT);
        for index in 0..self.most {
            if flight.len() == IN_FLIGHT {
                self.add(flight.pop_front(), &mut sum, &mut count)?;
            }
            let batch = self.batches.batch(index, &mut self.staging);
            self.recording.write(self.tokens, bytemuck::cast_slice(batch.tokens))?;
            self.recording.write(self.targets, bytemuck::cast_slice(batch.targets))?;
            flight.push_back((self.recording.replay()?, batch.valid));
        }
        while !flight.is_empty() {
            self.add(flight.pop_front(), &mut sum, &mut count)?;
        }
        let loss = (sum / count) as f32;
        Ok(Evaluation { step, loss: loss.is_finite().then_some(loss) })
    }

    fn add(&mut self, done: Option<(Ticket, usize)>, sum: &mut f64, count: &mut f64) -> Result<(), Error> {
        if let Some((ticket, valid)) = done {
            let mut loss = 0f32;
            self.recording.read(self.loss, ticket, bytemuck::bytes_of_mut(&mut loss))?;
            *sum += f64::from(loss) * valid as f64;
            *count += valid as f64;
        }
        Ok(())
    }
}

/// The evaluation with the lowest loss, the earliest of equals, of those whose step is one of `steps`.
pub fn best(evaluations: &[Evaluation], steps: &[usize]) -> Option<Evaluation> {
    let there = evaluations.iter().filter(|e| steps.contains(&e.step) && e.loss.is_some());
    there.min_by(|a, b| a.loss.unwrap_or(f32::NAN).total_cmp(&b.loss.unwrap_or(f32::NAN))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_lowest_that_is_there() {
        let of = |step, loss| Evaluation { step, loss };
        let all = [of(1, Some(3.0)), of(2, Some(1.0)), of(3, None), of(4, Some(1.0)), of(5, Some(2.0))];
        assert_eq!(best(&all, &[1, 2, 3, 4, 5]), Some(all[1]));
        assert_eq!(best(&all, &[3, 4, 5, 6]), Some(all[3]));
        assert_eq!(best(&all, &[3]), None);
    }
}
