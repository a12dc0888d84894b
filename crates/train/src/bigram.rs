//! What a table of token pairs comes to on held-out text: the least that a trained model should beat.
#![forbid(unsafe_code)]

use crate::data::Batches;
use std::ops::Range;

/// Shares of the pairs' part that are tried, less one.
const LAMBDAS: usize = 100;
/// Numbers added to every token's count that are tried.
const ADDED: [f64; 5] = [0.1, 1.0, 10.0, 100.0, 1000.0];
/// What is tried is tried on every tenth stretch of so many rows of the training text.
const STRETCH: usize = 8;

/// p(b | a) = lambda n(a b) / n(a) + (1 - lambda) (n(b) + added) / (n + added V): the pairs' part interpolated with an
/// add-k table of single tokens (Jelinek & Mercer 1980). After a token that was never seen first, the table alone.
#[derive(Clone, Debug)]
pub struct Bigram {
    /// Share of the pairs' part.
    pub lambda: f64,
    /// What is added to the count of every single token.
    pub added: f64,
    counts: Counts,
}

/// How often tokens and pairs come in a text.
#[derive(Clone, Debug)]
struct Counts {
    vocab_size: usize,
    pairs: Vec<u32>,
    firsts: Vec<u32>,
    seconds: Vec<u32>,
    total: f64,
}

impl Counts {
    fn new(pairs: impl Iterator<Item = (usize, usize)>, vocab_size: usize) -> Counts {
        let zeros = |n| vec![0; n];
        let (square, firsts, seconds) = (zeros(vocab_size * vocab_size), zeros(vocab_size), zeros(vocab_size));
        let mut counts = Counts { vocab_size, pairs: square, firsts, seconds, total: 0.0 };
        for (first, second) in pairs {
            counts.pairs[first * vocab_size + second] += 1;
            counts.firsts[first] += 1;
            counts.seconds[second] += 1;
            counts.total += 1.0;
        }
        counts
    }

    fn probability(&self, lambda: f64, added: f64, first: usize, second: usize) -> f64 {
        let single = (f64::from(self.seconds[second]) + added) / (self.total + added * self.vocab_size as f64);
        if self.firsts[first] == 0 {
            return single;
        }
        let pair = f64::from(self.pairs[first * self.vocab_size + second]) / f64::from(self.firsts[first]);
        lambda * pair + (1.0 - lambda) * single
    }

    fn loss(&self, lambda: f64, added: f64, pairs: impl Iterator<Item = (usize, usize)>) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for (first, second) in pairs {
            sum -= self.probability(lambda, added, first, second).ln();
            count += 1.0;
        }
        sum / count
    }
}

/// The pairs of a range of rows.
fn pairs(batches: &Batches, rows: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    rows.flat_map(|row| batches.pairs(row)).map(|(token, target)| (token as usize, target as usize))
}

impl Bigram {
    /// Counts the training text. `lambda` and `added` are those with the least loss on a tenth of it, counted without
    /// that tenth; a text too short for that has 0.5 and 0.1.
    pub fn train(training: &Batches, vocab_size: usize) -> Bigram {
        let stretches = || (0..training.rows()).step_by(STRETCH).map(|row| row..(row + STRETCH).min(training.rows()));
        let part = |apart: bool| stretches().enumerate().filter(move |(i, _)| (i % 10 == 9) == apart).map(|(_, r)| r);
        let counts = Counts::new(part(false).flat_map(|rows| pairs(training, rows)), vocab_size);
        let apart: Vec<_> = part(true).flat_map(|rows| pairs(training, rows)).collect();
        let (mut least, mut lambda, mut added) = (f64::INFINITY, 0.5, 0.1);
        for (k, i) in ADDED.into_iter().flat_map(|k| (1..LAMBDAS).map(move |i| (k, i))) {
            let share = i as f64 / LAMBDAS as f64;
            let loss = counts.loss(share, k, apart.iter().copied());
            if loss < least {
                (least, lambda, added) = (loss, share, k);
            }
        }
        Bigram { lambda, added, counts: Counts::new(pairs(training, 0..training.rows()), vocab_size) }
    }

    /// Probability of `second` after `first`; both below the size of the vocabulary.
    pub fn probability(&self, first: u32, second: u32) -> f64 {
        self.counts.probability(self.lambda, self.added, first as usize, second as usize)
    }

    /// Mean nats per target that counts: the very targets that a model is evaluated on.
    pub fn loss(&self, batches: &Batches) -> f64 {
        self.counts.loss(self.lambda, self.added, pairs(batches, 0..batches.rows()))
    }
}
