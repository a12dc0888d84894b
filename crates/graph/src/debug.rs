//! What the debug dial shows of a graph and its plan: time and share of the limit per op, the memory map, every launch,
//! and every tensor of one step beside the reference in f64.

use crate::interpret::Interpreted;
use crate::launch::{Launch, Operand};
use crate::op::Cost;
use crate::op::is_narrow;
use crate::plan::{Access, BufferKind, Place, Plan, PlannedLaunch, PlannedNode};
use crate::spec::Limits;
use crate::trace::{Entry, Graph, REGION_ALIGNMENT, Region, Source, Value, ValueId};
use std::collections::BTreeMap;
use std::fmt::Write;
use tensor::DType;

/// The region that `capture` adds.
pub const CAPTURED: &str = "captured";

/// The machine as the plan knows it, how large the plan is, and what memory it needs.
pub fn overview(plan: &Plan) -> String {
    let (spec, cost) = (&plan.spec, plan.cost());
    let Limits { bytes_per_second, f32_flops, launch_seconds } = spec.limits;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "device  {} {}, {}: {} units, subgroups of {}, groups of {} at most, {} shared bytes, features {:?}",
        spec.kind,
        spec.name,
        spec.architecture,
        spec.units,
        spec.subgroup_size,
        spec.max_threads,
        spec.shared_bytes,
        spec.features
    );
    let _ = writeln!(
        out,
        "limits  {:.1} GB/s, {:.0} GFLOP/s, {:.2} us a launch; {} bytes of memory, {} in one allocation",
        bytes_per_second / 1e9,
        f32_flops / 1e9,
        launch_seconds * 1e6,
        spec.memory_bytes,
        spec.largest_allocation
    );
    let seconds: f64 = plan.nodes.iter().map(|n| plan.expected_seconds(n)).sum();
    let _ = writeln!(
        out,
        "plan    {} ops, {} launches, {} levels; {:.4e} bytes moved, {:.4e} operations; {:.1} us at the limits",
        plan.nodes.len(),
        plan.launches.len(),
        plan.levels(),
        cost.bytes,
        cost.flops,
        1e6 * seconds
    );
    let buffers: Vec<_> = plan.buffers.iter().map(|b| format!("{} {}", b.name, b.bytes)).collect();
    let _ = writeln!(out, "memory  {} bytes: {}", plan.total_bytes(), buffers.join(", "));
    out
}

/// Time, speed and share of the limit of each op and shape, the slowest first: medians over `replays`, each the seconds
/// of every launch.
pub fn op_table(plan: &Plan, replays: &[Vec<f64>], limits: &Limits) -> String {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        let group = groups.entry(name(node)).or_insert_with(|| Group::new(replays.len()));
        group.uses += 1;
        group.cost.bytes += node.cost.bytes;
        group.cost.flops += node.cost.flops;
        group.limit += limits.seconds(&node.cost);
        for (sum, seconds) in group.seconds.iter_mut().zip(replays) {
            let own = plan.launches.iter().zip(seconds).filter(|(launch, _)| launch.node == index);
            *sum += own.map(|(_, seconds)| seconds).sum::<f64>();
        }
    }
    let mut rows: Vec<_> = groups.into_iter().map(|(name, group)| (name, median(&group.seconds), group)).collect();
    rows.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = rows.iter().map(|row| row.1).sum();
    let mut out = format!(
        "{:>10} {:>6} {:>5} {:>9} {:>10} {:>8} {:7}  op\n",
        "us a step", "share", "uses", "GB/s", "GFLOP/s", "of limit", "limit"
    );
    for (name, seconds, group) in &rows {
        let compute = group.cost.flops / limits.f32_flops > group.cost.bytes / limits.bytes_per_second;
        let _ = writeln!(
            out,
            "{:10.2} {:5.1}% {:5} {:9.2} {:10.2} {:7.1}% {:7}  {name}",
            1e6 * seconds,
            100.0 * seconds / total,
            group.uses,
            group.cost.bytes / seconds / 1e9,
            group.cost.flops / seconds / 1e9,
            100.0 * group.limit / seconds,
            if compute { "compute" } else { "memory" },
        );
    }
    let limit: f64 = rows.iter().map(|row| row.2.limit).sum();
    let share = 100.0 * limit / total;
    let _ = writeln!(
        out,
        "{:10.2} in all, each launch alone (medians of {}); {share:.1}% of limit",
        1e6 * total,
        replays.len()
    );
    out
}

/// Uses of one op with the same types and lowering.
struct Group {
    uses: usize,
    cost: Cost,
    /// Seconds at the limits.
    limit: f64,
    /// Seconds of all uses, a number a replay.
    seconds: Vec<f64>,
}

impl Group {
    fn new(replays: usize) -> Group {
        Group { uses: 0, cost: Cost::default(), limit: 0.0, seconds: vec![0.0; replays] }
    }
}

