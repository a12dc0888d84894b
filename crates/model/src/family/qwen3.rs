//! Qwen 3 (arXiv 2505.09388): norms of queries and keys, and heads of their own width.
#![forbid(unsafe_code)]

use super::{Family, nothing_more};

/// Qwen 3, dense.
pub static QWEN3: Family = Family {
    name: "qwen3",
    architecture: "qwen3",
    class: "Qwen3ForCausalLM",
    model_type: "qwen3",
    read: |config, _| {
        config.features.qk_norm = true;
        Ok(())
    },
    write: nothing_more,
    names: &[],
    permuted: false,
    norms_from_one: false,
    fused: false,
    unsaid: &[("num_key_value_heads", 32), ("head_dim", 128)],
};
