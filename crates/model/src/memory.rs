//! How much memory running a model needs, before anything is loaded.
#![forbid(unsafe_code)]

use crate::config::Config;
use serde::Serialize;

/// Bytes of a cached number: 16 bits.
const CACHED_BYTES: u64 = 2;
/// Rows of a prompt that go through the layers at once.
const ROWS: u64 = 512;
/// Bytes of a number in between.
const BETWEEN_BYTES: u64 = 4;

/// What running takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Positions of one sequence.
    pub context: usize,
    /// The weights as they lie in the file.
    pub weights_bytes: u64,
    /// Keys and values of one sequence that fills the context, in 16 bits.
    pub kv_cache_bytes: u64,
    /// What the layers need in between, for 512 rows of a prompt at once.
    pub activation_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What running a model takes whose weights have `weights_bytes`, with one sequence of up to `context` positions.
pub fn need(config: &Config, weights_bytes: u64, context: usize) -> Need {
    let size = |x: usize| x as u64;
    let wide = size(config.kv_heads()).saturating_mul(size(config.head_dim()));
    let positions = |layer: usize| match &config.features.sliding_window {
        Some(window) if window.pattern == 0 || !(layer + 1).is_multiple_of(window.pattern) => {
            context.min(window.positions)
        }
        _ => context,
    };
    let slots = (0..config.num_layers).fold(0u64, |sum, layer| sum.saturating_add(size(positions(layer))));
    let kv_cache_bytes = slots.saturating_mul(wide).saturating_mul(2 * CACHED_BYTES);
    let heads = size(config.num_heads + 2 * config.kv_heads()).saturating_mul(size(config.head_dim()));
    let mlp = match &config.features.experts {
        Some(experts) => size(experts.intermediate_size).saturating_mul(size(experts.per_token)),
        None => size(config.intermediate_size),
    };
    let row = [size(config.hidden_size).saturating_mul(4), heads.saturating_mul(2), mlp.saturating_mul(3)];
    let row = row.into_iter().fold(0u64, u64::saturating_add);
    let rows = ROWS.min(size(context));
    let between = row.saturating_mul(rows).saturating_add(size(config.vocab_size));
    let activation_bytes = between.saturating_mul(BETWEEN_BYTES);
    let total_bytes = weights_bytes.saturating_add(kv_cache_bytes).saturating_add(activation_bytes);
    Need { context, weights_bytes, kv_cache_bytes, activation_bytes, total_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::preset;
    use crate::features::SlidingWindow;

    #[test]
    fn a_cache_grows_with_the_context_and_windows_bound_it() {
        let (_, mut config) = preset("qwen2.5-0.5b").expect("it is there");
        // 24 layers, 2 heads of 64, keys and values, 2 bytes: 12 KiB a position.
        assert_eq!(need(&config, 0, 1).kv_cache_bytes, 24 * 2 * 64 * 2 * 2);
        let full = need(&config, 1000, 8192);
        assert_eq!(full.kv_cache_bytes, 8192 * 24 * 2 * 64 * 2 * 2);
        assert_eq!(full.total_bytes, 1000 + full.kv_cache_bytes + full.activation_bytes);
        config.features.sliding_window = Some(SlidingWindow { positions: 1024, pattern: 2, rope_theta: None });
        assert_eq!(need(&config, 0, 8192).kv_cache_bytes, (12 * 8192 + 12 * 1024) * 2 * 64 * 2 * 2);
        assert_eq!(need(&config, u64::MAX, usize::MAX).total_bytes, u64::MAX);
    }
}