/// Op, lowering, parameters and types.
fn name(node: &PlannedNode) -> String {
    let variant = if node.variant == "default" { String::new() } else { format!("[{}]", node.variant) };
    let types = node.inputs.iter().map(ToString::to_string);
    let words = [node.op.clone() + &variant, node.params.clone()].into_iter().chain(types);
    words.filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" ")
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = |i: usize| sorted.get(i).copied().unwrap_or(0.0) / 2.0;
    half(sorted.len() / 2) + half(sorted.len().saturating_sub(1) / 2)
}

/// Every buffer with what lies in it: the arena's tensors with the levels in which they live, the others' entries.
pub fn memory_map(plan: &Plan) -> String {
    let mut out = String::new();
    for (index, buffer) in plan.buffers.iter().enumerate() {
        let _ = writeln!(out, "{} ({:?}): {} bytes", buffer.name, buffer.kind, buffer.bytes);
        if buffer.kind == BufferKind::Arena {
            let mut lives = plan.lives.clone();
            lives.sort_by_key(|l| (l.place.offset, l.first));
            for life in lives {
                let _ = writeln!(out, "  {} levels {} to {}", range(&life.place), life.first, life.last);
            }
            let _ = writeln!(out, "  most at one level: {} bytes", most_alive(plan));
        }
        let named = [&plan.inputs, &plan.outputs, &plan.entries].into_iter().flatten();
        for binding in named.filter(|b| b.place.buffer == index) {
            let _ = writeln!(out, "  {} {} {}", range(&binding.place), binding.name, binding.ty);
        }
    }
    out
}

fn range(place: &Place) -> String {
    format!("{:>12} +{:<12}", place.offset, place.bytes)
}

/// The bytes that no arena could do with less than, with these levels.
fn most_alive(plan: &Plan) -> u64 {
    let alive = |level: usize| {
        let there = plan.lives.iter().filter(|l| l.first <= level && level <= l.last);
        there.map(|l| l.place.bytes).sum::<u64>()
    };
    (0..plan.levels()).map(alive).max().unwrap_or(0)
}

/// Every launch: what runs, how large, what it waits for, and where its operands are.
pub fn launches(plan: &Plan) -> String {
    let mut out = String::new();
    let mut before = usize::MAX;
    for (index, launch) in plan.launches.iter().enumerate() {
        let node = &plan.nodes[launch.node];
        if launch.node != before {
            let _ = writeln!(out, "{} at {}", name(node), node.location);
            before = launch.node;
        }
        let _ = writeln!(
            out,
            "  {index} level {} after {:?}: {} {}",
            launch.level,
            launch.after,
            launch.launch.name(),
            geometry(&launch.launch)
        );
        let _ = writeln!(out, "    {}", operands(plan, launch));
    }
    out
}

fn geometry(launch: &Launch) -> String {
    match launch {
        Launch::Kernel(k) => {
            let [x, y, z] = k.groups;
            let constants: Vec<_> = k.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let constants = constants.join(" ");
            format!(
                "{x}x{y}x{z} groups of {}, {} shared bytes, {constants} words {:?}",
                k.threads, k.shared_bytes, k.words
            )
        }
        Launch::Cpu(k) => format!("{} parts, words {:?}", k.parts, k.words),
        Launch::Gemm(g) => {
            let flip = |t: bool| if t { "^T" } else { "" };
            let (a, b) = (flip(g.transpose_a), flip(g.transpose_b));
            format!("{} of a{a} b{b}, {} x {} x {}, {:?}", g.batch, g.m, g.n, g.k, g.epilogue)
        }
        Launch::Copy { .. } => String::new(),
        Launch::Fill { word, .. } => format!("with {word:#x}"),
    }
}

fn operands(plan: &Plan, launch: &PlannedLaunch) -> String {
    let word = |(operand, (place, access)): (Operand, &(Place, Access))| {
        let what = match operand {
            Operand::Input(i) => format!("input {i}"),
            Operand::Output(i) => format!("output {i}"),
            Operand::Scratch(i) => format!("scratch {i}"),
        };
        let how = if *access == Access::Write { "writes" } else { "reads" };
        format!("{how} {what} {}+{}..{}", plan.buffers[place.buffer].name, place.offset, place.offset + place.bytes)
    };
    launch.launch.operands().into_iter().zip(&launch.places).map(word).collect::<Vec<_>>().join(", ")
}

/// A value that `capture` keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// Its entry in the region `captured`; the interpreter's result has the same name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Offset of its bytes in the region.
    pub offset: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// What made it, and where.
    pub made_by: String,
}

