//! What a `config.json` says that a family's models don't compute: refused by name, or it would be left out silently.
#![forbid(unsafe_code)]

use super::{ConfigFile, Family};
use crate::config::Config;
use serde_json::Value as Json;
use tensor::file::Error;

/// A key that changes what is computed: its values that change nothing, and the families that read it.
struct Computed {
    key: &'static str,
    neutral: fn(&Json) -> bool,
    read_by: &'static [&'static str],
}

const fn key(key: &'static str, neutral: fn(&Json) -> bool, read_by: &'static [&'static str]) -> Computed {
    Computed { key, neutral, read_by }
}

fn one(value: &Json) -> bool {
    value.as_f64() == Some(1.0)
}

fn no(value: &Json) -> bool {
    value == &Json::Bool(false)
}

fn empty(value: &Json) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn never(_: &Json) -> bool {
    false
}

/// Null is what is not said.
const COMPUTED: &[Computed] = &[
    key("partial_rotary_factor", one, &["phi3"]),
    key("rope_interleaved", no, &[]),
    key("rope_interleave", no, &[]),
    key("logits_scaling", one, &[]),
    key("logit_scale", one, &[]),
    key("residual_multiplier", one, &[]),
    key("embedding_multiplier", one, &[]),
    key("scale_emb", one, &[]),
    key("scale_depth", one, &[]),
    key("attn_logit_softcapping", never, &["gemma2"]),
    key("final_logit_softcapping", never, &["gemma2", "gemma3"]),
    key("query_pre_attn_scalar", never, &["gemma2", "gemma3"]),
    key("clip_qkv", never, &[]),
    key("use_qk_norm", no, &["qwen3", "qwen3moe", "gemma3"]),
    key("qk_layernorm", no, &[]),
    key("no_rope_layers", |value| value.as_array().is_some_and(|all| all.iter().all(|used| used == 1)), &[]),
    key("use_sliding_window", no, &["qwen2"]),
    key("use_bidirectional_attention", no, &[]),
    key("decoder_sparse_step", one, &[]),
    key("mlp_only_layers", empty, &[]),
];

/// Checks that nothing is said that the family's models don't compute.
///
/// # Errors
/// The key that says it.
pub(super) fn check(family: &Family, config: &Config, file: &ConfigFile) -> Result<(), Error> {
    kind(family, file)?;
    activation(family, file)?;
    for computed in COMPUTED {
        if let Some(value) = file.get(computed.key)
            && !computed.read_by.contains(&family.name)
            && !(computed.neutral)(value)
        {
            return Err(not_applied(family, file, computed.key, value));
        }
    }
    // Scores are divided by the root of the heads' width anyway.
    let scale = 1.0 / (config.head_dim() as f64).sqrt();
    if let Some(value) = file.get("attention_multiplier")
        && value.as_f64().is_none_or(|given| (given - scale).abs() > 1e-6 * scale)
    {
        return Err(not_applied(family, file, "attention_multiplier", value));
    }
    for (name, there) in [("attention_bias", config.attention_bias), ("mlp_bias", config.mlp_bias)] {
        if there && family.name != "llama" {
            return Err(not_applied(family, file, name, &Json::Bool(true)));
        }
    }
    if let Some(part) = file.get("rope_parameters").and_then(|all| all.get("partial_rotary_factor"))
        && !part.is_null()
        && !one(part)
        && family.name != "phi3"
    {
        return Err(not_applied(family, file, "rope_parameters", part));
    }
    windows(family, config, file)
}

fn not_applied(family: &Family, file: &ConfigFile, key: &str, value: &Json) -> Error {
    let value: String = value.to_string().chars().take(60).collect();
    file.other_model(key, format!("it is {value}, which models of the family {} don't compute here", family.name))
}

/// Whether the model is of one family, in plain numbers.
fn kind(family: &Family, file: &ConfigFile) -> Result<(), Error> {
    if file.get("quantization_config").is_some() {
        let help = "get the model in bf16 or f16, or as GGUF";
        return Err(file.error_with("quantization_config", "the weights are quantized in a way that isn't read", help));
    }
    match file.get("model_type").map(|kind| kind.as_str().unwrap_or_default()) {
        Some(said) if said != family.model_type => {
            let (class, own) = (family.class, family.model_type);
            let said: String = said.chars().take(48).collect();
            Err(file.error("model_type", format!("it is {said:?}, and the class is {class}, whose type is {own:?}")))
        }
        _ => Ok(()),
    }
}

/// Whether the gate is the one that the family's models have.
fn activation(family: &Family, file: &ConfigFile) -> Result<(), Error> {
    // Gemma's classes heed `hidden_activation` alone.
    let gemma = family.name.starts_with("gemma");
    let (key, known): (_, &[&str]) =
        if gemma { ("hidden_activation", &["gelu_pytorch_tanh"]) } else { ("hidden_act", &["silu", "swish"]) };
    match file.get(key) {
        Some(value) if value.as_str().is_none_or(|name| !known.contains(&name)) => {
            let (value, known): (String, _) = (value.to_string().chars().take(60).collect(), known[0]);
            let what = format!("it is {value}; models of the family {} have {known:?}", family.name);
            Err(file.other_model(key, what))
        }
        _ => Ok(()),
    }
}

/// Whether the layers with a window are those that the family's models have.
fn windows(family: &Family, config: &Config, file: &ConfigFile) -> Result<(), Error> {
    let window = file.get("sliding_window");
    if let Some(value) = window.filter(|value| value.as_f64().is_some_and(|positions| positions < 0.0)) {
        return Err(
            file.error("sliding_window", format!("it is {value}; it must be a whole number from 1 on, or null"))
        );
    }
    if let (Some(value), "mixtral") = (window, family.name) {
        return Err(not_applied(family, file, "sliding_window", value));
    }
    let Some(kinds) = file.get("layer_types").and_then(Json::as_array) else { return Ok(()) };
    let slides = |layer: usize| match &config.features.sliding_window {
        Some(window) => window.pattern == 0 || !(layer + 1).is_multiple_of(window.pattern),
        None => false,
    };
    for (layer, kind) in kinds.iter().enumerate().take(config.num_layers) {
        let kind = kind.as_str().unwrap_or_default();
        let fits = match kind {
            "sliding_attention" => slides(layer),
            // Mistral's and Phi's classes have one kind of layer, whatever is said.
            "full_attention" => !slides(layer) || !family.name.starts_with("gemma"),
            _ => false,
        };
        if !fits {
            let kind: String = kind.chars().take(48).collect();
            let what = format!("layer {layer} is {kind:?}, which it is not in models of the family {}", family.name);
            return Err(file.other_model("layer_types", what));
        }
    }
    Ok(())
}
