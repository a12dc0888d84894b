//! Byte-pair merging: of all neighbours the pair of the lowest rank, the leftmost first, until none is left.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};

/// No pair.
const NONE: Merge = Merge { rank: u32::MAX, id: 0 };
/// Pieces of up to this many symbols are searched from end to end; longer ones have a queue.
const FEW: usize = 40;

/// What a pair becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Pairs of symbols and what they become.
#[derive(Clone, Debug, Default)]
pub struct Merges {
    pairs: HashMap<u64, Merge, Seed>,
}

/// What hashes of pairs begin with, drawn for each table: a file can't know which of its pairs would collide.
#[derive(Clone, Debug)]
struct Seed(u64);

impl Default for Seed {
    fn default() -> Seed {
        Seed(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Both halves of a product with the golden ratio's bits: several times as fast as the standard library's.
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Two symbols as one key.
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// `left` and `right` become `id`; of several ranks the lowest holds.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, id: u32) {
        let merge = self.pairs.entry(key(left, right)).or_insert(Merge { rank, id });
        if rank < merge.rank {
            *merge = Merge { rank, id };
        }
    }

    fn find(&self, left: u32, right: u32) -> Merge {
        self.pairs.get(&key(left, right)).copied().unwrap_or(NONE)
    }

    /// Merges what stands in `symbols` from `from` on, in place. The time grows with the length, but for a logarithm at
    /// worst.
    pub fn apply(&self, symbols: &mut Vec<u32>, from: usize, found: &mut Found) {
        match symbols.len().saturating_sub(from) {
            0 | 1 => {}
            2..=FEW => self.few(symbols, from, &mut found.0),
            _ => self.many(symbols, from),
        }
    }

    fn few(&self, symbols: &mut Vec<u32>, from: usize, found: &mut Vec<Merge>) {
        found.clear();
        found.extend(symbols[from..].windows(2).map(|pair| self.find(pair[0], pair[1])));
        loop {
            let best = found.iter().enumerate().min_by_key(|(_, merge)| merge.rank);
            let Some((at, merge)) = best.filter(|(_, merge)| **merge != NONE) else { return };
            symbols[from + at] = merge.id;
            symbols.remove(from + at + 1);
            found.remove(at);
            if at < found.len() {
                found[at] = self.find(symbols[from + at], symbols[from + at + 1]);
            }
            if at > 0 {
                found[at - 1] = self.find(symbols[from + at - 1], symbols[from + at]);
            }
        }
    }

    fn many(&self, symbols: &mut Vec<u32>, from: usize) {
        let s = &mut symbols[from..];
        let count = s.len();
        // Places are counted in 32 bits: so many symbols in one piece would be a text of 4 GiB without a space.
        let Ok(none) = u32::try_from(count) else { return };
        // A symbol's neighbours by place; `none` stands for none.
        let mut next: Vec<u32> = (1..=none).collect();
        let mut previous: Vec<u32> = (0..none).map(|i| i.checked_sub(1).unwrap_or(none)).collect();
        let mut ranks: Vec<u32> = s.windows(2).map(|pair| self.find(pair[0], pair[1]).rank).collect();
        ranks.push(NONE.rank);
        let mut queue = Queue::default();
        (0..none).zip(&ranks).for_each(|(i, rank)| queue.push(*rank, i));
        while let Some((rank, place)) = queue.pop() {
            let i = place as usize;
            if ranks[i] != rank {
                continue; // a neighbour has gone since
            }
            let gone = next[i] as usize;
            s[i] = self.find(s[i], s[gone]).id;
            ranks[gone] = NONE.rank;
            let after = next[gone];
            next[i] = after;
            ranks[i] = NONE.rank;
            if after < none {
                previous[after as usize] = place;
                ranks[i] = self.find(s[i], s[after as usize]).rank;
                queue.push(ranks[i], place);
            }
            let before = previous[i];
            if before < none {
                let rank = self.find(s[before as usize], s[i]).rank;
                ranks[before as usize] = rank;
                queue.push(rank, before);
            }
        }
        let (mut read, mut write) = (0, 0);
        while read < count {
            s[write] = s[read];
            write += 1;
            read = next[read] as usize;
        }
        symbols.truncate(from + write);
    }
}

/// Room that `Merges::apply` uses again and again.
#[derive(Debug, Default)]
pub struct Found(Vec<Merge>);

/// Places by rank, then by place. Places mostly come in order, so that a list a rank is nearly always enough.
#[derive(Default)]
struct Queue {
    ranks: BinaryHeap<Reverse<u32>>,
    places: HashMap<u32, Places>,
}

#[derive(Default)]
struct Places {
    sorted: Vec<u32>,
    taken: usize,
    others: BinaryHeap<Reverse<u32>>,
}

impl Queue {
    fn push(&mut self, rank: u32, place: u32) {
        if rank == NONE.rank {
            return;
        }
        let places = self.places.entry(rank).or_default();
        if places.taken == places.sorted.len() && places.others.is_empty() {
            self.ranks.push(Reverse(rank));
            places.sorted.clear();
            places.taken = 0;
        }
        match places.sorted.last() {
            Some(last) if *last > place => places.others.push(Reverse(place)),
            _ => places.sorted.push(place),
        }
    }

    fn pop(&mut self) -> Option<(u32, u32)> {
        let Reverse(rank) = *self.ranks.peek()?;
        let places = self.places.get_mut(&rank)?;
        let sorted = places.sorted.get(places.taken).copied();
        let place = match (sorted, places.others.peek()) {
            (Some(a), Some(Reverse(b))) if *b < a => places.others.pop().map(|Reverse(b)| b)?,
            (Some(a), _) => {
                places.taken += 1;
                a
            }
            (None, _) => places.others.pop().map(|Reverse(b)| b)?,
        };
        if places.taken == places.sorted.len() && places.others.is_empty() {
            self.ranks.pop();
        }
        Some((rank, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without any haste.
    fn plainly(merges: &Merges, symbols: &[u32]) -> Vec<u32> {
        let mut all = symbols.to_vec();
        loop {
            let pairs = all.windows(2).map(|p| merges.find(p[0], p[1])).enumerate();
            let Some((at, merge)) = pairs.filter(|(_, m)| *m != NONE).min_by_key(|(at, m)| (m.rank, *at)) else {
                return all;
            };
            all[at] = merge.id;
            all.remove(at + 1);
        }
    }

    #[test]
    fn both_ways_are_the_definition() {
        let random = tensor::rng::Philox::new(7, "merges");
        let mut drawn = 0;
        let mut draw = |below: u32| {
            drawn += 1;
            random.below(drawn, below)
        };
        for round in 0..12 {
            let mut merges = Merges::default();
            // Equal ranks as well, and merges that make symbols which other merges of lower rank take.
            for id in 4..24 {
                merges.insert(draw(id), draw(id), draw(8), id);
            }
            let symbols: Vec<u32> = (0..100 + round).map(|_| draw(4)).collect();
            let expected = plainly(&merges, &symbols);
            let (mut short, mut long) = (symbols.clone(), [vec![99], symbols].concat());
            merges.few(&mut short, 0, &mut Vec::new());
            merges.many(&mut long, 1);
            assert_eq!(short, expected);
            assert_eq!(long[1..], expected);
        }
    }
}
