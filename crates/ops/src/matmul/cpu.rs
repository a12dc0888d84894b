//! Matrix products on the CPU. One operand lies in packed panels of 64 columns, which are loaded as vectors; the other is
//! read an element at a time and broadcast; a tile of 6 x 64 sums stays in registers.
#![expect(unsafe_code, reason = "micro-kernels over raw panels")]

use super::Sizes;
use super::lane::{Lane, PANEL, Portable};
use crate::common::cpu::{input, output, pointer};
use crate::common::{cpu as launch, operands};
use graph::{Call, CpuArgs, Launch, Lowering, Operand, Spec};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 6;
/// Terms that are summed before the next panel is packed: its 32 KiB stay in the first cache.
const TERMS: usize = 128;
/// Rows of d that a part computes, where a is read along its rows.
const BLOCK: usize = 240;
/// Rows of d that a part computes, where a is read along its columns and packed.
const TRANSPOSED_BLOCK: usize = 96;
/// Columns of d that a part computes, where b's rows are broadcast.
const COLUMNS: usize = 32;
/// Up to as many rows of d are computed as dot products where both operands lie along the sum.
const DOT_ROWS: usize = 4;

/// Parts are cut by shape alone. With b^T, panels of a are packed once (a launch of its own) and b's rows broadcast; else
/// each part packs its panel of b and broadcasts a.
pub fn lower(call: &Call, s: &Sizes, spec: &Spec, _variant: &str) -> Lowering {
    let inputs = call.inputs.len();
    let row = inputs == 3 && call.inputs[2].shape != call.outputs[0].shape;
    let flags = usize::from(s.transpose_a) + 2 * usize::from(row);
    let words = [s.m, s.n, s.k, flags].map(|w| w as u32).to_vec();
    let one = |name, run, parts| Lowering::one(launch(name, run, parts, words.clone(), operands(inputs, 1)));
    let kernels = Kernels::of(&spec.architecture);
    if !s.transpose_b {
        let block = if s.transpose_a { TRANSPOSED_BLOCK } else { BLOCK };
        let parts = s.batches() * s.n.div_ceil(PANEL) * s.m.div_ceil(block);
        return one("matmul", kernels.broadcast_a, parts);
    }
    if s.m <= DOT_ROWS && !s.transpose_a {
        return one("matmul_dot", kernels.dot, s.batches() * s.n.div_ceil(COLUMNS));
    }
    let panels = s.batches() * s.m.div_ceil(PANEL);
    let mut read: Vec<Operand> = (1..inputs).map(Operand::Input).collect();
    read.insert(0, Operand::Scratch(0));
    read.push(Operand::Output(0));
    let pack: Launch = launch(
        "matmul_pack",
        kernels.pack,
        panels * s.k.div_ceil(TERMS),
        words.clone(),
        vec![Operand::Input(0), Operand::Scratch(0)],
    );
    let product = launch("matmul", kernels.broadcast_b, panels * s.n.div_ceil(COLUMNS), words.clone(), read);
    Lowering { scratch: vec![(panels * s.k * PANEL * 4) as u64], launches: vec![pack, product] }
}

type Run = fn(&CpuArgs, usize);

struct Kernels {
    broadcast_a: Run,
    broadcast_b: Run,
    pack: Run,
    dot: Run,
}

