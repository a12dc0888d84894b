//! Mistral (arXiv 2310.06825): Llama with a sliding window in its first version. In GGUF it is a Llama that has a window.
#![forbid(unsafe_code)]

use super::{Family, SLIDING_WINDOW};
use crate::features::SlidingWindow;

/// In a GGUF file it can't be told from Llama where it has no window, so such files are read as that.
pub static MISTRAL: Family = Family {
    name: "mistral",
    architecture: "llama",
    class: "MistralForCausalLM",
    model_type: "mistral",
    read: |config, source| {
        // Some files say 0 where there is none.
        let window = source.size(SLIDING_WINDOW)?.filter(|positions| *positions > 0);
        config.features.sliding_window =
            window.map(|positions| SlidingWindow { positions, pattern: 0, rope_theta: None });
        Ok(())
    },
    write: |config, out| match &config.features.sliding_window {
        Some(window) => out.size(SLIDING_WINDOW, window.positions),
        None => out.null(SLIDING_WINDOW),
    },
    names: &[],
    permuted: true,
    norms_from_one: false,
    fused: false,
    unsaid: &[("num_key_value_heads", 8), ("sliding_window", 4096)],
};
