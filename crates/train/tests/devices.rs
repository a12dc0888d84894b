//! Every device that is there trains `hlx-full` to the processor's losses, and to its own same bits each time.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Options};
use graph::Tuning;
use std::sync::atomic::AtomicBool;
use train::config::Overrides;
use train::{Ending, Run};

/// Largest relative difference of a step's loss.
const LOSS: f32 = 1e-4;

#[test]
fn every_device_that_is_there_trains_to_the_same_losses() {
    let options = Options { threads: Some(1), ..Options::default() };
    let (expected, _) = two_epochs(&Device::open(Choice::Cpu, &options).unwrap(), "cpu");
    for choice in [Choice::Vulkan(None), Choice::Cuda(0)] {
        let Some(device) = there::open(choice, &options) else { continue };
        let (losses, hashes) = two_epochs(&device, "first");
        for (step, (a, b)) in losses.iter().zip(&expected).enumerate() {
            assert!((a - b).abs() <= LOSS * b, "{device}, step {step}: {a}, on cpu {b}");
        }
        assert_eq!(two_epochs(&device, "second").1, hashes, "{device}");
    }
}

/// Losses of all steps, and the hashes of parameters and losses.
fn two_epochs(device: &Device, name: &str) -> (Vec<f32>, [String; 2]) {
    let path = std::env::temp_dir().join(format!("rondo-devices-{}-{name}", std::process::id()));
    let config = Overrides::preset("hlx-full").with("epochs=2").resolve().unwrap();
    let mut run = Run::create(device, config, &path, Tuning::default()).unwrap();
    let ending = run.train(&AtomicBool::new(false), &mut ()).unwrap();
    let losses = run.history().losses.clone();
    let _ = std::fs::remove_dir_all(path);
    match ending {
        Ending::Finished(s) => (losses, [s.parameters_sha256, s.losses_sha256]),
        Ending::Interrupted(_) => panic!("nobody stops it"),
    }
}
