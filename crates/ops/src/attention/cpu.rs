//! Attention on the CPU: a part computes one tile of rows of one head by small products in registers.
#![expect(unsafe_code, reason = "tiles of matrices are reached by address and stride")]

pub(crate) mod tile;

use super::CPU_ROWS;
use crate::common::cpu::{input, pointer};
use crate::common::math::exp;
use graph::CpuArgs;
use std::ops::Range;
use tile::{Buffer, Rows, fold, pack, padded, product, transpose};

/// Dimensions that are gone through at a time; heads may be wider.
const DIMS: usize = 128;
/// Rows of the other side that are gone through at a time.
const STEP: usize = CPU_ROWS;

crate::fused_or_not!(
    /// The forward kernel for an architecture.
    select_forward forward_kernel forward
);
crate::fused_or_not!(
    /// The kernel of dq for an architecture.
    select_backward_q backward_q_kernel backward_q
);
crate::fused_or_not!(
    /// The kernel of dk and dv for an architecture.
    select_backward_kv backward_kv_kernel backward_kv
);

/// What a part knows: the call's sizes and its own head.
#[derive(Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    scale: f32,
    head: usize,
}

impl Sizes {
    #[inline(always)]
    fn of(args: &CpuArgs, part: usize) -> (Sizes, Range<usize>) {
        let [tokens, heads, kv_heads, head_dim, _, scale] = *args.words else {
            unreachable!("the card gives six words")
        };
        let (tokens, heads, kv_heads) = (tokens as usize, heads as usize, kv_heads as usize);
        let (tile, head) = (part / heads, part % heads);
        let (head_dim, scale) = (head_dim as usize, f32::from_bits(scale));
        let sizes = Sizes { tokens, heads, kv_heads, head_dim, scale, head };
        (sizes, tile * CPU_ROWS..tokens.min((tile + 1) * CPU_ROWS))
    }

    /// For parts that go over heads of k and v: the first head of q that shares one.
    #[inline(always)]
    fn of_shared(args: &CpuArgs, part: usize) -> (Sizes, Range<usize>) {
        let (s, _) = Sizes::of(args, 0);
        let (tile, shared) = (part / s.kv_heads, part % s.kv_heads);
        (s.for_head(shared * s.group()), tile * CPU_ROWS..s.tokens.min((tile + 1) * CPU_ROWS))
    }

    /// Heads of q that share a head of k and v.
    #[inline(always)]
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    #[inline(always)]
    fn for_head(self, head: usize) -> Sizes {
        Sizes { head, ..self }
    }

    /// This head's q (0), k (1) or v (2) in rows of qkv's form, from a token on.
    #[inline(always)]
    fn packed(&self, qkv: *mut f32, which: usize, token: usize) -> Rows {
        let shared = self.head / self.group();
        let head = match which {
            0 => self.head,
            1 => self.heads + shared,
            _ => self.heads + self.kv_heads + shared,
        };
        let stride = (self.heads + 2 * self.kv_heads) * self.head_dim;
        Rows { at: qkv.wrapping_add(token * stride + head * self.head_dim), stride }
    }

    /// This head's rows of out's form, from a token on.
    #[inline(always)]
    fn mixed(&self, out: *mut f32, token: usize) -> Rows {
        let width = self.heads * self.head_dim;
        Rows { at: out.wrapping_add(token * width + self.head * self.head_dim), stride: width }
    }

    /// This head's numbers [tokens] of a [heads, tokens] tensor.
    #[inline(always)]
    fn line(&self, lines: *mut f32) -> *mut f32 {
        lines.wrapping_add(self.head * self.tokens)
    }

    /// The dimensions in steps.
    #[inline(always)]
    fn dims(&self) -> impl Iterator<Item = (usize, usize)> {
        let head_dim = self.head_dim;
        (0..head_dim).step_by(DIMS).map(move |from| (from, DIMS.min(head_dim - from)))
    }
}

/// The rows cut where sequences start and end: each piece with its sequence, if it is in one.
#[inline(always)]
fn pieces(
    cu_seqlens: &[u32],
    tokens: usize,
    rows: Range<usize>,
) -> impl Iterator<Item = (Range<usize>, Option<Range<usize>>)> {
    let mut from = rows.start;
    std::iter::from_fn(move || {
        if from >= rows.end {
            return None;
        }
        let after = cu_seqlens.partition_point(|&bound| bound as usize <= from);
        let end = cu_seqlens.get(after).map_or(tokens, |&bound| tokens.min(bound as usize));
        let sequence = (after > 0 && after < cu_seqlens.len()).then(|| cu_seqlens[after - 1] as usize..end);
        let piece = from..end.min(rows.end);
        from = piece.end;
        Some((piece, sequence))
    })
}

/// scores[a's rows, b's rows] = a b^T over all dimensions.
///
/// # Safety
/// Both are matrices of at least that many rows and `head_dim` columns; scores hold `STEP` columns.
#[inline(always)]
unsafe fn scores_of<const FMA: bool>(
    s: Sizes,
    (a, a_rows): (Rows, usize),
    (b, b_rows): (Rows, usize),
    transposed: Rows,
    scores: Rows,
) {
    for (from, width) in s.dims() {
        // SAFETY: as the caller promises; the buffer holds DIMS rows of STEP.
        unsafe {
            transpose(b_rows, width, b.skip(0, from), transposed);
            product::<FMA>(a_rows, padded(b_rows), width, a.skip(0, from), transposed, scores, from > 0);
        }
    }
}

