//! Layer norm and RMS norm on the CPU: a part normalises several rows; sums run in lanes that are added in a fixed order.
#![expect(unsafe_code, reason = "an output may lie in an input's memory")]

use super::{backward_rows, forward_rows};
use crate::common::cpu::{chunk, input, map_row, output, pointer, sum, sums};
use graph::CpuArgs;

/// The kernels of one norm: layer norm, or RMS norm, where nothing is subtracted and there is no bias.
macro_rules! kernels {
    ($module:ident $forward:ident $residual:ident $backward:ident $backward_residual:ident centred $centred:literal) => {
        mod $module {
            use graph::CpuArgs;

            #[inline(always)]
            fn forward_plain(args: &CpuArgs, part: usize) {
                super::forward::<false, $centred>(args, part);
            }
            #[inline(always)]
            fn forward_residual(args: &CpuArgs, part: usize) {
                super::forward::<true, $centred>(args, part);
            }
            #[inline(always)]
            fn backward_plain(args: &CpuArgs, part: usize) {
                super::backward::<false, $centred>(args, part);
            }
            #[inline(always)]
            fn backward_residual(args: &CpuArgs, part: usize) {
                super::backward::<true, $centred>(args, part);
            }
            crate::by_architecture!(
                /// The forward kernel for an architecture.
                $forward,
                forward_plain
            );
            crate::by_architecture!(
                /// The forward kernel over x + r for an architecture.
                $residual,
                forward_residual
            );
            crate::by_architecture!(
                /// The backward kernel for an architecture.
                $backward,
                backward_plain
            );
            crate::by_architecture!(
                /// The backward kernel that adds d for an architecture.
                $backward_residual,
                backward_residual
            );
        }
        pub use $module::{$backward, $backward_residual, $forward, $residual};
    };
}

kernels!(layer select select_residual select_backward select_backward_residual centred true);
kernels!(rms select_rms select_rms_residual select_rms_backward select_rms_backward_residual centred false);

/// Operands: x, (r,) weight, bias, (s,) y, mean, rstd; bias and mean only where the rows are centred.
#[inline(always)]
fn forward<const RESIDUAL: bool, const CENTRED: bool>(args: &CpuArgs, part: usize) {
    let [rows, n, eps] = *args.words else { unreachable!("the card gives three words") };
    let (rows, n, eps) = (rows as usize, n as usize, f32::from_bits(eps));
    let range = chunk(rows, forward_rows(rows, n), part);
    let first = if RESIDUAL { 2 } else { 1 };
    let s = first + if CENTRED { 2 } else { 1 };
    let y = if RESIDUAL { s + 1 } else { s };
    let weight = &input::<f32>(args, first)[..n];
    let bias = if CENTRED { &input::<f32>(args, first + 1)[..n] } else { &[][..] };
    let means = if CENTRED { output::<f32>(args, y + 1, range.clone()) } else { &mut [][..] };
    let rstds = output::<f32>(args, if CENTRED { y + 2 } else { y + 1 }, range.clone());
    for (i, row) in range.enumerate() {
        let at = row * n;
        // SAFETY: the row is in bounds by `infer` and this part's alone; y is apart from all inputs.
        let x = unsafe {
            if RESIDUAL {
                add_rows(
                    pointer::<f32>(args, 0).add(at),
                    pointer::<f32>(args, 1).add(at),
                    pointer::<f32>(args, s).add(at),
                    n,
                );
            }
            std::slice::from_raw_parts(pointer::<f32>(args, if RESIDUAL { s } else { 0 }).add(at), n)
        };
        let y = output::<f32>(args, y, at..at + n);
        let mean = if CENTRED { sum(x, |x| x) / n as f32 } else { 0.0 };
        let variance = sum(x, |x| (x - mean) * (x - mean)) / n as f32;
        let rstd = 1.0 / (variance + eps).sqrt();
        rstds[i] = rstd;
        if CENTRED {
            means[i] = mean;
            for j in 0..n {
                y[j] = (x[j] - mean) * rstd * weight[j] + bias[j];
            }
        } else {
            for j in 0..n {
                y[j] = x[j] * rstd * weight[j];
            }
        }
    }
}

/// Operands: x, weight, mean, rstd, dy, (d,) dx, and the parts' sums of dweight and dbias, a row a part; mean and dbias only
/// where the rows are centred.
#[inline(always)]
fn backward<const RESIDUAL: bool, const CENTRED: bool>(args: &CpuArgs, part: usize) {
    let [rows, n] = *args.words else { unreachable!("the card gives two words") };
    let (rows, n) = (rows as usize, n as usize);
    let rstd_at = if CENTRED { 3 } else { 2 };
    let means = if CENTRED { input::<f32>(args, 2) } else { &[][..] };
    let rstds = input::<f32>(args, rstd_at);
    let weight = &input::<f32>(args, 1)[..n];
    let outputs = rstd_at + if RESIDUAL { 3 } else { 2 };
    let dweight = output::<f32>(args, outputs + 1, part * n..(part + 1) * n);
    let dbias = if CENTRED { output::<f32>(args, outputs + 2, part * n..(part + 1) * n) } else { &mut [][..] };
    dweight.fill(0.0);
    dbias.fill(0.0);
    for row in chunk(rows, backward_rows(rows, n), part) {
        let (at, mean, rstd) = (row * n, if CENTRED { means[row] } else { 0.0 }, rstds[row]);
        let x = &input::<f32>(args, 0)[at..at + n];
        // SAFETY: the row is in bounds by `infer` and this part's alone. dx may be dy, or d where there is one: element
        // over element, and no slice of either is used once dx is written.
        unsafe {
            let (dx, dy) = (pointer::<f32>(args, outputs).add(at), pointer::<f32>(args, rstd_at + 1).add(at));
            let (mean_g, mean_gx) = {
                let dy = std::slice::from_raw_parts(dy, n);
                for j in 0..n {
                    if CENTRED {
                        dbias[j] += dy[j];
                    }
                    dweight[j] += dy[j] * ((x[j] - mean) * rstd);
                }
                let [g, gx] = sums(dy, weight, x, |dy, weight, x| [dy * weight, dy * weight * (x - mean)]);
                (if CENTRED { g / n as f32 } else { 0.0 }, gx * (rstd * rstd) / n as f32)
            };
            let dx_of = |j: usize, dy: f32| rstd * (dy * weight[j] - mean_g - (x[j] - mean) * mean_gx);
            if RESIDUAL {
                map_row(pointer::<f32>(args, rstd_at + 2).add(at), dx, n, |j, d| d + dx_of(j, *dy.add(j)));
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
