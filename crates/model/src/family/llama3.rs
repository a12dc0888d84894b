//! Llama 3's scaling of rotary frequencies: what GGUF files have of it, and what it was.
#![forbid(unsafe_code)]

use crate::config::{Config, RopeScaling};
use std::f64::consts::TAU;

/// What Llama 3's scaling divides each frequency by, from the highest to the lowest: GGUF's tensor `rope_freqs`.
pub fn factors(scaling: &RopeScaling, theta: f32, dimensions: usize) -> Vec<f32> {
    let (factor, low, high) =
        (f64::from(scaling.factor), f64::from(scaling.low_freq_factor), f64::from(scaling.high_freq_factor));
    let original = scaling.original_max_position as f64;
    let one = |pair: usize| {
        let frequency = f64::from(theta).powf(-((2 * pair) as f64) / dimensions as f64);
        let turns = original * frequency / TAU;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        // As Hugging Face's: the frequency becomes a mixture of itself and of it divided by the factor.
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    (0..dimensions / 2).map(one).collect()
}

/// The scaling that has made a list of factors, if it is Llama 3's: with its published bounds, or with such as the
/// factors tell. Where several make the same factors it is one of them.
pub(super) fn fitted(config: &Config, given: &[f32]) -> Option<RopeScaling> {
    let dimensions = config.features.rotary_dim.unwrap_or(config.head_dim());
    if given.len() != dimensions / 2 || given.iter().any(|factor| !factor.is_finite() || *factor < 1.0) {
        return None;
    }
    // The lowest frequencies are divided by the whole factor; narrow heads have none that are so low.
    let last = *given.last()?;
    let makes = |scaling: &RopeScaling, tolerance: f32| {
        let made = factors(scaling, config.rope_theta, dimensions);
        given.iter().zip(&made).all(|(a, b)| (a - b).abs() <= tolerance * b.abs())
    };
    let published =
        |factor| RopeScaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };
    let some = [last, 8.0, 32.0].map(published).into_iter().find(|s| s.factor > 1.0 && makes(s, 1e-4));
    some.or_else(|| {
        let rounded = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0].into_iter().filter(|factor| *factor > last);
        let mut all = std::iter::once(last).chain(rounded).filter(|factor| *factor > 1.0);
        all.find_map(|factor| guesses(config.rope_theta, dimensions, factor, given).find(|s| makes(s, 3e-5)))
    })
}

/// Scalings by `factor` that may have made a list of factors. Only the bounds' ratio to the original context counts, so
/// that the lower one is 1.
fn guesses(theta: f32, dimensions: usize, factor: f32, given: &[f32]) -> impl Iterator<Item = RopeScaling> {
    let whole = f64::from(factor);
    let frequency = |pair: usize| f64::from(theta).powf(-((2 * pair) as f64) / dimensions as f64);
    // How much of each frequency that is neither kept nor divided by the whole factor is kept.
    let between: Vec<(f64, f64)> = given
        .iter()
        .enumerate()
        .filter(|(_, divisor)| **divisor > 1.0 && **divisor < factor)
        .map(|(pair, divisor)| (frequency(pair), (1.0 / f64::from(*divisor) - 1.0 / whole) / (1.0 - 1.0 / whole)))
        .collect();
    let scaling = move |high: f64, original: f64| RopeScaling {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: ((high * 1e3).round() / 1e3) as f32,
        original_max_position: original.round() as usize,
    };
    let bounds = [4.0, 2.0, 8.0, 3.0, 16.0, 32.0];
    let found: Vec<RopeScaling> = match (between.first(), between.last()) {
        // Two of them say it: kept = (original frequency / tau - 1) / (high - 1).
        (Some((f, kept)), Some((g, kept_too))) if between.len() > 1 => {
            let slope = (kept - kept_too) / (f - g);
            let high = 1.0 + 1.0 / (slope * f - kept);
            vec![scaling(high, slope * (high - 1.0) * TAU)]
        }
        (Some((f, kept)), _) => bounds.map(|high| scaling(high, TAU * (kept * (high - 1.0) + 1.0) / f)).into(),
        _ => (3..24).flat_map(|power| bounds.map(|high| scaling(high, f64::from(1 << power)))).collect(),
    };
    let sound = |s: &RopeScaling| {
        s.high_freq_factor.is_finite() && s.high_freq_factor > 1.0 && (1..=1 << 30).contains(&s.original_max_position)
    };
    found.into_iter().filter(sound)
}
