//! 256 numbers in groups, each with a whole scale and minimum times the block's own: Q2_K, Q4_K, Q5_K.
#![forbid(unsafe_code)]

use super::search::{affine, at_least, at_most, inverse, positive, round, sum, whole_affine};
use super::{Importance, finite_half, mean_square};

/// What a block of `GROUPS` groups holds.
pub struct Groups<const GROUPS: usize> {
    /// The unit of the groups' scales, an f16.
    pub d: half::f16,
    /// The unit of the groups' minima, an f16.
    pub e: half::f16,
    /// Each group's scale.
    pub scales: [u8; GROUPS],
    /// Each group's minimum.
    pub minima: [u8; GROUPS],
    /// The numbers.
    pub q: [u8; 256],
}

/// How a format's block is searched.
pub struct Search {
    /// The largest q.
    pub levels: f32,
    /// The largest scale and minimum of a group.
    pub most: f32,
    /// How far divisors reach beyond `levels`, each way.
    pub reach: f32,
    /// What is added to |x| to weigh x's error where nothing is known: this share of the group's root mean square.
    pub floor: f32,
    /// The share of the block's mean square that goes into weights with a known importance.
    pub spread: f32,
}

impl Search {
    /// Encodes a block in groups of `SIZE`.
    #[inline(always)]
    pub fn encode<const GROUPS: usize, const SIZE: usize>(
        &self,
        x: &[f32; 256],
        importance: Importance<'_, 256>,
    ) -> Groups<GROUPS> {
        let spread = self.spread * mean_square(x);
        let (mut scales, mut minima, mut sums) = ([0f32; GROUPS], [0f32; GROUPS], [0f32; GROUPS]);
        let mut all_weights = [[0f32; SIZE]; GROUPS];
        let (groups, _) = x.as_chunks::<SIZE>();
        for group in 0..GROUPS {
            let x = &groups[group];
            let floor = self.floor * mean_square(x).sqrt();
            let weights = importance.weights(group * SIZE, x, spread, |x| floor + x.abs());
            (scales[group], minima[group]) = affine(x, &weights, self.levels, self.reach);
            sums[group] = sum::<SIZE>(|i| weights[i]);
            all_weights[group] = weights;
        }
        let d = finite_half(positive(&scales, &sums, self.most));
        let e = finite_half(positive(&minima, &sums, self.most));
        let (d_value, e_value) = (d.to_f32(), e.to_f32());
        let mut out = Groups { d, e, scales: [0; GROUPS], minima: [0; GROUPS], q: [0; 256] };
        let (d_inverse, e_inverse) = (inverse(d_value), inverse(e_value));
        let (outs, _) = out.q.as_chunks_mut::<SIZE>();
        for group in 0..GROUPS {
            let scale = at_most(round(scales[group] * d_inverse), self.most);
            let minimum = at_most(round(minima[group] * e_inverse), self.most);
            let weights = &all_weights[group];
            let (scale, minimum) =
                whole_affine(&groups[group], weights, (d_value, e_value), (scale, minimum), self.levels, self.most);
            (out.scales[group], out.minima[group]) = (scale as u8, minimum as u8);
            let (minimum, factor) = (e_value * minimum, inverse(d_value * scale));
            for i in 0..SIZE {
                let q = round((groups[group][i] + minimum) * factor);
                outs[group][i] = at_most(at_least(q, 0.0), self.levels) as u8;
            }
        }
        out
    }
}
