//! Cached attention on the CPU: a part has the rows of some tokens and the heads that share one of k and v.
#![expect(unsafe_code, reason = "tiles of matrices are reached by address and stride")]

use super::{CPU_ROWS, MOST_DIMS, SPLIT};
use crate::attention::cpu::tile::{Buffer, LANES, Rows, fold, padded, product, transpose_4x4};
use crate::common::cpu::{input, pointer};
use crate::common::math::exp;
use graph::CpuArgs;
use std::ops::Range;

/// A kernel compiled for an architecture.
pub type Run = fn(&CpuArgs, usize);

/// Positions whose keys or values are in the innermost cache at a time.
const STEP: usize = 64;
const LOWEST: f32 = -f32::MAX;

crate::fused_or_not!(
    /// The kernel that goes through all splits, for an architecture.
    select_whole whole_kernel whole
);
crate::fused_or_not!(
    /// The kernel of single splits for an architecture.
    select_splits splits_kernel splits
);
crate::by_architecture!(
    /// The kernel that combines splits, for an architecture.
    select_combine,
    combine
);

/// Heads of a group that one part has.
fn tile_heads(group: usize) -> usize {
    group.min(CPU_ROWS)
}

/// Parts that a group's heads are cut into.
fn head_tiles(group: usize) -> usize {
    group.div_ceil(tile_heads(group))
}

/// Tokens that one part has where there are many.
fn tile_tokens(group: usize) -> usize {
    CPU_ROWS / tile_heads(group)
}

/// The words of a call.
#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    sequences: usize,
    blocks: usize,
    block_size: usize,
    slots: usize,
    lanes: usize,
    scale: f32,
}

impl Sizes {
    #[inline(always)]
    fn of(args: &CpuArgs) -> Sizes {
        let [tokens, heads, kv_heads, head_dim, sequences, blocks, block_size, slots, lanes, scale] = *args.words
        else {
            unreachable!("the card gives ten words")
        };
        let [tokens, heads, kv_heads, head_dim, sequences] =
            [tokens, heads, kv_heads, head_dim, sequences].map(|n| n as usize);
        let [blocks, block_size, slots, lanes] = [blocks, block_size, slots, lanes].map(|n| n as usize);
        let scale = f32::from_bits(scale);
        Sizes { tokens, heads, kv_heads, head_dim, sequences, blocks, block_size, slots, lanes, scale }
    }

    fn splits(&self) -> usize {
        (self.blocks * self.block_size).div_ceil(SPLIT)
    }

    /// The sequence of a token and its first token, or none; and the token after the last that it is so for.
    fn sequence_of(&self, bounds: &[u32], token: usize) -> (Option<usize>, usize) {
        let after = bounds.partition_point(|&bound| bound as usize <= token);
        let end = bounds.get(after).map_or(self.tokens, |&bound| self.tokens.min(bound as usize));
        ((after > 0 && after <= self.sequences).then(|| after - 1), end)
    }

    /// Positions that a token of a sequence sees.
    fn seen(&self, lengths: &[u32], bounds: &[u32], sequence: usize, token: usize) -> usize {
        let before_end = bounds[sequence + 1] as usize - token;
        (lengths[sequence] as usize + 1).saturating_sub(before_end).min(self.blocks * self.block_size)
    }
}

/// Rows of consecutive tokens of one sequence, and heads that share one of k and v.
struct Piece {
    tokens: Range<usize>,
    heads: Range<usize>,
    sequence: usize,
}

impl Piece {
    fn rows(&self) -> usize {
        self.tokens.len() * self.heads.len()
    }

    /// Token and head of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        (self.tokens.start + row / self.heads.len(), self.heads.start + row % self.heads.len())
    }
}

/// A split's maximum, sum and mix for each row, or those of all splits so far.
struct Mix {
    max: [f32; CPU_ROWS],
    sum: [f32; CPU_ROWS],
    values: Rows,
}

