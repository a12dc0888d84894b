//! `unscale` and `rescale`: a loss scale that the device keeps (Micikevicius et al., arXiv 1710.03740), so that f16 gradients
//! don't vanish: the norm of scaled gradients is made the gradients' own, and the scale follows whether they are finite.

mod cpu;

use crate::common;
use graph::op::expect;
use graph::{
    Call, Case, CaseInput, CpuArgs, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Params, Shader,
    Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Finite steps in a row after which the scale is doubled.
pub const GOOD_STEPS: usize = 2000;
/// The scale is not doubled beyond this, and not halved below 1.
pub const MOST: f32 = 16_777_216.0;

/// `unscale`: the gradients' norm, and the scale beside it.
pub static UNSCALE: OpDef = OpDef {
    name: "unscale",
    formula: "y = (norm / scale, scale)",
    infer: |_, types| {
        expect::inputs(types, 2)?;
        for (name, ty) in ["norm", "scale"].iter().zip(types) {
            expect::dtype(name, ty, DType::F32)?;
            expect::shape(name, ty, &[1])?;
        }
        Ok(vec![TensorType::f32([2])])
    },
    meaning: Meaning::Loops(|_, inputs| vec![vec![inputs[0][0] / inputs[1][0], inputs[1][0]]]),
    lower: |call, spec, _| lower(call, spec, "unscale", cpu::unscale, &UNSCALE_SHADER),
    shaders: &[&UNSCALE_SHADER],
    cases: || {
        let case = |name: &str, norm: f64, scale: f64| {
            let float = |value: f64| CaseInput::values(DType::F32, [1], [value]);
            Case::new(name, Params::NONE, vec![float(norm), float(scale)])
        };
        vec![case("scaled", 81920.0, 65536.0), case("not scaled", 1.25, 1.0), case("infinite", f64::INFINITY, 4.0)]
    },
    ..OpDef::BASE
};

/// `rescale`: the scale of the next step, and the finite steps in a row since it changed.
pub static RESCALE: OpDef = OpDef {
    name: "rescale",
    formula: "not finite: (max(s/2, 1), 0); else after enough steps (min(2s, most), 0); else (s, n + 1)",
    infer: |params, types| {
        expect::inputs(types, 3)?;
        let expected = [("scale", DType::F32), ("good_steps", DType::U32), ("finite", DType::U32)];
        for ((name, dtype), ty) in expected.into_iter().zip(types) {
            expect::dtype(name, ty, dtype)?;
            expect::shape(name, ty, &[1])?;
        }
        if params.u32("good_steps") == 0 {
            return Err("`good_steps` is 0; expected at least 1".into());
        }
        Ok(types[..2].to_vec())
    },
    sharing: &[(0, 0), (1, 1)],
    meaning: Meaning::Loops(|call, inputs| {
        let (scale, good) = (inputs[0][0], inputs[1][0] + 1.0);
        let most = f64::from(call.params.f32("most"));
        let (scale, good) = match inputs[2][0] != 0.0 {
            false => ((scale / 2.0).max(1.0), 0.0),
            true if good >= call.params.u32("good_steps") as f64 => ((scale * 2.0).min(most).max(scale), 0.0),
            true => (scale, good),
        };
        vec![vec![scale], vec![good]]
    }),
    lower: |call, spec, _| lower(call, spec, "rescale", cpu::rescale, &RESCALE_SHADER),
    shaders: &[&RESCALE_SHADER],
    cases: || {
        let case = |name: &str, scale: f64, good: f64, finite: f64| {
            let word = |value: f64| CaseInput::values(DType::U32, [1], [value]);
            let inputs = vec![CaseInput::values(DType::F32, [1], [scale]), word(good), word(finite)];
            Case::new(name, params(), inputs)
        };
        vec![
            case("counts", 65536.0, 41.0, 1.0),
            case("halves", 65536.0, 41.0, 0.0),
            case("doubles", 65536.0, 1999.0, 1.0),
            case("no less than 1", 1.0, 3.0, 0.0),
            case("no more than 2^24", 16_777_216.0, 1999.0, 1.0),
        ]
    },
    ..OpDef::BASE
};

/// The norm [1] of gradients of a loss that was multiplied by `scale` [1], divided by it, and the scale: [2].
#[track_caller]
pub fn unscale(norm: &Tensor, scale: &Tensor) -> Tensor {
    norm.tracer().emit(&UNSCALE, &[norm, scale], Params::NONE)[0].clone()
}

/// What `scale` [1] f32 and the count of finite steps since it changed, `good_steps` [1] u32, are after a step: halved where
/// `finite` [1] u32 is 0, doubled after 2000 finite steps in a row, from 1 to 2^24.
#[track_caller]
pub fn rescale(scale: &Tensor, good_steps: &Tensor, finite: &Tensor) -> (Tensor, Tensor) {
    let out = scale.tracer().emit(&RESCALE, &[scale, good_steps, finite], params());
    (out[0].clone(), out[1].clone())
}

fn params() -> Params {
    Params::NONE.with_u32("good_steps", GOOD_STEPS).with_f32("most", MOST)
}

static CUDA: CudaSource = CudaSource {
    name: "loss_scale.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("loss_scale.cu")),
};
static UNSCALE_SHADER: Shader =
    Shader { name: "unscale", source: "loss_scale/unscale.comp", defines: &[], spirv: spirv!("unscale") };
static RESCALE_SHADER: Shader =
    Shader { name: "rescale", source: "loss_scale/rescale.comp", defines: &[], spirv: spirv!("rescale") };

/// One thread's work. Kernel words: the op's parameters.
fn lower(
    call: &Call,
    spec: &Spec,
    name: &'static str,
    cpu: fn(&CpuArgs, usize),
    shader: &'static Shader,
) -> Result<Lowering, Unsupported> {
    let operands = common::operands(call.inputs.len(), call.outputs.len());
    let words = call.params.words();
    Ok(Lowering::one(match spec.kind {
        DeviceKind::Cpu => common::cpu(name, cpu, 1, words, operands),
        DeviceKind::Cuda => common::gpu(KernelSource::Cuda(&CUDA), name, [1, 1, 1], 32, words, operands),
        DeviceKind::Vulkan => common::gpu(KernelSource::Vulkan(shader), "main", [1, 1, 1], 64, words, operands),
    }))
}
