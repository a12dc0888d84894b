//! `rope`: rotary positions (Su et al., arXiv 2104.09864) on the first heads of packed rows; columns after them pass through.
//!
//! A head's dimensions i and i + head_dim / 2 are turned together by position x theta^(-2i / head_dim), as in GPT-NeoX and
//! Llama. Angles are counted in whole 2^-64 of a turn, so they are exact at any position, and the same on all devices.
//!
//! With a [`Scaling`], as in Llama 3.1: of a dimension that turns f times over the original context, the frequency becomes
//! ((1 - s) / factor + s) of what it was, with s = (f - low_freq_factor) / (high_freq_factor - low_freq_factor) within [0, 1].

mod cpu;
mod scaling;

pub use scaling::Scaling;

use crate::common;
use crate::common::stored::{self, GPUS};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Lowering, Meaning, OpDef, Params,
    Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Elements that one CPU part turns, in whole rows; more where there would be too many parts.
const CPU_CHUNK: usize = 8192;
/// CPU parts, at most.
const CPU_PARTS: usize = 256;
/// Threads of a GPU group, which turns one row.
const GPU_THREADS: u32 = 128;

/// `rope`: y of x's shape.
pub static ROPE: OpDef = OpDef {
    name: "rope",
    formula: "(y[i], y[i + d/2]) = (x[i], x[i + d/2]) turned by position theta^(-2i/d), a head of d at a time",
    infer,
    storage: FLOATS,
    sharing: &[(0, 0)],
    cost: |call| Cost::streaming(call, 3.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(|c| vec![gradient(c), None]),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// Turns the first `heads` heads, of `head_dim` each, of the rows of x [tokens, columns] to their `positions` u32
/// [tokens]. With q heads, then k heads, then v heads in a row, `heads` counts those of q and k.
#[track_caller]
pub fn rope(x: &Tensor, positions: &Tensor, heads: usize, head_dim: usize, theta: f32) -> Tensor {
    rope_scaled(x, positions, heads, head_dim, theta, Scaling::NONE)
}

/// As [`rope`], with the lower frequencies made lower for contexts that are longer than the original one.
#[track_caller]
pub fn rope_scaled(
    x: &Tensor,
    positions: &Tensor,
    heads: usize,
    head_dim: usize,
    theta: f32,
    scaling: Scaling,
) -> Tensor {
    emit(x, positions, params(heads, head_dim, theta, false, scaling))
}

fn params(heads: usize, head_dim: usize, theta: f32, backwards: bool, scaling: Scaling) -> Params {
    let params = Params::NONE.with_u32("heads", heads).with_u32("head_dim", head_dim);
    let params = params.with_f32("theta", theta).with_u32("backwards", usize::from(backwards));
    scaling.params(params)
}

#[track_caller]
fn emit(x: &Tensor, positions: &Tensor, params: Params) -> Tensor {
    x.tracer().emit(&ROPE, &[x, positions], params)[0].clone()
}

/// A turn's gradient is the turn back.
fn gradient(c: &Backward) -> Option<Tensor> {
    let p = c.params;
    let back = params(p.u32("heads"), p.u32("head_dim"), p.f32("theta"), p.u32("backwards") == 0, Scaling::of(p));
    c.grads[0].as_ref().map(|dy| emit(dy, &c.inputs[1], back))
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    expect::float("x", &types[0])?;
    expect::rank("x", &types[0], 2)?;
    expect::dtype("positions", &types[1], DType::U32)?;
    expect::shape("positions", &types[1], &[types[0].shape[0]])?;
    let (heads, head_dim, theta) = (params.u32("heads"), params.u32("head_dim"), params.f32("theta"));
    let columns = types[0].shape[1];
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(format!("head_dim is {head_dim}; expected an even number"));
    }
    if heads.checked_mul(head_dim).is_none_or(|turned| turned > columns) {
        return Err(format!("`x` has {columns} columns; expected at least {heads} heads of {head_dim}"));
    }
    if !(theta.is_finite() && theta >= 1.0) {
        return Err(format!("theta is {theta}; expected a number from 1 on"));
    }
    if let Some(what) = Scaling::of(params).problem() {
        return Err(what);
    }
    Ok(vec![types[0].clone()])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (heads, head_dim) = (call.params.u32("heads"), call.params.u32("head_dim"));
    let (columns, half) = (call.inputs[0].shape[1], head_dim / 2);
    let sign = if call.params.u32("backwards") == 1 { -1.0 } else { 1.0 };
    let (theta, scaling) = (f64::from(call.params.f32("theta")), Scaling::of(call.params));
    let mut y = inputs[0].to_vec();
    for (row, position) in y.chunks_mut(columns).zip(inputs[1]) {
        for (head, i) in (0..heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
            let frequency = scaling.scaled(theta.powf(-2.0 * i as f64 / head_dim as f64));
            let angle = sign * position * frequency;
            let (a, b) = (head * head_dim + i, head * head_dim + i + half);
            (row[a], row[b]) =
                (row[a] * angle.cos() - row[b] * angle.sin(), row[b] * angle.cos() + row[a] * angle.sin());
        }
    }
    vec![y]
}

static CUDA: CudaSource =
    CudaSource { name: "rope.cu", text: concat!(include_str!("../common/common.cuh"), include_str!("rope.cu")) };
static SHADER: [Shader; 3] = shaders!(same ["rope"] "rope/rope.comp" []);

/// Rows of one CPU part.
fn part_rows(tokens: usize, columns: usize) -> usize {
    (CPU_CHUNK / columns.max(1)).max(tokens.div_ceil(CPU_PARTS)).max(1)
}

/// theta^(-2 / head_dim), which takes one dimension's frequency to the next one's, in units of 2^-64.
fn ratio(theta: f32, head_dim: usize) -> u64 {
    // A theta of 1 saturates: all dimensions turn alike.
    (f64::from(theta).powf(-2.0 / head_dim as f64) * 2f64.powi(64)) as u64
}

/// Kernel words: tokens, columns, heads, half of head_dim, the ratio's high and low word, backwards, and the scaling's.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [tokens, columns] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let p = call.params;
    let (head_dim, ratio) = (p.u32("head_dim"), ratio(p.f32("theta"), p.u32("head_dim")));
    let sizes = [tokens, columns, p.u32("heads"), head_dim / 2].map(|n| n as u32);
    let turns = [(ratio >> 32) as u32, ratio as u32, p.u32("backwards") as u32];
    let words = [&sizes[..], &turns, &Scaling::of(p).words()].concat();
    let (operands, dtype) = (common::operands(2, 1), call.inputs[0].dtype);
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let parts = tokens.div_ceil(part_rows(tokens, columns));
            return Ok(Lowering::one(common::cpu("rope", cpu::select(&spec.architecture), parts, words, operands)));
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "rope"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(&SHADER, dtype)), "main"),
    };
    let groups = [tokens.clamp(1, common::MOST_GROUPS), 1, 1];
    let launch = common::gpu(source, entry, groups, GPU_THREADS, words, operands);
    Ok(Lowering::one(stored::typed(launch, dtype)))
}

