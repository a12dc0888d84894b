//! What is kept apart for validation: a share of the pairs, chosen by the seed, or the end of each text.
#![forbid(unsafe_code)]

use super::order::Order;

/// Training and validation pairs, each in file order. A share above 0 keeps at least one pair apart.
pub fn pairs<T>(all: Vec<T>, fraction: f64, seed: u64) -> (Vec<T>, Vec<T>) {
    let n = all.len();
    let kept = if fraction > 0.0 { ((n as f64 * fraction).round() as usize).clamp(1.min(n), n) } else { 0 };
    let order = Order::new(seed, "validation", n);
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for (i, pair) in all.into_iter().enumerate() {
        let part = if order.at(0, i) < kept { &mut validation } else { &mut training };
        part.push(pair);
    }
    (training, validation)
}

/// A text's beginning for training and its end for validation, cut after a line if there is one, else between characters.
pub fn text(bytes: &[u8], fraction: f64) -> (&[u8], &[u8]) {
    if fraction <= 0.0 {
        return (bytes, &[]);
    }
    let cut = bytes.len() - (bytes.len() as f64 * fraction).round() as usize;
    let line = bytes[..cut].iter().rposition(|b| *b == b'\n').map(|i| i + 1);
    let character = (0..=cut).rev().find(|i| bytes.get(*i).is_none_or(|b| b & 0xC0 != 0x80));
    bytes.split_at(line.or(character).unwrap_or(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_pairs_is_kept_apart() {
        let all: Vec<usize> = (0..20).collect();
        let (training, validation) = pairs(all.clone(), 0.25, 1);
        assert_eq!((training.len(), validation.len()), (15, 5));
        assert!(training.is_sorted() && validation.is_sorted() && validation != [0, 1, 2, 3, 4]);
        assert_eq!(pairs(all.clone(), 0.25, 1), (training.clone(), validation.clone()));
        assert_ne!(pairs(all.clone(), 0.25, 2).1, validation);
        assert_eq!(pairs(all.clone(), 0.0, 1), (all.clone(), vec![]));
        assert_eq!(pairs(all, 0.001, 1).1.len(), 1);
    }

    #[test]
    fn the_end_of_a_text_is_kept_apart_at_a_border() {
        let parts = |s: &str, f: f64| {
            let (a, b) = text(s.as_bytes(), f);
            (String::from_utf8(a.to_vec()).unwrap(), String::from_utf8(b.to_vec()).unwrap())
        };
        assert_eq!(parts("one\ntwo\nthree\n", 0.3), ("one\ntwo\n".into(), "three\n".into()));
        assert_eq!(parts("ééé", 0.5), ("é".into(), "éé".into()));
        assert_eq!(parts("abcd", 0.0), ("abcd".into(), String::new()));
        assert_eq!(parts("abcd", 0.5), ("ab".into(), "cd".into()));
        assert_eq!(parts("", 0.5), (String::new(), String::new()));
    }
}
