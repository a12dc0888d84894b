//! The shape of a transformer as plain data.
#![forbid(unsafe_code)]

use crate::features::Features;
use ops::rope::Scaling;
use serde::{Deserialize, Serialize};

/// What a layer does before its MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mixer {
    /// Causal multi-head attention.
    Attention,
    /// A projection to values and one back, position by position: nothing is mixed between positions.
    Value,
}

/// What normalises the residual stream before a mixer, an MLP and the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Layer norm, with weight and bias.
    LayerNorm,
    /// RMS norm, with a weight.
    RmsNorm,
}

/// How a token's place is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// A learned vector for each place, added to the token's.
    Learned,
    /// Queries and keys turned by their place.
    Rope,
}

/// What a layer does within a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mlp {
    /// down(gelu(up(x))).
    Gelu,
    /// down(silu(gate(x)) up(x)).
    Swiglu,
}

/// Llama 3.1's scaling of rotary frequencies; see `ops::rope`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RopeScaling {
    /// What the lowest frequencies are divided by; 1 for no scaling.
    #[serde(rename = "rope_scaling_factor", serialize_with = "shortest")]
    pub factor: f32,
    /// Dimensions that turn at most this often over the original context are divided by the whole factor.
    #[serde(rename = "rope_scaling_low_freq_factor", serialize_with = "shortest")]
    pub low_freq_factor: f32,
    /// Dimensions that turn at least this often over it stay as they are.
    #[serde(rename = "rope_scaling_high_freq_factor", serialize_with = "shortest")]
    pub high_freq_factor: f32,
    /// Positions of the original context.
    #[serde(rename = "rope_scaling_original_max_position")]
    pub original_max_position: usize,
}

impl Default for RopeScaling {
    /// No scaling.
    fn default() -> Self {
        let none = Scaling::NONE;
        RopeScaling {
            factor: none.factor,
            low_freq_factor: none.low_freq_factor,
            high_freq_factor: none.high_freq_factor,
            original_max_position: none.original_max_position,
        }
    }
}

impl From<RopeScaling> for Scaling {
    fn from(s: RopeScaling) -> Scaling {
        Scaling {
            factor: s.factor,
            low_freq_factor: s.low_freq_factor,
            high_freq_factor: s.high_freq_factor,
            original_max_position: s.original_max_position,
        }
    }
}

/// A pre-norm transformer: by its kinds of norm, positions and MLP that of GPT-2, of Llama, or between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Tokens that there are.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers, each a mixer and an MLP.
    pub num_layers: usize,
    /// Attention heads; their width is `hidden_size / num_heads` where `features` says nothing else.
    pub num_heads: usize,
    /// Heads of keys and values, each shared by as many heads of queries; 0 for `num_heads`.
    pub num_kv_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Positions that there are.
    pub max_context: usize,
    /// What a layer does before its MLP.
    pub mixer: Mixer,
    /// What normalises the residual stream.
    pub norm: Norm,
    /// What the norm adds to the variance or the mean square.
    #[serde(serialize_with = "shortest")]
    pub norm_eps: f32,
    /// How a token's place is told.
    pub positions: Positions,
    /// With `rope`: the base of the wavelengths, which go from 2 pi to 2 pi times nearly this.
    #[serde(serialize_with = "shortest")]
    pub rope_theta: f32,
    /// With `rope`: lower frequencies for contexts longer than the one that the model began with.
    #[serde(flatten)]
    pub rope_scaling: RopeScaling,
    /// What a layer does within a position.
    pub mlp: Mlp,
    /// Whether the mixer's projections have biases.
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether the head is the table of the tokens' vectors.
    pub tied_embeddings: bool,
    /// What the model has beyond that; by default nothing.
    #[serde(default, skip_serializing_if = "Features::is_none")]
    pub features: Features,
}

/// A number with the fewest digits that are it, also where it becomes an f64 on its way to a file.
fn shortest<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(tensor::number::shortest(*value))
}

/// Sizes above this are a mistake: nothing that fits a machine has them.
const LARGEST: usize = 1 << 31;

