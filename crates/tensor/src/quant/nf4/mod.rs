//! NF4: numbers a v[q] with 16 values v, the quantiles of a normal distribution, and the largest magnitude a of each
//! block; the a may be quantized themselves (Dettmers et al., QLoRA, 2023, section 3; values of bitsandbytes).
//!
//! It is no element type of GGUF: scales and codes lie apart, so that it has its own functions.
#![forbid(unsafe_code)]

/// Numbers in a block, where nothing else is asked for.
pub const BLOCK: usize = 64;
/// Blocks whose largest magnitudes are quantized together.
pub const OUTER_BLOCK: usize = 256;

/// The values.
pub const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A tensor in NF4.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4 {
    /// How many numbers there are.
    pub elements: usize,
    /// Numbers in a block; the last block may have fewer.
    pub block: usize,
    /// Two codes a byte, the first in the high half.
    pub codes: Vec<u8>,
    /// Each block's largest magnitude.
    pub scales: Scales,
}

/// The largest magnitude of each block.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// Quantized again: block i's is `offset + largest[i / OUTER_BLOCK] * dynamic_values()[codes[i]]`.
    Double {
        /// A code a block.
        codes: Vec<u8>,
        /// The largest magnitude of `OUTER_BLOCK` blocks, after `offset` is taken off.
        largest: Vec<f32>,
        /// The mean of all.
        offset: f32,
    },
}

/// What is wrong with sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Blocks are of an even number of numbers.
    #[error("NF4 blocks of {0} numbers: it must be an even number, at least 2; 64 is usual")]
    Block(usize),
    /// Parts that don't belong together.
    #[error("{elements} NF4 numbers in blocks of {block} take {expected} {what}, and there are {found}")]
    Parts {
        /// Numbers.
        elements: usize,
        /// Numbers in a block.
        block: usize,
        /// Which part.
        what: &'static str,
        /// How many it should have.
        expected: usize,
        /// How many it has.
        found: usize,
    },
}

/// The 256 values of the second quantization, in order: 7 decades of both signs, each finer than the one below it.
pub fn dynamic_values() -> [f32; 256] {
    const DECADES: usize = 7;
    let mut values = vec![0.0, 1.0];
    for decade in 0..DECADES {
        let steps = 1usize << decade;
        let unit = 10f64.powi(decade as i32 - (DECADES as i32 - 1)) as f32;
        // The middles of `steps` equal parts of 0.1 to 1, whose bounds are counted from the nearer end.
        let width = (1.0f32 - 0.1) / steps as f32;
        let bound = |i: usize| match i {
            i if i < steps.div_ceil(2) => width.mul_add(i as f32, 0.1),
            i => (-width).mul_add((steps - i) as f32, 1.0),
        };
        for i in 0..steps {
            let middle = (bound(i) + bound(i + 1)) / 2.0 * unit;
            values.extend([middle, -middle]);
        }
    }
    values.sort_by(f32::total_cmp);
    std::array::from_fn(|i| values.get(i).copied().unwrap_or(0.0))
}

/// The place of the value nearest to x among ordered ones; the lower one in the middle.
fn nearest(values: &[f32], x: f32) -> u8 {
    let above = values.partition_point(|value| *value < x);
    let distance = |i: usize| values.get(i).map_or(f32::INFINITY, |value| (value - x).abs());
    let below = above.saturating_sub(1);
    u8::try_from(if distance(below) <= distance(above) { below } else { above }).unwrap_or(u8::MAX)
}

fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

impl Nf4 {
    /// Encodes numbers in blocks of `block`; `double` quantizes the scales too.
    ///
    /// # Errors
    /// When `block` is not an even number, at least 2.
    pub fn encode(x: &[f32], block: usize, double: bool) -> Result<Nf4, Error> {
        check_block(block)?;
        let scales: Vec<f32> = x.chunks(block).map(largest).collect();
        let code = |x: f32, scale: f32| nearest(&VALUES, if scale > 0.0 { x / scale } else { 0.0 });
        let mut codes = Vec::with_capacity(x.len().div_ceil(2));
        for (block, scale) in x.chunks(block).zip(&scales) {
            for pair in block.chunks(2) {
                let low = pair.get(1).map_or(0, |x| code(*x, *scale));
                codes.push(pair.first().map_or(0, |x| code(*x, *scale)) << 4 | low);
            }
        }
        let scales = if double { double_quantized(&scales) } else { Scales::Plain(scales) };
        Ok(Nf4 { elements: x.len(), block, codes, scales })
    }

    /// Decodes all numbers.
    ///
    /// # Errors
    /// When the parts, or `out`, are not of the sizes that belong together.
    pub fn decode(&self, out: &mut [f32]) -> Result<(), Error> {
        check_block(self.block)?;
        let blocks = self.elements.div_ceil(self.block);
        let parts = |what, expected, found| {
            let error = Error::Parts { elements: self.elements, block: self.block, what, expected, found };
            if expected == found { Ok(()) } else { Err(error) }
        };
        parts("numbers to decode to", self.elements, out.len())?;
        parts("bytes of codes", self.elements.div_ceil(2), self.codes.len())?;
        let scales = match &self.scales {
            Scales::Plain(scales) => scales.clone(),
            Scales::Double { codes, largest, offset } => {
                parts("outer scales", codes.len().div_ceil(OUTER_BLOCK), largest.len())?;
                let values = dynamic_values();
                let scale = |(code, largest): (&u8, &f32)| values[usize::from(*code)] * largest + offset;
                let largest = largest.iter().flat_map(|largest| std::iter::repeat_n(largest, OUTER_BLOCK));
                codes.iter().zip(largest).map(scale).collect()
            }
        };
        parts("scales", blocks, scales.len())?;
        let bytes = self.codes.chunks(self.block / 2);
        for ((out, bytes), scale) in out.chunks_mut(self.block).zip(bytes).zip(scales) {
            for (pair, byte) in out.chunks_mut(2).zip(bytes) {
                for (out, code) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                    *out = VALUES[usize::from(code)] * scale;
                }
            }
        }
        Ok(())
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        self.codes.len()
            + match &self.scales {
                Scales::Plain(scales) => 4 * scales.len(),
                Scales::Double { codes, largest, .. } => codes.len() + 4 * largest.len() + 4,
            }
    }
}

fn check_block(block: usize) -> Result<(), Error> {
    if block >= 2 && block.is_multiple_of(2) { Ok(()) } else { Err(Error::Block(block)) }
}

fn double_quantized(scales: &[f32]) -> Scales {
    let sum: f64 = scales.iter().map(|scale| f64::from(*scale)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let values = dynamic_values();
    let (mut codes, mut outer) = (Vec::with_capacity(scales.len()), Vec::new());
    for block in scales.chunks(OUTER_BLOCK) {
        let without: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
        let most = largest(&without);
        codes.extend(without.iter().map(|x| nearest(&values, if most > 0.0 { x / most } else { 0.0 })));
        outer.push(most);
    }
    Scales::Double { codes, largest: outer, offset }
}

#[cfg(test)]
mod tests;
