//! Cross-entropy on the CPU: a part reads several rows, in lanes that are added in a fixed order.
#![expect(unsafe_code, reason = "the gradient may lie in the logits' memory")]

use super::rows_of_a_part;
use crate::common::cpu::{chunk, input, output, pointer};
use crate::common::math::exp;
use graph::CpuArgs;

crate::by_architecture!(
    /// The kernel of the rows' losses for an architecture.
    select_rows,
    rows
);
crate::by_architecture!(
    /// The kernel of the mean for an architecture.
    select_mean,
    mean
);
crate::by_architecture!(
    /// The kernel of the gradient for an architecture.
    select_backward,
    backward
);

/// Numbers that are folded side by side.
const LANES: usize = 32;

#[inline(always)]
fn rows(args: &CpuArgs, part: usize) {
    let [tokens, vocab, ignore] = *args.words else { unreachable!("the card gives three words") };
    let vocab_size = vocab as usize;
    let range = chunk(tokens as usize, rows_of_a_part(vocab_size), part);
    let (logits, targets) = (input::<f32>(args, 0), input::<u32>(args, 1));
    let lse = output::<f32>(args, 2, range.clone());
    let losses = output::<f32>(args, 3, range.clone());
    for (i, token) in range.enumerate() {
        let row = &logits[token * vocab_size..(token + 1) * vocab_size];
        let max = fold(row, -f32::MAX, |max, x| if x > max { x } else { max }, |x| x);
        lse[i] = max + fold(row, 0.0, |sum, x| sum + x, |x| exp(x - max)).ln();
        losses[i] = match targets[token] {
            target if target == ignore => 0.0,
            target if target < vocab => lse[i] - row[target as usize],
            _ => f32::NAN,
        };
    }
}

/// `add` over `of` each element: lane by lane, then the lanes in halves.
#[inline(always)]
fn fold(row: &[f32], start: f32, add: impl Fn(f32, f32) -> f32, of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for j in 0..LANES {
            lanes[j] = add(lanes[j], of(chunk[j]));
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = add(*lane, of(*x));
    }
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = add(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn mean(args: &CpuArgs, _: usize) {
    let [_, ignore] = *args.words else { unreachable!("the card gives two words") };
    let count = input::<u32>(args, 1).iter().filter(|&&target| target != ignore).count() as f32;
    let sum = fold(input::<f32>(args, 0), 0.0, |sum, x| sum + x, |x| x);
    output::<f32>(args, 2, 0..1)[0] = if count > 0.0 { sum / count } else { 0.0 };
    output::<f32>(args, 3, 0..1)[0] = count;
}

#[inline(always)]
fn backward(args: &CpuArgs, part: usize) {
    let [tokens, vocab, ignore] = *args.words else { unreachable!("the card gives three words") };
    let vocab_size = vocab as usize;
    let (targets, lse) = (input::<u32>(args, 1), input::<f32>(args, 2));
    let scale = input::<f32>(args, 4)[0] / input::<f32>(args, 3)[0];
    let (logits, dlogits): (*const f32, *mut f32) = (pointer(args, 0), pointer(args, 5));
    for token in chunk(tokens as usize, rows_of_a_part(vocab_size), part) {
        let target = targets[token];
        // SAFETY: the row is in bounds by `infer` and this part's alone. Where both are the same memory, the copy is
        // skipped and `row` is the only way to it.
        let row = unsafe {
            let from = dlogits.add(token * vocab_size);
            if !std::ptr::eq(logits, dlogits) && target < vocab && target != ignore {
                std::ptr::copy_nonoverlapping(logits.add(token * vocab_size), from, vocab_size);
            }
            std::slice::from_raw_parts_mut(from, vocab_size)
        };
        if target == ignore || target >= vocab {
            row.fill(if target == ignore { 0.0 } else { f32::NAN });
            continue;
        }
        let at_target = (exp(row[target as usize] - lse[token]) - 1.0) * scale;
        let lse = lse[token];
        row.iter_mut().for_each(|x| *x = exp(*x - lse) * scale);
        row[target as usize] = at_target;
    }
}
