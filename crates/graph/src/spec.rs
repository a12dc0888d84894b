//! What a plan may know of a machine (`Spec`), and which lowering it chooses there (`Tuning`). Both are plain data.

use crate::op::{Call, Cost, OpDef};
use crate::trace::{Graph, Node};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The kinds of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// This machine's processor.
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda,
    /// Any vendor's GPU through Vulkan.
    Vulkan,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Vulkan => "vulkan",
        })
    }
}

/// The machine's limits, measured or from its data sheet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes a second that a copy reads and writes.
    pub bytes_per_second: f64,
    /// f32 multiply-adds a second, counted as two operations.
    pub f32_flops: f64,
    /// Seconds that the shortest launch takes in a recording.
    pub launch_seconds: f64,
}

impl Limits {
    /// Seconds of the nearer limit: the longer of moving the bytes and doing the operations.
    pub fn seconds(&self, cost: &Cost) -> f64 {
        (cost.bytes / self.bytes_per_second).max(cost.flops / self.f32_flops)
    }
}

/// One device, as far as a plan may know it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The kind of machine.
    pub kind: DeviceKind,
    /// Its name, for people.
    pub name: String,
    /// Instruction set: `avx512`, `avx2` or `portable` on CPU; `sm_90` and so on for CUDA; the driver's name for Vulkan.
    pub architecture: String,
    /// Cores or multiprocessors.
    pub units: u32,
    /// Lanes that run together; 1 on CPU.
    pub subgroup_size: u32,
    /// Largest group.
    pub max_threads: u32,
    /// Shared memory of one group in bytes.
    pub shared_bytes: u32,
    /// Memory of the device in bytes.
    pub memory_bytes: u64,
    /// Largest single allocation in bytes; no tensor straddles two.
    pub largest_allocation: u64,
    /// Bytes of kernel arguments that need no table.
    pub argument_bytes: u32,
    /// Libraries and features that are there, such as `cublaslt`.
    pub features: Vec<String>,
    /// What it can do at best.
    pub limits: Limits,
}

impl Spec {
    /// Whether a library or feature is there.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|f| f == feature)
    }
}

/// Chosen lowerings by key; without an entry the card's default holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tuning(pub BTreeMap<String, String>);

impl Tuning {
    /// The key of a call: op, parameters and types.
    pub fn key(op: &OpDef, call: &Call) -> String {
        let inputs: Vec<_> = call.inputs.iter().map(ToString::to_string).collect();
        format!("{} {} {}", op.name, call.params, inputs.join(" ")).replace("  ", " ")
    }

    /// The key of a node's call, and the lowerings that the card offers there, its default first.
    pub fn offered(graph: &Graph, node: &Node, spec: &Spec) -> (String, Vec<&'static str>) {
        let (inputs, outputs) = (graph.types(&node.inputs), graph.types(&node.outputs));
        let call = Call { params: &node.params, inputs: &inputs, outputs: &outputs };
        (Self::key(node.op, &call), (node.op.variants)(&call, spec))
    }

    /// How many of the table's entries are calls of this graph.
    ///
    /// # Errors
    /// An entry whose lowering the card doesn't offer on this machine.
    pub fn check(&self, graph: &Graph, spec: &Spec) -> Result<usize, String> {
        let mut used = BTreeSet::new();
        for node in &graph.nodes {
            let (key, offered) = Self::offered(graph, node, spec);
            let Some(chosen) = self.0.get(&key) else { continue };
            if !offered.contains(&chosen.as_str()) {
                let there = offered.join(", ");
                return Err(format!("`{key}`: there is no lowering `{chosen}` on {}, only {there}", spec.name));
            }
            used.insert(key);
        }
        Ok(used.len())
    }

    /// The lowering chosen for a call: the table's if the card still offers it, else the card's default.
    pub fn choose(&self, op: &OpDef, call: &Call, spec: &Spec) -> &'static str {
        let offered = (op.variants)(call, spec);
        let chosen = self.0.get(&Self::key(op, call));
        offered
            .iter()
            .find(|v| Some(**v) == chosen.map(String::as_str))
            .or(offered.first())
            .copied()
            .unwrap_or("default")
    }
}
