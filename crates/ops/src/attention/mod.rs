//! `attention`: out = softmax(scale q k^T, causal inside each sequence) v for packed rows; the T x T matrix is never stored.
//!
//! A softmax that runs over key tiles and a backward pass that recomputes it, as in FlashAttention (Dao et al., arXiv
//! 2205.14135, 2307.08691). The gradients of q and of k and v are made by separate passes, so that each is written once.
//! Several heads of q may share a head of k and v (Ainslie et al., arXiv 2305.13245); its gradient adds theirs in order.

pub(crate) mod cpu;

use crate::common;
use crate::common::stored::{self, GPUS};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CpuArgs, CudaSource, DeviceKind, Kernel, KernelSource, Launch, Lowering,
    Meaning, OpDef, Operand, Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Rows that one CPU part computes, and rows of a tile that it goes through.
const CPU_ROWS: usize = 64;
/// Rows that one GPU group computes, each by four threads.
const GPU_ROWS: usize = 32;
const GPU_THREADS: u32 = 128;

/// `attention`: the mixed values [tokens, heads x head_dim], and logsumexp of each row of scores [heads, tokens].
///
/// Tokens outside of every sequence have zeros in both.
pub static ATTENTION: OpDef = OpDef {
    name: "attention",
    formula: "out = softmax(q k^T / sqrt(head_dim), causal in each sequence) v",
    infer,
    storage: FLOATS,
    cost: |call| cost(call, 4.0),
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(FORWARD),
    cases: || cases(false),
    ..OpDef::BASE
};

/// `attention_backward`: the gradient by qkv, from the forward pass's outputs and the gradient by its first one.
pub static ATTENTION_BACKWARD: OpDef = OpDef {
    name: "attention_backward",
    formula: "p = exp(scale q k^T - lse); dv = p^T dout; ds = p (dout v^T - dout.out) scale; dq = ds k; dk = ds^T q",
    infer: infer_backward,
    storage: FLOATS,
    always_f32: &[3],
    cost: |call| cost(call, 10.0),
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower_backward(call, spec)),
    shaders: shader_list!(BACKWARD_Q, BACKWARD_KV),
    cases: || cases(true),
    ..OpDef::BASE
};

/// Causal attention with `num_heads` heads inside each sequence, in groups that share one of `num_kv_heads` heads of k and
/// v. qkv: [tokens, (heads + 2 kv heads) x head_dim], all heads' q, then k, then v; cu_seqlens: [sequences + 1] u32, rising:
/// where each sequence starts, and where the last one ends. The result: [tokens, heads x head_dim].
#[track_caller]
pub fn attention(qkv: &Tensor, cu_seqlens: &Tensor, num_heads: usize, num_kv_heads: usize) -> Tensor {
    let params = params(num_heads, num_kv_heads);
    qkv.tracer().emit(&ATTENTION, &[qkv, cu_seqlens], params)[0].clone()
}

fn params(num_heads: usize, num_kv_heads: usize) -> Params {
    Params::NONE.with_u32("num_heads", num_heads).with_u32("num_kv_heads", num_kv_heads)
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let dqkv = c.grads[0].as_ref().map(|dout| {
        let inputs = [&c.inputs[0], &c.inputs[1], &c.outputs[0], &c.outputs[1], dout];
        dout.tracer().emit(&ATTENTION_BACKWARD, &inputs, c.params.clone())[0].clone()
    });
    vec![dqkv, None]
}

/// The sizes of a call.
struct Sizes {
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    sequences: usize,
    dtype: DType,
}

impl Sizes {
    fn of(call: &Call) -> Sizes {
        let (heads, kv_heads) = (call.params.u32("num_heads"), call.params.u32("num_kv_heads"));
        let [tokens, columns] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
        let head_dim = columns / (heads + 2 * kv_heads);
        let (sequences, dtype) = (call.inputs[1].elements() - 1, call.inputs[0].dtype);
        Sizes { tokens, heads, kv_heads, head_dim, sequences, dtype }
    }

