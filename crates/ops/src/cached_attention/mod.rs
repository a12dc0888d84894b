//! `cached_attention`: each token attends the cached positions of its sequence up to its own, found through a block table.
//!
//! Positions are cut into splits of 256, each with its own maximum, sum and mix, which are combined in order (as in
//! Flash-Decoding, from Dao et al., arXiv 2307.08691; blocks as in Kwon et al., arXiv 2309.06180). A row's arithmetic
//! depends on its own position alone: not on other rows, on the number of rows, nor on which launch does it.

mod cpu;

use crate::common;
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, Kernel, KernelSource, Launch, Lowering, Meaning, OpDef,
    Operand, Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Positions of a split.
const SPLIT: usize = 256;
/// Head sizes, at most.
const MOST_DIMS: usize = 256;
/// Tokens, at most, whose splits are computed side by side; with more, a part goes through the splits one by one.
const FEW_TOKENS: usize = 16;
/// Splits that are computed side by side, at most.
const MOST_LANES: usize = 64;
/// Rows (a row is a token's head) that one CPU part computes.
const CPU_ROWS: usize = 64;
/// Threads of a group.
const CUDA_THREADS: u32 = 256;
const VULKAN_THREADS: u32 = 128;
const COMBINE_THREADS: u32 = 64;

/// `cached_attention`: the mixed values [tokens, heads x head_dim]; zeros for tokens that see no position.
pub static CACHED_ATTENTION: OpDef = OpDef {
    name: "cached_attention",
    formula: "out = softmax(q k^T / sqrt(head_dim)) v over the cached positions of a sequence up to each token's",
    infer,
    storage: FLOATS,
    cost,
    meaning: Meaning::Loops(reference),
    lower: |call, spec, _| common::widened(call, spec, &[], |call| lower(call, spec)),
    shaders: &[&WHOLE, &SPLITS, &COMBINE],
    cases,
    ..OpDef::BASE
};

/// Attention over a cache. qkv [tokens, (heads + 2 kv heads) x head_dim]: all heads' q, then k and v, which are in the cache
/// already and not read here; key_cache and value_cache [slots, kv heads x head_dim], in blocks of `block_size` slots, a power
/// of two; block_table [sequences, blocks] u32: which block holds a sequence's n-th block of positions; context_lens
/// [sequences] u32: positions of each sequence, with its tokens here; cu_seqlens [sequences + 1] u32, rising: the first token
/// of each sequence, and the end of the last. Token j of a sequence's n stands at position context_len - n + j and sees all up
/// to it. The result: [tokens, heads x head_dim]; tokens outside of every sequence, and those before position 0, get zeros.
/// Positions beyond the table aren't seen; a block beyond the cache is taken for its last one.
#[track_caller]
pub fn cached_attention(
    qkv: &Tensor,
    key_cache: &Tensor,
    value_cache: &Tensor,
    block_table: &Tensor,
    context_lens: &Tensor,
    cu_seqlens: &Tensor,
    num_heads: usize,
    num_kv_heads: usize,
    block_size: usize,
) -> Tensor {
    let inputs = [qkv, key_cache, value_cache, block_table, context_lens, cu_seqlens];
    qkv.tracer().emit(&CACHED_ATTENTION, &inputs, params(num_heads, num_kv_heads, block_size))[0].clone()
}

fn params(num_heads: usize, num_kv_heads: usize, block_size: usize) -> Params {
    let params = Params::NONE.with_u32("num_heads", num_heads).with_u32("num_kv_heads", num_kv_heads);
    params.with_u32("block_size", block_size)
}

/// The sizes of a call.
struct Sizes {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    sequences: usize,
    blocks: usize,
    block_size: usize,
    slots: usize,
}

impl Sizes {
    fn of(call: &Call) -> Sizes {
        let [tokens, _] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
        let [slots, width] = *call.inputs[1].shape else { unreachable!("`infer` asks for two dimensions") };
        let [sequences, blocks] = *call.inputs[3].shape else { unreachable!("`infer` asks for two dimensions") };
        let (heads, kv_heads) = (call.params.u32("num_heads"), call.params.u32("num_kv_heads"));
        let (head_dim, block_size) = (width / kv_heads, call.params.u32("block_size"));
        Sizes { tokens, heads, kv_heads, head_dim, sequences, blocks, block_size, slots }
    }

    /// Positions of a sequence, at most.
    fn positions(&self) -> usize {
        self.blocks * self.block_size
    }

    fn splits(&self) -> usize {
        self.positions().div_ceil(SPLIT)
    }

