//! `sum_rows`: y[j] = sum over i of x[i, j]; rows are summed in blocks of fixed size, then the blocks.

mod cpu;
mod sum_all;

pub use sum_all::{SUM_ALL, sum_all};

use crate::common::stored::{self, GPUS, Types};
use crate::{common, elementwise, fill};
use graph::op::{FLOATS, expect};
use graph::{
    Call, Case, CaseInput, Cost, CudaSource, DeviceKind, KernelSource, Launch, Lowering, Meaning, OpDef, Operand,
    Params, Shader, Spec, Tensor, TensorType, Unsupported,
};
use tensor::Shape;

/// Rows that are summed at once; the blocks' sums are then summed.
const BLOCK_ROWS: usize = 64;
/// Columns that one CPU part sums.
const COLUMNS: usize = 256;
/// Columns that one GPU group sums, with 8 threads a column.
const GPU_COLUMNS: usize = 32;

/// `sum_rows`: y[j] = sum over i of x[i, j].
pub static SUM_ROWS: OpDef = OpDef {
    name: "sum_rows",
    formula: "y[j] = sum_i x[i, j]",
    infer,
    storage: FLOATS,
    cost: |call| Cost { flops: call.inputs[0].elements() as f64, ..Cost::streaming(call, 0.0) },
    meaning: Meaning::Loops(reference),
    // x's gradient is y's in every row.
    gradient: Some(|c| vec![c.grads[0].as_ref().map(|dy| elementwise::mul(&fill::ones(&c.inputs[0]), dy))]),
    lower: |call, spec, _| common::widened(call, spec, GPUS, |call| lower(call, spec)),
    shaders: shader_list!(SHADER),
    cases,
    ..OpDef::BASE
};

/// The sum over the rows of x [rows, columns]: [columns].
#[track_caller]
pub fn sum_rows(x: &Tensor) -> Tensor {
    x.tracer().emit(&SUM_ROWS, &[x], Params::NONE)[0].clone()
}

/// x summed over its outer dimensions until it has `shape`: a row of it, or one number.
#[track_caller]
pub fn sum_to(x: &Tensor, shape: &Shape) -> Tensor {
    let columns = shape.elements();
    if columns == 1 {
        return sum_all(x).reshape(shape.clone());
    }
    sum_rows(&x.reshape([x.shape().elements() / columns, columns])).reshape(shape.clone())
}

fn infer(_: &Params, types: &[TensorType]) -> Result<Vec<TensorType>, String> {
    expect::inputs(types, 1)?;
    let dtype = expect::float("x", &types[0])?;
    expect::rank("x", &types[0], 2)?;
    Ok(vec![TensorType::new(dtype, [types[0].shape[1]])])
}

fn reference(call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    let columns = call.inputs[0].shape[1];
    vec![(0..columns).map(|j| inputs[0].iter().skip(j).step_by(columns).sum()).collect()]
}

static CUDA: CudaSource = CudaSource {
    name: "sum_rows.cu",
    text: concat!(include_str!("../common/common.cuh"), include_str!("sum_rows.cu")),
};
/// `sum_blocks` on Vulkan.
pub(crate) static SHADER: [Shader; 7] = shaders!(mixed ["sum_rows"] "reduce/sum_rows.comp" []);

/// Two launches where there is more than one block.
fn lower(call: &Call, spec: &Spec) -> Result<Lowering, Unsupported> {
    let [rows, columns] = *call.inputs[0].shape else { unreachable!("`infer` asks for two dimensions") };
    let (blocks, dtype) = (rows.div_ceil(BLOCK_ROWS), call.inputs[0].dtype);
    if blocks <= 1 {
        let launch = sum_blocks(spec, dtype.into(), [rows, columns, rows.max(1)], common::operands(1, 1));
        return Ok(Lowering::one(launch));
    }
    let (first, second) = stored::through_f32(dtype);
    let sums = Operand::Scratch(0);
    Ok(Lowering {
        scratch: vec![(blocks * columns * 4) as u64],
        launches: vec![
            sum_blocks(spec, first, [rows, columns, BLOCK_ROWS], vec![Operand::Input(0), sums]),
            sum_blocks(spec, second, [blocks, columns, blocks], vec![sums, Operand::Output(0)]),
        ],
    })
}

/// y[block, j] = sum of the block's rows of x. Kernel words: rows, columns, rows of a block.
pub(crate) fn sum_blocks(
    spec: &Spec,
    types: Types,
    [rows, columns, block_rows]: [usize; 3],
    operands: Vec<Operand>,
) -> Launch {
    let words = vec![rows as u32, columns as u32, block_rows as u32];
    let blocks = rows.div_ceil(block_rows).max(1);
    let (source, entry) = match spec.kind {
        DeviceKind::Cpu => {
            let parts = columns.div_ceil(COLUMNS) * blocks;
            return common::cpu("sum_rows", cpu::select(&spec.architecture), parts, words, operands);
        }
        DeviceKind::Cuda => (KernelSource::Cuda(&CUDA), "sum_rows"),
        DeviceKind::Vulkan => (KernelSource::Vulkan(stored::shader(&SHADER, types)), "main"),
    };
    let groups = [columns.div_ceil(GPU_COLUMNS), blocks, 1];
    stored::typed(common::gpu(source, entry, groups, 8 * GPU_COLUMNS as u32, words, operands), types)
}

fn cases() -> Vec<Case> {
    let case = |rows: usize, columns: usize| {
        Case::new(format!("{rows}x{columns}"), Params::NONE, vec![CaseInput::normal([rows, columns])])
    };
    vec![
        case(1, 1),
        case(64, 256),
        case(5, 300),
        case(200, 37),
        case(513, 1),
        case(64, 1024).large(),
        case(16384, 4096).tolerance(1e-4).large(),
    ]
}
