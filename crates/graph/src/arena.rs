//! The arena's tensors: which values and scratch lie there, which share memory, and when they live.

use crate::homes::{ARENA, Homes};
use crate::launch::Lowering;
use crate::memory::{self, Lifetime};
use crate::plan::{Life, Place, PlanError, PlannedLaunch};
use crate::spec::Spec;
use crate::trace::{Graph, NodeId, ValueId};

/// Every tensor of the arena at its offset.
pub(crate) struct Arena {
    /// The tensor that a root value lies in.
    pub item: Vec<Option<usize>>,
    /// The first of each node's scratch tensors.
    pub scratch: Vec<usize>,
    pub bytes: u64,
    tensors: Vec<Lifetime>,
    offsets: Vec<u64>,
}

impl Arena {
    pub fn place(
        graph: &Graph,
        homes: &Homes,
        lowered: &[(Lowering, &'static str)],
        spec: &Spec,
    ) -> Result<Arena, PlanError> {
        let last_read = last_reads(graph, homes);
        let mut arena = Arena {
            item: vec![None; graph.values.len()],
            scratch: Vec::new(),
            bytes: 0,
            tensors: Vec::new(),
            offsets: Vec::new(),
        };
        for node in 0..graph.nodes.len() {
            for output in 0..graph.nodes[node].outputs.len() {
                arena.output(graph, homes, &last_read, node, output);
            }
            arena.scratch.push(arena.tensors.len());
            let time = at_node(node);
            arena.tensors.extend(lowered[node].0.scratch.iter().map(|&bytes| Lifetime {
                bytes,
                first: time,
                last: time,
            }));
        }
        match memory::place(&arena.tensors, spec.largest_allocation) {
            Some((offsets, bytes)) => Ok(Arena { offsets, bytes, ..arena }),
            None => Err(PlanError::Allocation {
                device: spec.name.clone(),
                what: "a tensor of the step".into(),
                need: arena.tensors.iter().map(|t| t.bytes).max().unwrap_or(0),
                have: spec.largest_allocation,
            }),
        }
    }

    /// Gives a node's output an input's memory if its card allows that and nothing reads the input later; else its own.
    fn output(&mut self, graph: &Graph, homes: &Homes, last_read: &[usize], node: NodeId, output: usize) {
        let made = &graph.nodes[node];
        let id = made.outputs[output];
        if homes.fixed[id].is_some() {
            return;
        }
        let (bytes, time) = (graph.values[id].ty.bytes(), at_node(node));
        let last = last_read[id].max(time);
        for &(_, input) in made.op.sharing.iter().filter(|(o, _)| *o == output) {
            let Some(&read) = made.inputs.get(input) else { continue };
            let root = graph.root(read).0;
            let Some(item) = self.item[root] else { continue };
            let once = made.inputs.iter().filter(|&&i| self.item[graph.root(i).0] == Some(item)).count() == 1;
            let whole = graph.values[read].ty.bytes() == bytes && self.tensors[item].bytes == bytes;
            if once && whole && self.tensors[item].last == time {
                self.tensors[item].last = last;
                self.item[id] = Some(item);
                return;
            }
        }
        self.item[id] = Some(self.tensors.len());
        self.tensors.push(Lifetime { bytes, first: time, last });
    }

    pub fn place_of(&self, item: usize, offset: u64, bytes: u64) -> Place {
        Place { buffer: ARENA, offset: self.offsets[item] + offset, bytes }
    }

    /// The levels in which each tensor's bytes mean something.
    pub fn lives(&self, launches: &[PlannedLaunch], touched: &[(usize, usize)]) -> Vec<Life> {
        let mut lives: Vec<Option<Life>> = vec![None; self.tensors.len()];
        for &(launch, item) in touched {
            let level = launches[launch].level;
            let place = self.place_of(item, 0, self.tensors[item].bytes);
            let life = lives[item].get_or_insert(Life { place, first: level, last: level });
            life.first = life.first.min(level);
            life.last = life.last.max(level);
        }
        lives.into_iter().flatten().collect()
    }
}

/// Nodes happen at odd times, and copies before them at even ones.
fn at_node(node: NodeId) -> usize {
    2 * node + 1
}

/// When each root value is last read.
fn last_reads(graph: &Graph, homes: &Homes) -> Vec<usize> {
    let mut last = vec![0; graph.values.len()];
    let mut read = |id: ValueId, time: usize| {
        let root = graph.root(id).0;
        last[root] = last[root].max(time);
    };
    for (n, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&id| read(id, at_node(n)));
    }
    for copy in &homes.copies {
        read(copy.from, 2 * copy.before);
    }
    last
}
