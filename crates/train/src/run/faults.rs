//! What goes wrong in numbers: gradients that are not finite, and losses that leap.

use super::Run;
use crate::Error;
use crate::observe::Observer;
use crate::trainer::Measured;

/// Gradients in a row that may be not finite before the run stops.
const MOST_SKIPPED: usize = 3;
/// Losses that a new one is compared with.
const WINDOW: usize = 128;
/// Standard deviations above their mean that make a leap.
const SIGMAS: f64 = 6.0;
/// The least standard deviation that is assumed, as a share of the mean: a run that has converged hardly varies.
const LEAST_SHARE: f64 = 0.01;

impl Run {
    /// Says which step was skipped and why, and stops the run when there were too many in a row.
    pub(super) fn not_finite(
        &mut self,
        step: usize,
        measured: &Measured,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let in_a_row = self.in_a_row;
        let what = if measured.loss.is_finite() { "gradient is" } else { "loss and gradient are" };
        if in_a_row == 0 {
            let (scale, half) = (measured.loss_scale, measured.loss_scale / 2.0);
            observer.warning(&format!(
                "step {step}: gradient is not finite at a loss scale of {scale}: update skipped, the scale is now {half}"
            ));
            return Ok(());
        }
        let place = self.trainer.entry_at(measured.fault).map(|e| format!(" ({})", e.name)).unwrap_or_default();
        observer.warning(&format!(
            "step {step}: {what} not finite{place}: update skipped ({in_a_row} of {MOST_SKIPPED} allowed in a row)"
        ));
        if in_a_row < MOST_SKIPPED {
            return Ok(());
        }
        self.metrics.flush()?;
        let good = match &self.last_checkpoint {
            Some((step, path)) => format!(
                "the last good checkpoint is {} (step {step})\n  \
                 help: try a smaller optimizer.lr, or set optimizer.max_norm, in a new run",
                path.display()
            ),
            None => "there is no checkpoint yet\n  help: try a smaller optimizer.lr, or set optimizer.max_norm".into(),
        };
        Err(Error::NotFinite { step, in_a_row, good })
    }

    /// Says when a loss lies far above the last ones; once in as many steps as it is compared with.
    pub(super) fn warn_of_spike(&mut self, step: usize, loss: f32, observer: &mut dyn Observer) {
        if step < self.quiet_until {
            return;
        }
        let losses = &self.history.losses[..step - 1];
        if let Some(mean) = leaps_from(&losses[losses.len().saturating_sub(WINDOW)..], loss) {
            self.quiet_until = step + WINDOW;
            observer.warning(&format!(
                "step {step}: loss {loss:.4} is far above the last {WINDOW} steps' mean of {mean:.4}"
            ));
        }
    }
}

/// The mean of the losses before, if a whole window of them is there and the new one lies far above it.
fn leaps_from(before: &[f32], loss: f32) -> Option<f64> {
    let finite = || before.iter().filter(|l| l.is_finite()).map(|l| f64::from(*l));
    let count = finite().count() as f64;
    if before.len() < WINDOW || count < 2.0 {
        return None;
    }
    let mean = finite().sum::<f64>() / count;
    let variance = finite().map(|l| (l - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let deviation = variance.sqrt().max(LEAST_SHARE * mean.abs());
    (f64::from(loss) > mean + SIGMAS * deviation).then_some(mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leap_is_six_deviations_above_a_whole_window() {
        let window: Vec<f32> = (0..WINDOW).map(|i| if i % 2 == 0 { 1.9 } else { 2.1 }).collect();
        assert_eq!(leaps_from(&window, 2.59), None);
        assert!((leaps_from(&window, 2.62).unwrap() - 2.0).abs() < 1e-6);
        assert_eq!(leaps_from(&window[1..], 100.0), None);
        assert_eq!(leaps_from(&window, f32::NAN), None);
        // Steps that were skipped don't count.
        let mut skipped = window.clone();
        skipped[5] = f32::NAN;
        assert!(leaps_from(&skipped, 2.7).is_some());
        // Losses that hardly vary: a tenth of a thousandth more is no leap.
        assert_eq!(leaps_from(&[0.5; WINDOW], 0.52), None);
        assert!(leaps_from(&[0.5; WINDOW], 0.54).is_some());
    }
}
