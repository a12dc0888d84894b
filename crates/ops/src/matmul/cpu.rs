//! Matrix products on the CPU: each part computes some rows of one product.

use super::Sizes;
use crate::common;
use crate::common::cpu::{input, output};
use graph::{Call, CpuArgs, Lowering, Spec};

/// Rows of the output that one part computes.
const ROWS: usize = 8;

/// One launch: a part is `ROWS` rows of one product.
pub fn lower(call: &Call, s: &Sizes, spec: &Spec, _variant: &str) -> Lowering {
    let with_c = call.inputs.len() == 3;
    let row = with_c && call.inputs[2].shape != call.outputs[0].shape;
    let flags = usize::from(s.transpose_a) + 2 * usize::from(s.transpose_b) + 4 * usize::from(row);
    let words = [s.m, s.n, s.k, flags].map(|w| w as u32).to_vec();
    let parts = s.m.div_ceil(ROWS) * s.batches();
    Lowering::one(common::cpu(
        "matmul",
        select(&spec.architecture),
        parts,
        words,
        common::operands(call.inputs.len(), 1),
    ))
}

crate::by_architecture!(
    /// The kernel for an architecture.
    select,
    body
);

#[inline(always)]
fn body(args: &CpuArgs, part: usize) {
    let [m, n, k, flags] = *args.words else { unreachable!("the card gives four words") };
    let (m, n, k) = (m as usize, n as usize, k as usize);
    let blocks = m.div_ceil(ROWS);
    let (product, from) = (part / blocks, part % blocks * ROWS);
    let (a, b) = (&input::<f32>(args, 0)[product * m * k..], &input::<f32>(args, 1)[product * k * n..]);
    let last = args.operands.len() - 1;
    for i in from..m.min(from + ROWS) {
        let d = output::<f32>(args, last, (product * m + i) * n..(product * m + i + 1) * n);
        if last == 2 {
            d.fill(0.0);
        } else {
            let start = if flags & 4 == 0 { (product * m + i) * n } else { 0 };
            let c = common::cpu::pointer::<f32>(args, 2);
            common::cpu::copy_row(c, start, d);
        }
        for p in 0..k {
            let left = if flags & 1 == 0 { a[i * k + p] } else { a[p * m + i] };
            if flags & 2 == 0 {
                d.iter_mut().zip(&b[p * n..]).for_each(|(d, b)| *d += left * b);
            } else {
                (0..n).for_each(|j| d[j] += left * b[j * k + p]);
            }
        }
    }
}
