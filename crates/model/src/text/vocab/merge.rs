//! Byte-pair merging: of all neighbours the pair of the lowest rank, the leftmost first, until none is left.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

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
    pairs: HashMap<(u32, u32), Merge>,
}

impl Merges {
    /// `left` and `right` become `id`; of several ranks the lowest holds.
    pub fn insert(&mut self, left: u32, right: u32, rank: u32, id: u32) {
        let merge = self.pairs.entry((left, right)).or_insert(Merge { rank, id });
        if rank < merge.rank {
            *merge = Merge { rank, id };
        }
    }

    fn find(&self, left: u32, right: u32) -> Merge {
        self.pairs.get(&(left, right)).copied().unwrap_or(NONE)
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
        // A symbol's neighbours by place; `count` stands for none.
        let mut next: Vec<usize> = (1..=count).collect();
        let mut previous: Vec<usize> = (0..count).map(|i| i.wrapping_sub(1)).collect();
        let mut ranks = vec![NONE.rank; count];
        let mut queue = Queue::default();
        for i in 0..count - 1 {
            ranks[i] = self.find(s[i], s[i + 1]).rank;
            queue.push(ranks[i], i);
        }
        while let Some((rank, i)) = queue.pop() {
            if ranks[i] != rank {
                continue; // a neighbour has gone since
            }
            let gone = next[i];
            s[i] = self.find(s[i], s[gone]).id;
            ranks[gone] = NONE.rank;
            let after = next[gone];
            next[i] = after;
            ranks[i] = NONE.rank;
            if after < count {
                previous[after] = i;
                ranks[i] = self.find(s[i], s[after]).rank;
                queue.push(ranks[i], i);
            }
            if let Some(before) = Some(previous[i]).filter(|before| *before < count) {
                ranks[before] = self.find(s[before], s[i]).rank;
                queue.push(ranks[before], before);
            }
        }
        let (mut read, mut write) = (0, 0);
        while read < count {
            s[write] = s[read];
            write += 1;
            read = next[read];
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
    sorted: Vec<usize>,
    taken: usize,
    others: BinaryHeap<Reverse<usize>>,
}

impl Queue {
    fn push(&mut self, rank: u32, place: usize) {
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

    fn pop(&mut self) -> Option<(u32, usize)> {
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
