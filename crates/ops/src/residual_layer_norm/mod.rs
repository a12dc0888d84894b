//! `residual_layer_norm`: s = x + r, y = layer_norm(s), in one launch; and its gradient: d + the gradient of layer norm.

use crate::layer_norm::{self, Kernels, LAYER_NORM_BACKWARD};
use crate::{common, elementwise, reduce};
use graph::op::{FLOATS, expect};
use graph::{Case, CaseInput, Cost, CudaSource, Fusion, Meaning, OpDef, Params, Shader, Tensor, TensorType};

/// `residual_layer_norm`: of x and r [rows, n], weight and bias [n]: s, y [rows, n], mean and rstd [rows].
pub static RESIDUAL_LAYER_NORM: OpDef = OpDef {
    name: "residual_layer_norm",
    formula: "s = x + r, y = layer_norm(s)",
    infer,
    storage: FLOATS,
    sharing: &[(0, 0), (0, 1)],
    cost: |call| Cost::streaming(call, 9.0),
    meaning: Meaning::Unfused(Fusion {
        unfused: |inputs, params| {
            let s = elementwise::add(&inputs[0], &inputs[1]);
            let normed = layer_norm::outputs(&s, &inputs[2], &inputs[3], params);
            [vec![s], normed].concat()
        },
        params: |nodes| nodes[1].clone(),
    }),
    lower: |call, spec, _| layer_norm::lower_forward(call, spec, &FORWARD, common::operands(4, 4)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// `layer_norm_backward_residual`: of x, weight, mean, rstd, dy and d: dx + d, dweight and dbias.
pub static LAYER_NORM_BACKWARD_RESIDUAL: OpDef = backward(
    "layer_norm_backward_residual",
    "dx = d + layer_norm_backward(x, weight, mean, rstd, dy).dx, dweight, dbias",
    |inputs, _| with_dx(inputs, |d, dx| elementwise::add(d, dx)),
);

/// `layer_norm_backward_residual_after`: the same where d is the second term of the sum.
pub static LAYER_NORM_BACKWARD_RESIDUAL_AFTER: OpDef = backward(
    "layer_norm_backward_residual_after",
    "dx = layer_norm_backward(x, weight, mean, rstd, dy).dx + d, dweight, dbias",
    |inputs, _| with_dx(inputs, |d, dx| elementwise::add(dx, d)),
);

const fn backward(name: &'static str, formula: &'static str, unfused: fn(&[Tensor], &Params) -> Vec<Tensor>) -> OpDef {
    OpDef {
        name,
        formula,
        infer: infer_backward,
        storage: FLOATS,
        always_f32: &[2, 3],
        sharing: &[(0, 5)],
        cost: |call| Cost::streaming(call, 15.0),
        meaning: Meaning::Unfused(Fusion { unfused, params: |_| Params::NONE }),
        lower: |call, spec, _| layer_norm::lower_backward(call, spec, &BACKWARD, 6),
        shaders: BACKWARD_SHADERS,
        cases: cases_backward,
        ..OpDef::BASE
    }
}

/// The gradients of layer norm, with dx replaced by what `sum` makes of d and it.
fn with_dx(inputs: &[Tensor], sum: fn(&Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
    let given: Vec<_> = inputs[..5].iter().collect();
    let mut gradients = given[0].tracer().emit(&LAYER_NORM_BACKWARD, &given, Params::NONE);
    gradients[0] = sum(&inputs[5], &gradients[0]);
    gradients
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 4)?;
    let [x, r, weight, bias] = types else { unreachable!("there are four inputs") };
    expect::dtype("r", r, x.dtype)?;
    expect::shape("r", r, &x.shape)?;
    let normed = (layer_norm::LAYER_NORM.infer)(params, &[x.clone(), weight.clone(), bias.clone()])?;
    Ok([vec![x.clone()], normed].concat())
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 6)?;
    expect::dtype("d", &types[5], types[0].dtype)?;
    expect::shape("d", &types[5], &types[0].shape)?;
    (LAYER_NORM_BACKWARD.infer)(params, &types[..5])
}

static CUDA: CudaSource = CudaSource {
    name: "layer_norm.cu (residual)",
    text: concat!(
        include_str!("../common/common.cuh"),
        "#define RESIDUAL 1\n",
        include_str!("../layer_norm/layer_norm.cu")
    ),
};
static SHADER: [Shader; 3] = shaders!(same ["residual_layer_norm"] "layer_norm/layer_norm.comp" [("RESIDUAL", "1")]);
static BACKWARD_SHADER: [Shader; 3] =
    shaders!(same ["layer_norm_backward_residual"] "layer_norm/layer_norm_backward.comp" [("RESIDUAL", "1")]);
static BACKWARD_SHADERS: &[&Shader] = shader_list!(BACKWARD_SHADER, layer_norm::WEIGHTS_SHADER, reduce::SHADER);
static FORWARD: Kernels = Kernels {
    name: "residual_layer_norm",
    cuda: &CUDA,
    shader: &SHADER,
    select: layer_norm::select_residual,
    weights: &layer_norm::WEIGHTS,
};
static BACKWARD: Kernels = Kernels {
    name: "layer_norm_backward_residual",
    cuda: &CUDA,
    shader: &BACKWARD_SHADER,
    select: layer_norm::select_backward_residual,
    weights: &layer_norm::WEIGHTS,
};

fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let inputs = vec![
            CaseInput::normal([rows, n]),
            CaseInput::normal([rows, n]),
            CaseInput::uniform([n], 0.5, 1.5),
            CaseInput::normal([n]),
        ];
        // s is rounded before it is normed.
        Case::new(format!("{rows}x{n}"), Params::NONE.with_f32("eps", 1e-5), inputs).roundings(4.0)
    };
    // Three numbers may lie close together, and would then be blown up, rounding and all.
    let params = Params::NONE.with_f32("eps", 1.0);
    vec![
        case(64, 256),
        case(5, 37),
        case(1, 1),
        Case { params, ..case(130, 3) },
        case(3, 1030),
        case(2048, 1536).large(),
        case(8192, 4096).large(),
    ]
}

fn cases_backward() -> Vec<Case> {
    let case = |rows: usize, n: usize| {
        let mut inputs = layer_norm::backward_inputs(rows, n);
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
