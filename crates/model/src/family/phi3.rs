//! Phi 3 and 3.5 (arXiv 2404.14219): one tensor for q, k and v, one for gate and up, and factors of rotary frequencies.
#![forbid(unsafe_code)]

use super::{Family, Key, SLIDING_WINDOW, rope};
use crate::features::SlidingWindow;

const PARTIAL: Key = Key("", "partial_rotary_factor");

/// Phi 3, 3.5 and 4-mini.
pub static PHI3: Family = Family {
    name: "phi3",
    architecture: "phi3",
    class: "Phi3ForCausalLM",
    model_type: "phi3",
    read: |config, source| {
        // Some files say 0 where there is none.
        let window = source.size(SLIDING_WINDOW)?.filter(|size| (1..config.max_context).contains(size));
        config.features.sliding_window =
            window.map(|positions| SlidingWindow { positions, pattern: 0, rope_theta: None });
        if let Some(part) = rope::partial(source, PARTIAL)? {
            if !(part > 0.0 && part <= 1.0) {
                return Err(source.error(PARTIAL, format!("it is {part}; it must be above 0, and 1 at most")));
            }
            let turned = (config.head_dim() as f32 * part) as usize;
            config.features.rotary_dim = (turned != config.head_dim()).then_some(turned);
        }
        Ok(())
    },
    write: |config, out| {
        if let Some(window) = &config.features.sliding_window {
            out.size(SLIDING_WINDOW, window.positions);
        }
        if let Some(turned) = config.features.rotary_dim {
            out.number(PARTIAL, turned as f32 / config.head_dim() as f32);
        }
    },
    names: &[],
    permuted: false,
    norms_from_one: false,
    fused: true,
    unsaid: &[],
};
