//! What a device does at best: copies, multiply-adds and launches, timed by its clock.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::core::Core;
use super::memory::{Kind, Slab};
use super::recording::{Dispatch, arguments, own, record_row};
use super::shaders::{self, THREADS};
use crate::Error;
use ash::vk;
use graph::Limits;
use std::rc::Rc;
use std::time::Instant;

/// Runs of each measurement after one that isn't timed; the best counts.
const RUNS: usize = 5;

/// Measures the limits; takes about a second.
pub fn limits(core: &Rc<Core>) -> Result<Limits, Error> {
    Ok(Limits {
        bytes_per_second: bytes_per_second(core)?,
        f32_flops: f32_flops(core)?,
        launch_seconds: launch_seconds(core)?,
    })
}

fn software(core: &Core) -> bool {
    core.physical.spec.has("software")
}

/// The shortest time of several runs of a row of dispatches, in seconds.
fn best(core: &Core, row: &[Dispatch]) -> Result<f64, Error> {
    let info = vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(2);
    let clock = match core.physical.seconds_per_tick {
        Some(_) => {
            // SAFETY: the device is alive, and the pool is destroyed below.
            unsafe { core.device.create_query_pool(&info, None) }.map_err(|e| core.failed("vkCreateQueryPool", e))?
        }
        None => vk::QueryPool::null(),
    };
    let result = record_row(core, row, clock).and_then(|commands| {
        let times = (0..=RUNS).map(|_| time(core, commands, clock)).collect::<Result<Vec<_>, _>>();
        core.free_commands(commands);
        Ok(times?[1..].iter().copied().fold(f64::INFINITY, f64::min))
    });
    // SAFETY: every run has ended; a null handle is ignored.
    unsafe { core.device.destroy_query_pool(clock, None) };
    result
}

/// Seconds of one run: by the device's clock, or by the host's where the device has none.
fn time(core: &Core, commands: vk::CommandBuffer, clock: vk::QueryPool) -> Result<f64, Error> {
    let start = Instant::now();
    core.wait(core.submit(commands)?)?;
    let Some(seconds_per_tick) = core.physical.seconds_per_tick else { return Ok(start.elapsed().as_secs_f64()) };
    let mut ticks = [0_u64; 2];
    let flags = vk::QueryResultFlags::TYPE_64 | vk::QueryResultFlags::WAIT;
    // SAFETY: the pool has two queries, both written by the run that has ended.
    unsafe { core.device.get_query_pool_results(clock, 0, &mut ticks, flags) }
        .map_err(|e| core.failed("vkGetQueryPoolResults", e))?;
    Ok((ticks[1].wrapping_sub(ticks[0]) & core.physical.tick_mask) as f64 * seconds_per_tick)
}

/// Bytes read and written by a copy of 1 GiB, or of less where the memory is small.
fn bytes_per_second(core: &Rc<Core>) -> Result<f64, Error> {
    let spec = &core.physical.spec;
    let bytes = (1 << 30).min(spec.memory_bytes / 16).min(spec.largest_allocation) / 4096 * 4096;
    let from = Slab::new(core, "measuring copies", bytes, Kind::Device)?;
    let to = Slab::new(core, "measuring copies", bytes, Kind::Device)?;
    let quads = (bytes / 16) as u32;
    let row = [own(core, &shaders::COPY, &[1], quads, arguments(&[from.address, to.address], &[quads]))?];
    Ok(2.0 * bytes as f64 / best(core, &row)?)
}

/// Multiply-adds of all units, each counted as two operations.
fn f32_flops(core: &Rc<Core>) -> Result<f64, Error> {
    let (groups, count) = if software(core) { (core.physical.spec.units * 8, 64) } else { (4096, 256) };
    let threads = groups * THREADS;
    let sums = Slab::new(core, "measuring multiply-adds", u64::from(threads) * 4, Kind::Device)?;
    let data = arguments(&[sums.address], &[count, 0.5_f32.to_bits()]);
    let row = [own(core, &shaders::MULTIPLY_ADD, &[], threads, data)?];
    Ok(f64::from(threads) * f64::from(count) * 16.0 * 16.0 * 2.0 / best(core, &row)?)
}

/// Time of one launch in a chain of them.
fn launch_seconds(core: &Rc<Core>) -> Result<f64, Error> {
    const LENGTH: usize = 256;
    let out = Slab::new(core, "measuring launches", 16, Kind::Device)?;
    let fill = || own(core, &shaders::FILL, &[], 1, arguments(&[out.address], &[1, 0]));
    let row = (0..LENGTH).map(|_| fill()).collect::<Result<Vec<_>, _>>()?;
    Ok(best(core, &row)? / LENGTH as f64)
}
