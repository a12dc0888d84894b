//! A folder that `convert` writes means in transformers what the model meant here: its tensors, and the logits from them.

use graph::{Graph, interpret};
use model::folder::Folder;
use std::collections::BTreeMap;
use std::process::Command;
use tensor::DType::U32;

#[derive(serde::Deserialize)]
struct Golden {
    tokens: Vec<u32>,
    tensors: BTreeMap<String, String>,
    logits: Vec<Vec<f64>>,
}

/// Logits [tokens, vocabulary] of a model folder of ours, in f64.
fn exact(folder: &Folder, tokens: &[u32]) -> Vec<f64> {
    let count = tokens.len();
    let graph = Graph::trace(|g| {
        let input = |name, count: usize| g.input(name, U32, [count]);
        let (tokens, positions, cu_seqlens) =
            (input("tokens", count), input("positions", count), input("cu_seqlens", 2));
        g.output("logits", &model::transformer(g, &folder.config, &tokens, &positions, &cu_seqlens));
    })
    .expect("the model traces");
    let mut given: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for entry in graph.regions.iter().flat_map(|region| &region.entries) {
        let bytes = folder.parameter(&entry.name, &entry.ty.shape).expect("it is there");
        let numbers = bytes.as_chunks::<4>().0.iter().map(|word| f64::from(f32::from_le_bytes(*word)));
        given.insert(entry.name.clone(), numbers.collect());
    }
    let wide = |numbers: &[u32]| numbers.iter().map(|n| f64::from(*n)).collect::<Vec<_>>();
    given.insert("tokens".into(), wide(tokens));
    given.insert("positions".into(), (0..count).map(|n| n as f64).collect());
    given.insert("cu_seqlens".into(), vec![0.0, count as f64]);
    interpret::interpret(&graph, &given).outputs.remove("logits").expect("they are there")
}

#[test]
fn a_converted_folder_has_the_logits_that_transformers_finds() {
    let golden: Golden = serde_json::from_str(include_str!("golden/folder-logits.json")).expect("JSON");
    let place = std::env::temp_dir().join(format!("rondo-golden-folder-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("the folder for temporary files can be written");
    let rondo = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rondo"));
        let output = command.args(line.split_whitespace()).current_dir(&place).output().expect("it runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    rondo("train --preset tiny-llama --seed 0 --init-only --device cpu --out run");
    rondo("convert run model.gguf");
    rondo("convert model.gguf folder");
    let stored = tensor::file::safetensors::read(&place.join("folder/model.safetensors")).expect("it can be read");
    let hashes: BTreeMap<_, _> =
        stored.into_iter().map(|(name, stored)| (name, tensor::hash::sha256(&stored.bytes))).collect();
    assert_eq!(hashes, golden.tensors, "not the folder that peers/make_folder_golden.py has seen");
    let folder = Folder::open(&place.join("run/checkpoints/step-0")).expect("it is a model folder");
    let logits = exact(&folder, &golden.tokens);
    std::fs::remove_dir_all(&place).expect("it was made above");
    let expected: Vec<f64> = golden.logits.concat();
    assert_eq!(logits.len(), expected.len());
    let worst = logits.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    // transformers has the rotation's angles in f32.
    assert!(worst < 1e-5, "logits differ by {worst:e}");
}
