//! Gradient accumulation: several micro-batches are one large batch, on every device that is there.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::Tuning;
use graph::trace::PARAMETERS;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use train::config::{Config, Overrides};
use train::data::{Batches, Staging};
use train::trainer::{Measured, Trainer};
use train::{Ending, Observer, Run, step};

/// One pool of threads at a time: tests of one binary run side by side.
static MACHINE: Mutex<()> = Mutex::new(());

fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cpu(threads: usize) -> Device {
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from));
    Device::open(Choice::Cpu, &Options { threads: Some(threads), ..Options::default() }).unwrap()
}

/// Lines of HLX in rows of 40: from 29 to 39 targets of a row count.
fn config(batch_size: usize, grad_accumulation: usize, set: &[&str]) -> Config {
    let sizes = [format!("batch_size={batch_size}"), format!("grad_accumulation={grad_accumulation}")];
    let all = ["model.num_layers=2", "model.hidden_size=64", "model.intermediate_size=128", "model.max_context=40"];
    let more = ["steps=8", "optimizer.max_norm=0.5", "optimizer.lr=1e-3", "optimizer.eps=1e-5"];
    let settings = all.iter().chain(&more).copied().chain(sizes.iter().map(String::as_str)).chain(set.iter().copied());
    settings.fold(Overrides::preset("hlx-full"), |o, s| o.with(s)).resolve().unwrap()
}

/// Losses and norms of all steps, and the parameters after them.
fn losses(device: &Device, config: &Config) -> (Vec<Measured>, Vec<f32>) {
    let mut trainer = Trainer::new(device, config, &Tuning::default()).unwrap();
    let batches = Batches::open(config).unwrap();
    let mut staging = Staging::default();
    let mut measured = Vec::new();
    for step in 0..config.steps {
        let ticket = trainer.submit(&batches.batch(step, &mut staging), config.optimizer.lr as f32).unwrap();
        measured.push(trainer.read(ticket).unwrap());
    }
    let bytes = trainer.region(PARAMETERS).unwrap();
    (measured, bytemuck::cast_slice(&bytes).to_vec())
}

fn assert_same(device: &Device, one: &Config, several: &Config, name: &str) {
    let ((whole, parameters), (parts, accumulated)) = (losses(device, one), losses(device, several));
    for (step, (a, b)) in whole.iter().zip(&parts).enumerate() {
        assert!((a.loss - b.loss).abs() <= 2e-5 * a.loss, "{name}, step {step}: loss {} and {}", a.loss, b.loss);
        let norms = (a.grad_norm, b.grad_norm);
        assert!((norms.0 - norms.1).abs() <= 1e-4 * norms.0, "{name}, step {step}: norms {norms:?}");
        assert!(a.finite && b.finite && b.fault == u32::MAX);
    }
    let worst = parameters.iter().zip(&accumulated).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Eight steps of 1e-3 move a parameter by 8e-3.
    assert!(worst <= 2e-5, "{name}: parameters differ by {worst}");
    println!("{name} on {device}: worst difference of a parameter {worst:.1e}");
}

#[test]
fn several_micro_batches_are_one_large_batch() {
    let _machine = machine();
    let options = Options { threads: Some(1), ..Options::default() };
    let valid: Vec<_> = {
        let batches = Batches::open(&config(1, 1, &[])).unwrap();
        (0..16).map(|step| batches.counts(step).valid).collect()
    };
    assert!(valid.iter().min() < valid.iter().max(), "rows count for more and less: {valid:?}");
    for choice in [Choice::Cpu, Choice::Vulkan(None), Choice::Cuda(0)] {
        let Some(device) = there::open(choice, &options) else { continue };
        for (count, rows) in [(4, 1), (2, 2)] {
            assert_same(&device, &config(4, 1, &[]), &config(rows, count, &[]), &format!("{count} of {rows}"));
        }
        // 16 rows in steps of 10: half of the second step's micro-batches have no target that counts.
        assert_same(&device, &config(10, 1, &[]), &config(1, 10, &[]), "10 of 1");
    }
}