/// Adds a split to those before it. Where either is nothing, the other stays as it is, to the bit.
#[inline(always)]
fn add_split(max: &mut f32, sum: &mut f32, values: &mut [f32], split: (f32, f32, &[f32])) {
    let higher = if split.0 > *max { split.0 } else { *max };
    let (keep, take) = (exp(*max - higher), exp(split.0 - higher));
    for (value, more) in values.iter_mut().zip(split.2) {
        *value = *value * keep + *more * take;
    }
    *sum = *sum * keep + split.1 * take;
    *max = higher;
}

#[inline(always)]
fn finish(out: &mut [f32], values: &[f32], sum: f32) {
    let factor = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor);
}

/// What a part works in.
struct Memory {
    q: Rows,
    keys: Rows,
    values: Rows,
    scores: Rows,
}

macro_rules! memory {
    ($memory:ident, $mix:ident, $s:ident) => {
        let (mut q, mut keys) = (Buffer::<{ CPU_ROWS * MOST_DIMS }>::new(), Buffer::<{ MOST_DIMS * STEP }>::new());
        let (mut values, mut scores) = (Buffer::<{ STEP * MOST_DIMS }>::new(), Buffer::<{ CPU_ROWS * SPLIT }>::new());
        let mut mixed = Buffer::<{ CPU_ROWS * MOST_DIMS }>::new();
        let stride = padded($s.head_dim);
        let $memory = Memory {
            q: q.rows(stride),
            keys: keys.rows(STEP),
            values: values.rows(stride),
            scores: scores.rows(SPLIT),
        };
        let mut $mix = Mix { max: [LOWEST; CPU_ROWS], sum: [0.0; CPU_ROWS], values: mixed.rows(stride) };
    };
}

/// The rows of q of a piece, side by side.
///
/// # Safety
/// The piece's tokens and heads are in bounds.
#[inline(always)]
unsafe fn load_queries(s: &Sizes, qkv: *const f32, piece: &Piece, q: Rows) {
    for row in 0..piece.rows() {
        let (token, head) = piece.place(row);
        let from = qkv.wrapping_add((token * (s.heads + 2 * s.kv_heads) + head) * s.head_dim);
        // SAFETY: as the caller promises; q has room for that many rows.
        unsafe { std::ptr::copy_nonoverlapping(from, q.skip(row, 0).at, s.head_dim) };
    }
}

/// One split of a piece's rows.
///
/// # Safety
/// The memory is large enough, q is loaded, and the operands are those of the card.
#[inline(always)]
unsafe fn split_of<const FMA: bool>(
    s: &Sizes,
    args: &CpuArgs,
    piece: &Piece,
    split: usize,
    memory: &Memory,
    mix: &mut Mix,
) {
    let (lengths, bounds) = (input::<u32>(args, 4), input::<u32>(args, 5));
    let table = &input::<u32>(args, 3)[piece.sequence * s.blocks..][..s.blocks];
    let (start, rows) = (split * SPLIT, piece.rows());
    let seen = |token| s.seen(lengths, bounds, piece.sequence, token).saturating_sub(start).min(SPLIT);
    let keys = seen(piece.tokens.end - 1);
    let column = piece.heads.start / (s.heads / s.kv_heads) * s.head_dim;
    let width = s.kv_heads * s.head_dim;
    let cached = |cache: usize, position: usize| {
        let position = start + position;
        let block = (table[position / s.block_size] as usize).min(s.slots / s.block_size - 1);
        let slot = block * s.block_size + position % s.block_size;
        Rows { at: pointer::<f32>(args, cache).wrapping_add(slot * width + column), stride: width }
    };
    // SAFETY: positions below `keys` are in the table, and blocks in the cache; the rest by the caller's promise.
    unsafe {
        for from in (0..keys).step_by(STEP) {
            let count = STEP.min(keys - from);
            gather_transposed(count, s, |j| cached(1, from + j), memory.keys);
            product::<FMA>(rows, padded(count), s.head_dim, memory.q, memory.keys, memory.scores.skip(0, from), false);
        }
        for row in 0..rows {
            let scores = std::slice::from_raw_parts_mut(memory.scores.skip(row, 0).at, padded(keys));
            (mix.max[row], mix.sum[row]) = weights(scores, seen(piece.place(row).0), s.scale);
        }
        for from in (0..keys).step_by(STEP) {
            let count = STEP.min(keys - from);
            for j in 0..count {
                let to = std::slice::from_raw_parts_mut(memory.values.skip(j, 0).at, padded(s.head_dim));
                to[..s.head_dim].copy_from_slice(std::slice::from_raw_parts(cached(2, from + j).at, s.head_dim));
                to[s.head_dim..].fill(0.0);
            }
            let scores = memory.scores.skip(0, from);
            product::<FMA>(rows, s.head_dim, count, scores, memory.values, mix.values, from > 0);
        }
    }
}