/// y[rows, dims] (+)= weights[rows, b's rows] b, over all dimensions.
///
/// # Safety
/// All are matrices of at least these sizes.
#[inline(always)]
unsafe fn mix<const FMA: bool>(
    s: Sizes,
    rows: usize,
    weights: Rows,
    (b, b_rows): (Rows, usize),
    packed: Rows,
    y: Rows,
    add: bool,
) {
    for (from, width) in s.dims() {
        // SAFETY: as the caller promises; the buffer holds STEP rows of DIMS.
        unsafe {
            pack(b_rows, width, b.skip(0, from), packed);
            product::<FMA>(rows, width, b_rows, weights, packed, y.skip(0, from), add);
        }
    }
}

#[inline(always)]
fn forward<const FMA: bool>(args: &CpuArgs, part: usize) {
    let (s, rows) = Sizes::of(args, part);
    let (qkv, out) = (pointer::<f32>(args, 0), pointer::<f32>(args, 2));
    let lse = s.line(pointer::<f32>(args, 3));
    let (mut transposed, mut packed, mut scores) =
        (Buffer::<{ DIMS * STEP }>::new(), Buffer::<{ DIMS * STEP }>::new(), Buffer::<{ CPU_ROWS * STEP }>::new());
    let (transposed, packed, scores) = (transposed.rows(STEP), packed.rows(DIMS), scores.rows(STEP));
    for (piece, sequence) in pieces(input(args, 1), s.tokens, rows) {
        let (first, count) = (piece.start, piece.len());
        let mixed = s.mixed(out, first);
        let Some(sequence) = sequence else {
            // SAFETY: these tokens are in bounds and this part's own.
            unsafe {
                mixed.fill(count, s.head_dim, 0.0);
                lse.add(first).write_bytes(0, count);
            }
            continue;
        };
        let (mut max, mut sum) = ([-f32::MAX; CPU_ROWS], [0.0f32; CPU_ROWS]);
        for from in (sequence.start..piece.end).step_by(STEP) {
            let keys = STEP.min(piece.end - from);
            // SAFETY: tokens are below the number of tokens; rows of out are this part's own.
            unsafe {
                let (q, k) = (s.packed(qkv, 0, first), s.packed(qkv, 1, from));
                scores_of::<FMA>(s, (q, count), (k, keys), transposed, scores);
                for r in 0..count {
                    let seen = keys.min((first + r + 1).saturating_sub(from));
                    let scores = std::slice::from_raw_parts_mut(scores.skip(r, 0).at, padded(keys));
                    let factor = soften(scores, seen, s.scale, &mut max[r], &mut sum[r]);
                    if from > sequence.start {
                        mixed.skip(r, 0).scale(s.head_dim, factor);
                    }
                }
                let v = s.packed(qkv, 2, from);
                mix::<FMA>(s, count, scores, (v, keys), packed, mixed, from > sequence.start);
            }
        }
        for r in 0..count {
            // SAFETY: as above.
            unsafe {
                mixed.skip(r, 0).scale(s.head_dim, 1.0 / sum[r]);
                *lse.add(first + r) = max[r] + sum[r].ln();
            }
        }
    }
}

/// Makes weights of the first `seen` scores, below a running maximum, and zeros of the rest; adds to the running sum.
/// Returns the factor for what was made under the former maximum.
#[inline(always)]
fn soften(scores: &mut [f32], seen: usize, scale: f32, max: &mut f32, sum: &mut f32) -> f32 {
    scores[seen..].fill(-f32::MAX);
    let greatest = fold(scores, |a, b| if a > b { a } else { b });
    let higher = if seen > 0 && greatest * scale > *max { greatest * scale } else { *max };
    let factor = if higher > *max { exp(*max - higher) } else { 1.0 };
    scores.iter_mut().for_each(|x| *x = exp(*x * scale - higher));
    scores[seen..].fill(0.0);
    *sum = *sum * factor + fold(scores, |a, b| a + b);
    *max = higher;
    factor
}

