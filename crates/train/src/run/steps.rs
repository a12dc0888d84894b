//! The loop that keeps the device busy, and takes results in while later steps run.

use super::Run;
use super::books::{self, Books, WARM_UP, row_steps};
use crate::Error;
use crate::config::LossScale;
use crate::metrics::Line;
use crate::observe::{Ending, Observer};
use crate::samples::{self, Moment};
use crate::trainer::Measured;
use device::SLOTS;
use graph::DeviceKind;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most steps in flight before the host takes their results in; it then takes half of them.
const IN_FLIGHT: usize = SLOTS - 2;
/// Milliseconds that the steps in flight should take together: the user hears of them, and can stop them, this late.
const IN_FLIGHT_MS: f64 = 400.0;
/// The first checkpoint by time comes after this share of the time between two.
const FIRST_SAVE: f64 = 0.2;
/// A checkpoint by time comes no sooner than so many times what the last one took to save: a tenth of a run at most.
const SAVE_PAUSE: f64 = 9.0;

impl Run {
    /// Trains until the last step, or until `stop` is set; saves at the end in either case.
    ///
    /// # Errors
    /// When the device or the disk fails, or too many gradients in a row are not finite; it says what is kept.
    pub fn train(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Ending, Error> {
        self.train_on(stop, observer).map_err(|e| self.stopped(e))
    }

    fn train_on(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Ending, Error> {
        let first = self.step();
        self.advance(self.total_steps(), stop, observer)?;
        self.save(observer)?;
        let finished = self.step() >= self.total_steps();
        let summary = self.summary(if finished { "finished" } else { "interrupted" })?;
        if self.step() > first || !self.is_summed_up() {
            self.write_summary(&summary)?;
        }
        let ending = if finished { Ending::Finished } else { Ending::Interrupted };
        Ok(ending(Box::new(summary)))
    }

    /// Trains until `until` steps are done, or until `stop` is set: a stretch of a run, with its evaluations, samples and
    /// checkpoints.
    ///
    /// # Errors
    /// As `train`.
    pub fn advance(&mut self, until: usize, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<(), Error> {
        let done = self.take_steps(until, stop, observer);
        if let Err(Error::NotFinite { .. }) = done {
            let summary = self.summary("failed")?;
            self.write_summary(&summary)?;
        }
        done
    }

    fn take_steps(&mut self, until: usize, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<(), Error> {
        let total = self.total_steps();
        let until = until.min(total);
        self.begin(total);
        let every = self.config.checkpoint.every;
        let mut submitted = self.step();
        while submitted < until && !stop.load(Ordering::Relaxed) {
            let most = self.most_in_flight();
            self.submit(submitted, most == 1)?;
            submitted += 1;
            let by_steps = every > 0 && submitted.is_multiple_of(every);
            let evaluate = self.evaluates_after(submitted, by_steps || submitted == total);
            let due = by_steps || self.is_save_due(evaluate);
            let sample = self.samples_after(submitted, total);
            if due || evaluate || sample || submitted == total {
                self.drain(0, total, observer)?;
            } else if submitted - self.step() >= most {
                // While warming up all are waited for, so that the first steps' own costs don't count as later ones'.
                let keep = if self.step() < WARM_UP { 0 } else { most / 2 };
                self.drain(keep, total, observer)?;
            }
            if evaluate {
                self.evaluate(observer)?;
            }
            if due {
                let begun = Instant::now();
                self.save(observer)?;
                let least = SAVE_PAUSE * begun.elapsed().as_secs_f64();
                self.save_due = self.save_after(self.config.checkpoint.seconds.max(least));
            }
            if sample {
                self.sample(observer)?;
            }
            if due || evaluate || sample {
                self.books.mark = Some(Instant::now());
            }
        }
        self.drain(0, total, observer)
    }

    /// Whether it is time for a checkpoint; half the time is enough where there is an evaluation anyway, so that it has
    /// one.
    fn is_save_due(&self, evaluated: bool) -> bool {
        let early = if evaluated { self.config.checkpoint.seconds / 2.0 } else { 0.0 };
        self.save_due.is_some_and(|due| Instant::now() + Duration::from_secs_f64(early) >= due)
    }

    /// When so many seconds are over; never without checkpoints by time.
    fn save_after(&self, seconds: f64) -> Option<Instant> {
        let pause = Duration::try_from_secs_f64(seconds).ok()?;
        if self.config.checkpoint.seconds > 0.0 { Instant::now().checked_add(pause) } else { None }
    }

    /// Whether the step after which `step` steps are done is followed by an evaluation; before a checkpoint it is, but
    /// not before one by time.
    fn evaluates_after(&self, step: usize, saves: bool) -> bool {
        let every = self.config.eval.every;
        self.evaluator.is_some() && (saves || every > 0 && step.is_multiple_of(every))
    }

    /// Whether samples are made after `step` steps; where some are made, the last step has some too.
    fn samples_after(&self, step: usize, total: usize) -> bool {
        let every = self.config.sample.every;
        every > 0 && (step == total || step.is_multiple_of(every))
    }

    /// Samples after the steps done so far, into their file.
    fn sample(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        let now = Moment {
            step: self.step(),
            trainer: &self.trainer,
            config: &self.config,
            tokenizer: &self.tokenizer,
            device: &self.device,
            tuning: &self.tuning,
        };
        match observer.sample(&now) {
            Ok(made) if made.is_empty() => Ok(()),
            Ok(made) => samples::append(&self.folder.samples_file(), now.step, &made),
            // Text on the way is no reason to lose a run.
            Err(e) => {
                observer.warning(&format!("step {}: no samples: {e}", now.step));
                Ok(())
            }
        }
    }

    /// The loss on the validation data after the steps done so far, into metrics and history.
    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<(), Error> {
        let (step, elapsed) = (self.step(), self.elapsed_sec());
        let Some(evaluator) = &mut self.evaluator else { return Ok(()) };
        let evaluation = evaluator.evaluate(step)?;
        self.evaluations.push(evaluation);
        self.metrics.write_evaluation(&evaluation, elapsed)?;
        observer.evaluation(&evaluation);
        Ok(())
    }

    /// How far the host may run ahead; a processor has done a step when it is submitted.
    fn most_in_flight(&self) -> usize {
        if self.device.spec().kind == DeviceKind::Cpu {
            return 1;
        }
        if self.step() < WARM_UP {
            return (WARM_UP / 2).min(IN_FLIGHT / self.config.grad_accumulation).max(1);
        }
        let steps = self.history.step_ms.last().map_or(4.0, |ms| IN_FLIGHT_MS / ms);
        // Each step takes as many slots of the ring of inputs as it has micro-batches.
        (steps as usize).clamp(2, IN_FLIGHT).min(IN_FLIGHT / self.config.grad_accumulation).max(1)
    }

    fn begin(&mut self, total: usize) {
        let steps = total.saturating_sub(self.step());
        self.history.reserve(steps.min(1 << 24));
        self.save_due = self.save_due.or_else(|| self.save_after(FIRST_SAVE * self.config.checkpoint.seconds));
        self.before_sec = self.elapsed_sec();
        self.books = Books {
            flight: VecDeque::with_capacity(SLOTS),
            measured: Vec::with_capacity(SLOTS),
            mark: Some(Instant::now()),
            start: Some(Instant::now()),
            ..Books::default()
        };
    }

    /// Submits the step after `done` steps. Where the device runs it at once, its time begins here.
    fn submit(&mut self, done: usize, at_once: bool) -> Result<(), Error> {
        let lr = self.rate(done) as f32;
        if at_once {
            self.books.mark = Some(Instant::now());
        }
        let before = self.moment();
        let batch = self.batches.batch(done, &mut self.staging);
        let ticket = self.trainer.submit(&batch, lr)?;
        self.books.flight.push_back(ticket);
        self.count(before, 1);
        Ok(())
    }

    /// Takes in the results of steps in flight until `keep` are left, and enters them in the books.
    fn drain(&mut self, keep: usize, total: usize, observer: &mut dyn Observer) -> Result<(), Error> {
        let count = self.books.flight.len().saturating_sub(keep);
        if count == 0 {
            return Ok(());
        }
        let before = self.moment();
        // One wait for the last of them; the others are then there.
        self.trainer.wait(self.books.flight[count - 1])?;
        self.books.measured.clear();
        for _ in 0..count {
            if let Some(ticket) = self.books.flight.pop_front() {
                let measured = self.trainer.read(ticket)?;
                self.books.measured.push(measured);
            }
        }
        // Waiting for all is no wait between steps: it ends the warm-up, a stretch before a checkpoint, or the run.
        let before = if keep == 0 { books::Moment(self.device.counters(), before.1) } else { before };
        self.count(before, 0);
        let now = Instant::now();
        let took = self.books.mark.map_or(0.0, |mark| now.duration_since(mark).as_secs_f64());
        self.books.mark = Some(now);
        for i in 0..count {
            self.enter(self.books.measured[i], 1e3 * took / count as f64, total, observer)?;
        }
        Ok(())
    }

    /// Whether the device finds the loss scale out.
    fn finds_scale(&self) -> bool {
        self.config.precision.loss_scale == LossScale::DYNAMIC
    }

    /// One step's results into history, metrics and the table.
    fn enter(&mut self, measured: Measured, ms: f64, total: usize, observer: &mut dyn Observer) -> Result<(), Error> {
        self.history.valid.push(self.batches.counts(self.history.losses.len()).valid as u32);
        // One NaN for all that isn't finite, so that it is the same bits after a resume.
        self.history.losses.push(if measured.loss.is_finite() { measured.loss } else { f32::NAN });
        self.history.step_ms.push(ms);
        let step = self.step();
        self.skipped += usize::from(!measured.finite);
        // A loss scale that can still be halved is the nearest reason, unless the loss itself isn't finite.
        let finding = measured.loss_scale > 1.0 && measured.loss.is_finite() && self.finds_scale();
        self.in_a_row = if measured.finite || finding { 0 } else { self.in_a_row + 1 };
        let line = Line {
            step,
            measured,
            elapsed_sec: self.elapsed_sec(),
            lr: self.rate(step - 1),
            applied: step - self.skipped,
            skipped: self.skipped,
            tokens_per_second: self.batches.counts(step - 1).positions as f64 / (ms / 1e3),
        };
        self.metrics.write(&line)?;
        observer.step(step, total, &measured);
        match measured.finite {
            true => self.warn_of_spike(step, measured.loss, observer),
            false => self.not_finite(step, &measured, observer)?,
        }
        let unit = row_steps(total, self.batches.steps_per_epoch());
        if step.is_multiple_of(unit) || step == total {
            observer.row(&self.row(step, unit, total));
        }
        Ok(())
    }
}
