//! Times block formats: tensors in memory decoded to bf16 and encoded from f16 on all cores, against the rate of a copy that is
//! measured in turns with them.

use crate::stats::Stats;
use graph::Limits;
use serde::Serialize;
use std::time::Instant;
use tensor::DType;
use tensor::quant::transcode::Transcode;
use tensor::quant::{Format, format};
use tensor::rng::Philox;

/// Numbers that are decoded: more than caches hold.
const DECODED: usize = 1 << 26;
/// Numbers that are encoded, which takes longer.
const ENCODED: usize = 1 << 23;
/// Different numbers; a longer tensor repeats them.
const DRAWN: usize = 1 << 20;
/// Runs that count, and the seconds after which fewer are enough.
const RUNS: usize = 15;
const ENOUGH_SECONDS: f64 = 2.0;

/// A direction of a format with its time.
#[derive(Clone, Debug, Serialize)]
pub struct Timing {
    /// What is read.
    pub from: &'static str,
    /// What is written.
    pub to: &'static str,
    /// How many numbers.
    pub elements: usize,
    /// Milliseconds a run.
    pub milliseconds: Stats,
    /// Bytes read and written over the median time, in GB/s.
    pub gigabytes_per_second: f64,
    /// Billions of numbers a second.
    pub giganumbers_per_second: f64,
    /// Bytes read and written by a copy on as many threads, in GB/s: the median of runs in turns with those above.
    pub copy_gigabytes_per_second: f64,
    /// The rate over the copy's.
    pub percent_of_copy: f64,
    /// The rate over the best that this machine was ever measured at, which others on it may keep out of reach.
    pub percent_of_limit: f64,
}

/// Times a format on so many threads: to bf16, and blocks that can be written from f16.
///
/// # Errors
/// When it has no numbers to convert, as integers.
pub fn time(dtype: DType, threads: usize, limits: &Limits) -> Result<Vec<Timing>, String> {
    let find =
        |dtype: DType| format(dtype).ok_or_else(|| format!("{dtype} is no format of numbers that can be decoded"));
    let (this, bf16, f16) = (find(dtype)?, find(DType::Bf16)?, find(DType::F16)?);
    let mut timings = Vec::new();
    if dtype != DType::Bf16 {
        timings.push(run(this, bf16, DECODED, threads, limits)?);
    }
    if this.encodes() && dtype.block_elements() > 1 {
        timings.push(run(f16, this, ENCODED, threads, limits)?);
    }
    Ok(timings)
}

fn run(
    from: &'static Format,
    to: &'static Format,
    elements: usize,
    threads: usize,
    limits: &Limits,
) -> Result<Timing, String> {
    let bytes_of = |format: &Format, elements: usize| {
        format
            .dtype
            .bytes(elements)
            .ok_or_else(|| format!("{elements} numbers are not whole blocks of {}", format.dtype))
    };
    let mut drawn = vec![0; bytes_of(from, DRAWN)?];
    if from.encodes() {
        let mut numbers = vec![0f32; DRAWN];
        Philox::new(0, "formats").fill_normal(&mut numbers, 0.0, 0.02);
        from.encode(&numbers, None, &mut drawn)?;
    } else {
        // Bytes that mean finite numbers in every format.
        drawn.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 97) as u8);
    }
    let source = drawn.repeat(elements / DRAWN);
    let mut out = vec![0u8; bytes_of(to, elements)?];
    let work = Transcode { from, to, importance: None, threads };
    // Once for the pages of `out`.
    work.run(&source, &mut out).map_err(|e| e.to_string())?;
    let bf16 = format(DType::Bf16).ok_or("bf16 can't be decoded")?;
    let copy = Transcode { from: bf16, to: bf16, importance: None, threads };
    let (original, mut copied) = (vec![1u8; 2 * DECODED], vec![2u8; 2 * DECODED]);
    let timed = |work: &Transcode, from: &[u8], to: &mut [u8]| {
        let start = Instant::now();
        work.run(from, to).map(|()| start.elapsed().as_secs_f64() * 1e3).map_err(|e| e.to_string())
    };
    let (begun, mut runs, mut copies) = (Instant::now(), Vec::new(), Vec::new());
    while runs.len() < RUNS && (runs.len() < 3 || begun.elapsed().as_secs_f64() < ENOUGH_SECONDS) {
        runs.push(timed(&work, &source, &mut out)?);
        copies.push(timed(&copy, &original, &mut copied)?);
    }
    let milliseconds = Stats::of(&runs).ok_or("nothing was measured")?;
    let rate = |bytes: usize, milliseconds: f64| bytes as f64 / (milliseconds / 1e3);
    let copy = rate(original.len() + copied.len(), Stats::of(&copies).ok_or("nothing was measured")?.median);
    let rate = rate(source.len() + out.len(), milliseconds.median);
    Ok(Timing {
        from: from.dtype.name(),
        to: to.dtype.name(),
        elements,
        milliseconds,
        gigabytes_per_second: rate / 1e9,
        giganumbers_per_second: elements as f64 / (milliseconds.median * 1e6),
        copy_gigabytes_per_second: copy / 1e9,
        percent_of_copy: 100.0 * rate / copy,
        percent_of_limit: 100.0 * rate / limits.bytes_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_rates() {
        let limits = Limits { bytes_per_second: 1e10, f32_flops: 1e10, launch_seconds: 1e-6 };
        let from = format(DType::Q4_0).expect("it is there");
        let to = format(DType::Bf16).expect("it is there");
        let timing = run(from, to, DRAWN, 2, &limits).expect("whole blocks");
        assert_eq!((timing.from, timing.to, timing.elements), ("q4_0", "bf16", DRAWN));
        let moved = DRAWN as f64 * (2.0 + 18.0 / 32.0);
        let expected = moved / (timing.milliseconds.median * 1e6);
        assert!((timing.gigabytes_per_second / expected - 1.0).abs() < 1e-9);
        assert!(timing.copy_gigabytes_per_second > 0.0 && timing.percent_of_copy > 0.0);
        assert!((timing.percent_of_limit / (expected * 10.0) - 1.0).abs() < 1e-9);
        assert!(time(DType::I32, 1, &limits).is_err());
    }
}
