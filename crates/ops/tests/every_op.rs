//! Every case of every card: right on every device that is there, differentiable, fusible. It names no op.

#[path = "../../device/tests/there/mod.rs"]
mod there;

use device::{Choice, Device, Error, Options, check};
use graph::trace::Source;
use graph::{Case, Graph, Meaning, OpDef, Tuning, grad, interpret, pass};
use std::collections::BTreeMap;
use tensor::DType;
use tensor::rng::Philox;

/// Each small case with every lowering that the card offers; returns what went wrong.
fn failures(device: &Device, include: impl Fn(&Case) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for &op in ops::OPS {
        for case in op.cases_of_every_type().iter().filter(|c| include(c)) {
            let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
            let outputs = (op.infer)(&case.params, &types).unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.name));
            let call = graph::Call { params: &case.params, inputs: &types, outputs: &outputs };
            for variant in (op.variants)(&call, device.spec()) {
                let tuning = Tuning(BTreeMap::from([(Tuning::key(op, &call), variant.to_string())]));
                let name = format!("{} {} ({variant}) on {}", op.name, case.name, device.spec().architecture);
                match check::run(device, op, case, &tuning, 1) {
                    Ok(outcome) if outcome.error <= case.tolerance => {}
                    Ok(outcome) => {
                        let (o, e, got, want) = outcome.worst;
                        wrong.push(format!(
                            "{name}: output {o}[{e}] is {got}, expected {want}: error {:.2e}",
                            outcome.error
                        ));
                    }
                    Err(e) => wrong.push(format!("{name}: {e}")),
                }
            }
        }
    }
    wrong
}

