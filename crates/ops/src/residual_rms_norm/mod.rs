//! `residual_rms_norm`: s = x + r, y = rms_norm(s), in one launch; and its gradient: d + the gradient of RMS norm.

use crate::layer_norm::{self, Kernels};
use crate::rms_norm::{self, RMS_NORM_BACKWARD};
use crate::{common, elementwise, reduce};
use graph::op::{FLOATS, expect};
use graph::{Case, CaseInput, Cost, CudaSource, Fusion, Meaning, OpDef, Params, Shader, Tensor, TensorType};

/// `residual_rms_norm`: of x and r [rows, n] and weight [n]: s, y [rows, n] and rstd [rows].
pub static RESIDUAL_RMS_NORM: OpDef = OpDef {
    name: "residual_rms_norm",
    formula: "s = x + r, y = rms_norm(s)",
    infer,
    storage: FLOATS,
    sharing: &[(0, 0), (0, 1)],
    cost: |call| Cost::streaming(call, 5.0),
    meaning: Meaning::Unfused(Fusion {
        unfused: |inputs, params| {
            let s = elementwise::add(&inputs[0], &inputs[1]);
            let normed = rms_norm::outputs(&s, &inputs[2], params);
            [vec![s], normed].concat()
        },
        params: |nodes| nodes[1].clone(),
    }),
    lower: |call, spec, _| layer_norm::lower_forward(call, spec, &FORWARD, common::operands(3, 3)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// `rms_norm_backward_residual`: of x, weight, rstd, dy and d: dx + d and dweight.
pub static RMS_NORM_BACKWARD_RESIDUAL: OpDef = backward(
    "rms_norm_backward_residual",
    "dx = d + rms_norm_backward(x, weight, rstd, dy).dx, dweight",
    |inputs, _| with_dx(inputs, |d, dx| elementwise::add(d, dx)),
);

/// `rms_norm_backward_residual_after`: the same where d is the second term of the sum.
pub static RMS_NORM_BACKWARD_RESIDUAL_AFTER: OpDef = backward(
    "rms_norm_backward_residual_after",
    "dx = rms_norm_backward(x, weight, rstd, dy).dx + d, dweight",
    |inputs, _| with_dx(inputs, |d, dx| elementwise::add(dx, d)),
);

const fn backward(name: &'static str, formula: &'static str, unfused: fn(&[Tensor], &Params) -> Vec<Tensor>) -> OpDef {
    OpDef {
        name,
        formula,
        infer: infer_backward,
        storage: FLOATS,
        always_f32: &[2],
        sharing: &[(0, 4)],
        cost: |call| Cost::streaming(call, 11.0),
        meaning: Meaning::Unfused(Fusion { unfused, params: |_| Params::NONE }),
        lower: |call, spec, _| layer_norm::lower_backward(call, spec, &BACKWARD, 5),
        shaders: BACKWARD_SHADERS,
        cases: cases_backward,
        ..OpDef::BASE
    }
}

/// The gradients of RMS norm, with dx replaced by what `sum` makes of d and it.
fn with_dx(inputs: &[Tensor], sum: fn(&Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
    let given: Vec<_> = inputs[..4].iter().collect();
    let mut gradients = given[0].tracer().emit(&RMS_NORM_BACKWARD, &given, Params::NONE);
    gradients[0] = sum(&inputs[4], &gradients[0]);
    gradients
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 3)?;
    let [x, r, weight] = types else { unreachable!("there are three inputs") };
    expect::dtype("r", r, x.dtype)?;
    expect::shape("r", r, &x.shape)?;
    let normed = (rms_norm::RMS_NORM.infer)(params, &[x.clone(), weight.clone()])?;
    Ok([vec![x.clone()], normed].concat())
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 5)?;
    expect::dtype("d", &types[4], types[0].dtype)?;
    expect::shape("d", &types[4], &types[0].shape)?;
    (RMS_NORM_BACKWARD.infer)(params, &types[..4])
}

static CUDA: CudaSource = CudaSource {
    name: "layer_norm.cu (rms, residual)",
    text: concat!(
        include_str!("../common/common.cuh"),
        "#define RMS 1\n#define RESIDUAL 1\n",
        include_str!("../layer_norm/layer_norm.cu")
    ),
};
static SHADER: [Shader; 3] =
    shaders!(same ["residual_rms_norm"] "layer_norm/layer_norm.comp" [("RMS", "1"), ("RESIDUAL", "1")]);
static BACKWARD_SHADER: [Shader; 3] = shaders!(same ["rms_norm_backward_residual"] "layer_norm/layer_norm_backward.comp" [("RMS", "1"), ("RESIDUAL", "1")]);
static BACKWARD_SHADERS: &[&Shader] = shader_list!(BACKWARD_SHADER, rms_norm::WEIGHTS_SHADER, reduce::SHADER);
static FORWARD: Kernels = Kernels {
    name: "residual_rms_norm",
    cuda: &CUDA,
    shader: &SHADER,
    select: layer_norm::select_rms_residual,
    weights: &rms_norm::WEIGHTS,
};
static BACKWARD: Kernels = Kernels {
    name: "rms_norm_backward_residual",
    cuda: &CUDA,
    shader: &BACKWARD_SHADER,
    select: layer_norm::select_rms_backward_residual,
    weights: &rms_norm::WEIGHTS,
};

fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let inputs =
            vec![CaseInput::normal([rows, n]), CaseInput::normal([rows, n]), CaseInput::uniform([n], 0.5, 1.5)];
        // s is rounded before it is normed.
        Case::new(format!("{rows}x{n}"), Params::NONE.with_f32("eps", 1e-5), inputs).roundings(4.0)
    };
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        case(130, 3),
        case(3, 1030),
        case(2048, 1536).large(),
        case(8192, 4096).large(),
    ]
}

fn cases_backward() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let mut inputs = rms_norm::backward_inputs(rows, n);
        inputs.push(CaseInput::normal([rows, n]));
        Case::new(format!("{rows}x{n}"), Params::NONE, inputs)
    };
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        case(130, 3),
        case(67, 1030),
        case(2048, 1536).tolerance(1e-4).large(),
        case(8192, 4096).tolerance(1e-4).large(),
    ]
}
