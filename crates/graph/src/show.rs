//! Graphs and plans as text, for people.

use crate::plan::{BufferKind, Plan};
use crate::trace::{Graph, Source, ValueId};
use std::fmt::{self, Write};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, region) in self.regions.iter().enumerate() {
            writeln!(f, "region {i} `{}`: {} entries, {} bytes", region.name, region.entries.len(), region.bytes)?;
        }
        for node in &self.nodes {
            let outputs: Vec<_> = node.outputs.iter().map(|&id| format!("%{id}: {}", self.values[id].ty)).collect();
            let inputs: Vec<_> = node.inputs.iter().map(|&id| self.value_name(id)).collect();
            writeln!(f, "{} = {}({}) {}", outputs.join(", "), node.op.name, inputs.join(", "), node.params)?;
        }
        for (name, id) in &self.outputs {
            writeln!(f, "output `{name}` = {}", self.value_name(*id))?;
        }
        for (state, value) in &self.assignments {
            writeln!(f, "{} := {}", self.value_name(*state), self.value_name(*value))?;
        }
        Ok(())
    }
}

impl Graph {
    /// A value as people name it: its own name, or its number.
    pub fn value_name(&self, id: ValueId) -> String {
        match &self.values[id].source {
            Source::Input { name } | Source::Region { name, .. } => name.clone(),
            Source::View { of, offset: 0 } => format!("{} as {}", self.value_name(*of), self.values[id].ty.shape),
            Source::View { of, offset } => format!("{} from byte {offset}", self.value_name(*of)),
            Source::Pack { region, .. } => format!("packed `{}`", self.regions[*region].name),
            Source::Node { .. } | Source::Removed => format!("%{id}"),
        }
    }
}

impl Plan {
    /// The plan as a table: a line a launch, then the buffers and the totals.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:>4} {:>5}  {:<28} {:<10} {:<24} {:>12} {:>12} {:>9}",
            "#", "level", "op", "variant", "writes", "bytes", "flops", "us"
        );
        let mut before = usize::MAX;
        for (i, launch) in self.launches.iter().enumerate() {
            let node = &self.nodes[launch.node];
            let written = launch.places.iter().find(|(_, a)| *a == crate::plan::Access::Write);
            let written =
                written.map_or(String::new(), |(p, _)| format!("{}+{}", self.buffers[p.buffer].name, p.offset));
            let (bytes, flops, us) = if before == launch.node {
                (String::new(), String::new(), String::new())
            } else {
                let us = self.expected_seconds(node) * 1e6;
                (format!("{:.0}", node.cost.bytes), format!("{:.0}", node.cost.flops), format!("{us:.2}"))
            };
            before = launch.node;
            let name = if node.op == launch.launch.name() {
                node.op.clone()
            } else {
                format!("{}: {}", node.op, launch.launch.name())
            };
            let _ = writeln!(
                out,
                "{i:>4} {:>5}  {name:<28} {:<10} {written:<24} {bytes:>12} {flops:>12} {us:>9}",
                launch.level, node.variant
            );
        }
        for buffer in &self.buffers {
            let _ = writeln!(out, "{:<12} {:>14} bytes", buffer.name, buffer.bytes);
        }
        let cost = self.cost();
        let seconds: f64 = self.nodes.iter().map(|n| self.expected_seconds(n)).sum();
        let _ = writeln!(
            out,
            "{} launches in {} levels; {:.3e} bytes, {:.3e} flops; at the limits of {}: {:.1} us op by op, {:.1} us at the least",
            self.launches.len(),
            self.levels(),
            cost.bytes,
            cost.flops,
            self.spec.name,
            seconds * 1e6,
            self.limit_seconds(&self.spec.limits) * 1e6
        );
        out
    }

    /// Bytes of all regions, the arena and the step's own buffers.
    pub fn total_bytes(&self) -> u64 {
        self.buffers.iter().map(|b| b.bytes).sum()
    }

    /// Bytes of the regions.
    pub fn region_bytes(&self) -> u64 {
        self.buffers.iter().filter(|b| b.kind == BufferKind::Region).map(|b| b.bytes).sum()
    }
}