fn cases() -> Vec<Case> {
    let case = |name: &str, tokens: usize, columns: usize, turned: Params, positions: CaseInput| {
        Case::new(name, turned, vec![CaseInput::normal([tokens, columns]), positions])
    };
    let plain = |heads, head_dim, theta, back| params(heads, head_dim, theta, back, Scaling::NONE);
    let llama = Scaling { factor: 8.0, ..Scaling::NONE };
    let steep = Scaling { factor: 32.0, low_freq_factor: 2.0, high_freq_factor: 2.0, original_max_position: 1000 };
    let below = |tokens: usize, bound: u32| CaseInput::below([tokens], bound);
    let far = [0.0, 1.0, 131_071.0, 4_000_000.0, 4_294_967_295.0];
    vec![
        case("4 + 2 heads of 64", 33, 512, plain(6, 64, 10_000.0, false), below(33, 64)),
        case("back", 33, 512, plain(6, 64, 10_000.0, true), below(33, 64)),
        case("odd sizes, columns beyond", 7, 53, plain(3, 14, 500_000.0, false), below(7, 4096)),
        case("all columns, one pair a head", 130, 6, plain(3, 2, 10_000.0, false), below(130, 1000)),
        case("wide heads", 3, 400, plain(1, 400, 10_000.0, true), below(3, 512)),
        case("one theta", 2, 8, plain(1, 8, 1.0, false), below(2, 5)),
        case("far", 5, 8, plain(1, 8, 10_000.0, false), CaseInput::values(DType::U32, [5], far)),
        case("as Llama 3.1", 40, 300, params(2, 128, 500_000.0, false, llama), below(40, 131_072)),
        case("as Llama 3.1, back", 40, 130, params(1, 128, 500_000.0, true, llama), below(40, 131_072)),
        case("scaled far", 5, 64, params(1, 64, 500_000.0, false, llama), CaseInput::values(DType::U32, [5], far)),
        case("scaled at one frequency", 9, 64, params(1, 64, 10_000.0, false, steep), below(9, 100_000)),
        case("8192 tokens", 8192, 6144, plain(40, 128, 500_000.0, false), below(8192, 8192)).large(),
    ]
}
