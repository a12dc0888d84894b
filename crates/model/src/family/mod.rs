//! Published families of models: what their files say as one `Config`, and the names of their tensors. One file a family.
#![forbid(unsafe_code)]

mod applied;
mod gemma2;
mod gemma3;
mod llama;
mod llama3;
mod mistral;
mod mixtral;
mod other;
mod phi3;
mod presets;
mod qwen2;
mod qwen3;
mod qwen3moe;
mod rope;
mod source;
mod tensors;

pub use llama3::factors;
pub use presets::{PRESETS, preset};
pub use source::{ConfigFile, Described, Key, Source};
pub use tensors::{Change, Expected, Form};

use crate::config::{Config, Mixer, Mlp, Norm, Positions};
use crate::features::Features;
use std::path::Path;
use tensor::file::gguf;
use tensor::file::{Error, Problem};

/// A family of models.
pub struct Family {
    /// Its name in messages.
    pub name: &'static str,
    /// GGUF's `general.architecture`.
    pub architecture: &'static str,
    /// Hugging Face's class, in `architectures`.
    pub class: &'static str,
    /// Hugging Face's `model_type`.
    pub model_type: &'static str,
    /// What its files say beyond what all say, into the configuration.
    read: fn(&mut Config, &Source) -> Result<(), Error>,
    /// The same out of the configuration.
    write: fn(&Config, &mut Described),
    /// Hugging Face's names of tensors where they aren't the usual ones, by GGUF's names.
    names: &'static [(&'static str, &'static str)],
    /// Whether GGUF has the rows of queries and keys in the order of pairs of dimensions, not of halves.
    permuted: bool,
    /// Whether Hugging Face's weights of norms are what is added to 1.
    norms_from_one: bool,
    /// Whether q, k and v, and gate and up, are one tensor each.
    fused: bool,
    /// What Hugging Face's class takes where a configuration doesn't say a key at all, not even null.
    unsaid: &'static [(&'static str, u64)],
}

/// Every family that is known.
pub static FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &mistral::MISTRAL,
    &mixtral::MIXTRAL,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
    &qwen3moe::QWEN3MOE,
    &gemma2::GEMMA2,
    &gemma3::GEMMA3,
    &phi3::PHI3,
];

pub(crate) const NUM_LAYERS: Key = Key("block_count", "num_hidden_layers");
const HIDDEN_SIZE: Key = Key("embedding_length", "hidden_size");
const INTERMEDIATE_SIZE: Key = Key("feed_forward_length", "intermediate_size");
const NUM_HEADS: Key = Key("attention.head_count", "num_attention_heads");
const NUM_KV_HEADS: Key = Key("attention.head_count_kv", "num_key_value_heads");
const MAX_CONTEXT: Key = Key("context_length", "max_position_embeddings");
const VOCAB_SIZE: Key = Key("vocab_size", "vocab_size");
const NORM_EPS: Key = Key("attention.layer_norm_rms_epsilon", "rms_norm_eps");
const ROPE_THETA: Key = Key("rope.freq_base", "rope_theta");
const HEAD_DIM: Key = Key("attention.key_length", "head_dim");
const VALUE_DIM: Key = Key("attention.value_length", "");
const ROTARY_DIM: Key = Key("rope.dimension_count", "");
const SLIDING_WINDOW: Key = Key("attention.sliding_window", "sliding_window");
const TIED: Key = Key("", "tie_word_embeddings");
const ATTENTION_BIAS: Key = Key("", "attention_bias");
const MLP_BIAS: Key = Key("", "mlp_bias");
const ACTIVATION: Key = Key("", "hidden_act");

/// Most layers: what is more is a damaged file.
const MOST_LAYERS: usize = 512;

/// Most dimensions of a head.
const MOST_DIMENSIONS: usize = 1 << 16;