/// to[head_dim, count] = the rows at these places; to's rows are filled up to whole lanes with zeros.
///
/// # Safety
/// The places hold a head each, and `to` has room.
#[inline(always)]
unsafe fn gather_transposed(count: usize, s: &Sizes, place: impl Fn(usize) -> Rows, to: Rows) {
    let d = s.head_dim;
    let whole = if s.block_size >= 4 { (count - count % 4, d - d % 4) } else { (0, 0) };
    // SAFETY: as the caller promises; four positions from a multiple of four on are in one block.
    unsafe {
        for j in (0..whole.0).step_by(4) {
            let from = place(j);
            for c in (0..whole.1).step_by(4) {
                transpose_4x4(from.skip(0, c), to.skip(c, j));
            }
        }
        for j in 0..count {
            let from = place(j);
            for c in if j < whole.0 { whole.1 } else { 0 }..d {
                *to.skip(c, j).at = *from.skip(0, c).at;
            }
        }
        for c in 0..d {
            to.skip(c, count).fill(1, padded(count) - count, 0.0);
        }
    }
}

/// Makes weights of the first `seen` scores and zeros of the rest; their maximum and sum.
#[inline(always)]
fn weights(scores: &mut [f32], seen: usize, scale: f32) -> (f32, f32) {
    if seen == 0 {
        scores.fill(0.0);
        return (LOWEST, 0.0);
    }
    scores[seen..].fill(LOWEST);
    let max = fold(scores, |a, b| if a > b { a } else { b }) * scale;
    scores.iter_mut().for_each(|x| *x = exp(*x * scale - max));
    scores[seen..].fill(0.0);
    (max, fold(scores, |a, b| a + b))
}

/// A part's heads, from its number among those of its tokens.
#[inline(always)]
fn heads_of(s: &Sizes, part: usize) -> Range<usize> {
    let group = s.heads / s.kv_heads;
    let (tiles, tile) = (head_tiles(group), tile_heads(group));
    let first = part / tiles * group;
    first + part % tiles * tile..first + group.min((part % tiles + 1) * tile)
}

#[inline(always)]
fn whole<const FMA: bool>(args: &CpuArgs, part: usize) {
    let s = Sizes::of(args);
    let group = s.heads / s.kv_heads;
    let columns = s.kv_heads * head_tiles(group);
    let heads = heads_of(&s, part % columns);
    let first = part / columns * tile_tokens(group);
    let (lengths, bounds) = (input::<u32>(args, 4), input::<u32>(args, 5));
    let last = s.tokens.min(first + tile_tokens(group));
    let out = |row: usize, piece: &Piece| {
        let (token, head) = piece.place(row);
        // SAFETY: token and head are in bounds and this part's own.
        unsafe {
            let at = pointer::<f32>(args, 6).add((token * s.heads + head) * s.head_dim);
            std::slice::from_raw_parts_mut(at, s.head_dim)
        }
    };
    memory!(memory, mix, s);
    let mut all = Buffer::<{ CPU_ROWS * MOST_DIMS }>::new();
    let stride = padded(s.head_dim);
    let mut token = first;
    while token < last {
        let (sequence, end) = s.sequence_of(bounds, token);
        let tokens = token..end.min(last);
        token = tokens.end;
        let piece = Piece { tokens, heads: heads.clone(), sequence: sequence.unwrap_or(0) };
        let seen = sequence.map_or(0, |n| s.seen(lengths, bounds, n, piece.tokens.end - 1));
        let mut total = Mix { max: [LOWEST; CPU_ROWS], sum: [0.0; CPU_ROWS], values: all.rows(stride) };
        // SAFETY: rows are at most CPU_ROWS and of at most MOST_DIMS numbers; the operands are the card's.
        unsafe {
            total.values.fill(piece.rows(), stride, 0.0);
            load_queries(&s, pointer(args, 0), &piece, memory.q);
            for split in 0..seen.div_ceil(SPLIT) {
                split_of::<FMA>(&s, args, &piece, split, &memory, &mut mix);
                for row in 0..piece.rows() {
                    let values = std::slice::from_raw_parts_mut(total.values.skip(row, 0).at, s.head_dim);
                    let more = std::slice::from_raw_parts(mix.values.skip(row, 0).at, s.head_dim);
                    let split = (mix.max[row], mix.sum[row], more);
                    add_split(&mut total.max[row], &mut total.sum[row], values, split);
                }
            }
            for row in 0..piece.rows() {
                let values = std::slice::from_raw_parts(total.values.skip(row, 0).at, s.head_dim);
                finish(out(row, &piece), values, total.sum[row]);
            }
        }
    }
}