    /// Where a head's q (0), or its k (1) or v (2), is in qkv.
    fn place(&self, which: usize, head: usize, token: usize) -> usize {
        let shared = head / (self.heads / self.kv_heads);
        let column = [head, self.heads + shared, self.heads + self.kv_heads + shared][which];
        (token * (self.heads + 2 * self.kv_heads) + column) * self.head_dim
    }

    fn scale(&self) -> f64 {
        1.0 / (self.head_dim as f64).sqrt()
    }

    /// Kernel words: tokens, heads, heads of k and v, head_dim, sequences, scale.
    fn words(&self) -> Vec<u32> {
        let scale = (self.scale() as f32).to_bits();
        let sizes = [self.tokens, self.heads, self.kv_heads, self.head_dim, self.sequences];
        sizes.into_iter().map(|n| n as u32).chain([scale]).collect()
    }
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    let dtype = expect::float("qkv", &types[0])?;
    expect::rank("qkv", &types[0], 2)?;
    expect::dtype("cu_seqlens", &types[1], DType::U32)?;
    expect::rank("cu_seqlens", &types[1], 1)?;
    let (heads, kv_heads) = (params.u32("num_heads"), params.u32("num_kv_heads"));
    let [tokens, columns] = *types[0].shape else { unreachable!("it has two dimensions") };
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("{heads} heads can't share {kv_heads} heads of k and v in groups of one size"));
    }
    if columns == 0 || !columns.is_multiple_of(heads + 2 * kv_heads) {
        return Err(format!("`qkv` has {columns} columns; expected a multiple of {heads} + 2 x {kv_heads} heads"));
    }
    let width = columns / (heads + 2 * kv_heads) * heads;
    if types[1].elements() == 0 {
        return Err("`cu_seqlens` is empty; expected one more entry than there are sequences".into());
    }
    Ok(vec![TensorType::new(dtype, [tokens, width]), TensorType::f32([heads, tokens])])
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 5)?;
    let forward = infer(params, &types[..2])?;
    for ((name, want), ty) in [("out", 0), ("lse", 1), ("dout", 0)].into_iter().zip(&types[2..]) {
        expect::dtype(name, ty, forward[want].dtype)?;
        expect::shape(name, ty, &forward[want].shape)?;
    }
    Ok(vec![types[0].clone()])
}

/// `flops` operations for each score and dimension, sequences taken as equally long.
fn cost(call: &Call, flops: f64) -> Cost {
    let s = Sizes::of(call);
    let scores = s.tokens as f64 * (s.tokens as f64 / s.sequences.max(1) as f64 + 1.0) / 2.0;
    Cost { flops: flops * scores * (s.heads * s.head_dim) as f64, ..Cost::streaming(call, 0.0) }
}

/// The sequences, each as its first token and the one after its last.
fn sequences(cu_seqlens: &[f64]) -> impl Iterator<Item = (usize, usize)> + '_ {
    cu_seqlens.windows(2).map(|pair| (pair[0] as usize, pair[1] as usize))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let s = Sizes::of(call);
    let d = s.head_dim;
    let at = |which: usize, head: usize, token: usize| &inputs[0][s.place(which, head, token)..][..d];
    let (mut out, mut lse) = (vec![0.0; s.tokens * s.heads * d], vec![0.0; s.heads * s.tokens]);
    for (start, end) in sequences(inputs[1]) {
        for (head, query) in (0..s.heads).flat_map(|h| (start..end).map(move |q| (h, q))) {
            let scores: Vec<f64> =
                (start..=query).map(|key| dot(at(0, head, query), at(1, head, key)) * s.scale()).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total = max + scores.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            lse[head * s.tokens + query] = total;
            let out = &mut out[(query * s.heads + head) * d..][..d];
            for (key, score) in (start..).zip(scores) {
                let p = (score - total).exp();
                out.iter_mut().zip(at(2, head, key)).for_each(|(o, v)| *o += p * v);
            }
        }
    }
    vec![out, lse]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let s = Sizes::of(call);
    let [qkv, cu_seqlens, out, lse, dout] = *inputs else { unreachable!("`infer` asks for five inputs") };
    let d = s.head_dim;
    let mut dqkv = vec![0.0; qkv.len()];
    for (start, end) in sequences(cu_seqlens) {
        for (head, query) in (0..s.heads).flat_map(|h| (start..end).map(move |q| (h, q))) {
            let q = s.place(0, head, query);
            let mixed = (query * s.heads + head) * d;
            let (out, dout) = (&out[mixed..mixed + d], &dout[mixed..mixed + d]);
            let delta = dot(out, dout);
            for key in start..=query {
                let (k, v) = (s.place(1, head, key), s.place(2, head, key));
                let score = dot(&qkv[q..q + d], &qkv[k..k + d]) * s.scale();
                let p = (score - lse[head * s.tokens + query]).exp();
                let ds = p * (dot(dout, &qkv[v..v + d]) - delta) * s.scale();
                for i in 0..d {
                    dqkv[v + i] += p * dout[i];
                    dqkv[q + i] += ds * qkv[k + i];
                    dqkv[k + i] += ds * qkv[q + i];
                }
            }
        }
    }
    vec![dqkv]
}

