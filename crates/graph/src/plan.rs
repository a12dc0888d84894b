//! `Plan`: launches in order, every tensor at a fixed place, and what must wait for what.

use crate::launch::Launch;
use crate::op::{Cost, TensorType};
use crate::spec::Spec;

/// What a plan's buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferKind {
    /// Values that live within one step. Lent to the recording by its owner.
    Arena,
    /// What the host writes before each step. The recording's own, with a ring of slots.
    Inputs,
    /// What the host reads after each step. The recording's own, with a ring of slots.
    Outputs,
    /// Parameters, gradients, moments: outlives the step. Lent to the recording by its owner.
    Region,
}

/// One buffer that a plan's places refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferPlan {
    /// `arena`, `inputs`, `outputs` or the region's name.
    pub name: String,
    /// What it is for.
    pub kind: BufferKind,
    /// Its size.
    pub bytes: u64,
}

/// A range of bytes in one of the plan's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Index into `Plan::buffers`.
    pub buffer: usize,
    /// First byte.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
}

impl Place {
    /// Whether two ranges share a byte.
    pub fn overlaps(&self, other: &Place) -> bool {
        self.buffer == other.buffer
            && self.offset < other.offset + other.bytes
            && other.offset < self.offset + self.bytes
    }
}

/// What a launch does with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It writes, and may read.
    Write,
}

/// A launch with the places of its operands.
#[derive(Clone, Debug)]
pub struct PlannedLaunch {
    /// What runs.
    pub launch: Launch,
    /// The place of each of `launch.operands()`, in that order.
    pub places: Vec<(Place, Access)>,
    /// Index into `Plan::nodes`.
    pub node: usize,
    /// Earlier launches that must have ended, by byte ranges; what follows from others is left out.
    pub after: Vec<usize>,
    /// Longest chain of launches that must have ended. Launches of one level may run side by side.
    pub level: usize,
}

/// What a group of launches came from, for people.
#[derive(Clone, Debug)]
pub struct PlannedNode {
    /// The op's name; `copy` for copies that the planner adds.
    pub op: String,
    /// Its parameters.
    pub params: String,
    /// Types of the inputs.
    pub inputs: Vec<TensorType>,
    /// Types of the outputs.
    pub outputs: Vec<TensorType>,
    /// The chosen lowering.
    pub variant: &'static str,
    /// What it must move and compute at the least.
    pub cost: Cost,
    /// The source line that made it.
    pub location: String,
}

/// A named tensor at its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Where it is.
    pub place: Place,
}

/// A tensor of the arena with the levels in which its bytes mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub place: Place,
    /// First level that writes it.
    pub first: usize,
    /// Last level that touches it.
    pub last: usize,
}

/// A step, ready to be recorded on the machine it was planned for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The machine it was planned for.
    pub spec: Spec,
    /// The buffers that places refer to.
    pub buffers: Vec<BufferPlan>,
    /// What runs, in order.
    pub launches: Vec<PlannedLaunch>,
    /// What the launches came from.
    pub nodes: Vec<PlannedNode>,
    /// What the host writes.
    pub inputs: Vec<Binding>,
    /// What the host reads.
    pub outputs: Vec<Binding>,
    /// Named entries of the regions.
    pub entries: Vec<Binding>,
    /// The arena's tensors.
    pub lives: Vec<Life>,
}

impl Plan {
    /// How many levels there are.
    pub fn levels(&self) -> usize {
        self.launches.iter().map(|l| l.level + 1).max().unwrap_or(0)
    }

    /// The buffer of a name, with its index.
    pub fn buffer(&self, name: &str) -> Option<(usize, &BufferPlan)> {
        self.buffers.iter().enumerate().find(|(_, b)| b.name == name)
    }

    /// The buffers that a recording must be lent: the arena and the regions.
    pub fn lent_buffers(&self) -> impl Iterator<Item = (usize, &BufferPlan)> {
        let lent = |b: &BufferPlan| matches!(b.kind, BufferKind::Arena | BufferKind::Region) && b.bytes > 0;
        self.buffers.iter().enumerate().filter(move |(_, b)| lent(b))
    }

    /// Size of the arena.
    pub fn arena_bytes(&self) -> u64 {
        self.buffers.iter().filter(|b| b.kind == BufferKind::Arena).map(|b| b.bytes).sum()
    }

    /// Bytes and operations of the whole step.
    pub fn cost(&self) -> Cost {
        self.nodes
            .iter()
            .fold(Cost::default(), |a, n| Cost { bytes: a.bytes + n.cost.bytes, flops: a.flops + n.cost.flops })
    }

    /// Seconds that a node takes at the machine's limits: the longer of moving its bytes and doing its operations.
    pub fn expected_seconds(&self, node: &PlannedNode) -> f64 {
        let limits = &self.spec.limits;
        (node.cost.bytes / limits.bytes_per_second).max(node.cost.flops / limits.f32_flops)
    }
}
