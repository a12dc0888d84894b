//! `bias_gelu`: h = x + bias, y = gelu(h), in one launch.

mod cpu;

use crate::common::stored::{self, EVERYWHERE};
use crate::{common, elementwise};
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, Fusion, KernelSource, Lowering, Meaning, OpDef, Params,
    Shader, Spec, TensorType, Unsupported,
};

/// Elements that one CPU part computes.
const CPU_CHUNK: usize = 8192;
/// Elements that one GPU group computes at a time, four a thread.
const GPU_CHUNK: usize = 1024;

/// `bias_gelu`: of x [..., n] and bias [n]: h and y of x's shape.
pub static BIAS_GELU: OpDef = OpDef {
    name: "bias_gelu",
    formula: "h = x + bias, y = gelu(h)",
    infer,
    storage: FLOATS,
    sharing: &[(0, 0)],
    cost: |call| Cost::streaming(call, 21.0),
    meaning: Meaning::Unfused(Fusion {
        unfused: |inputs, _| {
            let h = elementwise::add(&inputs[0], &inputs[1]);
            let y = elementwise::gelu(&h);
            vec![h, y]
        },
        params: |_| Params::NONE,
    }),
    lower: |call, spec, _| common::widened(call, spec, EVERYWHERE, |call| lower(call, spec)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    let [x, bias] = types else { unreachable!("there are two inputs") };
    let dtype = expect::float("x", x)?;
    expect::dtype("bias", bias, dtype)?;
    expect::shape("bias", bias, &x.shape[x.shape.len().saturating_sub(1)..])?;
    Ok(vec![x.clone(), x.clone()])
}

static CUDA: CudaSource = CudaSource {
    name: "bias_gelu.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("bias_gelu.cu")),
};
static SHADER: [Shader; 3] = shaders!(same ["bias_gelu"] "bias_gelu/bias_gelu.comp" []);

/// Kernel words: elements, columns.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let (elements, columns) = (call.inputs[0].elements(), call.inputs[1].elements());
    let words = vec![elements as u32, columns as u32];
    let (operands, dtype) = (common::operands(2, 2), call.inputs[0].dtype);
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let (run, parts) = (cpu::select(call.inputs[0].dtype, &spec.architecture), elements.div_ceil(CPU_CHUNK));
            return Ok(Lowering::one(common::cpu("bias_gelu", run, parts, words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "bias_gelu"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(&SHADER, dtype)), "main"),
    };
    let groups = [elements.div_ceil(GPU_CHUNK).clamp(1, 65_535), 1, 1];
    let launch = common::gpu(source, entry, groups, (GPU_CHUNK / 4) as u32, words, operands);
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases() -> Vec<Case> {
    let case = |shape: &[usize]| {
        let bias = CaseInput::normal([shape[shape.len() - 1]]);
        Case::new(tensor::Shape::from(shape).to_string(), Params::NONE, vec![CaseInput::normal(shape), bias])
    };
    vec![case(&[7, 33]), case(&[1]), case(&[3, 5, 1001]), case(&[64, 1024]).large(), case(&[4096, 4096]).large()]
}
