//! `matmul`: d = op(a) op(b), and `matmul_add`: d = c + op(a) op(b), where op may transpose.

mod cpu;
#[path = "lane/cpu.rs"]
mod lane;
#[path = "tile/cpu.rs"]
mod tile;
mod vulkan;

use crate::common::stored::{self, GPUS, Types};
use crate::{common, elementwise};
use graph::launch::Epilogue;
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CudaSource, DeviceKind, Fusion, Gemm, Kernel, KernelSource, Launch,
    Lowering, Meaning, OpDef, Operand, Params, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Rows and columns of the output that one GPU group computes, with 256 threads.
const TILE: usize = 64;
/// The library's scratch.
const LIBRARY_BYTES: u64 = 4 << 20;

/// `matmul`: d = op(a) op(b).
pub static MATMUL: OpDef = OpDef {
    name: "matmul",
    formula: "d = op(a) op(b)",
    infer: |params, types| {
        expect::inputs(types, 2)?;
        Ok(vec![Sizes::of(params, types)?.output(types[0].dtype)])
    },
    storage: FLOATS,
    cost: |call| cost(call),
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    variants,
    lower: |call, spec, variant| common::widened(call, spec, GPUS, |call| lower(call, spec, variant)),
    shaders: vulkan::SHADERS,
    cases: || cases(false),
    ..OpDef::BASE
};

/// `matmul_add`: d = c + op(a) op(b), with c of d's shape or one row of it.
pub static MATMUL_ADD: OpDef = OpDef {
    name: "matmul_add",
    formula: "d = c + op(a) op(b)",
    infer: |params, types| {
        expect::inputs(types, 3)?;
        let output = Sizes::of(params, types)?.output(types[0].dtype);
        expect::dtype("c", &types[2], types[0].dtype)?;
        if types[2].shape != output.shape && *types[2].shape != output.shape[output.shape.len() - 1..] {
            return Err(format!("`c` has shape {}; expected {} or one row of it", types[2].shape, output.shape));
        }
        Ok(vec![output])
    },
    storage: FLOATS,
    sharing: &[(0, 2)],
    cost: |call| cost(call),
    meaning: Meaning::Unfused(Fusion {
        unfused: |inputs, params| {
            let product = inputs[0].tracer().emit(&MATMUL, &[&inputs[0], &inputs[1]], params.clone())[0].clone();
            vec![elementwise::add(&product, &inputs[2])]
        },
        params: |nodes| nodes[0].clone(),
    }),
    variants,
    lower: |call, spec, variant| common::widened(call, spec, GPUS, |call| lower(call, spec, variant)),
    shaders: vulkan::SHADERS,
    cases: || cases(true),
    ..OpDef::BASE
};

/// op(a) op(b): [m, n] from a [m, k] and b [k, n], or a [k, m] with `transpose_a`, b [n, k] with `transpose_b`; with a
/// leading batch dimension on both or on neither.
#[track_caller]
pub fn matmul(a: &Tensor, b: &Tensor, transpose_a: bool, transpose_b: bool) -> Tensor {
    let params = Params::NONE
        .with_u32("transpose_a", usize::from(transpose_a))
        .with_u32("transpose_b", usize::from(transpose_b));
    a.tracer().emit(&MATMUL, &[a, b], params)[0].clone()
}

/// x w^T: [tokens, out] from x [tokens, in] and w [out, in].
#[track_caller]
pub fn linear(x: &Tensor, w: &Tensor) -> Tensor {
    matmul(x, w, false, true)
}

/// The sizes of d[m, n] = op(a)[m, k] op(b)[k, n].
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: Option<usize>,
    m: usize,
    n: usize,
    k: usize,
    transpose_a: bool,
    transpose_b: bool,
}

