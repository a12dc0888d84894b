//! This machine's processor: what it is, and what it does at best, measured on request.
#![expect(unsafe_code, reason = "instruction sets are entered after they are detected")]

use graph::{Limits, Spec};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// The best instruction set that this processor has and Rondo knows.
pub fn architecture() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq");
        if has_avx2 && has_avx512 {
            return "avx512";
        }
        if has_avx2 {
            return "avx2";
        }
    }
    "portable"
}

/// The processor's name as the system tells it.
pub fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// What such a processor does, before it is measured: two multiply-adds a cycle at 4 GHz, and 40 GB/s a core.
pub fn cpu_estimate(threads: usize, architecture: &str) -> Limits {
    let lanes = match architecture {
        "avx512" => 16.0,
        "avx2" => 8.0,
        _ => 4.0,
    };
    let threads = threads as f64;
    Limits { bytes_per_second: 40e9 * threads, f32_flops: threads * lanes * 4.0 * 4e9, launch_seconds: 2e-7 }
}

/// What the processor does at best with the spec's threads and instruction set, measured in about half a second;
/// `launch_seconds` is its estimate.
pub fn cpu_limits(spec: &Spec) -> Limits {
    let threads = spec.units as usize;
    Limits {
        bytes_per_second: best_of(threads, 5, copied_bytes),
        f32_flops: best_of(threads, 20, |start| multiply_adds(&spec.architecture, start)),
        ..spec.limits
    }
}

/// The largest total rate over several rounds in which every thread does `work`: it waits for the common start, and
/// answers how much it did and in how many seconds.
fn best_of(threads: usize, rounds: usize, work: impl Fn(&Barrier) -> (f64, f64) + Sync) -> f64 {
    let mut best: f64 = 0.0;
    let start = Barrier::new(threads);
    for _ in 0..rounds {
        let rate = std::thread::scope(|scope| {
            let (work, start) = (&work, &start);
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(move || work(start))).collect();
            let done: Vec<_> = running.into_iter().map(|t| t.join().expect("the probe does not panic")).collect();
            let longest = done.iter().map(|d| d.1).fold(0.0, f64::max);
            done.iter().map(|d| d.0).sum::<f64>() / longest
        });
        best = best.max(rate);
    }
    best
}

/// Bytes read and written by copying a buffer larger than the caches, and the seconds it took.
fn copied_bytes(common_start: &Barrier) -> (f64, f64) {
    const WORDS: usize = 8 << 20;
    let from = vec![1u64; WORDS];
    // Written before the copy, so that its pages are there.
    let mut to = vec![2u64; WORDS];
    common_start.wait();
    let start = Instant::now();
    to.copy_from_slice(black_box(&from));
    black_box(&to);
    ((2 * WORDS * 8) as f64, start.elapsed().as_secs_f64())
}

/// Floating-point operations of a loop of independent multiply-adds, and the seconds it took.
fn multiply_adds(architecture: &str, common_start: &Barrier) -> (f64, f64) {
    const ROUNDS: usize = 200_000;
    common_start.wait();
    match architecture {
        #[cfg(target_arch = "x86_64")]
        "avx512" => {
            let start = Instant::now();
            // SAFETY: the spec's architecture was detected.
            unsafe { x86::avx512(ROUNDS) };
            ((ROUNDS * 24 * 16 * 2) as f64, start.elapsed().as_secs_f64())
        }
        #[cfg(target_arch = "x86_64")]
        "avx2" => {
            let start = Instant::now();
            // SAFETY: the spec's architecture was detected.
            unsafe { x86::avx2(ROUNDS) };
            ((ROUNDS * 12 * 8 * 2) as f64, start.elapsed().as_secs_f64())
        }
        _ => {
            let start = Instant::now();
            let mut sums = [1.0f32; 48];
            let (a, b) = (black_box(0.999f32), black_box(0.001f32));
            for _ in 0..ROUNDS {
                sums.iter_mut().for_each(|s| *s = *s * a + b);
            }
            black_box(sums);
            ((ROUNDS * 48 * 2) as f64, start.elapsed().as_secs_f64())
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub fn avx512(rounds: usize) {
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
        let mut sums = [b; 24];
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm512_fmadd_ps(*s, a, b);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(rounds: usize) {
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
        let mut sums = [b; 12];
        for _ in 0..rounds {
            for s in &mut sums {
                *s = _mm256_fmadd_ps(*s, a, b);
            }
        }
        black_box(sums);
    }
}
