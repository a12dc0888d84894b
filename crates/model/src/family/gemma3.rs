//! Gemma 3 (arXiv 2503.19786), text alone: a window in five of six layers, which have rotary positions of their own.
#![forbid(unsafe_code)]

use super::gemma2::{LOGIT_CAP, NAMES, cap, described, gemma};
use super::{Family, Key, SLIDING_WINDOW, rope};
use crate::features::SlidingWindow;

const PATTERN: Key = Key("attention.sliding_window_pattern", "sliding_window_pattern");
const LOCAL_THETA: Key = Key("rope.freq_base_swa", "rope_local_base_freq");
/// Layers of the largest model, whose scores are scaled by its width over its heads; GGUF files don't say it.
pub(super) const LARGEST_LAYERS: usize = 62;

/// Gemma 3.
pub static GEMMA3: Family = Family {
    name: "gemma3",
    architecture: "gemma3",
    class: "Gemma3ForCausalLM",
    model_type: "gemma3_text",
    read: |config, source| {
        gemma(config, source, LARGEST_LAYERS)?;
        config.features.qk_norm = true;
        config.features.logit_cap = cap(source, LOGIT_CAP)?;
        let positions = source.size(SLIDING_WINDOW)?.unwrap_or(1024);
        let pattern = source.size(PATTERN)?.unwrap_or(6);
        let local = match rope::local_theta(source)? {
            None => source.number(LOCAL_THETA)?,
            theta => theta,
        };
        let rope_theta = Some(local.unwrap_or(10_000.0));
        config.features.sliding_window = Some(SlidingWindow { positions, pattern, rope_theta });
        Ok(())
    },
    write: |config, out| {
        described(config, out);
        if let Some(cap) = config.features.logit_cap {
            out.number(LOGIT_CAP, cap);
        }
        if let Some(window) = &config.features.sliding_window {
            out.size(PATTERN, window.pattern);
            out.number(LOCAL_THETA, window.rope_theta.unwrap_or(10_000.0));
        }
    },
    names: NAMES,
    permuted: false,
    norms_from_one: true,
    fused: false,
    unsaid: &[
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("query_pre_attn_scalar", 256),
        ("sliding_window", 4096),
        ("rope_theta", 1_000_000),
    ],
};