/// A model's family and shape, and what is odd about its file.
#[derive(Debug)]
pub struct Known {
    /// The family.
    pub family: &'static Family,
    /// The shape.
    pub config: Config,
    /// What is odd, but no reason to refuse it.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a GGUF file is, by its metadata; every tensor that the family needs is there with its shape.
///
/// # Errors
/// When the architecture is missing or unknown, or a key or tensor is missing, wrong, or of the wrong shape.
pub fn of_gguf(file: &gguf::File) -> Result<Known, Error> {
    let (family, config) = config_of_gguf(file)?;
    let mut warnings = family.check(&config, file.tensors(), Form::Gguf)?;
    warnings.extend(other::not_read(family, file));
    Ok(Known { family, config, warnings })
}

/// The same by the metadata alone, without a look at the tensors' shapes.
///
/// # Errors
/// When the architecture is missing or unknown, or a key is missing or wrong.
pub fn config_of_gguf(file: &gguf::File) -> Result<(&'static Family, Config), Error> {
    let key = "general.architecture";
    let help = "get a model of a family that is supported, or a newer version of Rondo";
    let Some(value) = file.metadata().get(key) else {
        return Err(file.key_error(key, "it is missing: the file doesn't say what model it is", help));
    };
    let Some(architecture) = value.text() else {
        return Err(file.key_error(key, format!("its type is {}; it must be a string", value.kind().name()), help));
    };
    let source = Source::Gguf { file, architecture };
    // Three families are one architecture.
    let experts = source.size(mixtral::EXPERTS)?.unwrap_or(0) > 0;
    let window = source.size(SLIDING_WINDOW)?.unwrap_or(0) > 0;
    let llama = match (experts, window) {
        (true, _) => "mixtral",
        (false, true) => "mistral",
        (false, false) => "llama",
    };
    let fits =
        |family: &&&Family| family.architecture == architecture && (architecture != "llama" || family.name == llama);
    match FAMILIES.iter().find(fits) {
        Some(family) => Ok((family, read(family, &source)?)),
        None => Err(file.key_error(key, unknown("architecture", architecture, |family| family.architecture), help)),
    }
}

/// What a model of Hugging Face's is, by its `config.json`.
///
/// # Errors
/// When the file can't be read, the architecture is missing or unknown, or a key is missing or wrong.
pub fn of_config_json(path: &Path) -> Result<(&'static Family, Config, ConfigFile), Error> {
    let mut file = ConfigFile::open(path)?;
    let class = file.get("architectures").and_then(|list| list.get(0)).and_then(|class| class.as_str());
    let model_type = file.get("model_type").and_then(|kind| kind.as_str());
    let family = match (class, model_type) {
        (Some(class), _) => FAMILIES.iter().find(|family| family.class == class),
        (None, Some(kind)) => FAMILIES.iter().find(|family| family.model_type == kind),
        (None, None) => return Err(file.error("architectures", "it is missing: the file doesn't say what model it is")),
    };
    let Some(family) = family else {
        let what = match class {
            Some(class) => unknown("class", class, |family| family.class),
            None => unknown("model type", model_type.unwrap_or_default(), |family| family.model_type),
        };
        return Err(file.error(if class.is_some() { "architectures" } else { "model_type" }, what));
    };
    family.unsaid.iter().for_each(|(key, value)| file.unsaid(key, *value));
    let config = read(family, &Source::HuggingFace(&file))?;
    applied::check(family, &config, &file)?;
    Ok((family, config, file))
}

fn unknown(what: &str, name: &str, known: fn(&Family) -> &'static str) -> String {
    let short: String = name.chars().take(48).collect();
    let mut names: Vec<_> = FAMILIES.iter().map(|family| known(family)).collect();
    names.dedup();
    format!("the {what} {short:?} is not supported; supported are {}", names.join(", "))
}

/// What every family's files say.
fn read(family: &Family, source: &Source) -> Result<Config, Error> {
    let bounded = |key: Key, most: usize| match source.need(key)? {
        size if size == 0 || size > most => {
            Err(source.error(key, format!("it is {size}; it must be from 1 to {most}")))
        }
        size => Ok(size),
    };
    let num_heads = bounded(NUM_HEADS, 4096)?;
    let num_kv_heads = source.size(NUM_KV_HEADS)?.unwrap_or(num_heads);
    if num_kv_heads == 0 || num_kv_heads > num_heads || !num_heads.is_multiple_of(num_kv_heads) {
        return Err(
            source.error(NUM_KV_HEADS, format!("it is {num_kv_heads}, which {num_heads} heads can't share evenly"))
        );
    }
    let mut config = Config {
        vocab_size: vocabulary(source)?,
        hidden_size: bounded(HIDDEN_SIZE, 1 << 20)?,
        num_layers: bounded(NUM_LAYERS, MOST_LAYERS)?,
        num_heads,
        num_kv_heads,
        intermediate_size: bounded(INTERMEDIATE_SIZE, 1 << 24)?,
        max_context: bounded(MAX_CONTEXT, 1 << 30)?,
        mixer: Mixer::Attention,
        norm: Norm::RmsNorm,
        norm_eps: source.number(NORM_EPS)?.ok_or_else(|| source.error(NORM_EPS, "it is missing"))?,
        positions: Positions::Rope,
        rope_theta: rope::theta(source)?,
        rope_scaling: Default::default(),
        mlp: Mlp::Swiglu,
        attention_bias: bias(source, ATTENTION_BIAS, "blk.0.attn_output.bias")?,
        mlp_bias: bias(source, MLP_BIAS, "blk.0.ffn_down.bias")?,
        tied_embeddings: match source {
            Source::Gguf { file, .. } => file.tensor("output.weight").is_none(),
            Source::HuggingFace(_) => source.flag(TIED)?.unwrap_or(false),
        },
        features: Features::default(),
    };
    let in_part = matches!(source, Source::Gguf { file, .. } if file.tensor("blk.0.attn_q.bias").is_some());
    config.features.qkv_bias = in_part && !config.attention_bias;
    let even = config.hidden_size / num_heads;
    config.features.head_dim =
        source.size(HEAD_DIM)?.filter(|dim| *dim != even || dim * num_heads != config.hidden_size);
    if config.features.head_dim.is_none() && !config.hidden_size.is_multiple_of(num_heads) {
        let hidden = config.hidden_size;
        return Err(source.error(NUM_HEADS, format!("it is {num_heads}, which doesn't divide the width {hidden}")));
    }
    let head_dim = config.head_dim();
    if let Some(other) = source.size(VALUE_DIM)?.filter(|dim| *dim != head_dim) {
        return Err(source
            .unsupported(VALUE_DIM, format!("it is {other}, and keys are {head_dim} wide: that is not supported")));
    }
    config.features.rotary_dim = source.size(ROTARY_DIM)?.filter(|dim| *dim != head_dim);
    // Before anything is made of so many dimensions.
    for (key, dim) in [(HEAD_DIM, head_dim), (ROTARY_DIM, config.features.rotary_dim.unwrap_or(2))] {
        if !(2..=MOST_DIMENSIONS).contains(&dim) || dim % 2 > 0 {
            let key = if source.has(key) { key } else { NUM_HEADS };
            let what = format!("heads of {dim} dimensions; they must be even, from 2 to {MOST_DIMENSIONS}");
            return Err(source.error(key, what));
        }
    }
    (family.read)(&mut config, source)?;
    rope::read(&mut config, source)?;
    match config.problem() {
        None => Ok(config),
        Some(what) => Err(match source {
            Source::Gguf { file, .. } => file.key_error("general.architecture", what, "get the file again"),
            Source::HuggingFace(file) => Problem::new(0, "the model's shape", what).within(&file.path),
        }),
    }
}

/// Whether there are biases: GGUF files say it by having them.
fn bias(source: &Source, key: Key, tensor: &str) -> Result<bool, Error> {
    match source {
        Source::Gguf { file, .. } => Ok(file.tensor(tensor).is_some()),
        Source::HuggingFace(_) => Ok(source.flag(key)?.unwrap_or(false)),
    }
}

/// How many tokens there are: GGUF files don't always say it.
fn vocabulary(source: &Source) -> Result<usize, Error> {
    let most = 1 << 24;
    let said = match source {
        Source::Gguf { file, .. } => match source.size(VOCAB_SIZE)? {
            None => file.tensor("token_embd.weight").and_then(|(tensor, _)| tensor.shape.first().copied()),
            said => said,
        },
        Source::HuggingFace(_) => source.size(VOCAB_SIZE)?,
    };
    match said {
        Some(size) if size > 0 && size <= most => Ok(size),
        Some(size) => Err(source.error(VOCAB_SIZE, format!("it is {size}; it must be from 1 to {most}"))),
        None => Err(source.error(VOCAB_SIZE, "it is missing")),
    }
}

impl Family {
    /// The family by its name.
    pub fn named(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name).copied()
    }

