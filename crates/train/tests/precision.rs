//! Training in bf16 and f16: near the losses of f32, the same bits every time, and a loss scale that finds itself.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::Tuning;
use graph::trace::PARAMETERS;
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tensor::hash::sha256;
use train::config::{Config, Overrides};
use train::data::{Batches, Staging};
use train::trainer::{Measured, Scale, State, Trainer};
use train::{Ending, Run};

fn cpu(threads: usize) -> Device {
    Device::open(Choice::Cpu, &Options { threads: Some(threads), ..Options::default() }).unwrap()
}

fn config(preset: &str, settings: &[&str]) -> Config {
    settings.iter().fold(Overrides::preset(preset), |o, s| o.with(s)).resolve().unwrap()
}

/// What the first steps measure, and the trainer after them; `change` may change the state before the first.
fn steps(device: &Device, config: &Config, count: usize, change: impl Fn(&mut State)) -> (Vec<Measured>, Trainer) {
    let batches = Batches::open(config).unwrap();
    let mut staging = Staging::default();
    let mut trainer = Trainer::new(device, config, &Tuning::default()).unwrap();
    let mut state = trainer.state().unwrap();
    change(&mut state);
    trainer.restore(&state).unwrap();
    let mut step = |step: usize| {
        let ticket = trainer.submit(&batches.batch(step, &mut staging), config.optimizer.lr as f32).unwrap();
        trainer.read(ticket).unwrap()
    };
    ((0..count).map(&mut step).collect(), trainer)
}

/// PyTorch's losses in f32, from the same initial weights.
fn golden(preset: &str) -> Vec<f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{preset}-seed0.json"));
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    golden["losses"].as_array().unwrap().iter().map(|l| l.as_f64().unwrap()).collect()
}

/// The largest relative difference of a step's loss from f32's.
fn worst_difference(device: &Device, preset: &str, compute: &str, count: usize) -> f64 {
    let expected = golden(preset);
    let (measured, _) = steps(device, &config(preset, &[&format!("precision.compute={compute}")]), count, |_| {});
    let differences = measured.iter().zip(&expected).map(|(m, want)| {
        assert!(m.finite, "{preset} in {compute} on {device}: a step is skipped");
        (f64::from(m.loss) - want).abs() / want
    });
    let worst = differences.fold(0.0, f64::max);
    println!("{preset} in {compute} on {device}: worst relative difference of {count} losses {worst:.1e}");
    worst
}

#[test]
fn losses_stay_near_those_of_f32() {
    for (preset, count, compute, bound) in BOUNDS {
        let worst = worst_difference(&cpu(2), preset, compute, count);
        assert!(worst <= bound, "{preset} in {compute}: {worst:.1e}, more than {bound:.1e}");
        assert!(worst > 1e-6, "{preset} in {compute}: nothing is rounded");
    }
}

/// Preset, steps, type, largest relative difference of a step's loss: about three times what was measured (2.6e-3, 7.0e-4,
/// 4.2e-3, 4.8e-4).
const BOUNDS: [(&str, usize, &str, f64); 4] = [
    ("tiny-llama", 50, "bf16", 8e-3),
    ("tiny-llama", 50, "f16", 2e-3),
    ("hlx-full", 60, "bf16", 1.2e-2),
    ("hlx-full", 60, "f16", 1.5e-3),
];

/// Fewer steps where they may run in software.
#[test]
fn gpus_stay_near_f32_too() {
    for (choice, count) in [(Choice::Vulkan(None), 10), (Choice::Cuda(0), 50)] {
        let Some(device) = there::open(choice, &Options::default()) else { continue };
        for (preset, _, compute, bound) in BOUNDS {
            let worst = worst_difference(&device, preset, compute, count);
            assert!(worst <= bound, "{preset} in {compute} on {device}: {worst:.1e}, more than {bound:.1e}");
        }
    }
}

#[test]
fn the_same_bits_with_any_number_of_threads() {
    for compute in ["bf16", "f16"] {
        let config = config("tiny-llama", &[&format!("precision.compute={compute}")]);
        let hash = |threads: usize| {
            let (measured, trainer) = steps(&cpu(threads), &config, 4, |_| {});
            let losses: Vec<u32> = measured.iter().map(|m| m.loss.to_bits()).collect();
            (losses, sha256(&trainer.region(PARAMETERS).unwrap()))
        };
        let first = hash(1);
        assert_eq!(hash(1), first, "{compute}, again");
        assert_eq!(hash(2), first, "{compute}, two threads");
    }
}

