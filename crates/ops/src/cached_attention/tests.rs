//! What a row's result may depend on: its own sequence up to its own position, and nothing else.

use super::*;
use crate::there;
use device::{Choice, Device, Options};
use tensor::rng::Philox;

const HEADS: usize = 6;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 32;
const COLUMNS: usize = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
const BLOCK: usize = 32;
const BLOCKS: usize = 26;
const CONTEXT: usize = 800;

fn devices() -> Vec<Device> {
    let cpu = |architecture: &str| Options {
        threads: Some(1),
        architecture: Some(architecture.into()),
        ..Options::default()
    };
    let choices = [
        (Choice::Cpu, cpu("portable")),
        (Choice::Cpu, cpu("avx2")),
        (Choice::Cpu, cpu("avx512")),
        (Choice::Vulkan(None), Options::default()),
        (Choice::Cuda(0), Options::default()),
    ];
    choices.iter().filter_map(|(choice, options)| there::open(*choice, options)).collect()
}

fn numbers(name: &str, n: usize) -> Vec<f64> {
    let mut out = vec![0.0f32; n];
    Philox::new(9, name).fill_normal(&mut out, 0.0, 1.0);
    out.into_iter().map(f64::from).collect()
}

/// Rows `tokens` of the first of a call's sequences, which has `CONTEXT` positions of the same keys and values in every call;
/// after it come sequences of one token and `others` positions each.
fn rows(device: &Device, tokens: std::ops::Range<usize>, others: &[usize]) -> Vec<Vec<u32>> {
    let width = KV_HEADS * HEAD_DIM;
    let query: Vec<f64> = numbers("qkv", CONTEXT * COLUMNS)[tokens.start * COLUMNS..tokens.end * COLUMNS].into();
    let count = tokens.len() + others.len();
    let sequences = 1 + others.len();
    let slots = sequences * BLOCKS * BLOCK;
    // The first sequence's blocks are the first ones; what the others have differs from call to call.
    let cache = |name: &str| {
        let mut cache = numbers(name, BLOCKS * BLOCK * width);
        cache.extend(numbers(&format!("{name} {others:?}"), (slots - BLOCKS * BLOCK) * width));
        // What no position has been written to may hold anything.
        cache[tokens.end * width..BLOCKS * BLOCK * width].fill(f64::NAN);
        CaseInput::values(DType::F32, [slots, width], cache)
    };
    let table: Vec<f64> = (0..sequences * BLOCKS).map(|block| block as f64).collect();
    let lengths: Vec<f64> = std::iter::once(tokens.end).chain(others.iter().copied()).map(|n| n as f64).collect();
    let bounds: Vec<f64> = std::iter::once(0).chain(tokens.len()..=count).map(|n| n as f64).collect();
    let qkv = [query, numbers("others", others.len() * COLUMNS)].concat();
    let inputs = vec![
        CaseInput::values(DType::F32, [count, COLUMNS], qkv),
        cache("keys"),
        cache("values"),
        CaseInput::values(DType::U32, [sequences, BLOCKS], table),
        CaseInput::values(DType::U32, [sequences], lengths),
        CaseInput::values(DType::U32, [sequences + 1], bounds),
    ];
    let case = Case::new("rows", params(HEADS, KV_HEADS, BLOCK), inputs);
    let out = device::check::outputs(device, &CACHED_ATTENTION, &case, &Default::default(), 1).expect("the case runs");
    out[0].chunks(HEADS * HEAD_DIM).take(tokens.len()).map(<[u32]>::to_vec).collect()
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for device in devices() {
        for context in [1, 200, 256, 257, CONTEXT] {
            let alone = rows(&device, context - 1..context, &[]);
            assert!(alone[0].iter().all(|&word| f32::from_bits(word).is_finite()));
            for others in [&[5][..], &[700, 1, 300], &[1; 40]] {
                assert!(rows(&device, context - 1..context, others) == alone, "{device}: {context} with {others:?}");
            }
        }
    }
}

#[test]
fn chunks_of_a_prompt_are_as_the_whole() {
    for device in devices() {
        let whole = rows(&device, 0..CONTEXT, &[]);
        for size in [1, 5, 16, 17, 64, 300] {
            // Not all of them: a chunk of 1 at every 97th position is enough.
            for from in (0..CONTEXT).step_by(size.max(97)) {
                let chunk = from..CONTEXT.min(from + size);
                assert!(rows(&device, chunk.clone(), &[]) == whole[chunk], "{device}: {size} from {from}");
            }
        }
    }
}

#[test]
fn wide_heads_are_refused() {
    let params = params(1, 1, 32);
    let types = |width: usize| {
        let mut types =
            vec![TensorType::f32([1, 3 * width]), TensorType::f32([32, width]), TensorType::f32([32, width])];
        types.extend([TensorType::new(DType::U32, [1, 1]), TensorType::new(DType::U32, [1])]);
        types.push(TensorType::new(DType::U32, [2]));
        types
    };
    for (width, right) in [(256, true), (320, false)] {
        let inputs = types(width);
        let outputs = infer(&params, &inputs).expect("the shapes are right");
        let device = Device::open(Choice::Cpu, &Options::default()).expect("there is a processor");
        let call = Call { params: &params, inputs: &inputs, outputs: &outputs };
        assert_eq!(lower(&call, device.spec()).is_ok(), right);
    }
}
