//! What several ops share: memory access and math on CPU, device code, and short forms for cards.

pub mod cpu;
pub mod math;
pub mod stored;

use crate::cast;
use graph::op::is_narrow;
use graph::{
    Call, CpuArgs, CpuKernel, DeviceKind, Kernel, KernelSource, Launch, Lowering, Operand, Spec, TensorType,
    Unsupported,
};
use tensor::DType;

/// `Input(0)`, ..., `Input(inputs - 1)`, `Output(0)`, ..., `Output(outputs - 1)`: the usual operands of a kernel.
pub fn operands(inputs: usize, outputs: usize) -> Vec<Operand> {
    (0..inputs).map(Operand::Input).chain((0..outputs).map(Operand::Output)).collect()
}

/// A CPU launch.
pub fn cpu(
    name: &'static str,
    run: fn(&CpuArgs, usize),
    parts: usize,
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    Launch::Cpu(CpuKernel { name, parts, run, words, operands })
}

/// Groups in x that every Vulkan device takes; kernels that may need more go on in strides.
pub const MOST_GROUPS: usize = 65_535;

/// A GPU launch with no constants and no dynamic shared memory.
pub fn gpu(
    source: KernelSource,
    entry: &'static str,
    groups: [usize; 3],
    threads: u32,
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    let groups = groups.map(|n| u32::try_from(n).expect("a launch's groups fit 32 bits"));
    Launch::Kernel(Kernel { source, entry, constants: Vec::new(), groups, threads, shared_bytes: 0, words, operands })
}

/// What shaders that load or store 16-bit elements need.
///
/// # Errors
/// On a Vulkan device that lacks it.
pub fn needs_storage16(spec: &Spec) -> Result<(), Unsupported> {
    if spec.kind == DeviceKind::Vulkan && !spec.has("storage16") {
        return Err(Unsupported(format!("{} lacks storageBuffer16BitAccess", spec.name)));
    }
    Ok(())
}

/// Whether any of the call's tensors has 16-bit elements.
pub fn has_narrow(call: &Call) -> bool {
    call.inputs.iter().chain(call.outputs).any(|t| is_narrow(t.dtype))
}

/// The call as `lower` makes it, where all is f32 or the kind of machine has `native` kernels for 16-bit elements; else
/// `lower`'s launches for f32 over scratch, between casts of the inputs and of the outputs.
///
/// # Errors
/// What `lower` refuses, and casts where there are none.
pub fn widened(
    call: &Call,
    spec: &Spec,
    native: &[DeviceKind],
    lower: impl Fn(&Call) -> Result<Lowering, Unsupported>,
) -> Result<Lowering, Unsupported> {
    if !has_narrow(call) {
        return lower(call);
    }
    needs_storage16(spec)?;
    if native.contains(&spec.kind) {
        return lower(call);
    }
    let wide = |ty: &TensorType| if is_narrow(ty.dtype) { TensorType::f32(ty.shape.clone()) } else { ty.clone() };
    let (inputs, outputs): (Vec<_>, Vec<_>) =
        (call.inputs.iter().map(wide).collect(), call.outputs.iter().map(wide).collect());
    let Lowering { mut scratch, launches } = lower(&Call { params: call.params, inputs: &inputs, outputs: &outputs })?;
    // Where the f32 form of each tensor is, and the operand that it stands for.
    let mut stand_ins: Vec<(Operand, Operand, &TensorType)> = Vec::new();
    let all_inputs = call.inputs.iter().enumerate().map(|(i, ty)| (Operand::Input(i), ty));
    let all_outputs = call.outputs.iter().enumerate().map(|(o, ty)| (Operand::Output(o), ty));
    for (operand, ty) in all_inputs.chain(all_outputs) {
        if is_narrow(ty.dtype) && launches.iter().any(|launch| launch.operands().contains(&operand)) {
            stand_ins.push((operand, Operand::Scratch(scratch.len()), ty));
            scratch.push((4 * ty.elements()) as u64);
        }
    }
    let stand_in = |operand: Operand| stand_ins.iter().find(|s| s.0 == operand).map_or(operand, |s| s.1);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for &(operand, wide, ty) in &stand_ins {
        match operand {
            Operand::Input(_) => {
                before.push(cast::launch(spec, ty.dtype, DType::F32, ty.elements(), operand, wide)?);
            }
            _ => after.push(cast::launch(spec, DType::F32, ty.dtype, ty.elements(), wide, operand)?),
        }
    }
    let launches = launches.into_iter().map(|launch| launch.with_operands(stand_in));
    Ok(Lowering { scratch, launches: before.into_iter().chain(launches).chain(after).collect() })
}

/// Whether a lowering goes through `widened`.
pub fn is_widened(lowering: &Lowering) -> bool {
    lowering.launches.iter().any(cast::is_cast)
}
