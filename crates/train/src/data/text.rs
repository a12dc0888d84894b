//! Plain text: one stream of tokens, cut into rows of the model's context.
#![forbid(unsafe_code)]

use super::Rows;

/// The built-in text.
pub const TALE: &str = include_str!("../../../../presets/tale.txt");

/// Rows of `context` tokens, each token's target the next one; what is missing in the last row counts for nothing.
pub fn rows(stream: &[u32], context: usize, ignore: u32) -> Rows {
    let pairs = stream.len().saturating_sub(1);
    let full = pairs.next_multiple_of(context);
    let mut tokens: Vec<u32> = stream.iter().take(pairs).copied().collect();
    let mut targets: Vec<u32> = stream.iter().skip(1).copied().collect();
    tokens.resize(full, 0);
    targets.resize(full, ignore);
    Rows { tokens, targets, ignore }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_but_the_first_is_a_target_once() {
        let rows = rows(&[97, 98, 99, 100, 101, 102], 3, 256);
        assert_eq!(rows.tokens, [97, 98, 99, 100, 101, 0]);
        assert_eq!(rows.targets, [98, 99, 100, 101, 102, 256]);
        assert!(super::rows(&[97], 3, 256).tokens.is_empty());
    }
}
