//! Median and spread of repeated measurements.

use serde::Serialize;

/// What is said of a sample: never an average alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Measurements.
    pub count: usize,
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Standard deviation over mean (coefficient of variation), of a sample: n - 1.
    pub cv: f64,
}

impl Stats {
    /// Statistics of at least one number; `None` of nothing.
    pub fn of(numbers: &[f64]) -> Option<Stats> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let n = sorted.len();
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0;
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let variance = sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64;
        let cv = if mean == 0.0 { 0.0 } else { variance.sqrt() / mean.abs() };
        Some(Stats { count: n, median, min, max, cv })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_samples() {
        assert_eq!(Stats::of(&[]), None);
        let one = Stats { count: 1, median: 3.0, min: 3.0, max: 3.0, cv: 0.0 };
        assert_eq!(Stats::of(&[3.0]), Some(one));
        let s = Stats::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((s.median, s.min, s.max), (2.5, 1.0, 4.0));
        assert!((s.cv - (5.0f64 / 3.0).sqrt() / 2.5).abs() < 1e-15);
    }
}
