//! Cases of a card run on a device and compared with the card's reference in f64: poisoned outputs, fresh random inputs.

use crate::{Buffer, Device, Error};
use graph::op::is_narrow;
use graph::trace::PARAMETERS;
use graph::{Call, Case, Fill, Graph, OpDef, Plan, PlanError, TensorType, Tuning, interpret, plan};
use tensor::DType;
use tensor::number::{decode, encode};
use tensor::rng::Philox;

/// Why a case could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The card refuses its own case.
    #[error("{0}")]
    Trace(#[from] graph::TraceError),
    /// The device has no kernel for it, or too little memory.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// The device failed.
    #[error("{0}")]
    Device(#[from] Error),
    /// What it should be compared with could not be made.
    #[error("nothing to compare with: {0}")]
    Witness(String),
}

/// How far a case's outputs are from the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Largest |out - reference| / (1 + |reference|); infinite for an element that was not written or is not finite
    /// where the reference is.
    pub error: f64,
    /// Where that is: output, element, value there, reference.
    pub worst: (usize, usize, f64, f64),
    /// The outputs' bits, a word an element, for comparing runs.
    pub bits: Vec<Vec<u32>>,
}

/// The inputs of a case, drawn under `seed`.
pub fn inputs(case: &Case, seed: u64) -> Vec<Vec<f64>> {
    let draw = |(i, input): (usize, &graph::CaseInput)| {
        let random = Philox::new(seed, &format!("{} input {i}", case.name));
        let elements = input.ty.elements();
        let mut floats =
            vec![0.0f32; if matches!(input.fill, Fill::Normal | Fill::Uniform(..)) { elements } else { 0 }];
        match &input.fill {
            Fill::Normal => random.fill_normal(&mut floats, 0.0, 1.0),
            Fill::Uniform(low, high) => random.fill_uniform(&mut floats, *low, *high),
            Fill::Below(bound) => return (0..elements).map(|e| f64::from(random.below(e as u64, *bound))).collect(),
            Fill::Values(values) => {
                assert_eq!(values.len(), elements, "{}: input {i} has other than its type's elements", case.name);
                return values.clone();
            }
        }
        floats.into_iter().map(f64::from).collect()
    };
    // As stored: the reference is given the very numbers that the device is.
    let stored = |(i, input): (usize, &graph::CaseInput)| {
        let drawn: Vec<f64> = draw((i, input));
        if is_narrow(input.ty.dtype) { decode(input.ty.dtype, &encode(input.ty.dtype, &drawn)) } else { drawn }
    };
    case.inputs.iter().enumerate().map(stored).collect()
}

/// The region that a case's outputs are assigned to.
const RESULTS: &str = "results";

/// The case as a graph: inputs are the parameters `0`, `1`, ..., outputs end in the region `results`.
pub fn case_graph(op: &'static OpDef, case: &Case) -> Result<Graph, graph::TraceError> {
    Graph::trace(|g| {
        let inputs: Vec<_> = case
            .inputs
            .iter()
            .enumerate()
            .map(|(i, input)| g.parameter(&i.to_string(), input.ty.dtype, input.ty.shape.clone()))
            .collect();
        let inputs: Vec<_> = inputs.iter().collect();
        let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
        let count = (op.infer)(&case.params, &types).map_or(0, |outputs| outputs.len());
        let outputs = g.emit(op, &inputs, case.params.clone());
        for (i, out) in outputs.iter().enumerate().take(count) {
            let result = g.state(RESULTS, &format!("result {i}"), out.dtype(), out.shape().clone());
            g.assign(&result, out);
        }
    })
}

