//! `Plan`: launches in order, every tensor at a fixed place, and what must wait for what.

use crate::arena::Arena;
use crate::depend;
use crate::homes::{Homes, PlannedCopy};
use crate::launch::{Launch, Lowering, Operand};
use crate::op::{Call, Cost, TensorType};
use crate::spec::{Limits, Spec, Tuning};
use crate::trace::{Graph, ValueId};
use crate::units;

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

    /// Bytes that the step moves at the least: what it reads and what it writes of the regions, each byte once. What lies
    /// in the arena may stay in caches.
    pub fn floor_bytes(&self) -> u64 {
        let region = |p: &Place| self.buffers[p.buffer].kind == BufferKind::Region;
        let covered = |access: Access| {
            let places = self.launches.iter().flat_map(|l| &l.places);
            let mut ranges: Vec<(usize, u64, u64)> = places
                .filter(|(p, a)| *a == access && region(p))
                .map(|(p, _)| (p.buffer, p.offset, p.offset + p.bytes))
                .collect();
            ranges.sort_unstable();
            let (mut total, mut buffer, mut end) = (0, usize::MAX, 0);
            for (b, from, to) in ranges {
                if b != buffer {
                    (buffer, end) = (b, 0);
                }
                total += to.saturating_sub(from.max(end));
                end = end.max(to);
            }
            total
        };
        covered(Access::Read) + covered(Access::Write)
    }

    /// Seconds below which the step can't come at `limits`: the longer of doing its operations and moving `floor_bytes`.
    pub fn limit_seconds(&self, limits: &Limits) -> f64 {
        (self.floor_bytes() as f64 / limits.bytes_per_second).max(self.cost().flops / limits.f32_flops)
    }

    /// Seconds that a node takes at the machine's limits: the longer of moving its bytes and doing its operations.
    pub fn expected_seconds(&self, node: &PlannedNode) -> f64 {
        self.spec.limits.seconds(&node.cost)
    }
}

/// Why a graph can't be planned for a machine.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Ops without a kernel there.
    #[error("{device} has no kernel for {} of the step's ops:{}", list.len(), refusals(list))]
    Unsupported {
        /// The device.
        device: String,
        /// Op with types, and why.
        list: Vec<(String, String)>,
    },
    /// The step doesn't fit the device's memory.
    #[error(
        "the step needs {} ({}), {device} has {}{note}\n  help: {help}",
        units::bytes(*need), named(parts), units::bytes(*have)
    )]
    Memory {
        /// The device.
        device: String,
        /// Bytes needed.
        need: u64,
        /// Bytes there.
        have: u64,
        /// Which bytes those are, where they aren't all.
        note: String,
        /// What needs how many bytes, by name.
        parts: Vec<(String, u64)>,
        /// What would fit.
        help: String,
    },
    /// A tensor or region larger than the device's largest allocation.
    #[error(
        "{what} needs {} in one piece, {device} allocates at most {}\n  help: a smaller model, batch_size or model.max_context needs less",
        units::bytes(*need), units::bytes(*have)
    )]
    Allocation {
        /// The device.
        device: String,
        /// What is too large.
        what: String,
        /// Bytes needed.
        need: u64,
        /// The largest allocation.
        have: u64,
    },
}

fn refusals(list: &[(String, String)]) -> String {
    list.iter().map(|(op, why)| format!("\n  {op}: {why}")).collect()
}

