//! Random graphs, fused and planned: what the CPU replays is what the interpreter says, in any order that the plan allows.

use device::{Buffer, Choice, Device, Options};
use graph::{Graph, Tensor, Tracer, Tuning, interpret, pass, plan};
use ops::{elementwise, reduce};
use std::collections::BTreeMap;
use tensor::DType;
use tensor::rng::Philox;

const ROWS: usize = 6;
const COLUMNS: usize = 40;

/// A graph of `nodes` random ops over matrices and rows, with states written in place, a pack, and views.
fn random_graph(seed: u64, nodes: u64) -> Graph {
    let random = Philox::new(seed, "graph");
    let pick = |i: u64, bound: usize| random.below(i, bound as u32) as usize;
    Graph::trace(|g: &Tracer| {
        let mut matrices: Vec<Tensor> = vec![
            g.input("x", DType::F32, [ROWS, COLUMNS]),
            g.parameter("w", DType::F32, [ROWS, COLUMNS]),
            g.parameter("v", DType::F32, [ROWS, COLUMNS]),
        ];
        let states: Vec<Tensor> = matrices[1..].to_vec();
        let mut rows = vec![g.parameter("b", DType::F32, [COLUMNS])];
        for n in 0..nodes {
            let a = matrices[pick(8 * n, matrices.len())].clone();
            let other = matrices[pick(8 * n + 1, matrices.len())].clone();
            let row = rows[pick(8 * n + 2, rows.len())].clone();
            match pick(8 * n + 3, 9) {
                0 => matrices.push(elementwise::add(&a, &other)),
                1 => matrices.push(elementwise::mul(&a, &elementwise::scale(&other, 0.3))),
                2 => matrices.push(elementwise::sub(&a, &row)),
                3 => matrices.push(elementwise::add(&elementwise::gelu(&a), &row)),
                4 => rows.push(elementwise::scale(&reduce::sum_rows(&a), 0.2)),
                5 => matrices.push(elementwise::scale(&a.reshape([COLUMNS, ROWS]), 0.7).reshape([ROWS, COLUMNS])),
                6 => rows.push(elementwise::gelu(&a.rows(1, 2).reshape([COLUMNS]))),
                7 => matrices.push(elementwise::gelu(&elementwise::add(&a, &row))),
                _ => matrices.push(elementwise::scale(&a, -0.5)),
            }
        }
        for (i, state) in states.iter().enumerate() {
            let near = matrices[matrices.len() - 1 - i].clone();
            g.assign(state, &elementwise::add(state, &elementwise::scale(&near, 0.01)));
        }
        let part = elementwise::scale(&matrices[matrices.len() / 2], 2.0);
        let packed = g.pack("packed", &[(part.clone(), 0), (matrices[0].clone(), 1024)], 2048);
        g.output("packed sum", &reduce::sum_to(&packed, &[1].into()));
        g.output("matrix", matrices.last().expect("there are matrices"));
        g.output("row", rows.last().expect("there are rows"));
        g.output("view", &matrices[pick(3, matrices.len())].rows(2, 4));
    })
    .expect("a random graph is a right one")
}

struct Run {
    outputs: Vec<Vec<f32>>,
    parameters: Vec<f32>,
}

fn run(device: &Device, graph: &Graph, steps: usize) -> Run {
    let plan = plan::plan(graph, device.spec(), &Tuning::default()).expect("it can be planned");
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan, &mut lent).expect("there is memory");
    let parameters = &lent.iter().find(|(n, _)| n == "parameters").expect("there are parameters").1.clone();
    for entry in plan.entries.iter() {
        parameters.write(entry.place.offset, bytemuck::cast_slice(&data(&entry.name, entry.ty.elements()))).unwrap();
    }
    let buffers: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut recording = device.record(plan, &buffers).expect("it can be recorded");
    let x = recording.input("x").expect("x is an input");
    let mut last = None;
    for _ in 0..steps {
        recording.write(x, bytemuck::cast_slice(&data("x", ROWS * COLUMNS))).unwrap();
        last = Some(recording.replay().unwrap());
    }
    let outputs = (0..recording.plan().outputs.len())
        .map(|o| {
            let mut out = vec![0.0f32; recording.plan().outputs[o].ty.elements()];
            recording.read(o, last.unwrap(), bytemuck::cast_slice_mut(&mut out)).unwrap();
            out
        })
        .collect();
    let mut bytes = vec![0.0f32; parameters.bytes() as usize / 4];
    parameters.read(0, bytemuck::cast_slice_mut(&mut bytes)).unwrap();
    Run { outputs, parameters: bytes }
}

fn data(name: &str, elements: usize) -> Vec<f32> {
    let mut out = vec![0.0; elements];
    Philox::new(5, name).fill_normal(&mut out, 0.0, 0.5);
    out
}

fn cpu(options: Options) -> Device {
    Device::open(Choice::Cpu, &options).expect("the processor is there")
}

fn close(got: &[f32], want: &[f64], what: &str) {
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= 2e-4 * (1.0 + w.abs()), "{what}[{i}]: {g} instead of {w}");
    }
}

#[test]
fn replays_equal_the_interpreter_and_each_other_in_any_order() {
    let plain = cpu(Options { threads: Some(1), ..Options::default() });
    let hostile = cpu(Options { threads: Some(1), adversarial: true, ..Options::default() });
    for seed in 0..40 {
        let graph = random_graph(seed, 30);
        let given: BTreeMap<String, Vec<f64>> =
            [("x", ROWS * COLUMNS), ("w", ROWS * COLUMNS), ("v", ROWS * COLUMNS), ("b", COLUMNS)]
                .map(|(n, e)| (n.to_string(), data(n, e).into_iter().map(f64::from).collect()))
                .into();
        let want = interpret::interpret(&graph, &given);
        let fused = pass::prune(pass::fuse(graph.clone(), ops::OPS));
        assert!(fused.nodes.len() < graph.nodes.len(), "seed {seed}: nothing was fused or pruned");
        for graph in [&graph, &fused] {
            let once = run(&plain, graph, 1);
            for ((name, _), out) in graph.outputs.iter().zip(&once.outputs) {
                close(out, &want.outputs[name], &format!("seed {seed}: {name}"));
            }
            for (i, name) in ["w", "v"].iter().enumerate() {
                close(&once.parameters[i * 256..], &want.entries[*name], &format!("seed {seed}: state {name}"));
            }
            let (a, b) = (run(&plain, graph, 3), run(&hostile, graph, 3));
            let bits =
                |r: &Run| r.outputs.concat().iter().chain(&r.parameters).map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&a) == bits(&b), "seed {seed}: another order and poisoned dead bytes give other bits");
        }
    }
}
