//! Trains a preset for a few passes and prints each pass's loss: the library as a program uses it.

use rondo::device::{Choice, Device, Options};
use rondo::graph::Tuning;
use rondo::train::run::{Observer, Row};
use rondo::train::{Ending, Overrides, Run};
use std::sync::atomic::AtomicBool;

struct Print;

impl Observer for Print {
    fn row(&mut self, row: &Row) {
        println!("epoch {:>2}  loss {:.4}  {:.1}% of limit", row.number, row.loss, row.percent_of_limit);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::open(Choice::Best, &Options::default())?; // CUDA, else a GPU through Vulkan, else CPU
    let config = Overrides::preset("hlx-full").with("epochs=5").with("optimizer.lr=1e-3").resolve()?;
    let folder = std::env::temp_dir().join(format!("rondo-example-{}", std::process::id()));
    let mut run = Run::create(&device, config, &folder, Tuning::default())?;
    let (Ending::Finished(summary) | Ending::Interrupted(summary)) = run.train(&AtomicBool::new(false), &mut Print)?;
    println!("{} on {}: parameters {}", summary.preset, summary.device_name, summary.parameters_sha256);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
