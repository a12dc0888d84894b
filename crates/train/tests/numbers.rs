//! Numbers that are not finite, in a gradient, an activation or a batch: skipped, counted, named, never in a checkpoint.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::trace::{Graph, Node, PARAMETERS, Source, Value, ValueId};
use graph::{DeviceKind, OpDef, Params, TensorType, Tuning};
use std::fs;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tensor::DType;
use tensor::file::safetensors;
use train::config::{Config, Overrides};
use train::data::{Batch, Batches, Staging};
use train::trainer::{Measured, Trainer};
use train::{Ending, Error, Observer, Run, step};

/// One pool of threads at a time: tests of one binary run side by side.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn devices() -> Vec<Device> {
    let options = Options { threads: Some(1), ..Options::default() };
    let open = |choice| there::open(choice, &options);
    [Choice::Cpu, Choice::Vulkan(None), Choice::Cuda(0)].into_iter().filter_map(open).collect()
}

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        Place(std::env::temp_dir().join(format!("rondo-numbers-{}-{name}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Twelve steps whose rates all differ, with a checkpoint after every fourth.
fn config(set: &[&str]) -> Config {
    let all = ["model.num_layers=2", "model.hidden_size=64", "model.intermediate_size=128", "steps=12"];
    let more = ["schedule.kind=linear", "checkpoint.every=4"];
    let settings = all.into_iter().chain(more).chain(set.iter().copied());
    settings.fold(Overrides::preset("hlx-full"), |o, s| o.with(s)).resolve().unwrap()
}

/// What is poisoned in the step whose rate is `lr`.
#[derive(Clone, Copy, Debug)]
enum Poison {
    /// The gradient of a parameter.
    Gradient(&'static str),
    /// The output of the n-th node of an op.
    Activation(&'static str, usize),
}

/// The graphs of a configuration's step, where `poison` becomes NaN when the learning rate is `lr`.
fn poisoned(config: &Config, poison: Poison, lr: f32) -> Vec<Graph> {
    let mut graph = step::trace(config).unwrap();
    let (value, at) = match poison {
        Poison::Gradient(name) => {
            let offset = graph.region(PARAMETERS).unwrap().entries.iter().find(|e| e.name == name).unwrap().offset;
            let packed = |v: &Value| match &v.source {
                Source::Pack { parts, .. } => parts.iter().find(|(_, o)| *o == offset).map(|(id, _)| *id),
                _ => None,
            };
            let value = graph.values.iter().find_map(packed).unwrap();
            (value, made_by(&graph, value))
        }
        Poison::Activation(op, n) => {
            let nodes = graph.nodes.iter().enumerate().filter(|(_, node)| node.op.name == op);
            let (at, node) = nodes.map(|(i, node)| (i, node.outputs[0])).nth(n).unwrap();
            (node, at)
        }
    };
    splice(&mut graph, value, at, lr);
    vec![graph::pass::prune(graph::pass::fuse(graph, ops::OPS))]
}

fn made_by(graph: &Graph, value: ValueId) -> usize {
    match graph.values[graph.root(value).0].source {
        Source::Node { node, .. } => node,
        _ => panic!("a node makes it"),
    }
}

/// Puts nodes after node `at` that add 0 to `value`, or NaN when the rate is `lr`; what read `value` reads their result.
/// (rate - lr) / |rate - lr| is 1, -1, or 0/0.
fn splice(graph: &mut Graph, value: ValueId, at: usize, lr: f32) {
    let rate = graph.values.iter().position(|v| matches!(&v.source, Source::Input { name } if name == "lr")).unwrap();
    let one = |g: &mut Graph, value: f32| {
        let params = Params::NONE.with_u32("elements", 1).with_f32("value", value);
        emit(g, &ops::fill::FILL, vec![], params, vec![TensorType::f32([1])])
    };
    let before = graph.nodes.len();
    let (wanted, weight) = (one(graph, lr), one(graph, 1.0));
    let number = || vec![TensorType::f32([1])];
    let difference = emit(graph, &ops::elementwise::SUB, vec![rate, wanted], Params::NONE, number());
    graph.values.push(Value { ty: TensorType::f32([1, 1]), source: Source::View { of: difference, offset: 0 } });
    let row = graph.values.len() - 1;
    let types = vec![TensorType::f32([1, 1]), TensorType::f32([1])];
    let sign = emit(graph, &ops::rms_norm::RMS_NORM, vec![row, weight], Params::NONE.with_f32("eps", 0.0), types);
    graph.values.push(Value { ty: TensorType::f32([1]), source: Source::View { of: sign, offset: 0 } });
    let sign = graph.values.len() - 1;
    let nothing = emit(graph, &ops::elementwise::SCALE, vec![sign], Params::NONE.with_f32("s", 0.0), number());
    let ty = graph.values[value].ty.clone();
    let sum = emit(graph, &ops::elementwise::ADD, vec![value, nothing], Params::NONE, vec![ty]);
    // They move to their place in program order.
    let count = graph.nodes.len() - before;
    let own = graph.nodes.split_off(before);
    graph.nodes.splice(at + 1..at + 1, own);
    for value in &mut graph.values {
        if let Source::Node { node, .. } = &mut value.source {
            *node = match *node {
                n if n >= before => at + 1 + n - before,
                n if n > at => n + count,
                n => n,
            };
        }
    }
    graph.nodes[at + 1 + count..]
        .iter_mut()
        .flat_map(|n| &mut n.inputs)
        .filter(|i| **i == value)
        .for_each(|i| *i = sum);
    for v in &mut graph.values {
        if let Source::Pack { parts, .. } = &mut v.source {
            parts.iter_mut().filter(|(id, _)| *id == value).for_each(|(id, _)| *id = sum);
        }
    }
}

fn emit(g: &mut Graph, op: &'static OpDef, inputs: Vec<ValueId>, params: Params, types: Vec<TensorType>) -> ValueId {
    let (node, first) = (g.nodes.len(), g.values.len());
    let values = types.into_iter().enumerate();
    g.values.extend(values.map(|(output, ty)| Value { ty, source: Source::Node { node, output } }));
    let outputs = (first..g.values.len()).collect();
    g.nodes.push(Node { op, params, inputs, outputs, location: Location::caller() });
    first
}

#[derive(Default)]
struct Witness {
    warnings: Vec<String>,
    finite: Vec<bool>,
}

impl Observer for Witness {
    fn step(&mut self, _: usize, _: usize, measured: &Measured) {
        self.finite.push(measured.finite);
    }

    fn warning(&mut self, text: &str) {
        self.warnings.push(text.into());
    }
}

/// A run whose graph is poisoned in the steps that have the rate of step `step`, counted from 1.
fn run(device: &Device, config: &Config, path: &Path, poison: Poison, step: usize) -> Run {
    let mut run = Run::create(device, config.clone(), path, Tuning::default()).unwrap();
    let graphs = poisoned(config, poison, run.rate(step - 1) as f32);
    *run.trainer_mut() = Trainer::of_graphs(device, config, &graphs, &Tuning::default(), 0).unwrap();
    run
}

/// Every number of every tensor of every checkpoint.
fn assert_checkpoints_are_finite(path: &Path, steps: &[usize]) {
    let list = train::checkpoint::list(&path.join("checkpoints"));
    assert_eq!(list.iter().map(|(step, _)| *step).collect::<Vec<_>>(), steps);
    for (_, folder) in list {
        let mut count = 0;
        for file in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if file.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            for (name, tensor) in safetensors::read(&file).unwrap() {
                assert_eq!(tensor.dtype, DType::F32);
                let floats: &[f32] = &tensor
                    .bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                    .collect::<Vec<_>>();
                assert!(floats.iter().all(|x| x.is_finite()), "{}: {name}", file.display());
                count += 1;
            }
        }
        assert!(count > 30, "parameters, both moments and the losses: {count}");
    }
}

#[test]
fn a_poisoned_step_is_skipped_counted_and_named() {
    let _machine = machine();
    let poisons = [
        (Poison::Gradient("layers.1.mlp.up_proj.weight"), "gradient is", "layers.1.mlp.up_proj.weight"),
        (Poison::Gradient("embed_tokens.weight"), "gradient is", "embed_tokens.weight"),
        (Poison::Activation("gelu", 1), "loss and gradient are", "lm_head.weight"),
    ];
    for device in devices() {
        let place = Place::new(&device.spec().kind.to_string());
        let (poisons, steps) = if is_cpu(&device) { (&poisons[..], &[4, 6][..]) } else { (&poisons[1..], &[4][..]) };
        for (i, (poison, what, name)) in poisons.iter().enumerate() {
            // Step 4 is one that is saved after.
            for &at in steps {
                let path = place.0.join(format!("{i}-{at}"));
                let mut run = run(&device, &config(&[]), &path, *poison, at);
                let mut witness = Witness::default();
                let Ending::Finished(summary) = run.train(&AtomicBool::new(false), &mut witness).unwrap() else {
                    panic!("nobody stops it")
                };
                let expected =
                    format!("step {at}: {what} not finite ({name}): update skipped (1 of 3 allowed in a row)");
                assert_eq!(witness.warnings, [expected], "{poison:?} on {device}");
                assert_eq!(summary.skipped_steps, 1);
                assert_eq!((1..=12).filter(|step| !witness.finite[step - 1]).collect::<Vec<_>>(), [at]);
                assert!(run.history().losses.iter().enumerate().all(|(s, l)| l.is_finite() || s + 1 == at));
                let lines = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
                let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
                assert_eq!((&last["skipped"], &last["applied"]), (&1.into(), &11.into()));
                assert_checkpoints_are_finite(&path, &[12, 8, 4]);
            }
        }
    }
}

#[test]
fn a_skipped_step_changes_nothing_and_a_resumed_run_is_the_unbroken_run() {
    let _machine = machine();
    let place = Place::new("resume");
    let device = &devices()[0];
    let poison = Poison::Activation("gelu", 0);
    let hashes = |run: &mut Run| match run.train(&AtomicBool::new(false), &mut ()).unwrap() {
        Ending::Finished(s) => (s.parameters_sha256, s.losses_sha256, s.skipped_steps),
        Ending::Interrupted(_) => panic!("nobody stops it"),
    };
    let path = place.0.join("a");
    let whole = hashes(&mut run(device, &config(&[]), &path, poison, 6));
    fs::remove_dir_all(path.join("checkpoints/step-12")).unwrap();
    // From step 8 on, after the skipped one.
    let mut resumed = Run::resume(device, &path, &[], &mut ()).unwrap();
    assert_eq!(resumed.step(), 8);
    assert_eq!(hashes(&mut resumed), whole);

    // Eleven applied steps at their own rates: what the steps without the sixth one come to.
    let config = config(&[]);
    let mut trainer = Trainer::new(device, &config, &Tuning::default()).unwrap();
    let batches = Batches::open(&config).unwrap();
    let mut staging = Staging::default();
    for step in (0..12).filter(|step| *step != 5) {
        trainer.submit(&batches.batch(step, &mut staging), resumed.rate(step) as f32).unwrap();
    }
    let region = trainer.region(PARAMETERS).unwrap();
    assert_eq!(train::trainer::parameters_sha256(trainer.entries(), &region), whole.0);
}

#[test]
fn three_in_a_row_stop_the_run_and_the_last_good_checkpoint_is_named() {
    let _machine = machine();
    let place = Place::new("stop");
    for device in devices() {
        let path = place.0.join(device.spec().kind.to_string());
        // The rate rises until step 6 and stays: from there on every step is poisoned.
        let config = config(&["schedule.kind=constant", "schedule.warmup_steps=6"]);
        let mut run = run(&device, &config, &path, Poison::Gradient("final_norm.bias"), 6);
        let mut witness = Witness::default();
        let error = run.train(&AtomicBool::new(false), &mut witness).unwrap_err();
        assert!(matches!(error, Error::NotFinite { step: 8, in_a_row: 3, .. }), "{error}");
        let text = error.to_string();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(path.join("run.json")).unwrap()).unwrap();
        assert_eq!((&json["status"], &json["skipped_steps"]), (&"failed".into(), &3.into()));
        assert!(
            text.contains("the last good checkpoint is ") && text.contains("checkpoints/step-4 (step 4)"),
            "{text}"
        );
        let last = "step 8: gradient is not finite (final_norm.bias): update skipped (3 of 3 allowed in a row)";
        assert_eq!(witness.warnings.last().unwrap(), last);
        assert_checkpoints_are_finite(&path, &[4]);
        drop(run);
        // It goes on from there, with a graph that isn't poisoned.
        let mut run = Run::resume(&device, &path, &[], &mut ()).unwrap();
        assert_eq!(run.step(), 4);
        let Ending::Finished(summary) = run.train(&AtomicBool::new(false), &mut ()).unwrap() else { panic!("it ends") };
        assert_eq!(summary.skipped_steps, 0);
    }
}

#[test]
fn parameters_that_are_not_finite_are_never_saved() {
    let _machine = machine();
    let place = Place::new("parameters");
    let device = &devices()[0];
    let mut run = Run::create(device, config(&[]), &place.0, Tuning::default()).unwrap();
    let mut state = run.trainer().state().unwrap();
    let entry = run.trainer().entries()[3].clone();
    state.second_moment[entry.offset as usize..][..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    run.trainer_mut().restore(&state).unwrap();
    let mut witness = Witness::default();
    run.save(&mut witness).unwrap();
    let expected = format!("step 0: second_moment.{} is not finite: no checkpoint is written", entry.name);
    assert_eq!(witness.warnings, [expected]);
    assert_checkpoints_are_finite(&place.0, &[]);
}

#[test]
fn a_token_or_target_outside_the_vocabulary_makes_the_loss_one_that_is_not_finite() {
    let _machine = machine();
    for device in devices() {
        // Other devices may be software, and slow.
        let few = usize::from(!is_cpu(&device));
        for accumulation in &["grad_accumulation=1", "grad_accumulation=2"][few..] {
            for preset in &["hlx-simple", "hlx-full", "tiny-llama"][few..] {
                let set = ["model.num_layers=1", "model.vocab_size=256", accumulation, "batch_size=2"];
                let config = set.into_iter().fold(Overrides::preset(preset), |o, s| o.with(s)).resolve().unwrap();
                for &outside in &[256, 65_536, 0x7fff_ffff, 257, u32::MAX][3 * few..] {
                    for in_tokens in [true, false] {
                        // A target of 256 is the one that counts for nothing in text.
                        if *preset != "tiny-llama" || in_tokens || outside != 256 {
                            batch_with(&device, &config, outside, in_tokens);
                        }
                    }
                }
            }
        }
    }
}

fn is_cpu(device: &Device) -> bool {
    device.spec().kind == DeviceKind::Cpu
}

/// One step with a word outside the vocabulary, between two without.
fn batch_with(device: &Device, config: &Config, outside: u32, in_tokens: bool) {
    let batches = Batches::open(config).unwrap();
    let mut staging = Staging::default();
    let good = batches.batch(0, &mut staging);
    let mut trainer = Trainer::new(device, config, &Tuning::default()).unwrap();
    let mut submit = |batch: &Batch| {
        let ticket = trainer.submit(batch, 1e-3).unwrap();
        (trainer.read(ticket).unwrap(), trainer.state().unwrap())
    };
    let (first, before) = submit(&good);
    let (mut tokens, mut targets) = (good.tokens.to_vec(), good.targets.to_vec());
    let words = if in_tokens { &mut tokens } else { &mut targets };
    let last = words.len() - 3;
    words[last] = outside;
    let (bad, between) = submit(&Batch { tokens: &tokens, targets: &targets, valid: good.valid });
    let name = format!("{} on {device}, {outside}, in tokens: {in_tokens}", config.preset);
    assert!(first.finite && first.loss.is_finite(), "{name}: {first:?}");
    assert!(!bad.loss.is_finite() && !bad.finite && bad.fault != u32::MAX, "{name}: {bad:?}");
    assert_eq!(between, before, "{name}");
    let (second, after) = submit(&good);
    assert!(second.finite && second.loss < first.loss && after.applied == 2, "{name}: {second:?}");
}
