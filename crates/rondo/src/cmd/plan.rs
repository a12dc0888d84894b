//! `rondo plan`: shows a preset's training step as it would run on a machine, which need not be this one.
#![forbid(unsafe_code)]

use super::debug::Dial;
use super::{DeviceFlags, Failure, Outcome, StepFlags, product, say};
use ::train::step;
use graph::plan::BufferKind;
use graph::{DeviceKind, Limits, Plan, Spec};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Show a preset's training step as planned for a machine: launches, places, bytes, operations, expected time.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    step: StepFlags,
    /// Plan for another machine: h200, cpu, or a file with its description in JSON.
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["device", "threads"])]
    spec: Option<String>,
    /// Choose lowerings by this table of `rondo tune`.
    #[arg(long, value_name = "FILE")]
    tuning: Option<PathBuf>,
    /// Plan the ops one by one, as traced.
    #[arg(long)]
    no_fuse: bool,
    #[command(flatten)]
    device: DeviceFlags,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub fn run(args: Args, dial: Dial) -> Outcome {
    let config = args.step.resolve(args.no_fuse.then_some("fuse=false"))?;
    let spec = match &args.spec {
        Some(name) => {
            let spec = find_spec(name)?;
            say(format_args!(
                "rondo {} · planned for {} ({}), asked for",
                env!("CARGO_PKG_VERSION"),
                spec.name,
                spec.kind
            ));
            spec
        }
        None => args.device.open()?.spec().clone(),
    };
    let tuning = super::tune::table(args.tuning.as_deref(), &config, &spec)?;
    let plans = step::plans(&config, &spec, &tuning)?;
    plans.iter().try_for_each(|plan| dial.planned(&config, plan))?;
    if args.json {
        let mut json = as_json(&plans[0]);
        if let [_, update] = &plans[..] {
            json["micro_batches"] = config.grad_accumulation.into();
            json["update"] = as_json(update);
        }
        product(serde_json::to_string_pretty(&json).map_err(Failure::failed)?);
    } else {
        if plans.len() > 1 {
            product(format_args!("a micro-batch, of which a step has {}:", config.grad_accumulation));
        }
        product(plans[0].table().trim_end());
        for update in &plans[1..] {
            product(format_args!("\nthe update after them:\n{}", update.table().trim_end()));
        }
        say(format_args!("Train it: {}", args.step.train(&[])));
    }
    Ok(())
}

fn find_spec(name: &str) -> Result<Spec, Failure> {
    match name {
        "h200" => return Ok(h200()),
        "cpu" => return Ok(cpu()),
        _ => {}
    }
    let path = Path::new(name);
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::bad_file(format!("{name}: {e}\n  help: --spec takes h200, cpu or a JSON file")))?;
    serde_json::from_str(&text).map_err(|e| Failure::bad_file(format!("{name}: not a machine's description: {e}")))
}

/// An NVIDIA H200 with its measured limits.
fn h200() -> Spec {
    Spec {
        kind: DeviceKind::Cuda,
        name: "NVIDIA H200".into(),
        architecture: "sm_90".into(),
        units: 132,
        subgroup_size: 32,
        max_threads: 1024,
        shared_bytes: 232_448,
        memory_bytes: 150_000_000_000,
        largest_allocation: 150_000_000_000,
        argument_bytes: 4096,
        features: vec!["cublaslt".into()],
        limits: Limits { bytes_per_second: 4.22e12, f32_flops: 49.3e12, launch_seconds: 0.6e-6 },
    }
}

/// A 2-core server processor with AVX-512 and its measured limits.
fn cpu() -> Spec {
    Spec {
        kind: DeviceKind::Cpu,
        name: "2-core processor".into(),
        architecture: "avx512".into(),
        units: 2,
        subgroup_size: 1,
        max_threads: 1,
        shared_bytes: 0,
        memory_bytes: 16 << 30,
        largest_allocation: 16 << 30,
        argument_bytes: 0,
        features: Vec::new(),
        limits: Limits { bytes_per_second: 80e9, f32_flops: 512e9, launch_seconds: 0.2e-6 },
    }
}

fn as_json(plan: &Plan) -> Value {
    let place = |p: &graph::Place| json!({"buffer": plan.buffers[p.buffer].name, "offset": p.offset, "bytes": p.bytes});
    let launches: Vec<_> = plan
        .launches
        .iter()
        .map(|l| {
            let node = &plan.nodes[l.node];
            let places: Vec<_> = l
                .places
                .iter()
                .map(|(p, access)| {
                    let mut place = place(p);
                    place["access"] = format!("{access:?}").to_lowercase().into();
                    place
                })
                .collect();
            json!({"op": node.op, "launch": l.launch.name(), "node": l.node, "variant": node.variant,
                   "level": l.level, "after": l.after, "places": places})
        })
        .collect();
    let nodes: Vec<_> = plan
        .nodes
        .iter()
        .map(|n| {
            let types = |all: &[graph::TensorType]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!({"op": n.op, "params": n.params, "inputs": types(&n.inputs), "outputs": types(&n.outputs),
                   "variant": n.variant, "bytes": n.cost.bytes, "flops": n.cost.flops,
                   "expected_seconds": plan.expected_seconds(n), "location": n.location})
        })
        .collect();
    let buffers: Vec<_> = plan.buffers.iter().map(|b| json!({"name": b.name, "bytes": b.bytes})).collect();
    let regions = plan.buffers.iter().filter(|b| b.kind == BufferKind::Region).map(|b| b.bytes).sum::<u64>();
    let cost = plan.cost();
    let seconds: f64 = plan.nodes.iter().map(|n| plan.expected_seconds(n)).sum();
    json!({
        "spec": plan.spec,
        "totals": {"launches": plan.launches.len(), "levels": plan.levels(), "arena_bytes": plan.arena_bytes(),
                   "region_bytes": regions, "bytes": cost.bytes, "flops": cost.flops, "expected_seconds": seconds,
                   "limit_seconds": plan.limit_seconds(&plan.spec.limits)},
        "buffers": buffers,
        "nodes": nodes,
        "launches": launches,
    })
}
