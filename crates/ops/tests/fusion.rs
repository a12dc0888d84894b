//! Fusion in the graph it is meant for: a pre-norm transformer's forward and backward, where fused ops work in place.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Buffer, Choice, Device, Error, Options};
use graph::{Graph, Tensor, Tuning, grad, interpret, pass, plan};
use ops::{GRAD, OPS, elementwise, embed, layer_norm, matmul, reduce};
use std::collections::BTreeMap;
use tensor::DType;
use tensor::rng::Philox;

const TOKENS: usize = 130;
const HIDDEN: usize = 40;
const INNER: usize = 12;
const VOCAB: usize = 11;
const LAYERS: usize = 3;

/// Two norms a layer and one at the end; each layer adds twice to the residual stream.
fn pre_norm() -> Graph {
    Graph::trace(|g| {
        let parameter = |name: &str, shape: &[usize]| g.parameter(name, DType::F32, shape);
        let (ids, positions) = (g.input("ids", DType::U32, [TOKENS]), g.input("positions", DType::U32, [TOKENS]));
        let mut parameters =
            vec![parameter("token table", &[VOCAB, HIDDEN]), parameter("position table", &[TOKENS, HIDDEN])];
        let mut x = elementwise::add(&embed::embed(&ids, &parameters[0]), &embed::embed(&positions, &parameters[1]));
        let norm = |x: &Tensor, name: String, all: &mut Vec<Tensor>| {
            let (weight, bias) =
                (parameter(&format!("{name}.w"), &[HIDDEN]), parameter(&format!("{name}.b"), &[HIDDEN]));
            all.extend([weight.clone(), bias.clone()]);
            layer_norm::layer_norm(x, &weight, &bias, 1e-5)
        };
        for layer in 0..LAYERS {
            let h = norm(&x, format!("{layer}.first"), &mut parameters);
            let mix = parameter(&format!("{layer}.mix"), &[HIDDEN, HIDDEN]);
            x = elementwise::add(&x, &matmul::linear(&h, &mix));
            let h = norm(&x, format!("{layer}.second"), &mut parameters);
            let (up, up_bias) =
                (parameter(&format!("{layer}.up"), &[INNER, HIDDEN]), parameter(&format!("{layer}.ub"), &[INNER]));
            let (down, down_bias) =
                (parameter(&format!("{layer}.down"), &[HIDDEN, INNER]), parameter(&format!("{layer}.db"), &[HIDDEN]));
            let h = elementwise::gelu(&elementwise::add(&matmul::linear(&h, &up), &up_bias));
            x = elementwise::add(&x, &elementwise::add(&matmul::linear(&h, &down), &down_bias));
            parameters.extend([mix, up, up_bias, down, down_bias]);
        }
        let y = norm(&x, "last".into(), &mut parameters);
        let loss = reduce::sum_all(&elementwise::gelu(&y));
        for (parameter, gradient) in parameters.iter().zip(grad::gradients(&loss, &parameters, &GRAD)) {
            g.output(
                &format!("gradient of %{}", parameter.id()),
                &gradient.expect("the loss depends on every parameter"),
            );
        }
        g.output("loss", &loss);
    })
    .expect("it can be traced")
}

#[test]
fn a_pre_norm_transformer_fuses() {
    let fused = pass::prune(pass::fuse(pre_norm(), OPS));
    let mut counts = BTreeMap::new();
    for node in &fused.nodes {
        *counts.entry(node.op.name).or_insert(0) += 1;
    }
    // Every norm follows a sum: of the embeddings, or of the stream and a sub-layer.
    assert_eq!(counts["residual_layer_norm"], 2 * LAYERS + 1, "{counts:?}\n{fused}");
    // The stream's own gradient reaches every norm but the last.
    assert_eq!(counts["layer_norm_backward_residual"], 2 * LAYERS, "{counts:?}\n{fused}");
    assert_eq!(counts["layer_norm_backward"], 1, "{counts:?}\n{fused}");
    // Two biases a layer are added by their products; nothing else is left to add.
    assert_eq!(counts["matmul_add"], 2 * LAYERS, "{counts:?}\n{fused}");
    assert!(!counts.contains_key("add") && !counts.contains_key("layer_norm"), "{counts:?}\n{fused}");
}

fn data(name: &str, elements: usize) -> Vec<f32> {
    let mut out = vec![0.0; elements];
    Philox::new(3, name).fill_normal(&mut out, 0.0, 0.5);
    out
}

fn ids(name: &str) -> Vec<u32> {
    let bound = if name == "ids" { VOCAB } else { TOKENS };
    (0..TOKENS).map(|i| Philox::new(3, name).below(i as u64, bound as u32)).collect()
}

/// The outputs of one step.
fn run(device: &Device, graph: &Graph) -> Result<Vec<Vec<f32>>, Error> {
    let plan = plan::plan(graph, device.spec(), &Tuning::default()).expect("it can be planned");
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan, &mut lent)?;
    let parameters = &lent.iter().find(|(n, _)| n == "parameters").expect("there are parameters").1;
    for entry in &plan.entries {
        parameters.write(entry.place.offset, bytemuck::cast_slice(&data(&entry.name, entry.ty.elements())))?;
    }
    let buffers: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut recording = device.record(plan, &buffers)?;
    for name in ["ids", "positions"] {
        let input = recording.input(name).expect("it is an input");
        recording.write(input, bytemuck::cast_slice(&ids(name)))?;
    }
    let ticket = recording.replay()?;
    let sizes: Vec<_> = recording.plan().outputs.iter().map(|o| o.ty.elements()).collect();
    let read = |(o, elements)| {
        let mut out = vec![0.0f32; elements];
        recording.read(o, ticket, bytemuck::cast_slice_mut(&mut out)).map(|()| out)
    };
    sizes.into_iter().enumerate().map(read).collect()
}

#[test]
fn fused_steps_equal_the_interpreter() {
    let graph = pre_norm();
    let entries = graph.regions[0].entries.iter().map(|e| (e.name.clone(), data(&e.name, e.ty.elements())));
    let mut given: BTreeMap<String, Vec<f64>> =
        entries.map(|(name, v)| (name, v.into_iter().map(f64::from).collect())).collect();
    for name in ["ids", "positions"] {
        given.insert(name.into(), ids(name).into_iter().map(f64::from).collect());
    }
    let want = interpret::interpret(&graph, &given).outputs;
    let fused = pass::prune(pass::fuse(graph.clone(), OPS));
    let cpu = |architecture: &str| Options {
        threads: Some(1),
        architecture: Some(architecture.into()),
        ..Options::default()
    };
    let devices = [
        (Choice::Cpu, cpu("portable")),
        (Choice::Cpu, cpu("avx2")),
        (Choice::Cpu, cpu("avx512")),
        (Choice::Vulkan(None), Options::default()),
        (Choice::Cuda(0), Options::default()),
    ];
    for (choice, options) in devices {
        let Some(device) = there::open(choice, &options) else { continue };
        for graph in [&graph, &fused] {
            let got = run(&device, graph).unwrap_or_else(|e| panic!("{e}"));
            for ((name, _), got) in graph.outputs.iter().zip(got) {
                let largest = want[name].iter().fold(1.0, |a: f64, v| a.max(v.abs()));
                for (i, (&got, &want)) in got.iter().zip(&want[name]).enumerate() {
                    let error = (f64::from(got) - want).abs() / largest;
                    assert!(error < 2e-5, "{device}: {name}[{i}] is {got} instead of {want}");
                }
            }
        }
    }
}
