//! A tensor from one format into another, on several threads: cut by shape alone, so that threads don't change a bit.
#![forbid(unsafe_code)]

use super::common::LARGEST_HALF;
use super::common::simd::{Stream, prefetch};
use super::{Format, plain};
use crate::DType;
use std::sync::{Mutex, PoisonError};

/// Numbers that a thread takes at once.
const PIECE: usize = 1 << 16;
/// Numbers that are decoded before they are encoded. So few that the processor computes on while the numbers before
/// them are still being written: with 4,096 it mostly waits for one or the other.
const STEP: usize = 1 << 10;
/// Bytes of plain numbers from which on they are written past the caches, which hold less.
const STREAMED: usize = 1 << 25;

/// What can't be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The source has a NaN, an infinity, or a number beyond the largest f16, which is the largest scale.
    #[error("element {index} is {value}, which no block format holds")]
    Number {
        /// Which element, in the tensor's order.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// The source has a number that is finite, and whose place in a plain type would be an infinity.
    #[error("element {index} is {value}, which {to} doesn't hold")]
    Narrow {
        /// Which element, in the tensor's order.
        index: usize,
        /// What it is.
        value: f32,
        /// The plain type.
        to: DType,
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

/// What a thread works in.
struct Space {
    /// `STEP` numbers, or a row of them.
    numbers: Vec<f32>,
    /// As many in their new type, where they are written past the caches; else empty.
    near: Vec<u8>,
    /// As many decoded again, where the loss is measured; else empty.
    back: Vec<f32>,
}

/// What a piece has come to.
struct Done {
    at: usize,
    outcome: Result<Loss, Error>,
}

/// What encoding has lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The sum of the numbers' squares.
    pub squares: f64,
    /// The sum of the squares of what they are off by.
    pub errors: f64,
}

impl Loss {
    /// The root mean square of the errors, relative to that of the numbers; 0 where all are 0.
    pub fn relative(&self) -> f64 {
        // A number that is none stays none.
        if self.squares == 0.0 { 0.0 } else { (self.errors / self.squares).sqrt() }
    }

    /// This and another together.
    pub fn and(self, other: Loss) -> Loss {
        Loss { squares: self.squares + other.squares, errors: self.errors + other.errors }
    }
}

impl Transcode<'_> {
    /// Encodes all of `bytes` into `out`.
    ///
    /// # Errors
    /// When lengths don't fit formats and rows, `to` is only read, or `to` can't hold a number: plain types hold what is no number.
    pub fn run(&self, bytes: &[u8], out: &mut [u8]) -> Result<(), Error> {
        self.pieces(bytes, out, false).map(|_| ())
    }

    /// Encodes all of `bytes` into `out`, decodes it again, and answers what was lost.
    ///
    /// # Errors
    /// As those of `run`.
    pub fn measured(&self, bytes: &[u8], out: &mut [u8]) -> Result<Loss, Error> {
        self.pieces(bytes, out, true)
    }

    fn pieces(&self, bytes: &[u8], out: &mut [u8], measure: bool) -> Result<Loss, Error> {
        let elements = bytes.len() / self.from.dtype.block_bytes() * self.from.dtype.block_elements();
        let fits = |format: &Format, bytes: usize| format.check(bytes, elements).map_err(Error::Shape);
        fits(self.from, bytes.len())?;
        fits(self.to, out.len())?;
        let row = self.importance.map_or(STEP, <[f32]>::len).max(1);
        // Whole blocks of both formats: their sizes are powers of two and divide a row.
        let step = row * (STEP / row).max(1);
        let piece = step * (PIECE / step).max(1);
        let (Some(piece_in), Some(piece_out)) = (self.from.dtype.bytes(piece), self.to.dtype.bytes(piece)) else {
            return Err(Error::Shape(format!("rows of {row} numbers are not whole blocks of {}", self.to.dtype)));
        };
        let copied = self.from.dtype == self.to.dtype && !measure;
        let streamed = out.len() >= STREAMED && (copied || self.to.dtype.block_elements() == 1);
        let pieces = bytes.chunks(piece_in).zip(out.chunks_mut(piece_out)).enumerate();
        let pieces = Mutex::new(pieces.map(|(index, (bytes, out))| (bytes, index * piece, out)));
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            let near = if streamed { self.to.dtype.bytes(step).unwrap_or(0) } else { 0 };
            let back = if measure { step } else { 0 };
            let mut space = Space { numbers: vec![0f32; step], near: vec![0; near], back: vec![0f32; back] };
            let mut done = Vec::new();
            while let Some((bytes, at, out)) = next() {
                let outcome = if copied {
                    if streamed {
                        Stream::new().copy(bytes, out)
                    } else {
                        out.copy_from_slice(bytes)
                    }
                    Ok(Loss::default())
                } else {
                    self.piece((bytes, at, out), &mut space)
                };
                done.push(Done { at, outcome });
            }
            done
        };
        let threads = self.threads.clamp(1, elements.div_ceil(piece).max(1));
        let mut done = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
            let mut done = worker();
            for other in others {
                // A panic of a worker is a broken invariant, and goes on here.
                done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        // In order, so that the first error is told, and sums are the same with any number of threads.
        done.sort_by_key(|done| done.at);
        done.into_iter().try_fold(Loss::default(), |loss, done| Ok(loss.and(done.outcome?)))
    }

    fn piece(&self, (bytes, at, out): Piece, space: &mut Space) -> Result<Loss, Error> {
        let (step, stream) = (space.numbers.len(), Stream::new());
        let (from, to) = (self.from.dtype.bytes(step).unwrap_or(1), self.to.dtype.bytes(step).unwrap_or(1));
        let mut loss = Loss::default();
        let bounds = plain::bounds(self.from.dtype, self.to.dtype);
        let later = bytes.chunks(from).skip(1).chain(std::iter::once([].as_slice()));
        for (index, ((bytes, later), out)) in bytes.chunks(from).zip(later).zip(out.chunks_mut(to)).enumerate() {
            prefetch(later);
            let count = bytes.len() / self.from.dtype.block_bytes() * self.from.dtype.block_elements();
            let numbers = &mut space.numbers[..count];
            self.from.decode(bytes, numbers).map_err(Error::Shape)?;
            if self.to.dtype.block_elements() > 1
                && let Some(place) = too_large(numbers)
            {
                return Err(Error::Number { index: at + index * step + place, value: numbers[place] });
            }
            if let Some(bounds) = &bounds
                && let Some(place) = plain::beyond(numbers, bounds)
            {
                let (index, value) = (at + index * step + place, numbers[place]);
                return Err(Error::Narrow { index, value, to: self.to.dtype });
            }
            match space.near.get_mut(..out.len()) {
                Some(near) => {
                    self.to.encode(numbers, self.importance, near).map_err(Error::Shape)?;
                    stream.copy(near, out);
                }
                None => self.to.encode(numbers, self.importance, out).map_err(Error::Shape)?,
            }
            if let Some(back) = space.back.get_mut(..count) {
                self.to.decode(out, back).map_err(Error::Shape)?;
                for (x, y) in numbers.iter().zip(back) {
                    let (x, error) = (f64::from(*x), f64::from(*x) - f64::from(*y));
                    loss = loss.and(Loss { squares: x * x, errors: error * error });
                }
            }
        }
        Ok(loss)
    }
}

