//! `sample`: each row's next token from its logits: the largest, or one drawn after temperature, top-k, top-p and min-p.
//!
//! Nothing is sorted. A bound on the logits is found bit by bit: the greatest that leaves enough of them (top-k), or enough
//! of their mass (top-p, Holtzman et al., arXiv 1904.09751); equals stay or go together. min-p is Nguyen et al., arXiv
//! 2407.01082. The order of the filters is that of vLLM and Hugging Face. One uniform number of Philox is looked up in
//! the sums of what is left, in the order of the tokens.

mod cpu;

use crate::common;
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Operand, Params,
    Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;
use tensor::rng::{philox4x32, unit};

/// Lower temperatures are taken for this one.
const LEAST_TEMPERATURE: f32 = 1e-20;
/// Tokens, at most: as many as are counted exactly in f32.
const MOST_VOCAB: usize = 1 << 24;
/// What is further below the largest logit, over the temperature, has no mass.
const LOWEST: f32 = -80.0;

/// `sample`: u32 [rows].
pub static SAMPLE: OpDef = OpDef {
    name: "sample",
    formula: "y[i] = argmax x[i] at temperature 0; else drawn from softmax(x[i] / temperature) within top-k, top-p, min-p",
    infer,
    storage: FLOATS,
    always_f32: &[1, 3, 4],
    cost: |call| Cost { flops: 8.0 * call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(reference),
    lower: |call, spec, _| common::widened(call, spec, &[], |call| lower(call, spec)),
    shaders: &[&SHADER],
    cases,
    ..OpDef::BASE
};

/// Draws a token for each row of logits [rows, vocab]: u32 [rows]. By row: temperature f32 [rows], where 0 takes the largest
/// logit, the first of equals; top_k u32 [rows], where 0 is off; top_p f32 [rows], where 1 is off; min_p f32 [rows], where 0
/// is off; seed u32 [rows, 2] and counter u32 [rows], Philox's key and counter: one draw for each counter. The largest logit
/// passes every filter. A NaN is as if it were -infinity, and where nothing is above that the answer is token 0.
#[track_caller]
pub fn sample(
    logits: &Tensor,
    temperature: &Tensor,
    top_k: &Tensor,
    top_p: &Tensor,
    min_p: &Tensor,
    seed: &Tensor,
    counter: &Tensor,
) -> Tensor {
    let inputs = [logits, temperature, top_k, top_p, min_p, seed, counter];
    logits.tracer().emit(&SAMPLE, &inputs, Params::NONE)[0].clone()
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 7)?;
    expect::float("logits", &types[0])?;
    expect::rank("logits", &types[0], 2)?;
    let [rows, vocab] = *types[0].shape else { unreachable!("it has two dimensions") };
    if vocab == 0 {
        return Err(format!("`logits` has shape {}; a row needs an element", types[0].shape));
    }
    let single = [
        ("temperature", DType::F32),
        ("top_k", DType::U32),
        ("top_p", DType::F32),
        ("min_p", DType::F32),
        ("seed", DType::U32),
        ("counter", DType::U32),
    ];
    for ((name, dtype), ty) in single.into_iter().zip(&types[1..]) {
        expect::dtype(name, ty, dtype)?;
        if name == "seed" {
            expect::shape(name, ty, &[rows, 2])?;
        } else {
            expect::shape(name, ty, &[rows])?;
        }
    }
    Ok(vec![TensorType::new(DType::U32, [rows])])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let vocab = call.inputs[0].shape[1];
    let row = |(i, logits): (usize, &[f64])| {
        let word = |input: usize, at: usize| inputs[input][at] as u32;
        let random = philox4x32([word(6, i), 0, 0, 0], [word(5, 2 * i), word(5, 2 * i + 1)])[0];
        draw(logits, inputs[1][i], inputs[2][i], inputs[3][i], inputs[4][i], f64::from(unit(random))) as f64
    };
    vec![inputs[0].chunks(vocab).enumerate().map(row).collect()]
}

