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
    for (bits, (name, expected)) in [512, 256, 128].into_iter().flat_map(|bits| golden.iter().map(move |g| (bits, g))) {
        common::simd::WIDEST.set(bits);
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
            wrong.push(format!("{name} differs with vectors of {bits} bits"));
        }
    }
    common::simd::WIDEST.set(512);
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

/// What encoding normal numbers loses, without and with a random importance: as measured, and 1% more. llama.cpp's
/// figures on the same numbers are at most 2% lower (peers/compare_quantize.py).
const ERRORS: &[(DType, f64, f64)] = &[
    (DType::F32, 0.0, 0.0),
    (DType::F16, 0.0002095, 0.0002095),
    (DType::Bf16, 0.001666, 0.001666),
    (DType::Q4_0, 0.08493, 0.08369),
    (DType::Q4_1, 0.07786, 0.07408),
    (DType::Q5_0, 0.04222, 0.04153),
    (DType::Q5_1, 0.03758, 0.03587),
    (DType::Q8_0, 0.00528, 0.00528),
    (DType::Q2_K, 0.2712, 0.2962),
    (DType::Q3_K, 0.148, 0.1529),
    (DType::Q4_K, 0.06998, 0.07498),
    (DType::Q5_K, 0.03455, 0.03705),
    (DType::Q6_K, 0.01723, 0.01801),
    (DType::Mxfp4, 0.112, 0.1129),
    (DType::Iq4Nl, 0.07556, 0.07768),
    (DType::Iq4Xs, 0.07615, 0.07823),
];

#[test]
fn encoding_loses_little() {
    let x = numbers(1 << 16, 1, 0.02);
    let importance: Vec<f32> = numbers(1024, 5, 1.0).iter().map(|x| x * x).collect();
    let encoders: Vec<DType> = FORMATS.iter().filter(|f| f.encodes()).map(|f| f.dtype).collect();
    assert_eq!(encoders, ERRORS.iter().map(|(dtype, ..)| *dtype).collect::<Vec<_>>());
    for (dtype, most, most_weighted) in ERRORS {
        let format = format(*dtype).expect("it is there");
        let found = (relative_error(format, &x, None), relative_error(format, &x, Some(&importance)));
        assert!(found.0 <= *most && found.1 <= *most_weighted, "{dtype}: {found:?}");
    }
}

/// An importance makes the error that it weighs smaller.
#[test]
fn importance_is_heeded() {
    let x = numbers(1 << 16, 8, 0.02);
    let importance: Vec<f32> = (0..1024).map(|i| if i % 7 == 0 { 100.0 } else { 0.01 }).collect();
    let weighted = |format: &Format, importance: Option<&[f32]>, weights: &[f32]| {
        let mut bytes = vec![0; format.dtype.bytes(x.len()).expect("whole blocks")];
        format.encode(&x, importance, &mut bytes).expect("it encodes");
        let mut back = vec![0f32; x.len()];
        format.decode(&bytes, &mut back).expect("whole blocks");
        let weights = weights.iter().cycle();
        x.iter().zip(&back).zip(weights).map(|((x, y), w)| f64::from((x - y).powi(2) * w)).sum::<f64>()
    };
    for format in FORMATS.iter().filter(|f| f.encodes() && f.dtype.block_elements() > 1) {
        let [with, without] = [Some(importance.as_slice()), None].map(|known| weighted(format, known, &importance));
        let heeded = match format.dtype {
            DType::Q8_0 => with == without,
            // Its scales are powers of two: there is little to choose.
            DType::Mxfp4 => with < 0.98 * without,
            _ => with < 0.9 * without,
        };
        assert!(heeded, "{}: {with} {without}", format.dtype);
    }
}

/// The largest error of a block, relative to its largest number, whatever the numbers are.
#[test]
fn odd_blocks_are_encoded() {
    let normal = numbers(256, 9, 1.0);
    let blocks: Vec<(&str, Vec<f32>)> = vec![
        ("zeros", vec![0.0; 256]),
        ("negative zeros", vec![-0.0; 256]),
        ("all the same", vec![0.37; 256]),
        ("all the same, negative", vec![-0.37; 256]),
        ("positive", normal.iter().map(|x| x.abs() + 0.01).collect()),
        ("negative", normal.iter().map(|x| -x.abs() - 0.01).collect()),
        ("one number", (0..256).map(|i| if i == 77 { -3.0 } else { 0.0 }).collect()),
        ("one outlier", (0..256).map(|i| if i == 200 { 1000.0 } else { normal[i] }).collect()),
        ("large", normal.iter().map(|x| x * 10_000.0).collect()),
        ("subnormal", normal.iter().map(|x| x * 1e-40).collect()),
        ("tiny", normal.iter().map(|x| x * 1e-20).collect()),
        ("two sizes", (0..256).map(|i| normal[i] * if i < 128 { 1e-3 } else { 1.0 }).collect()),
    ];
    let importance: [Option<Vec<f32>>; 3] =
        [None, Some(vec![0.0; 256]), Some((0..256).map(|i| if i % 2 == 0 { 0.0 } else { 1e30 }).collect())];
    for format in FORMATS.iter().filter(|f| f.encodes()) {
        for (name, x) in &blocks {
            for importance in &importance {
                let mut bytes = vec![0xFF; format.dtype.bytes(256).expect("whole blocks")];
                format.encode(x, importance.as_deref(), &mut bytes).expect("it encodes");
                let mut back = vec![f32::NAN; 256];
                format.decode(&bytes, &mut back).expect("whole blocks");
                assert!(back.iter().all(|y| y.is_finite()), "{} of {name}", format.dtype);
                if importance.is_none() {
                    let largest = x.iter().fold(0f32, |l, x| l.max(x.abs()));
                    let off = x.iter().zip(&back).fold(0f32, |l, (x, y)| l.max((x - y).abs()));
                    // Scales are f16: below their range all becomes 0.
                    let most = largest * if format.dtype == DType::Q2_K { 0.5 } else { 0.26 } + 1e-6;
                    assert!(off <= most, "{} of {name}: off by {off} of {largest}", format.dtype);
                }
            }
        }
    }
}

