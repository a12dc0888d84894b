//! The codebooks of the IQ formats: constants of PyPI's gguf package (MIT; its notice is LICENSE beside them).
#![forbid(unsafe_code)]

/// 8 values of 2 bits an entry.
pub(super) const IQ1_S: [u16; 2048] = grid(include_bytes!("iq1_s.hex"));
/// 8 values of 2 bits an entry.
pub(super) const IQ2_XXS: [u16; 256] = grid(include_bytes!("iq2_xxs.hex"));
/// 8 values of 2 bits an entry.
pub(super) const IQ2_XS: [u16; 512] = grid(include_bytes!("iq2_xs.hex"));
/// 8 values of 2 bits an entry.
pub(super) const IQ2_S: [u16; 1024] = grid(include_bytes!("iq2_s.hex"));
/// 4 values of 3 bits an entry.
pub(super) const IQ3_XXS: [u16; 256] = grid(include_bytes!("iq3_xxs.hex"));
/// 4 values of 3 bits an entry.
pub(super) const IQ3_S: [u16; 512] = grid(include_bytes!("iq3_s.hex"));

/// What the 2-bit codes of an IQ2 entry mean.
const IQ2_VALUES: [f32; 4] = [8.0, 25.0, 43.0, 0.0];

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

/// The eight values of an IQ2 entry, with bit i of `signs` turning value i.
pub(super) fn iq2(entry: u16, signs: u8) -> [f32; 8] {
    std::array::from_fn(|i| sign(signs, i) * IQ2_VALUES[usize::from(entry >> (2 * i) & 3)])
}

/// The eight values of an IQ1 entry: -1, 0 or 1.
pub(super) fn iq1(entry: u16) -> [f32; 8] {
    std::array::from_fn(|i| f32::from((entry >> (2 * i) & 3) as i8 - 1))
}

/// The 3-bit codes of an IQ3 entry.
pub(super) fn iq3(entry: u16) -> [usize; 4] {
    std::array::from_fn(|i| usize::from(entry >> (4 * i) & 7))
}

/// -1 where bit `i` is set, else 1.
pub(super) fn sign(signs: u8, i: usize) -> f32 {
    if signs >> i & 1 == 0 { 1.0 } else { -1.0 }
}

/// Seven signs and an eighth that makes their number even.
pub(super) fn even_signs(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}