fn draw(logits: &[f64], temperature: f64, top_k: f64, top_p: f64, min_p: f64, uniform: f64) -> usize {
    let logits: Vec<f64> = logits.iter().map(|x| if x.is_nan() { f64::NEG_INFINITY } else { *x }).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let first = logits.iter().position(|&x| x == max).expect("a row has an element");
    if temperature <= 0.0 || temperature.is_nan() || max == f64::NEG_INFINITY {
        return first;
    }
    let temperature = temperature.max(f64::from(LEAST_TEMPERATURE));
    let mut mass: Vec<f64> = logits
        .iter()
        .map(|&x| match (x - max) / temperature {
            _ if x == max => 1.0,
            below if below > f64::from(LOWEST) => below.exp(),
            _ => 0.0,
        })
        .collect();
    if top_k > 0.0 && (top_k as usize) < logits.len() {
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let bound = sorted[top_k as usize - 1];
        mass.iter_mut().zip(&logits).filter(|(_, x)| **x < bound).for_each(|(mass, _)| *mass = 0.0);
    }
    if top_p < 1.0 {
        let enough = top_p.max(0.0) * mass.iter().sum::<f64>();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let (mut above, mut at) = (0.0, 0);
        while at < order.len() {
            let equals = order[at..].iter().take_while(|&&j| logits[j] == logits[order[at]]).count();
            let these: f64 = order[at..at + equals].iter().map(|&j| mass[j]).sum();
            if at > 0 && above >= enough {
                order[at..].iter().for_each(|&j| mass[j] = 0.0);
                break;
            }
            (above, at) = (above + these, at + equals);
        }
    }
    let least = if min_p > 0.0 { min_p.min(1.0) } else { 0.0 };
    mass.iter_mut().filter(|mass| **mass < least).for_each(|mass| *mass = 0.0);
    let target = uniform * mass.iter().sum::<f64>();
    let mut sum = 0.0;
    let found = mass.iter().position(|mass| {
        sum += mass;
        sum > target
    });
    found.unwrap_or(first)
}

static CUDA: CudaSource =
    CudaSource { name: "sample.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("sample.cu")) };
static SHADER: Shader = Shader { name: "sample", source: "sample/sample.comp", defines: &[], spirv: spirv!("sample") };

/// Threads of a group, which has one row.
const CUDA_THREADS: u32 = 1024;
const VULKAN_THREADS: u32 = 256;

/// Kernel words: rows, vocab. On the CPU the rows' masses are scratch.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [rows, vocab] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    if vocab > MOST_VOCAB {
        return Err(Unsupported(format!("{vocab} tokens on {}; up to {MOST_VOCAB} are", spec.kind)));
    }
    let (words, operands) = (vec![rows as u32, vocab as u32], common::operands(7, 1));
    let (source, entry, threads) = match spec.kind {
        DeviceKind::Cpu => {
            let operands = [operands, vec![Operand::Scratch(0)]].concat();
            let launch = common::cpu("sample", cpu::select(&spec.architecture), rows, words, operands);
            return Ok(Lowering { scratch: vec![(rows * vocab * 4) as u64], launches: vec![launch] });
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "sample", CUDA_THREADS),
        DeviceKind::Vulkan => (KernelSource::Vulkan(&SHADER), "main", VULKAN_THREADS),
    };
    let groups = [rows.clamp(1, common::MOST_GROUPS), 1, 1];
    Ok(Lowering::one(common::gpu(source, entry, groups, threads, words, operands)))
}

/// How a row is sampled.
#[derive(Clone, Copy)]
struct Row {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
}

