//! `kv_append`: the rows of k and v in qkv written to the slots of a cache that each token is given; the rest stays.

mod cpu;

use crate::common;
use graph::op::{FLOATS, expect, is_narrow};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Launch, Lowering, Meaning, OpDef, Operand,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::DType;

/// The slot of a token that is written nowhere.
pub const NO_SLOT: u32 = u32::MAX;

/// Elements of each cache that one CPU part writes, about; it has some columns of all rows.
const CPU_CHUNK: usize = 8192;
/// CPU parts, at most.
const CPU_PARTS: usize = 16;

/// `kv_append`: the key cache and the value cache with the new rows in them.
pub static KV_APPEND: OpDef = OpDef {
    name: "kv_append",
    formula: "key_cache[slot[i]] = k[i]; value_cache[slot[i]] = v[i]",
    infer,
    storage: FLOATS,
    sharing: &[(0, 0), (1, 1)],
    cost,
    meaning: Meaning::Loops(reference),
    lower: |call, spec, _| common::widened(call, spec, &[DeviceKind::Cpu], |call| lower(call, spec)),
    shaders: &[&SHADER],
    cases,
    ..OpDef::BASE
};

/// Writes each token's k and v to its slot: key_cache and value_cache [slots, kv heads x head_dim]; qkv [tokens, (heads + 2
/// kv heads) x head_dim], all heads' q, then k, then v; slot_mapping [tokens] u32, no slot twice. A token whose slot isn't
/// in the cache, such as [`NO_SLOT`], is written nowhere. The results are the caches as they are then; assigned to the
/// states that they came from, they are written in place.
#[track_caller]
pub fn kv_append(
    key_cache: &Tensor,
    value_cache: &Tensor,
    qkv: &Tensor,
    slot_mapping: &Tensor,
    num_heads: usize,
    num_kv_heads: usize,
) -> (Tensor, Tensor) {
    let inputs = [key_cache, value_cache, qkv, slot_mapping];
    let out = qkv.tracer().emit(&KV_APPEND, &inputs, params(num_heads, num_kv_heads));
    (out[0].clone(), out[1].clone())
}

fn params(num_heads: usize, num_kv_heads: usize) -> Params {
    Params::NONE.with_u32("num_heads", num_heads).with_u32("num_kv_heads", num_kv_heads)
}

fn infer(params: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 4)?;
    let stored = expect::float("qkv", &types[2])?;
    for (name, ty) in ["key_cache", "value_cache", "qkv"].iter().zip(types) {
        expect::dtype(name, ty, stored)?;
        expect::rank(name, ty, 2)?;
    }
    expect::shape("value_cache", &types[1], &types[0].shape)?;
    expect::dtype("slot_mapping", &types[3], DType::U32)?;
    expect::shape("slot_mapping", &types[3], &[types[2].shape[0]])?;
    let (heads, kv_heads) = (params.u32("num_heads"), params.u32("num_kv_heads"));
    let (width, columns) = (types[0].shape[1], types[2].shape[1]);
    if kv_heads == 0 || width == 0 || !width.is_multiple_of(kv_heads) {
        return Err(format!("`key_cache` has {width} columns; expected a multiple of {kv_heads} heads of k and v"));
    }
    let head_dim = width / kv_heads;
    if (heads + 2 * kv_heads).checked_mul(head_dim) != Some(columns) {
        return Err(format!("`qkv` has {columns} columns; expected {heads} + 2 x {kv_heads} heads of {head_dim}"));
    }
    Ok(vec![types[0].clone(), types[1].clone()])
}

/// Rows that are read and written; the rest of the caches stays where it is.
fn cost(call: &Call) -> Cost {
    let row = call.inputs[0].shape[1] * call.inputs[0].dtype.block_bytes();
    Cost { bytes: (call.inputs[3].elements() * (4 * row + 4)) as f64, flops: 0.0 }
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let [slots, width] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let columns = call.inputs[2].shape[1];
    let mut caches = [inputs[0].to_vec(), inputs[1].to_vec()];
    for (row, &slot) in inputs[2].chunks(columns).zip(inputs[3]) {
        let slot = slot as usize;
        if slot < slots {
            for (cache, from) in caches.iter_mut().zip([columns - 2 * width, columns - width]) {
                cache[slot * width..(slot + 1) * width].copy_from_slice(&row[from..from + width]);
            }
        }
    }
    caches.into()
}

