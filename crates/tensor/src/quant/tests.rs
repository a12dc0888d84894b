//! Every format against PyPI's gguf package, bit for bit (golden.json, by peers/make_quant_golden.py).

use super::*;
use crate::hash::Hasher;
use std::collections::BTreeMap;

fn random_bytes(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn what_blocks_mean_is_what_gguf_says() {
    let golden: BTreeMap<String, String> = serde_json::from_str(include_str!("golden.json")).expect("a golden");
    let mut wrong = Vec::new();
    for (name, expected) in &golden {
        let Some(format) = name.parse().ok().and_then(format) else {
            wrong.push(format!("{name} is not there"));
            continue;
        };
        let (size, elements) = (format.dtype.block_bytes(), format.dtype.block_elements());
        let mut bytes = random_bytes(512 * size);
        [0x00, 0x7B, 0x7F, 0x80, 0xFF].iter().for_each(|byte| bytes.extend(vec![*byte; size]));
        let mut out = vec![f32::MAX; bytes.len() / size * elements];
        format.decode(&bytes, &mut out).expect("whole blocks");
        let mut hasher = Hasher::default();
        for value in out {
            let bits = if value.is_nan() { 0x7FC0_0000 } else { value.to_bits() };
            hasher.update(&bits.to_le_bytes());
        }
        if hasher.finish() != *expected {
            wrong.push(format!("{name} differs"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn q8_k_is_its_formula() {
    let mut block = [0u8; 292];
    block[..4].copy_from_slice(&0.37f32.to_le_bytes());
    block[4..260].iter_mut().enumerate().for_each(|(i, q)| *q = i as u8);
    let mut out = [0f32; 256];
    format(DType::Q8_K).expect("it is there").decode(&block, &mut out).expect("a block");
    assert!(out.iter().enumerate().all(|(i, v)| *v == 0.37 * f32::from(i as u8 as i8)));
    let mut short = [0f32; 255];
    assert!(format(DType::Q8_K).expect("it is there").decode(&block, &mut short).is_err());
}

/// About normal numbers of deviation `scale`, the same everywhere.
pub(super) fn numbers(count: usize, seed: u64, scale: f32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
    (0..count).map(|_| normal() * scale).collect()
}

/// The root mean squared error of encoding, relative to that of the numbers.
fn relative_error(format: &Format, x: &[f32], importance: Option<&[f32]>) -> f64 {
    let mut bytes = vec![0; format.dtype.bytes(x.len()).expect("whole blocks")];
    format.encode(x, importance, &mut bytes).expect("it encodes");
    let mut back = vec![0f32; x.len()];
    format.decode(&bytes, &mut back).expect("whole blocks");
    let errors: f64 = x.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    (errors / squares).sqrt()
}

#[test]
fn print_errors() {
    let x = numbers(1 << 18, 1, 0.02);
    let w: Vec<f32> = numbers(1024, 5, 1.0).iter().map(|x| x * x).collect();
    for format in FORMATS.iter().filter(|f| f.encodes()) {
        eprintln!(
            "{} {:.5} {:.5}",
            format.dtype,
            relative_error(format, &x, None),
            relative_error(format, &x, Some(&w))
        );
    }
}