const PLAIN: Row = Row { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

/// `rows` are taken in turn; every row has its own counter.
fn case(name: &str, logits: CaseInput, rows: &[Row]) -> Case {
    let n = logits.ty.shape[0];
    let values = |dtype, of: &dyn Fn(&Row) -> f64| {
        CaseInput::values(dtype, [n], (0..n).map(|i| of(&rows[i % rows.len()])).collect::<Vec<_>>())
    };
    let inputs = vec![
        logits,
        values(DType::F32, &|row| f64::from(row.temperature)),
        values(DType::U32, &|row| f64::from(row.top_k)),
        values(DType::F32, &|row| f64::from(row.top_p)),
        values(DType::F32, &|row| f64::from(row.min_p)),
        CaseInput::values(DType::U32, [n, 2], [7.0, 11.0].repeat(n)),
        CaseInput::values(DType::U32, [n], (0..n).map(|i| i as f64).collect::<Vec<_>>()),
    ];
    Case::new(name, Params::NONE, inputs)
}

fn cases() -> Vec<Case> {
    let row = |temperature, top_k, top_p, min_p| Row { temperature, top_k, top_p, min_p };
    let normal = |rows: usize, vocab: usize| CaseInput::normal([rows, vocab]);
    let values = |row: &[f64], rows: usize| CaseInput::values(DType::F32, [rows, row.len()], row.repeat(rows));
    let (nan, low, high) = (f64::NAN, f64::NEG_INFINITY, f64::INFINITY);
    let mixed = [
        PLAIN,
        row(0.0, 5, 0.5, 0.1),
        row(0.7, 40, 1.0, 0.0),
        row(1.0, 0, 0.9, 0.0),
        row(1.3, 0, 1.0, 0.05),
        row(0.8, 50, 0.95, 0.02),
        row(2.0, 3, 0.99, 0.0),
    ];
    let strange = [
        row(f32::NAN, 0, 1.0, 0.0),
        row(-1.0, 0, 1.0, 0.0),
        row(1e-38, 0, 1.0, 0.0),
        row(1e30, 1, 1.0, 0.0),
        row(1.0, 0, 0.0, 0.0),
        row(1.0, 0, 1e-9, 0.0),
        row(1.0, u32::MAX, 2.0, 0.0),
        row(1.0, 0, f32::NAN, f32::NAN),
        row(1.0, 0, 1.0, 3.0),
        row(1.0, 0, -1.0, -1.0),
    ];
    let odd = [nan, 1.0, low, 2.0, nan, 0.5, -3.0, 2.0];
    vec![
        case("mixed, 128 tokens", normal(28, 128), &mixed),
        case("mixed, 3001 tokens", normal(14, 3001), &mixed),
        case("one token", normal(3, 1), &[PLAIN, row(0.0, 0, 1.0, 0.0), row(1.0, 1, 0.1, 0.9)]),
        case("strange settings", normal(20, 77), &strange),
        case("NaN and -infinity", values(&odd, 21), &mixed),
        case("infinity", values(&[1.0, high, nan, 3.0, high], 14), &mixed),
        case("nothing but NaN and -infinity", values(&[nan, low, low], 14), &mixed),
        case(
            "equals at the bounds",
            values(&[1.0, 3.0, 2.0, 2.0, 3.0, 2.0, 0.0, -0.0], 30),
            &[
                row(1.0, 1, 1.0, 0.0),
                row(1.0, 3, 1.0, 0.0),
                row(1.0, 0, 0.5, 0.0),
                row(1.0, 0, 0.8, 0.0),
                row(0.0, 0, 1.0, 0.0),
                row(1.0, 7, 1.0, 0.0),
            ],
        ),
        // A neighbour in the order of the tokens is as right where a sum ends within rounding of the drawn number.
        case("64 rows of 50257", normal(64, 50257), &mixed).tolerance(1e-3).large(),
        case("1 row of 151936", normal(1, 151_936), &[row(0.7, 20, 0.8, 0.0)]).large(),
        case("8 rows of 256000, the largest", normal(8, 256_000), &[row(0.0, 0, 1.0, 0.0)]).large(),
    ]
}

#[cfg(test)]
mod tests;
