//! Matrix products on the CPU. One operand lies in packed panels of 64 columns, which are loaded as vectors; the other is
//! read an element at a time and broadcast; a tile of 6 x 64 sums stays in registers.
#![expect(unsafe_code, reason = "micro-kernels over raw panels")]

use super::Sizes;
use super::lane::{Lane, PANEL, Portable};
use super::tile::{Ahead, Broadcast, ROWS, Sums, copy_panel, tiles, transpose};
use crate::common::cpu::{input, output, pointer};
use crate::common::{cpu as launch, operands};
use graph::{Call, CpuArgs, Lowering, Operand, Spec};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Terms that are summed before the next panel is packed: its 32 KiB stay in the first cache.
const TERMS: usize = 128;
/// Terms that are summed at once where panels are packed already and d is turned: the panel stays in the second cache.
const LONG_TERMS: usize = 1024;
/// Most rows of a part.
const BLOCK: usize = 240;
/// Most rows of a part that turns its block of d.
const TURNED_BLOCK: usize = 96;
/// Fewest rows of a part, but for those of turned blocks.
const LEAST_BLOCK: usize = 64;
/// Most panels of a part.
const GROUP: usize = 4;
/// Parts that a large product is cut into, at least; enough for 16 cores.
const PARTS: usize = 48;
/// Columns of d that a part computes as dot products.
const COLUMNS: usize = 32;
/// Up to as many rows of d are computed as dot products where both operands lie along the sum: there, what a row of d
/// is does not depend on how many rows there are.
const DOT_ROWS: usize = 16;
/// Running sums of a dot product.
const SUMS: usize = 16;

/// How a product is done. The vector operand's columns are loaded 64 at a time from panels; the rows of the other are
/// broadcast. Everything here follows from the shape alone, and so does the order of each sum: the terms one after the
/// other, in pieces of `TERMS` or `LONG_TERMS`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    /// Rows of the broadcast operand.
    rows: usize,
    /// Columns of the vector operand.
    columns: usize,
    k: usize,
    /// The broadcast operand is stored as [k, rows].
    along_rows: bool,
    /// A launch of its own has put the vector operand, stored as [columns, k], into panels; else it is [k, columns].
    packed: bool,
    /// d is stored as [columns, rows].
    turned: bool,
    /// c is one row of d.
    row: bool,
}

impl Way {
    fn of(s: &Sizes, row: bool) -> Way {
        let (m, n, k) = (s.m, s.n, s.k);
        // Where both operands lie along the sum, the smaller one is packed.
        if s.transpose_b && !s.transpose_a && (m <= PANEL || 2 * m <= n) {
            Way { rows: n, columns: m, k, along_rows: false, packed: true, turned: true, row }
        } else {
            Way { rows: m, columns: n, k, along_rows: s.transpose_a, packed: s.transpose_b, turned: false, row }
        }
    }

    fn words(&self) -> Vec<u32> {
        let flags = usize::from(self.along_rows)
            + 2 * usize::from(self.packed)
            + 4 * usize::from(self.turned)
            + 8 * usize::from(self.row);
        [self.rows, self.columns, self.k, flags].map(|w| w as u32).to_vec()
    }

    fn from_words(words: &[u32]) -> Way {
        let [rows, columns, k, flags] = *words else { unreachable!("the card gives four words") };
        Way {
            rows: rows as usize,
            columns: columns as usize,
            k: k as usize,
            along_rows: flags & 1 != 0,
            packed: flags & 2 != 0,
            turned: flags & 4 != 0,
            row: flags & 8 != 0,
        }
    }

