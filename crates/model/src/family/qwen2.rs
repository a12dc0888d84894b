//! Qwen 2 and 2.5 (arXiv 2407.10671, 2412.15115): biases on queries, keys and values.
#![forbid(unsafe_code)]

use super::{Family, Key, nothing_more};

/// Its windows are written in configurations and used by no published model.
const WINDOWED: Key = Key("", "use_sliding_window");

/// Qwen 2 and 2.5.
pub static QWEN2: Family = Family {
    name: "qwen2",
    architecture: "qwen2",
    class: "Qwen2ForCausalLM",
    model_type: "qwen2",
    read: |config, source| {
        if source.flag(WINDOWED)? == Some(true) {
            return Err(source.unsupported(WINDOWED, "it is true: windows in a part of the layers are not supported"));
        }
        config.features.qkv_bias = true;
        config.attention_bias = false;
        Ok(())
    },
    write: nothing_more,
    names: &[],
    permuted: false,
    norms_from_one: false,
    fused: false,
    unsaid: &[("num_key_value_heads", 32)],
};