/// Where the first number stands that blocks can't hold.
fn too_large(numbers: &[f32]) -> Option<usize> {
    // Of magnitudes as whole numbers, NaN is the largest.
    let magnitude = |x: f32| x.to_bits() & 0x7FFF_FFFF;
    let largest = numbers.iter().fold(0, |largest, x| largest.max(magnitude(*x)));
    let most = LARGEST_HALF.to_bits();
    if largest <= most { None } else { numbers.iter().position(|x| magnitude(*x) > most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::format;
    use crate::quant::tests::numbers;

    fn transcoded(to: DType, x: &[f32], importance: Option<&[f32]>, threads: usize) -> Result<Vec<u8>, Error> {
        let (from, to) = (format(DType::F32).expect("it is there"), format(to).expect("it is there"));
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = vec![0xA5; to.dtype.bytes(x.len()).unwrap_or(0)];
        Transcode { from, to, importance, threads }.run(&bytes, &mut out).map(|()| out)
    }

    #[test]
    fn threads_change_nothing() {
        let columns = 1280;
        let x = numbers(columns * 211, 4, 0.3);
        let importance: Vec<f32> = numbers(columns, 5, 1.0).iter().map(|w| w * w).collect();
        for to in [DType::Q4_K, DType::Q4_0, DType::Bf16, DType::Mxfp4] {
            for importance in [None, Some(importance.as_slice())] {
                let one = transcoded(to, &x, importance, 1).expect("it encodes");
                let mut whole = vec![0; one.len()];
                format(to).expect("it is there").encode(&x, importance, &mut whole).expect("it encodes");
                assert!(one == whole, "{to} in pieces");
                assert!(
                    [2, 3, 7].iter().all(|n| transcoded(to, &x, importance, *n).expect("it encodes") == one),
                    "{to}"
                );
            }
        }
    }

    #[test]
    fn what_is_written_past_the_caches_is_the_same() {
        let x = numbers(STREAMED / 2 + 1000, 11, 0.3);
        let written = transcoded(DType::Bf16, &x, None, 2).expect("it encodes");
        let bf16 = format(DType::Bf16).expect("it is there");
        let mut whole = vec![0; written.len()];
        bf16.encode(&x, None, &mut whole).expect("it encodes");
        assert!(written == whole);
        let mut copied = vec![0xA5; written.len()];
        Transcode { from: bf16, to: bf16, importance: None, threads: 2 }.run(&written, &mut copied).expect("a copy");
        assert!(copied == written);
        // From and to places of any alignment.
        let from: Vec<u8> = (0..300).map(|i| (i % 251) as u8).collect();
        for start in 0..70 {
            let mut to = vec![0; 300];
            Stream::new().copy(&from[start / 2..300 - start], &mut to[start..300 - start / 2]);
            assert!(to[start..300 - start / 2] == from[start / 2..300 - start], "{start}");
            assert!(to[..start].iter().chain(&to[300 - start / 2..]).all(|byte| *byte == 0), "{start}");
        }
    }

    #[test]
    fn what_is_lost_is_measured() {
        let columns = 1280;
        let x = numbers(columns * 211, 4, 0.3);
        let importance = vec![1.0; columns];
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        for (to, importance) in [(DType::Q4_K, None), (DType::Q5_0, Some(importance.as_slice())), (DType::F32, None)] {
            let expected = transcoded(to, &x, importance, 1).expect("it encodes");
            let (from, to) = (format(DType::F32).expect("it is there"), format(to).expect("it is there"));
            let [one, three] = [1, 3].map(|threads| {
                let mut out = vec![0; expected.len()];
                let loss = Transcode { from, to, importance, threads }.measured(&bytes, &mut out).expect("it encodes");
                assert!(out == expected, "{} measured", to.dtype);
                loss
            });
            assert_eq!(one, three);
            let mut back = vec![0f32; x.len()];
            to.decode(&expected, &mut back).expect("whole blocks");
            let sum = |term: &dyn Fn(f32, f32) -> f64| x.iter().zip(&back).map(|(x, y)| term(*x, *y)).sum::<f64>();
            let (squares, errors) =
                (sum(&|x, _| f64::from(x).powi(2)), sum(&|x, y| (f64::from(x) - f64::from(y)).powi(2)));
            assert!((one.relative() - (errors / squares).sqrt()).abs() < 1e-12, "{one:?} {errors} {squares}");
        }
    }

    #[test]
    fn no_finite_number_becomes_an_infinity() {
        let mut x = numbers(1 << 18, 6, 1.0);
        (x[70_000], x[200_000]) = (-65_520.0, 1e9);
        let narrow = |value| Error::Narrow { index: 70_000, value, to: DType::F16 };
        for threads in [1, 3] {
            assert_eq!(transcoded(DType::F16, &x, None, threads).expect_err("too large"), narrow(-65_520.0));
        }
        assert!(narrow(-65_520.0).to_string().contains("element 70000 is -65520, which f16 doesn't hold"));
        transcoded(DType::Bf16, &x, None, 2).expect("it holds them");
        x[200_000] = 65_519.9;
        x[70_000] = f32::MAX;
        let to = DType::Bf16;
        let error = transcoded(to, &x, None, 2).expect_err("it rounds up");
        assert_eq!(error, Error::Narrow { index: 70_000, value: f32::MAX, to });
        // What isn't finite stays what it is, and no error is 0 beside it.
        (x[70_000], x[100_000]) = (f32::INFINITY, f32::NAN);
        transcoded(DType::F16, &x, None, 2).expect("a plain number may be anything");
        let (from, to) = (format(DType::F32).expect("it is there"), format(DType::F16).expect("it is there"));
        let bytes: Vec<u8> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = vec![0; x.len() * 2];
        let loss = Transcode { from, to, importance: None, threads: 2 }.measured(&bytes, &mut out).expect("it encodes");
        assert!(loss.relative().is_nan() && Loss::default().relative() == 0.0, "{loss:?}");
    }

    #[test]
    fn what_blocks_cannot_hold_is_named() {
        let mut x = numbers(1 << 18, 6, 1.0);
        (x[70_000], x[200_000]) = (f32::NEG_INFINITY, f32::NAN);
        let error = transcoded(DType::Q4_K, &x, None, 2).expect_err("an infinity");
        assert_eq!(error, Error::Number { index: 70_000, value: f32::NEG_INFINITY });
        transcoded(DType::Bf16, &x, None, 2).expect("a plain number may be anything");
        x[70_000] = 70_000.0;
        let error = transcoded(DType::Q8_0, &x, None, 2).expect_err("too large");
        assert_eq!(error, Error::Number { index: 70_000, value: 70_000.0 });
        assert!(matches!(transcoded(DType::Q4_K, &x[..100], None, 1), Err(Error::Shape(_))));
        assert!(matches!(transcoded(DType::Q4_K, &x[..512], Some(&[1.0; 100]), 1), Err(Error::Shape(_))));
    }
}
