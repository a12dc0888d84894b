//! Plain text, a token a byte, cut into rows of the model's context.
#![forbid(unsafe_code)]

use super::Rows;

/// The built-in text.
pub const TALE: &str = include_str!("../../../../presets/tale.txt");

/// Rows of `context` bytes, each byte's target the next one; what is missing in the last row counts for nothing.
pub fn rows(text: &[u8], context: usize, vocab_size: usize) -> Rows {
    let ignore = u32::try_from(vocab_size).unwrap_or(u32::MAX);
    let pairs = text.len().saturating_sub(1);
    let full = pairs.next_multiple_of(context);
    let mut tokens: Vec<u32> = text.iter().take(pairs).map(|b| u32::from(*b)).collect();
    let mut targets: Vec<u32> = text.iter().skip(1).map(|b| u32::from(*b)).collect();
    tokens.resize(full, 0);
    targets.resize(full, ignore);
    Rows { tokens, targets, ignore }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_the_first_is_a_target_once() {
        let rows = rows(b"abcdef", 3, 256);
        assert_eq!(rows.tokens, [97, 98, 99, 100, 101, 0]);
        assert_eq!(rows.targets, [98, 99, 100, 101, 102, 256]);
        assert!(super::rows(b"a", 3, 256).tokens.is_empty());
    }
}