/// The four kernels for lanes of one instruction set.
macro_rules! kernels {
    ($lane:ty, $vectors:literal $(, $features:literal)?) => {{
        $(#[target_feature(enable = $features)])?
        unsafe fn a(args: &CpuArgs, part: usize) {
            // SAFETY: this function is entered only where the features are there.
            unsafe { broadcast_a::<$lane, $vectors>(args, part) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn b(args: &CpuArgs, part: usize) {
            // SAFETY: as above.
            unsafe { broadcast_b::<$lane, $vectors>(args, part) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn p(args: &CpuArgs, part: usize) {
            // SAFETY: as above.
            unsafe { pack::<$lane>(args, part) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn d(args: &CpuArgs, part: usize) {
            dot(args, part);
        }
        Kernels {
            // SAFETY: the device reports an architecture only after detecting its features.
            broadcast_a: |args, part| unsafe { a(args, part) },
            // SAFETY: as above.
            broadcast_b: |args, part| unsafe { b(args, part) },
            // SAFETY: as above.
            pack: |args, part| unsafe { p(args, part) },
            // SAFETY: as above.
            dot: |args, part| unsafe { d(args, part) },
        }
    }};
}

impl Kernels {
    fn of(architecture: &str) -> Kernels {
        match architecture {
            #[cfg(target_arch = "x86_64")]
            "avx512" => kernels!(super::lane::Avx512, 4, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"),
            #[cfg(target_arch = "x86_64")]
            "avx2" => kernels!(super::lane::Avx2, 2, "avx2,fma"),
            _ => kernels!(Portable, 2),
        }
    }
}

struct Words {
    m: usize,
    n: usize,
    k: usize,
    transpose_a: bool,
    row: bool,
}

fn words(args: &CpuArgs) -> Words {
    let [m, n, k, flags] = *args.words else { unreachable!("the card gives four words") };
    Words { m: m as usize, n: n as usize, k: k as usize, transpose_a: flags & 1 != 0, row: flags & 2 != 0 }
}

/// Memory that is written before it is read.
#[repr(align(64))]
struct Local<const N: usize>(MaybeUninit<[f32; N]>);

impl<const N: usize> Local<N> {
    fn new() -> Self {
        Local(MaybeUninit::uninit())
    }

    fn pointer(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// A broadcast operand: element (row, term) lies at `row * row_stride + term * term_stride`.
#[derive(Clone, Copy)]
struct Broadcast {
    at: *const f32,
    row_stride: usize,
    term_stride: usize,
}

/// sums[r][x] (+)= sum over terms of s[r, p] v[p, x] for R rows and V vectors of columns from `column` on.
///
/// # Safety
/// `v` holds `terms` rows of `PANEL` elements, `s` as many terms of R rows, and `c` R rows of `stride` elements.
#[inline(always)]
unsafe fn tile<L: Lane, const V: usize, const R: usize>(
    terms: usize,
    s: Broadcast,
    v: *const f32,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    // SAFETY: the caller's promise covers every address below.
    unsafe {
        let mut column = 0;
        while column < PANEL {
            let mut sums = [[L::zero(); V]; R];
            for p in 0..terms {
                let mut vectors = [L::zero(); V];
                for x in 0..V {
                    vectors[x] = L::load(v.add(p * PANEL + column + x * L::WIDTH));
                }
                for r in 0..R {
                    let value = L::splat(*s.at.add(r * s.row_stride + p * s.term_stride));
                    for x in 0..V {
                        sums[r][x] = L::multiply_add(value, vectors[x], sums[r][x]);
                    }
                }
            }
            for r in 0..R {
                for x in 0..V {
                    let at = c.add(r * stride + column + x * L::WIDTH);
                    let sum = if accumulate { L::add(L::load(at), sums[r][x]) } else { sums[r][x] };
                    L::store(at, sum);
                }
            }
            column += V * L::WIDTH;
        }
    }
}

/// All rows of `rows`, in tiles of at most `ROWS`.
///
/// # Safety
/// As for `tile`, for all rows.
#[inline(always)]
unsafe fn tiles<L: Lane, const V: usize>(
    rows: usize,
    terms: usize,
    s: Broadcast,
    v: *const f32,
    c: *mut f32,
    stride: usize,
    accumulate: bool,
) {
    let mut done = 0;
    while done < rows {
        let left = rows - done;
        // Two tiles of 4 are faster than one of 6 and one of 2.
        let now = if left == ROWS + 2 { 4 } else { left.min(ROWS) };
        // SAFETY: the caller's promise, from row `done` on.
        unsafe {
            let s = Broadcast { at: s.at.add(done * s.row_stride), ..s };
            let c = c.add(done * stride);
            match now {
                6 => tile::<L, V, 6>(terms, s, v, c, stride, accumulate),
                5 => tile::<L, V, 5>(terms, s, v, c, stride, accumulate),
                4 => tile::<L, V, 4>(terms, s, v, c, stride, accumulate),
                3 => tile::<L, V, 3>(terms, s, v, c, stride, accumulate),
                2 => tile::<L, V, 2>(terms, s, v, c, stride, accumulate),
                _ => tile::<L, V, 1>(terms, s, v, c, stride, accumulate),
            }
        }
        done += now;
    }
}

/// Copies columns `from..from + width` of `terms` rows into a panel, and zeros beside them.
///
/// # Safety
/// `b` holds `terms` rows of `stride` elements, `panel` as many rows of `PANEL`.
#[inline(always)]
unsafe fn copy_panel(b: *const f32, stride: usize, terms: usize, width: usize, panel: *mut f32) {
    for p in 0..terms {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (b.add(p * stride), panel.add(p * PANEL));
            if width == PANEL {
                std::ptr::copy_nonoverlapping(from, to, PANEL);
            } else {
                std::ptr::copy_nonoverlapping(from, to, width);
                std::ptr::write_bytes(to.add(width), 0, PANEL - width);
            }
        }
    }
}

/// A part of d = [c +] op(a) b: a panel of columns and a block of rows; b's panel is packed, a is broadcast.
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn broadcast_a<L: Lane, const V: usize>(args: &CpuArgs, part: usize) {
    let Words { m, n, k, transpose_a, row } = words(args);
    let block = if transpose_a { TRANSPOSED_BLOCK } else { BLOCK };
    let (blocks, panels) = (m.div_ceil(block), n.div_ceil(PANEL));
    let (product, panel, first) = (part / (blocks * panels), part / blocks % panels * PANEL, part % blocks * block);
    let (rows, width) = (block.min(m - first), PANEL.min(n - panel));
    let (a, b) = (&input::<f32>(args, 0)[product * m * k..], &input::<f32>(args, 1)[product * k * n..]);
    let d: *mut f32 = pointer(args, args.operands.len() - 1);
    let mut edge = Local::<{ BLOCK * PANEL }>::new();
    let mut packed_b = Local::<{ TERMS * PANEL }>::new();
    let mut packed_a = Local::<{ TERMS * TRANSPOSED_BLOCK }>::new();
    let start = product * m * n + first * n + panel;
    // SAFETY: the part's rows and columns are in bounds and touched by no other part; a partial panel is summed in `edge`.
    unsafe {
        let (c, stride) = if width == PANEL { (d.add(start), n) } else { (edge.pointer(), PANEL) };
        let with_c = args.operands.len() == 4;
        if with_c {
            let before: *const f32 = pointer(args, 2);
            for i in 0..rows {
                let from = before.add(if row { panel } else { start + i * n });
                std::ptr::copy(from, c.add(i * stride), width);
            }
        }
        for from in (0..k).step_by(TERMS) {
            let terms = TERMS.min(k - from);
            copy_panel(b.as_ptr().add(from * n + panel), n, terms, width, packed_b.pointer());
            let s = if transpose_a {
                for p in 0..terms {
                    let source = a.as_ptr().add((from + p) * m + first);
                    std::ptr::copy_nonoverlapping(source, packed_a.pointer().add(p * TRANSPOSED_BLOCK), rows);
                }
                Broadcast { at: packed_a.pointer(), row_stride: 1, term_stride: TRANSPOSED_BLOCK }
            } else {
                Broadcast { at: a.as_ptr().add(first * k + from), row_stride: k, term_stride: 1 }
            };
            tiles::<L, V>(rows, terms, s, packed_b.pointer(), c, stride, with_c || from > 0);
        }
        if width < PANEL {
            for i in 0..rows {
                std::ptr::copy_nonoverlapping(edge.pointer().add(i * PANEL), d.add(start + i * n), width);
            }
        }
    }
}

/// A part of the packing of op(a): `TERMS` terms of a panel of rows, as [term, row in the panel].
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn pack<L: Lane>(args: &CpuArgs, part: usize) {
    let Words { m, k, transpose_a, .. } = words(args);
    let (pieces, panels) = (k.div_ceil(TERMS), m.div_ceil(PANEL));
    let (product, panel, from) = (part / (pieces * panels), part / pieces % panels, part % pieces * TERMS);
    let (first, terms) = (panel * PANEL, TERMS.min(k - from));
    let width = PANEL.min(m - first);
    let a = &input::<f32>(args, 0)[product * m * k..];
    let start = ((product * panels + panel) * k + from) * PANEL;
    let to = output::<f32>(args, 1, start..start + terms * PANEL);
    // SAFETY: the panel's rows and terms are in bounds of a, and `to` is the part's own.
    unsafe {
        if transpose_a {
            copy_panel(a.as_ptr().add(from * m + first), m, terms, width, to.as_mut_ptr());
        } else {
            if width < PANEL {
                to.fill(0.0);
            }
            transpose::<L>(a.as_ptr().add(first * k + from), k, width, terms, to.as_mut_ptr(), PANEL);
        }
    }
}

/// to[x, y] = from[y, x] for `rows` x `columns` elements of `from`.
///
/// # Safety
/// Both hold as many rows at their strides.
#[inline(always)]
unsafe fn transpose<L: Lane>(
    from: *const f32,
    from_stride: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for y in (0..rows).step_by(16) {
        for x in (0..columns).step_by(16) {
            // SAFETY: the caller's promise; only whole blocks of 16 x 16 go to the lane's own transpose.
            unsafe {
                let (source, target) = (from.add(y * from_stride + x), to.add(x * to_stride + y));
                if y + 16 <= rows && x + 16 <= columns {
                    L::transpose_16(source, from_stride, target, to_stride);
                    continue;
                }
                for i in 0..16.min(rows - y) {
                    for j in 0..16.min(columns - x) {
                        *target.add(j * to_stride + i) = *source.add(i * from_stride + j);
                    }
                }
            }
        }
    }
}

/// A part of d = [c +] op(a) b^T: a panel of rows and a block of columns; a's panel is packed, b's rows are broadcast.
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn broadcast_b<L: Lane, const V: usize>(args: &CpuArgs, part: usize) {
    let Words { m, n, k, row, .. } = words(args);
    let (blocks, panels) = (n.div_ceil(COLUMNS), m.div_ceil(PANEL));
    let (product, panel, first) = (part / (blocks * panels), part / blocks % panels, part % blocks * COLUMNS);
    let columns = COLUMNS.min(n - first);
    let rows = PANEL.min(m - panel * PANEL);
    let a = &input::<f32>(args, 0)[(product * panels + panel) * k * PANEL..];
    let b = &input::<f32>(args, 1)[product * k * n + first * k..];
    let d: *mut f32 = pointer(args, args.operands.len() - 1);
    let mut sums = Local::<{ COLUMNS * PANEL }>::new();
    let mut block = Local::<{ COLUMNS * PANEL }>::new();
    // SAFETY: the part's rows and columns are in bounds and touched by no other part.
    unsafe {
        let s = Broadcast { at: b.as_ptr(), row_stride: k, term_stride: 1 };
        if k == 0 {
            std::ptr::write_bytes(sums.pointer(), 0, COLUMNS * PANEL);
        }
        tiles::<L, V>(columns, k, s, a.as_ptr(), sums.pointer(), PANEL, false);
        transpose::<L>(sums.pointer(), PANEL, columns, rows, block.pointer(), COLUMNS);
        for i in 0..rows {
            let start = product * m * n + (panel * PANEL + i) * n + first;
            let (from, to) = (block.pointer().add(i * COLUMNS), d.add(start));
            if args.operands.len() == 4 {
                let c = pointer::<f32>(args, 2).add(if row { first } else { start });
                for j in 0..columns {
                    *to.add(j) = *c.add(j) + *from.add(j);
                }
            } else {
                std::ptr::copy_nonoverlapping(from, to, columns);
            }
        }
    }
}

/// A part of d = [c +] a b^T with few rows: dot products of 32 running sums, added in a fixed order.
#[inline(always)]
fn dot(args: &CpuArgs, part: usize) {
    let Words { m, n, k, row, .. } = words(args);
    let blocks = n.div_ceil(COLUMNS);
    let (product, first) = (part / blocks, part % blocks * COLUMNS);
    let columns: Range<usize> = first..n.min(first + COLUMNS);
    let (a, b) = (&input::<f32>(args, 0)[product * m * k..], &input::<f32>(args, 1)[product * k * n..]);
    for i in 0..m {
        let start = (product * m + i) * n;
        let d = output::<f32>(args, args.operands.len() - 1, start + columns.start..start + columns.end);
        let x = &a[i * k..(i + 1) * k];
        for (d, j) in d.iter_mut().zip(columns.clone()) {
            let sum = dot_product(x, &b[j * k..(j + 1) * k]);
            *d = if args.operands.len() == 4 {
                // SAFETY: c is one row, or as large as d, whose element this part alone reads and writes.
                sum + unsafe { *pointer::<f32>(args, 2).add(if row { j } else { start + j }) }
            } else {
                sum
            };
        }
    }
}

#[inline(always)]
fn dot_product(x: &[f32], y: &[f32]) -> f32 {
    const SUMS: usize = 32;
    let mut sums = [0.0f32; SUMS];
    let (xs, ys) = (x.chunks_exact(SUMS), y.chunks_exact(SUMS));
    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in xs.zip(ys) {
        for i in 0..SUMS {
            sums[i] += x[i] * y[i];
        }
    }
    let mut width = SUMS;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0] + rest
}
