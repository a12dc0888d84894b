//! Embedding on the CPU: a part copies the rows of its tokens, or adds up the gradients of its rows of the table.

use super::part_rows;
use crate::common::cpu::{Element, chunk, input, output};
use graph::CpuArgs;

crate::by_type_and_architecture!(
    /// The forward kernel for an architecture.
    select,
    body
);
crate::by_architecture!(
    /// The backward kernel for an architecture.
    select_backward,
    backward
);

#[inline(always)]
fn body<T: Element>(args: &CpuArgs, part: usize) {
    let [tokens, n, vocab] = *args.words else { unreachable!("the card gives three words") };
    let (tokens, n) = (tokens as usize, n as usize);
    let (ids, table) = (input::<u32>(args, 0), input::<T>(args, 1));
    for token in chunk(tokens, part_rows(tokens, n), part) {
        let y = output::<T>(args, 2, token * n..(token + 1) * n);
        match ids[token] {
            id if id < vocab => y.copy_from_slice(&table[id as usize * n..(id as usize + 1) * n]),
            _ => y.fill(T::of(f32::NAN)),
        }
    }
}

#[inline(always)]
fn backward(args: &CpuArgs, part: usize) {
    let [_, n, vocab] = *args.words else { unreachable!("the card gives three words") };
    let (n, vocab) = (n as usize, vocab as usize);
    let (ids, dy) = (input::<u32>(args, 0), input::<f32>(args, 1));
    let rows = chunk(vocab, part_rows(vocab, n), part);
    let dtable = output::<f32>(args, 2, rows.start * n..rows.end * n);
    dtable.fill(0.0);
    for (token, &id) in ids.iter().enumerate() {
        if rows.contains(&(id as usize)) {
            let at = (id as usize - rows.start) * n;
            let (sums, dy) = (&mut dtable[at..at + n], &dy[token * n..(token + 1) * n]);
            for j in 0..n {
                sums[j] += dy[j];
            }
        }
    }
}
