//! Elementwise ops: y[i] = f(a[i], b[i mod period]) for a closed table of named expressions.
//!
//! The second input may have the first one's shape, be one row of it, or be a single number.

mod cpu;
mod table;

pub use table::*;

use crate::common::{self, stored};
use graph::op::expect;
use graph::{
    Call, Case, CaseInput, Cost, CpuArgs, CudaSource, DeviceKind, KernelSource, Lowering, Params, Shader, Spec, Tensor,
    TensorType, Unsupported,
};
use tensor::DType;

/// Elements that one GPU group computes at a time, four a thread.
const GPU_CHUNK: usize = 1024;
/// Elements that one CPU part computes.
const CPU_CHUNK: usize = 8192;

fn infer(inputs: usize, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, inputs)?;
    let dtype = expect::float("a", &types[0])?;
    types[1..].iter().try_for_each(|b| expect::dtype("b", b, dtype))?;
    if let [a, b] = types {
        let row = *b.shape == a.shape[a.shape.len().saturating_sub(1)..];
        if b.shape != a.shape && !row && b.elements() != 1 {
            return Err(format!("`b` has shape {}; expected {}, one row of it, or one number", b.shape, a.shape));
        }
    }
    Ok(vec![types[0].clone()])
}

fn cost(call: &Call, flops: f64) -> Cost {
    Cost::streaming(call, flops)
}

/// The parameter `s` of a row that has one.
fn scalar(params: &Params) -> f32 {
    if params.iter().next().is_some() { params.f32("s") } else { 0.0 }
}

fn reference(call: &Call, inputs: &[&[f64]], f: fn(f64, f64, f64) -> f64) -> Vec<Vec<f64>> {
    let s = f64::from(scalar(call.params));
    let b = inputs.get(1).copied().unwrap_or(&[0.0]);
    vec![inputs[0].iter().enumerate().map(|(i, &a)| f(a, b[i % b.len()], s)).collect()]
}

/// Kernel words: elements, period of b, s.
fn lower(
    call: &Call,
    spec: &Spec,
    cuda: &'static CudaSource,
    shader: &'static [Shader],
    select: fn(DType, &str) -> fn(&CpuArgs, usize),
) -> Result<Lowering, Unsupported> {
    let (elements, dtype) = (call.inputs[0].elements(), call.inputs[0].dtype);
    let period = call.inputs.get(1).map_or(1, TensorType::elements);
    let words = vec![elements as u32, period as u32, scalar(call.params).to_bits()];
    let operands = common::operands(call.inputs.len(), 1);
    let groups = [elements.div_ceil(GPU_CHUNK).clamp(1, 65_535), 1, 1];
    let launch = match spec.kind {
        DeviceKind::Cpu => {
            common::cpu(cuda.name, select(dtype, &spec.architecture), elements.div_ceil(CPU_CHUNK), words, operands)
        }
        DeviceKind::Cuda => {
            common::gpu(KernelSource::Cuda(cuda), "elementwise", groups, (GPU_CHUNK / 4) as u32, words, operands)
        }
        DeviceKind::Vulkan => {
            let groups = groups.map(|n| n.min(common::MOST_GROUPS));
            common::gpu(
                KernelSource::Vulkan(stored::shader(shader, dtype)),
                "main",
                groups,
                (GPU_CHUNK / 4) as u32,
                words,
                operands,
            )
        }
    };
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases(inputs: usize, has_scalar: bool) -> Vec<Case> {
    let params = if has_scalar { Params::NONE.with_f32("s", -1.75) } else { Params::NONE };
    let case = |shape: &[usize], second: &[usize]| {
        let all = [CaseInput::normal(shape), CaseInput::uniform(second, 0.25, 2.0)];
        Case::new(format!("{}", tensor::Shape::from(shape)), params.clone(), all[..inputs].to_vec())
    };
    let mut cases = vec![case(&[7, 33], &[7, 33]), case(&[1], &[1]), case(&[64, 1024], &[64, 1024]).large()];
    if inputs == 2 {
        cases.push(Case { name: "row".into(), ..case(&[5, 3, 17], &[17]) });
        cases.push(Case { name: "number".into(), ..case(&[9, 65], &[1]) });
    }
    cases.push(case(&[4096, 4096], &[4096, 4096]).large());
    cases
}

/// The gradient of an input of `like`'s shape, summed over what was broadcast.
fn unbroadcast(gradient: Tensor, like: &Tensor) -> Tensor {
    if gradient.shape() == like.shape() { gradient } else { crate::reduce::sum_to(&gradient, like.shape()) }
}
