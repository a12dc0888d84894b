//! The shape of a transformer as plain data.

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

/// A pre-norm transformer with learned positions, GELU MLPs and an untied head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Tokens that there are.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers, each a mixer and an MLP.
    pub num_layers: usize,
    /// Attention heads; their width is `hidden_size / num_heads`.
    pub num_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Positions that there are.
    pub max_context: usize,
    /// What a layer does before its MLP.
    pub mixer: Mixer,
    /// What layer normalisation adds to the variance.
    pub norm_eps: f32,
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
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_heads);
            return Some(format!("hidden_size is {hidden}, which {heads} heads (num_heads) do not divide"));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return Some(format!("norm_eps is {}; it must be a positive number", self.norm_eps));
        }
        None
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_heads
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
            intermediate_size: 1024,
            max_context: 16,
            mixer: Mixer::Attention,
            norm_eps: 1e-5,
        };
        assert_eq!(good.problem(), None);
        let heads = Config { num_heads: 3, ..good.clone() };
        assert_eq!(heads.problem().unwrap(), "hidden_size is 256, which 3 heads (num_heads) do not divide");
        assert!(Config { num_layers: 0, ..good.clone() }.problem().unwrap().starts_with("num_layers is 0"));
        assert!(Config { vocab_size: 1 << 40, ..good.clone() }.problem().unwrap().starts_with("vocab_size"));
        assert!(Config { norm_eps: f32::NAN, ..good }.problem().unwrap().starts_with("norm_eps"));
    }
}
