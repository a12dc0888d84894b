//! The steps as graphs: a prefill puts a prompt's keys and values into the cache, a decode makes each sequence's next token.

use crate::kv_cache::BLOCK;
use graph::{Graph, Plan, Spec, Tensor, TraceError, Tracer, Tuning};
use model::{Cache, Config, Sight, body, head};
use ops::sample::sample;
use tensor::DType::{F32, U32};

/// The region of each sequence's newest token, which the next decode step reads.
pub const LAST_TOKEN: &str = "last_token";

/// What all steps of an engine share.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Slots of the cache.
    pub slots: usize,
    /// Blocks of a sequence at most.
    pub blocks: usize,
}

/// A prompt's part of `rows` tokens of one sequence, with padding at its end: no output, only the cache changes.
///
/// Inputs, all u32: `tokens`, `positions`, `slot_mapping` [rows], `block_table` [1, blocks], `context_lens` [1],
/// `cu_seqlens` [2].
pub fn prefill(config: &Config, shape: Shape, rows: usize) -> Result<Graph, TraceError> {
    Graph::trace(|g| {
        let tokens = g.input("tokens", U32, [rows]);
        layers(g, config, shape, &tokens, 1);
    })
}

/// The next token of each of `rows` sequences, read from and left in the state `last_token`.
///
/// Inputs: `positions`, `slot_mapping`, `context_lens`, `top_k`, `counter` u32 [rows], `block_table` u32 [rows, blocks],
/// `cu_seqlens` u32 [rows + 1], `seed` u32 [rows, 2], `temperature`, `top_p`, `min_p` f32 [rows]. Output: `token` u32 [rows].
pub fn decode(config: &Config, shape: Shape, rows: usize) -> Result<Graph, TraceError> {
    Graph::trace(|g| {
        let last = g.state(LAST_TOKEN, LAST_TOKEN, U32, [rows]);
        let logits = head(g, config, &layers(g, config, shape, &last, rows));
        let number = |name| g.input(name, F32, [rows]);
        let count = |name| g.input(name, U32, [rows]);
        let (temperature, top_k, top_p) = (number("temperature"), count("top_k"), number("top_p"));
        let (min_p, seed, counter) = (number("min_p"), g.input("seed", U32, [rows, 2]), count("counter"));
        let token = sample(&logits, &temperature, &top_k, &top_p, &min_p, &seed, &counter);
        g.assign(&last, &token);
        g.output("token", &token);
    })
}

fn layers(g: &Tracer, config: &Config, shape: Shape, tokens: &Tensor, sequences: usize) -> model::Stream {
    let rows = tokens.shape().elements();
    let input = |name, count: usize| g.input(name, U32, [count]);
    let (positions, slot_mapping) = (input("positions", rows), input("slot_mapping", rows));
    let (context_lens, cu_seqlens) = (input("context_lens", sequences), input("cu_seqlens", sequences + 1));
    let block_table = g.input("block_table", U32, [sequences, shape.blocks]);
    let cache = Cache {
        slots: shape.slots,
        block_size: BLOCK,
        slot_mapping: &slot_mapping,
        block_table: &block_table,
        context_lens: &context_lens,
        cu_seqlens: &cu_seqlens,
    };
    body(g, config, tokens, &positions, &Sight::Cached(cache))
}

/// The graph after all passes, planned for a machine.
pub fn plan(graph: Graph, spec: &Spec, tuning: &Tuning) -> Result<Plan, graph::plan::PlanError> {
    let graph = graph::pass::prune(graph::pass::fuse(graph, ops::OPS));
    graph::plan::plan(&graph, spec, tuning)
}
