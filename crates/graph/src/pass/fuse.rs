//! Fuse: replaces groups of nodes by the fused op whose unfused graph they are.

use crate::op::{Fusion, Meaning, OpDef, Params, TensorType};
use crate::trace::{Graph, Node, NodeId, Source, ValueId};
use std::collections::BTreeMap;

/// The graph with every match of a fused op's pattern replaced; earlier ops of the list match first.
pub fn fuse(graph: Graph, ops: &[&'static OpDef]) -> Graph {
    let mut list = List::new(graph);
    for &op in ops {
        let Meaning::Unfused(fusion) = op.meaning else { continue };
        let Some(pattern) = example(op, fusion) else { continue };
        let mut next = list.first;
        while let Some(node) = next {
            next = match find(&list, op, fusion, &pattern, node) {
                Some(found) => list.replace(op, found),
                None => list.next[node],
            };
        }
    }
    list.graph()
}

/// A graph whose nodes are a linked list, so that a replacement costs what it replaces and not the whole graph. Nodes keep
/// their number; a new one is the last, wherever it stands in the list.
struct List {
    graph: Graph,
    first: Option<NodeId>,
    next: Vec<Option<NodeId>>,
    before: Vec<Option<NodeId>>,
    /// Grows along the list.
    rank: Vec<u64>,
    alive: Vec<bool>,
    /// The nodes that read a root value, or a view of it; some may be gone.
    readers: Vec<Vec<NodeId>>,
    /// Root values that an output, a state or a pack names.
    held: Vec<bool>,
}

/// Between the ranks of neighbours at first.
const RANKS_BETWEEN: u64 = 1 << 32;

impl List {
    fn new(graph: Graph) -> List {
        let count = graph.nodes.len();
        let mut readers = vec![Vec::new(); graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&id| readers[graph.root(id).0].push(n));
        }
        let mut held = vec![false; graph.values.len()];
        let named = graph.outputs.iter().map(|(_, id)| *id).chain(graph.assignments.iter().map(|(_, v)| *v));
        let packed = graph.values.iter().flat_map(|v| match &v.source {
            Source::Pack { parts, .. } => parts.iter().map(|(id, _)| *id).collect(),
            _ => Vec::new(),
        });
        named.chain(packed).for_each(|id| held[graph.root(id).0] = true);
        List {
            first: (count > 0).then_some(0),
            next: (0..count).map(|n| (n + 1 < count).then_some(n + 1)).collect(),
            before: (0..count).map(|n| n.checked_sub(1)).collect(),
            rank: (1..=count as u64).map(|n| n * RANKS_BETWEEN).collect(),
            alive: vec![true; count],
            readers,
            held,
            graph,
        }
    }

    /// The node that makes a value, or the value that it is a view of.
    fn maker(&self, id: ValueId) -> Option<NodeId> {
        match self.graph.values[self.graph.root(id).0].source {
            Source::Node { node, .. } => Some(node),
            _ => None,
        }
    }

    /// The node before which the fused one can stand: after what makes its inputs and before what reads its outputs. `None`
    /// if there is no such place, or if a value that would vanish has another reader.
    fn position(&self, removed: &[NodeId], inputs: &[ValueId], outputs: &[ValueId]) -> Option<NodeId> {
        let mut latest = removed.iter().copied().max_by_key(|&n| self.rank[n])?;
        for &id in removed.iter().flat_map(|&n| &self.graph.nodes[n].outputs) {
            let vanishes = !outputs.contains(&id);
            if vanishes && self.held[id] {
                return None;
            }
            for &reader in self.readers[id].iter().filter(|&&n| self.alive[n] && !removed.contains(&n)) {
                if vanishes {
                    return None;
                }
                latest = if self.rank[reader] < self.rank[latest] { reader } else { latest };
            }
        }
        let is_before = |maker: NodeId| self.rank[maker] < self.rank[latest];
        inputs.iter().all(|&id| self.maker(id).is_none_or(is_before)).then_some(latest)
    }

    /// Puts the fused node in, takes the nodes out that it stands for, and answers where to look on.
    fn replace(&mut self, op: &'static OpDef, found: Match) -> Option<NodeId> {
        let location = self.graph.nodes[*found.removed.last().expect("a match has nodes")].location;
        for &id in found.removed.iter().flat_map(|&n| &self.graph.nodes[n].outputs) {
            self.graph.values[id].source = Source::Removed;
        }
        let fused = self.graph.nodes.len();
        for (output, &id) in found.outputs.iter().enumerate() {
            self.graph.values[id].source = Source::Node { node: fused, output };
        }
        found.inputs.iter().for_each(|&id| self.readers[self.graph.root(id).0].push(fused));
        self.graph.nodes.push(Node {
            op,
            params: found.params,
            inputs: found.inputs,
            outputs: found.outputs,
            location,
        });
        let earlier = found.removed.iter().filter(|&&n| self.rank[n] < self.rank[found.position]).count();
        self.insert(fused, found.position);
        found.removed.iter().for_each(|&n| self.take_out(n));
        // As many nodes on as were taken out before it: the search goes on at the same count of nodes.
        (0..earlier).try_fold(fused, |node, _| self.next[node])
    }

    fn insert(&mut self, node: NodeId, at: NodeId) {
        let before = self.before[at];
        self.next.push(Some(at));
        self.before.push(before);
        self.alive.push(true);
        match before {
            Some(before) => self.next[before] = Some(node),
            None => self.first = Some(node),
        }
        self.before[at] = Some(node);
        let low = before.map_or(0, |before| self.rank[before]);
        self.rank.push(low + (self.rank[at] - low) / 2);
        if self.rank[node] == low {
            self.rank_anew();
        }
    }

    fn rank_anew(&mut self) {
        let (mut next, mut rank) = (self.first, 0);
        while let Some(node) = next {
            rank += RANKS_BETWEEN;
            self.rank[node] = rank;
            next = self.next[node];
        }
    }

    fn take_out(&mut self, node: NodeId) {
        let (before, next) = (self.before[node], self.next[node]);
        match before {
            Some(before) => self.next[before] = next,
            None => self.first = next,
        }
        if let Some(next) = next {
            self.before[next] = before;
        }
        self.alive[node] = false;
    }

    /// The graph, its nodes in the list's order.
    fn graph(self) -> Graph {
        let List { mut graph, first, next, .. } = self;
        let mut old: Vec<Option<Node>> = graph.nodes.into_iter().map(Some).collect();
        let mut nodes = Vec::new();
        let mut at = first;
        while let Some(n) = at {
            nodes.extend(old[n].take());
            at = next[n];
        }
        for (n, node) in nodes.iter().enumerate() {
            for (output, &id) in node.outputs.iter().enumerate() {
                graph.values[id].source = Source::Node { node: n, output };
            }
        }
        Graph { nodes, ..graph }
    }
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
fn find(list: &List, op: &'static OpDef, fusion: Fusion, pattern: &Graph, last: NodeId) -> Option<Match> {
    let graph = &list.graph;
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
    let position = list.position(&removed, &inputs, &outputs)?;
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
