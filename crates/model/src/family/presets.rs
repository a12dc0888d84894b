//! The shapes of published models, as data.
#![forbid(unsafe_code)]

use super::Family;
use crate::config::{Config, Mixer, Mlp, Norm, Positions, RopeScaling};
use crate::features::Features;

/// Layers, width, heads, heads of keys and values, width of the MLP, vocabulary, whether the head is the table.
type Sizes = (usize, usize, usize, usize, usize, usize, bool);

/// Names, families and sizes.
pub static PRESETS: &[(&str, &str, Sizes)] = &[
    ("qwen2.5-0.5b", "qwen2", (24, 896, 14, 2, 4864, 151_936, true)),
    ("qwen2.5-1.5b", "qwen2", (28, 1536, 12, 2, 8960, 151_936, true)),
    ("qwen2.5-7b", "qwen2", (28, 3584, 28, 4, 18_944, 152_064, false)),
    ("qwen2.5-32b", "qwen2", (64, 5120, 40, 8, 27_648, 152_064, false)),
    ("llama-3.2-1b", "llama", (16, 2048, 32, 8, 8192, 128_256, true)),
    ("llama-3.1-8b", "llama", (32, 4096, 32, 8, 14_336, 128_256, false)),
];

/// The family and shape of a published model by its name, whose capitals don't matter.
pub fn preset(name: &str) -> Option<(&'static Family, Config)> {
    let (_, family, sizes) = PRESETS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))?;
    let (num_layers, hidden_size, num_heads, num_kv_heads, intermediate_size, vocab_size, tied_embeddings) = *sizes;
    let qwen = *family == "qwen2";
    let factor = if name.contains("3.2") { 32.0 } else { 8.0 };
    let scaling = RopeScaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };
    let config = Config {
        vocab_size,
        hidden_size,
        num_layers,
        num_heads,
        num_kv_heads,
        intermediate_size,
        max_context: if qwen { 32_768 } else { 131_072 },
        mixer: Mixer::Attention,
        norm: Norm::RmsNorm,
        norm_eps: if qwen { 1e-6 } else { 1e-5 },
        positions: Positions::Rope,
        rope_theta: if qwen { 1e6 } else { 5e5 },
        rope_scaling: if qwen { RopeScaling::default() } else { scaling },
        mlp: Mlp::Swiglu,
        attention_bias: false,
        mlp_bias: false,
        tied_embeddings,
        features: Features { qkv_bias: qwen, ..Features::default() },
    };
    Some((Family::named(family)?, config))
}
