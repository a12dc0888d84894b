//! Which op runs on which kind of device with which element types, asked of the cards; the table in `docs/ops.md`.

use graph::op::FLOATS;
use graph::{Call, Case, DeviceKind, Limits, Lowering, Meaning, OpDef, Spec, TensorType};
use serde::Serialize;
use std::fmt;
use tensor::DType;

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
    /// Element types that processors run.
    pub cpu: Vec<Kernels>,
    /// Element types that Vulkan runs.
    pub vulkan: Vec<Kernels>,
    /// Element types that CUDA runs.
    pub cuda: Vec<Kernels>,
}

/// An element type that an op runs with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Kernels {
    /// The type.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Whether there are kernels of its own; otherwise those of f32 run over scratch, between casts.
    pub native: bool,
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, if self.native { "" } else { " (widened)" })
    }
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
        Made by `rondo ops --markdown` and compared by a test. Each cell names the element types with which all of the op's \
        cases run: on a CPU with AVX-512, AVX2 and portable code, on Vulkan with subgroups of 8, 32 and 64, on CUDA with and \
        without cuBLASLt. *Widened* means that f32 kernels run over scratch, between casts; the others have kernels of their \
        own. Sums are f32 always. Index tensors are u32. *Fused* ops replace several plain ops after gradients are \
        taken, so they have none of their own.\n\n\
        | op | formula | gradient | CPU | Vulkan | CUDA |\n|---|---|---|---|---|---|\n",
    );
    for row in table() {
        let gradient = match (row.fused, row.gradient) {
            (true, _) => "fused",
            (false, true) => "yes",
            (false, false) => "",
        };
        let cells = [&row.cpu, &row.vulkan, &row.cuda]
            .map(|types| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        let formula = row.formula.replace('|', "\\|");
        page += &format!("| `{}` | `{formula}` | {gradient} | {} |\n", row.op, cells.join(" | "));
    }
    page
}

/// The element types with which every case can be lowered for every one of the machines, and whether without casts.
fn types_on(op: &'static OpDef, specs: &[Spec]) -> Vec<Kernels> {
    let cases = (op.cases)();
    let on = |dtype: DType| {
        let every = cases.iter().flat_map(|case| specs.iter().map(move |spec| (case.stored_as(op, dtype), spec)));
        let lowered: Option<Vec<bool>> = every.map(|(case, spec)| lowers(op, &case, spec)).collect();
        lowered.map(|native| Kernels { dtype: dtype.name(), native: !native.contains(&false) })
    };
    if op == &ops::cast::CAST {
        // Each of its cases has two types, and all of them together every type.
        return on(DType::F32)
            .into_iter()
            .flat_map(|k| FLOATS.iter().map(move |d| Kernels { dtype: d.name(), ..k }))
            .collect();
    }
    match made_type(op, &cases) {
        Some(only) => on(DType::F32).map(|kernels| Kernels { dtype: only.name(), ..kernels }).into_iter().collect(),
        None => op.storage.iter().filter_map(|dtype| on(*dtype)).collect(),
    }
}

/// The type of what an op makes that takes no f32 and makes none.
fn made_type(op: &OpDef, cases: &[Case]) -> Option<DType> {
    let takes_f32 = cases.iter().flat_map(|c| &c.inputs).any(|i| i.ty.dtype == DType::F32);
    let outputs = cases.iter().filter_map(|c| (op.infer)(&c.params, &types(c)).ok()).flatten().next()?;
    (!takes_f32 && outputs.dtype != DType::F32).then_some(outputs.dtype)
}

fn types(case: &Case) -> Vec<TensorType> {
    case.inputs.iter().map(|i| i.ty.clone()).collect()
}

/// Whether a case is lowered without casts around it; `None` where it isn't at all.
fn lowers(op: &'static OpDef, case: &Case, spec: &Spec) -> Option<bool> {
    let inputs = types(case);
    let outputs = (op.infer)(&case.params, &inputs).ok()?;
    let call = Call { params: &case.params, inputs: &inputs, outputs: &outputs };
    let lowerings: Option<Vec<_>> =
        (op.variants)(&call, spec).iter().map(|variant| (op.lower)(&call, spec, variant).ok()).collect();
    let own = |lowering: &Lowering| op == &ops::cast::CAST || !ops::common::is_widened(lowering);
    lowerings.filter(|all| !all.is_empty()).map(|all| all.iter().all(own))
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
        features: if kind == DeviceKind::Vulkan { vec!["storage16".into()] } else { Vec::new() },
        limits: Limits { bytes_per_second: 1e11, f32_flops: 1e12, launch_seconds: 1e-6 },
    }
}

fn with_library(spec: Spec) -> Spec {
    Spec { features: vec!["cublaslt".into()], ..spec }
}
