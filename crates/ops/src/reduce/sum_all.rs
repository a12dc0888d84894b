//! `sum_all`: y = sum over all elements of x; chunks of fixed size are summed, then the chunks' sums.

use super::cpu;
use crate::common::stored::{self, GPUS, Types};
use crate::{common, elementwise, fill};
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Launch, Lowering, Meaning, OpDef, Operand,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::Shape;

/// Elements of a chunk on the CPU and on GPUs; more where there would be too many chunks.
const CPU_CHUNK: usize = 16384;
const GPU_CHUNK: usize = 4096;
/// Chunks, at most.
const CHUNKS: usize = 1024;

/// `sum_all`: y [1] = the sum of all elements of x.
pub static SUM_ALL: OpDef = OpDef {
    name: "sum_all",
    formula: "y = sum_i x[i]",
    infer: |_, types| {
        expect::inputs(types, 1)?;
        Ok(vec![TensorType::new(expect::float("x", &types[0])?, [1])])
    },
    storage: FLOATS,
    cost: |call| Cost { flops: call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(|_, inputs| vec![vec![inputs[0].iter().sum()]]),
    gradient: Some(|c| vec![c.grads[0].as_ref().map(|dy| elementwise::mul(&fill::ones(&c.inputs[0]), dy))]),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// The sum of all elements of x: [1].
#[track_caller]
pub fn sum_all(x: &Tensor) -> Tensor {
    x.tracer().emit(&SUM_ALL, &[x], Params::NONE)[0].clone()
}

static CUDA: CudaSource =
    CudaSource { name: "sum_all.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("sum_all.cu")) };
static SHADER: [Shader; 7] = shaders!(mixed ["sum_all"] "reduce/sum_all.comp" []);

/// Two launches where there is more than one chunk.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let (elements, dtype) = (call.inputs[0].elements(), call.inputs[0].dtype);
    let least = if spec.kind == DeviceKind::Cpu { CPU_CHUNK } else { GPU_CHUNK };
    let chunk = least.max(elements.div_ceil(CHUNKS));
    let chunks = elements.div_ceil(chunk);
    let (x, y) = (Operand::Input(0), Operand::Output(0));
    if chunks <= 1 {
        return Ok(Lowering::one(sum_chunks(spec, dtype.into(), elements, elements.max(1), vec![x, y])));
    }
    let (sums, (first, second)) = (Operand::Scratch(0), stored::through_f32(dtype));
    Ok(Lowering {
        scratch: vec![(chunks * 4) as u64],
        launches: vec![
            sum_chunks(spec, first, elements, chunk, vec![x, sums]),
            sum_chunks(spec, second, chunks, chunks, vec![sums, y]),
        ],
    })
}

/// y[c] = the sum of chunk c of x. Kernel words: elements, elements of a chunk.
fn sum_chunks(spec: &Spec, types: Types, elements: usize, chunk: usize, operands: Vec<Operand>) -> Launch {
    let words = vec![elements as u32, chunk as u32];
    let chunks = elements.div_ceil(chunk).max(1);
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            return common::cpu("sum_all", cpu::select_all(&spec.architecture), chunks, words, operands);
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "sum_all"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(&SHADER, types)), "main"),
    };
    stored::typed(common::gpu(source, entry, [chunks, 1, 1], 256, words, operands), types)
}

fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        Case::new(Shape::from(shape).to_string(), Params::NONE, vec![CaseInput::normal(shape)]).tolerance(5e-5)
    };
    vec![
        case(&[1]),
        case(&[7, 33]),
        case(&[5, 3, 1001]),
        case(&[200_003]),
        case(&[64, 256]),
        case(&[4096, 4096]).large(),
    ]
}