fn all_right(device: &Device) {
    let wrong = failures(device, |case| !case.large);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn cpu(architecture: &str) -> Option<Device> {
    let options = Options { threads: Some(1), architecture: Some(architecture.into()), ..Options::default() };
    match Device::open(Choice::Cpu, &options) {
        Ok(device) => Some(device),
        Err(Error::Unavailable { what, .. }) => {
            println!("skipped: {what}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn right_on_portable_cpus() {
    all_right(&cpu("portable").expect("every machine runs portable code"));
}

#[test]
fn right_with_avx2() {
    cpu("avx2").iter().for_each(all_right);
}

#[test]
fn right_with_avx512() {
    cpu("avx512").iter().for_each(all_right);
}

#[test]
fn right_on_vulkan() {
    // With the validation layers where they are installed, as in CI.
    let options = Options { validation: true, ..Options::default() };
    let there = Device::open(Choice::Vulkan(None), &options).is_ok();
    on_gpu(Choice::Vulkan(None), &Options { validation: there, ..options });
}

#[test]
fn right_on_cuda() {
    on_gpu(Choice::Cuda(0), &Options::default());
}

#[test]
fn right_on_cuda_without_libraries() {
    on_gpu(Choice::Cuda(0), &Options { without_libraries: true, ..Options::default() });
}

fn on_gpu(choice: Choice, options: &Options) {
    if let Some(device) = there::open(choice, options) {
        all_right(&device);
        assert_eq!(device.counters().validation_messages, 0, "the validation layers have something to say");
    }
}

#[test]
fn gradients_equal_finite_differences() {
    let mut wrong = Vec::new();
    for &op in ops::OPS.iter().filter(|op| op.gradient.is_some()) {
        for case in (op.cases)().iter().filter(|c| !c.large) {
            wrong.extend(finite_differences(op, case));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// Compares the gradient of sum(weights * output 0) by each input with central differences, in f64.
fn finite_differences(op: &'static OpDef, case: &Case) -> Vec<String> {
    let types: Vec<_> = case.inputs.iter().map(|i| i.ty.clone()).collect();
    let outputs = (op.infer)(&case.params, &types).expect("a card accepts its own cases");
    let call = graph::Call { params: &case.params, inputs: &types, outputs: &outputs };
    let floats: Vec<usize> = (0..types.len()).filter(|&i| types[i].dtype == DType::F32).collect();
    if floats.is_empty() || (op.cost)(&call).flops > 4e6 {
        return Vec::new();
    }
    let mut missing = vec![false; types.len()];
    let graph = Graph::trace(|g| {
        let inputs: Vec<_> =
            types.iter().enumerate().map(|(i, t)| g.parameter(&i.to_string(), t.dtype, t.shape.clone())).collect();
        let out = g.emit(op, &inputs.iter().collect::<Vec<_>>(), case.params.clone())[0].clone();
        let weights = g.input("weights", out.dtype(), out.shape().clone());
        let loss = ops::reduce::sum_to(&ops::elementwise::mul(&out, &weights), &[1].into());
        g.output("loss", &loss);
        let wanted: Vec<_> = floats.iter().map(|&i| inputs[i].clone()).collect();
        for (&i, gradient) in floats.iter().zip(grad::gradients(&loss, &wanted, &ops::GRAD)) {
            match gradient {
                Some(gradient) => g.output(&format!("gradient {i}"), &gradient),
                None => missing[i] = true,
            }
        }
    })
    .unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.name));
    let mut given: BTreeMap<String, Vec<f64>> =
        check::inputs(case, 7).into_iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect();
    let mut weights = vec![0.0f32; outputs[0].elements()];
    Philox::new(7, "weights").fill_normal(&mut weights, 0.0, 1.0);
    given.insert("weights".into(), weights.into_iter().map(f64::from).collect());
    let exact = interpret::interpret(&graph, &given).outputs;
    let loss_only = pass::prune(Graph { outputs: graph.outputs[..1].to_vec(), ..graph.clone() });
    let mut wrong = Vec::new();
    for i in floats.into_iter().filter(|&i| !missing[i]) {
        let gradient = &exact[&format!("gradient {i}")];
        let samples = gradient.len().min(10);
        for s in 0..samples {
            let e = s * gradient.len() / samples;
            let loss_at = |change: f64| {
                let mut moved = given.clone();
                moved.get_mut(&i.to_string()).expect("the input is there")[e] += change;
                interpret::interpret(&loss_only, &moved).outputs["loss"][0]
            };
            let h = 1e-5;
            let difference = (loss_at(h) - loss_at(-h)) / (2.0 * h);
            if (difference - gradient[e]).abs() > 1e-6 * (1.0 + difference.abs()) {
                let (name, exact) = (&case.name, gradient[e]);
                wrong.push(format!("{} {name}: input {i}[{e}]: gradient {exact}, difference {difference}", op.name));
            }
        }
    }
    wrong
}

#[test]
fn fused_ops_match_their_own_pattern() {
    for &op in ops::OPS {
        let Meaning::Unfused(fusion) = op.meaning else { continue };
        for case in op.cases_of_every_type().iter().filter(|c| !c.large) {
            let unfused = Graph::trace(|g| {
                let inputs: Vec<_> = case
                    .inputs
                    .iter()
                    .enumerate()
                    .map(|(i, input)| g.parameter(&i.to_string(), input.ty.dtype, input.ty.shape.clone()))
                    .collect();
                for (i, out) in (fusion.unfused)(&inputs, &case.params).iter().enumerate() {
                    g.output(&i.to_string(), out);
                }
            })
            .unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.name));
            let fused = pass::prune(pass::fuse(unfused, &[op]));
            assert_eq!(fused.nodes.len(), 1, "{} {} does not match its own pattern:\n{fused}", op.name, case.name);
            assert_eq!((fused.nodes[0].op, &fused.nodes[0].params), (op, &case.params));
            assert!(fused.values.iter().all(|v| v.source != Source::Removed));
        }
    }
}

#[test]
fn every_folder_is_in_the_list() {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = std::fs::read_to_string(source.join("lib.rs")).expect("lib.rs is there");
    for entry in std::fs::read_dir(&source).expect("src is there").flatten() {
        let name = entry.file_name().into_string().expect("folder names are plain text");
        if entry.path().is_dir() && name != "common" {
            assert!(list.contains(&format!("&{name}::")), "folder `{name}` has no card in `OPS`");
        }
    }
    let mut names: Vec<_> = ops::OPS.iter().map(|op| op.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ops::OPS.len(), "two cards have one name");
}

#[test]
fn every_card_is_complete() {
    for op in ops::OPS {
        assert!(!op.formula.is_empty(), "{}: no formula", op.name);
        let cases = op.cases_of_every_type();
        assert!(cases.iter().any(|c| !c.large), "{}: no small case", op.name);
        let mut names: Vec<_> = cases.iter().map(|c| &c.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "{}: two cases have one name", op.name);
        assert!(cases.iter().all(|c| c.params.iter().map(|(n, _)| n).eq(cases[0].params.iter().map(|(n, _)| n))));
    }
}
