//! Where values lie that outlive a step or cross its border: inputs, outputs, regions, packs and assigned states.

use crate::memory::ALIGNMENT;
use crate::plan::{Binding, BufferKind, BufferPlan, Place};
use crate::trace::{Graph, NodeId, Source, ValueId};

/// Buffer 0 is the arena, 1 the inputs, 2 the outputs, and then come the regions in order.
pub(crate) const ARENA: usize = 0;
const INPUTS: usize = 1;
const OUTPUTS: usize = 2;
const REGIONS: usize = 3;

/// The start of a value in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub buffer: usize,
    pub offset: u64,
}

/// A copy that the planner adds, before a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedCopy {
    pub before: NodeId,
    pub from: ValueId,
    pub to: Place,
}

/// The values with a fixed home, and the copies for those that couldn't be made in place.
pub(crate) struct Homes {
    /// By root value; `None` for values of the arena.
    pub fixed: Vec<Option<Home>>,
    pub copies: Vec<PlannedCopy>,
    input_bytes: u64,
    output_bytes: u64,
    outputs: Vec<Home>,
}

impl Homes {
    pub fn find(graph: &Graph) -> Homes {
        let mut homes = Homes {
            fixed: vec![None; graph.values.len()],
            copies: Vec::new(),
            input_bytes: 0,
            output_bytes: 0,
            outputs: Vec::new(),
        };
        for (id, value) in graph.values.iter().enumerate() {
            homes.fixed[id] = match &value.source {
                Source::Input { .. } => {
                    let offset = homes.input_bytes;
                    homes.input_bytes = (offset + value.ty.bytes()).next_multiple_of(ALIGNMENT);
                    Some(Home { buffer: INPUTS, offset })
                }
                Source::Region { region, offset, .. } => Some(Home { buffer: REGIONS + region, offset: *offset }),
                Source::Pack { region, .. } => Some(Home { buffer: REGIONS + region, offset: 0 }),
                _ => None,
            };
        }
        homes.packs(graph);
        let copies = homes.assignments(graph);
        homes.outputs(graph);
        // Last, since outputs may show what a state held before.
        homes.copies.extend(copies);
        homes
    }

    fn packs(&mut self, graph: &Graph) {
        for value in &graph.values {
            let Source::Pack { region, parts } = &value.source else { continue };
            for &(part, offset) in parts {
                self.settle(graph, part, Home { buffer: REGIONS + region, offset }, made_before(graph, part));
            }
        }
    }

    /// Gives assigned values their state's home where they can be made in place; the copies for the others.
    fn assignments(&mut self, graph: &Graph) -> Vec<PlannedCopy> {
        let mut copies = Vec::new();
        for &(state, value) in &graph.assignments {
            let home = self.fixed[state].expect("a state is an entry of a region");
            let place = Place { buffer: home.buffer, offset: home.offset, bytes: graph.values[state].ty.bytes() };
            let root = graph.root(value).0;
            if self.fixed[root].is_none() && self.may_write_in_place(graph, value, place) {
                self.fixed[root] = Some(home);
            } else {
                copies.push(PlannedCopy { before: graph.nodes.len(), from: value, to: place });
            }
        }
        copies
    }

    fn outputs(&mut self, graph: &Graph) {
        for (_, value) in &graph.outputs {
            let home = Home { buffer: OUTPUTS, offset: self.output_bytes };
            self.output_bytes = (home.offset + graph.values[*value].ty.bytes()).next_multiple_of(ALIGNMENT);
            self.outputs.push(home);
            self.settle(graph, *value, home, graph.nodes.len());
        }
    }

    /// Gives a value its home where its node makes it, or a copy before node `before` if it has a home already or is
    /// not made by a node.
    fn settle(&mut self, graph: &Graph, id: ValueId, home: Home, before: NodeId) {
        let (root, offset) = graph.root(id);
        let whole = offset == 0 && graph.values[root].ty.bytes() == graph.values[id].ty.bytes();
        if whole && self.fixed[root].is_none() && matches!(graph.values[root].source, Source::Node { .. }) {
            self.fixed[root] = Some(home);
            return;
        }
        let to = Place { buffer: home.buffer, offset: home.offset, bytes: graph.values[id].ty.bytes() };
        self.copies.push(PlannedCopy { before, from: id, to });
    }

    /// Whether the node that makes `id` may write it over the state at `place`: nothing reads the state's old bytes
    /// later, and the node itself reads them only as the input that its card lets the output share.
    fn may_write_in_place(&self, graph: &Graph, id: ValueId, place: Place) -> bool {
        let (root, offset) = graph.root(id);
        let Source::Node { node: maker, output } = graph.values[root].source else { return false };
        if offset != 0 || graph.values[root].ty.bytes() != place.bytes {
            return false;
        }
        let reads = |id: ValueId| {
            let (root, offset) = graph.root(id);
            let bytes = graph.values[id].ty.bytes();
            self.fixed[root].map(|h| Place { buffer: h.buffer, offset: h.offset + offset, bytes })
        };
        let later = graph.nodes[maker + 1..].iter().flat_map(|n| &n.inputs);
        let named = graph.outputs.iter().map(|(_, id)| id);
        if later
            .chain(named)
            .any(|&id| id != root && graph.root(id).0 != root && reads(id).is_some_and(|p| p.overlaps(&place)))
        {
            return false;
        }
        let made = &graph.nodes[maker];
        made.inputs.iter().enumerate().all(|(input, &id)| match reads(id) {
            Some(p) if p.overlaps(&place) => p == place && made.op.sharing.contains(&(output, input)),
            _ => true,
        })
    }

    pub fn buffers(&self, graph: &Graph, arena_bytes: u64) -> Vec<BufferPlan> {
        let buffer = |name: &str, kind, bytes| BufferPlan { name: name.into(), kind, bytes };
        let mut all = vec![
            buffer("arena", BufferKind::Arena, arena_bytes),
            buffer("inputs", BufferKind::Inputs, self.input_bytes),
            buffer("outputs", BufferKind::Outputs, self.output_bytes),
        ];
        all.extend(graph.regions.iter().map(|r| buffer(&r.name, BufferKind::Region, r.bytes)));
        all
    }

    /// Inputs, outputs, and the regions' entries.
    pub fn bindings(&self, graph: &Graph) -> (Vec<Binding>, Vec<Binding>, Vec<Binding>) {
        let bind = |name: &str, ty: &crate::TensorType, home: Home| Binding {
            name: name.into(),
            ty: ty.clone(),
            place: Place { buffer: home.buffer, offset: home.offset, bytes: ty.bytes() },
        };
        let inputs = graph.values.iter().enumerate().filter_map(|(id, v)| match &v.source {
            Source::Input { name } => Some(bind(name, &v.ty, self.fixed[id]?)),
            _ => None,
        });
        let outputs =
            graph.outputs.iter().zip(&self.outputs).map(|((n, id), home)| bind(n, &graph.values[*id].ty, *home));
        let entries = graph.regions.iter().enumerate().flat_map(|(r, region)| {
            let home = move |offset| Home { buffer: REGIONS + r, offset };
            region.entries.iter().map(move |e| bind(&e.name, &e.ty, home(e.offset)))
        });
        (inputs.collect(), outputs.collect(), entries.collect())
    }
}

/// The first node before which a value is there.
fn made_before(graph: &Graph, id: ValueId) -> NodeId {
    match graph.values[graph.root(id).0].source {
        Source::Node { node, .. } => node + 1,
        _ => 0,
    }
}
