//! Checks and benchmarks: ops against references and limits, whole runs against peers. Only this crate knows peers.

pub mod bench;
pub mod check;
pub mod fuzz;
pub mod peer;
pub mod plot;
pub mod stats;
pub mod support;

use graph::OpDef;

/// The ops of a name, or all of them.
///
/// # Errors
/// When there is no op of that name; the nearest are named.
pub fn ops_named(name: Option<&str>) -> Result<Vec<&'static OpDef>, String> {
    let Some(name) = name else { return Ok(ops::OPS.to_vec()) };
    if let Some(op) = ops::find(name) {
        return Ok(vec![op]);
    }
    let near: Vec<_> = ops::OPS.iter().map(|op| op.name).filter(|n| n.contains(name) || name.contains(n)).collect();
    let help = if near.is_empty() { "`rondo ops` lists them".into() } else { format!("there is {}", near.join(", ")) };
    Err(format!("there is no op `{name}`; {help}"))
}
