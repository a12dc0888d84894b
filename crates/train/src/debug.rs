//! What the debug dial shows of a run: every tensor of one step beside the reference, and the time of every op.

use crate::config::Config;
use crate::data::{Batch, Staging};
use crate::trainer::{Trainer, layout};
use crate::{Error, Run, step};
use graph::debug::{CAPTURED, capture, op_table, tensor_table};
use graph::interpret::interpret;
use graph::{Graph, Limits};
use std::collections::BTreeMap;

/// Operations of a step above which the reference, plain loops in f64, takes minutes.
const REFERENCE_FLOPS: f64 = 2e10;
/// Timed replays of the step.
const REPLAYS: usize = 9;

/// Runs the next step of `run` in memory of its own, and shows each of its tensors beside the reference in f64. The run
/// itself isn't touched.
///
/// # Errors
/// When the device fails, or hasn't memory for all of the step's tensors at once.
pub fn tensors(run: &Run) -> Result<String, Error> {
    // Of an accumulated step the first micro-batch is shown, as a step of its own.
    let config = &Config { grad_accumulation: 1, ..run.config().clone() };
    let (graph, captured) = capture(step::graph(config)?);
    let flops = run.trainer().plan().cost().flops;
    if flops > REFERENCE_FLOPS {
        return Ok(format!(
            "tensors are not compared: the step has {flops:.1e} operations, too many for the reference"
        ));
    }
    let mut staging = Staging::default();
    let batch = run.batches().batch(run.step(), &mut staging).first(config);
    let lr = run.rate(run.step()) as f32;
    let mut trainer = Trainer::of_graphs(run.device(), config, std::slice::from_ref(&graph), run.tuning(), 0)?;
    trainer.restore(&run.trainer().state()?)?;
    let given = given(config, &graph, &trainer, &batch, lr)?;
    let ticket = trainer.submit(&batch, lr)?;
    trainer.wait(ticket)?;
    let after = trainer.region(CAPTURED)?;
    Ok(tensor_table(&captured, &after, &interpret(&graph, &given)))
}

/// What the step reads: inputs, and the entries of the regions before it.
fn given(
    config: &Config,
    graph: &Graph,
    trainer: &Trainer,
    batch: &Batch,
    lr: f32,
) -> Result<BTreeMap<String, Vec<f64>>, Error> {
    let whole = |words: &[u32]| words.iter().map(|&w| f64::from(w)).collect::<Vec<_>>();
    let mut all = BTreeMap::from([
        ("tokens".to_string(), whole(batch.tokens)),
        ("targets".to_string(), whole(batch.targets)),
        ("lr".to_string(), vec![f64::from(lr)]),
    ]);
    all.extend(layout(config).map(|(name, words)| (name.to_string(), whole(&words))));
    for region in graph.regions.iter().filter(|r| r.name != CAPTURED && !r.entries.is_empty()) {
        let bytes = trainer.region(&region.name)?;
        for entry in &region.entries {
            let own = &bytes[entry.offset as usize..][..entry.ty.bytes() as usize];
            all.insert(entry.name.clone(), tensor::number::decode(entry.ty.dtype, own));
        }
    }
    Ok(all)
}

/// Time, speed and share of the limit of each op. The state changes as by further steps: only for a run that has ended.
///
/// # Errors
/// When the device can't time launches.
pub fn op_times(run: &mut Run, limits: &Limits) -> Result<String, Error> {
    let trainer = run.trainer_mut();
    let replays = trainer.time_launches(REPLAYS)?;
    let table = op_table(trainer.plan(), &replays, limits);
    match (trainer.time_update(REPLAYS)?, trainer.update_plan()) {
        (Some(update), Some(plan)) => {
            Ok(format!("a micro-batch\n{table}\nthe update after them\n{}", op_table(plan, &update, limits)))
        }
        _ => Ok(table),
    }
}
