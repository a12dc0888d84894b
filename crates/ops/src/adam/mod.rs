//! `adam`: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, p -= lr (m / c1) / (sqrt(v / c2) + eps), with c = 1 - b^applied.
//!
//! Kingma and Ba (arXiv 1412.6980); with `decoupled`, the decay of Loshchilov and Hutter (arXiv 1711.05101). The order
//! of operations is PyTorch's. Clipping, skipping and the count of applied steps are decided on the device.

mod cpu;

use crate::common;
use graph::op::expect;
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, Kernel, KernelSource, Launch, Lowering, Meaning, OpDef,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements that one CPU part updates.
const CPU_CHUNK: usize = 16_384;
/// Threads of a GPU group, and elements that it updates at a time.
const GPU_THREADS: u32 = 256;
const GPU_CHUNK: usize = 1024;

/// `adam`: the updated parameters and both moments, flat; all of them as they were where `finite` is 0.
pub static ADAM: OpDef = OpDef {
    name: "adam",
    formula: "m = lerp(m, g, 1-b1); v = b2 v + (1-b2) g^2; p -= lr/c1 m / (sqrt(v)/sqrt(c2) + eps)",
    infer,
    sharing: &[(0, 0), (1, 2), (2, 3)],
    cost: |call| Cost::streaming(call, 15.0),
    meaning: Meaning::Loops(reference),
    lower,
    shaders: &[&SHADER],
    cases,
    ..OpDef::BASE
};

/// `advance`: the count of applied steps, one more where the step is applied.
pub static ADVANCE: OpDef = OpDef {
    name: "advance",
    formula: "y = applied + finite",
    infer: |_, types| {
        expect::inputs(types, 2)?;
        for (name, ty) in ["applied", "finite"].iter().zip(types) {
            expect::dtype(name, ty, DType::U32)?;
            expect::shape(name, ty, &[1])?;
        }
        Ok(vec![types[0].clone()])
    },
    sharing: &[(0, 0)],
    meaning: Meaning::Loops(|_, inputs| vec![vec![inputs[0][0] + inputs[1][0]]]),
    lower: lower_advance,
    shaders: &[&ADVANCE_SHADER],
    cases: || {
        let word = |value: f64| CaseInput::values(DType::U32, [1], [value]);
        let case = |name, applied, finite| Case::new(name, Params::NONE, vec![word(applied), word(finite)]);
        vec![case("applied", 41.0, 1.0), case("skipped", 41.0, 0.0)]
    },
    ..OpDef::BASE
};

/// What a run sets once. The learning rate and the count of steps are tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Weight decay; 0 for none.
    pub weight_decay: f64,
    /// Whether the decay acts on the parameters by themselves (AdamW) and isn't added to the gradients.
    pub decoupled: bool,
    /// Gradients are scaled down to this norm; 0 for no clipping.
    pub max_norm: f32,
}

impl Adam {
    /// What must be exact to 24 bits is rounded from f64: 1 - beta, and ln(beta) for the corrections.
    fn params(&self) -> Params {
        Params::NONE
            .with_f32("one_minus_beta1", (1.0 - self.beta1) as f32)
            .with_f32("ln_beta1", self.beta1.ln() as f32)
            .with_f32("beta2", self.beta2 as f32)
            .with_f32("one_minus_beta2", (1.0 - self.beta2) as f32)
            .with_f32("ln_beta2", self.beta2.ln() as f32)
            .with_f32("eps", self.eps as f32)
            .with_f32("weight_decay", self.weight_decay as f32)
            .with_u32("decoupled", usize::from(self.decoupled))
            .with_f32("max_norm", self.max_norm)
    }
}

/// One step over [n] elements: the new parameters, m and v. `lr`, `norm` (of all gradients): [1] f32; `applied` (steps
/// with this one), `finite` (0: change nothing): [1] u32. Gradients are scaled by min(1, max_norm / (norm + 1e-6)), and where
/// `norm` is [2] divided by its second number, the loss scale.
#[track_caller]
pub fn adam(
    parameters: &Tensor,
    gradients: &Tensor,
    m: &Tensor,
    v: &Tensor,
    lr: &Tensor,
    applied: &Tensor,
    norm: &Tensor,
    finite: &Tensor,
    settings: Adam,
) -> (Tensor, Tensor, Tensor) {
    let inputs = [parameters, gradients, m, v, lr, applied, norm, finite];
    let out = parameters.tracer().emit(&ADAM, &inputs, settings.params());
    (out[0].clone(), out[1].clone(), out[2].clone())
}