#[test]
fn a_step_without_accumulation_is_one_graph_and_with_it_two() {
    let nodes = |config: &Config| step::graphs(config).unwrap().iter().map(|g| g.nodes.len()).collect::<Vec<_>>();
    let (one, two) = (nodes(&config(4, 1, &[])), nodes(&config(4, 2, &[])));
    assert_eq!((one.len(), two.len()), (1, 2));
    assert!(two[1] < 8 && two[0] > one[0] - 8, "{one:?} {two:?}");
    // Sums are added up where gradients are made, so that a micro-batch needs hardly more memory than a step.
    let arena = |c: &Config| step::plans(c, cpu(1).spec(), &Tuning::default()).unwrap()[0].arena_bytes();
    let parameters = 4 * 128 * 64;
    assert!(arena(&config(4, 2, &[])) < arena(&config(4, 1, &[])) + parameters + (64 << 10));
}

#[test]
fn levels_in_reverse_with_dead_bytes_poisoned_give_the_same_bits() {
    let _machine = machine();
    let hostile = Device::open(Choice::Cpu, &Options { adversarial: true, ..Options::default() }).unwrap();
    let config = config(2, 3, &[]);
    assert_eq!(losses(&cpu(1), &config), losses(&hostile, &config));
}

#[test]
fn a_resumed_run_is_the_unbroken_run_at_any_number_of_threads() {
    let _machine = machine();
    let place = std::env::temp_dir().join(format!("rondo-accumulation-{}", std::process::id()));
    let config = || config(3, 2, &["checkpoint.every=3", "data.shuffle=true"]);
    let run = |name: &str, threads, stop_at: usize| {
        let path = place.join(name);
        let stop = AtomicBool::new(false);
        let mut run = Run::create(&cpu(threads), config(), &path, Tuning::default()).unwrap();
        (run.train(&stop, &mut StopAt(stop_at, &stop)).unwrap(), path)
    };
    let (Ending::Finished(whole), _) = run("whole", 1, usize::MAX) else { panic!("nobody stops it") };
    // Rows are 16: three steps an epoch, and steps, not micro-batches, are what is saved after.
    assert_eq!((whole.steps, whole.config.grad_accumulation), (8, 2));
    let (Ending::Interrupted(part), path) = run("broken", 2, 4) else { panic!("it was stopped") };
    assert_eq!(part.steps, 4);
    let steps: Vec<_> = train::checkpoint::list(&path.join("checkpoints")).into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [4, 3]);
    let mut resumed = Run::resume(&cpu(1), &path, &[], &mut ()).unwrap();
    let Ending::Finished(rest) = resumed.train(&AtomicBool::new(false), &mut ()).unwrap() else { panic!("it ends") };
    assert_eq!((&rest.parameters_sha256, &rest.losses_sha256), (&whole.parameters_sha256, &whole.losses_sha256));
    drop(resumed);
    let refused = Run::resume(&cpu(1), &path, &["grad_accumulation=1".into()], &mut ()).err().unwrap().to_string();
    assert!(refused.contains("grad_accumulation is 2 and can't become 1"), "{refused}");
    fs::remove_dir_all(place).unwrap();
}

/// Stops a run after a step.
struct StopAt<'a>(usize, &'a AtomicBool);

impl Observer for StopAt<'_> {
    fn step(&mut self, step: usize, _: usize, _: &Measured) {
        self.1.store(step >= self.0, Ordering::Relaxed);
    }
}

#[test]
fn more_micro_batches_than_the_ring_has_slots_still_train() {
    let _machine = machine();
    let path: PathBuf = std::env::temp_dir().join(format!("rondo-accumulation-many-{}", std::process::id()));
    let config = config(1, 600, &["steps=2", "model.num_layers=1", "model.hidden_size=32", "model.max_context=24"]);
    let mut run = Run::create(&cpu(1), config, &path, Tuning::default()).unwrap();
    let Ending::Finished(summary) = run.train(&AtomicBool::new(false), &mut ()).unwrap() else { panic!("it ends") };
    assert_eq!(summary.steps, 2);
    fs::remove_dir_all(path).unwrap();
}