/// Runs a case on a device with the lowering that `tuning` chooses, under `seed`, and compares with the reference.
///
/// # Errors
/// When the device can't run it; wrong results are no error but an `Outcome`.
pub fn run(
    device: &Device,
    op: &'static OpDef,
    case: &Case,
    tuning: &Tuning,
    seed: u64,
) -> Result<Outcome, CheckError> {
    let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
    let given = inputs(case, seed);
    let bits = outputs_of(device, op, case, tuning, &given)?;
    let out_types = (op.infer)(&case.params, &types).expect("the case was traced");
    let call = Call { params: &case.params, inputs: &types, outputs: &out_types };
    let slices: Vec<&[f64]> = given.iter().map(Vec::as_slice).collect();
    Ok(compare(&out_types, bits, &interpret::reference(op, &call, &slices)))
}

/// The bits of a case's outputs on a device, nothing compared.
///
/// # Errors
/// When the device can't run it.
pub fn outputs(
    device: &Device,
    op: &'static OpDef,
    case: &Case,
    tuning: &Tuning,
    seed: u64,
) -> Result<Vec<Vec<u32>>, CheckError> {
    outputs_of(device, op, case, tuning, &inputs(case, seed))
}

/// The bits of a case's outputs on a device for these inputs, as stored ([`inputs`]).
///
/// # Errors
/// When the device can't run it.
pub fn outputs_of(
    device: &Device,
    op: &'static OpDef,
    case: &Case,
    tuning: &Tuning,
    given: &[Vec<f64>],
) -> Result<Vec<Vec<u32>>, CheckError> {
    let plan = plan::plan(&case_graph(op, case)?, device.spec(), tuning)?;
    Ok(run_plan(device, plan, case, given)?)
}

/// How far outputs of these types are from what is wanted.
pub fn compare(types: &[TensorType], bits: Vec<Vec<u32>>, wanted: &[Vec<f64>]) -> Outcome {
    let mut outcome = Outcome { error: 0.0, worst: (0, 0, 0.0, 0.0), bits };
    for (o, (want, bits)) in wanted.iter().zip(&outcome.bits).enumerate() {
        for (e, (&want, got)) in want.iter().zip(numbers(types[o].dtype, bits)).enumerate() {
            let error = distance(got, want);
            if error > outcome.error {
                (outcome.error, outcome.worst) = (error, (o, e, got, want));
            }
        }
    }
    outcome
}

/// Elements of one, two or four bytes as numbers.
pub fn numbers(dtype: DType, words: &[u32]) -> Vec<f64> {
    let size = dtype.block_bytes();
    let mut bytes = Vec::with_capacity(words.len() * size);
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()[..size]));
    decode(dtype, &bytes)
}

fn distance(got: f64, want: f64) -> f64 {
    if got == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let error = (got - want).abs() / (1.0 + want.abs());
    if error.is_nan() { f64::INFINITY } else { error }
}

fn run_plan(device: &Device, plan: Plan, case: &Case, given: &[Vec<f64>]) -> Result<Vec<Vec<u32>>, Error> {
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan, &mut lent)?;
    for (name, buffer) in &lent {
        if name == PARAMETERS {
            for (entry, (input, data)) in plan.entries.iter().zip(case.inputs.iter().zip(given)) {
                buffer.write(entry.place.offset, &encode(input.ty.dtype, data))?;
            }
        } else {
            buffer.write(0, &vec![0xff; buffer.bytes() as usize])?; // NaNs
        }
    }
    let buffers: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut recording = device.record(plan, &buffers)?;
    let ticket = recording.replay()?;
    recording.wait(ticket)?;
    let (index, _) = recording.plan().buffer(RESULTS).expect("every op has an output");
    let (_, results) = buffers.iter().find(|(name, _)| *name == RESULTS).expect("every region is lent");
    let mut bits = Vec::new();
    for entry in recording.plan().entries.iter().filter(|e| e.place.buffer == index) {
        let mut out = vec![0u8; entry.place.bytes as usize];
        results.read(entry.place.offset, &mut out)?;
        let word = |b: &[u8]| b.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        bits.push(out.chunks_exact(entry.ty.dtype.block_bytes()).map(word).collect());
    }
    Ok(bits)
}
