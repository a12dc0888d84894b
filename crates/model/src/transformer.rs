//! The one transformer assembly: a pre-norm decoder, of GPT-2's type (Radford et al. 2019) or Llama's (arXiv 2302.13971).

use crate::config::{Config, Mixer, Mlp, Norm, Positions};
use graph::{Tensor, Tracer};
use ops::attention::attention;
use ops::cached_attention::cached_attention;
use ops::cast::cast;
use ops::elementwise::{add, gelu};
use ops::embed::embed;
use ops::kv_append::kv_append;
use ops::layer_norm::layer_norm;
use ops::matmul::linear;
use ops::rms_norm::rms_norm;
use ops::rope::rope_scaled;
use ops::swiglu::swiglu;
use tensor::{DType, Shape};

/// Logits [tokens, vocab_size] of packed sequences.
///
/// `tokens` u32 [tokens] are the ids, `positions` u32 [tokens] each token's place in its sequence, and `cu_seqlens`
/// u32 [sequences + 1] where each sequence starts, with the number of tokens at the end.
pub fn transformer(g: &Tracer, config: &Config, tokens: &Tensor, positions: &Tensor, cu_seqlens: &Tensor) -> Tensor {
    transformer_in(g, config, DType::F32, tokens, positions, cu_seqlens)
}

/// The same, computed and stored as `compute`: f32, bf16 or f16. Parameters are f32; each is cast once, and what is looked
/// up in a table after it was.
pub fn transformer_in(
    g: &Tracer,
    config: &Config,
    compute: DType,
    tokens: &Tensor,
    positions: &Tensor,
    cu_seqlens: &Tensor,
) -> Tensor {
    head(g, config, &body_in(g, config, compute, tokens, positions, &Sight::Packed { cu_seqlens }))
}

/// What a token's attention sees.
pub enum Sight<'a> {
    /// The tokens before it in its sequence, which are all here: `cu_seqlens` u32 [sequences + 1] says where each starts.
    Packed {
        /// Where each sequence starts, and the end of the last.
        cu_seqlens: &'a Tensor,
    },
    /// What the cache holds of its sequence, with the tokens here appended.
    Cached(Cache<'a>),
}

/// The region of cached keys and values, with entries `layers.{i}.key` and `.value` [slots, kv heads x head_dim].
pub const KV_CACHE: &str = "kv_cache";

/// Where the tokens of a step stand in the cache; see `ops::cached_attention`.
pub struct Cache<'a> {
    /// Slots of the cache, in blocks of `block_size`.
    pub slots: usize,
    /// Slots of a block.
    pub block_size: usize,
    /// u32 [tokens]: each token's slot.
    pub slot_mapping: &'a Tensor,
    /// u32 [sequences, blocks]: which blocks hold a sequence's positions, in order.
    pub block_table: &'a Tensor,
    /// u32 [sequences]: positions of each sequence, with its tokens here.
    pub context_lens: &'a Tensor,
    /// u32 [sequences + 1]: the first token of each sequence, and the end of the last.
    pub cu_seqlens: &'a Tensor,
}

/// The residual stream after the last layer, with the tokens' table, which may be the head as well.
pub struct Stream {
    /// [tokens, hidden_size].
    pub x: Tensor,
    table: Tensor,
}

/// The layers. Parameters are traced in one order, so that steps that need only some of them find them at the same offsets.
pub fn body(g: &Tracer, config: &Config, tokens: &Tensor, positions: &Tensor, sight: &Sight) -> Stream {
    body_in(g, config, DType::F32, tokens, positions, sight)
}

/// The same, computed and stored as `compute`.
pub fn body_in(
    g: &Tracer,
    config: &Config,
    compute: DType,
    tokens: &Tensor,
    positions: &Tensor,
    sight: &Sight,
) -> Stream {
    let (vocab, hidden, context) = (config.vocab_size, config.hidden_size, config.max_context);
    if let Some(what) = config.unsupported() {
        return Stream { x: g.mistake("transformer", what.clone()), table: g.mistake("transformer", what) };
    }
    let whole = Scope { g, prefix: String::new(), compute };
    let table = whole.parameter("embed_tokens.weight", [vocab, hidden]);
    let mut x = embed(tokens, &table); // [tokens, hidden]
    if config.positions == Positions::Learned {
        x = add(&x, &embed(positions, &whole.parameter("embed_positions.weight", [context, hidden])));
    }
    x = cast(&x, compute);
    for i in 0..config.num_layers {
        let layer = Scope { g, prefix: format!("layers.{i}."), compute };
        x = add(&x, &mix(&layer, config, &layer.norm("attention_norm", config, &x), positions, sight));
        x = add(&x, &mlp(&layer, config, &layer.norm("mlp_norm", config, &x)));
    }
    Stream { x, table }
}