    fn panels(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Panels of a part: one where the part packs it, else some, for which the broadcast operand stays in the cache.
    fn group(&self) -> usize {
        if self.turned || !self.packed {
            return 1;
        }
        let panels = self.panels().max(1);
        panels.div_ceil(panels.div_ceil(GROUP))
    }

    /// Rows of a part: as many as leave enough parts, cut evenly.
    fn block(&self) -> usize {
        let (least, most) = if self.turned { (32, TURNED_BLOCK) } else { (LEAST_BLOCK, BLOCK) };
        let wanted = (self.rows * self.panels().div_ceil(self.group()) / PARTS).clamp(least, most);
        if wanted == least {
            return least;
        }
        let blocks = self.rows.div_ceil(wanted);
        self.rows.div_ceil(blocks).next_multiple_of(ROWS).min(most)
    }

    /// Terms that are summed before the next block of panels.
    fn terms(&self) -> usize {
        if self.turned { LONG_TERMS } else { TERMS }
    }

    fn parts(&self) -> usize {
        self.rows.div_ceil(self.block()) * self.panels().div_ceil(self.group())
    }
}

/// The launches: with b^T the smaller operand is first packed into panels, and few rows are computed as dot products.
pub fn lower(call: &Call, s: &Sizes, spec: &Spec, _variant: &str) -> Lowering {
    let inputs = call.inputs.len();
    let row = inputs == 3 && call.inputs[2].shape != call.outputs[0].shape;
    let kernels = Kernels::of(&spec.architecture);
    let way = Way::of(s, row);
    if s.m <= DOT_ROWS && s.transpose_b && !s.transpose_a {
        let parts = s.batches() * s.n.div_ceil(COLUMNS);
        return Lowering::one(launch("matmul_dot", kernels.dot, parts, way.words(), operands(inputs, 1)));
    }
    let (broadcast, vectors) = if way.turned { (1, 0) } else { (0, 1) };
    let mut operands = vec![Operand::Input(broadcast), Operand::Input(vectors)];
    operands.extend((inputs == 3).then_some(Operand::Input(2)));
    operands.push(Operand::Output(0));
    let mut lowering = Lowering::default();
    if way.packed {
        operands[1] = Operand::Scratch(0);
        let panels = s.batches() * way.panels();
        lowering.scratch.push((panels * way.k * PANEL * 4) as u64);
        let (from, parts) = (vec![Operand::Input(vectors), Operand::Scratch(0)], panels * way.k.div_ceil(TERMS));
        lowering.launches.push(launch("matmul_pack", kernels.pack, parts, way.words(), from));
    }
    let parts = s.batches() * way.parts();
    lowering.launches.push(launch("matmul", kernels.product, parts, way.words(), operands));
    lowering
}

type Run = fn(&CpuArgs, usize);

struct Kernels {
    product: Run,
    pack: Run,
    dot: Run,
}

/// The three kernels for lanes of one instruction set.
macro_rules! kernels {
    ($lane:ty, $vectors:literal, $sums:literal x $rows:literal x $others:literal $(, $features:literal)?) => {{
        $(#[target_feature(enable = $features)])?
        unsafe fn m(args: &CpuArgs, part: usize) {
            // SAFETY: this function is entered only where the features are there.
            unsafe { product::<$lane, $vectors>(args, part) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn p(args: &CpuArgs, part: usize) {
            // SAFETY: as above.
            unsafe { pack::<$lane>(args, part) }
        }
        $(#[target_feature(enable = $features)])?
        unsafe fn d(args: &CpuArgs, part: usize) {
            // SAFETY: as above.
            unsafe { dot::<$lane, $sums, $rows, $others>(args, part) }
        }
        Kernels {
            // SAFETY: the device reports an architecture only after detecting its features.
            product: |args, part| unsafe { m(args, part) },
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
            "avx512" => kernels!(super::lane::Avx512, 4, 1 x 4 x 4, "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma"),
            #[cfg(target_arch = "x86_64")]
            "avx2" => kernels!(super::lane::Avx2, 2, 2 x 2 x 2, "avx2,fma"),
            _ => kernels!(Portable, 2, 4 x 1 x 2),
        }
    }
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

/// A part of the packing of an operand stored as [columns, k]: `TERMS` terms of a panel, as [term, column in the panel].
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn pack<L: Lane>(args: &CpuArgs, part: usize) {
    let way = Way::from_words(args.words);
    let (k, columns, panels) = (way.k, way.columns, way.panels());
    let pieces = k.div_ceil(TERMS);
    let (product, panel, from) = (part / (pieces * panels), part / pieces % panels, part % pieces * TERMS);
    let (first, terms) = (panel * PANEL, TERMS.min(k - from));
    let width = PANEL.min(columns - first);
    let source = &input::<f32>(args, 0)[product * columns * k..];
    let start = ((product * panels + panel) * k + from) * PANEL;
    let to = output::<f32>(args, 1, start..start + terms * PANEL);
    if width < PANEL {
        to.fill(0.0);
    }
    // SAFETY: the panel's columns and terms are in bounds of the source, and `to` is the part's own.
    unsafe { transpose::<L>(source.as_ptr().add(first * k + from), k, width, terms, to.as_mut_ptr(), PANEL) };
}

/// A part of the product: a block of rows and a group of panels. Operands are the broadcast one, the vectors, [c,] d.
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn product<L: Lane, const V: usize>(args: &CpuArgs, part: usize) {
    let way = Way::from_words(args.words);
    let (block, group) = (way.block(), way.group());
    let (blocks, groups) = (way.rows.div_ceil(block), way.panels().div_ceil(group));
    let first = part % blocks * block;
    let first_panel = part / blocks % groups * group;
    let part = Part {
        way,
        product: part / (blocks * groups),
        rows: first..way.rows.min(first + block),
        panels: first_panel..way.panels().min(first_panel + group),
    };
    // SAFETY: the caller's promise.
    unsafe {
        if way.turned {
            part.turned::<L, V>(args);
        } else {
            part.straight::<L, V>(args);
        }
    }
}

struct Part {
    way: Way,
    product: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

impl Part {
    /// # Safety
    /// The lane's instructions are there.
    #[inline(always)]
    unsafe fn straight<L: Lane, const V: usize>(&self, args: &CpuArgs) {
        let Way { rows: m, columns: n, .. } = self.way;
        let (first, rows) = (self.rows.start, self.rows.len());
        let d = pointer::<f32>(args, args.operands.len() - 1).wrapping_add(self.product * m * n);
        let c = (args.operands.len() == 4).then(|| pointer::<f32>(args, 2).cast_const());
        let mut edge = Local::<{ BLOCK * PANEL }>::new();
        let edge = edge.pointer();
        // The last panel may be partial: it is summed in `edge`.
        let whole = |panel: usize| (panel + 1) * PANEL <= n;
        // SAFETY: the part's rows and columns are in bounds and touched by no other part.
        unsafe {
            let target = |panel: usize, accumulate: bool| {
                let start = first * n + panel * PANEL;
                if whole(panel) {
                    Sums { at: d.add(start), stride: n, accumulate }
                } else {
                    Sums { at: edge, stride: PANEL, accumulate }
                }
            };
            if let Some(c) = c {
                for panel in self.panels.clone() {
                    let (to, column) = (target(panel, false), panel * PANEL);
                    for i in 0..rows {
                        let row = self.product * m * n + (first + i) * n;
                        let from = c.add(if self.way.row { column } else { row + column });
                        std::ptr::copy(from, to.at.add(i * to.stride), PANEL.min(n - column));
                    }
                }
            }
            self.sum::<L, V>(args, |panel, again| target(panel, again || c.is_some()), Ahead::NOTHING);
            if let Some(panel) = self.panels.clone().find(|&p| !whole(p)) {
                for i in 0..rows {
                    let to = d.add((first + i) * n + panel * PANEL);
                    std::ptr::copy_nonoverlapping(edge.add(i * PANEL), to, n - panel * PANEL);
                }
            }
        }
    }

    /// # Safety
    /// The lane's instructions are there.
    #[inline(always)]
    unsafe fn turned<L: Lane, const V: usize>(&self, args: &CpuArgs) {
        let Way { rows: n, columns: m, row, .. } = self.way;
        let (first, columns) = (self.rows.start, self.rows.len());
        let mut sums = Local::<{ TURNED_BLOCK * PANEL }>::new();
        let mut block = Local::<{ TURNED_BLOCK * PANEL }>::new();
        // SAFETY: the part's rows and columns are in bounds and touched by no other part.
        unsafe {
            let at = sums.pointer();
            for panel in self.panels.clone() {
                let rows = PANEL.min(m - panel * PANEL);
                let start = (self.product * m + panel * PANEL) * n + first;
                let d = pointer::<f32>(args, args.operands.len() - 1).add(start);
                let ahead = Ahead { at: d, stride: n, rows, width: columns };
                self.sum::<L, V>(args, |_, accumulate| Sums { at, stride: PANEL, accumulate }, ahead);
                if args.operands.len() < 4 {
                    transpose::<L>(at, PANEL, columns, rows, d, n);
                    continue;
                }
                transpose::<L>(at, PANEL, columns, rows, block.pointer(), TURNED_BLOCK);
                for i in 0..rows {
                    let (from, to) = (block.pointer().add(i * TURNED_BLOCK), d.add(i * n));
                    let c = pointer::<f32>(args, 2).add(if row { first } else { start + i * n });
                    let whole = columns / L::WIDTH * L::WIDTH;
                    for j in (0..whole).step_by(L::WIDTH) {
                        L::store(to.add(j), L::add(L::load(c.add(j)), L::load(from.add(j))));
                    }
                    for j in whole..columns {
                        *to.add(j) = *c.add(j) + *from.add(j);
                    }
                }
            }
        }
    }

    /// Sums the part's products into `target(panel, whether it holds sums already)`; fetches `ahead` meanwhile.
    ///
    /// # Safety
    /// The lane's instructions are there, and the target holds the part's rows.
    #[inline(always)]
    unsafe fn sum<L: Lane, const V: usize>(
        &self,
        args: &CpuArgs,
        target: impl Fn(usize, bool) -> Sums,
        mut ahead: Ahead,
    ) {
        let Way { rows: m, columns: n, k, along_rows, packed, .. } = self.way;
        let (first, rows) = (self.rows.start, self.rows.len());
        let s = &input::<f32>(args, 0)[self.product * m * k..];
        let v = &input::<f32>(args, 1)[self.product * k * if packed { self.way.panels() * PANEL } else { n }..];
        let mut packed_v = Local::<{ TERMS * PANEL }>::new();
        let step = self.way.terms();
        for from in (0..k.max(1)).step_by(step) {
            let terms = step.min(k - from);
            let next = (from + terms, step.min(k - from - terms));
            // SAFETY: rows, terms and columns are in bounds of both operands.
            unsafe {
                let s = if along_rows {
                    let at = s.as_ptr().wrapping_add(next.0 * m + first);
                    ahead = Ahead { at, stride: m, rows: next.1, width: rows };
                    Broadcast { at: s.as_ptr().add(from * m + first), row_stride: 1, term_stride: m }
                } else {
                    Broadcast { at: s.as_ptr().add(first * k + from), row_stride: k, term_stride: 1 }
                };
                for panel in self.panels.clone() {
                    let (c, column) = (target(panel, from > 0), panel * PANEL);
                    if packed {
                        let at = v.as_ptr().add(panel * k * PANEL + from * PANEL);
                        tiles::<L, V>(rows, terms, s, at, c, [ahead, Ahead::NOTHING]);
                    } else {
                        let at = v.as_ptr().add(from * n + column);
                        copy_panel(at, n, terms, PANEL.min(n - column), packed_v.pointer());
                        let vectors = Ahead { at: at.wrapping_add(terms * n), stride: n, rows: next.1, width: PANEL };
                        tiles::<L, V>(rows, terms, s, packed_v.pointer(), c, [vectors, ahead]);
                    }
                }
            }
        }
    }
}

/// A part of d = [c +] a b^T with few rows: dot products of `SUMS` running sums (S vectors), R rows of a by J of b at a
/// time.
///
/// # Safety
/// The lane's instructions are there.
#[inline(always)]
unsafe fn dot<L: Lane, const S: usize, const R: usize, const J: usize>(args: &CpuArgs, part: usize) {
    // Few rows make the way turned.
    let Way { rows: n, columns: m, .. } = Way::from_words(args.words);
    let blocks = n.div_ceil(COLUMNS);
    let (product, first) = (part / blocks, part % blocks * COLUMNS);
    let last = n.min(first + COLUMNS);
    for j in (first..last).step_by(J) {
        for i in (0..m).step_by(R) {
            // SAFETY: the rows of both are in bounds.
            unsafe {
                match (i + R <= m, j + J <= last) {
                    (true, true) => dots::<L, S, R, J>(args, product, i, j),
                    (true, false) => (j..last).for_each(|j| dots::<L, S, R, 1>(args, product, i, j)),
                    (false, true) => (i..m).for_each(|i| dots::<L, S, 1, J>(args, product, i, j)),
                    (false, false) => {
                        (i..m).for_each(|i| (j..last).for_each(|j| dots::<L, S, 1, 1>(args, product, i, j)));
                    }
                }
            }
        }
    }
}

/// R x J elements of d from (i, j) on; each is summed in the same order whatever R and J.
///
/// # Safety
/// The lane's instructions are there; S vectors hold `SUMS` elements; the elements are in bounds and this part's own.
#[inline(always)]
unsafe fn dots<L: Lane, const S: usize, const R: usize, const J: usize>(
    args: &CpuArgs,
    product: usize,
    i: usize,
    j: usize,
) {
    let Way { rows: n, columns: m, k, row, .. } = Way::from_words(args.words);
    let a = &input::<f32>(args, 0)[(product * m + i) * k..][..R * k];
    let b = &input::<f32>(args, 1)[(product * n + j) * k..][..J * k];
    let d: *mut f32 = pointer(args, args.operands.len() - 1);
    let c = (args.operands.len() == 4).then(|| pointer::<f32>(args, 2));
    let whole = k / SUMS * SUMS;
    // SAFETY: whole vectors lie below `whole`; c is one row, or as large as d.
    unsafe {
        let mut sums = [[[L::zero(); S]; R]; J];
        for p in (0..whole).step_by(SUMS) {
            for y in 0..J {
                // The next rows of b are on their way while these are summed.
                L::fetch(b.as_ptr().wrapping_add((J + y) * k + p));
                for x in 0..S {
                    let at = p + x * L::WIDTH;
                    let vector = L::load(b.as_ptr().add(y * k + at));
                    for r in 0..R {
                        let other = L::load(a.as_ptr().add(r * k + at));
                        sums[y][r][x] = L::multiply_add(other, vector, sums[y][r][x]);
                    }
                }
            }
        }
        for r in 0..R {
            for y in 0..J {
                let rest: f32 = (whole..k).map(|p| a[r * k + p] * b[y * k + p]).sum();
                let at = (product * m + i + r) * n + j + y;
                let before = c.map_or(0.0, |c| *c.add(if row { j + y } else { at }));
                *d.add(at) = before + (total::<L, S>(sums[y][r]) + rest);
            }
        }
    }
}

/// The sum of all elements, in pairs.
///
/// # Safety
/// The lane's instructions are there; S vectors hold `SUMS` elements.
#[inline(always)]
unsafe fn total<L: Lane, const S: usize>(sums: [L; S]) -> f32 {
    let mut all = [0.0; SUMS];
    assert_eq!(S * L::WIDTH, SUMS);
    for (to, sum) in all.chunks_exact_mut(L::WIDTH).zip(sums) {
        // SAFETY: the chunk has as many elements as the vector.
        unsafe { L::store(to.as_mut_ptr(), sum) };
    }
    let mut width = SUMS;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            all[i] += all[i + width];
        }
    }
    all[0]
}

#[cfg(test)]
mod tests {
    use crate::matmul::{MATMUL, MATMUL_ADD};
    use device::{Choice, Device, Options, check};
    use graph::{Case, CaseInput, Params, Tuning};
    use tensor::rng::Philox;

    fn devices() -> Vec<Device> {
        let open = |architecture: &str| {
            let architecture = Some(architecture.to_string());
            Device::open(Choice::Cpu, &Options { threads: Some(1), architecture, ..Options::default() })
        };
        ["avx512", "avx2", "portable"].into_iter().filter_map(|a| open(a).ok()).collect()
    }

    fn case(batch: usize, [m, n, k]: [usize; 3], ta: bool, tb: bool, c: Option<bool>) -> Case {
        let matrix = |x: usize, y: usize, flip: bool| {
            let sizes = if flip { [batch, y, x] } else { [batch, x, y] };
            CaseInput::normal(if batch == 1 { sizes[1..].to_vec() } else { sizes.to_vec() })
        };
        let params = Params::NONE.with_u32("transpose_a", usize::from(ta)).with_u32("transpose_b", usize::from(tb));
        let mut inputs = vec![matrix(m, k, ta), matrix(k, n, tb)];
        inputs.extend(c.map(|row| if row { CaseInput::normal([n]) } else { matrix(m, n, false) }));
        Case::new("test", params, inputs)
    }

    #[test]
    fn products_of_any_size_are_right() {
        let random = Philox::new(3, "sizes");
        for device in devices() {
            for i in 0..60u64 {
                let below = |j: u64, bound: u32| random.below(16 * i + j, bound) as usize;
                let sizes = [1 + below(0, 180), 1 + below(1, 180), 1 + below(2, 300)];
                let (ta, tb) = (below(3, 2) == 1, below(4, 2) == 1);
                let c = [None, Some(false), Some(true)][below(5, 3)];
                let batch = 1 + below(6, 2);
                let op = if c.is_some() { &MATMUL_ADD } else { &MATMUL };
                let done = check::run(&device, op, &case(batch, sizes, ta, tb, c), &Tuning::default(), i).unwrap();
                let name = format!("{batch} x {sizes:?} {ta} {tb} {c:?} on {}", device.spec().architecture);
                assert!(done.error < 5e-5, "{name}: {} at {:?}", done.error, done.worst);
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are_up_to_16() {
        let rows = |device: &Device, m: usize| {
            let mut case = case(1, [m, 50, 333], false, true, None);
            let values = |elements: usize| (0..elements).map(|e| ((e * 7919 % 1000) as f64 / 500.0 - 1.0) / 3.0);
            for input in &mut case.inputs {
                input.fill = graph::Fill::Values(values(input.ty.elements()).collect());
            }
            check::run(device, &MATMUL, &case, &Tuning::default(), 0).unwrap().bits.remove(0)
        };
        for device in devices() {
            let all = rows(&device, 16);
            assert!((1..16).all(|m| rows(&device, m) == all[..m * 50]));
        }
    }
}
