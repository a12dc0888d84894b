//! Llama 1 to 3.3 (arXiv 2302.13971, 2407.21783).
#![forbid(unsafe_code)]

use super::{ATTENTION_BIAS, Family, MLP_BIAS};

/// Scaled rotary positions are in `rope.rs`, which all families share.
pub static LLAMA: Family = Family {
    name: "llama",
    architecture: "llama",
    class: "LlamaForCausalLM",
    model_type: "llama",
    read: |_, _| Ok(()),
    write: |config, out| {
        out.flag(ATTENTION_BIAS, config.attention_bias);
        out.flag(MLP_BIAS, config.mlp_bias);
    },
    names: &[],
    permuted: true,
    norms_from_one: false,
    fused: false,
    unsaid: &[],
};
