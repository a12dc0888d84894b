//! Fuse: replaces groups of nodes by the fused op whose unfused graph they are.

use crate::op::{Fusion, Meaning, OpDef, Params, TensorType};
use crate::trace::{Graph, Node, NodeId, Source, ValueId};
use std::collections::BTreeMap;

/// The graph with every match of a fused op's pattern replaced; earlier ops of the list match first.
pub fn fuse(mut graph: Graph, ops: &[&'static OpDef]) -> Graph {
    for &op in ops {
        let Meaning::Unfused(fusion) = op.meaning else { continue };
        let Some(pattern) = example(op, fusion) else { continue };
        let mut from = 0;
        while let Some(found) = (from..graph.nodes.len()).find_map(|node| find(&graph, op, fusion, &pattern, node)) {
            from = found.position;
            graph = replace(graph, op, found);
        }
    }
    graph
}

/// The unfused graph of `op` at these input types: inputs are named `0`, `1`, ... in order.
pub(crate) fn unfused(fusion: Fusion, types: &[TensorType], params: &Params) -> Option<Graph> {
    Graph::trace(|g| {
        let inputs: Vec<_> =
            types.iter().enumerate().map(|(i, t)| g.input(&i.to_string(), t.dtype, t.shape.clone())).collect();
        for (i, out) in (fusion.unfused)(&inputs, params).iter().enumerate() {
            g.output(&i.to_string(), out);
        }
    })
    .ok()
}

fn example(op: &OpDef, fusion: Fusion) -> Option<Graph> {
    let case = (op.cases)().into_iter().next()?;
    let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
    unfused(fusion, &types, &case.params)
}

struct Match {
    params: Params,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    removed: Vec<NodeId>,
    /// The fused node goes before the node of this index.
    position: NodeId,
}

/// The match whose last node is `last`, if there is one.
fn find(graph: &Graph, op: &'static OpDef, fusion: Fusion, pattern: &Graph, last: NodeId) -> Option<Match> {
    let mut bound = Bound { nodes: BTreeMap::new(), inputs: BTreeMap::new() };
    if !bound.node(graph, pattern, pattern.nodes.len().checked_sub(1)?, last) {
        return None;
    }
    if bound.nodes.len() != pattern.nodes.len() {
        return None;
    }
    // In the order of the pattern's nodes: what `Fusion::params` is promised.
    let removed: Vec<NodeId> = bound.nodes.values().copied().collect();
    let params = (fusion.params)(&removed.iter().map(|&n| &graph.nodes[n].params).collect::<Vec<_>>());
    let inputs: Vec<ValueId> = bound.inputs.values().copied().collect();
    let types = graph.types(&inputs);
    let actual = unfused(fusion, &types, &params)?;
    let same = |(a, &n): (&Node, &NodeId)| {
        let b = &graph.nodes[n];
        a.op == b.op && a.params == b.params && actual.types(&a.outputs) == graph.types(&b.outputs)
    };
    if actual.nodes.len() != removed.len() || !actual.nodes.iter().zip(&removed).all(same) {
        return None;
    }
    let outputs: Vec<ValueId> =
        actual.outputs.iter().map(|(_, id)| bound.value(graph, &actual, &removed, *id)).collect::<Option<_>>()?;
    if (op.infer)(&params, &types).ok()? != graph.types(&outputs) {
        return None;
    }
    let position = position(graph, &removed, &inputs, &outputs)?;
    Some(Match { params, inputs, outputs, removed, position })
}

struct Bound {
    /// Pattern node to graph node.
    nodes: BTreeMap<NodeId, NodeId>,
    /// Pattern input number to graph value.
    inputs: BTreeMap<usize, ValueId>,
}

impl Bound {
    fn node(&mut self, graph: &Graph, pattern: &Graph, pattern_node: NodeId, node: NodeId) -> bool {
        if let Some(&before) = self.nodes.get(&pattern_node) {
            return before == node;
        }
        let (p, n) = (&pattern.nodes[pattern_node], &graph.nodes[node]);
        if p.op != n.op || p.inputs.len() != n.inputs.len() {
            return false;
        }
        self.nodes.insert(pattern_node, node);
        p.inputs.iter().zip(&n.inputs).all(|(&pv, &gv)| match (&pattern.values[pv].source, &graph.values[gv].source) {
            (Source::Input { name }, _) => {
                let number = name.parse().expect("a pattern's inputs are numbered");
                *self.inputs.entry(number).or_insert(gv) == gv
            }
            (Source::Node { node: a, output: i }, Source::Node { node: b, output: j }) => {
                i == j && self.node(graph, pattern, *a, *b)
            }
            _ => false,
        })
    }

    /// The graph's value of a value of the retraced pattern.
    fn value(&self, graph: &Graph, actual: &Graph, removed: &[NodeId], id: ValueId) -> Option<ValueId> {
        match actual.values[id].source {
            Source::Node { node, output } => Some(graph.nodes[removed[node]].outputs[output]),
            _ => None,
        }
    }
}

/// Where the fused node can stand: after what makes its inputs and before what reads its outputs. `None` if there is no
/// such place, or if a value that would vanish has another reader.
fn position(graph: &Graph, removed: &[NodeId], inputs: &[ValueId], outputs: &[ValueId]) -> Option<NodeId> {
    let made_at = |id: ValueId| match graph.values[graph.root(id).0].source {
        Source::Node { node, .. } => node + 1,
        _ => 0,
    };
    let earliest = inputs.iter().map(|&id| made_at(id)).max().unwrap_or(0);
    let mut latest = *removed.iter().max()?;
    let made: Vec<ValueId> = removed.iter().flat_map(|&n| graph.nodes[n].outputs.iter().copied()).collect();
    let vanishes = |id: ValueId| made.contains(&id) && !outputs.contains(&id);
    for (n, node) in graph.nodes.iter().enumerate().filter(|(n, _)| !removed.contains(n)) {
        for &id in &node.inputs {
            let root = graph.root(id).0;
            if vanishes(root) {
                return None;
            }
            if made.contains(&root) {
                latest = latest.min(n);
            }
        }
    }
    let named = graph.outputs.iter().map(|(_, id)| *id).chain(graph.assignments.iter().map(|(_, v)| *v));
    let packed = graph.values.iter().flat_map(|v| match &v.source {
        Source::Pack { parts, .. } => parts.iter().map(|(id, _)| *id).collect(),
        _ => Vec::new(),
    });
    if named.chain(packed).any(|id| vanishes(graph.root(id).0)) {
        return None;
    }
    (earliest <= latest).then_some(latest)
}

fn replace(mut graph: Graph, op: &'static OpDef, found: Match) -> Graph {
    let location = graph.nodes[*found.removed.last().expect("a match has nodes")].location;
    for &n in &found.removed {
        for &id in &graph.nodes[n].outputs {
            graph.values[id].source = Source::Removed;
        }
    }
    let fused = Node { op, params: found.params, inputs: found.inputs, outputs: found.outputs, location };
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for (n, node) in graph.nodes.into_iter().enumerate() {
        if n == found.position {
            nodes.push(fused.clone());
        }
        if !found.removed.contains(&n) {
            nodes.push(node);
        }
    }
    for (n, node) in nodes.iter().enumerate() {
        for (output, &id) in node.outputs.iter().enumerate() {
            graph.values[id].source = Source::Node { node: n, output };
        }
    }
    Graph { nodes, ..graph }
}
