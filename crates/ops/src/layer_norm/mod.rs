//! `layer_norm`: y = (x - mean(x)) rstd(x) weight + bias, row by row, with the population variance and eps inside the root.

mod cpu;

use crate::common::stored::{self, GPUS, Types};
use crate::{common, reduce};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CpuArgs, CudaSource, DeviceKind, KernelSource, Launch, Lowering, Meaning,
    OpDef, Operand, Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

pub(crate) use cpu::{
    select_backward_residual, select_residual, select_rms, select_rms_backward, select_rms_backward_residual,
    select_rms_residual,
};

/// Elements that one CPU part normalises, in whole rows; more where there would be too many parts.
const CPU_CHUNK: usize = 4096;
/// Parts of the forward kernel, at most.
const FORWARD_PARTS: usize = 256;
/// Parts of the backward kernel, at most: each has a row of partial sums.
const BACKWARD_PARTS: usize = 64;
/// Rows that one GPU group adds for the weights' gradients.
const GPU_BLOCK_ROWS: usize = 64;
/// Columns that one GPU group adds, with 8 threads a column.
const GPU_COLUMNS: usize = 32;

/// `layer_norm`: y [rows, n], mean [rows] and rstd [rows].
pub static LAYER_NORM: OpDef = OpDef {
    name: "layer_norm",
    formula: "y = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + eps), a row at a time",
    infer,
    storage: FLOATS,
    cost: |call| Cost::streaming(call, 8.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| lower_forward(call, spec, &FORWARD, common::operands(3, 3)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// `layer_norm_backward`: the gradients of x, weight and bias, given that of y.
pub static LAYER_NORM_BACKWARD: OpDef = OpDef {
    name: "layer_norm_backward",
    formula: "g = dy weight, xhat = (x - mean) rstd: dx = rstd (g - mean(g) - xhat mean(g xhat)), dweight = sum dy xhat, dbias = sum dy",
    infer: infer_backward,
    storage: FLOATS,
    always_f32: &[2, 3],
    sharing: &[(0, 4)],
    cost: |call| Cost::streaming(call, 14.0),
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| lower_backward(call, spec, &BACKWARD, 5),
    shaders: shader_list!(BACKWARD_SHADER, WEIGHTS_SHADER, reduce::SHADER),
    cases: cases_backward,
    ..OpDef::BASE
};

/// Layer norm of the rows of x [rows, n], with weight and bias [n]: [rows, n].
#[track_caller]
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
    outputs(x, weight, bias, &Params::NONE.with_f32("eps", eps))[0].clone()
}

/// y, mean and rstd.
#[track_caller]
pub(crate) fn outputs(x: &Tensor, weight: &Tensor, bias: &Tensor, params: &Params) -> Vec<Tensor> {
    x.tracer().emit(&LAYER_NORM, &[x, weight, bias], params.clone())
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let Some(dy) = &c.grads[0] else { return vec![None; 3] };
    let inputs = [&c.inputs[0], &c.inputs[1], &c.outputs[1], &c.outputs[2], dy];
    dy.tracer().emit(&LAYER_NORM_BACKWARD, &inputs, Params::NONE).into_iter().take(3).map(Some).collect()
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 3)?;
    expect::rank("x", &types[0], 2)?;
    let [rows, n] = *types[0].shape else { unreachable!("it has two dimensions") };
    let dtype = expect::float("x", &types[0])?;
    expect::dtype("weight", &types[1], dtype)?;
    expect::dtype("bias", &types[2], dtype)?;
    expect::shape("weight", &types[1], &[n])?;
    expect::shape("bias", &types[2], &[n])?;
    Ok(vec![types[0].clone(), TensorType::f32([rows]), TensorType::f32([rows])])
}

fn infer_backward(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 5)?;
    expect::rank("x", &types[0], 2)?;
    let [rows, n] = *types[0].shape else { unreachable!("it has two dimensions") };
    let shapes: [(&str, &[usize]); 5] =
        [("x", &[rows, n]), ("weight", &[n]), ("mean", &[rows]), ("rstd", &[rows]), ("dy", &[rows, n])];
    let stored = expect::float("x", &types[0])?;
    for (i, ((name, shape), ty)) in shapes.into_iter().zip(types).enumerate() {
        expect::dtype(name, ty, if LAYER_NORM_BACKWARD.always_f32.contains(&i) { DType::F32 } else { stored })?;
        expect::shape(name, ty, shape)?;
    }
    Ok(vec![types[0].clone(), types[1].clone(), types[1].clone()])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (n, eps) = (call.inputs[0].shape[1], f64::from(call.params.f32("eps")));
    let [x, weight, bias] = *inputs else { unreachable!("`infer` asks for three inputs") };
    let (mut y, mut means, mut rstds) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks(n) {
        let mean = row.iter().sum::<f64>() / n as f64;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n as f64;
        let rstd = 1.0 / (variance + eps).sqrt();
        y.extend((0..n).map(|j| (row[j] - mean) * rstd * weight[j] + bias[j]));
        means.push(mean);
        rstds.push(rstd);
    }
    vec![y, means, rstds]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = call.inputs[0].shape[1];
    let [x, weight, means, rstds, dy] = *inputs else { unreachable!("`infer` asks for five inputs") };
    let (mut dx, mut dweight, mut dbias) = (Vec::new(), vec![0.0; n], vec![0.0; n]);
    for (row, (x, dy)) in x.chunks(n).zip(dy.chunks(n)).enumerate() {
        let xhat = |j: usize| (x[j] - means[row]) * rstds[row];
        let mean_g = (0..n).map(|j| dy[j] * weight[j]).sum::<f64>() / n as f64;
        let mean_gx = (0..n).map(|j| dy[j] * weight[j] * xhat(j)).sum::<f64>() / n as f64;
        dx.extend((0..n).map(|j| rstds[row] * (dy[j] * weight[j] - mean_g - xhat(j) * mean_gx)));
        for j in 0..n {
            dweight[j] += dy[j] * xhat(j);
            dbias[j] += dy[j];
        }
    }
    vec![dx, dweight, dbias]
}