impl Sizes {
    fn of(params: &Params, types: &[TensorType]) -> Result<Sizes, String> {
        let (a, b) = (&types[0], &types[1]);
        let dtype = expect::float("a", a)?;
        expect::dtype("b", b, dtype)?;
        let (batch, a_sizes, b_sizes) = match (&a.shape[..], &b.shape[..]) {
            (&[p, q], &[r, s]) => (None, [p, q], [r, s]),
            (&[n, p, q], &[o, r, s]) if n == o => (Some(n), [p, q], [r, s]),
            _ => {
                return Err(format!(
                    "`a` {} and `b` {} are not two matrices or two equal batches of them",
                    a.shape, b.shape
                ));
            }
        };
        let (transpose_a, transpose_b) = (params.u32("transpose_a") != 0, params.u32("transpose_b") != 0);
        let flip = |[x, y]: [usize; 2], flip: bool| if flip { [y, x] } else { [x, y] };
        let ([m, k], [other, n]) = (flip(a_sizes, transpose_a), flip(b_sizes, transpose_b));
        if k != other {
            return Err(format!("`a` {} and `b` {} have {k} and {other} terms in each sum", a.shape, b.shape));
        }
        Ok(Sizes { batch, m, n, k, transpose_a, transpose_b })
    }

    fn output(&self, dtype: DType) -> TensorType {
        match self.batch {
            Some(batch) => TensorType::new(dtype, [batch, self.m, self.n]),
            None => TensorType::new(dtype, [self.m, self.n]),
        }
    }

    fn batches(&self) -> usize {
        self.batch.unwrap_or(1)
    }
}

fn sizes(call: &Call) -> Sizes {
    Sizes::of(call.params, call.inputs).expect("tracing checked the sizes")
}

fn cost(call: &Call) -> Cost {
    let s = sizes(call);
    Cost { flops: 2.0 * (s.batches() * s.m * s.n * s.k) as f64, ..Cost::streaming(call, 0.0) }
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let Sizes { m, n, k, transpose_a, transpose_b, .. } = sizes(call);
    let mut d = vec![0.0; call.outputs[0].elements()];
    for (z, d) in d.chunks_mut((m * n).max(1)).enumerate() {
        let (a, b) = (&inputs[0][z * m * k..], &inputs[1][z * k * n..]);
        for i in 0..m {
            for p in 0..k {
                let left = if transpose_a { a[p * m + i] } else { a[i * k + p] };
                for j in 0..n {
                    d[i * n + j] += left * if transpose_b { b[j * k + p] } else { b[p * n + j] };
                }
            }
        }
    }
    vec![d]
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let (a, b) = (&c.inputs[0], &c.inputs[1]);
    let Some(d) = &c.grads[0] else { return vec![None, None] };
    let (ta, tb) = (c.params.u32("transpose_a") != 0, c.params.u32("transpose_b") != 0);
    // With A = op(a), B = op(b): dA = d B^T and dB = A^T d, each stored as a and b are.
    let da = || if ta { matmul(b, d, tb, true) } else { matmul(d, b, false, !tb) };
    let db = || if tb { matmul(d, a, true, ta) } else { matmul(a, d, !ta, false) };
    vec![c.wanted[0].then(da), c.wanted[1].then(db)]
}

static CUDA: CudaSource =
    CudaSource { name: "matmul.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("matmul.cu")) };

/// How many pieces `split_k` cuts the sum into: by shape alone, at least 128 terms each, at most 16.
fn splits(s: &Sizes) -> usize {
    (s.k / 128).clamp(1, 16)
}

fn variants(call: &Call, spec: &Spec) -> Vec<&'static str> {
    let s = sizes(call);
    match spec.kind {
        DeviceKind::Cpu => return vec!["default"],
        DeviceKind::Vulkan => return vulkan::variants(&s, spec),
        DeviceKind::Cuda => {}
    }
    let mut all = vec!["library", "whole", "split_k"];
    all.retain(|v| (*v != "library" || spec.has("cublaslt")) && (*v != "split_k" || splits(&s) > 1));
    let best = all.iter().position(|v| *v == fastest(&s, spec, call.inputs[0].dtype)).unwrap_or(0);
    all[..=best].rotate_right(1);
    all
}

/// What is fastest on an H200. Few output tiles leave its units idle: there the cut sum is 2.5 times faster than cuBLASLt
/// (at 64 x 256 x 1024). Small products of few terms need no library and no scratch. Our tiles are mostly empty with fewer
/// than 16 rows or columns. With 16 bits the library has tensor cores, which ours have not: only small products stay here.
fn fastest(s: &Sizes, spec: &Spec, dtype: DType) -> &'static str {
    let tiles = s.m.div_ceil(TILE) * s.n.div_ceil(TILE) * s.batches();
    let small = s.batches() * s.m * s.n * s.k < 1 << 26;
    let library = spec.has("cublaslt");
    match (s.m.min(s.n) >= 16 || !library, splits(s) > 1) {
        (true, true) if tiles < 32 && (small || !library || dtype == DType::F32) => "split_k",
        (true, false) if small || !library => "whole",
        _ if library => "library",
        _ => "whole",
    }
}

