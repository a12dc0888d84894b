//! Adam on the CPU: a part updates a run of elements in place, four streams in and three out.
#![expect(unsafe_code, reason = "outputs may lie in the inputs' memory")]

use super::CPU_CHUNK;
use crate::common::cpu::{chunk, input, output, pointer};
use graph::CpuArgs;
use std::ops::Range;

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

/// y = applied + finite; y may be `applied`.
pub fn advance(args: &CpuArgs, _: usize) {
    let (applied, finite, y): (*const u32, *const u32, *mut u32) =
        (pointer(args, 0), pointer(args, 1), pointer(args, 2));
    // SAFETY: each is one word, by the card.
    unsafe { *y = applied.read().wrapping_add(finite.read()) }
}

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let range = chunk(args.words[0] as usize, CPU_CHUNK, part);
    let p = in_place(args, 0, 8, range.clone());
    let m = in_place(args, 2, 9, range.clone());
    let v = in_place(args, 3, 10, range.clone());
    if input::<u32>(args, 7)[0] == 0 {
        return;
    }
    let g = &input::<f32>(args, 1)[range];
    let [one_minus_beta1, ln_beta1, beta2, one_minus_beta2, ln_beta2, eps, decay, _, max_norm] =
        std::array::from_fn(|i| f32::from_bits(args.words[i + 1]));
    let decoupled = args.words[8] == 1;
    let (lr, applied) = (input::<f32>(args, 4)[0], input::<u32>(args, 5)[0] as f32);
    let clip = if max_norm > 0.0 { (max_norm / (input::<f32>(args, 6)[0] + 1e-6)).min(1.0) } else { 1.0 };
    let clip = clip / input::<f32>(args, 6).get(1).copied().unwrap_or(1.0);
    let step = lr / correction(applied * ln_beta1);
    let scale = 1.0 / correction(applied * ln_beta2).sqrt();
    let (keep, decay) = if decoupled { (1.0 - lr * decay, 0.0) } else { (1.0, decay) };
    for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
        let g = *g * clip + decay * *p;
        *m += one_minus_beta1 * (g - *m);
        *v = beta2 * *v + one_minus_beta2 * g * g;
        *p = *p * keep - step * (*m / (v.sqrt() * scale + eps));
    }
}

/// Output `o` over a range, holding what input `i` holds there.
#[inline(always)]
fn in_place<'a>(args: &CpuArgs<'a>, i: usize, o: usize, range: Range<usize>) -> &'a mut [f32] {
    let (from, to): (*const f32, *mut f32) = (pointer(args, i), pointer(args, o));
    if !std::ptr::eq(from, to) {
        // SAFETY: the output is another tensor's memory, and the range is in bounds of both by `infer`.
        unsafe { std::ptr::copy_nonoverlapping(from.add(range.start), to.add(range.start), range.len()) };
    }
    output(args, o, range)
}

/// 1 - e^x for x <= 0, without losing digits near 0.
fn correction(x: f32) -> f32 {
    if x > -0.25 {
        // x + x^2/2! + ... + x^7/7!
        let p = 1.0 / 5040.0;
        let p = p * x + 1.0 / 720.0;
        let p = p * x + 1.0 / 120.0;
        let p = p * x + 1.0 / 24.0;
        let p = p * x + 1.0 / 6.0;
        let p = p * x + 0.5;
        let p = p * x + 1.0;
        -(p * x)
    } else {
        1.0 - x.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_keep_their_digits() {
        for beta in [0.5f64, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999] {
            for applied in (1..40).chain([100, 1000, 10_000, 1_000_000]) {
                let x = applied as f32 * beta.ln() as f32;
                let want = -(f64::from(applied) * f64::from(beta.ln() as f32)).exp_m1();
                assert!((f64::from(correction(x)) / want - 1.0).abs() < 3e-7, "{beta} {applied}");
            }
        }
    }
}
