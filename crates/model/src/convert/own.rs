//! Models that Rondo trained, as the Llama that some of them are: where their files have Hugging Face's tensors.
#![forbid(unsafe_code)]

use crate::config::{Config, Mixer, Mlp, Norm, Positions};
use crate::family::Family;
use crate::folder::{self, FolderError};
use std::ops::Range;
use std::path::Path;

/// Rows of a tensor of Rondo's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// Its name.
    pub(super) name: String,
    /// Which rows are meant; none for all.
    pub(super) rows: Option<Range<usize>>,
}

/// The shape and the tokenizer's name of a model that Rondo trained; nothing where another program wrote config.json.
///
/// # Errors
/// When it is Rondo's and can't be read, or is no model that GGUF has an architecture for.
pub(super) fn config(folder: &Path) -> Result<Option<(Config, String)>, FolderError> {
    let path = folder.join("config.json");
    if !folder::is_own(&path) {
        return Ok(None);
    }
    let (config, tokenizer) = folder::config(&path)?;
    let unlike = [
        (config.norm != Norm::RmsNorm, "norm", "rms_norm"),
        (config.positions != Positions::Rope, "positions", "rope"),
        (config.mlp != Mlp::Swiglu, "mlp", "swiglu"),
        (config.mixer != Mixer::Attention, "mixer", "attention"),
    ];
    match unlike.iter().find(|(is_unlike, ..)| *is_unlike) {
        Some((_, key, needed)) => {
            let help =
                "help: a model trained with the preset tiny-llama, or with its keys under [model], can be converted";
            let what = format!("key `{key}` is not {needed}: GGUF has no architecture for this model\n  {help}");
            Err(FolderError::Format { path, what })
        }
        None => Ok(Some((config, tokenizer))),
    }
}

/// The family that such models are of.
pub(super) fn family() -> Option<&'static Family> {
    Family::named("llama")
}

/// Where the tensor lies that Hugging Face calls `name`.
pub(super) fn place(config: &Config, name: &str) -> Option<Rows> {
    let whole = |name: String| Some(Rows { name, rows: None });
    match name {
        "model.embed_tokens.weight" => return whole("embed_tokens.weight".into()),
        "model.norm.weight" => return whole("final_norm.weight".into()),
        "lm_head.weight" => return whole(name.into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, part) = rest.rsplit_once('.')?;
    let within = |module: &str| format!("layers.{layer}.{module}.{part}");
    let head_dim = config.head_dim();
    let (wide, narrow, mlp) = (config.num_heads * head_dim, config.kv_heads() * head_dim, config.intermediate_size);
    let cut = |module: &str, rows: Range<usize>| Some(Rows { name: within(module), rows: Some(rows) });
    match module {
        "input_layernorm" => whole(within("attention_norm")),
        "post_attention_layernorm" => whole(within("mlp_norm")),
        "self_attn.q_proj" => cut("attention.qkv_proj", 0..wide),
        "self_attn.k_proj" => cut("attention.qkv_proj", wide..wide + narrow),
        "self_attn.v_proj" => cut("attention.qkv_proj", wide + narrow..wide + 2 * narrow),
        "self_attn.o_proj" => whole(within("attention.o_proj")),
        "mlp.gate_proj" => cut("mlp.gate_up_proj", 0..mlp),
        "mlp.up_proj" => cut("mlp.gate_up_proj", mlp..2 * mlp),
        "mlp.down_proj" => whole(within("mlp.down_proj")),
        _ => None,
    }
}
