//! A tensor from one format into another, on several threads: cut by shape alone, so that threads don't change a bit.
#![forbid(unsafe_code)]

use super::Format;
use std::sync::{Mutex, PoisonError};

/// Numbers that a thread takes at once.
const PIECE: usize = 1 << 16;
/// Numbers that are decoded before they are encoded; they stay near the processor.
const STEP: usize = 1 << 12;

/// What can't be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The source has a NaN or an infinity.
    #[error("element {index} is {value}, which no block format can hold")]
    NotFinite {
        /// Which element, in the tensor's order.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// Sizes that don't belong together, or a format that is only read.
    #[error("{0}")]
    Shape(String),
}

/// One format into another.
pub struct Transcode<'a> {
    /// What `bytes` are.
    pub from: &'static Format,
    /// What they become.
    pub to: &'static Format,
    /// The weight of each column's squared error, where it is known; the numbers are then whole rows of so many columns.
    pub importance: Option<&'a [f32]>,
    /// Threads to use, at least 1.
    pub threads: usize,
}

/// Bytes of the source, place of its first number, and where the result goes.
type Piece<'a> = (&'a [u8], usize, &'a mut [u8]);

impl Transcode<'_> {
    /// Encodes all of `bytes` into `out`.
    ///
    /// # Errors
    /// When lengths don't fit formats and rows, `to` is only read, or a number is not finite and `to` has blocks.
    pub fn run(&self, bytes: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let elements = bytes.len() / self.from.dtype.block_bytes() * self.from.dtype.block_elements();
        let fits = |format: &Format, bytes: usize| format.check(bytes, elements).map_err(Error::Shape);
        fits(self.from, bytes.len())?;
        fits(self.to, out.len())?;
        if self.from.dtype == self.to.dtype {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let row = self.importance.map_or(STEP, <[f32]>::len).max(1);
        // Whole blocks of both formats: their sizes are powers of two and divide a row.
        let step = row * (STEP / row).max(1);
        let piece = step * (PIECE / step).max(1);
        let (Some(piece_in), Some(piece_out)) = (self.from.dtype.bytes(piece), self.to.dtype.bytes(piece)) else {
            return Err(Error::Shape(format!("rows of {row} numbers are not whole blocks of {}", self.to.dtype)));
        };
        let pieces = bytes.chunks(piece_in).zip(out.chunks_mut(piece_out)).enumerate();
        let pieces = Mutex::new(pieces.map(|(index, (bytes, out))| (bytes, index * piece, out)));
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            let mut numbers = vec![0f32; step];
            let mut first: Option<(usize, Error)> = None;
            while let Some((bytes, at, out)) = next() {
                let error = self.piece((bytes, at, out), &mut numbers).err();
                let error = error.map(|error| (at, error));
                first = match (first, error) {
                    (Some(first), Some(error)) => Some(if error.0 < first.0 { error } else { first }),
                    (first, error) => first.or(error),
                };
            }
            first
        };
        let threads = self.threads.clamp(1, elements.div_ceil(piece).max(1));
        let errors = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
            let mut errors = vec![worker()];
            for other in others {
                // A panic of a worker is a broken invariant, and goes on here.
                errors.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            errors
        });
        let first = errors.into_iter().flatten().min_by_key(|(at, _)| *at);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    fn piece(&self, (bytes, at, out): Piece, numbers: &mut [f32]) -> Result<(), Error> {
        let step = numbers.len();
        let (from, to) = (self.from.dtype.bytes(step).unwrap_or(1), self.to.dtype.bytes(step).unwrap_or(1));
        for (index, (bytes, out)) in bytes.chunks(from).zip(out.chunks_mut(to)).enumerate() {
            let count = bytes.len() / self.from.dtype.block_bytes() * self.from.dtype.block_elements();
            let numbers = &mut numbers[..count];
            self.from.decode(bytes, numbers).map_err(Error::Shape)?;
            if self.to.dtype.block_elements() > 1
                && let Some(place) = not_finite(numbers)
            {
                return Err(Error::NotFinite { index: at + index * step + place, value: numbers[place] });
            }
            self.to.encode(numbers, self.importance, out).map_err(Error::Shape)?;
        }
        Ok(())
    }
}

/// Where the first number stands that is a NaN or an infinity.
fn not_finite(numbers: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7F80_0000;
    let largest = numbers.iter().fold(0, |largest, x| largest.max(x.to_bits() & EXPONENT));
    if largest < EXPONENT { None } else { numbers.iter().position(|x| !x.is_finite()) }
}
