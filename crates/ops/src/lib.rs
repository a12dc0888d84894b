//! What can be computed: one folder and one card an op. `OPS` is the list; nothing is scanned.

#[macro_use]
pub mod spirv;
pub mod common;
pub mod elementwise;
pub mod reduce;

use graph::OpDef;

/// Every op, by folder.
pub static OPS: &[&OpDef] = &[
    &elementwise::ADD,
    &elementwise::SUB,
    &elementwise::MUL,
    &elementwise::SCALE,
    &elementwise::GELU,
    &elementwise::GELU_BACKWARD,
    &reduce::SUM_ROWS,
];

/// The card of a name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    OPS.iter().copied().find(|op| op.name == name)
}