#[test]
fn wrong_sizes_are_errors() {
    let q4_k = format(DType::Q4_K).expect("it is there");
    assert!(q4_k.encode(&[0.0; 256], None, &mut [0; 143]).is_err());
    assert!(q4_k.encode(&[0.0; 255], None, &mut [0; 144]).is_err());
    assert!(q4_k.encode(&[0.0; 256], Some(&[1.0; 128]), &mut [0; 144]).is_err());
    assert!(q4_k.encode(&[0.0; 256], Some(&[]), &mut [0; 144]).is_err());
    assert!(format(DType::Iq1S).expect("it is there").encode(&[0.0; 256], None, &mut [0; 50]).is_err());
}

/// SHA-256 of what each encoder makes of the same numbers, without and with an importance: a change of these is a
/// change of every file that is written from then on.
const ENCODED: &[(DType, &str)] = &[
    (DType::Q4_0, "5e60fd624cb22c10ea6b1d632357e24053fe21773b1b635a2705a2972002b43e"),
    (DType::Q4_1, "6fae20616dc17037f38ce2217a33b9261210001ee2501a6aac21c2d28ddebe4a"),
    (DType::Q5_0, "48d31b277cbfcda88ea4e399f769fd8242ed463208d03ea4ab6a226632b20c1b"),
    (DType::Q5_1, "4682fa78cdd9bba264fa1642f247df7061485d740627fb5ad971a4b83d72c170"),
    (DType::Q8_0, "c5f1cd7cb4d6f30824b7e633044acd2080d9fd61e890ddf4f0974342bcbb0c8d"),
    (DType::Q2_K, "3330782e597020f606e0e48a23315683ffa34ef8f1af5b166e35a714c5d332ff"),
    (DType::Q3_K, "e6f3957cde08ddbb73d75d6a4f9161e4cd39c5f5aeaa72fd1834864bd9f09304"),
    (DType::Q4_K, "ae210c88563423389bf0cfe549c1c4b7cc65900a526a8997b4ab79d3958c3eae"),
    (DType::Q5_K, "95985da6051169aa0912e14dbe97a8d24ebeb6475a457e806fb76438354f937e"),
    (DType::Q6_K, "ea28585ab83a7e9e7635309cf966d8374e67814525d11edad4a6b00be388b5db"),
    (DType::Mxfp4, "d6f04907fad1f231a936b30cb44e8c62039268186f313cddfb838ef4bc1643e8"),
    (DType::Iq4Nl, "7a8391bc4f2d3590b2b53a1b0ac7cd6ee060d76e36fbb6b584c397382eacb406"),
    (DType::Iq4Xs, "b4373e8951a17dd34827b64dfbe0b0758f07b1e7c12f8f1849f82c0d9cf9dfbc"),
];

#[test]
fn every_width_of_vectors_gives_the_same_blocks_and_numbers() {
    let x = numbers(1 << 14, 21, 0.05);
    let importance: Vec<f32> = numbers(1024, 22, 1.0).iter().map(|w| w * w).collect();
    let mut found = Vec::new();
    for bits in [512, 256, 128] {
        common::simd::WIDEST.set(bits);
        for format in FORMATS.iter().filter(|f| f.encodes() && f.dtype.block_elements() > 1) {
            let (mut blocks, mut back) = (Hasher::default(), Hasher::default());
            for importance in [None, Some(importance.as_slice())] {
                let mut bytes = vec![0; format.dtype.bytes(x.len()).expect("whole blocks")];
                format.encode(&x, importance, &mut bytes).expect("it encodes");
                blocks.update(&bytes);
                let mut out = vec![0f32; x.len()];
                format.decode(&bytes, &mut out).expect("whole blocks");
                out.iter().for_each(|x| back.update(&x.to_le_bytes()));
            }
            found.push((format.dtype, blocks.finish(), back.finish()));
        }
    }
    common::simd::WIDEST.set(512);
    let formats = found.len() / 3;
    let (widest, narrower) = found.split_at(formats);
    assert!(narrower.chunks(formats).all(|narrow| narrow == widest), "{found:?}");
    let hashes: Vec<_> = widest.iter().map(|(dtype, blocks, _)| (*dtype, blocks.as_str())).collect();
    assert!(hashes == ENCODED, "{hashes:#?}");
}