    /// Heads of q that share a head of k and v.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Splits that are computed side by side; 1 where they are gone through in one launch.
    fn lanes(&self) -> usize {
        if self.tokens <= FEW_TOKENS.max(self.sequences) { self.splits().clamp(1, MOST_LANES) } else { 1 }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }

    /// Kernel words: tokens, heads, heads of k and v, head_dim, sequences, blocks, block size, slots, lanes, scale.
    fn words(&self) -> Vec<u32> {
        let sizes = [self.tokens, self.heads, self.kv_heads, self.head_dim, self.sequences, self.blocks];
        let more = [self.block_size, self.slots, self.lanes()];
        let scale = (self.scale() as f32).to_bits();
        sizes.into_iter().chain(more).map(|n| n as u32).chain([scale]).collect()
    }
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 6)?;
    let stored = expect::float("qkv", &types[0])?;
    for (name, ty) in ["qkv", "key_cache", "value_cache"].iter().zip(types) {
        expect::dtype(name, ty, stored)?;
        expect::rank(name, ty, 2)?;
    }
    expect::shape("value_cache", &types[2], &types[1].shape)?;
    for ((name, rank), ty) in [("block_table", 2), ("context_lens", 1), ("cu_seqlens", 1)].iter().zip(&types[3..]) {
        expect::dtype(name, ty, DType::U32)?;
        expect::rank(name, ty, *rank)?;
    }
    let sequences = types[3].shape[0];
    expect::shape("context_lens", &types[4], &[sequences])?;
    expect::shape("cu_seqlens", &types[5], &[sequences + 1])?;
    let (heads, kv_heads) = (params.u32("num_heads"), params.u32("num_kv_heads"));
    let [slots, width] = *types[1].shape else { unreachable!("it has two dimensions") };
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} heads can't share {kv_heads} heads of k and v in groups of one size"));
    }
    if width == 0 || !width.is_multiple_of(kv_heads) {
        return Err(format!("`key_cache` has {width} columns; expected a multiple of {kv_heads} heads of k and v"));
    }
    let [tokens, columns] = *types[0].shape else { unreachable!("it has two dimensions") };
    let head_dim = width / kv_heads;
    if columns != (heads + 2 * kv_heads) * head_dim {
        return Err(format!("`qkv` has {columns} columns; expected {heads} + 2 x {kv_heads} heads of {head_dim}"));
    }
    let block_size = params.u32("block_size");
    if !block_size.is_power_of_two() {
        return Err(format!("block_size is {block_size}; expected a power of two"));
    }
    if slots == 0 || !slots.is_multiple_of(block_size) {
        return Err(format!("`key_cache` has {slots} slots; expected a multiple of block_size, {block_size}"));
    }
    Ok(vec![TensorType::f32([tokens, heads * head_dim])])
}

/// Sequences taken as long as the table allows, and their tokens as the last ones; q, the cached rows and the result move.
fn cost(call: &Call) -> Cost {
    let s = Sizes::of(call);
    let (tokens, width) = (s.tokens as f64, (s.heads * s.head_dim) as f64);
    let of_sequence = tokens / s.sequences.max(1) as f64;
    let seen = (s.positions() as f64 - (of_sequence - 1.0) / 2.0).max(1.0);
    let cached = (s.sequences * s.positions()).min(s.slots) as f64;
    let size = call.inputs[0].dtype.block_bytes() as f64;
    let moved = 2.0 * tokens * width + 2.0 * cached * (s.kv_heads * s.head_dim) as f64;
    Cost { bytes: size * moved + call.inputs[3].bytes() as f64, flops: 4.0 * tokens * width * seen }
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let s = Sizes::of(call);
    let [qkv, keys, values, table, lengths, bounds] = *inputs else { unreachable!("`infer` asks for six inputs") };
    let (d, width) = (s.head_dim, s.kv_heads * s.head_dim);
    let mut out = vec![0.0; s.tokens * s.heads * d];
    for n in 0..s.sequences {
        let (first, end) = (bounds[n] as usize, (bounds[n + 1] as usize).min(s.tokens));
        let slot = |position: usize| {
            let block = (table[n * s.blocks + position / s.block_size] as usize).min(s.slots / s.block_size - 1);
            block * s.block_size + position % s.block_size
        };
        for (token, head) in (first..end).flat_map(|t| (0..s.heads).map(move |h| (t, h))) {
            let seen = (lengths[n] - (bounds[n + 1] - token as f64) + 1.0).clamp(0.0, s.positions() as f64) as usize;
            let q = &qkv[(token * (s.heads + 2 * s.kv_heads) + head) * d..][..d];
            let cached = |position: usize| slot(position) * width + head / s.group() * d;
            let score =
                |position: usize| q.iter().zip(&keys[cached(position)..]).map(|(q, k)| q * k).sum::<f64>() * s.scale();
            let scores: Vec<f64> = (0..seen).map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
            let out = &mut out[(token * s.heads + head) * d..][..d];
            for (position, score) in scores.into_iter().enumerate() {
                let p = (score - max).exp() / sum;
                out.iter_mut().zip(&values[cached(position)..]).for_each(|(o, v)| *o += p * v);
            }
        }
    }
    vec![out]
}