/// Logits [rows, vocab_size] of rows of the residual stream, stored as that is.
pub fn head(g: &Tracer, config: &Config, stream: &Stream) -> Tensor {
    let whole = Scope { g, prefix: String::new(), compute: stream.x.dtype() };
    let x = whole.norm("final_norm", config, &stream.x);
    if config.tied_embeddings {
        return linear(&x, &cast(&stream.table, x.dtype()));
    }
    linear(&x, &whole.weight("lm_head.weight", [config.vocab_size, config.hidden_size]))
}

/// Between positions: O(attention(Q x, K x, V x)), or O(V x) where nothing is mixed.
fn mix(layer: &Scope, config: &Config, x: &Tensor, positions: &Tensor, sight: &Sight) -> Tensor {
    let (hidden, bias) = (config.hidden_size, config.attention_bias);
    let (heads, kv_heads, head_dim) = (config.num_heads, config.kv_heads(), config.head_dim());
    let mixed = match config.mixer {
        Mixer::Attention => {
            let columns = (heads + 2 * kv_heads) * head_dim;
            let mut qkv = layer.linear("attention.qkv_proj", [columns, hidden], bias, x); // [tokens, q k v]
            if config.positions == Positions::Rope {
                let (turned, theta, scaling) = (heads + kv_heads, config.rope_theta, config.rope_scaling.into());
                qkv = rope_scaled(&qkv, positions, turned, head_dim, theta, scaling);
            }
            match sight {
                Sight::Packed { cu_seqlens } => attention(&qkv, cu_seqlens, heads, kv_heads),
                Sight::Cached(cache) => layer.cached(cache, &qkv, config),
            }
        }
        Mixer::Value => layer.linear("attention.v_proj", [hidden, hidden], bias, x),
    };
    layer.linear("attention.o_proj", [hidden, hidden], bias, &mixed)
}

/// Within a position: W2 gelu(W1 x + b1) + b2, or W2 (silu(G x) (U x)), with G and U as one matrix.
fn mlp(layer: &Scope, config: &Config, x: &Tensor) -> Tensor {
    let (hidden, wide, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
    let up = match config.mlp {
        Mlp::Gelu => gelu(&layer.linear("mlp.up_proj", [wide, hidden], bias, x)),
        Mlp::Swiglu => swiglu(&layer.linear("mlp.gate_up_proj", [2 * wide, hidden], bias, x)),
    }; // [tokens, intermediate]
    layer.linear("mlp.down_proj", [hidden, wide], bias, &up)
}

/// Names parameters under a prefix.
struct Scope<'a> {
    g: &'a Tracer,
    prefix: String,
    compute: DType,
}

