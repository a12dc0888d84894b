//! Prune: drops the nodes and values that no output, assignment or region needs.

use crate::trace::{Graph, Source, Value, ValueId};

/// The graph without nodes whose outputs nothing reads, and without values that nothing names.
pub fn prune(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.values.len()];
    let mut open: Vec<ValueId> = graph.outputs.iter().map(|(_, id)| *id).collect();
    open.extend(graph.assignments.iter().flat_map(|(state, value)| [*state, *value]));
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut needed[id], true) {
            continue;
        }
        match &graph.values[id].source {
            Source::Node { node, .. } => {
                open.extend(&graph.nodes[*node].inputs);
                open.extend(&graph.nodes[*node].outputs);
            }
            Source::View { of, .. } => open.push(*of),
            Source::Pack { parts, .. } => open.extend(parts.iter().map(|(v, _)| *v)),
            _ => {}
        }
    }
    // What the host writes stays, so that callers need not know what a graph makes of it.
    for (id, value) in graph.values.iter().enumerate() {
        needed[id] |= matches!(value.source, Source::Input { .. });
    }
    rebuild(graph, &needed)
}

fn rebuild(graph: Graph, needed: &[bool]) -> Graph {
    let mut new_id = vec![usize::MAX; graph.values.len()];
    for (next, id) in (0..graph.values.len()).filter(|&id| needed[id]).enumerate() {
        new_id[id] = next;
    }
    let renumber = |ids: &[ValueId]| ids.iter().map(|&id| new_id[id]).collect::<Vec<_>>();
    let mut values: Vec<Value> = graph.values.iter().zip(needed).filter(|(_, n)| **n).map(|(v, _)| v.clone()).collect();
    let mut nodes = Vec::new();
    for mut node in graph.nodes {
        if node.outputs.iter().all(|&id| !needed[id]) {
            continue;
        }
        node.inputs = renumber(&node.inputs);
        node.outputs = renumber(&node.outputs);
        for (output, &id) in node.outputs.iter().enumerate() {
            values[id].source = Source::Node { node: nodes.len(), output };
        }
        nodes.push(node);
    }
    for value in &mut values {
        match &mut value.source {
            Source::View { of, .. } => *of = new_id[*of],
            Source::Pack { parts, .. } => parts.iter_mut().for_each(|(v, _)| *v = new_id[*v]),
            _ => {}
        }
    }
    let outputs = graph.outputs.into_iter().map(|(name, id)| (name, new_id[id])).collect();
    let assignments = graph.assignments.into_iter().map(|(s, v)| (new_id[s], new_id[v])).collect();
    Graph { values, nodes, regions: graph.regions, outputs, assignments }
}
