//! `rms_norm`: y = x rstd(x) weight, row by row, with eps inside the root (Zhang & Sennrich, arXiv 1910.07467).
//!
//! Its kernels are layer norm's, compiled without means and bias.

use crate::common;
use crate::layer_norm::{self, Kernels, Weights};
use crate::reduce;
use graph::op::{FLOATS, expect};
use graph::{Backward, Call, Case, CaseInput, Cost, CudaSource, Meaning, OpDef, Params, Shader, Tensor, TensorType};
use tensor::DType;

/// `rms_norm`: y [rows, n] and rstd [rows].
pub static RMS_NORM: OpDef = OpDef {
    name: "rms_norm",
    formula: "y = x rstd weight, rstd = 1 / sqrt(mean(x^2) + eps), a row at a time",
    infer,
    storage: FLOATS,
    cost: |call| Cost::streaming(call, 4.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| layer_norm::lower_forward(call, spec, &FORWARD, common::operands(2, 2)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// `rms_norm_backward`: the gradients of x and weight, given that of y.
pub static RMS_NORM_BACKWARD: OpDef = OpDef {
    name: "rms_norm_backward",
    formula: "g = dy weight, xhat = x rstd: dx = rstd (g - xhat mean(g xhat)), dweight = sum dy xhat",
    infer: infer_backward,
    storage: FLOATS,
    always_f32: &[2],
    sharing: &[(0, 3)],
    cost: |call| Cost::streaming(call, 10.0),
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| layer_norm::lower_backward(call, spec, &BACKWARD, 4),
    shaders: shader_list!(BACKWARD_SHADER, WEIGHTS_SHADER, reduce::SHADER),
    cases: cases_backward,
    ..OpDef::BASE
};

/// RMS norm of the rows of x [rows, n], with weight [n]: [rows, n].
#[track_caller]
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
    outputs(x, weight, &Params::NONE.with_f32("eps", eps))[0].clone()
}

/// y and rstd.
#[track_caller]
pub(crate) fn outputs(x: &Tensor, weight: &Tensor, params: &Params) -> Vec<Tensor> {
    x.tracer().emit(&RMS_NORM, &[x, weight], params.clone())
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let Some(dy) = &c.grads[0] else { return vec![None; 2] };
    let inputs = [&c.inputs[0], &c.inputs[1], &c.outputs[1], dy];
    dy.tracer().emit(&RMS_NORM_BACKWARD, &inputs, Params::NONE).into_iter().take(2).map(Some).collect()
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    expect::rank("x", &types[0], 2)?;
    let [rows, n] = *types[0].shape else { unreachable!("it has two dimensions") };
    let dtype = expect::float("x", &types[0])?;
    expect::dtype("weight", &types[1], dtype)?;
    expect::shape("weight", &types[1], &[n])?;
    Ok(vec![types[0].clone(), TensorType::f32([rows])])
}

fn infer_backward(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 4)?;
    expect::rank("x", &types[0], 2)?;
    let [rows, n] = *types[0].shape else { unreachable!("it has two dimensions") };
    let shapes: [(&str, &[usize]); 4] = [("x", &[rows, n]), ("weight", &[n]), ("rstd", &[rows]), ("dy", &[rows, n])];
    let stored = expect::float("x", &types[0])?;
    for (i, ((name, shape), ty)) in shapes.into_iter().zip(types).enumerate() {
        expect::dtype(name, ty, if RMS_NORM_BACKWARD.always_f32.contains(&i) { DType::F32 } else { stored })?;
        expect::shape(name, ty, shape)?;
    }
    Ok(vec![types[0].clone(), types[1].clone()])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (n, eps) = (call.inputs[0].shape[1], f64::from(call.params.f32("eps")));
    let (mut y, mut rstds) = (Vec::new(), Vec::new());
    for row in inputs[0].chunks(n) {
        let rstd = 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / n as f64 + eps).sqrt();
        y.extend(row.iter().zip(inputs[1]).map(|(x, weight)| x * rstd * weight));
        rstds.push(rstd);
    }
    vec![y, rstds]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let n = call.inputs[0].shape[1];
    let [x, weight, rstds, dy] = *inputs else { unreachable!("`infer` asks for four inputs") };
    let (mut dx, mut dweight) = (Vec::new(), vec![0.0; n]);
    for ((x, dy), rstd) in x.chunks(n).zip(dy.chunks(n)).zip(rstds) {
        let mean_gx = (0..n).map(|j| dy[j] * weight[j] * x[j] * rstd).sum::<f64>() / n as f64;
        dx.extend((0..n).map(|j| rstd * (dy[j] * weight[j] - x[j] * rstd * mean_gx)));
        for j in 0..n {
            dweight[j] += dy[j] * x[j] * rstd;
        }
    }
    vec![dx, dweight]
}

static CUDA: CudaSource = CudaSource {
    name: "layer_norm.cu (rms)",
    text: concat!(include_str!("../common/common.cuh"), "#define RMS 1\n", include_str!("../layer_norm/layer_norm.cu")),
};
static SHADER: [Shader; 3] = shaders!(same ["rms_norm"] "layer_norm/layer_norm.comp" [("RMS", "1")]);
static BACKWARD_SHADER: [Shader; 3] =
    shaders!(same ["rms_norm_backward"] "layer_norm/layer_norm_backward.comp" [("RMS", "1")]);
/// The blocks' sums for the weight's gradient.
pub(crate) static WEIGHTS_SHADER: [Shader; 5] =
    shaders!(partial ["rms_norm_weights"] "layer_norm/layer_norm_weights.comp" [("RMS", "1")]);
/// The weight's gradient on GPUs.
pub(crate) static WEIGHTS: Weights =
    Weights { name: "rms_norm_weights", cuda: &CUDA, shader: &WEIGHTS_SHADER, inputs: &[0, 2, 3], outputs: 1 };
static FORWARD: Kernels =
    Kernels { name: "rms_norm", cuda: &CUDA, shader: &SHADER, select: layer_norm::select_rms, weights: &WEIGHTS };
static BACKWARD: Kernels = Kernels {
    name: "rms_norm_backward",
    cuda: &CUDA,
    shader: &BACKWARD_SHADER,
    select: layer_norm::select_rms_backward,
    weights: &WEIGHTS,
};

fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let inputs = vec![CaseInput::normal([rows, n]), CaseInput::uniform([n], 0.5, 1.5)];
        Case::new(format!("{rows}x{n}"), Params::NONE.with_f32("eps", 1e-5), inputs)
    };
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        case(1, 300),
        case(130, 3),
        case(3, 1030),
        case(2048, 1536).large(),
        case(8192, 4096).large(),
    ]
}

/// What `rms_norm_backward` is given, in the order of its inputs.
pub(crate) fn backward_inputs(rows: usize, n: usize) -> Vec<CaseInput> {
    vec![
        CaseInput::normal([rows, n]),
        CaseInput::uniform([n], 0.5, 1.5),
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