static CUDA: CudaSource = CudaSource {
    name: "attention.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("attention.cu")),
};
static FORWARD: [Shader; 3] = shaders!(same ["attention"] "attention/attention.comp" []);
static BACKWARD_Q: [Shader; 3] = shaders!(same ["attention_backward_q"] "attention/attention_backward_q.comp" []);
static BACKWARD_KV: [Shader; 3] = shaders!(same ["attention_backward_kv"] "attention/attention_backward_kv.comp" []);

fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let s = Sizes::of(call);
    let launch = by_tiles(spec, ("attention", cpu::select_forward, &FORWARD), &s, s.heads, common::operands(2, 2))?;
    Ok(Lowering::one(launch))
}

/// dq and each row's dout.out, then dk and dv, which need those.
fn lower_backward(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let s = Sizes::of(call);
    let mut operands = common::operands(5, 1);
    operands.push(Operand::Scratch(0));
    let q = by_tiles(spec, ("attention_backward_q", cpu::select_backward_q, &BACKWARD_Q), &s, s.heads, operands)?;
    let operands =
        [Operand::Input(0), Operand::Input(1), Operand::Input(3), Operand::Input(4), Operand::Scratch(0)].into_iter();
    let operands = operands.chain([Operand::Output(0)]).collect();
    let kernel: TileKernel = ("attention_backward_kv", cpu::select_backward_kv, &BACKWARD_KV);
    let kv = by_tiles(spec, kernel, &s, s.kv_heads, operands)?;
    Ok(Lowering { scratch: vec![(s.heads * s.tokens * 4) as u64], launches: vec![q, kv] })
}

type TileKernel = (&'static str, fn(&str) -> fn(&CpuArgs, usize), &'static [Shader]);

/// A launch over tiles of rows and heads.
fn by_tiles(
    spec: &Spec,
    (name, select, shader): TileKernel,
    s: &Sizes,
    heads: usize,
    operands: Vec<Operand>,
) -> Result<Launch, Unsupported> {
    if spec.kind == DeviceKind::Cpu {
        let parts = s.tokens.div_ceil(CPU_ROWS) * heads;
        return Ok(common::cpu(name, select(&spec.architecture), parts, s.words(), operands));
    }
    if !s.head_dim.is_multiple_of(4) || s.head_dim > 128 {
        return Err(Unsupported(format!("head_dim {} on {}; multiples of 4 up to 128 are", s.head_dim, spec.kind)));
    }
    let (source, entry) = match spec.kind {
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(shader, s.dtype)), "main"),
        _ => (KernelSource::Cuda(&CUDA), name),
    };
    let groups = [s.tokens.div_ceil(GPU_ROWS).max(1), heads, 1];
    let launch = common::gpu(source, entry, groups, GPU_THREADS, s.words(), operands);
    let Launch::Kernel(kernel) = launch else { unreachable!("a GPU launch is a kernel") };
    let launch = Launch::Kernel(Kernel { constants: vec![("HEAD_DIM", s.head_dim as u32)], ..kernel });
    Ok(stored::typed(launch, s.dtype))
}