/// The same graph, which also leaves all that its nodes make in a region of its own. The values stay what they were;
/// where they lie may not.
pub fn capture(mut graph: Graph) -> (Graph, Vec<Captured>) {
    let region = graph.regions.len();
    let (mut entries, mut all, mut bytes) = (Vec::new(), Vec::new(), 0);
    for node in 0..graph.nodes.len() {
        for output in 0..graph.nodes[node].outputs.len() {
            let (id, made): (ValueId, _) = (graph.nodes[node].outputs[output], &graph.nodes[node]);
            let ty = graph.values[id].ty.clone();
            let inputs: Vec<_> = made.inputs.iter().map(|&i| graph.value_name(i)).collect();
            let made_by = format!("output {output} of {}({}) at {}", made.op.name, inputs.join(", "), made.location);
            let (name, size) = (format!("%{id}"), ty.bytes());
            all.push(Captured { name: name.clone(), dtype: ty.dtype, offset: bytes, bytes: size, made_by });
            let source = Source::Region { region, offset: bytes, name: name.clone() };
            graph.values.push(Value { ty: ty.clone(), source });
            graph.assignments.push((graph.values.len() - 1, id));
            entries.push(Entry { name, ty, offset: bytes });
            bytes = (bytes + size).next_multiple_of(REGION_ALIGNMENT);
        }
    }
    graph.regions.push(Region { name: CAPTURED.into(), entries, bytes });
    (graph, all)
}

/// A tensor is said to diverge where it is further from the reference than this, relative to the reference's
/// largest element: well above what f32 loses in a whole step.
const DIVERGED: f64 = 1e-3;
/// The same where some tensor has 16-bit elements.
const NARROW_DIVERGED: f64 = 0.1;

/// Every captured tensor's smallest and largest element, NaNs and error, then the first that diverges from the reference.
/// `region` holds the bytes of the region `captured` after a step on a device.
pub fn tensor_table(captured: &[Captured], region: &[u8], reference: &Interpreted) -> String {
    let mut out = format!("{:>6} {:>12} {:>12} {:>8} {:>9}  made by\n", "tensor", "min", "max", "NaNs", "error");
    let mut first = None;
    let narrow = captured.iter().any(|tensor| is_narrow(tensor.dtype));
    let most = if narrow { NARROW_DIVERGED } else { DIVERGED };
    for tensor in captured {
        let bytes = &region[tensor.offset as usize..][..tensor.bytes as usize];
        let numbers = tensor::number::decode(tensor.dtype, bytes);
        let wanted = reference.entries.get(&tensor.name).map_or(&[][..], Vec::as_slice);
        let (error, worst) = error(&numbers, wanted);
        let nans = numbers.iter().filter(|x| x.is_nan()).count();
        let (min, max) = numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
        let Captured { name, made_by, .. } = tensor;
        let _ = writeln!(out, "{name:>6} {min:12.4e} {max:12.4e} {nans:8} {error:9.1e}  {made_by}");
        if error > most && first.is_none() {
            let (got, want) = (numbers[worst], wanted.get(worst).copied().unwrap_or(f64::NAN));
            first = Some(format!("{name}[{worst}] is {got}, the reference is {want}: {made_by}"));
        }
    }
    let verdict = first.map_or_else(
        || format!("no tensor is further from the reference than {most:e}"),
        |what| format!("first divergence: {what}"),
    );
    out + &verdict + "\n"
}

/// The largest difference relative to the largest element that is wanted, and where; infinite where only one of
/// both is no number.
fn error(numbers: &[f64], wanted: &[f64]) -> (f64, usize) {
    let scale = wanted.iter().filter(|x| x.is_finite()).fold(0.0f64, |a, x| a.max(x.abs()));
    let mut worst = (0.0, 0);
    for (i, (got, want)) in numbers.iter().zip(wanted).enumerate() {
        if got == want || (got.is_nan() && want.is_nan()) {
            continue;
        }
        let distance = (got - want).abs() / scale.max(f64::MIN_POSITIVE);
        let distance = if distance.is_nan() { f64::INFINITY } else { distance };
        if distance > worst.0 {
            worst = (distance, i);
        }
    }
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(name: &str, offset: u64, elements: u64) -> Captured {
        Captured { name: name.into(), dtype: DType::F32, offset, bytes: 4 * elements, made_by: format!("op {name}") }
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn the_first_tensor_that_diverges_is_named() {
        let tensors = [captured("%1", 0, 2), captured("%2", 8, 2), captured("%3", 16, 2)];
        let entry = |name: &str, values: [f64; 2]| (name.to_string(), values.to_vec());
        let entries = BTreeMap::from([entry("%1", [1e-6, 2.0]), entry("%2", [3.0, 4.0]), entry("%3", [5.0, 6.0])]);
        let reference = Interpreted { entries, ..Interpreted::default() };
        let table = |values: [f32; 6]| tensor_table(&tensors, &bytes(&values), &reference);

        let right = table([0.0, 2.0, 3.0, 4.0, 5.0, 6.001]);
        assert!(right.ends_with("no tensor is further from the reference than 1e-3\n"), "{right}");
        let wrong = table([0.0, 2.0, 3.0, 4.1, f32::NAN, 6.0]);
        assert!(
            wrong.ends_with("first divergence: %2[1] is 4.099999904632568, the reference is 4: op %2\n"),
            "{wrong}"
        );
        let third: Vec<_> = wrong.lines().nth(3).unwrap().split_whitespace().take(5).collect();
        assert_eq!(third, ["%3", "6.0000e0", "6.0000e0", "1", "inf"]);
    }

    #[test]
    fn times_are_medians_of_replays() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }
}
