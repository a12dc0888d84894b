//! The learning rate of every step: a pure function of the step, so that a continued run has the unbroken run's rates.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// How the rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// It stays.
    Constant,
    /// It falls along half a cosine until the last step (Loshchilov & Hutter 2017).
    Cosine,
    /// It falls along a line until the last step.
    Linear,
    /// It stays, and falls along a line in the last steps: warm-up, stable, decay (Hu et al. 2024).
    Wsd,
}

/// The learning rate over a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// How the rate goes on after the warm-up.
    pub kind: Shape,
    /// Steps in which the rate rises to `optimizer.lr` along a line.
    pub warmup_steps: usize,
    /// The last steps, in which the rate of `wsd` falls.
    pub decay_steps: usize,
    /// What is left of the rate after the last step, as a share of `optimizer.lr`.
    pub end_share: f64,
}

impl Schedule {
    /// The rate of the step after `done` of `total` steps, where `peak` is the highest.
    ///
    /// The first step of a warm-up of w steps has 1/w of the peak, its last one all of it. What falls then falls from
    /// the peak in the next step to just above `end_share` in the last.
    pub fn rate(&self, peak: f64, done: usize, total: usize) -> f64 {
        if done < self.warmup_steps {
            return peak * (done + 1) as f64 / self.warmup_steps as f64;
        }
        let begins = match self.kind {
            Shape::Constant => return peak,
            Shape::Cosine | Shape::Linear => self.warmup_steps,
            Shape::Wsd => total.saturating_sub(self.decay_steps).max(self.warmup_steps),
        };
        if done < begins {
            return peak;
        }
        let progress = (done - begins) as f64 / total.saturating_sub(begins).max(1) as f64;
        let left = match self.kind {
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()),
            _ => 1.0 - progress.min(1.0),
        };
        peak * (self.end_share + (1.0 - self.end_share) * left)
    }

    /// Whether rates depend on the number of steps in all.
    pub fn has_end(&self) -> bool {
        self.kind != Shape::Constant
    }

    /// What makes no sense, key first, or nothing.
    pub fn problem(&self) -> Option<String> {
        let decays = self.kind == Shape::Wsd;
        match self {
            s if !(0.0..=1.0).contains(&s.end_share) => {
                Some(format!("end_share is {}; it must be from 0 to 1", s.end_share))
            }
            s if decays && s.decay_steps == 0 => Some("kind is wsd, and decay_steps is 0: it would never fall".into()),
            s if !decays && s.decay_steps > 0 => {
                Some(format!("decay_steps is {}; only kind wsd has such steps", s.decay_steps))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: Shape, warmup_steps: usize, decay_steps: usize, end_share: f64) -> Vec<f64> {
        let schedule = Schedule { kind, warmup_steps, decay_steps, end_share };
        (0..8).map(|done| schedule.rate(2.0, done, 8)).collect()
    }

    #[test]
    fn rates_are_the_formulas() {
        assert_eq!(rates(Shape::Constant, 0, 0, 0.0), [2.0; 8]);
        assert_eq!(rates(Shape::Constant, 4, 0, 0.0), [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(rates(Shape::Linear, 4, 0, 0.0), [0.5, 1.0, 1.5, 2.0, 2.0, 1.5, 1.0, 0.5]);
        assert_eq!(rates(Shape::Linear, 0, 0, 0.5)[4], 1.5);
        assert_eq!(rates(Shape::Wsd, 2, 4, 0.0), [1.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5]);
        assert_eq!(rates(Shape::Wsd, 6, 4, 0.0)[5..], [2.0, 2.0, 1.0]);
        let cosine = rates(Shape::Cosine, 0, 0, 0.2);
        assert!((cosine[4] - 1.2).abs() < 1e-12 && cosine.is_sorted_by(|a, b| a > b), "{cosine:?}");
        let expected = 0.4 + 1.6 * 0.5 * (1.0 + (std::f64::consts::PI * 0.25).cos());
        assert!((cosine[2] - expected).abs() < 1e-12);
    }

    #[test]
    fn no_step_has_a_rate_of_nothing_or_above_the_peak() {
        for kind in [Shape::Constant, Shape::Cosine, Shape::Linear, Shape::Wsd] {
            for warmup_steps in [0, 1, 7, 200] {
                let schedule = Schedule { kind, warmup_steps, decay_steps: 30, end_share: 0.0 };
                assert!((0..100).map(|done| schedule.rate(1.0, done, 100)).all(|r| r > 0.0 && r <= 1.0), "{kind:?}");
            }
        }
    }
}
