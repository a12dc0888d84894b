//! What formats share: passing over blocks, searching for scales, and the widest vectors.

pub mod search;
pub mod simd;
pub mod superblock;

use search::{inverse, sum};

/// Decodes whole blocks by a function that decodes one, as `Format::decode`.
///
/// A macro: a function that is passed on as a value would not be compiled for the instructions of its caller.
macro_rules! decoder {
    ($decode:path) => {
        |bytes, out| {
            struct Run<'a>(&'a [u8], &'a mut [f32]);

            impl $crate::quant::common::simd::Kernel for Run<'_> {
                #[inline(always)]
                fn run(self) {
                    for (block, out) in self.0.as_chunks().0.iter().zip(self.1.as_chunks_mut().0) {
                        $decode(block, out);
                    }
                }
            }

            $crate::quant::common::simd::fastest(Run(bytes, out));
        }
    };
}
pub(super) use decoder;

/// Encodes whole blocks by a function that encodes one, as `Format::encode`; a macro as [`decoder`] is.
macro_rules! encoder {
    ($encode:path) => {
        |x, importance, bytes| {
            struct Run<'a>(&'a [f32], Option<&'a [f32]>, &'a mut [u8]);

            impl $crate::quant::common::simd::Kernel for Run<'_> {
                #[inline(always)]
                fn run(self) {
                    let blocks = self.0.as_chunks().0;
                    let mut rows = $crate::quant::common::Rows::new(blocks, self.1);
                    for (block, out) in blocks.iter().zip(self.2.as_chunks_mut().0) {
                        $encode(block, rows.next(), out);
                    }
                }
            }

            $crate::quant::common::simd::fastest(Run(x, importance, bytes));
        }
    };
}
pub(super) use encoder;

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

/// Goes along rows of blocks and says what is known of each block.
pub struct Rows<'a, const ELEMENTS: usize> {
    blocks: &'a [[f32; ELEMENTS]],
    columns: Option<&'a [[f32; ELEMENTS]]>,
    index: usize,
    place: usize,
    mean_square: f32,
}

impl<'a, const ELEMENTS: usize> Rows<'a, ELEMENTS> {
    /// Before the first of `blocks`; `importance` is of a row's columns.
    #[inline(always)]
    pub fn new(blocks: &'a [[f32; ELEMENTS]], importance: Option<&'a [f32]>) -> Self {
        let columns = importance.map(|importance| importance.as_chunks().0);
        Rows { blocks, columns, index: 0, place: 0, mean_square: 0.0 }
    }

    /// What is known of the next block.
    #[inline(always)]
    pub fn next(&mut self) -> Importance<'a, ELEMENTS> {
        let Some(columns) = self.columns else { return Importance { columns: None, mean_square: 0.0 } };
        if self.place == 0 {
            let row = &self.blocks[self.index..self.blocks.len().min(self.index + columns.len())];
            let mut squares = 0.0;
            for x in row {
                squares += sum::<ELEMENTS>(|i| x[i] * x[i]);
            }
            self.mean_square = squares / (row.len() * ELEMENTS) as f32;
        }
        let importance = Importance { columns: Some(&columns[self.place]), mean_square: self.mean_square };
        self.index += 1;
        self.place = if self.place + 1 == columns.len() { 0 } else { self.place + 1 };
        importance
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