static CUDA: CudaSource = CudaSource {
    name: "cached_attention.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("cached_attention.cu")),
};
static WHOLE: Shader = Shader {
    name: "cached_attention",
    source: "cached_attention/cached_attention.comp",
    defines: &[("WHOLE", "1")],
    spirv: spirv!("cached_attention"),
};
static SPLITS: Shader = Shader {
    name: "cached_attention_splits",
    source: "cached_attention/cached_attention.comp",
    defines: &[("WHOLE", "0")],
    spirv: spirv!("cached_attention_splits"),
};
static COMBINE: Shader = Shader {
    name: "cached_attention_combine",
    source: "cached_attention/cached_attention_combine.comp",
    defines: &[],
    spirv: spirv!("cached_attention_combine"),
};

/// How a device cuts rows into groups or parts: heads of one tile, and tokens where a tile goes through all splits.
fn tile(s: &Sizes, kind: DeviceKind) -> (usize, usize) {
    let most = match kind {
        DeviceKind::Cpu => CPU_ROWS,
        DeviceKind::Cuda if s.head_dim > 128 => 8,
        DeviceKind::Cuda => 16,
        DeviceKind::Vulkan if s.head_dim > 128 => 4,
        DeviceKind::Vulkan => 8,
    };
    let heads = s.group().min(most);
    (heads, if s.lanes() == 1 { most / heads } else { 1 })
}

/// With several lanes, each split's mix (scratch 0) and its maximum and sum (scratch 1) first, which are then combined.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let s = Sizes::of(call);
    if s.head_dim > MOST_DIMS {
        return Err(Unsupported(format!("head_dim {} on {}; up to {MOST_DIMS} are", s.head_dim, spec.kind)));
    }
    if spec.kind != DeviceKind::Cpu && !s.head_dim.is_multiple_of(4) {
        return Err(Unsupported(format!("head_dim {} on {}; multiples of 4 are", s.head_dim, spec.kind)));
    }
    let inputs: Vec<Operand> = (0..6).map(Operand::Input).collect();
    let with = |more: &[Operand]| [&inputs[..], more].concat();
    let (heads, tokens) = tile(&s, spec.kind);
    let (columns, tiles) = (s.kv_heads * s.group().div_ceil(heads), s.tokens.div_ceil(tokens));
    if s.lanes() == 1 {
        let kernel = ("cached_attention", cpu::select_whole as Select, &WHOLE);
        return Ok(Lowering::one(launch(&s, spec, kernel, [tiles, columns, 1], with(&[Operand::Output(0)]))));
    }
    let rows = s.tokens * s.heads;
    let scratch = vec![(rows * s.splits() * s.head_dim * 4) as u64, (rows * s.splits() * 8) as u64];
    let partial = [Operand::Scratch(0), Operand::Scratch(1)];
    let kernel = ("cached_attention_splits", cpu::select_splits as Select, &SPLITS);
    let splits = launch(&s, spec, kernel, [s.tokens, columns, s.lanes()], with(&partial));
    let operands = [&[Operand::Input(4), Operand::Input(5)], &partial[..], &[Operand::Output(0)]].concat();
    let kernel = ("cached_attention_combine", cpu::select_combine as Select, &COMBINE);
    // On the CPU a part combines all heads of a token.
    let heads = if spec.kind == DeviceKind::Cpu { 1 } else { s.heads };
    let combine = launch(&s, spec, kernel, [s.tokens, heads, 1], operands);
    Ok(Lowering { scratch, launches: vec![splits, combine] })
}

type Select = fn(&str) -> cpu::Run;

/// A launch of that many groups, or as many CPU parts in all.
fn launch(
    s: &Sizes,
    spec: &Spec,
    (name, select, shader): (&'static str, Select, &'static Shader),
    groups: [usize; 3],
    operands: Vec<Operand>,
) -> Launch {
    let (source, entry, threads) = match spec.kind {
        DeviceKind::Cpu => {
            return common::cpu(name, select(&spec.architecture), groups.iter().product(), s.words(), operands);
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), name, CUDA_THREADS),
        DeviceKind::Vulkan => (KernelSource::Vulkan(shader), "main", VULKAN_THREADS),
    };
    let threads = if name == "cached_attention_combine" { COMBINE_THREADS } else { threads };
    let launch = common::gpu(source, entry, groups, threads, s.words(), operands);
    let Launch::Kernel(kernel) = launch else { unreachable!("a GPU launch is a kernel") };
    let (heads, tokens) = tile(s, spec.kind);
    let constants = vec![("HEAD_DIM", s.head_dim), ("TOKENS", tokens), ("HEADS", heads)];
    let constants = constants.into_iter().map(|(name, value)| (name, value as u32)).collect();
    Launch::Kernel(Kernel { constants, ..kernel })
}

