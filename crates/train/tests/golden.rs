//! Losses and gradients against PyTorch's from the same initial weights: tests/golden, made by peers/make_golden.py.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::Tuning;
use graph::trace::{Entry, PARAMETERS};
use serde_json::Value;
use std::path::Path;
use tensor::hash::Hasher;
use train::config::Overrides;
use train::data::{Batches, Staging};
use train::trainer::{Trainer, entry_bytes};

/// Largest relative difference of a step's loss.
const LOSS: f64 = 1e-4;
/// Largest relative difference of a gradient's norm; of its elements, relative to them and to their usual size.
const GRADIENT: f64 = 1e-4;

#[test]
fn losses_and_gradients_are_pytorchs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let device = Device::open(Choice::Cpu, &Options { threads: Some(1), ..Options::default() }).unwrap();
    let mut paths: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert_eq!(paths.len(), 8, "two presets with three seeds each, two runs with one: {paths:?}");
    for path in &paths {
        compare(&device, path, usize::MAX);
    }
}

/// A model of Llama's type on the other devices that are there.
#[test]
fn gpus_train_a_llama_to_pytorchs_losses() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let paths = ["tiny-llama-seed0.json", "tiny-llama-accumulated-seed0.json"].map(|name| golden.join(name));
    for choice in [Choice::Vulkan(None), Choice::Cuda(0)] {
        let Some(device) = there::open(choice, &Options::default()) else { continue };
        // Micro-batches take as long again where they run in software; the whole run is enough there.
        let few = if device.spec().has("software") { 5 } else { usize::MAX };
        for (path, steps) in paths.iter().zip([usize::MAX, few]) {
            compare(&device, path, steps);
        }
    }
}

/// All steps of the preset, or the first few.
fn compare(device: &Device, path: &Path, most_steps: usize) {
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let name = &*format!("{} on {device}", path.display());
    let preset = golden["preset"].as_str().unwrap();
    let seed = golden["seed"].as_u64().unwrap();
    let set = golden["set"].as_array().into_iter().flatten().map(|s| s.as_str().unwrap());
    let overrides = set.fold(Overrides::preset(preset), |o, s| o.with(s));
    let config = overrides.with(&format!("seed={seed}")).resolve().unwrap();
    let batches = Batches::open(&config).unwrap();
    let mut staging = Staging::default();
    let mut trainer = Trainer::new(device, &config, &Tuning::default()).unwrap();
    let initial = initial_sha256(&trainer);
    assert_eq!(golden["initial_sha256"].as_str(), Some(&*initial), "{name} began from other weights; make it again");
    let losses: Vec<f64> = golden["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect();
    let all_steps = if config.steps > 0 { config.steps } else { config.epochs * batches.steps_per_epoch() };
    assert_eq!(losses.len(), all_steps, "{name}");
    let mut worst = 0.0f64;
    for (step, theirs) in losses.iter().enumerate().take(most_steps) {
        let ticket = trainer.submit(&batches.batch(step, &mut staging), config.optimizer.lr as f32).unwrap();
        let ours = f64::from(trainer.read(ticket).unwrap().loss);
        if step == 0 && !golden["gradient"].is_null() {
            compare_gradients(&trainer, &golden["gradient"], name);
        }
        let difference = (ours - theirs).abs() / theirs;
        worst = worst.max(difference);
        assert!(difference <= LOSS, "{name}, step {step}: {ours}, PyTorch {theirs}");
    }
    println!("{name}: {} losses, worst relative difference {worst:.1e}", losses.len().min(most_steps));
}

/// SHA-256 over the parameters' bytes in order of their names.
fn initial_sha256(trainer: &Trainer) -> String {
    let region = trainer.region(PARAMETERS).unwrap();
    let mut entries: Vec<&Entry> = trainer.entries().iter().collect();
    entries.sort_by_key(|e| &e.name);
    let mut hasher = Hasher::default();
    entries.iter().for_each(|e| hasher.update(entry_bytes(e, &region)));
    hasher.finish()
}

/// The first step's gradient by each parameter: its norm, and its elements at 64 evenly strided positions.
fn compare_gradients(trainer: &Trainer, golden: &Value, name: &str) {
    let region = trainer.gradients().unwrap();
    for (parameter, theirs) in golden.as_object().unwrap() {
        let entry: &Entry = trainer.entries().iter().find(|e| e.name == *parameter).unwrap();
        let (words, _) = entry_bytes(entry, &region).as_chunks();
        let ours: Vec<f32> = words.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let norm = ours.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let their_norm = theirs["norm"].as_f64().unwrap();
        let close = (norm - their_norm).abs() <= GRADIENT * their_norm;
        assert!(close, "{name}: norm of {parameter}: {norm}, PyTorch {their_norm}");
        let elements = theirs["elements"].as_array().unwrap();
        let usual = norm / (ours.len() as f64).sqrt();
        for (i, b) in elements.iter().enumerate() {
            let (a, b) = (f64::from(ours[i * ours.len() / elements.len()]), b.as_f64().unwrap());
            let close = (a - b).abs() <= GRADIENT * (usual + b.abs());
            assert!(close, "{name}: {parameter}, element {i} of {}: {a}, PyTorch {b}", elements.len());
        }
    }
    assert_eq!(golden.as_object().unwrap().len(), trainer.entries().len(), "{name}: every parameter");
}
