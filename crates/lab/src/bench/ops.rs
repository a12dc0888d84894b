//! Times an op's large cases: many uses in one recording, over inputs that are not in the cache, against the limits.

use device::check::{self, CheckError};
use device::{Buffer, Device};
use graph::trace::PARAMETERS;
use graph::{Call, Case, CaseInput, Cost, Fill, Graph, Limits, OpDef, TensorType, Tuning, plan};
use serde::Serialize;
use std::time::Instant;
use tensor::DType;

/// Different inputs are taken in turn until they fill this much: more than caches hold.
const WORKING_SET: u64 = 256 << 20;
/// A recording should take at least this long at the machine's limits.
const RECORDING_SECONDS: f64 = 0.01;
/// Uses of the op in one recording, at most.
const MOST_USES: usize = 256;
/// Replays that count, at most, and the seconds after which fewer are enough.
const REPLAYS: usize = 9;
const ENOUGH_SECONDS: f64 = 2.0;
/// Random numbers drawn for one input; a longer one repeats them.
const DRAWN: usize = 1 << 18;

/// A case with its time.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// The op.
    pub op: &'static str,
    /// The case.
    pub case: String,
    /// The lowering: the card's default on this machine.
    pub variant: &'static str,
    /// Median microseconds of one use.
    pub microseconds: f64,
    /// Bytes that must move, each input and output once, over the time, in GB/s.
    pub gigabytes_per_second: f64,
    /// Operations over the time, in GFLOP/s.
    pub gigaflops: f64,
    /// The time at the machine's measured limit over the time.
    pub percent_of_limit: f64,
    /// The nearer limit: `memory` or `compute`.
    pub limit: &'static str,
}

/// The cases that are timed: the large ones, or the largest where none is marked so.
pub fn timed_cases(op: &OpDef) -> Vec<Case> {
    let mut cases = (op.cases)();
    if cases.iter().any(|c| c.large) {
        cases.retain(|c| c.large);
        return cases;
    }
    let bytes = |c: &Case| c.inputs.iter().map(|i| i.ty.bytes()).sum::<u64>();
    cases.into_iter().max_by_key(bytes).into_iter().collect()
}

/// Times one case on a device.
///
/// # Errors
/// When the device can't run it.
pub fn time(device: &Device, limits: &Limits, op: &'static OpDef, case: &Case) -> Result<Timing, CheckError> {
    let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
    // Tracing says what is wrong with a case that the card refuses.
    let outputs = (op.infer)(&case.params, &types).unwrap_or_default();
    let call = Call { params: &case.params, inputs: &types, outputs: &outputs };
    let cost = if outputs.is_empty() { Cost::default() } else { (op.cost)(&call) };
    let at_limit = (cost.bytes / limits.bytes_per_second).max(cost.flops / limits.f32_flops);
    let room = device.spec().memory_bytes / 4;
    let (uses, sets) = repeats(types.iter().map(TensorType::bytes).sum(), at_limit, room);
    let graph = repeated(op, case, uses, sets)?;
    let seconds = replay_seconds(device, &graph, case, sets)? / uses as f64;
    let compute = cost.flops / limits.f32_flops > cost.bytes / limits.bytes_per_second;
    Ok(Timing {
        op: op.name,
        case: case.name.clone(),
        variant: Tuning::default().choose(op, &call, device.spec()),
        microseconds: seconds * 1e6,
        gigabytes_per_second: cost.bytes / seconds / 1e9,
        gigaflops: cost.flops / seconds / 1e9,
        percent_of_limit: 100.0 * at_limit / seconds,
        limit: if compute { "compute" } else { "memory" },
    })
}

/// Uses of the op in a recording, and sets of inputs that they take in turn.
fn repeats(input_bytes: u64, at_limit: f64, room: u64) -> (usize, usize) {
    let sets = WORKING_SET.min(room).div_ceil(input_bytes.max(1)).clamp(1, MOST_USES as u64) as usize;
    let uses = (RECORDING_SECONDS / at_limit.max(1e-9)).ceil().clamp(1.0, MOST_USES as f64) as usize;
    (uses.max(sets), sets)
}

