//! `cross_entropy`: loss = mean over targets that aren't ignored of logsumexp(logits[t]) - logits[t, target[t]].
//!
//! A target that is neither ignored nor in the vocabulary makes the loss and its row's gradient NaN, so that the
//! non-finite flag of `grad_norm` catches it.

mod cpu;

use crate::common;
use crate::common::stored::{self, GPUS};
use graph::op::{FLOATS, expect};
use graph::{
    Backward, Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Launch, Lowering, Meaning, OpDef,
    Operand, Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// Logits that one CPU part reads, in whole rows.
const CPU_CHUNK: usize = 4096;
/// Threads of the group that adds the rows' losses.
const MEAN_THREADS: u32 = 256;

/// `cross_entropy`: the mean loss [1], logsumexp of each row [tokens], and the number of targets that count [1].
pub static CROSS_ENTROPY: OpDef = OpDef {
    name: "cross_entropy",
    formula: "loss = mean_t lse(logits[t]) - logits[t, target[t]]",
    infer,
    storage: FLOATS,
    cost: |call| Cost { flops: 5.0 * call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(reference),
    gradient: Some(gradient),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(ROWS, MEAN),
    cases,
    ..OpDef::BASE
};

/// `cross_entropy_backward`: (softmax - onehot(target)) dloss / count, and zeros in the rows of ignored targets.
pub static CROSS_ENTROPY_BACKWARD: OpDef = OpDef {
    name: "cross_entropy_backward",
    formula: "dlogits[t, j] = (exp(logits[t, j] - lse[t]) - [j = target[t]]) dloss / count",
    infer: infer_backward,
    storage: FLOATS,
    always_f32: &[2, 3, 4],
    sharing: &[(0, 0)],
    cost: |call| Cost::streaming(call, 5.0),
    meaning: Meaning::Loops(reference_backward),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower_backward(call, spec)),
    shaders: shader_list!(BACKWARD),
    cases: cases_backward,
    ..OpDef::BASE
};

/// The mean over targets other than `ignore_index` of the negative log-likelihood; 0 if there are none: [1].
/// logits: [tokens, vocab], any float; targets: [tokens] u32.
#[track_caller]
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, ignore_index: usize) -> Tensor {
    let params = Params::NONE.with_u32("ignore_index", ignore_index);
    logits.tracer().emit(&CROSS_ENTROPY, &[logits, targets], params)[0].clone()
}

fn gradient(c: &Backward) -> Vec<Option<Tensor>> {
    let dlogits = c.grads[0].as_ref().map(|dloss| {
        let inputs = [&c.inputs[0], &c.inputs[1], &c.outputs[1], &c.outputs[2], dloss];
        dloss.tracer().emit(&CROSS_ENTROPY_BACKWARD, &inputs, c.params.clone())[0].clone()
    });
    vec![dlogits, None]
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 2)?;
    expect::float("logits", &types[0])?;
    expect::rank("logits", &types[0], 2)?;
    expect::dtype("targets", &types[1], DType::U32)?;
    let tokens = types[0].shape[0];
    expect::shape("targets", &types[1], &[tokens])?;
    Ok(vec![TensorType::f32([1]), TensorType::f32([tokens]), TensorType::f32([1])])
}

fn infer_backward(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 5)?;
    infer(params, &types[..2])?;
    let shapes: [(&str, &[usize]); 3] = [("lse", &types[1].shape), ("count", &[1]), ("dloss", &[1])];
    for ((name, shape), ty) in shapes.into_iter().zip(&types[2..]) {
        expect::dtype(name, ty, DType::F32)?;
        expect::shape(name, ty, shape)?;
    }
    Ok(vec![types[0].clone()])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (vocab, ignore) = (call.inputs[0].shape[1], call.params.u32("ignore_index"));
    let (mut sum, mut count, mut lse) = (0.0, 0.0, Vec::new());
    for (row, target) in inputs[0].chunks(vocab).zip(inputs[1]) {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let row_lse = max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
        lse.push(row_lse);
        if *target as usize != ignore {
            sum += row.get(*target as usize).map_or(f64::NAN, |x| row_lse - x);
            count += 1.0;
        }
    }
    vec![vec![if count > 0.0 { sum / count } else { 0.0 }], lse, vec![count]]
}

fn reference_backward(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let (vocab, ignore) = (call.inputs[0].shape[1], call.params.u32("ignore_index"));
    let [logits, targets, lse, count, dloss] = *inputs else { unreachable!("`infer` asks for five inputs") };
    let element = |(i, x): (usize, &f64)| {
        let (token, column) = (i / vocab, i % vocab);
        let target = targets[token] as usize;
        match target {
            _ if target == ignore => 0.0,
            _ if target >= vocab => f64::NAN,
            _ => ((x - lse[token]).exp() - f64::from(column == target)) * dloss[0] / count[0],
        }
    };
    vec![logits.iter().enumerate().map(element).collect()]
}

static CUDA: CudaSource = CudaSource {
    name: "cross_entropy.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("cross_entropy.cu")),
};
static ROWS: [Shader; 3] = shaders!(same ["cross_entropy_rows"] "cross_entropy/cross_entropy_rows.comp" []);
static MEAN: [Shader; 1] = [Shader {
    name: "cross_entropy_mean",
    source: "cross_entropy/cross_entropy_mean.comp",
    defines: &[],
    spirv: spirv!("cross_entropy_mean"),
}];
static BACKWARD: [Shader; 3] = shaders!(same ["cross_entropy_backward"] "cross_entropy/cross_entropy_backward.comp" []);