#[test]
fn a_loss_scale_that_is_too_large_is_halved_until_gradients_are_finite() {
    let config = config("tiny-llama", &["precision.compute=f16"]);
    let first = Scale { loss_scale: 16_777_216.0, good_steps: 7 };
    let (measured, trainer) = steps(&cpu(2), &config, 14, |state| state.scale = Some(first));
    let skipped = measured.iter().take_while(|m| !m.finite).count();
    assert!((1..10).contains(&skipped), "{measured:?}");
    assert!(measured[skipped..].iter().all(|m| m.finite && m.grad_norm.is_finite()), "{measured:?}");
    for (step, m) in measured.iter().enumerate() {
        assert_eq!(m.loss_scale, first.loss_scale / (1 << step.min(skipped)) as f32, "step {step}");
    }
    let state = trainer.state().unwrap();
    assert_eq!(state.applied as usize, 14 - skipped);
    let scale = first.loss_scale / (1 << skipped) as f32;
    assert_eq!(state.scale, Some(Scale { loss_scale: scale, good_steps: 14 - skipped as u32 }));
    assert!(measured[13].loss < measured[skipped].loss);
}

#[test]
fn the_norm_of_a_gradient_is_that_of_the_loss_without_its_scale() {
    let norm = |settings: &[&str]| steps(&cpu(2), &config("tiny-llama", settings), 1, |_| {}).0[0].grad_norm;
    let (own, expected) = (norm(&["precision.compute=f16", "precision.loss_scale=4096"]), norm(&[]));
    assert!((own - expected).abs() < 2e-3 * expected, "{own}, in f32 {expected}");
}

#[test]
fn a_loss_scale_is_doubled_after_2000_finite_steps() {
    let config = config("tiny-llama", &["precision.compute=f16"]);
    let near = Scale { loss_scale: 1024.0, good_steps: 1998 };
    let (measured, trainer) = steps(&cpu(2), &config, 3, |state| state.scale = Some(near));
    assert_eq!(measured.iter().map(|m| m.loss_scale).collect::<Vec<_>>(), [1024.0, 1024.0, 2048.0]);
    assert_eq!(trainer.state().unwrap().scale, Some(Scale { loss_scale: 2048.0, good_steps: 1 }));
}

/// Scaling by a power of two changes no bit where nothing vanishes or overflows: here all is f32.
#[test]
fn a_fixed_scale_changes_no_bit_in_f32() {
    let hash = |settings: &[&str]| {
        let (measured, trainer) = steps(&cpu(2), &config("tiny-llama", settings), 2, |_| {});
        (measured[1].loss.to_bits(), measured[1].grad_norm.to_bits(), sha256(&trainer.region(PARAMETERS).unwrap()))
    };
    assert_eq!(hash(&["precision.loss_scale=1024"]), hash(&[]));
}

#[test]
fn gradients_are_accumulated_in_f32() {
    let whole = config("tiny-llama", &["precision.compute=f16"]);
    let parts = config("tiny-llama", &["precision.compute=f16", "batch_size=2", "grad_accumulation=4"]);
    let (whole, parts) = (steps(&cpu(2), &whole, 5, |_| {}).0, steps(&cpu(2), &parts, 5, |_| {}).0);
    for (step, (a, b)) in whole.iter().zip(&parts).enumerate() {
        assert!((a.loss - b.loss).abs() <= 2e-3 * a.loss, "step {step}: {a:?}, in parts {b:?}");
        assert!((a.grad_norm - b.grad_norm).abs() <= 2e-2 * a.grad_norm, "step {step}: {a:?}, in parts {b:?}");
    }
}

#[test]
fn a_resumed_run_goes_on_with_its_loss_scale() {
    let place = std::env::temp_dir().join(format!("rondo-precision-{}", std::process::id()));
    let config = || config("tiny-llama", &["precision.compute=f16", "steps=6", "checkpoint.every=3"]);
    let run = |run: &mut Run| match run.train(&AtomicBool::new(false), &mut ()).unwrap() {
        Ending::Finished(s) => [s.parameters_sha256, s.losses_sha256],
        Ending::Interrupted(_) => panic!("nobody stops it"),
    };
    let (whole, broken) = (place.join("whole"), place.join("broken"));
    let expected = run(&mut Run::create(&cpu(2), config(), &whole, Tuning::default()).unwrap());
    run(&mut Run::create(&cpu(2), config(), &broken, Tuning::default()).unwrap());
    std::fs::remove_dir_all(broken.join("checkpoints/step-6")).unwrap();
    let manifest = std::fs::read_to_string(broken.join("checkpoints/step-3/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((&manifest["scale"]["loss_scale"], &manifest["scale"]["good_steps"]), (&65536.0.into(), &3.into()));
    let mut resumed = Run::resume(&cpu(1), &broken, &[], &mut ()).unwrap();
    assert_eq!((resumed.step(), run(&mut resumed)), (3, expected));
    let manifest = std::fs::read_to_string(broken.join("checkpoints/step-6/manifest.json")).unwrap();
    assert!(manifest.contains("\"good_steps\": 6"), "{manifest}");
    let _ = std::fs::remove_dir_all(place);
}
