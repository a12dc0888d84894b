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
    let mut placed = Placed::default();
    let mut total = 0;
    for i in order {
        let t = &tensors[i];
        if t.bytes > slab {
            return None;
        }
        offsets[i] = placed.lowest(t, slab);
        total = total.max(offsets[i] + t.bytes);
        placed.add(Taken { from: offsets[i], to: offsets[i] + t.bytes, first: t.first, last: t.last });
    }
    Some((offsets, total.next_multiple_of(ALIGNMENT)))
}

/// Bytes that are taken from time `first` to time `last`.
#[derive(Clone, Copy)]
struct Taken {
    from: u64,
    to: u64,
    first: usize,
    last: usize,
}

/// What is placed so far, by offset, in chunks: where no tensor of a chunk lives at a time, the chunk is passed over.
#[derive(Default)]
struct Placed {
    chunks: Vec<Chunk>,
}

struct Chunk {
    taken: Vec<Taken>,
    first: usize,
    last: usize,
}

/// A chunk with more is cut in two.
const CHUNK: usize = 256;

impl Chunk {
    fn of(taken: Vec<Taken>) -> Chunk {
        let first = taken.iter().map(|t| t.first).min().unwrap_or(usize::MAX);
        let last = taken.iter().map(|t| t.last).max().unwrap_or(0);
        Chunk { taken, first, last }
    }
}

impl Placed {
    /// The lowest offset at which a tensor is free while it lives.
    fn lowest(&self, t: &Lifetime, slab: u64) -> u64 {
        let mut at = 0;
        for chunk in self.chunks.iter().filter(|chunk| chunk.first <= t.last && t.first <= chunk.last) {
            for other in chunk.taken.iter().filter(|other| other.first <= t.last && t.first <= other.last) {
                let fit = within_slab(at, t.bytes, slab);
                if fit + t.bytes <= other.from {
                    return fit;
                }
                at = at.max(other.to.next_multiple_of(ALIGNMENT));
            }
        }
        within_slab(at, t.bytes, slab)
    }

    fn add(&mut self, taken: Taken) {
        let before = |other: &Taken| (other.from, other.to) <= (taken.from, taken.to);
        let found = self.chunks.partition_point(|chunk| chunk.taken.first().is_some_and(before));
        let index = found.saturating_sub(1);
        let Some(chunk) = self.chunks.get_mut(index) else { return self.chunks.push(Chunk::of(vec![taken])) };
        chunk.taken.insert(chunk.taken.partition_point(before), taken);
        (chunk.first, chunk.last) = (chunk.first.min(taken.first), chunk.last.max(taken.last));
        if chunk.taken.len() > CHUNK {
            let rest = chunk.taken.split_off(CHUNK / 2);
            *chunk = Chunk::of(std::mem::take(&mut chunk.taken));
            self.chunks.insert(index + 1, Chunk::of(rest));
        }
    }
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

    /// The same by looking at everything that is placed, for each tensor.
    fn place_slowly(tensors: &[Lifetime], slab: u64) -> Vec<u64> {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(tensors[i].bytes), tensors[i].first, i));
        let (mut offsets, mut placed) = (vec![0; tensors.len()], Vec::new());
        for i in order {
            let t = &tensors[i];
            let together = |j: &&usize| tensors[**j].first <= t.last && t.first <= tensors[**j].last;
            let range = |&j: &usize| (offsets[j], offsets[j] + tensors[j].bytes);
            let mut taken: Vec<(u64, u64)> = placed.iter().filter(together).map(range).collect();
            taken.sort_unstable();
            let mut at = 0;
            for (from, to) in taken {
                if within_slab(at, t.bytes, slab) + t.bytes <= from {
                    break;
                }
                at = at.max(to.next_multiple_of(ALIGNMENT));
            }
            offsets[i] = within_slab(at, t.bytes, slab);
            placed.push(i);
        }
        offsets
    }

    #[test]
    fn chunks_change_no_offset() {
        for seed in 0..6 {
            let random = Philox::new(seed, "many lifetimes");
            let tensors: Vec<_> = (0..1500u64)
                .map(|i| {
                    let first = random.below(3 * i, 900) as usize;
                    let bytes = u64::from(random.below(3 * i + 1, 9)) * 700;
                    let length = [3, 40, 900][random.below(3 * i + 2, 3) as usize];
                    Lifetime { bytes, first, last: (first + length).min(901) }
                })
                .collect();
            assert_eq!(place(&tensors, 1 << 16).expect("none is larger").0, place_slowly(&tensors, 1 << 16));
        }
    }

    #[test]
    fn bytes_are_used_again() {
        let chain: Vec<_> = (0..10).map(|i| Lifetime { bytes: 1024, first: i, last: i + 1 }).collect();
        assert_eq!(place(&chain, 1 << 30).unwrap().1, 2048);
        assert_eq!(place(&[Lifetime { bytes: 100, first: 0, last: 0 }], 64), None);
    }
}