/// The op `uses` times in a row over `sets` sets of inputs. Outputs that nobody reads share one place in the arena, so
/// each use waits for the one before it.
fn repeated(op: &'static OpDef, case: &Case, uses: usize, sets: usize) -> Result<Graph, graph::TraceError> {
    Graph::trace(|g| {
        let inputs: Vec<Vec<_>> = (0..sets)
            .map(|set| {
                let entry = |(i, input): (usize, &CaseInput)| {
                    g.parameter(&format!("{set}.{i}"), input.ty.dtype, input.ty.shape.clone())
                };
                case.inputs.iter().enumerate().map(entry).collect()
            })
            .collect();
        for u in 0..uses {
            g.emit(op, &inputs[u % sets].iter().collect::<Vec<_>>(), case.params.clone());
        }
    })
}

/// Median seconds of a replay.
fn replay_seconds(device: &Device, graph: &Graph, case: &Case, sets: usize) -> Result<f64, CheckError> {
    let plan = plan::plan(graph, device.spec(), &Tuning::default())?;
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan, &mut lent)?;
    if let Some((_, parameters)) = lent.iter().find(|(name, _)| name == PARAMETERS) {
        let inputs = contents(case);
        for (e, entry) in plan.entries.iter().enumerate().take(sets * inputs.len()) {
            parameters.write(entry.place.offset, &inputs[e % inputs.len()])?;
        }
    }
    let buffers: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut recording = device.record(plan, &buffers)?;
    let mut once = || -> Result<f64, CheckError> {
        let start = Instant::now();
        let ticket = recording.replay()?;
        recording.wait(ticket)?;
        Ok(start.elapsed().as_secs_f64())
    };
    once()?;
    let (mut seconds, mut total) = (Vec::new(), 0.0);
    while seconds.len() < REPLAYS && (seconds.len() < 3 || total < ENOUGH_SECONDS) {
        seconds.push(once()?);
        total += seconds[seconds.len() - 1];
    }
    Ok(crate::stats::Stats::of(&seconds).map_or(0.0, |s| s.median))
}

/// The bytes of each input of a case: the first numbers drawn, over and over.
fn contents(case: &Case) -> Vec<Vec<u8>> {
    let shorten = |input: &CaseInput| match input.fill {
        Fill::Values(_) => input.clone(),
        _ => {
            let elements = input.ty.elements().min(DRAWN);
            CaseInput { ty: TensorType::new(input.ty.dtype, [elements]), fill: input.fill.clone() }
        }
    };
    let short = Case { inputs: case.inputs.iter().map(shorten).collect(), ..case.clone() };
    let drawn = check::inputs(&short, 1);
    let fill = |(input, numbers): (&CaseInput, Vec<f64>)| {
        let word = |v: &f64| if input.ty.dtype == DType::F32 { (*v as f32).to_bits() } else { *v as u32 };
        let words: Vec<u32> = numbers.iter().map(word).collect();
        words.iter().cycle().take(input.ty.elements()).flat_map(|w| w.to_le_bytes()).collect()
    };
    case.inputs.iter().zip(drawn).map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_leave_the_cache_and_fit_the_memory() {
        assert_eq!(repeats(1 << 20, 1e-5, 1 << 40), (256, 256));
        assert_eq!(repeats(64 << 20, 1e-3, 1 << 40), (10, 4));
        assert_eq!(repeats(1 << 30, 1.0, 1 << 40), (1, 1));
        assert_eq!(repeats(64 << 20, 1e-3, 64 << 20), (10, 1));
        assert_eq!(repeats(0, 0.0, 1 << 30), (256, 256));
    }

    #[test]
    fn long_inputs_repeat_what_was_drawn() {
        let case = Case::new("x", graph::Params::NONE, vec![CaseInput::normal([3, DRAWN]), CaseInput::below([5], 2)]);
        let bytes = contents(&case);
        assert_eq!(bytes[0].len(), 12 * DRAWN);
        assert_eq!(bytes[0][..64], bytes[0][4 * DRAWN..4 * DRAWN + 64]);
        assert_eq!(bytes[1].len(), 20);
    }
}