/// A case's sequences: tokens here and positions in all.
type Sequences<'a> = &'a [(usize, usize)];

/// Blocks are given to sequences in a scattered order; entries that no position needs lie beyond the cache.
fn case(
    name: &str,
    (heads, kv_heads): (usize, usize),
    head_dim: usize,
    (block_size, blocks): (usize, usize),
    sequences: Sequences,
    padding: usize,
) -> Case {
    let needed = |&(_, positions): &(usize, usize)| positions.div_ceil(block_size).min(blocks);
    let all: usize = sequences.iter().map(needed).sum::<usize>().max(1);
    // A stride that is prime to the number of blocks visits each once.
    let stride = (all / 2 + 1..).find(|&n| gcd(n, all) == 1).expect("there is one");
    let (mut table, mut given) = (Vec::new(), 0);
    for sequence in sequences {
        let n = needed(sequence);
        table.extend((given..given + n).map(|block| (block * stride % all) as f64));
        table.resize(table.len() + blocks - n, f64::from(u32::MAX));
        given += n;
    }
    let lengths: Vec<f64> = sequences.iter().map(|s| s.1 as f64).collect();
    let mut bounds = vec![0.0];
    bounds.extend(sequences.iter().scan(0.0, |end, s| {
        *end += s.0 as f64;
        Some(*end)
    }));
    let tokens = sequences.iter().map(|s| s.0).sum::<usize>() + padding;
    let cache = || CaseInput::normal([all * block_size, kv_heads * head_dim]);
    let inputs = vec![
        CaseInput::normal([tokens, (heads + 2 * kv_heads) * head_dim]),
        cache(),
        cache(),
        CaseInput::values(DType::U32, [sequences.len(), blocks], table),
        CaseInput::values(DType::U32, [sequences.len()], lengths),
        CaseInput::values(DType::U32, [sequences.len() + 1], bounds),
    ];
    Case::new(name, params(heads, kv_heads, block_size), inputs)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn cases() -> Vec<Case> {
    let decode = |lengths: &[usize]| lengths.iter().map(|&n| (1, n)).collect::<Vec<_>>();
    vec![
        case("decode, short", (4, 2), 64, (32, 4), &decode(&[7, 1, 128, 33]), 0),
        case("decode, several splits", (6, 2), 32, (32, 24), &decode(&[700, 256, 257, 1, 768]), 0),
        case("decode, one head of k and v", (12, 1), 64, (32, 20), &decode(&[600]), 0),
        case("decode, wide heads", (2, 2), 128, (16, 40), &decode(&[513, 30]), 0),
        case("decode, unused sequences, padding", (2, 1), 8, (32, 10), &[(1, 300), (1, 0), (0, 40), (1, 20)], 3),
        case("prefill", (4, 2), 64, (32, 4), &[(100, 100)], 0),
        case("prefill, the rest of two", (4, 4), 32, (32, 10), &[(37, 300), (50, 50)], 5),
        case("prefill of several splits", (4, 1), 16, (32, 20), &[(70, 620), (0, 9), (3, 259)], 0),
        case("drafts", (4, 2), 64, (32, 12), &[(5, 380), (4, 4)], 0),
        case("tokens before the first position", (2, 2), 16, (8, 4), &[(6, 4), (20, 30)], 0),
        case("small blocks", (3, 3), 12, (1, 70), &[(2, 70), (20, 21)], 0),
        case("large blocks", (2, 1), 20, (512, 2), &[(1, 1024), (18, 511)], 0),
        case("decode, 1 sequence at 4096", (32, 8), 128, (32, 128), &decode(&[4096]), 0).large(),
        case("decode, 16 sequences at 4096", (32, 8), 128, (32, 128), &decode(&[4096; 16]), 0).large(),
        case("decode, all heads apart, 4096", (16, 16), 64, (32, 128), &decode(&[4096; 4]), 0).large(),
        case("prefill, 512 of 4096", (32, 8), 128, (32, 128), &[(512, 4096)], 0).large(),
    ]
}

#[cfg(test)]
mod tests;
