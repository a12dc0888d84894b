//! `embed`: y[t] = table[ids[t]]; its gradient adds, for each row of the table, the rows of dy with that id, in order.
//!
//! An id that isn't in the table makes a row of NaNs and has no gradient: no memory is touched out of bounds, and the
//! loss isn't finite, so that the step is skipped. Who gives the ids checks them.

mod cpu;

use crate::common;
use crate::common::stored::{self, EVERYWHERE, GPUS};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CpuArgs, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements that one CPU part writes, in whole rows; more where there would be too many parts.
const CPU_CHUNK: usize = 8192;
/// Parts, at most: each part of the gradient reads all ids.
const CPU_PARTS: usize = 64;
/// Threads of a GPU group of the gradient: it reads that many ids at a time.
const GPU_IDS: u32 = 256;

/// `embed`: rows of a table.
pub static EMBED: OpDef = OpDef {
    name: "embed",
    formula: "y[t] = table[ids[t]]",
    infer,
    storage: FLOATS,
    cost: |call| {
        let rows = 2.0 * call.outputs[0].bytes() as f64;
        Cost { bytes: rows + call.inputs[0].bytes() as f64, flops: 0.0 }
    },
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| common::widened(call, spec, EVERYWHERE, |call| lower(call, spec, &FORWARD)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// `embed_backward`: the gradient of the table, whose rows are the parameter `vocab`.
pub static EMBED_BACKWARD: OpDef = OpDef {
    name: "embed_backward",
    formula: "dtable[v] = sum of dy[t] over t with ids[t] = v",
    infer: infer_backward,
    storage: FLOATS,
    cost: |call| Cost { flops: call.inputs[1].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec, &BACKWARD)),
    shaders: shader_list!(BACKWARD_SHADER),
    cases: cases_backward,
    ..OpDef::BASE
};

/// Rows of table [vocab, n] at ids [tokens] (u32): [tokens, n].
#[track_caller]
pub fn embed(ids: &Tensor, table: &Tensor) -> Tensor {
    ids.tracer().emit(&EMBED, &[ids, table], Params::NONE)[0].clone()
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let params = Params::NONE.with_u32("vocab", c.inputs[1].shape()[0]);
    let dtable =
        c.grads[0].as_ref().map(|dy| dy.tracer().emit(&EMBED_BACKWARD, &[&c.inputs[0], dy], params)[0].clone());
    vec![None, dtable]
}

/// ids [tokens] and rows [_, n].
fn infer_rows(types: &[TensorType], rows: &str) -> Result<[usize; 2], String> {
    expect::inputs(types, 2)?;
    expect::dtype("ids", &types[0], DType::U32)?;
    expect::rank("ids", &types[0], 1)?;
    expect::float(rows, &types[1])?;
    expect::rank(rows, &types[1], 2)?;
    Ok([types[0].shape[0], types[1].shape[1]])
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    Ok(vec![TensorType::new(types[1].dtype, infer_rows(types, "table")?)])
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    let [tokens, n] = infer_rows(types, "dy")?;
    expect::shape("dy", &types[1], &[tokens, n])?;
    Ok(vec![TensorType::new(types[1].dtype, [params.u32("vocab"), n])])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (vocab, n) = (call.inputs[1].shape[0], call.inputs[1].shape[1]);
    let row = |&id: &f64| {
        let id = id as usize;
        if id < vocab { inputs[1][id * n..(id + 1) * n].to_vec() } else { vec![f64::NAN; n] }
    };
    vec![inputs[0].iter().flat_map(row).collect()]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = call.inputs[1].shape[1];
    let mut dtable = vec![0.0; call.outputs[0].elements()];
    for (t, &id) in inputs[0].iter().enumerate() {
        if let Some(row) = dtable.chunks_mut(n).nth(id as usize) {
            row.iter_mut().zip(&inputs[1][t * n..]).for_each(|(sum, dy)| *sum += dy);
        }
    }
    vec![dtable]
}

struct Kernels {
    name: &'static str,
    shader: &'static [Shader],
    select: fn(DType, &str) -> fn(&CpuArgs, usize),
    /// Threads of a GPU group, at least.
    threads: u32,
}

static CUDA: CudaSource =
    CudaSource { name: "embed.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("embed.cu")) };
static SHADER: [Shader; 3] = shaders!(same ["embed"] "embed/embed.comp" []);
static BACKWARD_SHADER: [Shader; 3] = shaders!(same ["embed_backward"] "embed/embed_backward.comp" []);
static FORWARD: Kernels = Kernels { name: "embed", shader: &SHADER, select: cpu::select, threads: 64 };
static BACKWARD: Kernels =
    Kernels { name: "embed_backward", shader: &BACKWARD_SHADER, select: backward_in_f32, threads: GPU_IDS };

/// Sums are kept in the table's gradient itself.
fn backward_in_f32(_: DType, architecture: &str) -> fn(&CpuArgs, usize) {
    cpu::select_backward(architecture)
}

/// Rows of the output that one CPU part writes.
fn part_rows(rows: usize, n: usize) -> usize {
    (CPU_CHUNK / n.max(1)).max(rows.div_ceil(CPU_PARTS)).max(1)
}

/// One row of the output a group. Kernel words: tokens, n, rows of the table.
fn lower(call: &Call, spec: &Spec, kernels: &Kernels) -> Result<Lowering, Unsupported> {
    let [rows, n] = *call.outputs[0].shape else { unreachable!("`infer` makes two dimensions") };
    let tokens = call.inputs[0].elements();
    let vocab = if kernels.name == EMBED.name { call.inputs[1].shape[0] } else { rows };
    let words = vec![tokens as u32, n as u32, vocab as u32];
    let (operands, dtype) = (common::operands(2, 1), call.outputs[0].dtype);
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let (run, parts) =
                ((kernels.select)(call.outputs[0].dtype, &spec.architecture), rows.div_ceil(part_rows(rows, n)).max(1));
            return Ok(Lowering::one(common::cpu(kernels.name, run, parts, words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), kernels.name),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(kernels.shader, dtype)), "main"),
    };
    let threads = (n.div_ceil(4).next_power_of_two() as u32).clamp(kernels.threads, 256);
    let launch = common::gpu(source, entry, [rows.clamp(1, 65_535), 1, 1], threads, words, operands);
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases() -> Vec<Case> {
    let case = |tokens: usize, vocab: u32, n: usize| {
        let inputs = vec![CaseInput::below([tokens], vocab), CaseInput::normal([vocab as usize, n])];
        Case::new(format!("{tokens} of {vocab}x{n}"), Params::NONE, inputs)
    };
    let strange = CaseInput::values(DType::U32, [4], [2.0, 7.0, f64::from(u32::MAX), 6.0]);
    vec![
        case(64, 128, 256),
        case(5, 3, 37),
        case(1, 1, 1),
        Case { name: "not in the table".into(), inputs: vec![strange, CaseInput::normal([7, 33])], ..case(4, 7, 33) },
        case(16384, 32000, 1024).large(),
    ]
}

fn cases_backward() -> Vec<Case> {
    let case = |tokens: usize, vocab: u32, n: usize| {
        let inputs = vec![CaseInput::below([tokens], vocab), CaseInput::normal([tokens, n])];
        Case::new(format!("{tokens} of {vocab}x{n}"), Params::NONE.with_u32("vocab", vocab as usize), inputs)
    };
    let strange = CaseInput::values(DType::U32, [4], [2.0, 7.0, f64::from(u32::MAX), 2.0]);
    vec![
        case(64, 128, 256),
        case(5, 3, 37),
        case(1, 1, 1),
        case(700, 2, 300),
        Case { name: "not in the table".into(), inputs: vec![strange, CaseInput::normal([4, 33])], ..case(4, 7, 33) },
        case(16384, 32000, 1024).large(),
    ]
}