/// Rows and columns of a group's tile on CUDA: smaller where groups are few, larger where they are many. The terms of
/// each sum are added in the same order whatever the tile.
fn tile(s: &Sizes, splits: usize) -> usize {
    let groups = |tile: usize| s.m.div_ceil(tile) * s.n.div_ceil(tile) * s.batches() * splits;
    match s.m.min(s.n) {
        65.. if groups(128) >= 128 => 128,
        33.. if groups(64) >= 64 => 64,
        _ => 32,
    }
}

/// GPU kernels, 256 threads, groups [ceil(n / tile), ceil(m / tile), batch * splits]:
/// - `matmul`: operands a, b, [c,] d; words m, n, k, splits, piece (terms of a piece), row (1: c is one row).
///   Constants TRANSPOSE_A, TRANSPOSE_B, and for CUDA TILE and HAS_C. Products lie one after the other. Group z = product * splits + split sums
///   the terms split * piece .. min(k, (split + 1) * piece) and writes d[(split * batch + product) * m * n ...].
/// - `matmul_reduce`: operands partial sums, [c,] d; words elements, n, splits, row; d[i] = [c +] the pieces in order.
fn lower(call: &Call, spec: &Spec, variant: &str) -> Result<Lowering, Unsupported> {
    let s = sizes(call);
    match spec.kind {
        DeviceKind::Cpu => return Ok(cpu::lower(call, &s, spec, variant)),
        DeviceKind::Vulkan => return Ok(vulkan::lower(call, &s, variant)),
        DeviceKind::Cuda => {}
    }
    if variant == "library" {
        return Ok(library(call, &s));
    }
    let with_c = call.inputs.len() == 3;
    let row = with_c && call.inputs[2].shape != call.outputs[0].shape;
    let splits = if variant == "split_k" { splits(&s) } else { 1 };
    let whole = splits == 1;
    let piece = s.k.div_ceil(splits);
    let words = [s.m, s.n, s.k, splits, piece, usize::from(row)].map(|w| w as u32).to_vec();
    let mut operands = common::operands(if whole { call.inputs.len() } else { 2 }, 0);
    operands.push(if whole { Operand::Output(0) } else { Operand::Scratch(0) });
    let tile = tile(&s, splits);
    let groups = [s.n.div_ceil(tile), s.m.div_ceil(tile), s.batches() * splits];
    let constants =
        [("TRANSPOSE_A", s.transpose_a as u32), ("TRANSPOSE_B", s.transpose_b as u32), ("TILE", tile as u32)];
    let dtype = call.inputs[0].dtype;
    let types = if whole { dtype.into() } else { stored::through_f32(dtype).0 };
    let product = kernel("matmul", whole && with_c, types, &constants, groups, words, operands);
    if whole {
        return Ok(Lowering::one(product));
    }
    let elements = call.outputs[0].elements();
    let words = [elements, s.n, splits, usize::from(row)].map(|w| w as u32).to_vec();
    let mut operands = vec![Operand::Scratch(0)];
    operands.extend(with_c.then_some(Operand::Input(2)));
    operands.push(Operand::Output(0));
    let groups = [elements.div_ceil(256), 1, 1];
    let reduce = kernel("matmul_reduce", with_c, dtype.into(), &[], groups, words, operands);
    Ok(Lowering { scratch: vec![(splits * elements * 4) as u64], launches: vec![product, reduce] })
}

