//! The codebooks of the IQ formats: constants of PyPI's gguf package (MIT; its notice is LICENSE beside them).
#![forbid(unsafe_code)]

use super::common::simd::numbers;

/// Values of an IQ1 entry.
const IQ1: [i8; 3] = [-1, 0, 1];
/// Values of an IQ2 entry.
const IQ2: [i8; 3] = [8, 25, 43];

/// Eight values an entry, a byte each.
pub(super) static IQ1_S: [u64; 2048] = eights(include_bytes!("iq1_s.hex"), IQ1);
/// Eight values an entry, a byte each.
pub(super) static IQ2_XXS: [u64; 256] = eights(include_bytes!("iq2_xxs.hex"), IQ2);
/// Eight values an entry, a byte each.
pub(super) static IQ2_XS: [u64; 512] = eights(include_bytes!("iq2_xs.hex"), IQ2);
/// Eight values an entry, a byte each.
pub(super) static IQ2_S: [u64; 1024] = eights(include_bytes!("iq2_s.hex"), IQ2);
/// Four values an entry, a byte each.
pub(super) static IQ3_XXS: [u32; 256] = fours(include_bytes!("iq3_xxs.hex"), [4, 12, 20, 28, 36, 44, 52, 62]);
/// Four values an entry, a byte each.
pub(super) static IQ3_S: [u32; 512] = fours(include_bytes!("iq3_s.hex"), [1, 3, 5, 7, 9, 11, 13, 15]);

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

/// Entries of eight codes of 2 bits, as what the codes mean.
const fn eights<const ENTRIES: usize>(hex: &[u8], values: [i8; 3]) -> [u64; ENTRIES] {
    let codes: [u16; ENTRIES] = grid(hex);
    let mut words = [0; ENTRIES];
    let mut at = 0;
    while at < 8 * ENTRIES {
        let code = (codes[at / 8] >> (2 * (at % 8)) & 3) as usize;
        assert!(code < 3, "entries have three values");
        let value = values[code];
        words[at / 8] |= (value as u8 as u64) << (8 * (at % 8));
        at += 1;
    }
    words
}

/// Entries of four codes of 3 bits, each in 4, as what the codes mean.
const fn fours<const ENTRIES: usize>(hex: &[u8], values: [i8; 8]) -> [u32; ENTRIES] {
    let codes: [u16; ENTRIES] = grid(hex);
    let mut words = [0; ENTRIES];
    let mut at = 0;
    while at < 4 * ENTRIES {
        let value = values[(codes[at / 4] >> (4 * (at % 4)) & 7) as usize];
        words[at / 4] |= (value as u32) << (8 * (at % 4));
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
pub(super) fn pair(first: u32, second: u32) -> u64 {
    u64::from(first) | u64::from(second) << 32
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
