//! The codebooks of the IQ formats: constants of PyPI's gguf package (MIT; its notice is LICENSE beside them).
#![forbid(unsafe_code)]

use super::common::simd::numbers;

/// Eight values an entry, a byte each.
pub(super) static IQ1_S: [u64; 2048] = entries(include_bytes!("iq1_s.hex"), 2, &[-1, 0, 1]);
/// Eight values an entry, a byte each.
pub(super) static IQ2_XXS: [u64; 256] = entries(include_bytes!("iq2_xxs.hex"), 2, IQ2);
/// Eight values an entry, a byte each.
pub(super) static IQ2_XS: [u64; 512] = entries(include_bytes!("iq2_xs.hex"), 2, IQ2);
/// Eight values an entry, a byte each.
pub(super) static IQ2_S: [u64; 1024] = entries(include_bytes!("iq2_s.hex"), 2, IQ2);
/// Four values an entry, a byte each.
pub(super) static IQ3_XXS: [u64; 256] = entries(include_bytes!("iq3_xxs.hex"), 4, &[4, 12, 20, 28, 36, 44, 52, 62]);
/// Four values an entry, a byte each.
pub(super) static IQ3_S: [u64; 512] = entries(include_bytes!("iq3_s.hex"), 4, &[1, 3, 5, 7, 9, 11, 13, 15]);

/// What the codes of an IQ2 entry mean.
const IQ2: &[i8] = &[8, 25, 43];

/// Bytes of ones where bits of the index are set.
pub(super) static SIGNS: [u64; 256] = signs();
/// As [`SIGNS`], of seven bits and an eighth that makes their number even.
pub(super) static EVEN_SIGNS: [u64; 128] = signs();

const fn signs<const ENTRIES: usize>() -> [u64; ENTRIES] {
    let mut signs = [0; ENTRIES];
    let mut at = 0;
    while at < 8 * ENTRIES {
        let index = at / 8;
        let bits = if ENTRIES == 128 { index | (index.count_ones() as usize & 1) << 7 } else { index };
        signs[index] |= ((bits >> (at % 8) & 1) as u64 * 0xFF) << (8 * (at % 8));
        at += 1;
    }
    signs
}

/// Entries of 16 bits, codes of `bits` each, as what the codes mean. A code that means nothing doesn't compile.
const fn entries<const ENTRIES: usize>(hex: &[u8], bits: usize, values: &[i8]) -> [u64; ENTRIES] {
    let codes: [u16; ENTRIES] = grid(hex);
    let (mut words, count) = ([0; ENTRIES], 16 / bits);
    let mut at = 0;
    while at < count * ENTRIES {
        let place = at % count;
        let code = codes[at / count] >> (bits * place) & ((1 << bits) - 1);
        words[at / count] |= (values[code as usize] as u8 as u64) << (8 * place);
        at += 1;
    }
    words
}

/// Entries of four hexadecimal digits, the first of two bytes first.
const fn grid<const ENTRIES: usize>(hex: &[u8]) -> [u16; ENTRIES] {
    let mut entries = [0; ENTRIES];
    let (mut at, mut digit) = (0, 0);
    while at < hex.len() {
        let value = match hex[at] {
            b'0'..=b'9' => hex[at] - b'0',
            b'a'..=b'f' => hex[at] - b'a' + 10,
            _ => 16,
        };
        at += 1;
        if value < 16 {
            entries[digit / 4] |= (value as u16) << ([4, 0, 12, 8][digit % 4]);
            digit += 1;
        }
    }
    assert!(digit == 4 * ENTRIES, "a codebook has four digits an entry");
    entries
}

/// Eight values from 1 to 127, negative where `signs` has bytes of ones: all at once, since no byte carries into the next.
#[inline(always)]
pub(super) fn signed(values: u64, signs: u64) -> u64 {
    (values ^ signs) + (signs & 0x0101_0101_0101_0101)
}

/// Two entries of four values.
#[inline(always)]
pub(super) fn pair(first: u64, second: u64) -> u64 {
    first | second << 32
}

/// Eight values times their scale.
#[inline(always)]
pub(super) fn scaled(values: u64, scale: f32, out: &mut [f32; 8]) {
    let values = numbers(values);
    for i in 0..8 {
        out[i] = scale * values[i];
    }
}

/// Eight values moved by `delta`, times their scale.
#[inline(always)]
pub(super) fn moved(values: u64, delta: f32, scale: f32, out: &mut [f32; 8]) {
    let values = numbers(values);
    for i in 0..8 {
        out[i] = scale * (values[i] + delta);
    }
}
