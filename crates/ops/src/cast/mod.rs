//! `cast`: the same numbers as f32, bf16 or f16, to the nearest and ties to even; one of both sides is f32.

mod cpu;

use crate::common;
use graph::op::{FLOATS, expect, is_narrow};
use graph::{
    Case, CaseInput, Cost, CudaSource, DeviceKind, Kernel, KernelSource, Launch, Lowering, Meaning, OpDef, Operand,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements that one CPU part casts.
const CPU_CHUNK: usize = 16_384;
/// Elements that one GPU group casts at a time, four a thread.
const GPU_CHUNK: usize = 1024;

/// `cast`: y of x's shape, with the element type `to`: 0 is f32, 1 bf16, 2 f16.
pub static CAST: OpDef = OpDef {
    name: "cast",
    formula: "y[i] = x[i], rounded to the nearest",
    infer,
    cost: |call| Cost::streaming(call, 0.0),
    meaning: Meaning::Loops(|_, inputs| vec![inputs[0].to_vec()]),
    gradient: Some(|c| vec![c.grads[0].as_ref().map(|dy| cast(dy, c.inputs[0].dtype()))]),
    lower: |call, spec, _| {
        let (from, to) = (call.inputs[0].dtype, call.outputs[0].dtype);
        let elements = call.outputs[0].elements();
        Ok(Lowering::one(launch(spec, from, to, elements, Operand::Input(0), Operand::Output(0))?))
    },
    shaders: &[&SHADERS[0], &SHADERS[1], &SHADERS[2], &SHADERS[3]],
    cases,
    ..OpDef::BASE
};

/// x with another element type; x itself where it has that type.
#[track_caller]
pub fn cast(x: &Tensor, to: DType) -> Tensor {
    if x.dtype() == to {
        return x.clone();
    }
    let Some(code) = FLOATS.iter().position(|dtype| *dtype == to) else {
        return x.tracer().mistake("cast", format!("there is no cast to {to}, only to f32, bf16 and f16"));
    };
    x.tracer().emit(&CAST, &[x], Params::NONE.with_u32("to", code))[0].clone()
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 1)?;
    let from = expect::float("x", &types[0])?;
    let Some(&to) = FLOATS.get(params.u32("to")) else {
        return Err(format!("`to` is {}; expected 0, 1 or 2", params.u32("to")));
    };
    if (from == DType::F32) == (to == DType::F32) {
        return Err(format!("there is no cast from {from} to {to}; one of both must be f32"));
    }
    Ok(vec![TensorType::new(to, types[0].shape.clone())])
}

