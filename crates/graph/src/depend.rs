//! Dependencies by byte ranges: read after write, write after read, write after write; then levels, and only the
//! dependencies that don't follow from others.

use crate::plan::{Access, Place, PlannedLaunch};
use std::collections::BTreeMap;

/// Finds what each launch must wait for, and its level.
pub(crate) fn depend(launches: &mut [PlannedLaunch]) {
    let mut touched = Touched::default();
    let mut ancestors: Vec<Vec<u64>> = Vec::with_capacity(launches.len());
    for j in 0..launches.len() {
        let mut conflicts = Vec::new();
        launches[j].places.iter().for_each(|(place, access)| touched.conflicts(place, *access, &mut conflicts));
        conflicts.sort_unstable_by(|a, b| b.cmp(a));
        conflicts.dedup();
        let mut known = vec![0u64; j / 64 + 1];
        let mut after = Vec::new();
        // From the latest on: what an ancestor of one already taken waits for needs no edge of its own.
        for i in conflicts {
            if known[i / 64] >> (i % 64) & 1 == 0 {
                after.push(i);
                known[i / 64] |= 1 << (i % 64);
                known.iter_mut().zip(&ancestors[i]).for_each(|(k, a)| *k |= a);
            }
        }
        after.reverse();
        // What it reads first: a byte that it writes as well has it as its writer.
        for wanted in [Access::Read, Access::Write] {
            let places = launches[j].places.iter().filter(|(_, access)| *access == wanted);
            places.for_each(|(place, access)| touched.add(place, *access, j));
        }
        launches[j].level = after.iter().map(|&i| launches[i].level + 1).max().unwrap_or(0);
        launches[j].after = after;
        ancestors.push(known);
    }
}

/// Who touched which bytes last. Whoever touched them before the last writer is among what that one waits for.
#[derive(Default)]
struct Touched {
    /// By buffer and first byte; ranges of one buffer don't overlap.
    ranges: BTreeMap<(usize, u64), Range>,
}

#[derive(Clone)]
struct Range {
    end: u64,
    writer: Option<usize>,
    /// Since it was written.
    readers: Vec<usize>,
}

impl Touched {
    /// The launches that touched bytes of `place` last and whose access doesn't go with this one.
    fn conflicts(&self, place: &Place, access: Access, found: &mut Vec<usize>) {
        let end = place.offset + place.bytes;
        let first =
            self.ranges.range(..=(place.buffer, place.offset)).next_back().map_or((place.buffer, 0), |(k, _)| *k);
        for (&(buffer, start), range) in self.ranges.range(first..(place.buffer, end)) {
            if buffer == place.buffer && start < end && place.offset < range.end {
                found.extend(range.writer);
                if access == Access::Write {
                    found.extend(&range.readers);
                }
            }
        }
    }

    fn add(&mut self, place: &Place, access: Access, launch: usize) {
        let (buffer, end) = (place.buffer, place.offset + place.bytes);
        if place.bytes == 0 {
            return;
        }
        self.split(buffer, place.offset);
        self.split(buffer, end);
        let within = (buffer, place.offset)..(buffer, end);
        if access == Access::Write {
            let old: Vec<_> = self.ranges.range(within).map(|(key, _)| *key).collect();
            old.iter().for_each(|key| drop(self.ranges.remove(key)));
            self.ranges.insert((buffer, place.offset), Range { end, writer: Some(launch), readers: Vec::new() });
            return;
        }
        let (mut at, mut gaps) = (place.offset, Vec::new());
        for (&(_, start), range) in self.ranges.range_mut(within) {
            if start > at {
                gaps.push((at, start));
            }
            range.readers.push(launch);
            at = range.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        for (start, end) in gaps {
            self.ranges.insert((buffer, start), Range { end, writer: None, readers: vec![launch] });
        }
    }

    /// Makes a range begin at `at`, where one goes across it.
    fn split(&mut self, buffer: usize, at: u64) {
        let Some((&(b, start), range)) = self.ranges.range_mut(..(buffer, at)).next_back() else { return };
        if b == buffer && start < at && at < range.end {
            let rest = range.clone();
            range.end = at;
            self.ranges.insert((buffer, at), rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{Launch, Operand};
    use tensor::rng::Philox;

    /// The same by comparing every launch with every earlier one.
    fn depend_slowly(launches: &mut [PlannedLaunch]) {
        let mut ancestors: Vec<Vec<bool>> = Vec::new();
        for j in 0..launches.len() {
            let conflicts = |i: usize| {
                let pairs = launches[i].places.iter().flat_map(|a| launches[j].places.iter().map(move |b| (a, b)));
                pairs.into_iter().any(|(a, b)| (a.1 == Access::Write || b.1 == Access::Write) && a.0.overlaps(&b.0))
            };
            let (mut known, mut after) = (vec![false; launches.len()], Vec::new());
            for i in (0..j).rev() {
                if !known[i] && conflicts(i) {
                    after.push(i);
                    known[i] = true;
                    known.iter_mut().zip(&ancestors[i]).for_each(|(k, a)| *k |= a);
                }
            }
            after.reverse();
            launches[j].level = after.iter().map(|&i| launches[i].level + 1).max().unwrap_or(0);
            launches[j].after = after;
            ancestors.push(known);
        }
    }

    #[test]
    fn ranges_give_the_dependencies_of_all_pairs() {
        for seed in 0..20 {
            let random = Philox::new(seed, "launches");
            let place = |at: u64| {
                let (buffer, offset) = (random.below(at, 2) as usize, u64::from(random.below(at + 1, 60)));
                let access = if random.below(at + 3, 3) == 0 { Access::Write } else { Access::Read };
                // Now and then most of a buffer, as what works on a whole region does.
                let bytes = if random.below(at + 2, 12) == 0 { 50 } else { 1 + u64::from(random.below(at + 4, 9)) };
                (Place { buffer, offset, bytes }, access)
            };
            let launch = |n: u64| PlannedLaunch {
                launch: Launch::Copy { from: Operand::Input(0), to: Operand::Output(0) },
                places: (0..1 + u64::from(random.below(1 << 20 | n, 4))).map(|i| place(100 * n + 10 * i)).collect(),
                node: 0,
                after: Vec::new(),
                level: 0,
            };
            let mut fast: Vec<PlannedLaunch> = (0..150).map(launch).collect();
            let mut slow = fast.clone();
            depend(&mut fast);
            depend_slowly(&mut slow);
            for (n, (a, b)) in fast.iter().zip(&slow).enumerate() {
                assert_eq!((&a.after, a.level), (&b.after, b.level), "launch {n}, seed {seed}");
            }
            assert!(slow.iter().any(|l| l.after.len() > 1) && slow[149].level > 3);
        }
    }
}
