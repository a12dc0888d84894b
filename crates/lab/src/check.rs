//! Every case of ops on a device against the reference: worst errors and verdicts.

use device::check::{self, CheckError};
use device::{Choice, Device, Options};
use graph::{Call, Case, DeviceKind, OpDef, TensorType, Tuning};
use serde::Serialize;
use std::collections::BTreeMap;

/// Cases with more operations than this are compared with a processor's kernels, not with plain loops in f64.
const REFERENCE_FLOPS: f64 = 3e9;
/// Seed of the cases' inputs.
const SEED: u64 = 1;

/// What was found out about an op.
#[derive(Clone, Debug, Serialize)]
pub struct OpReport {
    /// The op.
    pub op: &'static str,
    /// Runs: each case with every lowering that the card offers.
    pub runs: usize,
    /// The error that is the largest share of its tolerance: |out - reference| / (1 + |reference|).
    pub worst_error: f64,
    /// The tolerance of that case.
    pub tolerance: f64,
    /// The name of that case.
    pub worst_case: String,
    /// What is wrong, a line a run; empty where all is right.
    pub failures: Vec<String>,
}

impl OpReport {
    /// `ok` or `wrong`.
    pub fn verdict(&self) -> &'static str {
        if self.failures.is_empty() { "ok" } else { "wrong" }
    }
}

/// Runs an op's cases, the large ones too if asked for.
pub fn check(device: &Device, op: &'static OpDef, large: bool) -> OpReport {
    let mut report = OpReport {
        op: op.name,
        runs: 0,
        worst_error: 0.0,
        tolerance: 0.0,
        worst_case: String::new(),
        failures: Vec::new(),
    };
    for case in op.cases_of_every_type().iter().filter(|c| large || !c.large) {
        let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
        let outputs = match (op.infer)(&case.params, &types) {
            Ok(outputs) => outputs,
            Err(what) => {
                report.failures.push(format!("{}: {what}", case.name));
                continue;
            }
        };
        let call = Call { params: &case.params, inputs: &types, outputs: &outputs };
        for variant in (op.variants)(&call, device.spec()) {
            let tuning = Tuning(BTreeMap::from([(Tuning::key(op, &call), variant.to_string())]));
            report.runs += 1;
            let name = if variant == "default" { case.name.clone() } else { format!("{} ({variant})", case.name) };
            report.add(name, case.tolerance, run(device, op, case, &call, &tuning));
        }
    }
    report
}

impl OpReport {
    fn add(&mut self, name: String, tolerance: f64, outcome: Result<check::Outcome, CheckError>) {
        match outcome {
            Ok(outcome) => {
                let share = |error: f64, tolerance: f64| if error == 0.0 { 0.0 } else { error / tolerance };
                let worse = share(outcome.error, tolerance) > share(self.worst_error, self.tolerance);
                if worse || self.worst_case.is_empty() {
                    (self.worst_error, self.tolerance, self.worst_case) = (outcome.error, tolerance, name.clone());
                }
                if outcome.error > tolerance {
                    let (o, e, got, want) = outcome.worst;
                    self.failures.push(format!("{name}: output {o}[{e}] is {got}, expected {want}"));
                }
            }
            Err(e) => self.failures.push(format!("{name}: {e}")),
        }
    }
}

fn run(
    device: &Device,
    op: &'static OpDef,
    case: &Case,
    call: &Call,
    tuning: &Tuning,
) -> Result<check::Outcome, CheckError> {
    if (op.cost)(call).flops <= REFERENCE_FLOPS {
        return check::run(device, op, case, tuning, SEED);
    }
    // The small cases show the processor's kernels to be right; on a processor, another instruction set is the witness.
    let architecture = (device.spec().kind == DeviceKind::Cpu).then(|| "portable".to_string());
    let witness = Device::open(Choice::Cpu, &Options { architecture, ..Options::default() })?;
    let wanted = check::outputs(&witness, op, case, &Tuning::default(), SEED)?;
    let wanted: Vec<Vec<f64>> = call.outputs.iter().zip(&wanted).map(|(ty, bits)| numbers(ty, bits)).collect();
    Ok(check::compare(call.outputs, check::outputs(device, op, case, tuning, SEED)?, &wanted))
}

fn numbers(ty: &TensorType, bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&word| check::number(ty.dtype, word)).collect()
}