static CUDA: CudaSource =
    CudaSource { name: "cast.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("cast.cu")) };

macro_rules! shader {
    ($name:literal, $($define:literal),+) => {
        Shader {
            name: $name,
            source: "cast/cast.comp",
            defines: &[$(($define, "1")),+],
            spirv: spirv!($name),
        }
    };
}
/// To and from bf16, to and from f16.
static SHADERS: [Shader; 4] = [
    shader!("cast_to_bf16", "TO_BF16"),
    shader!("cast_from_bf16", "FROM_BF16"),
    shader!("cast_to_f16", "TO_F16"),
    shader!("cast_from_f16", "FROM_F16"),
];
const ENTRIES: [&str; 4] = ["cast_to_bf16", "cast_from_bf16", "cast_to_f16", "cast_from_f16"];

/// One launch that casts `elements` elements. Kernel words: elements.
///
/// # Errors
/// On a Vulkan device without 16-bit storage.
pub(crate) fn launch(
    spec: &Spec,
    from: DType,
    to: DType,
    elements: usize,
    x: Operand,
    y: Operand,
) -> Result<Launch, Unsupported> {
    let narrow = if is_narrow(from) { from } else { to };
    let which = 2 * usize::from(narrow == DType::F16) + usize::from(is_narrow(from));
    let (words, operands) = (vec![elements as u32], vec![x, y]);
    let groups = [elements.div_ceil(GPU_CHUNK).clamp(1, common::MOST_GROUPS), 1, 1];
    let threads = (GPU_CHUNK / 4) as u32;
    Ok(match spec.kind {
        DeviceKind::Cpu => {
            let select = [cpu::to_bf16, cpu::from_bf16, cpu::to_f16, cpu::from_f16][which];
            let parts = elements.div_ceil(CPU_CHUNK);
            common::cpu(ENTRIES[which], select(&spec.architecture), parts, words, operands)
        }
        DeviceKind::Cuda => common::gpu(KernelSource::Cuda(&CUDA), ENTRIES[which], groups, threads, words, operands),
        DeviceKind::Vulkan => {
            common::needs_storage16(spec)?;
            common::gpu(KernelSource::Vulkan(&SHADERS[which]), "main", groups, threads, words, operands)
        }
    })
}

/// Whether a launch is one of this card's.
pub fn is_cast(launch: &Launch) -> bool {
    match launch {
        Launch::Cpu(kernel) => ENTRIES.contains(&kernel.name),
        Launch::Kernel(Kernel { source: KernelSource::Vulkan(shader), .. }) => ENTRIES.contains(&shader.name),
        Launch::Kernel(kernel) => ENTRIES.contains(&kernel.entry),
        _ => false,
    }
}

fn cases() -> Vec<Case> {
    let case = |from: DType, to: usize, shape: &[usize]| {
        let input = CaseInput { ty: TensorType::new(from, shape), ..CaseInput::normal(shape) };
        let name = format!("{from} to {} {}", FLOATS[to], tensor::Shape::from(shape));
        Case::new(name, Params::NONE.with_u32("to", to), vec![input]).tolerance(if to == 1 {
            1.0 / 256.0
        } else {
            1.0 / 2048.0
        })
    };
    let mut cases = Vec::new();
    for (from, to) in [(DType::F32, 1), (DType::F32, 2), (DType::Bf16, 0), (DType::F16, 0)] {
        cases.extend([case(from, to, &[1]), case(from, to, &[7, 33]), case(from, to, &[40_001])]);
        cases.push(case(from, to, &[4096, 4096]).large());
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::there;
    use device::{Choice, Device, Options, check};
    use tensor::number::{bits16, decode};

    fn devices() -> Vec<Device> {
        let cpu = |architecture: &str| {
            let options = Options { threads: Some(1), architecture: Some(architecture.into()), ..Options::default() };
            there::open(Choice::Cpu, &options)
        };
        let gpu = |choice| there::open(choice, &Options::default());
        let cpus = ["portable", "avx2", "avx512"].into_iter().filter_map(cpu);
        cpus.chain(gpu(Choice::Vulkan(None))).chain(gpu(Choice::Cuda(0))).collect()
    }

    fn run(device: &Device, from: DType, to: DType, values: Vec<f64>) -> Vec<u32> {
        let code = FLOATS.iter().position(|d| *d == to).expect("a float");
        let inputs = vec![CaseInput::values(from, [values.len()], values)];
        let case = Case::new("bits", Params::NONE.with_u32("to", code), inputs);
        check::outputs(device, &CAST, &case, &Default::default(), 1).expect("it runs").remove(0)
    }

    /// Every number of 16 bits, those between two of them, those just beside these, and the edges of f32.
    fn numbers(dtype: DType) -> Vec<f32> {
        let mut all = Vec::new();
        let every = |bits: u32| decode(dtype, &(bits as u16).to_le_bytes())[0] as f32;
        for bits in 0..=0xffff {
            let (x, next) = (every(bits), every(bits ^ 1));
            let middle = ((f64::from(x) + f64::from(next)) / 2.0) as f32;
            let beside = |y: f32, step: i32| f32::from_bits(y.to_bits().wrapping_add_signed(step));
            all.extend([x, middle, beside(middle, 1), beside(middle, -1)]);
            let above = ((f64::from(x) + f64::from(every(bits.saturating_add(1).min(0xffff)))) / 2.0) as f32;
            all.extend([above, beside(above, 1), beside(above, -1)]);
        }
        all.extend([f32::MAX, f32::MIN, 65519.996, 65520.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0]);
        all
    }

    #[test]
    fn every_number_is_rounded_to_the_nearest_and_ties_to_even() {
        for device in devices() {
            let gpu = device.spec().kind != DeviceKind::Cpu;
            for dtype in [DType::Bf16, DType::F16] {
                // GPUs may take f32's own subnormal numbers for zeros.
                let mut given = numbers(dtype);
                given.retain(|x| !(gpu && x.is_subnormal()));
                let got = run(&device, DType::F32, dtype, given.iter().map(|&x| f64::from(x)).collect());
                for (x, &got) in given.iter().zip(&got) {
                    let (want, got) = (bits16(dtype, *x), got as u16);
                    let nan = x.is_nan() && decode(dtype, &got.to_le_bytes())[0].is_nan();
                    assert!(nan || want == got, "{}: {x:e} to {dtype}: {got:#x}, not {want:#x}", device.spec().name);
                }
            }
        }
    }

    #[test]
    fn every_number_comes_back() {
        for device in devices() {
            for dtype in [DType::Bf16, DType::F16] {
                let every: Vec<f64> = (0..=0xffffu16).map(|bits| decode(dtype, &bits.to_le_bytes())[0]).collect();
                let got = run(&device, dtype, DType::F32, every.clone());
                for (want, bits) in every.iter().zip(got) {
                    let (want, got) = (*want as f32, f32::from_bits(bits));
                    let same = want.to_bits() == bits || (want.is_nan() && got.is_nan());
                    assert!(same, "{}: {dtype}: {got:e}, not {want:e}", device.spec().name);
                }
            }
        }
    }
}