/// Each row's logsumexp and loss, then the mean of the losses in a fixed order.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [tokens, vocab] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let ignore = call.params.u32("ignore_index") as u32;
    let rows = [Operand::Input(0), Operand::Input(1), Operand::Output(1), Operand::Scratch(0)].to_vec();
    let mean = [Operand::Scratch(0), Operand::Input(1), Operand::Output(0), Operand::Output(2)].to_vec();
    let words = vec![tokens as u32, ignore];
    let mean = match spec.kind {
        DeviceKind::Cpu => common::cpu("cross_entropy_mean", cpu::select_mean(&spec.architecture), 1, words, mean),
        DeviceKind::Cuda => {
            common::gpu(KernelSource::Cuda(&CUDA), "cross_entropy_mean", [1, 1, 1], MEAN_THREADS, words, mean)
        }
        DeviceKind::Vulkan => common::gpu(KernelSource::Vulkan(&MEAN[0]), "main", [1, 1, 1], MEAN_THREADS, words, mean),
    };
    let rows = by_rows(
        spec,
        ("cross_entropy_rows", cpu::select_rows, &ROWS),
        call.inputs[0].dtype,
        [tokens, vocab],
        ignore,
        rows,
    );
    Ok(Lowering { scratch: vec![(tokens * 4) as u64], launches: vec![rows, mean] })
}

fn lower_backward(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [tokens, vocab] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let ignore = call.params.u32("ignore_index") as u32;
    let kernel: RowKernel = ("cross_entropy_backward", cpu::select_backward, &BACKWARD);
    Ok(Lowering::one(by_rows(spec, kernel, call.inputs[0].dtype, [tokens, vocab], ignore, common::operands(5, 1))))
}

type RowKernel = (&'static str, fn(&str) -> fn(&graph::CpuArgs, usize), &'static [Shader]);

/// A launch over rows: one a group on GPUs, several a part on the CPU. Kernel words: tokens, vocab, ignored target.
fn by_rows(
    spec: &Spec,
    (name, select, shader): RowKernel,
    dtype: DType,
    [tokens, vocab]: [usize; 2],
    ignore: u32,
    operands: Vec<Operand>,
) -> Launch {
    let words = vec![tokens as u32, vocab as u32, ignore];
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let parts = tokens.div_ceil(rows_of_a_part(vocab));
            return common::cpu(name, select(&spec.architecture), parts, words, operands);
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), name),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(shader, dtype)), "main"),
    };
    let threads = vocab.div_ceil(4).next_power_of_two().clamp(64, 256);
    let launch = common::gpu(source, entry, [tokens.min(65_535), 1, 1], threads as u32, words, operands);
    stored::typed(launch, dtype)
}

fn rows_of_a_part(vocab: usize) -> usize {
    (CPU_CHUNK / vocab.max(1)).max(1)
}

/// A case's logits and targets: every third target is ignored, or all, or none.
fn inputs(tokens: usize, vocab: usize, ignored: fn(usize) -> bool) -> (Params, Vec<CaseInput>) {
    let target = |t: usize| if ignored(t) { vocab } else { t * 31 % vocab };
    let targets: Vec<f64> = (0..tokens).map(|t| target(t) as f64).collect();
    let logits = CaseInput::uniform([tokens, vocab], -8.0, 8.0);
    let inputs = vec![logits, CaseInput::values(DType::U32, [tokens], targets)];
    (Params::NONE.with_u32("ignore_index", vocab), inputs)
}

/// The case with a target that is neither ignored nor in the vocabulary.
fn outside(mut case: Case) -> Case {
    let graph::Fill::Values(targets) = &mut case.inputs[1].fill else { unreachable!("targets are given") };
    targets[1] += 1000.0;
    Case { name: "a target outside".into(), ..case }
}

fn cases() -> Vec<Case> {
    let case = |tokens: usize, vocab: usize, ignored: fn(usize) -> bool| {
        let (params, inputs) = inputs(tokens, vocab, ignored);
        Case::new(format!("{tokens}x{vocab}"), params, inputs)
    };
    vec![
        case(64, 128, |t| t % 16 == 15),
        case(77, 37, |t| t % 3 == 0),
        case(1, 1, |_| false),
        case(300, 5, |_| false),
        Case { name: "all ignored".into(), ..case(3, 70, |_| true) },
        outside(case(9, 70, |t| t % 4 == 0)),
        case(3, 50257, |_| false),
        case(2048, 50257, |t| t % 5 == 0).large(),
    ]
}

fn cases_backward() -> Vec<Case> {
    let case = |tokens: usize, vocab: usize, ignored: fn(usize) -> bool| {
        let (params, mut inputs) = inputs(tokens, vocab, ignored);
        inputs.push(CaseInput::uniform([tokens], 5.0, 9.0));
        let count = (0..tokens).filter(|&t| !ignored(t)).count();
        inputs.push(CaseInput::values(DType::F32, [1], [count as f64]));
        inputs.push(CaseInput::uniform([1], 0.5, 2.0));
        Case::new(format!("{tokens}x{vocab}"), params, inputs)
    };
    vec![
        case(64, 128, |t| t % 16 == 15),
        case(77, 37, |t| t % 3 == 0),
        case(1, 1, |_| false),
        Case { name: "all ignored".into(), ..case(3, 70, |_| true) },
        outside(case(9, 70, |t| t % 4 == 0)),
        case(3, 50257, |_| false),
        case(2048, 50257, |t| t % 5 == 0).large(),
    ]
}