/// The kernels of one op for the three kinds of device.
pub(crate) struct Kernels {
    /// The CUDA function's name, and the CPU kernel's.
    pub name: &'static str,
    /// For CUDA.
    pub cuda: &'static CudaSource,
    /// For Vulkan.
    pub shader: &'static [Shader],
    /// For CPUs.
    pub select: fn(&str) -> fn(&CpuArgs, usize),
    /// The weights' gradients on GPUs.
    pub weights: &'static Weights,
}

/// The kernels of the weights' gradients on GPUs, where the rows' gradients are made apart from them.
pub(crate) struct Weights {
    /// The CUDA function's name.
    pub name: &'static str,
    /// For CUDA.
    pub cuda: &'static CudaSource,
    /// For Vulkan.
    pub shader: &'static [Shader],
    /// Which inputs it reads: x, mean if there is one, rstd and dy.
    pub inputs: &'static [usize],
    /// How many gradients it makes: of weight, and of bias if there is one.
    pub outputs: usize,
}

static CUDA: CudaSource = CudaSource {
    name: "layer_norm.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("layer_norm.cu")),
};
static SHADER: [Shader; 3] = shaders!(same ["layer_norm"] "layer_norm/layer_norm.comp" []);
static BACKWARD_SHADER: [Shader; 3] = shaders!(same ["layer_norm_backward"] "layer_norm/layer_norm_backward.comp" []);
/// The blocks' sums for the weights' gradients.
pub(crate) static WEIGHTS_SHADER: [Shader; 5] =
    shaders!(partial ["layer_norm_weights"] "layer_norm/layer_norm_weights.comp" []);
/// The weights' gradients of layer norm.
pub(crate) static WEIGHTS: Weights =
    Weights { name: "layer_norm_weights", cuda: &CUDA, shader: &WEIGHTS_SHADER, inputs: &[0, 2, 3, 4], outputs: 2 };
static FORWARD: Kernels =
    Kernels { name: "layer_norm", cuda: &CUDA, shader: &SHADER, select: cpu::select, weights: &WEIGHTS };
static BACKWARD: Kernels = Kernels {
    name: "layer_norm_backward",
    cuda: &CUDA,
    shader: &BACKWARD_SHADER,
    select: cpu::select_backward,
    weights: &WEIGHTS,
};

/// Rows of one part of the forward kernel.
fn forward_rows(rows: usize, n: usize) -> usize {
    (CPU_CHUNK / n.max(1)).max(rows.div_ceil(FORWARD_PARTS)).max(1)
}

/// Rows of one part of the backward kernel.
fn backward_rows(rows: usize, n: usize) -> usize {
    (CPU_CHUNK / n.max(1)).max(rows.div_ceil(BACKWARD_PARTS)).max(1)
}

/// One launch. Kernel words: rows, n, eps.
pub(crate) fn lower_forward(
    call: &Call,
    spec: &Spec,
    kernels: &Kernels,
    operands: Vec<Operand>,
) -> Result<Lowering, Unsupported> {
    common::widened(call, spec, GPUS, |call| Ok(forward(call, spec, kernels, operands.clone())))
}

fn forward(call: &Call, spec: &Spec, kernels: &Kernels, operands: Vec<Operand>) -> Lowering {
    let [rows, n] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let words = vec![rows as u32, n as u32, call.params.f32("eps").to_bits()];
    let dtype = call.inputs[0].dtype;
    Lowering::one(by_rows(spec, kernels, dtype, [rows, n, forward_rows(rows, n)], words, operands))
}

/// The rows' gradient and the weights' partial sums, together on the CPU and apart on GPUs, then the sum of the partial
/// sums where there is more than one block of rows. Kernel words: rows, n.
pub(crate) fn lower_backward(
    call: &Call,
    spec: &Spec,
    kernels: &Kernels,
    inputs: usize,
) -> Result<Lowering, Unsupported> {
    common::widened(call, spec, GPUS, |call| Ok(backward(call, spec, kernels, inputs)))
}

