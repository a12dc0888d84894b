//! Rotary positions on the CPU: a part turns several rows, some dimensions of all heads at a time.
#![expect(unsafe_code, reason = "y may lie in x's memory")]

use super::part_rows;
use crate::common::cpu::{chunk, input, pointer};
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

/// Pairs of dimensions that are turned at a time.
const STRIP: usize = 64;
/// 1 / (2 pi) in units of 2^-64: how far the first pair of dimensions turns from one position to the next.
const FIRST: u64 = 0x28be_60db_9391_054a;

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let [tokens, columns, heads, half, high, low, backwards, ref scaling @ ..] = *args.words else {
        unreachable!("the card gives sixteen words")
    };
    let scaling = Scaling::of(scaling);
    let (tokens, columns) = (tokens as usize, columns as usize);
    let (heads, half) = (heads as usize, half as usize);
    let ratio = u64::from(high) << 32 | u64::from(low);
    let sign = if backwards == 1 { -1.0 } else { 1.0 };
    let (x, y): (*const f32, *mut f32) = (pointer(args, 0), pointer(args, 2));
    let positions = input::<u32>(args, 1);
    let rows = chunk(tokens, part_rows(tokens, columns), part);
    for from in (0..half).step_by(STRIP) {
        let pairs = STRIP.min(half - from);
        let mut frequencies = [0u64; STRIP];
        for (i, frequency) in frequencies[..pairs].iter_mut().enumerate() {
            *frequency = scaling.scaled(frequency_of(ratio, (from + i) as u32));
        }
        for row in rows.clone() {
            let (mut cos, mut sin) = ([0.0f32; STRIP], [0.0f32; STRIP]);
            for i in 0..pairs {
                let turn = (frequencies[i].wrapping_mul(u64::from(positions[row])) >> 32) as u32;
                (cos[i], sin[i]) = cos_sin(turn);
                sin[i] *= sign;
            }
            for head in 0..heads {
                let at = row * columns + head * 2 * half + from;
                let (mut a, mut b) = ([0.0f32; STRIP], [0.0f32; STRIP]);
                // SAFETY: the row is in bounds by `infer` and this part's alone; y is x or apart from it, and the pairs are
                // read before they are written.
                let (first, second) = unsafe {
                    std::ptr::copy_nonoverlapping(x.add(at), a.as_mut_ptr(), pairs);
                    std::ptr::copy_nonoverlapping(x.add(at + half), b.as_mut_ptr(), pairs);
                    let slice = |at| std::slice::from_raw_parts_mut(y.add(at), pairs);
                    (slice(at), slice(at + half))
                };
                for i in 0..pairs {
                    first[i] = a[i] * cos[i] - b[i] * sin[i];
                    second[i] = b[i] * cos[i] + a[i] * sin[i];
                }
            }
        }
    }
    if std::ptr::eq(x, y) {
        return;
    }
    let turned = heads * 2 * half;
    for row in rows {
        let at = row * columns + turned;
        // SAFETY: as above; y isn't x, so they are apart.
        unsafe { std::ptr::copy_nonoverlapping(x.add(at), y.add(at), columns - turned) };
    }
}

/// The high half of a product.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// The words of the card's scaling.
struct Scaling {
    slow: u64,
    fast: u64,
    least: u64,
    slope: u64,
    shift: u32,
}

impl Scaling {
    #[inline(always)]
    fn of(words: &[u32]) -> Scaling {
        let pair = |i: usize| u64::from(words[2 * i]) << 32 | u64::from(words[2 * i + 1]);
        Scaling { slow: pair(0), fast: pair(1), least: pair(2), slope: pair(3), shift: words[8] }
    }

    #[inline(always)]
    fn scaled(&self, frequency: u64) -> u64 {
        if frequency >= self.fast {
            return frequency;
        }
        let above = frequency.saturating_sub(self.slow) << self.shift;
        product(frequency, self.least + (product(above, self.slope) << 1))
    }
}

/// How far pair `i` turns from one position to the next: FIRST x ratio^i, in units of 2^-64 of a turn.
#[inline(always)]
fn frequency_of(ratio: u64, mut i: u32) -> u64 {
    let (mut frequency, mut power) = (FIRST, ratio);
    while i > 0 {
        if i & 1 == 1 {
            frequency = product(frequency, power);
        }
        power = product(power, power);
        i >>= 1;
    }
    frequency
}

/// Cosine and sine of an angle in units of 2^-32 of a turn: polynomials around the nearest quarter.
#[inline(always)]
fn cos_sin(turn: u32) -> (f32, f32) {
    let quarter = turn.wrapping_add(1 << 29) >> 30;
    let x = turn.wrapping_sub(quarter << 30) as i32 as f32 * 1.462_918_1e-9;
    let u = x * x;
    let s = x + x * u * (-1.666_666_7e-1 + u * (8.333_334e-3 + u * (-1.984_127e-4 + u * 2.755_731_9e-6)));
    let c = 1.0 + u * (-0.5 + u * (4.166_666_8e-2 + u * (-1.388_888_9e-3 + u * (2.480_158_7e-5 + u * -2.755_732e-7))));
    let (a, b) = if quarter & 1 == 1 { (s, c) } else { (c, s) };
    let negative = |flag: bool, v: f32| if flag { -v } else { v };
    (negative((quarter + 1) & 2 == 2, a), negative(quarter & 2 == 2, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_and_sine_are_right_all_around() {
        for k in 0..100_003u32 {
            let turn = k.wrapping_mul(42_949);
            let angle = f64::from(turn) * std::f64::consts::TAU / 2f64.powi(32);
            let (c, s) = cos_sin(turn);
            assert!((f64::from(c) - angle.cos()).abs() < 1.2e-7, "cos of {angle}: {c}");
            assert!((f64::from(s) - angle.sin()).abs() < 1.2e-7, "sin of {angle}: {s}");
        }
    }
}