static CUDA: CudaSource = CudaSource {
    name: "kv_append.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("kv_append.cu")),
};
static SHADER: Shader =
    Shader { name: "kv_append", source: "kv_append/kv_append.comp", defines: &[], spirv: spirv!("kv_append") };

/// CPU parts: of columns, so that no two write one slot.
fn parts(tokens: usize, width: usize) -> usize {
    (tokens * width / CPU_CHUNK).clamp(1, CPU_PARTS.min(width))
}

/// The caches are copied where they aren't shared, then the rows are written, one a group on GPUs. Kernel words: tokens,
/// slots, columns of a cache, columns of qkv.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [slots, width] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let [tokens, columns] = *call.inputs[2].shape else { unreachable!("`infer` asks for two dimensions") };
    let words = [tokens, slots, width, columns].map(|n| n as u32).to_vec();
    let operands = vec![Operand::Input(2), Operand::Input(3), Operand::Output(0), Operand::Output(1)];
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => (None, "kv_append"),
        DeviceKind::Cuda => (Some(KernelSource::Cuda(&CUDA)), "kv_append"),
        DeviceKind::Vulkan => (Some(KernelSource::Vulkan(&SHADER)), "main"),
    };
    let write = match source {
        None if is_narrow(call.inputs[2].dtype) => {
            common::cpu(entry, cpu::select_narrow(&spec.architecture), parts(tokens, width), words, operands)
        }
        None => common::cpu(entry, cpu::select(&spec.architecture), parts(tokens, width), words, operands),
        Some(source) => {
            let threads = (width.next_power_of_two() as u32).clamp(64, 256);
            common::gpu(source, entry, [tokens.clamp(1, common::MOST_GROUPS), 1, 1], threads, words, operands)
        }
    };
    let copy = |i: usize| Launch::Copy { from: Operand::Input(i), to: Operand::Output(i) };
    Ok(Lowering { scratch: Vec::new(), launches: vec![copy(0), copy(1), write] })
}

fn cases() -> Vec<Case> {
    let case = |name: &str, (heads, kv_heads): (usize, usize), head_dim: usize, slots: usize, mapping: &[u32]| {
        let tokens = mapping.len();
        let mapping: Vec<f64> = mapping.iter().map(|&slot| f64::from(slot)).collect();
        let inputs = vec![
            CaseInput::normal([slots, kv_heads * head_dim]),
            CaseInput::normal([slots, kv_heads * head_dim]),
            CaseInput::normal([tokens, (heads + 2 * kv_heads) * head_dim]),
            CaseInput::values(DType::U32, [tokens], mapping),
        ];
        Case::new(name, params(heads, kv_heads), inputs).tolerance(0.0)
    };
    let scattered = |tokens: u32, slots: u32| (0..tokens).map(|i| (i * 37 + 11) % slots).collect::<Vec<u32>>();
    vec![
        case("one token", (4, 2), 32, 64, &[33]),
        case("scattered, padding", (2, 2), 16, 40, &[7, 39, NO_SLOT, 0, 1, NO_SLOT]),
        case("beyond the cache", (3, 1), 5, 9, &[9, 8, 1000]),
        case("all padding", (1, 1), 4, 8, &[NO_SLOT, NO_SLOT]),
        case("many tokens", (2, 1), 64, 320, &scattered(300, 320)),
        case("4096 tokens", (32, 8), 128, 8192, &scattered(4096, 8192)).large(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::{Graph, Tuning, plan};

    /// Assigned to their states, the caches are written where they are: one launch, nothing copied.
    #[test]
    fn writes_states_in_place() {
        let graph = Graph::trace(|g| {
            let cache = |name: &str| g.state("kv_cache", name, DType::F32, [64, 32]);
            let (keys, values) = (cache("key"), cache("value"));
            let qkv = g.input("qkv", DType::F32, [3, 128]);
            let slots = g.input("slots", DType::U32, [3]);
            let (new_keys, new_values) = kv_append(&keys, &values, &qkv, &slots, 4, 2);
            g.assign(&keys, &new_keys);
            g.assign(&values, &new_values);
        })
        .expect("it can be traced");
        let device = device::Device::open(device::Choice::Cpu, &Default::default()).expect("there is a processor");
        let plan = plan::plan(&graph, device.spec(), &Tuning::default()).expect("it can be planned");
        let names: Vec<_> = plan.launches.iter().map(|l| l.launch.name()).collect();
        assert_eq!(names, ["kv_append"]);
    }
}