/// Plans a step for a machine: chooses lowerings, places every tensor, orders the launches. Pure.
///
/// # Errors
/// When ops have no kernel there, or the step doesn't fit its memory.
pub fn plan(graph: &Graph, spec: &Spec, tuning: &Tuning) -> Result<Plan, PlanError> {
    let lowered = lower_all(graph, spec, tuning)?;
    let homes = Homes::find(graph);
    let arena = Arena::place(graph, &homes, &lowered, spec)?;
    let mut builder =
        Builder { graph, homes: &homes, arena: &arena, launches: Vec::new(), nodes: Vec::new(), touched: Vec::new() };
    let mut copies: Vec<&PlannedCopy> = homes.copies.iter().collect();
    copies.sort_by_key(|copy| copy.before);
    let mut copies = copies.into_iter().peekable();
    for node in 0..=graph.nodes.len() {
        while let Some(copy) = copies.next_if(|copy| copy.before == node) {
            builder.copy(copy);
        }
        if let Some((lowering, variant)) = lowered.get(node) {
            builder.node(node, lowering, variant);
        }
    }
    let Builder { mut launches, nodes, touched, .. } = builder;
    depend::depend(&mut launches);
    let lives = arena.lives(&launches, &touched);
    let buffers = homes.buffers(graph, arena.bytes);
    enough(spec, buffers.iter().map(|b| (b.name.clone(), b.bytes)).collect())?;
    if let Some(b) = buffers.iter().find(|b| b.kind == BufferKind::Region && b.bytes > spec.largest_allocation) {
        let (device, have) = (spec.name.clone(), spec.largest_allocation);
        return Err(PlanError::Allocation { device, what: format!("region `{}`", b.name), need: b.bytes, have });
    }
    let (inputs, outputs, entries) = homes.bindings(graph);
    Ok(Plan { spec: spec.clone(), buffers, launches, nodes, inputs, outputs, entries, lives })
}

/// The buffers that plans of one machine must be lent, each once, with the most that one of them needs.
pub fn lent_by_name(plans: &[Plan]) -> Vec<(&str, u64)> {
    let mut all: Vec<(&str, u64)> = Vec::new();
    for (_, needed) in plans.iter().flat_map(Plan::lent_buffers) {
        match all.iter_mut().find(|(name, _)| *name == needed.name) {
            Some((_, bytes)) => *bytes = needed.bytes.max(*bytes),
            None => all.push((&needed.name, needed.bytes)),
        }
    }
    all
}

/// What plans of one machine that share arena and regions need together, by name.
pub fn parts(plans: &[Plan]) -> Vec<(String, u64)> {
    let own =
        plans.iter().flat_map(|p| &p.buffers).filter(|b| matches!(b.kind, BufferKind::Inputs | BufferKind::Outputs));
    let mut all = lent_by_name(plans);
    all.extend(own.map(|b| (b.name.as_str(), b.bytes)));
    all.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect()
}

/// Whether the machine's memory holds plans that share arena and regions.
///
/// # Errors
/// When it doesn't, with what each buffer needs.
pub fn fits(plans: &[Plan]) -> Result<(), PlanError> {
    plans.first().map_or(Ok(()), |plan| enough(&plan.spec, parts(plans)))
}

/// Whether a machine's memory holds what needs so many bytes, by name.
///
/// # Errors
/// When it doesn't.
pub fn enough(spec: &Spec, parts: Vec<(String, u64)>) -> Result<(), PlanError> {
    enough_of(&spec.name, spec.memory_bytes, "", parts)
}

/// The same of `have` bytes; `note` says which bytes those are.
///
/// # Errors
/// When they are fewer than the parts need.
pub fn enough_of(device: &str, have: u64, note: &str, mut parts: Vec<(String, u64)>) -> Result<(), PlanError> {
    let need = parts.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    if need <= have {
        return Ok(());
    }
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let help = "a smaller model, batch or context needs less".into();
    Err(PlanError::Memory { device: device.into(), need, have, note: note.into(), parts, help })
}

/// The parts that matter, the largest first.
fn named(parts: &[(String, u64)]) -> String {
    let most = parts.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
    let shown = parts.iter().filter(|(_, bytes)| bytes.saturating_mul(1000) >= most && *bytes > 0);
    let shown: Vec<_> =
        shown.map(|(name, bytes)| format!("{} {}", name.replace('_', " "), units::bytes(*bytes))).collect();
    shown.join(", ")
}

