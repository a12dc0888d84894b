//! Which op runs on which kind of device with which element types, asked of the cards; the table in `docs/ops.md`.

use graph::{Call, Case, DeviceKind, Limits, Meaning, OpDef, Spec, TensorType};
use serde::Serialize;
use tensor::DType;

/// Element types that an op's f32 tensors are tried with.
const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::Bf16, DType::F16];

/// One op's line of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Support {
    /// The op.
    pub op: &'static str,
    /// Its formula.
    pub formula: &'static str,
    /// Whether it can be differentiated.
    pub gradient: bool,
    /// Whether it replaces several plain ops.
    pub fused: bool,
    /// Element types with kernels for processors.
    pub cpu: Vec<&'static str>,
    /// Element types with shaders for Vulkan.
    pub vulkan: Vec<&'static str>,
    /// Element types with kernels for CUDA.
    pub cuda: Vec<&'static str>,
}

/// The whole table, in the order of the list of ops.
pub fn table() -> Vec<Support> {
    ops::OPS.iter().map(|op| support(op)).collect()
}

/// One op's line.
pub fn support(op: &'static OpDef) -> Support {
    Support {
        op: op.name,
        formula: op.formula,
        gradient: op.gradient.is_some(),
        fused: matches!(op.meaning, Meaning::Unfused(_)),
        cpu: types_on(
            op,
            &[spec(DeviceKind::Cpu, "avx512"), spec(DeviceKind::Cpu, "avx2"), spec(DeviceKind::Cpu, "portable")],
        ),
        vulkan: types_on(
            op,
            &[8, 32, 64].map(|subgroup_size| Spec { subgroup_size, ..spec(DeviceKind::Vulkan, "any") }),
        ),
        cuda: types_on(op, &[with_library(spec(DeviceKind::Cuda, "sm_90")), spec(DeviceKind::Cuda, "sm_80")]),
    }
}

/// The table as a page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Ops\n\n\
        Made by `rondo ops --markdown` and compared by a test. Each cell names the element types for which the op has kernels \
        for all of its cases: on a CPU for AVX-512, AVX2 and portable code, on Vulkan for subgroups of 8, 32 and 64, on \
        CUDA with and without cuBLASLt. Index tensors are u32. *Fused* ops replace several plain ops after gradients are \
        taken, so they have none of their own.\n\n\
        | op | formula | gradient | CPU | Vulkan | CUDA |\n|---|---|---|---|---|---|\n",
    );
    for row in table() {
        let gradient = match (row.fused, row.gradient) {
            (true, _) => "fused",
            (false, true) => "yes",
            (false, false) => "",
        };
        let cells = [&row.cpu, &row.vulkan, &row.cuda].map(|types| types.join(", "));
        let formula = row.formula.replace('|', "\\|");
        page += &format!("| `{}` | `{formula}` | {gradient} | {} |\n", row.op, cells.join(" | "));
    }
    page
}

/// The element types with which every case can be lowered for every one of the machines.
fn types_on(op: &'static OpDef, specs: &[Spec]) -> Vec<&'static str> {
    let cases = (op.cases)();
    let fits = |dtype: DType| cases.iter().all(|case| specs.iter().all(|spec| lowers(op, case, dtype, spec)));
    match main_type(op, &cases) {
        DType::F32 => FLOATS.into_iter().filter(|d| fits(*d)).map(DType::name).collect(),
        other => Some(other).into_iter().filter(|d| fits(*d)).map(DType::name).collect(),
    }
}

/// f32 if any of the op's tensors is, else the type of what it makes.
fn main_type(op: &OpDef, cases: &[Case]) -> DType {
    let mut outputs = cases.iter().filter_map(|c| (op.infer)(&c.params, &types(c, DType::F32)).ok()).flatten();
    let takes_f32 = cases.iter().flat_map(|c| &c.inputs).any(|i| i.ty.dtype == DType::F32);
    match outputs.next() {
        Some(first) if !takes_f32 && first.dtype != DType::F32 => first.dtype,
        _ => DType::F32,
    }
}

/// A case's input types with `dtype` in place of f32.
fn types(case: &Case, dtype: DType) -> Vec<TensorType> {
    let swap = |d: DType| if d == DType::F32 { dtype } else { d };
    case.inputs.iter().map(|i| TensorType::new(swap(i.ty.dtype), i.ty.shape.clone())).collect()
}

fn lowers(op: &'static OpDef, case: &Case, dtype: DType, spec: &Spec) -> bool {
    let inputs = types(case, dtype);
    let Ok(outputs) = (op.infer)(&case.params, &inputs) else { return false };
    // An op that takes no f32 makes one type only.
    if dtype != DType::F32 && inputs == types(case, DType::F32) && outputs.iter().all(|o| o.dtype != dtype) {
        return false;
    }
    let call = Call { params: &case.params, inputs: &inputs, outputs: &outputs };
    let variants = (op.variants)(&call, spec);
    !variants.is_empty() && variants.iter().all(|variant| (op.lower)(&call, spec, variant).is_ok())
}

/// A machine that exists nowhere and has what every one of its kind has.
fn spec(kind: DeviceKind, architecture: &str) -> Spec {
    Spec {
        kind,
        name: "any".into(),
        architecture: architecture.into(),
        units: 8,
        subgroup_size: if kind == DeviceKind::Cpu { 1 } else { 32 },
        max_threads: 1024,
        shared_bytes: 32 << 10,
        memory_bytes: 64 << 30,
        largest_allocation: 2 << 30,
        argument_bytes: 128,
        features: Vec::new(),
        limits: Limits { bytes_per_second: 1e11, f32_flops: 1e12, launch_seconds: 1e-6 },
    }
}

fn with_library(spec: Spec) -> Spec {
    Spec { features: vec!["cublaslt".into()], ..spec }
}
