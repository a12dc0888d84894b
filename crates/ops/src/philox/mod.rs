//! `uniform`: random numbers by Philox4x32-10, the bits of `tensor::rng::Philox`, at a step that the device counts.

mod cpu;

use crate::common;
use graph::op::expect;
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Params, Shader, Spec,
    Tensor, TensorType, Unsupported,
};
use tensor::DType;
use tensor::rng::{philox4x32, unit};

/// Elements that one CPU part draws.
const CPU_CHUNK: usize = 8192;
/// Elements that one GPU group draws, four a thread.
const GPU_CHUNK: usize = 1024;

/// `uniform`: n numbers in [low, high) for a key and a step.
pub static UNIFORM: OpDef = OpDef {
    name: "uniform",
    formula: "y[i] = low + (high - low) philox(key, step, i)",
    infer,
    cost: |call| Cost::streaming(call, 12.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(|_| vec![None]),
    lower,
    shaders: &[&SHADER],
    cases,
    ..OpDef::BASE
};

/// n numbers in [low, high): those of `Philox::fill_uniform` for the stream whose `Philox::key` is given, at `step` [1]
/// (u32).
#[track_caller]
pub fn uniform(step: &Tensor, key: [u32; 2], n: usize, low: f32, high: f32) -> Tensor {
    step.tracer().emit(&UNIFORM, &[step], params(key, n, low, high))[0].clone()
}

fn params(key: [u32; 2], n: usize, low: f32, high: f32) -> Params {
    Params::NONE
        .with_u32("n", n)
        .with_u32("key_low", key[0] as usize)
        .with_u32("key_high", key[1] as usize)
        .with_f32("low", low)
        .with_f32("high", high)
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 1)?;
    expect::dtype("step", &types[0], DType::U32)?;
    expect::shape("step", &types[0], &[1])?;
    Ok(vec![TensorType::f32([params.u32("n")])])
}

/// In f32: the numbers are the same bits everywhere.
fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let p = call.params;
    let (key, step) = ([p.u32("key_low") as u32, p.u32("key_high") as u32], inputs[0][0] as u32);
    let (low, high) = (p.f32("low"), p.f32("high"));
    let element = |i: usize| {
        let word = philox4x32([(i / 4) as u32, 0, step, 0], key)[i % 4];
        f64::from(low + (high - low) * unit(word))
    };
    vec![(0..p.u32("n")).map(element).collect()]
}

static CUDA: CudaSource =
    CudaSource { name: "philox.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("philox.cu")) };
static SHADER: Shader =
    Shader { name: "philox_uniform", source: "philox/philox.comp", defines: &[], spirv: spirv!("philox_uniform") };

/// Kernel words: n, the key's two words, low, high.
fn lower(call: &Call, spec: &Spec, _: &str) -> Result<Lowering, Unsupported> {
    let n = call.params.u32("n");
    let (words, operands) = (call.params.words(), common::operands(1, 1));
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let (run, parts) = (cpu::select(&spec.architecture), n.div_ceil(CPU_CHUNK));
            return Ok(Lowering::one(common::cpu("uniform", run, parts, words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "uniform"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(&SHADER), "main"),
    };
    let groups = [n.div_ceil(GPU_CHUNK).clamp(1, 65_535), 1, 1];
    Ok(Lowering::one(common::gpu(source, entry, groups, (GPU_CHUNK / 4) as u32, words, operands)))
}

fn cases() -> Vec<Case> {
    let case = |n: usize, step: f64, low: f32, high: f32| {
        let key = tensor::rng::Philox::new(7, "case").key();
        let step = CaseInput::values(DType::U32, [1], [step]);
        Case::new(format!("{n}"), params(key, n, low, high), vec![step]).tolerance(0.0)
    };
    vec![
        case(1000, 3.0, 0.0, 1.0),
        case(1, 0.0, -1.0, 1.0),
        case(9001, f64::from(u32::MAX), -0.3, 0.7),
        case(1 << 24, 1.0, -0.1, 0.1).large(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_the_bits_of_the_host() {
        let random = tensor::rng::Philox::new(11, "some stream");
        let mut host = [0.0f32; 10];
        random.at(5).fill_uniform(&mut host, -2.0, 3.0);
        let params = params(random.key(), 10, -2.0, 3.0);
        let call = Call { params: &params, inputs: &[], outputs: &[] };
        let drawn = reference(&call, &[&[5.0]]);
        assert_eq!(drawn[0], host.map(f64::from));
    }
}
