//! Lifetimes to offsets in one arena: largest first, each at the lowest place that is free while it lives.

/// Offsets in the arena are multiples of this.
pub const ALIGNMENT: u64 = 256;

/// A tensor that lives from time `first` to time `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Its size.
    pub bytes: u64,
    /// When it is made.
    pub first: usize,
    /// When it is last read.
    pub last: usize,
}

/// An offset for each tensor, and the arena's size. No two that live at one time overlap, and none straddles a
/// multiple of `slab` bytes; `None` if one is larger than a slab.
pub fn place(tensors: &[Lifetime], slab: u64) -> Option<(Vec<u64>, u64)> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(tensors[i].bytes), tensors[i].first, i));
    let mut offsets = vec![0; tensors.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(tensors.len());
    let mut total = 0;
    for i in order {
        let t = &tensors[i];
        if t.bytes > slab {
            return None;
        }
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter(|&&j| tensors[j].first <= t.last && t.first <= tensors[j].last)
            .map(|&j| (offsets[j], offsets[j] + tensors[j].bytes))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if within_slab(at, t.bytes, slab) + t.bytes <= from {
                break;
            }
            at = at.max(to.next_multiple_of(ALIGNMENT));
        }
        offsets[i] = within_slab(at, t.bytes, slab);
        total = total.max(offsets[i] + t.bytes);
        placed.push(i);
    }
    Some((offsets, total.next_multiple_of(ALIGNMENT)))
}

/// The first offset from `at` on where `bytes` bytes lie in one slab.
fn within_slab(at: u64, bytes: u64, slab: u64) -> u64 {
    if at / slab == (at + bytes.max(1) - 1) / slab { at } else { at.next_multiple_of(slab) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tensor::rng::Philox;

    #[test]
    fn what_lives_together_never_overlaps() {
        for seed in 0..50 {
            let random = Philox::new(seed, "lifetimes");
            let tensors: Vec<_> = (0..60u64)
                .map(|i| {
                    let first = random.below(3 * i, 40) as usize;
                    let bytes = u64::from(random.below(3 * i + 1, 5000));
                    Lifetime { bytes, first, last: first + random.below(3 * i + 2, 10) as usize }
                })
                .collect();
            let (offsets, total) = place(&tensors, 8192).expect("none is larger than a slab");
            for (i, a) in tensors.iter().enumerate() {
                assert!(offsets[i] + a.bytes <= total && offsets[i].is_multiple_of(ALIGNMENT));
                assert!(a.bytes == 0 || offsets[i] / 8192 == (offsets[i] + a.bytes - 1) / 8192, "straddles two slabs");
                for (j, b) in tensors.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    assert!(!together || apart || a.bytes == 0 || b.bytes == 0, "tensors {i} and {j}, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn bytes_are_used_again() {
        let chain: Vec<_> = (0..10).map(|i| Lifetime { bytes: 1024, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain, 1 << 30).unwrap().1, 2048);
        assert_eq!(place(&[Lifetime { bytes: 100, first: 0, last: 0 }], 64), None);
    }
}