    /// A configuration of this family in both forms.
    pub fn describe(&self, config: &Config) -> Described {
        let mut out = Described::new(self.architecture);
        out.hugging_face.insert("architectures".into(), serde_json::json!([self.class]));
        out.hugging_face.insert("model_type".into(), self.model_type.into());
        for (key, size) in [
            (NUM_LAYERS, config.num_layers),
            (MAX_CONTEXT, config.max_context),
            (HIDDEN_SIZE, config.hidden_size),
            (INTERMEDIATE_SIZE, config.intermediate_size),
            (NUM_HEADS, config.num_heads),
            (NUM_KV_HEADS, config.kv_heads()),
            (VOCAB_SIZE, config.vocab_size),
        ] {
            out.size(key, size);
        }
        out.number(ROPE_THETA, config.rope_theta);
        out.number(NORM_EPS, config.norm_eps);
        out.flag(TIED, config.tied_embeddings);
        out.text(ACTIVATION, if config.features.gelu_gate { "gelu_pytorch_tanh" } else { "silu" });
        match config.features.head_dim {
            Some(dim) => [HEAD_DIM, VALUE_DIM].into_iter().for_each(|key| out.size(key, dim)),
            // Some of Hugging Face's classes have a width of their own where none is said.
            None => out.size(Key("", HEAD_DIM.1), config.head_dim()),
        }
        if let Some(dim) = config.features.rotary_dim {
            out.size(ROTARY_DIM, dim);
        }
        rope::write(config, &mut out);
        (self.write)(config, &mut out);
        out
    }
}

/// For families that say nothing more.
fn nothing_more(_: &Config, _: &mut Described) {}

#[cfg(test)]
mod tests;
