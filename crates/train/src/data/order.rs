//! The order of rows: a permutation of each pass over the data, computed from (seed, pass, position) with nothing stored.
#![forbid(unsafe_code)]

use tensor::rng::Philox;

/// Rounds of the network. Four make a permutation of many elements that can't be told from a random one (Luby &
/// Rackoff 1988); few elements need more.
const ROUNDS: u64 = 8;

/// A permutation of 0..n under a key: a Feistel network over the next even number of bits whose round function is
/// Philox, walked along its cycle until it comes back below n (Black & Rogaway 2002).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    n: u64,
    half_bits: u32,
    seed: u64,
    stream: &'static str,
}

impl Order {
    /// The permutations of 0..n of `stream` under `seed`.
    pub fn new(seed: u64, stream: &'static str, n: usize) -> Order {
        let n = n as u64;
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Order { n, half_bits: bits.div_ceil(2).max(1), seed, stream }
    }

    /// What stands at place `i`, which is below n, in pass `pass`.
    pub fn at(&self, pass: usize, i: usize) -> usize {
        let random = Philox::new(self.seed, self.stream).at(pass as u64);
        let mut x = i as u64;
        loop {
            x = self.shuffle(&random, x);
            if x < self.n {
                return x as usize;
            }
        }
    }

    fn shuffle(&self, random: &Philox, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..ROUNDS {
            let word = random.block(round << 32 | right)[0];
            (left, right) = (right, left ^ (u64::from(word) & mask));
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_a_permutation_of_its_own() {
        for n in [1, 2, 3, 16, 17, 1000] {
            let order = |seed: u64, pass: usize| -> Vec<usize> {
                (0..n).map(|i| Order::new(seed, "shuffle", n).at(pass, i)).collect()
            };
            for pass in 0..3 {
                let mut sorted = order(7, pass);
                sorted.sort();
                assert!(sorted.into_iter().eq(0..n), "n = {n}");
            }
            if n >= 16 {
                assert_ne!(order(7, 0), order(7, 1));
                assert_ne!(order(7, 0), order(8, 0));
                assert_ne!(order(7, 0), (0..n).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn every_element_comes_to_every_place_about_as_often() {
        let (n, passes) = (10, 4000);
        let mut counts = vec![0; n * n];
        for pass in 0..passes {
            let order = Order::new(3, "shuffle", n);
            (0..n).for_each(|i| counts[i * n + order.at(pass, i)] += 1);
        }
        // 400 each, with a standard deviation of 19.
        assert!(counts.iter().all(|c| (310..=490).contains(c)), "{counts:?}");
    }
}
