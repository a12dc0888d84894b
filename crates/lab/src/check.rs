//! Every case of ops on a device against the reference: worst errors and verdicts.

use device::check::{self, CheckError};
use device::{Choice, Device, Options};
use graph::{Call, Case, DeviceKind, OpDef, TensorType, Tuning, interpret};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Cases with more operations than this are compared with a processor's kernels, not with plain loops in f64.
const REFERENCE_FLOPS: f64 = 3e8;
/// Cases are prepared together up to this many elements: 2 GiB of numbers in f64.
const PREPARED_ELEMENTS: usize = 1 << 28;
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

/// A case with what a device is given and what it should make of that.
struct Prepared {
    case: Case,
    types: Vec<TensorType>,
    outputs: Vec<TensorType>,
    given: Vec<Vec<f64>>,
    wanted: Vec<Vec<f64>>,
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
    let mut cases: Vec<Prepared> = Vec::new();
    for case in op.cases_of_every_type().into_iter().filter(|c| large || !c.large) {
        let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
        match (op.infer)(&case.params, &types) {
            Ok(outputs) => cases.push(Prepared { case, types, outputs, given: Vec::new(), wanted: Vec::new() }),
            Err(what) => report.failures.push(format!("{}: {what}", case.name)),
        }
    }
    while !cases.is_empty() {
        let mut elements = 0;
        let fits = |prepared: &&Prepared| {
            elements += prepared.types.iter().chain(&prepared.outputs).map(TensorType::elements).sum::<usize>();
            elements <= PREPARED_ELEMENTS
        };
        let count = cases.iter().take_while(fits).count().max(1);
        let mut batch: Vec<Prepared> = cases.drain(..count).collect();
        prepare(op, &mut batch);
        batch.iter().for_each(|prepared| report.run(device, op, prepared));
    }
    report
}

/// Draws the inputs of cases and finds what should come out, on all cores.
fn prepare(op: &'static OpDef, batch: &mut [Prepared]) {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let queue = Mutex::new(batch.iter_mut());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no worker panics with it").next();
                    let Some(prepared) = next else { return };
                    prepared.given = check::inputs(&prepared.case, SEED);
                    let call = prepared.call();
                    if (op.cost)(&call).flops <= REFERENCE_FLOPS {
                        let given: Vec<&[f64]> = prepared.given.iter().map(Vec::as_slice).collect();
                        prepared.wanted = interpret::reference(op, &call, &given);
                    }
                }
            });
        }
    });
}

impl Prepared {
    fn call(&self) -> Call<'_> {
        Call { params: &self.case.params, inputs: &self.types, outputs: &self.outputs }
    }

    /// What should come out: by the reference, or for large cases by a processor's kernels.
    fn wanted(&self, device: &Device, op: &'static OpDef) -> Result<Cow<'_, [Vec<f64>]>, CheckError> {
        if !self.wanted.is_empty() {
            return Ok(Cow::Borrowed(&self.wanted));
        }
        // The small cases show the processor's kernels to be right; on a processor, another instruction set is the witness.
        let architecture = (device.spec().kind == DeviceKind::Cpu).then(|| "portable".to_string());
        let witness = Device::open(Choice::Cpu, &Options { architecture, ..Options::default() })?;
        let wanted = check::outputs_of(&witness, op, &self.case, &Tuning::default(), &self.given)?;
        Ok(self.outputs.iter().zip(&wanted).map(|(ty, bits)| check::numbers(ty.dtype, bits)).collect())
    }
}

impl OpReport {
    /// Every lowering of a case that the card offers.
    fn run(&mut self, device: &Device, op: &'static OpDef, prepared: &Prepared) {
        let (case, call) = (&prepared.case, prepared.call());
        let wanted = prepared.wanted(device, op);
        for variant in (op.variants)(&call, device.spec()) {
            let tuning = Tuning(BTreeMap::from([(Tuning::key(op, &call), variant.to_string())]));
            self.runs += 1;
            let name = if variant == "default" { case.name.clone() } else { format!("{} ({variant})", case.name) };
            let outcome = match &wanted {
                Ok(wanted) => check::outputs_of(device, op, case, &tuning, &prepared.given)
                    .map(|bits| check::compare(&prepared.outputs, bits, wanted)),
                Err(e) => Err(CheckError::Witness(e.to_string())),
            };
            self.add(name, case.tolerance, outcome);
        }
    }

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
