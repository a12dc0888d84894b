//! Gemma 2 (arXiv 2408.00118): capped scores and logits, norms on both sides, a window in every other layer.
#![forbid(unsafe_code)]

use super::{Described, Family, Key, SLIDING_WINDOW, Source, TIED};
use crate::config::Config;
use crate::features::SlidingWindow;
use tensor::file::Error;

const SCORE_CAP: Key = Key("attn_logit_softcapping", "attn_logit_softcapping");
pub(super) const LOGIT_CAP: Key = Key("final_logit_softcapping", "final_logit_softcapping");
/// What GGUF files say where there is no cap, as other programs have one where none is said.
const NO_CAP: f32 = 65_536.0;
/// Scores are divided by its square root.
const SCORE_SCALAR: Key = Key("", "query_pre_attn_scalar");
/// What scores are multiplied by, where it isn't what other programs take from the model's size.
const SCORE_SCALE: Key = Key("attention.scale", "");
/// Layers of the largest model, whose scores are scaled by its width over its heads; GGUF files don't say it.
const LARGEST_LAYERS: usize = 46;

/// Gemma 2.
pub static GEMMA2: Family = Family {
    name: "gemma2",
    architecture: "gemma2",
    class: "Gemma2ForCausalLM",
    model_type: "gemma2",
    read: |config, source| {
        gemma(config, source, LARGEST_LAYERS)?;
        config.features.score_cap = cap(source, SCORE_CAP)?.or(unsaid(source, SCORE_CAP, 50.0));
        config.features.logit_cap = cap(source, LOGIT_CAP)?.or(unsaid(source, LOGIT_CAP, 30.0));
        let positions = source.size(SLIDING_WINDOW)?.unwrap_or(4096);
        config.features.sliding_window = Some(SlidingWindow { positions, pattern: 2, rope_theta: None });
        Ok(())
    },
    write: |config, out| {
        described(config, out);
        for (key, cap) in [(SCORE_CAP, config.features.score_cap), (LOGIT_CAP, config.features.logit_cap)] {
            match cap {
                Some(cap) => out.number(key, cap),
                None => {
                    out.number(key, NO_CAP);
                    out.null(key);
                }
            }
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
        ("attn_logit_softcapping", 50),
        ("final_logit_softcapping", 30),
    ],
};

/// Names of tensors of Gemma 2 and 3.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// What is capped at; 0, and what changes no number's first five digits, is nothing.
pub(super) fn cap(source: &Source, key: Key) -> Result<Option<f32>, Error> {
    Ok(source.number(key)?.filter(|cap| *cap != 0.0 && *cap < NO_CAP))
}

/// What GGUF files are taken to say where they don't.
fn unsaid(source: &Source, key: Key, cap: f32) -> Option<f32> {
    (matches!(source, Source::Gguf { .. }) && !source.has(key)).then_some(cap)
}

/// A number that may be a whole one, rounded.
fn whole(number: f32) -> f32 {
    if (number - number.round()).abs() <= 1e-5 * number { number.round() } else { number }
}

/// Whether scores are scaled as other programs take from the model's size, by its largest number of layers.
pub(super) fn is_by_size(config: &Config) -> bool {
    let largest = if config.features.qk_norm { super::gemma3::LARGEST_LAYERS } else { LARGEST_LAYERS };
    let even = (config.hidden_size / config.num_heads.max(1)) as f32;
    let taken = if config.num_layers == largest { even } else { config.head_dim() as f32 };
    let scalar = config.features.score_scale.map_or(config.head_dim() as f32, |scale| whole(1.0 / scale / scale));
    scalar == taken
}

/// What Gemma 2 and 3 have in common; the largest model of each has `largest` layers.
pub(super) fn gemma(config: &mut Config, source: &Source, largest: usize) -> Result<(), Error> {
    let even = config.hidden_size as f32 / config.num_heads as f32;
    let head_dim = config.head_dim() as f32;
    let unsaid = if config.num_layers == largest { even } else { head_dim };
    let said = match source.number(SCORE_SCALE)? {
        Some(scale) if scale > 0.0 => Some(whole(1.0 / scale / scale)),
        _ => source.number(SCORE_SCALAR)?,
    };
    let scalar = said.unwrap_or(unsaid);
    if scalar <= 0.0 {
        return Err(source.error(SCORE_SCALAR, format!("it is {scalar}; it must be positive")));
    }
    config.features.score_scale = (scalar != head_dim).then_some(1.0 / scalar.sqrt());
    config.features.embedding_scale = Some((config.hidden_size as f32).sqrt());
    config.features.post_norms = true;
    config.features.gelu_gate = true;
    // The head is the table of the tokens' vectors where a configuration doesn't say otherwise.
    if let Source::HuggingFace(_) = source {
        config.tied_embeddings = source.flag(TIED)?.unwrap_or(true);
    }
    Ok(())
}

/// What Gemma 2 and 3 say in common.
pub(super) fn described(config: &Config, out: &mut Described) {
    let scalar = config.features.score_scale.map_or(config.head_dim() as f32, |scale| whole(1.0 / scale / scale));
    // A whole number where it is one, as the reference library asks for.
    match scalar.fract() == 0.0 {
        true => out.size(SCORE_SCALAR, scalar as usize),
        false => out.number(SCORE_SCALAR, scalar),
    }
    if !is_by_size(config) {
        out.number(SCORE_SCALE, 1.0 / scalar.sqrt());
    }
    out.text(Key("", "hidden_activation"), "gelu_pytorch_tanh");
    if let Some(window) = &config.features.sliding_window {
        out.size(SLIDING_WINDOW, window.positions);
    }
}
