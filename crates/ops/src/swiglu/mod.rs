//! `swiglu`: y = silu(g) u for rows that hold g and then u (Shazeer, arXiv 2002.05202), so that one product makes both.

mod cpu;

use crate::common;
use crate::common::stored::{self, EVERYWHERE};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CpuArgs, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements of y that one CPU part computes.
const CPU_CHUNK: usize = 8192;
/// Elements of y that one GPU group computes at a time, four a thread.
const GPU_CHUNK: usize = 1024;

/// `swiglu`: y [rows, n] of gate_up [rows, 2n].
pub static SWIGLU: OpDef = OpDef {
    name: "swiglu",
    formula: "y = g / (1 + exp(-g)) u, gate_up = (g, u) row by row",
    infer,
    storage: FLOATS,
    cost: |call| Cost::streaming(call, 12.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| {
        let source = Source { cuda: "swiglu", shader: &SHADER, cpu: cpu::select };
        common::widened(call, spec, EVERYWHERE, |call| lower(call, spec, &source, call.outputs[0].elements(), 1))
    },
    shaders: shader_list!(SHADER),
    cases: || cases(false),
    ..OpDef::BASE
};

/// `swiglu_backward`: the gradient by gate_up [rows, 2n], given that by y [rows, n].
pub static SWIGLU_BACKWARD: OpDef = OpDef {
    name: "swiglu_backward",
    formula: "s = 1 / (1 + exp(-g)): dg = dy u s (1 + g (1 - s)), du = dy g s",
    infer: infer_backward,
    storage: FLOATS,
    sharing: &[(0, 0)],
    cost: |call| Cost::streaming(call, 8.0),
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| {
        let source = Source { cuda: "swiglu_backward", shader: &BACKWARD_SHADER, cpu: cpu::select_backward };
        common::widened(call, spec, EVERYWHERE, |call| lower(call, spec, &source, call.inputs[1].elements(), 2))
    },
    shaders: shader_list!(BACKWARD_SHADER),
    cases: || cases(true),
    ..OpDef::BASE
};

/// silu(g) u of gate_up [rows, 2n], whose rows are g and then u: [rows, n].
#[track_caller]
pub fn swiglu(gate_up: &Tensor) -> Tensor {
    gate_up.tracer().emit(&SWIGLU, &[gate_up], Params::NONE)[0].clone()
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let backward = |dy: &Tensor| dy.tracer().emit(&SWIGLU_BACKWARD, &[&c.inputs[0], dy], Params::NONE)[0].clone();
    vec![c.grads[0].as_ref().map(backward)]
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 1)?;
    let dtype = expect::float("gate_up", &types[0])?;
    expect::rank("gate_up", &types[0], 2)?;
    let [rows, columns] = *types[0].shape else { unreachable!("it has two dimensions") };
    if !columns.is_multiple_of(2) {
        return Err(format!("`gate_up` has {columns} columns; expected an even number"));
    }
    Ok(vec![TensorType::new(dtype, [rows, columns / 2])])
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    let y = infer(params, &types[..1])?;
    expect::dtype("dy", &types[1], types[0].dtype)?;
    expect::shape("dy", &types[1], &y[0].shape)?;
    Ok(vec![types[0].clone()])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = call.outputs[0].shape[1];
    let row = |row: &[f64]| (0..n).map(|j| row[j] * sigmoid(row[j]) * row[n + j]).collect::<Vec<_>>();
    vec![inputs[0].chunks(2 * n).flat_map(row).collect()]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = call.inputs[1].shape[1];
    let mut d = Vec::new();
    for (row, dy) in inputs[0].chunks(2 * n).zip(inputs[1].chunks(n)) {
        let (g, u) = row.split_at(n);
        let s = |j: usize| sigmoid(g[j]);
        d.extend((0..n).map(|j| dy[j] * u[j] * s(j) * (1.0 + g[j] * (1.0 - s(j)))));
        d.extend((0..n).map(|j| dy[j] * g[j] * s(j)));
    }
    vec![d]
}

static CUDA: CudaSource =
    CudaSource { name: "swiglu.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("swiglu.cu")) };
static SHADER: [Shader; 3] = shaders!(same ["swiglu"] "swiglu/swiglu.comp" []);
static BACKWARD_SHADER: [Shader; 3] = shaders!(same ["swiglu_backward"] "swiglu/swiglu_backward.comp" []);

/// One kernel for the three kinds of device.
struct Source {
    cuda: &'static str,
    shader: &'static [Shader],
    cpu: fn(DType, &str) -> fn(&CpuArgs, usize),
}

/// Kernel words: elements of y, n.
fn lower(call: &Call, spec: &Spec, source: &Source, elements: usize, inputs: usize) -> Result<Lowering, Unsupported> {
    let words = vec![elements as u32, (call.inputs[0].shape[1] / 2) as u32];
    let (operands, dtype) = (common::operands(inputs, 1), call.inputs[0].dtype);
    let (kernel, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let (run, parts) = ((source.cpu)(dtype, &spec.architecture), elements.div_ceil(CPU_CHUNK));
            return Ok(Lowering::one(common::cpu(source.cuda, run, parts, words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), source.cuda),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(source.shader, dtype)), "main"),
    };
    let groups = [elements.div_ceil(GPU_CHUNK).clamp(1, common::MOST_GROUPS), 1, 1];
    let launch = common::gpu(kernel, entry, groups, (GPU_CHUNK / 4) as u32, words, operands);
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases(backward: bool) -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let mut inputs = vec![CaseInput::normal([rows, 2 * n])];
        if backward {
            inputs.push(CaseInput::normal([rows, n]));
        }
        Case::new(format!("{rows}x{n}"), Params::NONE, inputs)
    };
    let steep = CaseInput::uniform([9, 2 * 64], -120.0, 120.0);
    let steep = [vec![steep], case(9, 64).inputs[1..].to_vec()].concat();
    vec![
        case(7, 33),
        case(1, 1),
        case(3, 5005),
        case(130, 3),
        Case { name: "steep".into(), inputs: steep, ..case(9, 64) },
        case(64, 1024).large(),
        case(4096, 11_008).large(),
    ]
}
