//! Every CUDA kernel of every card compiles for every architecture, and takes the arguments that it is given: no GPU needed.

use device::cuda::nvrtc::{Nvrtc, compile_all};
use graph::{Call, DeviceKind, Kernel, Launch, Limits, Spec, TensorType};

/// An NVIDIA GPU as plans see it, with or without libraries.
fn spec(features: &[&str]) -> Spec {
    Spec {
        kind: DeviceKind::Cuda,
        name: "made up".into(),
        architecture: "sm_90".into(),
        units: 132,
        subgroup_size: 32,
        max_threads: 1024,
        shared_bytes: 227 << 10,
        memory_bytes: 80 << 30,
        largest_allocation: 80 << 30,
        argument_bytes: 4096,
        features: features.iter().map(|f| (*f).into()).collect(),
        limits: Limits { bytes_per_second: 3e12, f32_flops: 6e13, launch_seconds: 2e-6 },
    }
}

/// The kernels of every variant of every case of every card, and the names of cards without one.
fn kernels(spec: &Spec) -> (Vec<Kernel>, Vec<String>) {
    let (mut kernels, mut without) = (Vec::new(), Vec::new());
    for op in ops::OPS {
        for case in op.cases_of_every_type() {
            let inputs: Vec<TensorType> = case.inputs.iter().map(|i| i.ty.clone()).collect();
            let outputs =
                (op.infer)(&case.params, &inputs).unwrap_or_else(|e| panic!("{} {}: {e}", op.name, case.name));
            let call = Call { params: &case.params, inputs: &inputs, outputs: &outputs };
            for variant in (op.variants)(&call, spec) {
                match (op.lower)(&call, spec, variant) {
                    Ok(lowering) => kernels.extend(lowering.launches.into_iter().filter_map(|launch| match launch {
                        Launch::Kernel(kernel) => Some(kernel),
                        _ => None,
                    })),
                    Err(why) => without.push(format!("{}: {why}", op.name)),
                }
            }
        }
    }
    without.dedup();
    (kernels, without)
}

/// What a launch asks of the machine is there.
fn check_launch(kernel: &Kernel, spec: &Spec) {
    let [x, y, z] = kernel.groups;
    let name = kernel.entry;
    assert!(x > 0 && y > 0 && z > 0 && x < 1 << 31 && y < 1 << 16 && z < 1 << 16, "{name}: groups {x}, {y}, {z}");
    assert!(kernel.threads > 0 && kernel.threads <= spec.max_threads, "{name}: {} threads", kernel.threads);
    assert!(kernel.shared_bytes <= spec.shared_bytes, "{name}: {} bytes of shared memory", kernel.shared_bytes);
}

#[test]
fn every_cuda_kernel_compiles() {
    let nvrtc = match Nvrtc::load(&[], Nvrtc::default_cache()) {
        Ok(nvrtc) => nvrtc,
        Err(what) if std::env::var_os("RONDO_REQUIRE_NVRTC").is_some() => panic!("{what}"),
        Err(what) => return eprintln!("skipped, no kernel was compiled: {what}"),
    };
    let mut all = device::cuda::own_kernels();
    for features in [&["cublaslt"][..], &[]] {
        let spec = spec(features);
        let (kernels, without) = kernels(&spec);
        without.iter().for_each(|why| eprintln!("no CUDA kernel: {why}"));
        kernels.iter().for_each(|k| check_launch(k, &spec));
        all.extend(kernels);
    }
    for architecture in ["sm_80", "sm_90", "sm_120"] {
        let texts = compile_all(&nvrtc, &all, architecture, 2).unwrap_or_else(|e| panic!("{e}"));
        eprintln!("{architecture}: {} kernels from {texts} texts", all.len());
    }
}
