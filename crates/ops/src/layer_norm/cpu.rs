//! Layer norm on the CPU: a part normalises several rows; sums run in lanes that are added in a fixed order.
#![expect(unsafe_code, reason = "an output may lie in an input's memory")]

use super::{backward_rows, forward_rows};
use crate::common::cpu::{chunk, input, map_row, output, pointer, sum, sums};
use graph::CpuArgs;

crate::by_architecture!(
    /// The forward kernel for an architecture.
    select,
    forward_plain
);
crate::by_architecture!(
    /// The forward kernel over x + r for an architecture.
    select_residual,
    forward_residual
);
crate::by_architecture!(
    /// The backward kernel for an architecture.
    select_backward,
    backward_plain
);
crate::by_architecture!(
    /// The backward kernel that adds d for an architecture.
    select_backward_residual,
    backward_residual
);

#[inline(always)]
fn forward_plain(args: &CpuArgs, part: usize) {
    forward::<false>(args, part);
}

#[inline(always)]
fn forward_residual(args: &CpuArgs, part: usize) {
    forward::<true>(args, part);
}

/// Operands: x, weight, bias, y, mean, rstd; with a residual x, r, weight, bias, s, y, mean, rstd.
#[inline(always)]
fn forward<const RESIDUAL: bool>(args: &CpuArgs, part: usize) {
    let [rows, n, eps] = *args.words else { unreachable!("the card gives three words") };
    let (rows, n, eps) = (rows as usize, n as usize, f32::from_bits(eps));
    let range = chunk(rows, forward_rows(rows, n), part);
    let (first, y) = if RESIDUAL { (2, 5) } else { (1, 3) };
    let (weight, bias) = (&input::<f32>(args, first)[..n], &input::<f32>(args, first + 1)[..n]);
    let means = output::<f32>(args, y + 1, range.clone());
    let rstds = output::<f32>(args, y + 2, range.clone());
    for (i, row) in range.enumerate() {
        let at = row * n;
        // SAFETY: the row is in bounds by `infer` and this part's alone; y is apart from all inputs.
        let x = unsafe {
            if RESIDUAL {
                add_rows(
                    pointer::<f32>(args, 0).add(at),
                    pointer::<f32>(args, 1).add(at),
                    pointer::<f32>(args, 4).add(at),
                    n,
                );
            }
            std::slice::from_raw_parts(pointer::<f32>(args, if RESIDUAL { 4 } else { 0 }).add(at), n)
        };
        let y = output::<f32>(args, y, at..at + n);
        let mean = sum(x, |x| x) / n as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / n as f32;
        let rstd = 1.0 / (variance + eps).sqrt();
        for j in 0..n {
            y[j] = (x[j] - mean) * rstd * weight[j] + bias[j];
        }
        (means[i], rstds[i]) = (mean, rstd);
    }
}

#[inline(always)]
fn backward_plain(args: &CpuArgs, part: usize) {
    backward::<false>(args, part);
}

#[inline(always)]
fn backward_residual(args: &CpuArgs, part: usize) {
    backward::<true>(args, part);
}

/// Operands: x, weight, mean, rstd, dy, (d,) dx, and the parts' sums of dweight and dbias, a row a part.
#[inline(always)]
fn backward<const RESIDUAL: bool>(args: &CpuArgs, part: usize) {
    let [rows, n] = *args.words else { unreachable!("the card gives two words") };
    let (rows, n) = (rows as usize, n as usize);
    let (means, rstds) = (input::<f32>(args, 2), input::<f32>(args, 3));
    let weight = &input::<f32>(args, 1)[..n];
    let outputs = if RESIDUAL { 6 } else { 5 };
    let dweight = output::<f32>(args, outputs + 1, part * n..(part + 1) * n);
    let dbias = output::<f32>(args, outputs + 2, part * n..(part + 1) * n);
    dweight.fill(0.0);
    dbias.fill(0.0);
    for row in chunk(rows, backward_rows(rows, n), part) {
        let (at, mean, rstd) = (row * n, means[row], rstds[row]);
        let x = &input::<f32>(args, 0)[at..at + n];
        // SAFETY: the row is in bounds by `infer` and this part's alone. dx may be dy, or d where there is one: element
        // over element, and no slice of either is used once dx is written.
        unsafe {
            let (dx, dy) = (pointer::<f32>(args, outputs).add(at), pointer::<f32>(args, 4).add(at));
            let (mean_g, mean_gx) = {
                let dy = std::slice::from_raw_parts(dy, n);
                for j in 0..n {
                    dbias[j] += dy[j];
                    dweight[j] += dy[j] * ((x[j] - mean) * rstd);
                }
                let [g, gx] = sums(dy, weight, x, |dy, weight, x| [dy * weight, dy * weight * (x - mean)]);
                (g / n as f32, gx * (rstd * rstd) / n as f32)
            };
            let dx_of = |j: usize, dy: f32| rstd * (dy * weight[j] - mean_g - (x[j] - mean) * mean_gx);
            if RESIDUAL {
                map_row(pointer::<f32>(args, 5).add(at), dx, n, |j, d| d + dx_of(j, *dy.add(j)));
            } else {
                map_row(dy, dx, n, dx_of);
            }
        }
    }
}

/// s = x + r over a row; s may be either of them.
///
/// # Safety
/// All three are valid for n elements, and s is x, r or apart from both.
#[inline(always)]
unsafe fn add_rows(x: *const f32, r: *const f32, s: *mut f32, n: usize) {
    // SAFETY: by the contract.
    unsafe {
        if std::ptr::eq(r, s) {
            map_row(r, s, n, |j, r| *x.add(j) + r);
        } else {
            map_row(x, s, n, |j, x| x + *r.add(j));
        }
    }
}
