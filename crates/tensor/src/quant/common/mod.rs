//! What formats share: passing over blocks, searching for scales, and the widest vectors.

pub mod search;
pub mod simd;
pub mod superblock;

use search::{inverse, sum};
use simd::Kernel;

/// Each block of `BYTES` bytes into `ELEMENTS` numbers.
pub fn blocks<const BYTES: usize, const ELEMENTS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
) {
    simd::fastest(Decode::<BYTES, ELEMENTS, _> { bytes, out, decode });
}

struct Decode<'a, const BYTES: usize, const ELEMENTS: usize, F> {
    bytes: &'a [u8],
    out: &'a mut [f32],
    decode: F,
}

impl<const BYTES: usize, const ELEMENTS: usize, F> Kernel for Decode<'_, BYTES, ELEMENTS, F>
where
    F: Fn(&[u8; BYTES], &mut [f32; ELEMENTS]),
{
    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.bytes.as_chunks::<BYTES>();
        let (outs, _) = self.out.as_chunks_mut::<ELEMENTS>();
        for (block, out) in blocks.iter().zip(outs) {
            (self.decode)(block, out);
        }
    }
}

/// What a block's encoder knows beside the numbers.
#[derive(Clone, Copy)]
pub struct Importance<'a, const ELEMENTS: usize> {
    /// The weight of each number's squared error, where it is known.
    pub columns: Option<&'a [f32; ELEMENTS]>,
    /// The mean of the whole row's squares, where `columns` are known.
    pub mean_square: f32,
}

impl<const ELEMENTS: usize> Importance<'_, ELEMENTS> {
    /// The weights of `SIZE` numbers from `at` on: the given ones, more for large numbers; else `otherwise(x)`.
    #[inline(always)]
    pub fn weights<const SIZE: usize>(
        &self,
        at: usize,
        x: &[f32; SIZE],
        mean_square: f32,
        otherwise: impl Fn(f32) -> f32,
    ) -> [f32; SIZE] {
        let mut weights = [0f32; SIZE];
        match self.columns {
            Some(columns) => {
                for i in 0..SIZE {
                    weights[i] = columns[at + i] * (mean_square + x[i] * x[i]).sqrt();
                }
            }
            None => {
                for i in 0..SIZE {
                    weights[i] = otherwise(x[i]);
                }
            }
        }
        weights
    }
}

/// Each `ELEMENTS` numbers into a block of `BYTES` bytes; `importance` is of a row's columns.
pub fn encode_blocks<const BYTES: usize, const ELEMENTS: usize>(
    x: &[f32],
    importance: Option<&[f32]>,
    bytes: &mut [u8],
    encode: impl Fn(&[f32; ELEMENTS], Importance<'_, ELEMENTS>, &mut [u8; BYTES]),
) {
    simd::fastest(Encode::<BYTES, ELEMENTS, _> { x, importance, bytes, encode });
}

struct Encode<'a, const BYTES: usize, const ELEMENTS: usize, F> {
    x: &'a [f32],
    importance: Option<&'a [f32]>,
    bytes: &'a mut [u8],
    encode: F,
}

impl<const BYTES: usize, const ELEMENTS: usize, F> Kernel for Encode<'_, BYTES, ELEMENTS, F>
where
    F: Fn(&[f32; ELEMENTS], Importance<'_, ELEMENTS>, &mut [u8; BYTES]),
{
    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.x.as_chunks::<ELEMENTS>();
        let (outs, _) = self.bytes.as_chunks_mut::<BYTES>();
        let columns = self.importance.map(|importance| importance.as_chunks::<ELEMENTS>().0);
        let in_row = columns.map_or(1, <[_]>::len).max(1);
        let mut mean_square = 0.0;
        for (index, (block, out)) in blocks.iter().zip(outs).enumerate() {
            let place = index % in_row;
            if columns.is_some() && place == 0 {
                let row = &blocks[index..blocks.len().min(index + in_row)];
                let squares: f32 = row.iter().map(|x| sum::<ELEMENTS>(|i| x[i] * x[i])).sum();
                mean_square = squares / (row.len() * ELEMENTS) as f32;
            }
            let importance = Importance { columns: columns.map(|columns| &columns[place]), mean_square };
            (self.encode)(block, importance, out);
        }
    }
}

/// The mean of squares.
#[inline(always)]
pub fn mean_square<const N: usize>(x: &[f32; N]) -> f32 {
    sum::<N>(|i| x[i] * x[i]) / N as f32
}

/// An f16, the nearest finite one.
#[inline(always)]
pub fn finite_half(value: f32) -> half::f16 {
    half::f16::from_f32(search::at_most(search::at_least(value, -LARGEST_HALF), LARGEST_HALF))
}

/// The largest f16.
pub const LARGEST_HALF: f32 = 65504.0;

/// An f16 into two little-endian bytes of a block; answers what it now is.
#[inline(always)]
pub fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let value = finite_half(value);
    block[at..at + 2].copy_from_slice(&value.to_le_bytes());
    value.to_f32()
}

/// x / scale to whole numbers from `least` to `most`.
#[inline(always)]
pub fn quantized<const N: usize>(x: &[f32; N], scale: f32, least: f32, most: f32) -> [i8; N] {
    let factor = inverse(scale);
    let mut q = [0i8; N];
    for i in 0..N {
        q[i] = search::at_most(search::at_least(search::round(x[i] * factor), least), most) as i8;
    }
    q
}

/// Number i of 32 into the low half of byte i, and i + 16 into its high half.
#[inline(always)]
pub fn put_halves(bytes: &mut [u8], q: &[u8; 32]) {
    for i in 0..16 {
        bytes[i] = q[i] | q[i + 16] << 4;
    }
}
