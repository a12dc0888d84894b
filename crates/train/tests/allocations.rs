//! A replay allocates nothing, on the host or on the device: counted. Alone in its file, since the count is the process's.

use device::{Choice, Device, Options};
use graph::Tuning;
use std::sync::atomic::AtomicBool;
use train::config::Overrides;
use train::{Ending, Run};

#[global_allocator]
static ALLOCATOR: device::count::CountingAllocator = device::count::CountingAllocator;

#[test]
fn a_step_allocates_nothing_and_is_one_submission_or_one_a_micro_batch_and_one() {
    let device = Device::open(Choice::Cpu, &Options::default()).unwrap();
    let path = std::env::temp_dir().join(format!("rondo-allocations-{}", std::process::id()));
    let runs =
        [("hlx-full", "false", 1), ("hlx-simple", "false", 1), ("hlx-simple", "true", 1), ("hlx-simple", "true", 3)];
    for (preset, shuffle, micro_batches) in runs {
        let overrides = Overrides::preset(preset).with("steps=20").with(&format!("data.shuffle={shuffle}"));
        let config = overrides.with(&format!("grad_accumulation={micro_batches}")).resolve().unwrap();
        let path = path.join(format!("{preset}-{shuffle}-{micro_batches}"));
        let mut run = Run::create(&device, config, &path, Tuning::default()).unwrap();
        let Ending::Finished(summary) = run.train(&AtomicBool::new(false), &mut ()).unwrap() else {
            panic!("nobody stops it")
        };
        assert_eq!(summary.allocations_per_step, Some(0.0), "{preset}");
        assert_eq!(summary.device_allocations_per_step, Some(0.0), "{preset}");
        let submissions = if micro_batches == 1 { 1.0 } else { micro_batches as f64 + 1.0 };
        assert_eq!(summary.submissions_per_step, Some(submissions), "{preset}");
        assert_eq!(summary.host_waits_per_step, Some(0.0), "{preset}");
    }
    std::fs::remove_dir_all(path).unwrap();
}
