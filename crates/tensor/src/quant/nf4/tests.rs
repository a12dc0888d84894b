//! NF4 against bitsandbytes (golden.json, by peers/make_nf4_golden.py) and against its own bounds.

use super::*;
use crate::hash::Hasher;
use crate::quant::tests::numbers;

#[derive(serde::Deserialize)]
struct Golden {
    values: String,
    dynamic_values: String,
    codes: String,
    scales: String,
    decoded: String,
    double_codes: String,
    double_largest: String,
    double_offset: f32,
    double_decoded: String,
}

/// The same numbers as in the script.
fn golden_numbers() -> Vec<f32> {
    (0..20480u32).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 1024.0 * (1 + i / 64 % 7) as f32).collect()
}

fn hashed(bytes: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn hashed_numbers(x: &[f32]) -> String {
    hashed(&x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
}

#[test]
fn tables_codes_and_numbers_are_those_of_bitsandbytes() {
    let golden: Golden = serde_json::from_str(include_str!("golden.json")).expect("a golden");
    assert_eq!(hashed_numbers(&VALUES), golden.values);
    assert_eq!(hashed_numbers(&dynamic_values()), golden.dynamic_values);
    let x = golden_numbers();
    let mut out = vec![0.0; x.len()];
    let plain = Nf4::encode(&x, BLOCK, false).expect("blocks of 64");
    let Scales::Plain(scales) = &plain.scales else { panic!("they are plain") };
    assert_eq!((hashed(&plain.codes), hashed_numbers(scales)), (golden.codes, golden.scales));
    plain.decode(&mut out).expect("it is whole");
    assert_eq!(hashed_numbers(&out), golden.decoded);
    let double = Nf4::encode(&x, BLOCK, true).expect("blocks of 64");
    let Scales::Double { codes, largest, offset } = &double.scales else { panic!("they are quantized") };
    assert_eq!(*offset, golden.double_offset);
    assert_eq!((hashed(codes), hashed_numbers(largest)), (golden.double_codes, golden.double_largest));
    double.decode(&mut out).expect("it is whole");
    assert_eq!(hashed_numbers(&out), golden.double_decoded);
}

#[test]
fn every_number_is_as_near_as_the_table_allows() {
    for (block, double, bound) in [(64, false, 0.0), (64, true, 0.02), (128, true, 0.02), (2, false, 0.0)] {
        // The last block is not whole, and has an odd number.
        let mut x = numbers(64 * 700 + 33, 3, 0.02);
        x[640..704].fill(0.0);
        let coded = Nf4::encode(&x, block, double).expect("an even block");
        let mut out = vec![f32::NAN; x.len()];
        coded.decode(&mut out).expect("it is whole");
        for (block, out) in x.chunks(block).zip(out.chunks(block)) {
            let scale = largest(block);
            // Half of the widest gap, and what the scale itself is off by.
            let most = scale * (0.1519 + bound) + if double { 0.002 } else { 0.0 };
            assert!(block.iter().zip(out).all(|(x, y)| (x - y).abs() <= most));
        }
        let bits = coded.bytes() as f64 * 8.0 / x.len() as f64;
        let expected = 4.0 + if double { 8.0 / block as f64 } else { 32.0 / block as f64 };
        assert!((bits - expected).abs() < 0.02, "{bits} {expected}");
    }
    assert_eq!(Nf4::encode(&[1.0], 63, false), Err(Error::Block(63)));
    assert_eq!(Nf4::encode(&[1.0], 0, false), Err(Error::Block(0)));
    let mut coded = Nf4::encode(&[1.0; 100], 64, true).expect("an even block");
    coded.codes.pop();
    assert!(coded.decode(&mut [0.0; 100]).expect_err("a byte is missing").to_string().contains("50 bytes of codes"));
}