#[inline(always)]
fn backward_q<const FMA: bool>(args: &CpuArgs, part: usize) {
    let (s, rows) = Sizes::of(args, part);
    let [qkv, out, dout, dqkv] = [0, 2, 4, 5].map(|i| pointer::<f32>(args, i));
    let [lse, delta] = [3, 6].map(|i| s.line(pointer::<f32>(args, i)));
    let (mut transposed, mut packed) = (Buffer::<{ DIMS * STEP }>::new(), Buffer::<{ DIMS * STEP }>::new());
    let (mut scores, mut dscores) = (Buffer::<{ CPU_ROWS * STEP }>::new(), Buffer::<{ CPU_ROWS * STEP }>::new());
    let (transposed, packed) = (transposed.rows(STEP), packed.rows(DIMS));
    let (scores, dscores) = (scores.rows(STEP), dscores.rows(STEP));
    for (piece, sequence) in pieces(input(args, 1), s.tokens, rows) {
        let (first, count) = (piece.start, piece.len());
        let dq = s.packed(dqkv, 0, first);
        // SAFETY: tokens are below the number of tokens; rows of dq and delta are this part's own.
        unsafe {
            let Some(sequence) = sequence else {
                dq.fill(count, s.head_dim, 0.0);
                delta.add(first).write_bytes(0, count);
                continue;
            };
            let (mixed, dmixed) = (s.mixed(out, first), s.mixed(dout, first));
            for r in 0..count {
                *delta.add(first + r) = mixed.skip(r, 0).dot(dmixed.skip(r, 0), s.head_dim);
            }
            for from in (sequence.start..piece.end).step_by(STEP) {
                let keys = STEP.min(piece.end - from);
                let [q, k, v] = [(0, first), (1, from), (2, from)].map(|(which, token)| s.packed(qkv, which, token));
                scores_of::<FMA>(s, (q, count), (k, keys), transposed, scores);
                scores_of::<FMA>(s, (dmixed, count), (v, keys), transposed, dscores);
                for r in 0..count {
                    let seen = keys.min((first + r + 1).saturating_sub(from));
                    let (lse, delta) = (*lse.add(first + r), *delta.add(first + r));
                    let p = std::slice::from_raw_parts(scores.skip(r, 0).at, padded(keys));
                    let ds = std::slice::from_raw_parts_mut(dscores.skip(r, 0).at, padded(keys));
                    for (ds, p) in ds.iter_mut().zip(p) {
                        *ds = exp(p * s.scale - lse) * (*ds - delta) * s.scale;
                    }
                    ds[seen..].fill(0.0);
                }
                mix::<FMA>(s, count, dscores, (k, keys), packed, dq, from > sequence.start);
            }
        }
    }
}

#[inline(always)]
fn backward_kv<const FMA: bool>(args: &CpuArgs, part: usize) {
    let (s, rows) = Sizes::of_shared(args, part);
    let [qkv, dout, dqkv] = [0, 3, 5].map(|i| pointer::<f32>(args, i));
    let (mut transposed, mut packed) = (Buffer::<{ DIMS * STEP }>::new(), Buffer::<{ DIMS * STEP }>::new());
    let (mut scores, mut dscores) = (Buffer::<{ CPU_ROWS * STEP }>::new(), Buffer::<{ CPU_ROWS * STEP }>::new());
    let (transposed, packed) = (transposed.rows(STEP), packed.rows(DIMS));
    let (scores, dscores) = (scores.rows(STEP), dscores.rows(STEP));
    for (piece, sequence) in pieces(input(args, 1), s.tokens, rows) {
        let (first, count) = (piece.start, piece.len());
        let [k, v] = [1, 2].map(|which| s.packed(qkv, which, first));
        let [dk, dv] = [1, 2].map(|which| s.packed(dqkv, which, first));
        // SAFETY: tokens are below the number of tokens; rows of dk and dv are this part's own.
        unsafe {
            let Some(sequence) = sequence else {
                dk.fill(count, s.head_dim, 0.0);
                dv.fill(count, s.head_dim, 0.0);
                continue;
            };
            for s in (0..s.group()).map(|member| s.for_head(s.head + member)) {
                let [lse, delta] = [2, 4].map(|i| s.line(pointer::<f32>(args, i)));
                let later = s.head % s.group() > 0;
                for from in (first..sequence.end).step_by(STEP) {
                    let queries = STEP.min(sequence.end - from);
                    let (q, dmixed) = (s.packed(qkv, 0, from), s.mixed(dout, from));
                    scores_of::<FMA>(s, (k, count), (q, queries), transposed, scores);
                    scores_of::<FMA>(s, (v, count), (dmixed, queries), transposed, dscores);
                    let (mut row_lse, mut row_delta) = ([0.0; STEP], [0.0; STEP]);
                    std::ptr::copy_nonoverlapping(lse.add(from), row_lse.as_mut_ptr(), queries);
                    std::ptr::copy_nonoverlapping(delta.add(from), row_delta.as_mut_ptr(), queries);
                    for r in 0..count {
                        let unseen = queries.min((first + r).saturating_sub(from));
                        let p = std::slice::from_raw_parts_mut(scores.skip(r, 0).at, padded(queries));
                        let ds = std::slice::from_raw_parts_mut(dscores.skip(r, 0).at, padded(queries));
                        for (((p, ds), lse), delta) in p.iter_mut().zip(ds.iter_mut()).zip(&row_lse).zip(&row_delta) {
                            *p = exp(*p * s.scale - lse);
                            *ds = *p * (*ds - delta) * s.scale;
                        }
                        p[..unseen].fill(0.0);
                        ds[..unseen].fill(0.0);
                    }
                    mix::<FMA>(s, count, scores, (dmixed, queries), packed, dv, later || from > first);
                    mix::<FMA>(s, count, dscores, (q, queries), packed, dk, later || from > first);
                }
            }
        }
    }
}