impl Config {
    /// What is wrong with it, key first, or nothing.
    pub fn problem(&self) -> Option<String> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_layers", self.num_layers),
            ("num_heads", self.num_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_context", self.max_context),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| *size == 0 || *size > LARGEST) {
            return Some(format!("{name} is {size}; it must be from 1 to {LARGEST}"));
        }
        if self.num_kv_heads > self.num_heads {
            let (heads, kv_heads) = (self.num_heads, self.num_kv_heads);
            return Some(format!("num_kv_heads is {kv_heads}, more than the {heads} heads (num_heads)"));
        }
        if let Some(what) = self.features.problem(self.num_layers) {
            return Some(what);
        }
        if self.features.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_heads);
            return Some(format!("hidden_size is {hidden}, which {heads} heads (num_heads) do not divide"));
        }
        if !self.num_heads.is_multiple_of(self.kv_heads()) {
            let (heads, kv_heads) = (self.num_heads, self.num_kv_heads);
            return Some(format!("num_kv_heads is {kv_heads}, which {heads} heads (num_heads) can't share evenly"));
        }
        if self.positions == Positions::Rope {
            if self.mixer == Mixer::Value {
                return Some("positions is rope, and mixer is value, which has no queries and keys to turn".into());
            }
            if !self.head_dim().is_multiple_of(2) {
                return Some(format!("positions is rope, and heads are {} wide; they must be even", self.head_dim()));
            }
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Some(format!("rope_theta is {}; it must be a number from 1 on", self.rope_theta));
        }
        if self.rope_scaling.original_max_position > LARGEST {
            let most = self.rope_scaling.original_max_position;
            return Some(format!("rope_scaling_original_max_position is {most}; it must be from 1 to {LARGEST}"));
        }
        if let Some(what) = Scaling::from(self.rope_scaling).problem() {
            return Some(format!("rope_scaling_{what}"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Some(format!("norm_eps is {}; it must be a positive number", self.norm_eps));
        }
        None
    }

    /// Numbers in all parameters; `u64::MAX` where that is more than can be counted.
    pub fn num_parameters(&self) -> u64 {
        let size = |x: usize| x as u128;
        let (hidden, wide, vocab) = (size(self.hidden_size), size(self.intermediate_size), size(self.vocab_size));
        let linear = |outputs: u128, inputs: u128, bias: bool| outputs * inputs + if bias { outputs } else { 0 };
        let norm = if self.norm == Norm::LayerNorm { 2 * hidden } else { hidden };
        let head_dim = size(self.head_dim());
        let (mixed, seen) = match self.mixer {
            Mixer::Attention => {
                (size(self.num_heads + 2 * self.kv_heads()) * head_dim, size(self.num_heads) * head_dim)
            }
            Mixer::Value => (hidden, hidden),
        };
        let qkv_bias = self.attention_bias || self.features.qkv_bias;
        let mix = linear(mixed, hidden, qkv_bias) + linear(hidden, seen, self.attention_bias);
        let mlp = |wide: u128| {
            let up = if self.mlp == Mlp::Swiglu { 2 * wide } else { wide };
            linear(up, hidden, self.mlp_bias) + linear(hidden, wide, self.mlp_bias)
        };
        let mlp = match &self.features.experts {
            Some(experts) => size(experts.count) * (mlp(size(experts.intermediate_size)) + hidden),
            None => mlp(wide),
        };
        let norms = if self.features.post_norms { 4 } else { 2 } * norm;
        let head_norms = if self.features.qk_norm { 2 * head_dim } else { 0 };
        let positions = if self.positions == Positions::Learned { size(self.max_context) * hidden } else { 0 };
        let head = if self.tied_embeddings { 0 } else { vocab * hidden };
        let layers = size(self.num_layers) * (norms + head_norms + mix + mlp);
        u64::try_from(vocab * hidden + positions + layers + norm + head).unwrap_or(u64::MAX)
    }

    /// What of it the transformer can't compute yet, or nothing.
    pub fn unsupported(&self) -> Option<String> {
        let missing = self.features.unsupported();
        (!missing.is_empty()).then(|| format!("the model has {}, which can't be computed yet", missing.join(", ")))
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.features.head_dim.unwrap_or(self.hidden_size / self.num_heads)
    }

    /// Heads of keys and values.
    pub fn kv_heads(&self) -> usize {
        if self.num_kv_heads == 0 { self.num_heads } else { self.num_kv_heads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_sense_are_named() {
        let good = Config {
            vocab_size: 128,
            hidden_size: 256,
            num_layers: 4,
            num_heads: 4,
            num_kv_heads: 0,
            intermediate_size: 1024,
            max_context: 16,
            mixer: Mixer::Attention,
            norm: Norm::LayerNorm,
            norm_eps: 1e-5,
            positions: Positions::Learned,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::default(),
            mlp: Mlp::Gelu,
            attention_bias: false,
            mlp_bias: true,
            tied_embeddings: false,
            features: Features::default(),
        };
        assert_eq!(good.problem(), None);
        let file = serde_json::to_value(Config { norm_eps: 1e-6, ..good.clone() }).unwrap();
        assert_eq!((&file["norm_eps"], &file["rope_theta"]), (&1e-6.into(), &1e4.into()));
        let heads = Config { num_heads: 3, ..good.clone() };
        assert_eq!(heads.problem().unwrap(), "hidden_size is 256, which 3 heads (num_heads) do not divide");
        assert!(Config { num_layers: 0, ..good.clone() }.problem().unwrap().starts_with("num_layers is 0"));
        assert!(Config { vocab_size: 1 << 40, ..good.clone() }.problem().unwrap().starts_with("vocab_size"));
        let shared = Config { num_kv_heads: 3, ..good.clone() };
        assert_eq!(shared.problem().unwrap(), "num_kv_heads is 3, which 4 heads (num_heads) can't share evenly");
        assert_eq!(Config { num_kv_heads: 2, ..good.clone() }.problem(), None);
        let turned = Config { positions: Positions::Rope, ..good.clone() };
        assert_eq!(turned.problem(), None);
        assert!(Config { mixer: Mixer::Value, ..turned.clone() }.problem().unwrap().contains("mixer is value"));
        assert!(Config { num_heads: 256, ..turned.clone() }.problem().unwrap().contains("heads are 1 wide"));
        assert!(Config { rope_theta: 0.5, ..turned }.problem().unwrap().starts_with("rope_theta is 0.5"));
        let scaled = RopeScaling { factor: 0.5, ..RopeScaling::default() };
        let scaled = Config { rope_scaling: scaled, ..good.clone() };
        assert!(scaled.problem().unwrap().starts_with("rope_scaling_factor is 0.5"));
        assert!(Config { norm_eps: f32::NAN, ..good }.problem().unwrap().starts_with("norm_eps"));
    }
}