type Lowered = Vec<(Lowering, &'static str)>;

fn lower_all(graph: &Graph, spec: &Spec, tuning: &Tuning) -> Result<Lowered, PlanError> {
    let (mut lowered, mut refused) = (Vec::new(), Vec::new());
    for node in &graph.nodes {
        let (inputs, outputs) = (graph.types(&node.inputs), graph.types(&node.outputs));
        let call = Call { params: &node.params, inputs: &inputs, outputs: &outputs };
        let variant = tuning.choose(node.op, &call, spec);
        match (node.op.lower)(&call, spec, variant) {
            Ok(lowering) => lowered.push((lowering, variant)),
            Err(why) => {
                let types: Vec<_> = inputs.iter().map(ToString::to_string).collect();
                let refusal = (format!("{} ({})", node.op.name, types.join(", ")), why.0);
                if !refused.contains(&refusal) {
                    refused.push(refusal);
                }
            }
        }
    }
    if refused.is_empty() {
        Ok(lowered)
    } else {
        Err(PlanError::Unsupported { device: spec.name.clone(), list: refused })
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    homes: &'a Homes,
    arena: &'a Arena,
    launches: Vec<PlannedLaunch>,
    nodes: Vec<PlannedNode>,
    /// (launch, arena tensor) for every operand that lies in the arena.
    touched: Vec<(usize, usize)>,
}

impl Builder<'_> {
    fn node(&mut self, index: usize, lowering: &Lowering, variant: &'static str) {
        let node = &self.graph.nodes[index];
        let (inputs, outputs) = (self.graph.types(&node.inputs), self.graph.types(&node.outputs));
        let cost = (node.op.cost)(&Call { params: &node.params, inputs: &inputs, outputs: &outputs });
        let location = format!("{}:{}", node.location.file(), node.location.line());
        let (op, params) = (node.op.name.to_string(), node.params.to_string());
        self.nodes.push(PlannedNode { op, params, inputs, outputs, variant, cost, location });
        for launch in &lowering.launches {
            let (mut places, mut touched) = (Vec::new(), Vec::new());
            for operand in launch.operands() {
                let (place, item) = match operand {
                    Operand::Input(i) => self.place(node.inputs[i]),
                    Operand::Output(o) => self.place(node.outputs[o]),
                    Operand::Scratch(s) => {
                        let item = self.arena.scratch[index] + s;
                        (self.arena.place_of(item, 0, lowering.scratch[s]), Some(item))
                    }
                };
                let access = if matches!(operand, Operand::Input(_)) { Access::Read } else { Access::Write };
                places.push((place, access));
                touched.extend(item.map(|item| (self.launches.len(), item)));
            }
            // What a card copies from an input into an output that lies in its memory is there already.
            if matches!(launch, Launch::Copy { .. }) && places[0].0 == places[1].0 {
                continue;
            }
            self.touched.append(&mut touched);
            self.push(launch.clone(), places);
        }
    }

    fn copy(&mut self, copy: &PlannedCopy) {
        let (from, item) = self.place(copy.from);
        self.touched.extend(item.map(|item| (self.launches.len(), item)));
        let ty = self.graph.values[copy.from].ty.clone();
        let cost = Cost { bytes: 2.0 * from.bytes as f64, flops: 0.0 };
        self.nodes.push(PlannedNode {
            op: "copy".into(),
            params: String::new(),
            inputs: vec![ty.clone()],
            outputs: vec![ty],
            variant: "default",
            cost,
            location: "the planner".into(),
        });
        let launch = Launch::Copy { from: Operand::Input(0), to: Operand::Output(0) };
        self.push(launch, vec![(from, Access::Read), (copy.to, Access::Write)]);
    }

    fn push(&mut self, launch: Launch, places: Vec<(Place, Access)>) {
        self.launches.push(PlannedLaunch { launch, places, node: self.nodes.len() - 1, after: Vec::new(), level: 0 });
    }

    /// The place of a value, and the arena's tensor that it lies in.
    fn place(&self, id: ValueId) -> (Place, Option<usize>) {
        let bytes = self.graph.values[id].ty.bytes();
        let (root, offset) = self.graph.root(id);
        match self.homes.fixed[root] {
            Some(home) => (Place { buffer: home.buffer, offset: home.offset + offset, bytes }, None),
            None => {
                let item = self.arena.item[root].expect("a value that is read has a place");
                (self.arena.place_of(item, offset, bytes), Some(item))
            }
        }
    }
}
