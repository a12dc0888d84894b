//! Mistral (arXiv 2310.06825): Llama with a sliding window in its first version. In GGUF it is a Llama.
#![forbid(unsafe_code)]

use super::{Family, SLIDING_WINDOW};
use crate::features::SlidingWindow;

/// In a GGUF file it can't be told from Llama, so files of it are read as that.
pub static MISTRAL: Family = Family {
    name: "mistral",
    architecture: "llama",
    class: "MistralForCausalLM",
    model_type: "mistral",
    read: |config, source| {
        let window = source.size(SLIDING_WINDOW)?;
        config.features.sliding_window =
            window.map(|positions| SlidingWindow { positions, pattern: 0, rope_theta: None });
        Ok(())
    },
    write: |config, out| {
        if let Some(window) = &config.features.sliding_window {
            out.size(SLIDING_WINDOW, window.positions);
        }
    },
    names: &[],
    permuted: true,
    norms_from_one: false,
    fused: false,
};
