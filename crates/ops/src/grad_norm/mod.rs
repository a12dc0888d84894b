//! `grad_norm`: norm = sqrt(sum of squares), finite = whether every element is, last = the last that isn't; chunks of
//! fixed size, then the chunks.
//!
//! Gradients are made from the end of a model to its beginning: the last that isn't finite lies where that arose.

mod cpu;

use crate::common;
use graph::op::expect;
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Operand, Params,
    Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements whose squares are summed first: by one CPU part, and by one GPU group.
const CPU_CHUNK: usize = 16_384;
const GPU_CHUNK: usize = 4096;
/// Threads of a GPU group.
const GPU_THREADS: u32 = 256;

/// `grad_norm`: the Euclidean norm [1], a flag [1], 1 where every element is finite (whatever the norm is), else 0, and
/// the index of the last element that isn't [1], `u32::MAX` where all are.
pub static GRAD_NORM: OpDef = OpDef {
    name: "grad_norm",
    formula: "norm = sqrt(sum_i g[i]^2); finite = all g[i] are finite; last = the last that isn't",
    infer: |_, types| {
        expect::inputs(types, 1)?;
        expect::dtype("gradients", &types[0], DType::F32)?;
        expect::rank("gradients", &types[0], 1)?;
        let word = TensorType::new(DType::U32, [1]);
        Ok(vec![TensorType::f32([1]), word.clone(), word])
    },
    cost: |call| Cost { flops: 2.0 * call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(|_, inputs| {
        let norm = inputs[0].iter().map(|g| g * g).sum::<f64>().sqrt();
        let last = inputs[0].iter().rposition(|g| !g.is_finite());
        let place = last.map_or(f64::from(u32::MAX), |i| i as f64);
        vec![vec![norm], vec![f64::from(last.is_none())], vec![place]]
    }),
    lower,
    shaders: &[&CHUNKS, &TOTAL],
    cases,
    ..OpDef::BASE
};

/// The Euclidean norm [1] of gradients [n]; 1 [1] u32 where all of them are finite, else 0; and the index [1] u32 of the
/// last that isn't, `u32::MAX` where all are.
#[track_caller]
pub fn grad_norm(gradients: &Tensor) -> (Tensor, Tensor, Tensor) {
    let out = gradients.tracer().emit(&GRAD_NORM, &[gradients], Params::NONE);
    (out[0].clone(), out[1].clone(), out[2].clone())
}

static CUDA: CudaSource = CudaSource {
    name: "grad_norm.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("grad_norm.cu")),
};
static CHUNKS: Shader = Shader {
    name: "grad_norm_chunks",
    source: "grad_norm/grad_norm_chunks.comp",
    defines: &[],
    spirv: spirv!("grad_norm_chunks"),
};
static TOTAL: Shader = Shader {
    name: "grad_norm_total",
    source: "grad_norm/grad_norm_total.comp",
    defines: &[],
    spirv: spirv!("grad_norm_total"),
};

/// The chunks' sums and the ends of what isn't finite in them (0 where all is), then one total. Kernel words: elements; chunks.
fn lower(call: &Call, spec: &Spec, _: &str) -> Result<Lowering, Unsupported> {
    let elements = call.inputs[0].elements();
    let chunk = if spec.kind == DeviceKind::Cpu { CPU_CHUNK } else { GPU_CHUNK };
    let chunks = elements.div_ceil(chunk).max(1);
    let (sums, ends) = (Operand::Scratch(0), Operand::Scratch(1));
    let total = vec![sums, ends, Operand::Output(0), Operand::Output(1), Operand::Output(2)];
    let stages = [
        ("grad_norm_chunks", &CHUNKS, chunks, elements, vec![Operand::Input(0), sums, ends]),
        ("grad_norm_total", &TOTAL, 1, chunks, total),
    ];
    let launches = stages.map(|(name, shader, groups, count, operands)| {
        let words = vec![count as u32];
        match spec.kind {
            DeviceKind::Cpu if name == "grad_norm_total" => common::cpu(name, cpu::total, 1, words, operands),
            DeviceKind::Cpu => common::cpu(name, cpu::select(&spec.architecture), groups, words, operands),
            DeviceKind::Cuda => {
                common::gpu(KernelSource::Cuda(&CUDA), name, [groups, 1, 1], GPU_THREADS, words, operands)
            }
            DeviceKind::Vulkan => {
                let groups = [groups.min(65_535), 1, 1];
                common::gpu(KernelSource::Vulkan(shader), "main", groups, GPU_THREADS, words, operands)
            }
        }
    });
    Ok(Lowering { scratch: vec![(chunks * 4) as u64; 2], launches: launches.into() })
}

fn cases() -> Vec<Case> {
    let case = |n: usize| Case::new(format!("{n}"), Params::NONE, vec![CaseInput::normal([n])]).tolerance(1e-6);
    let with = |name: &str, n: usize, at: usize, value: f64| {
        let mut values: Vec<f64> = (0..n).map(|i| (i % 7) as f64 - 3.0).collect();
        values[at] = value;
        Case::new(name, Params::NONE, vec![CaseInput::values(DType::F32, [n], values)])
    };
    let several = |n: usize, at: &[usize]| {
        let mut values: Vec<f64> = (0..n).map(|i| (i % 5) as f64 - 2.0).collect();
        at.iter().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].iter().cycle()).for_each(|(&i, x)| values[i] = *x);
        Case::new(format!("{} of {n}", at.len()), Params::NONE, vec![CaseInput::values(DType::F32, [n], values)])
    };
    vec![
        case(1),
        case(4096),
        case(4097),
        case(50_001),
        with("infinite", 20_000, 19_999, f64::INFINITY),
        with("negative infinite", 300, 0, f64::NEG_INFINITY),
        with("not a number", 40_000, 17_001, f64::NAN),
        with("not a number at a chunk's end", 40_000, 4095, f64::NAN),
        several(50_000, &[49_999, 33_000, 16_385, 17_000]),
        several(50_000, &[49_999, 7, 8]),
        case(3_160_320).large(),
        case(30_000_000).large(),
    ]
}
