//! Which blocks of the cache are whose.

/// Positions of a block.
pub const BLOCK: usize = 32;

/// The free blocks.
pub struct Blocks {
    free: Vec<u32>,
}

/// Blocks that hold `positions` positions.
pub fn blocks_for(positions: usize) -> usize {
    positions.div_ceil(BLOCK)
}

/// The slot of a position, given its sequence's blocks.
pub fn slot(blocks: &[u32], position: usize) -> u32 {
    blocks[position / BLOCK] * BLOCK as u32 + (position % BLOCK) as u32
}

impl Blocks {
    /// `count` blocks, all free.
    pub fn new(count: usize) -> Self {
        Blocks { free: (0..count as u32).rev().collect() }
    }

    /// Takes `count` blocks, or none if there are not so many.
    pub fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        let rest = self.free.len().checked_sub(count)?;
        let mut taken = self.free.split_off(rest);
        taken.reverse();
        Some(taken)
    }

    /// Gives blocks back.
    pub fn give_back(&mut self, blocks: Vec<u32>) {
        self.free.extend(blocks.into_iter().rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_belongs_to_one() {
        let mut blocks = Blocks::new(5);
        let first = blocks.take(blocks_for(33)).unwrap();
        let second = blocks.take(blocks_for(96)).unwrap();
        assert_eq!((first.as_slice(), second.as_slice()), (&[0, 1][..], &[2, 3, 4][..]));
        assert!(blocks.take(1).is_none());
        blocks.give_back(first);
        assert_eq!(blocks.take(2).unwrap(), [0, 1]);
        assert_eq!(slot(&second, 40), 3 * 32 + 8);
    }
}
