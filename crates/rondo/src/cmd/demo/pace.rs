//! How many steps fit into the time: from what the machine should do at first, then from what steps really took.

use super::dial::decay_steps;
use ::train::run::Length;
use std::time::Instant;

/// Lines of the table, about.
const LINES: usize = 9;
/// Lines of the table between samples.
const SAMPLE_EVERY: usize = 3;
/// Steps after which the first are timed, roughly and then well; the very first ones still warm up.
const FIRST: [usize; 2] = [2, 10];
/// Passes over the text after which a small model begins to learn it by heart.
const PASSES: usize = 12;
/// Least steps of a run.
const LEAST: usize = 20;
/// How much longer a run may take than was asked for before a word is said about it.
const TOLERANCE: f64 = 1.25;

/// The clock of a run whose time is given.
#[derive(Clone, Debug)]
pub struct Pace {
    deadline: Instant,
    most: usize,
    mark: (Instant, usize),
    /// Seconds of a step, once some were timed.
    seconds: Option<f64>,
}

impl Pace {
    /// A run that should end at `deadline`, over a text of `steps_per_epoch` steps, beginning now.
    pub fn new(deadline: Instant, steps_per_epoch: usize) -> Pace {
        let most = (PASSES * steps_per_epoch).max(LEAST);
        Pace { deadline, most, mark: (Instant::now(), 0), seconds: None }
    }

    /// The length with steps of so many seconds, after `done` of them.
    pub fn length(&self, done: usize, seconds: f64, now: Instant) -> Length {
        let left = self.deadline.saturating_duration_since(now).as_secs_f64();
        let fit = done + (left / seconds.max(1e-6)) as usize;
        // The steps so far must come before the rate falls.
        let steps = fit.min(self.most).max(LEAST).max((5 * done).div_ceil(2));
        // An evaluation that has gone by would be one more in a run that has this length from the start.
        sized(steps, nice(steps.div_ceil(LINES).max(done + 1)))
    }

    /// The same length with the steps that fit at the speed since the last call; how often it evaluates stays once it
    /// has.
    pub fn again(&mut self, done: usize, before: Length, now: Instant) -> Length {
        let (then, first) = std::mem::replace(&mut self.mark, (now, done));
        let seconds = now.duration_since(then).as_secs_f64() / (done - first).max(1) as f64;
        self.seconds = Some(seconds);
        let length = self.length(done, seconds, now);
        if done < before.eval_every { length } else { sized(length.steps, before.eval_every) }
    }

    /// Whether steps were timed: before that a length is a guess.
    pub fn is_measured(&self) -> bool {
        self.seconds.is_some()
    }

    /// Seconds that the rest of so long a run takes, where that is more than there is: its steps are the least.
    pub fn excess(&self, done: usize, length: Length, now: Instant) -> Option<f64> {
        let needed = self.seconds? * length.steps.saturating_sub(done) as f64;
        let left = self.deadline.saturating_duration_since(now).as_secs_f64();
        (needed > TOLERANCE * left + 1.0).then_some(needed)
    }

    /// The step until which to train before the length is set again, if it may still be: its rates so far must be those
    /// of any length near it.
    pub fn next(&self, done: usize, length: Length) -> Option<usize> {
        let first = FIRST.into_iter().map(|first| first.min((length.steps / 5).max(1))).find(|first| *first > done);
        let next = first.unwrap_or((done / length.eval_every + 1) * length.eval_every);
        (5 * next <= 2 * length.steps).then_some(next)
    }

    /// Whether the text is too small for the time, so that so many steps are all that help.
    pub fn is_capped(&self, steps: usize) -> bool {
        steps >= self.most
    }
}

/// A length of so many steps.
fn sized(steps: usize, eval_every: usize) -> Length {
    Length { steps, decay_steps: decay_steps(steps), eval_every, sample_every: SAMPLE_EVERY * eval_every }
}

/// The number from 1, 2, 2.5, 5, 10 and so on that is not below `n`.
fn nice(n: usize) -> usize {
    let decade = 10usize.pow(n.max(1).ilog10());
    [10, 20, 25, 50, 100].into_iter().map(|m| m * decade / 10).find(|m| *m >= n).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_of_steps_are_round() {
        assert_eq!([1, 3, 9, 11, 23, 26, 60, 100, 190].map(nice), [1, 5, 10, 20, 25, 50, 100, 100, 200]);
    }

    #[test]
    fn a_run_ends_in_time_at_any_speed() {
        let start = Instant::now();
        for (ms, change) in [(1, 1.0), (25, 1.0), (25, 0.5), (25, 2.0), (400, 1.0), (1000, 1.0)] {
            let mut pace = Pace::new(start + Duration::from_secs(45), 100_000);
            pace.mark = (start, 0);
            let (mut now, mut done, mut step) = (start, 0, f64::from(ms) / 1e3);
            let mut length = pace.length(0, 0.03, now);
            let mut set = vec![];
            while let Some(next) = pace.next(done, length) {
                now += Duration::from_secs_f64((next - done) as f64 * step);
                done = next;
                let rates_so_far = length.steps - length.decay_steps;
                length = pace.again(done, length, now);
                assert!(done <= rates_so_far.min(length.steps - length.decay_steps), "{ms} ms: {done} {length:?}");
                set.push((done, length.steps));
                step = f64::from(ms) / 1e3 * if done >= FIRST[1] { change } else { 1.0 };
            }
            now += Duration::from_secs_f64((length.steps - done) as f64 * step);
            let took = now.duration_since(start).as_secs_f64();
            let least = LEAST as f64 * step + 1.0;
            assert!(
                took < least.max(50.0) && (took > 35.0 || pace.is_capped(length.steps)),
                "{ms} ms: {took} s, {set:?}"
            );
        }
    }

    #[test]
    fn the_least_steps_may_take_longer_than_there_is() {
        let start = Instant::now();
        let mut pace = Pace::new(start + Duration::from_secs(45), 100_000);
        pace.mark = (start, 0);
        let guess = pace.length(0, 0.1, start);
        assert!(!pace.is_measured() && pace.next(0, guess) == Some(2) && pace.excess(0, guess, start).is_none());
        let now = start + Duration::from_secs(24);
        let length = pace.again(2, guess, now);
        assert!(pace.is_measured() && length.steps == LEAST && length.eval_every == 5, "{length:?}");
        assert_eq!(pace.excess(2, length, now), Some(216.0));
        // Nothing was evaluated yet, so that it may be evaluated more often than was thought, and from here on.
        let length = pace.length(10, 12.0, now);
        assert!(length.eval_every > 10);
    }

    #[test]
    fn a_small_text_ends_the_run_early() {
        let start = Instant::now();
        let pace = Pace::new(start + Duration::from_secs(45), 7);
        let length = pace.length(0, 0.001, start);
        assert!(length.steps == 7 * PASSES && pace.is_capped(length.steps));
    }
}
