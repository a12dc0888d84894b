//! Inputs out of other inputs: bits, numbers, pieces cut, moved, and taken from one another.
#![forbid(unsafe_code)]

use super::Change;
use tensor::rng::Philox;

/// Numbers at which counts, sizes and offsets go wrong.
const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    3,
    31,
    32,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

/// Draws changes.
pub(super) struct Mutator {
    random: Philox,
    drawn: u64,
    block: [u32; 4],
    words: &'static [&'static str],
}

impl Mutator {
    pub(super) fn new(seed: u64, name: &str, words: &'static [&'static str]) -> Mutator {
        Mutator { random: Philox::new(seed, name), drawn: 0, block: [0; 4], words }
    }

    /// A number below `below`.
    pub(super) fn draw(&mut self, below: usize) -> usize {
        let place = (self.drawn % 4) as usize;
        if place == 0 {
            self.block = self.random.block(self.drawn / 4);
        }
        self.drawn += 1;
        let word = u64::from(self.block[place]);
        ((word * below.max(1) as u64) >> 32) as usize
    }

    /// A range, more often at the beginning, where heads are.
    fn range(&mut self, length: usize, most: usize) -> (usize, usize) {
        let (a, b) = (self.draw(length + 1), self.draw(length + 1));
        let at = if self.draw(2) == 0 { a.min(b) } else { a };
        let end = (at + 1 + self.draw(most)).min(length);
        (at.min(end), end)
    }

    /// One of `kept`, changed in one place, two or four, or by `whole`, which knows what it is.
    pub(super) fn change(&mut self, kept: &[Vec<u8>], whole: Option<Change>) -> Vec<u8> {
        let mut bytes = kept[self.draw(kept.len())].clone();
        if let Some(whole) = whole
            && self.draw(4) == 0
            && let Some(changed) = whole(&bytes, &mut |below| self.draw(below))
        {
            if self.draw(2) == 0 {
                return changed;
            }
            bytes = changed;
        }
        let changes = [1, 1, 2, 4][self.draw(4)];
        for _ in 0..changes {
            self.once(&mut bytes, kept);
        }
        bytes
    }

    fn once(&mut self, bytes: &mut Vec<u8>, kept: &[Vec<u8>]) {
        let (at, end) = self.range(bytes.len(), 16);
        match self.draw(9) {
            0 if at < end => bytes[at] ^= 1 << self.draw(8),
            1 if at < end => bytes[at] = self.draw(256) as u8,
            2 => {
                let number = NUMBERS[self.draw(NUMBERS.len())].wrapping_add(self.draw(3) as u64).wrapping_sub(1);
                let width = [1, 2, 4, 8][self.draw(4)];
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, number.to_le_bytes().into_iter().take(end - at));
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let (from, to) = self.range(bytes.len(), 64);
                let piece = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &kept[self.draw(kept.len())];
                let (from, to) = self.range(other.len(), 64);
                let overwritten = if self.draw(2) == 0 { at } else { (at + to - from).min(bytes.len()) };
                bytes.splice(at..overwritten, other[from..to].iter().copied());
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.draw(self.words.len())].as_bytes();
                let overwritten = if self.draw(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..overwritten, word.iter().copied());
            }
            7 if self.draw(8) == 0 => bytes.truncate(at),
            _ => {
                let count = 1 + self.draw(40);
                let byte = if self.draw(2) == 0 { b'[' } else { self.draw(256) as u8 };
                bytes.splice(at..at, std::iter::repeat_n(byte, count));
            }
        }
    }
}