fn backward(call: &Call, spec: &Spec, kernels: &Kernels, inputs: usize) -> Lowering {
    let [rows, n] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let on_cpu = spec.kind == DeviceKind::Cpu;
    let block_rows = if on_cpu { backward_rows(rows, n) } else { GPU_BLOCK_ROWS };
    let blocks = rows.div_ceil(block_rows).max(1);
    let dtype = call.inputs[0].dtype;
    let place = |i: usize| if blocks == 1 { Operand::Output(i + 1) } else { Operand::Scratch(i) };
    let sums: Vec<_> = (0..kernels.weights.outputs).map(place).collect();
    let words = vec![rows as u32, n as u32];
    let mut launches = Vec::new();
    let mut operands = common::operands(inputs, 1);
    if on_cpu {
        operands.extend(&sums);
    } else {
        let types = if blocks == 1 { dtype.into() } else { stored::through_f32(dtype).0 };
        launches.push(weight_sums(spec, kernels.weights, types, [n, blocks], words.clone(), &sums));
    }
    launches.push(by_rows(spec, kernels, dtype, [rows, n, block_rows], words, operands));
    let mut scratch = Vec::new();
    if blocks > 1 {
        scratch = vec![(blocks * n * 4) as u64; sums.len()];
        let types = stored::through_f32(dtype).1;
        let sum = |i: usize| {
            let operands = vec![Operand::Scratch(i), Operand::Output(i + 1)];
            reduce::sum_blocks(spec, types, [blocks, n, blocks], operands)
        };
        launches.extend((0..sums.len()).map(sum));
    }
    Lowering { scratch, launches }
}

/// A GPU's launch over blocks of rows and strips of columns; it comes first, as dx may take dy's place.
fn weight_sums(
    spec: &Spec,
    weights: &Weights,
    types: Types,
    [n, blocks]: [usize; 2],
    words: Vec<u32>,
    sums: &[Operand],
) -> Launch {
    let operands = weights.inputs.iter().copied().map(Operand::Input).chain(sums.iter().copied()).collect();
    let (source, entry) = match spec.kind {
        DeviceKind::Cuda => (KernelSource::Cuda(weights.cuda), weights.name),
        _ => (KernelSource::Vulkan(stored::shader(weights.shader, types)), "main"),
    };
    let launch = common::gpu(source, entry, [n.div_ceil(GPU_COLUMNS), blocks, 1], 256, words, operands);
    stored::typed(launch, types)
}

/// A launch over rows: one a group on GPUs, several a part on the CPU.
fn by_rows(
    spec: &Spec,
    kernels: &Kernels,
    dtype: DType,
    [rows, n, part_rows]: [usize; 3],
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let parts = rows.div_ceil(part_rows).max(1);
            return common::cpu(kernels.name, (kernels.select)(&spec.architecture), parts, words, operands);
        }
        DeviceKind::Cuda => (KernelSource::Cuda(kernels.cuda), kernels.name),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(kernels.shader, dtype)), "main"),
    };
    let threads = n.div_ceil(4).next_power_of_two().clamp(64, 256);
    let launch = common::gpu(source, entry, [rows.clamp(1, 65_535), 1, 1], threads as u32, words, operands);
    stored::typed(launch, dtype)
}

fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let weights = [CaseInput::uniform([n], 0.5, 1.5), CaseInput::normal([n])];
        let inputs = [vec![CaseInput::normal([rows, n])], weights.into()].concat();
        Case::new(format!("{rows}x{n}"), Params::NONE.with_f32("eps", 1e-5), inputs)
    };
    let far = [vec![CaseInput::uniform([3, 100], 1000.0, 1001.0)], case(3, 100).inputs[1..].to_vec()].concat();
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        case(1, 300),
        case(130, 3),
        case(3, 1030),
        Case { name: "far from zero".into(), inputs: far, tolerance: 1e-3, ..case(3, 100) },
        case(2048, 1536).large(),
        case(8192, 4096).large(),
    ]
}

/// What `layer_norm_backward` is given, in the order of its inputs.
pub(crate) fn backward_inputs(rows: usize, n: usize) -> Vec<CaseInput> {
    vec![
        CaseInput::normal([rows, n]),
        CaseInput::uniform([n], 0.5, 1.5),
        CaseInput::uniform([rows], -0.2, 0.2),
        CaseInput::uniform([rows], 0.5, 1.5),
        CaseInput::normal([rows, n]),
    ]
}

fn cases_backward() -> Vec<Case> {
    let case = |rows: usize, n: usize| Case::new(format!("{rows}x{n}"), Params::NONE, backward_inputs(rows, n));
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        case(1, 300),
        case(130, 3),
        case(67, 1030),
        case(2048, 1536).tolerance(1e-4).large(),
        case(8192, 4096).tolerance(1e-4).large(),
    ]
}
