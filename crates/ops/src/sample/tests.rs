//! What is drawn, how often, and that the filters leave what they should.

use super::*;
use crate::there;
use device::{Choice, Device, Options};

const DRAWS: usize = 2000;
/// A quantile of chi-square that right draws exceed once in a million times, for 15 degrees of freedom.
const MOST_CHI_SQUARE: f64 = 57.0;

fn devices() -> Vec<Device> {
    let cpu = Options { threads: Some(1), ..Options::default() };
    let choices =
        [(Choice::Cpu, cpu), (Choice::Vulkan(None), Options::default()), (Choice::Cuda(0), Options::default())];
    choices.iter().filter_map(|(choice, options)| there::open(*choice, options)).collect()
}

/// How often each token is drawn from one row of logits.
fn counts(device: &Device, logits: &[f64], row: Row) -> Vec<usize> {
    let drawn = CaseInput::values(DType::F32, [DRAWS, logits.len()], logits.repeat(DRAWS));
    let case = case("draws", drawn, &[row]);
    let out = device::check::outputs(device, &SAMPLE, &case, &Default::default(), 1).expect("the case runs");
    let mut counts = vec![0; logits.len()];
    out[0].iter().for_each(|&token| counts[token as usize] += 1);
    counts
}

/// Compares counts with masses: nothing is drawn without a mass, and the rest is near what is expected.
fn check(device: &Device, logits: &[f64], row: Row, mass: &[f64]) {
    let counts = counts(device, logits, row);
    let total: f64 = mass.iter().sum();
    let mut chi_square = 0.0;
    for (&count, &mass) in counts.iter().zip(mass) {
        let expected = DRAWS as f64 * mass / total;
        if mass == 0.0 {
            assert_eq!(count, 0, "{device}: {counts:?} for {mass:?}");
        } else {
            chi_square += (count as f64 - expected).powi(2) / expected;
        }
    }
    assert!(chi_square < MOST_CHI_SQUARE, "{device}: chi-square {chi_square} of {counts:?} for {mass:?}");
}

/// Sixteen tokens of masses 1 to 16 over 136, scattered.
fn masses() -> Vec<f64> {
    (0..16).map(|j| f64::from(j * 7 % 16 + 1)).collect()
}

fn logits(mass: &[f64]) -> Vec<f64> {
    mass.iter().map(|m| f64::from(m.ln() as f32)).collect()
}

#[test]
fn tokens_come_as_often_as_they_should() {
    let (mass, row) = (masses(), logits(&masses()));
    for device in devices() {
        check(&device, &row, PLAIN, &mass);
        let squares: Vec<f64> = mass.iter().map(|m| m * m).collect();
        check(&device, &row, Row { temperature: 0.5, ..PLAIN }, &squares);
        let above = |least: f64| mass.iter().map(|&m| if m >= least { m } else { 0.0 }).collect::<Vec<_>>();
        check(&device, &row, Row { top_k: 5, ..PLAIN }, &above(12.0));
        // 16 + 15 + 14 is 0.331 of the mass, with 13 it is 0.426.
        check(&device, &row, Row { top_p: 0.34, ..PLAIN }, &above(13.0));
        check(&device, &row, Row { min_p: 0.49, ..PLAIN }, &above(8.0));
        // Top-p is of what top-k leaves: 16 + 15 of 70 is 0.443, with 14 it is 0.643.
        check(&device, &row, Row { top_k: 5, top_p: 0.5, ..PLAIN }, &above(14.0));
        check(&device, &row, Row { top_k: 12, top_p: 0.8, min_p: 0.6, ..PLAIN }, &above(10.0));
    }
}

#[test]
fn one_token_is_left() {
    let row = logits(&masses());
    let best = masses().iter().position(|&m| m == 16.0).expect("there is one");
    for device in devices() {
        let one = [
            Row { top_k: 1, ..PLAIN },
            Row { top_p: 1e-20, ..PLAIN },
            Row { top_p: 0.0, ..PLAIN },
            Row { min_p: 1.0, ..PLAIN },
            Row { temperature: 0.0, top_k: 9, ..PLAIN },
            Row { temperature: 1e-30, ..PLAIN },
        ];
        for settings in one {
            assert_eq!(counts(&device, &row, settings)[best], DRAWS, "{device}");
        }
    }
}

#[test]
fn equals_stay_together() {
    let mass = [4.0, 2.0, 4.0, 1.0, 4.0, 2.0];
    for device in devices() {
        let all = |least: f64| mass.map(|m| if m >= least { m } else { 0.0 });
        check(&device, &logits(&mass), Row { top_k: 2, ..PLAIN }, &all(4.0));
        check(&device, &logits(&mass), Row { top_k: 4, ..PLAIN }, &all(2.0));
        check(&device, &logits(&mass), Row { top_p: 0.3, ..PLAIN }, &all(4.0));
        check(&device, &logits(&mass), Row { top_p: 0.8, ..PLAIN }, &all(2.0));
        let first = counts(&device, &logits(&mass), Row { temperature: 0.0, ..PLAIN });
        assert_eq!(first, [DRAWS, 0, 0, 0, 0, 0], "{device}");
    }
}

#[test]
fn any_bits_give_a_token() {
    let random = tensor::rng::Philox::new(3, "bits");
    let vocab = 300;
    for device in devices() {
        // Every kind of bits, NaNs among them, as logits and as settings.
        let bits = |from: u64, n: usize| -> Vec<f64> {
            (0..n).map(|i| f64::from(f32::from_bits(random.word(from + i as u64)))).collect()
        };
        let rows = 200;
        let logits = CaseInput::values(DType::F32, [rows, vocab], bits(0, rows * vocab));
        let mut case = case("bits", logits, &[PLAIN]);
        for (i, input) in [1, 3, 4].into_iter().enumerate() {
            case.inputs[input] = CaseInput::values(DType::F32, [rows], bits(1 << 20 << i, rows));
        }
        case.inputs[2] = CaseInput::below([rows], 400);
        let out = device::check::outputs(&device, &SAMPLE, &case, &Default::default(), 1).expect("the case runs");
        assert!(out[0].iter().all(|&token| (token as usize) < vocab), "{device}");
    }
}
