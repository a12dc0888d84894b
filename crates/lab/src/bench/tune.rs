//! Chooses lowerings by timing: a step is recorded once for each that the cards offer, and its launches are timed in it.

use crate::stats::Stats;
use device::Device;
use graph::{Graph, Limits, Plan, Tuning};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use train::data::{Batches, Staging};
use train::{Config, Error, Trainer, step};

/// Timed replays of each recording.
const REPLAYS: usize = 9;
/// A lowering must take at most this share of the default's time to be taken in its place: less may be noise.
const WORTH_IT: f64 = 0.97;

/// A lowering and its time.
#[derive(Clone, Debug, Serialize)]
pub struct Timed {
    /// Its name.
    pub variant: &'static str,
    /// Microseconds of one use: the median of the replays.
    pub microseconds: f64,
}

/// A call with more than one lowering.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Op, parameters and types: the key in the table.
    pub call: String,
    /// How often the step uses it.
    pub uses: usize,
    /// The lowerings, the card's default first.
    pub offered: Vec<Timed>,
    /// The one that the table takes.
    pub chosen: &'static str,
    /// Microseconds that one use takes at the machine's limits.
    pub limit_microseconds: f64,
}

/// What tuning came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The calls that there is a choice for.
    pub choices: Vec<Choice>,
    /// Milliseconds of a whole step with the cards' defaults.
    pub default_ms: f64,
    /// Milliseconds of a whole step with the table.
    pub tuned_ms: f64,
    /// The table.
    pub tuning: Tuning,
}

/// Times every lowering that the cards offer for the calls of a configuration's step. No training is done: the learning
/// rate is zero.
///
/// # Errors
/// When the step can't run on the device, or the device can't time launches.
pub fn tune(device: &Device, limits: &Limits, config: &Config) -> Result<Report, Error> {
    let graph = step::graph(config)?;
    let batches = Batches::open(config)?;
    let offered = offered(&graph, device);
    let rounds = offered.values().map(|o| o.variants.len()).max().unwrap_or(1);
    let mut seconds: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    let mut default_ms = 0.0;
    let mut least = BTreeMap::new();
    for round in 0..rounds {
        let tuning = Tuning(offered.iter().map(|(key, o)| (key.clone(), o.variant(round).to_string())).collect());
        let mut trainer = Trainer::new(device, config, &tuning)?;
        let ms = step_ms(&mut trainer, &batches)?;
        if round == 0 {
            // The first of each card's lowerings is its default.
            default_ms = ms;
            least = at_limits(limits, trainer.plan(), &graph, device);
        }
        if rounds > 1 {
            for (key, time) in use_seconds(&mut trainer, &graph, device)? {
                if let Some((key, o)) = offered.get_key_value(&key) {
                    let best = seconds.entry((key, o.variant(round))).or_insert(time);
                    *best = best.min(time);
                }
            }
        }
    }
    let choices: Vec<_> = offered.iter().map(|(key, o)| choice(key, o, &seconds, &least)).collect();
    let tuning = Tuning(choices.iter().map(|c| (c.call.clone(), c.chosen.to_string())).collect());
    let changed = choices.iter().any(|c| c.chosen != c.offered[0].variant);
    let tuned_ms = if changed { step_ms(&mut Trainer::new(device, config, &tuning)?, &batches)? } else { default_ms };
    Ok(Report { choices, default_ms, tuned_ms, tuning })
}

/// The lowerings of a call, and how often the step uses it.
struct Offered {
    variants: Vec<&'static str>,
    uses: usize,
}

impl Offered {
    /// The lowering of a round; the last one in rounds that it has none for.
    fn variant(&self, round: usize) -> &'static str {
        self.variants[round.min(self.variants.len() - 1)]
    }
}

/// The calls with more than one lowering.
fn offered(graph: &Graph, device: &Device) -> BTreeMap<String, Offered> {
    let mut all: BTreeMap<String, Offered> = BTreeMap::new();
    for node in &graph.nodes {
        let (key, variants) = Tuning::offered(graph, node, device.spec());
        if variants.len() > 1 {
            all.entry(key).or_insert(Offered { variants, uses: 0 }).uses += 1;
        }
    }
    all
}

fn choice(
    key: &str,
    offered: &Offered,
    seconds: &BTreeMap<(&str, &str), f64>,
    least: &BTreeMap<String, f64>,
) -> Choice {
    let time = |variant: &&'static str| {
        let seconds = seconds.get(&(key, *variant)).copied().unwrap_or(f64::INFINITY);
        Timed { variant, microseconds: 1e6 * seconds }
    };
    let times: Vec<_> = offered.variants.iter().map(time).collect();
    let fastest = times.iter().min_by(|a, b| a.microseconds.total_cmp(&b.microseconds)).unwrap_or(&times[0]);
    let default = &times[0];
    let better = fastest.microseconds < WORTH_IT * default.microseconds;
    Choice {
        call: key.into(),
        uses: offered.uses,
        chosen: if better { fastest.variant } else { default.variant },
        limit_microseconds: 1e6 * least.get(key).copied().unwrap_or(0.0),
        offered: times,
    }
}

/// Median milliseconds of a whole step.
fn step_ms(trainer: &mut Trainer, batches: &Batches) -> Result<f64, Error> {
    let (mut ms, mut staging) = (Vec::new(), Staging::default());
    for _ in 0..=REPLAYS {
        let start = Instant::now();
        let ticket = trainer.submit(&batches.batch(0, &mut staging), 0.0)?;
        trainer.wait(ticket)?;
        ms.push(1e3 * start.elapsed().as_secs_f64());
    }
    // The first one warms up.
    Ok(Stats::of(&ms[1..]).map_or(0.0, |s| s.median))
}

/// Seconds of one use of each call: the mean over its uses of the medians over the replays.
fn use_seconds(trainer: &mut Trainer, graph: &Graph, device: &Device) -> Result<BTreeMap<String, f64>, Error> {
    let replays = trainer.time_launches(REPLAYS)?;
    let plan = trainer.plan();
    let mut nodes: Vec<Vec<f64>> = vec![vec![0.0; replays.len()]; plan.nodes.len()];
    for (replay, seconds) in replays.iter().enumerate() {
        for (launch, time) in plan.launches.iter().zip(seconds) {
            nodes[launch.node][replay] += time;
        }
    }
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (index, key) in keys(plan, graph, device) {
        let sum = sums.entry(key).or_default();
        sum.0 += Stats::of(&nodes[index]).map_or(0.0, |s| s.median);
        sum.1 += 1;
    }
    Ok(sums.into_iter().map(|(key, (sum, count))| (key, sum / count as f64)).collect())
}

/// Seconds of each call at the machine's limits.
fn at_limits(limits: &Limits, plan: &Plan, graph: &Graph, device: &Device) -> BTreeMap<String, f64> {
    keys(plan, graph, device).map(|(index, key)| (key, limits.seconds(&plan.nodes[index].cost))).collect()
}

/// The plan's nodes that come from the graph's, in order, each with its key; copies that the planner adds are left out.
fn keys<'a>(plan: &'a Plan, graph: &'a Graph, device: &'a Device) -> impl Iterator<Item = (usize, String)> + 'a {
    let names: BTreeSet<_> = graph.nodes.iter().map(|n| n.op.name).collect();
    let planned = plan.nodes.iter().enumerate().filter(move |(_, n)| names.contains(n.op.as_str()));
    planned.zip(&graph.nodes).map(|((index, _), node)| (index, Tuning::offered(graph, node, device.spec()).0))
}
