//! What a GPU does at best: copies, multiply-adds and launches, timed by events.

use super::driver::{DeviceMemory, Gpu};
use super::handles::Event;
use super::work::{Work, chain, own_kernel, prepare};
use crate::Error;
use graph::{Kernel, Limits};
use std::rc::Rc;

/// Runs of each measurement; the best counts.
const RUNS: usize = 5;

/// Measures the limits; takes well under a second.
pub fn limits(gpu: &Rc<Gpu>) -> Result<Limits, Error> {
    gpu.enter()?;
    Ok(Limits {
        bytes_per_second: bytes_per_second(gpu)?,
        f32_flops: f32_flops(gpu)?,
        launch_seconds: launch_seconds(gpu)?,
    })
}

/// The shortest of several runs in seconds, after one that isn't timed.
fn best(gpu: &Rc<Gpu>, mut run: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let (from, to) = (Event::new(gpu, true)?, Event::new(gpu, true)?);
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        from.record(gpu)?;
        run()?;
        to.record(gpu)?;
        gpu.synchronize()?;
        best = best.min(from.seconds_until(gpu, &to)?);
    }
    Ok(best)
}

/// Bytes read and written by a copy of 1 GiB, or of less where the memory is small.
fn bytes_per_second(gpu: &Rc<Gpu>) -> Result<f64, Error> {
    let bytes = (1_u64 << 30).min(gpu.spec.memory_bytes / 8).next_multiple_of(256);
    let from = DeviceMemory::new(gpu, "measuring copies", bytes)?;
    let to = DeviceMemory::new(gpu, "measuring copies", bytes)?;
    let vectors = (bytes / 16) as u32;
    let groups = [gpu.spec.units * 16, 1, 1];
    let kernel = Kernel { groups, threads: 512, ..own_kernel("step_copy", 2, vec![vectors], vectors) };
    let ours = prepare(gpu, &kernel, &[from.address(), to.address()])?;
    let drivers = Work::Copy { from: from.address(), to: to.address(), bytes: bytes as usize };
    let seconds = best(gpu, || ours.launch(gpu))?.min(best(gpu, || drivers.launch(gpu))?);
    Ok(2.0 * bytes as f64 / seconds)
}

/// Multiply-adds by every unit, each counted as two operations.
fn f32_flops(gpu: &Rc<Gpu>) -> Result<f64, Error> {
    let out = DeviceMemory::new(gpu, "measuring multiply-adds", 4)?;
    let rounds = 1000_u32;
    let groups = [gpu.spec.units * 8, 1, 1];
    let words = vec![rounds, 0.5_f32.to_bits()];
    let kernel = Kernel { groups, ..own_kernel("step_multiply_adds", 1, words, 0) };
    let multiply_adds = prepare(gpu, &kernel, &[out.address()])?;
    let seconds = best(gpu, || multiply_adds.launch(gpu))?;
    let threads = f64::from(groups[0]) * f64::from(kernel.threads);
    Ok(threads * f64::from(rounds) * 256.0 * 2.0 / seconds)
}

/// Time of one launch in a chain of them.
fn launch_seconds(gpu: &Rc<Gpu>) -> Result<f64, Error> {
    const LENGTH: usize = 256;
    let chain = chain(gpu, LENGTH)?;
    Ok(best(gpu, || chain.launch())? / LENGTH as f64)
}