impl Scope<'_> {
    /// A parameter as it is kept.
    #[track_caller]
    fn parameter(&self, name: &str, shape: impl Into<Shape>) -> Tensor {
        self.g.parameter(&format!("{}{name}", self.prefix), DType::F32, shape)
    }

    /// A parameter as it is computed with.
    #[track_caller]
    fn weight(&self, name: &str, shape: impl Into<Shape>) -> Tensor {
        cast(&self.parameter(name, shape), self.compute)
    }

    /// A product with a weight [outputs, inputs], and its bias if there is one.
    #[track_caller]
    fn linear(&self, name: &str, shape: [usize; 2], bias: bool, x: &Tensor) -> Tensor {
        let y = linear(x, &self.weight(&format!("{name}.weight"), shape));
        if bias { add(&y, &self.weight(&format!("{name}.bias"), [shape[0]])) } else { y }
    }

    /// Attention over the cache, once the tokens' own keys and values are in it.
    #[track_caller]
    fn cached(&self, cache: &Cache, qkv: &Tensor, config: &Config) -> Tensor {
        let (heads, kv_heads) = (config.num_heads, config.kv_heads());
        let columns = kv_heads * config.head_dim();
        let state =
            |name| self.g.state(KV_CACHE, &format!("{}{name}", self.prefix), qkv.dtype(), [cache.slots, columns]);
        let (key, value) = (state("key"), state("value"));
        let (new_key, new_value) = kv_append(&key, &value, qkv, cache.slot_mapping, heads, kv_heads);
        self.g.assign(&key, &new_key);
        self.g.assign(&value, &new_value);
        let (table, lens, starts) = (cache.block_table, cache.context_lens, cache.cu_seqlens);
        cached_attention(qkv, &new_key, &new_value, table, lens, starts, heads, kv_heads, cache.block_size)
    }

    #[track_caller]
    fn norm(&self, name: &str, config: &Config, x: &Tensor) -> Tensor {
        let weight = self.weight(&format!("{name}.weight"), [config.hidden_size]);
        match config.norm {
            Norm::RmsNorm => rms_norm(x, &weight, config.norm_eps),
            Norm::LayerNorm => {
                let bias = self.weight(&format!("{name}.bias"), [config.hidden_size]);
                layer_norm(x, &weight, &bias, config.norm_eps)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::trace::PARAMETERS;
    use graph::{Graph, grad, pass};
    use std::collections::BTreeMap;

    fn llama() -> Config {
        Config {
            vocab_size: 31,
            hidden_size: 24,
            num_layers: 3,
            num_heads: 6,
            num_kv_heads: 2,
            intermediate_size: 40,
            max_context: 8,
            mixer: Mixer::Attention,
            norm: Norm::RmsNorm,
            norm_eps: 1e-5,
            positions: Positions::Rope,
            rope_theta: 10_000.0,
            rope_scaling: Default::default(),
            mlp: Mlp::Swiglu,
            attention_bias: false,
            mlp_bias: false,
            tied_embeddings: true,
            features: Default::default(),
        }
    }

    /// The step's graph with gradients, and the parameters with their shapes.
    fn traced(config: &Config, compute: DType) -> (Graph, Vec<(String, Shape)>) {
        let graph = Graph::trace(|g| {
            let ids = |name| g.input(name, DType::U32, [16]);
            let cu_seqlens = g.input("cu_seqlens", DType::U32, [3]);
            let logits = transformer_in(g, config, compute, &ids("tokens"), &ids("positions"), &cu_seqlens);
            let loss = ops::cross_entropy::cross_entropy(&logits, &ids("targets"), 99);
            let (entries, weights): (Vec<_>, Vec<_>) = g.entries(PARAMETERS).into_iter().unzip();
            for (entry, gradient) in entries.iter().zip(grad::gradients(&loss, &weights, &ops::GRAD)) {
                g.output(&entry.name, &gradient.expect("the loss depends on every parameter"));
            }
        })
        .expect("it can be traced");
        let region = graph.region(PARAMETERS).expect("there are parameters");
        let entries = region.entries.iter().map(|e| (e.name.clone(), e.ty.shape.clone())).collect();
        (graph, entries)
    }

    #[test]
    fn a_llama_has_these_parameters() {
        let (_, entries) = traced(&llama(), DType::F32);
        let layer = |i: usize| {
            let shapes: [(&str, Shape); 6] = [
                ("attention_norm.weight", [24].into()),
                ("attention.qkv_proj.weight", [40, 24].into()),
                ("attention.o_proj.weight", [24, 24].into()),
                ("mlp_norm.weight", [24].into()),
                ("mlp.gate_up_proj.weight", [80, 24].into()),
                ("mlp.down_proj.weight", [24, 40].into()),
            ];
            shapes.map(|(name, shape)| (format!("layers.{i}.{name}"), shape))
        };
        let mut expected = vec![("embed_tokens.weight".to_string(), Shape::from([31, 24]))];
        expected.extend((0..3).flat_map(layer));
        expected.push(("final_norm.weight".into(), [24].into()));
        assert_eq!(entries, expected);

        let biases = Config { attention_bias: true, mlp_bias: true, tied_embeddings: false, ..llama() };
        let (_, entries) = traced(&biases, DType::Bf16);
        let shape = |name: &str| entries.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.to_vec());
        assert_eq!(shape("lm_head.weight"), Some(vec![31, 24]));
        assert_eq!(shape("layers.2.attention.qkv_proj.bias"), Some(vec![40]));
        assert_eq!(shape("layers.0.attention.o_proj.bias"), Some(vec![24]));
        assert_eq!(shape("layers.1.mlp.gate_up_proj.bias"), Some(vec![80]));
        assert_eq!(shape("layers.1.mlp.down_proj.bias"), Some(vec![24]));
    }

    #[test]
    fn a_llama_fuses() {
        for compute in [DType::F32, DType::Bf16, DType::F16] {
            fuses(compute);
        }
    }

    fn fuses(compute: DType) {
        let fused = pass::prune(pass::fuse(traced(&llama(), compute).0, ops::OPS));
        let mut counts = BTreeMap::new();
        for node in &fused.nodes {
            *counts.entry(node.op.name).or_insert(0) += 1;
        }
        // Every norm but the first follows a sum, and the stream's own gradient reaches every norm but the last.
        assert_eq!((counts["residual_rms_norm"], counts["rms_norm"]), (6, 1), "{counts:?}");
        assert_eq!((counts["rms_norm_backward_residual"], counts["rms_norm_backward"]), (6, 1), "{counts:?}");
        assert_eq!((counts["rope"], counts["swiglu"], counts["swiglu_backward"]), (6, 3, 3), "{counts:?}");
        // Each weight is cast once, and its gradient back: the table, six a layer, the last norm's; and what was looked up.
        let casts = if compute == DType::F32 { 0 } else { 2 * (1 + 3 * 6 + 1 + 1) };
        assert_eq!(counts.get("cast").copied().unwrap_or(0), casts, "{counts:?}");
        // The table's gradients, as table and as head, are all that is left to add.
        assert!(counts.get("add").is_none_or(|adds| *adds <= 1), "{counts:?}");
    }
}
