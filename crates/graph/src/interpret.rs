//! The plain meaning of a graph: references run in f64, one node after the other.

use crate::op::{Call, Meaning, OpDef, TensorType};
use crate::pass;
use crate::trace::{Graph, Source, ValueId};
use std::collections::BTreeMap;

/// What a step leaves behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interpreted {
    /// The outputs by name.
    pub outputs: BTreeMap<String, Vec<f64>>,
    /// The regions' entries by name, after the step.
    pub entries: BTreeMap<String, Vec<f64>>,
}

/// Runs a graph in f64. `given` holds inputs and regions' entries by name; an entry not given is zeros. What is stored
/// with fewer bits isn't rounded: a device's values of such a type are this far from these, and what follows from them.
///
/// # Panics
/// When an input is missing, a size is wrong, or a region holds elements of neither 2 nor 4 bytes: broken callers.
pub fn interpret(graph: &Graph, given: &BTreeMap<String, Vec<f64>>) -> Interpreted {
    let mut regions: Vec<Vec<f64>> = graph.regions.iter().map(|r| vec![0.0; slots(r.bytes)]).collect();
    for (region, memory) in graph.regions.iter().zip(&mut regions) {
        for entry in &region.entries {
            if let Some(data) = given.get(&entry.name) {
                assert_eq!(data.len(), entry.ty.elements(), "`{}`: the size of what is given", entry.name);
                store(memory, entry.offset, &entry.ty, data);
            }
        }
    }
    let mut run = Run { graph, given, regions, values: vec![None; graph.values.len()] };
    for node in &graph.nodes {
        let inputs: Vec<Vec<f64>> = node.inputs.iter().map(|&id| run.value(id)).collect();
        let (input_types, output_types) = (graph.types(&node.inputs), graph.types(&node.outputs));
        let call = Call { params: &node.params, inputs: &input_types, outputs: &output_types };
        let slices: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
        for (&id, out) in node.outputs.iter().zip(reference(node.op, &call, &slices)) {
            assert_eq!(out.len(), graph.values[id].ty.elements(), "{}: the reference's output size", node.op.name);
            run.values[id] = Some(out);
        }
    }
    run.finish()
}

/// What an op computes, in f64: its loops, or its unfused graph interpreted.
pub fn reference(op: &OpDef, call: &Call, inputs: &[&[f64]]) -> Vec<Vec<f64>> {
    match op.meaning {
        Meaning::Loops(f) => f(call, inputs),
        Meaning::Unfused(fusion) => {
            let graph =
                pass::unfused(fusion, call.inputs, call.params).expect("a fused op's unfused graph can be traced");
            let given = inputs.iter().enumerate().map(|(i, v)| (i.to_string(), v.to_vec())).collect();
            let mut done = interpret(&graph, &given);
            (0..graph.outputs.len()).map(|i| done.outputs.remove(&i.to_string()).expect("numbered outputs")).collect()
        }
    }
}

struct Run<'a> {
    graph: &'a Graph,
    given: &'a BTreeMap<String, Vec<f64>>,
    regions: Vec<Vec<f64>>,
    values: Vec<Option<Vec<f64>>>,
}

impl Run<'_> {
    fn value(&self, id: ValueId) -> Vec<f64> {
        let value = &self.graph.values[id];
        let elements = value.ty.elements();
        match &value.source {
            Source::Input { name } => {
                let data = self.given.get(name).unwrap_or_else(|| panic!("input `{name}` is not given"));
                assert_eq!(data.len(), elements, "input `{name}`");
                data.clone()
            }
            Source::Region { region, offset, .. } => load(&self.regions[*region], *offset, &value.ty),
            Source::Node { .. } => self.values[id].clone().expect("a value is made before it is read"),
            Source::View { of, offset } => {
                let skip = *offset as usize / value.ty.dtype.block_bytes();
                self.value(*of)[skip..][..elements].to_vec()
            }
            Source::Pack { region, parts } => {
                let mut memory = self.regions[*region].clone();
                memory.resize(slots(value.ty.bytes()), 0.0);
                for &(part, offset) in parts {
                    store(&mut memory, offset, &self.graph.values[part].ty, &self.value(part));
                }
                load(&memory, 0, &value.ty)
            }
            Source::Removed => panic!("a removed value is read"),
        }
    }

    fn finish(mut self) -> Interpreted {
        let outputs = self.graph.outputs.iter().map(|(name, id)| (name.clone(), self.value(*id))).collect();
        let packs: Vec<_> = (0..self.graph.values.len())
            .filter_map(|id| match self.graph.values[id].source {
                Source::Pack { region, .. } => Some((region, id, self.value(id))),
                _ => None,
            })
            .collect();
        let assigned: Vec<_> =
            self.graph.assignments.iter().map(|(state, value)| (*state, self.value(*value))).collect();
        for (region, id, data) in packs {
            store(&mut self.regions[region], 0, &self.graph.values[id].ty, &data);
        }
        for (state, data) in assigned {
            let Source::Region { region, offset, .. } = self.graph.values[state].source else {
                panic!("only a region's values are assigned");
            };
            store(&mut self.regions[region], offset, &self.graph.values[state].ty, &data);
        }
        let mut entries = BTreeMap::new();
        for (region, memory) in self.graph.regions.iter().zip(&self.regions) {
            for entry in &region.entries {
                entries.insert(entry.name.clone(), load(memory, entry.offset, &entry.ty));
            }
        }
        Interpreted { outputs, entries }
    }
}

/// A region's memory has a number for every two bytes; an element of four bytes is in the first of its two.
fn slots(bytes: u64) -> usize {
    bytes.div_ceil(2) as usize
}

fn stride(ty: &TensorType) -> usize {
    match ty.dtype.block_bytes() {
        2 => 1,
        4 => 2,
        bytes => panic!("{ty}: regions are interpreted as elements of 2 or 4 bytes, not {bytes}"),
    }
}

fn load(memory: &[f64], offset: u64, ty: &TensorType) -> Vec<f64> {
    memory[slots(offset)..].iter().step_by(stride(ty)).take(ty.elements()).copied().collect()
}

fn store(memory: &mut [f64], offset: u64, ty: &TensorType, data: &[f64]) {
    memory[slots(offset)..].iter_mut().step_by(stride(ty)).zip(data).for_each(|(slot, x)| *slot = *x);
}