fn kernel(
    entry: &'static str,
    with_c: bool,
    types: Types,
    constants: &[(&'static str, u32)],
    groups: [usize; 3],
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    let constants = constants.iter().copied().chain([("HAS_C", u32::from(with_c))]).collect();
    match common::gpu(KernelSource::Cuda(&CUDA), entry, groups, 256, words, operands) {
        Launch::Kernel(k) => stored::typed(Launch::Kernel(Kernel { constants, ..k }), types),
        other => other,
    }
}

/// The library's product; c comes in as a bias, or is copied to d and accumulated into.
fn library(call: &Call, s: &Sizes) -> Lowering {
    let c = call.inputs.get(2);
    let row = c.is_some_and(|c| c.shape != call.outputs[0].shape);
    let epilogue = match c {
        None => Epilogue::None,
        Some(_) if row => Epilogue::Bias,
        Some(_) => Epilogue::Accumulate,
    };
    let gemm = Launch::Gemm(Gemm {
        dtype: call.inputs[0].dtype,
        m: s.m,
        n: s.n,
        k: s.k,
        batch: s.batches(),
        strides: [s.m * s.k, s.k * s.n, s.m * s.n],
        transpose_a: s.transpose_a,
        transpose_b: s.transpose_b,
        epilogue,
        a: Operand::Input(0),
        b: Operand::Input(1),
        bias: (epilogue == Epilogue::Bias).then_some(Operand::Input(2)),
        d: Operand::Output(0),
        scratch: (Operand::Scratch(0), LIBRARY_BYTES),
    });
    let mut launches = vec![gemm];
    if epilogue == Epilogue::Accumulate {
        launches.insert(0, Launch::Copy { from: Operand::Input(2), to: Operand::Output(0) });
    }
    Lowering { scratch: vec![LIBRARY_BYTES], launches }
}

fn cases(with_c: bool) -> Vec<Case> {
    let case = |name: &str, batch: Option<usize>, [m, n, k]: [usize; 3], ta: bool, tb: bool, row: bool| {
        let matrix = |rows: usize, columns: usize, flip: bool| {
            let [x, y] = if flip { [columns, rows] } else { [rows, columns] };
            CaseInput::normal(batch.into_iter().chain([x, y]).collect::<Vec<_>>())
        };
        let params = Params::NONE.with_u32("transpose_a", usize::from(ta)).with_u32("transpose_b", usize::from(tb));
        let mut inputs = vec![matrix(m, k, ta), matrix(k, n, tb)];
        if with_c {
            inputs.push(if row { CaseInput::normal([n]) } else { matrix(m, n, false) });
        }
        // Six standard deviations of the rounding of k unit products summed one after the other: 6 * 2^-24 k / sqrt 6.
        // Besides the result, cuBLASLt rounds the product before it adds c; where the two nearly cancel, that is 2^-9 of
        // c, which a draw of normal numbers leaves below 6.
        let roundings = if with_c { 3.0 } else { 1.0 };
        Case::new(format!("{name} {m}x{n}x{k}"), params, inputs)
            .tolerance(1.6e-5 + 1.5e-7 * k as f64)
            .roundings(roundings)
    };
    let mut cases = vec![
        case("one", None, [1, 1, 1], false, false, false),
        case("odd", None, [37, 29, 53], false, false, false),
        case("transposed a", None, [37, 29, 53], true, false, false),
        case("transposed b", None, [37, 29, 53], false, true, false),
        case("transposed both", None, [37, 29, 53], true, true, false),
        case("batch", Some(3), [17, 70, 21], false, true, false),
        case("batch transposed a", Some(2), [65, 16, 9], true, false, false),
        case("token", None, [1, 100, 300], false, true, false),
        case("long sum", None, [20, 24, 700], false, false, false),
        case("linear", None, [64, 192, 256], false, true, false),
        case("weight gradient", None, [130, 96, 64], true, false, false),
        case("panels", None, [130, 150, 140], false, false, false),
        case("panels transposed a", None, [70, 350, 140], true, false, false),
        case("panels transposed b", None, [130, 70, 140], false, true, false),
        case("panels transposed both", None, [200, 70, 140], true, true, false),
        case("longer sum", None, [20, 24, 1100], false, true, false),
        case("tokens", None, [7, 40, 300], false, true, false),
        case("large linear", None, [64, 1024, 256], false, true, false).large(),
        case("large linear", None, [64, 256, 1024], false, true, false).large(),
        case("large input gradient", None, [64, 256, 1024], false, false, false).large(),
        case("large weight gradient", None, [1024, 256, 64], true, false, false).large(),
        case("large", None, [127, 1536, 1537], false, true, false).large(),
        case("large token", None, [1, 4864, 1536], false, true, false).large(),
        case("large", None, [1024, 1024, 1024], false, false, false).large(),
        case("large", None, [4096, 4096, 4096], false, true, false).large(),
    ];
    if with_c {
        cases.push(case("row", None, [33, 70, 21], false, true, true));
        cases.push(case("row of a batch", Some(2), [9, 20, 200], false, true, true));
    }
    cases
}
