//! `argmax`: y[i] = the smallest j whose x[i, j] is largest; NaNs never are.

mod cpu;

use crate::common;
use crate::common::stored::{self, GPUS};
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Params, Shader, Spec,
    Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Threads that share a row on GPUs.
const THREADS: usize = 256;
/// Rows that one CPU part searches.
const ROWS: usize = 8;

/// `argmax`: y[i] = the smallest j whose x[i, j] is largest.
pub static ARGMAX: OpDef = OpDef {
    name: "argmax",
    formula: "y[i] = min argmax_j x[i, j]",
    infer,
    storage: FLOATS,
    cost: |call| Cost { flops: call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(reference),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// The column of each row's largest element, the first of equals: u32 [rows] from x [rows, n], 0 where all are NaN.
#[track_caller]
pub fn argmax(x: &Tensor) -> Tensor {
    x.tracer().emit(&ARGMAX, &[x], Params::NONE)[0].clone()
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 1)?;
    expect::float("x", &types[0])?;
    expect::rank("x", &types[0], 2)?;
    if types[0].shape.last() == 0 {
        return Err(format!("`x` has shape {}; a row needs an element", types[0].shape));
    }
    Ok(vec![TensorType::new(DType::U32, [types[0].shape[0]])])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let row = |row: &[f64]| {
        let mut best = (f64::NEG_INFINITY, 0);
        for (j, &x) in row.iter().enumerate() {
            if x > best.0 {
                best = (x, j);
            }
        }
        best.1 as f64
    };
    vec![inputs[0].chunks(call.inputs[0].shape.last()).map(row).collect()]
}

static CUDA: CudaSource =
    CudaSource { name: "argmax.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("argmax.cu")) };
static SHADER: [Shader; 3] = shaders!(same ["argmax"] "argmax/argmax.comp" []);

/// Kernel words: rows, n. A group a row on GPUs.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [rows, n] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let dtype = call.inputs[0].dtype;
    let (words, operands) = (vec![rows as u32, n as u32], common::operands(1, 1));
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let select = cpu::select(&spec.architecture);
            return Ok(Lowering::one(common::cpu("argmax", select, rows.div_ceil(ROWS), words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "argmax"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(&SHADER, dtype)), "main"),
    };
    let groups = [rows.min(common::MOST_GROUPS), 1, 1];
    let launch = common::gpu(source, entry, groups, THREADS as u32, words, operands);
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases() -> Vec<Case> {
    let case =
        |rows: usize, n: usize| Case::new(format!("{rows}x{n}"), Params::NONE, vec![CaseInput::normal([rows, n])]);
    let values = |name: &str, row: &[f64]| {
        Case::new(name, Params::NONE, vec![CaseInput::values(DType::F32, [1, row.len()], row)])
    };
    let (nan, low) = (f64::NAN, f64::NEG_INFINITY);
    let mut equal = vec![0.0; 1000];
    (equal[300], equal[301], equal[999]) = (2.0, 2.0, 2.0);
    vec![
        case(1, 1),
        case(3, 7),
        case(20, 300),
        case(5, 1025),
        values("the first of equals", &equal),
        values("NaN and infinities", &[nan, low, -3.0, nan, -3.0, low]),
        values("nothing but NaN", &[nan, nan]),
        values("nothing but -infinity", &[low, low, low]),
        case(64, 50257).large(),
        case(1, 151936).large(),
    ]
}
