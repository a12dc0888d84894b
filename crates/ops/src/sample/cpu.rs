//! Sampling on the CPU: a part has one row; bounds are found by halving between numbers, ordered as their bits are.

use super::{LEAST_TEMPERATURE, LOWEST};
use crate::common::cpu::{input, output};
use crate::common::math::exp;
use graph::CpuArgs;
use tensor::rng::{philox4x32, unit};

/// Numbers that are folded side by side.
const LANES: usize = 64;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

#[inline(always)]
fn body(args: &CpuArgs, row: usize) {
    let vocab = args.words[1] as usize;
    let logits = &input::<f32>(args, 0)[row * vocab..(row + 1) * vocab];
    let float = |i: usize| input::<f32>(args, i)[row];
    let word = |i: usize| input::<u32>(args, i)[row];
    let max = fold(logits, f32::NEG_INFINITY, |max, x| if x > max { x } else { max });
    let answer = if max == f32::NEG_INFINITY {
        0
    } else if float(1) <= 0.0 || float(1).is_nan() {
        first_of(logits, max)
    } else {
        let temperature = float(1).max(LEAST_TEMPERATURE);
        let mass = output::<f32>(args, 8, row * vocab..(row + 1) * vocab);
        for (mass, &x) in mass.iter_mut().zip(logits) {
            let below = (x - max) / temperature;
            // Also false for a NaN.
            let weight = if below > LOWEST { exp(below) } else { 0.0 };
            *mass = if x == max { 1.0 } else { weight };
        }
        filter(logits, max, mass, word(2), float(3), float(4));
        let seed = &input::<u32>(args, 5)[2 * row..2 * row + 2];
        let uniform = unit(philox4x32([word(6), 0, 0, 0], [seed[0], seed[1]])[0]);
        find(mass, uniform).unwrap_or_else(|| first_of(logits, max))
    };
    output::<u32>(args, 7, row..row + 1)[0] = answer as u32;
}

fn first_of(logits: &[f32], max: f32) -> usize {
    logits.iter().position(|&x| x == max).unwrap_or(0)
}

/// Takes the mass of what the filters leave out.
#[inline(always)]
fn filter(logits: &[f32], max: f32, mass: &mut [f32], top_k: u32, top_p: f32, min_p: f32) {
    if top_k > 0 && (top_k as usize) < logits.len() {
        let bound = greatest_bound(max, Enough::Tokens { logits, count: top_k });
        keep_from(logits, mass, bound);
    }
    if top_p < 1.0 {
        let enough = top_p.max(0.0) * fold(mass, 0.0, |sum, x| sum + x);
        let bound = greatest_bound(max, Enough::Mass { logits, mass, sum: enough });
        keep_from(logits, mass, bound);
    }
    let least = if min_p > 0.0 { min_p.min(1.0) } else { 0.0 };
    for mass in mass.iter_mut() {
        *mass = if *mass < least { 0.0 } else { *mass };
    }
}

/// What a bound on the logits must leave. No closure, which would not be compiled for the instruction set of its caller.
enum Enough<'a> {
    Tokens { logits: &'a [f32], count: u32 },
    Mass { logits: &'a [f32], mass: &'a [f32], sum: f32 },
}

impl Enough<'_> {
    /// Whether a bound leaves enough, and how many logits it leaves.
    #[inline(always)]
    fn left_by(&self, bound: f32) -> (bool, u32) {
        match *self {
            Enough::Tokens { logits, count } => {
                let left = count_from(logits, bound);
                (left >= count, left)
            }
            Enough::Mass { logits, mass, sum } => {
                let (mass, left) = mass_from(logits, mass, bound);
                // Nothing is enough of nothing: at least the largest stays.
                (mass >= sum && left > 0, left)
            }
        }
    }
}

/// A bound that leaves what the greatest one leaves that leaves enough; `max` is the largest logit.
#[inline(always)]
fn greatest_bound(max: f32, enough: Enough) -> f32 {
    // From -infinity on all are left, and above the largest none.
    let (mut good, mut bad) = (key_of(f32::NEG_INFINITY), key_of(max) + 1);
    let (mut left, mut beyond) = (u32::MAX, 0);
    // Until nothing lies between the two, or one logit.
    while bad - good > 1 && left - beyond > 1 {
        let middle = good + (bad - good) / 2;
        match enough.left_by(of_key(middle)) {
            (true, count) => (good, left) = (middle, count),
            (false, count) => (bad, beyond) = (middle, count),
        }
    }
    of_key(good)
}

/// Keys of numbers are in their order, from that of -infinity to that of infinity.
fn key_of(number: f32) -> u32 {
    let bits = number.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

/// The number of a key.
fn of_key(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & 0x7fff_ffff } else { !key })
}

/// How many logits are at least `bound`.
#[inline(always)]
fn count_from(logits: &[f32], bound: f32) -> u32 {
    let mut counts = [0u32; LANES];
    let (chunks, rest) = logits.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            counts[lane] += u32::from(chunk[lane] >= bound);
        }
    }
    counts.iter().sum::<u32>() + rest.iter().filter(|x| **x >= bound).count() as u32
}

/// The mass of the logits that are at least `bound`, and their number.
#[inline(always)]
fn mass_from(logits: &[f32], mass: &[f32], bound: f32) -> (f32, u32) {
    let (mut sums, mut counts) = ([0.0f32; LANES], [0u32; LANES]);
    let ((chunks, rest), (masses, rest_mass)) = (logits.as_chunks::<LANES>(), mass.as_chunks::<LANES>());
    // Whole arrays, or the lanes aren't taken together.
    for (chunk, mass) in chunks.iter().zip(masses) {
        for lane in 0..LANES {
            let taken = chunk[lane] >= bound;
            sums[lane] += if taken { mass[lane] } else { 0.0 };
            counts[lane] += u32::from(taken);
        }
    }
    for (lane, (&x, &mass)) in rest.iter().zip(rest_mass).enumerate() {
        sums[lane] += if x >= bound { mass } else { 0.0 };
        counts[lane] += u32::from(x >= bound);
    }
    (halves(sums, |a, b| a + b), counts.iter().sum())
}

#[inline(always)]
fn keep_from(logits: &[f32], mass: &mut [f32], bound: f32) {
    for (mass, &x) in mass.iter_mut().zip(logits) {
        *mass = if x < bound { 0.0 } else { *mass };
    }
}

/// The first place where the sum of masses is above that share of the whole; else the last one with a mass.
#[inline(always)]
fn find(mass: &[f32], uniform: f32) -> Option<usize> {
    const CHUNK: usize = 1024;
    let total: f32 = mass.chunks(CHUNK).map(|chunk| fold(chunk, 0.0, |sum, x| sum + x)).sum();
    let target = uniform * total;
    let (mut before, mut last) = (0.0, None);
    for (n, chunk) in mass.chunks(CHUNK).enumerate() {
        let after = before + fold(chunk, 0.0, |sum, x| sum + x);
        if after > target {
            let mut sum = before;
            for (i, &mass) in chunk.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
                sum += mass;
                last = Some(n * CHUNK + i);
                if sum > target {
                    break;
                }
            }
            return last;
        }
        before = after;
    }
    mass.iter().rposition(|&mass| mass > 0.0)
}

/// All in one, lane by lane, then the lanes in halves.
#[inline(always)]
fn fold(row: &[f32], start: f32, with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for j in 0..LANES {
            lanes[j] = with(lanes[j], chunk[j]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = with(*lane, x);
    }
    halves(lanes, with)
}

#[inline(always)]
fn halves(mut lanes: [f32; LANES], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = with(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}
