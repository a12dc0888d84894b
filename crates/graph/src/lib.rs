//! A step as data: traced once into a graph, differentiated, fused, planned into one arena, ready to be recorded.

mod arena;
pub mod debug;
mod depend;
pub mod grad;
mod homes;
pub mod interpret;
pub mod launch;
pub mod memory;
pub mod op;
pub mod pass;
pub mod plan;
pub mod show;
pub mod spec;
pub mod trace;
pub mod units;

pub use launch::{CpuArgs, CpuKernel, CudaSource, Gemm, Kernel, KernelSource, Launch, Lowering, Operand, Shader};
pub use op::{
    Backward, Call, Case, CaseInput, Cost, Fill, Fusion, Meaning, OpDef, Param, Params, TensorType, Unsupported,
};
pub use plan::{Place, Plan, PlanError, PlannedLaunch};
pub use spec::{DeviceKind, Limits, Spec, Tuning};
pub use trace::{Graph, Tensor, TraceError, Tracer};
