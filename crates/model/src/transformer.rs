//! The one transformer assembly: a pre-norm decoder with learned positions (Vaswani et al. 2017; Radford et al. 2019).

use crate::config::{Config, Mixer};
use graph::{Tensor, Tracer};
use ops::attention::attention;
use ops::elementwise::{add, gelu};
use ops::embed::embed;
use ops::layer_norm::layer_norm;
use ops::matmul::linear;
use tensor::{DType, Shape};

/// Logits [tokens, vocab_size] of packed sequences.
///
/// `tokens` u32 [tokens] are the ids, `positions` u32 [tokens] each token's place in its sequence, and `cu_seqlens`
/// u32 [sequences + 1] where each sequence starts, with the number of tokens at the end.
#[track_caller]
pub fn transformer(g: &Tracer, config: &Config, tokens: &Tensor, positions: &Tensor, cu_seqlens: &Tensor) -> Tensor {
    let (vocab, hidden, context) = (config.vocab_size, config.hidden_size, config.max_context);
    let whole = Scope { g, prefix: String::new() };
    let words = embed(tokens, &whole.weight("embed_tokens.weight", [vocab, hidden]));
    let places = embed(positions, &whole.weight("embed_positions.weight", [context, hidden]));
    let mut x = add(&words, &places); // [tokens, hidden]
    for i in 0..config.num_layers {
        let layer = Scope { g, prefix: format!("layers.{i}.") };
        x = add(&x, &mix(&layer, config, &layer.norm("attention_norm", config, &x), cu_seqlens));
        x = add(&x, &mlp(&layer, config, &layer.norm("mlp_norm", config, &x)));
    }
    linear(&whole.norm("final_norm", config, &x), &whole.weight("lm_head.weight", [vocab, hidden]))
}

/// Between positions: O(attention(Q x, K x, V x)), or O(V x) where nothing is mixed.
#[track_caller]
fn mix(layer: &Scope, config: &Config, x: &Tensor, cu_seqlens: &Tensor) -> Tensor {
    let hidden = config.hidden_size;
    let mixed = match config.mixer {
        Mixer::Attention => {
            let qkv = linear(x, &layer.weight("attention.qkv_proj.weight", [3 * hidden, hidden])); // [tokens, 3 hidden]
            attention(&qkv, cu_seqlens, config.num_heads, config.num_heads)
        }
        Mixer::Value => linear(x, &layer.weight("attention.v_proj.weight", [hidden, hidden])),
    };
    linear(&mixed, &layer.weight("attention.o_proj.weight", [hidden, hidden]))
}

/// Within a position: W2 gelu(W1 x + b1) + b2.
#[track_caller]
fn mlp(layer: &Scope, config: &Config, x: &Tensor) -> Tensor {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let up = linear(x, &layer.weight("mlp.up_proj.weight", [wide, hidden])); // [tokens, intermediate]
    let up = gelu(&add(&up, &layer.weight("mlp.up_proj.bias", [wide])));
    let down = linear(&up, &layer.weight("mlp.down_proj.weight", [hidden, wide]));
    add(&down, &layer.weight("mlp.down_proj.bias", [hidden]))
}

/// Names parameters under a prefix.
struct Scope<'a> {
    g: &'a Tracer,
    prefix: String,
}

impl Scope<'_> {
    #[track_caller]
    fn weight(&self, name: &str, shape: impl Into<Shape>) -> Tensor {
        self.g.parameter(&format!("{}{name}", self.prefix), DType::F32, shape)
    }

    #[track_caller]
    fn norm(&self, name: &str, config: &Config, x: &Tensor) -> Tensor {
        let weight = self.weight(&format!("{name}.weight"), [config.hidden_size]);
        let bias = self.weight(&format!("{name}.bias"), [config.hidden_size]);
        layer_norm(x, &weight, &bias, config.norm_eps)
    }
}