/// The count of applied steps [1] u32, one more where `finite` [1] u32 is 1.
#[track_caller]
pub fn advance(applied: &Tensor, finite: &Tensor) -> Tensor {
    applied.tracer().emit(&ADVANCE, &[applied, finite], Params::NONE)[0].clone()
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 8)?;
    expect::rank("parameters", &types[0], 1)?;
    for (name, ty) in ["parameters", "gradients", "m", "v"].iter().zip(types) {
        expect::dtype(name, ty, DType::F32)?;
        expect::shape(name, ty, &types[0].shape)?;
    }
    let single = [("lr", DType::F32), ("applied", DType::U32), ("norm", DType::F32), ("finite", DType::U32)];
    for ((name, dtype), ty) in single.into_iter().zip(&types[4..]) {
        expect::dtype(name, ty, dtype)?;
        let scaled = name == "norm" && *ty.shape == [2];
        expect::shape(name, ty, if scaled { &[2] } else { &[1] })?;
    }
    Ok(vec![types[0].clone(); 3])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let word = |name| f64::from(call.params.f32(name));
    let (lr, applied, norm, finite) = (inputs[4][0], inputs[5][0], inputs[6][0], inputs[7][0]);
    let [mut parameters, mut m, mut v] = [inputs[0].to_vec(), inputs[2].to_vec(), inputs[3].to_vec()];
    if finite == 0.0 {
        return vec![parameters, m, v];
    }
    let correction1 = -(applied * word("ln_beta1")).exp_m1();
    let correction2 = -(applied * word("ln_beta2")).exp_m1();
    let max_norm = word("max_norm");
    let clip = if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
    let clip = clip / inputs[6].get(1).unwrap_or(&1.0);
    let (decay, decoupled) = (word("weight_decay"), call.params.u32("decoupled") == 1);
    for i in 0..parameters.len() {
        let mut g = inputs[1][i] * clip;
        if decoupled {
            parameters[i] *= 1.0 - lr * decay;
        } else {
            g += decay * parameters[i];
        }
        m[i] += word("one_minus_beta1") * (g - m[i]);
        v[i] = word("beta2") * v[i] + word("one_minus_beta2") * g * g;
        parameters[i] -= lr / correction1 * (m[i] / (v[i].sqrt() / correction2.sqrt() + word("eps")));
    }
    vec![parameters, m, v]
}

static CUDA: CudaSource =
    CudaSource { name: "adam.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("adam.cu")) };
static SHADER: Shader = Shader { name: "adam", source: "adam/adam.comp", defines: &[], spirv: spirv!("adam") };
static ADVANCE_SHADER: Shader =
    Shader { name: "advance", source: "adam/advance.comp", defines: &[], spirv: spirv!("advance") };

/// Kernel words: elements, then the op's parameters.
fn lower(call: &Call, spec: &Spec, _: &str) -> Result<Lowering, Unsupported> {
    let elements = call.inputs[0].elements();
    let words = std::iter::once(elements as u32).chain(call.params.words()).collect();
    let operands = common::operands(8, 3);
    let groups = [elements.div_ceil(GPU_CHUNK).clamp(1, 65_535), 1, 1];
    let launch = match spec.kind {
        DeviceKind::Cpu => {
            common::cpu("adam", cpu::select(&spec.architecture), elements.div_ceil(CPU_CHUNK), words, operands)
        }
        DeviceKind::Cuda => common::gpu(KernelSource::Cuda(&CUDA), "adam", groups, GPU_THREADS, words, operands),
        DeviceKind::Vulkan => common::gpu(KernelSource::Vulkan(&SHADER), "main", groups, GPU_THREADS, words, operands),
    };
    let scaled = u32::from(call.inputs[6].elements() == 2);
    Ok(Lowering::one(match launch {
        Launch::Kernel(kernel) => Launch::Kernel(Kernel { constants: vec![("SCALED", scaled)], ..kernel }),
        other => other,
    }))
}

fn lower_advance(_: &Call, spec: &Spec, _: &str) -> Result<Lowering, Unsupported> {
    let operands = common::operands(2, 1);
    Ok(Lowering::one(match spec.kind {
        DeviceKind::Cpu => common::cpu("advance", cpu::advance, 1, Vec::new(), operands),
        DeviceKind::Cuda => common::gpu(KernelSource::Cuda(&CUDA), "advance", [1, 1, 1], 32, Vec::new(), operands),
        DeviceKind::Vulkan => {
            common::gpu(KernelSource::Vulkan(&ADVANCE_SHADER), "main", [1, 1, 1], 64, Vec::new(), operands)
        }
    }))
}

fn cases() -> Vec<Case> {
    let plain = Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, max_norm: 0.0 };
    let case = |name: &str, n: usize, settings: Adam, applied: f64, norm: f64, finite: f64| {
        let float = |value: f64| CaseInput::values(DType::F32, [1], [value]);
        let word = |value: f64| CaseInput::values(DType::U32, [1], [value]);
        let inputs = vec![
            CaseInput::normal([n]),
            CaseInput::normal([n]),
            CaseInput::normal([n]),
            CaseInput::uniform([n], 0.01, 2.0),
            float(f64::from(0.05f32)),
            word(applied),
            float(norm),
            word(finite),
        ];
        Case::new(name, settings.params(), inputs)
    };
    let decayed = Adam { weight_decay: 0.1, max_norm: 1.5, ..plain };
    let scaled = |name: &str, settings: Adam, norm: f64, finite: f64| {
        let mut case = case(name, 2049, settings, 3.0, norm, finite);
        case.inputs[1] = CaseInput::uniform([2049], -4096.0, 4096.0);
        case.inputs[6] = CaseInput::values(DType::F32, [2], [norm, 4096.0]);
        case
    };
    vec![
        scaled("scaled", plain, 4.0, 1.0),
        scaled("scaled and clipped", decayed, 4.0, 1.0),
        scaled("scaled and skipped", decayed, 4.0, 0.0),
        case("first step", 1000, plain, 1.0, 3.0, 1.0),
        case("step 257", 37, plain, 257.0, 3.0, 1.0),
        case("step 100000", 20_001, Adam { beta1: 0.95, beta2: 0.99, ..plain }, 100_000.0, 3.0, 1.0),
        case("clipped, decay in the gradient", 1025, decayed, 3.0, 4.0, 1.0),
        case("not clipped, decoupled decay", 16_385, Adam { decoupled: true, ..decayed }, 3.0, 1.25, 1.0),
        case("skipped", 1025, decayed, 3.0, 4.0, 0.0),
        case("3160320", 3_160_320, plain, 12.0, 3.0, 1.0).large(),
        case("30000000", 30_000_000, Adam { decoupled: true, ..decayed }, 12.0, 3.0, 1.0).large(),
    ]
}