/// Every `lanes`-th split of one token's heads, into scratch.
#[inline(always)]
fn splits<const FMA: bool>(args: &CpuArgs, part: usize) {
    let s = Sizes::of(args);
    let columns = s.kv_heads * head_tiles(s.heads / s.kv_heads);
    let (lane, part) = (part % s.lanes, part / s.lanes);
    let (token, heads) = (part / columns, heads_of(&s, part % columns));
    let (lengths, bounds) = (input::<u32>(args, 4), input::<u32>(args, 5));
    let (Some(sequence), _) = s.sequence_of(bounds, token) else { return };
    let count = s.seen(lengths, bounds, sequence, token).div_ceil(SPLIT);
    if lane >= count {
        return;
    }
    let piece = Piece { tokens: token..token + 1, heads, sequence };
    memory!(memory, mix, s);
    // SAFETY: as in `whole`; the splits of a row are this part's own where they are its lane's.
    unsafe {
        load_queries(&s, pointer(args, 0), &piece, memory.q);
        for split in (lane..count).step_by(s.lanes) {
            split_of::<FMA>(&s, args, &piece, split, &memory, &mut mix);
            for row in 0..piece.rows() {
                let at = (token * s.heads + piece.place(row).1) * s.splits() + split;
                let (values, ends) = (pointer::<f32>(args, 6), pointer::<f32>(args, 7));
                let to = values.add(at * s.head_dim);
                std::ptr::copy_nonoverlapping(mix.values.skip(row, 0).at.cast_const(), to, s.head_dim);
                ends.add(2 * at).write(mix.max[row]);
                ends.add(2 * at + 1).write(mix.sum[row]);
            }
        }
    }
}

/// Adds up the splits of one token's rows.
#[inline(always)]
fn combine(args: &CpuArgs, token: usize) {
    let s = Sizes::of(args);
    let (lengths, bounds) = (input::<u32>(args, 0), input::<u32>(args, 1));
    let (values, ends) = (input::<f32>(args, 2), input::<f32>(args, 3));
    let count = s.sequence_of(bounds, token).0.map_or(0, |n| s.seen(lengths, bounds, n, token).div_ceil(SPLIT));
    let d = s.head_dim;
    for row in token * s.heads..(token + 1) * s.heads {
        let mut total = [0.0f32; MOST_DIMS];
        let (mut max, mut sum) = (LOWEST, 0.0);
        for at in row * s.splits()..row * s.splits() + count {
            let split = (ends[2 * at], ends[2 * at + 1], &values[at * d..(at + 1) * d]);
            add_split(&mut max, &mut sum, &mut total[..d], split);
        }
        finish(crate::common::cpu::output(args, 4, row * d..(row + 1) * d), &total, sum);
    }
}

const _: () = assert!(SPLIT.is_multiple_of(STEP) && STEP.is_multiple_of(LANES) && MOST_DIMS.is_multiple_of(LANES));