/// `heads` are those of q and those of k and v.
fn case(
    backward: bool,
    name: &str,
    (heads, kv_heads): (usize, usize),
    head_dim: usize,
    tokens: usize,
    cu_seqlens: &[usize],
) -> Case {
    let columns = (heads + 2 * kv_heads) * head_dim;
    let bounds: Vec<f64> = cu_seqlens.iter().map(|&b| b as f64).collect();
    let mut inputs = vec![CaseInput::normal([tokens, columns]), CaseInput::values(DType::U32, [bounds.len()], bounds)];
    if backward {
        // Such a logsumexp as the last row of the longest sequence has: its weights add up to about 1.
        let longest = cu_seqlens.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
        let least = (longest as f32).ln();
        let mixed = || CaseInput::normal([tokens, heads * head_dim]);
        inputs.extend([mixed(), CaseInput::uniform([heads, tokens], least, least + 1.0), mixed()]);
    }
    Case::new(name, params(heads, kv_heads), inputs)
}

fn cases(backward: bool) -> Vec<Case> {
    let grouped = |name: &str, heads: (usize, usize), head_dim: usize, tokens: usize, cu_seqlens: &[usize]| {
        case(backward, name, heads, head_dim, tokens, cu_seqlens)
    };
    let case = |name: &str, heads: usize, head_dim: usize, tokens: usize, cu_seqlens: &[usize]| {
        grouped(name, (heads, heads), head_dim, tokens, cu_seqlens)
    };
    vec![
        case("4 sequences of 16", 4, 64, 64, &[0, 16, 32, 48, 64]),
        case("odd lengths, an empty one, tokens beyond", 3, 8, 139, &[0, 1, 1, 8, 75, 96, 130]),
        case("first token outside", 2, 20, 33, &[5, 20]),
        case("no sequence", 2, 4, 3, &[0]),
        case("several tiles", 2, 64, 300, &[0, 300]),
        case("wide heads", 1, 128, 90, &[0, 37, 90]),
        grouped("groups of 2", (4, 2), 32, 100, &[0, 30, 30, 97]),
        grouped("one head of k and v", (3, 1), 20, 150, &[4, 150]),
        case("12 sequences of 1024", 12, 64, 12_288, &std::array::from_fn::<_, 13, _>(|i| i * 1024)).large(),
        case("4096 tokens", 16, 128, 4096, &[0, 4096]).tolerance(1e-4).large(),
        grouped("4096 tokens, groups of 4", (32, 8), 128, 4096, &[0, 4096]).tolerance(1e-4).large(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use device::{Choice, Device, Options, check};

    /// Head sizes that GPUs refuse.
    #[test]
    fn cpus_take_any_head_size() {
        for architecture in ["portable", "avx2", "avx512"] {
            let options = Options { threads: Some(1), architecture: Some(architecture.into()), ..Options::default() };
            let Ok(device) = Device::open(Choice::Cpu, &options) else { continue };
            for (backward, op) in [(false, &ATTENTION), (true, &ATTENTION_BACKWARD)] {
                for (head_dim, tokens) in [(1, 5), (5, 100), (37, 40), (160, 67)] {
                    let case = case(backward, "", (2, 1), head_dim, tokens, &[0, 3, tokens]);
                    let outcome = check::run(&device, op, &case, &Default::default(), 1).expect("the case runs");
                    assert!(outcome.error < 1e-5, "{op:?} {architecture} {head_dim}: {outcome:?}");
                }
            }
        }
    }

    #[test]
    fn gpus_refuse_other_head_sizes() {
        let params = params(2, 2);
        let inputs = [TensorType::f32([8, 3 * 2 * 6]), TensorType::new(DType::U32, [2])];
        let outputs = infer(&params, &inputs).expect("the shapes are right");
        let spec = Spec { kind: DeviceKind::Vulkan, ..cpu_spec() };
        let refused = lower(&Call { params: &params, inputs: &inputs, outputs: &outputs }, &spec);
        assert!(refused.is_err_and(|why| why.0.contains("head_dim 6")));
    }

    fn cpu_spec() -> Spec {
        Device::open(Choice::Cpu, &Options::default()).expect("there is a processor").spec().clone()
    }
}
