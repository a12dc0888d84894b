//! What published families of models have beyond the plain transformer, as plain data.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// How rotary frequencies are changed for contexts longer than the one that the model began with; Llama 3's way has its
/// own keys in `Config`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RopeChange {
    /// Not at all.
    #[default]
    None,
    /// Every frequency is divided by `factor`.
    Linear {
        /// What they are divided by.
        factor: f32,
    },
    /// YaRN (arXiv 2309.00071).
    Yarn {
        /// What the lowest frequencies are divided by.
        factor: f32,
        /// Positions of the original context.
        original_max_position: usize,
        /// Dimensions that turn at least this often over the original context stay as they are.
        beta_fast: f32,
        /// Dimensions that turn at most this often over it are divided by the whole factor.
        beta_slow: f32,
        /// What sines and cosines are multiplied by; none for 0.1 ln(factor) + 1.
        attention_factor: Option<f32>,
    },
    /// Phi 3's: each frequency is divided by its own factor, one list for short contexts and one for long ones.
    LongRope {
        /// Factors up to the original context, one for each pair of dimensions.
        short: Vec<f32>,
        /// Factors beyond it.
        long: Vec<f32>,
        /// Positions of the original context.
        original_max_position: usize,
        /// What sines and cosines are multiplied by; none for sqrt(1 + ln(context / original) / ln(original)).
        attention_factor: Option<f32>,
    },
    /// Each frequency is divided by its own factor.
    Factors {
        /// One for each pair of dimensions.
        factors: Vec<f32>,
    },
}

/// Layers whose attention sees only the last positions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlidingWindow {
    /// Positions that they see, the token's own among them.
    pub positions: usize,
    /// Of this many layers in a row the last one sees everything; 0 where none does.
    pub pattern: usize,
    /// The base of these layers' rotary wavelengths, where it isn't `rope_theta`.
    pub rope_theta: Option<f32>,
}

/// A mixture of experts in place of the MLP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many each token goes to.
    pub per_token: usize,
    /// Width of one.
    pub intermediate_size: usize,
    /// Whether the weights of the chosen ones are made to sum to 1.
    pub normalized: bool,
}

/// What a model has beyond the plain transformer; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Width of one head, where it isn't `hidden_size / num_heads`.
    pub head_dim: Option<usize>,
    /// Dimensions of each head that are turned, where it isn't all of them.
    pub rotary_dim: Option<usize>,
    /// Biases on the projections to queries, keys and values, and on no other.
    pub qkv_bias: bool,
    /// RMS norm of each head's query and key.
    pub qk_norm: bool,
    /// What scores are multiplied by, where it isn't 1 / sqrt(head_dim).
    pub score_scale: Option<f32>,
    /// Scores become cap tanh(score / cap).
    pub score_cap: Option<f32>,
    /// Logits become cap tanh(logit / cap).
    pub logit_cap: Option<f32>,
    /// What a token's vector is multiplied by.
    pub embedding_scale: Option<f32>,
    /// Norms of what attention and MLP give, before it is added.
    pub post_norms: bool,
    /// The gate is gelu (its tanh form), not silu.
    pub gelu_gate: bool,
    /// Layers whose attention sees only the last positions.
    pub sliding_window: Option<SlidingWindow>,
    /// How rotary frequencies are changed.
    pub rope: RopeChange,
    /// A mixture of experts in place of the MLP.
    pub experts: Option<Experts>,
}

impl Features {
    /// Whether there is nothing beyond the plain transformer.
    pub fn is_none(&self) -> bool {
        *self == Features::default()
    }

    /// What the transformer can't compute yet, by name.
    pub fn unsupported(&self) -> Vec<&'static str> {
        let all = [
            (self.head_dim.is_some(), "heads of their own width (head_dim)"),
            (self.rotary_dim.is_some(), "heads that are turned in part (rotary_dim)"),
            (self.qkv_bias, "biases on queries, keys and values alone"),
            (self.qk_norm, "norms of queries and keys"),
            (self.score_scale.is_some(), "a scale of attention scores"),
            (self.score_cap.is_some(), "soft-capped attention scores"),
            (self.logit_cap.is_some(), "soft-capped logits"),
            (self.embedding_scale.is_some(), "scaled embeddings"),
            (self.post_norms, "norms after attention and MLP"),
            (self.gelu_gate, "a gelu gate"),
            (self.sliding_window.is_some(), "sliding-window attention"),
            (self.rope != RopeChange::None, "linear, YaRN or longrope scaling of rotary positions"),
            (self.experts.is_some(), "a mixture of experts"),
        ];
        all.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect()
    }

    /// What is wrong with it in a model of `num_layers` layers, key first, or nothing.
    pub fn problem(&self, num_layers: usize) -> Option<String> {
        let positive = |name: &str, value: Option<f32>| {
            let value = value.filter(|value| !(value.is_finite() && *value > 0.0))?;
            Some(format!("{name} is {value}; it must be a positive number"))
        };
        let sizes = [("head_dim", self.head_dim), ("rotary_dim", self.rotary_dim)];
        if let Some((name, size)) =
            sizes.iter().find(|(_, size)| size.is_some_and(|s| s == 0 || s > 1 << 16 || s % 2 > 0))
        {
            return Some(format!("{name} is {}; it must be even, from 2 to 65536", size.unwrap_or(0)));
        }
        if let Some(window) = &self.sliding_window
            && (window.positions == 0 || window.pattern > num_layers.max(64))
        {
            return Some(format!("sliding_window is {} positions in layers by {}", window.positions, window.pattern));
        }
        if let Some(experts) = &self.experts {
            let (count, used) = (experts.count, experts.per_token);
            if count == 0 || count > 4096 {
                return Some(format!("the number of experts is {count}; it must be from 1 to 4096"));
            }
            if used == 0 || used > count {
                return Some(format!("experts_per_token is {used}; it must be from 1 to {count}, their number"));
            }
            if experts.intermediate_size == 0 || experts.intermediate_size > 1 << 31 {
                return Some(format!("the experts' width is {}", experts.intermediate_size));
            }
        }
        let rope = match &self.rope {
            RopeChange::Linear { factor } | RopeChange::Yarn { factor, .. } => {
                positive("rope scaling's factor", Some(*factor))
            }
            RopeChange::LongRope { short, long, .. } => {
                short.iter().chain(long).find_map(|factor| positive("a rope factor", Some(*factor)))
            }
            RopeChange::Factors { factors } => factors.iter().find_map(|f| positive("a rope factor", Some(*f))),
            RopeChange::None => None,
        };
        rope.or_else(|| positive("score_scale", self.score_scale))
            .or_else(|| positive("score_cap", self.score_cap))
            .or_else(|| positive("logit_cap", self.logit_cap))
            .or_else(|| positive("embedding_scale", self.embedding_scale))
    }
}
