//! `fill`: y[i] = value.

use crate::cast::cast;
use graph::{
    Call, Case, Cost, Launch, Lowering, Meaning, OpDef, Operand, Params, Spec, Tensor, TensorType, Tracer, Unsupported,
};

/// `fill`: y[i] = value, a vector of n elements.
pub static FILL: OpDef = OpDef {
    name: "fill",
    formula: "y[i] = value",
    infer: |params, _| Ok(vec![TensorType::f32([params.u32("elements")])]),
    cost: |call| Cost::streaming(call, 0.0),
    meaning: Meaning::Loops(|call, _| vec![vec![f64::from(call.params.f32("value")); call.outputs[0].elements()]]),
    gradient: Some(|_| Vec::new()),
    lower,
    cases,
    ..OpDef::BASE
};

/// A vector [elements] of one value.
#[track_caller]
pub fn fill(g: &Tracer, elements: usize, value: f32) -> Tensor {
    g.emit(&FILL, &[], Params::NONE.with_u32("elements", elements).with_f32("value", value))[0].clone()
}

/// Ones of a value's type.
#[track_caller]
pub fn ones(like: &Tensor) -> Tensor {
    cast(&fill(like.tracer(), like.shape().elements(), 1.0), like.dtype()).reshape(like.shape().clone())
}

fn lower(call: &Call, _: &Spec, _: &str) -> Result<Lowering, Unsupported> {
    let word = call.params.f32("value").to_bits();
    Ok(Lowering::one(Launch::Fill { to: Operand::Output(0), word }))
}

fn cases() -> Vec<Case> {
    [1, 1000]
        .map(|n| Case::new(n.to_string(), Params::NONE.with_u32("elements", n).with_f32("value", 2.5), vec![]))
        .into()
}
