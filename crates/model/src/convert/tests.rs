//! Round trips of small models of every kind of tensor name, bit for bit.

use super::*;
use crate::config::Config;
use crate::family::{self, Family, preset};
use crate::features::{Experts, Features, SlidingWindow};
use std::path::{Path, PathBuf};
use tensor::file::gguf as format;
use tensor::file::gguf::{Array, File, Metadata, Planned, Value};
use tensor::rng::Philox;

/// A folder of its own for a test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rondo-convert-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn little(name: &str, features: Features) -> (&'static Family, Config) {
    let (_, plain) = preset("llama-3.1-8b").expect("it is there");
    let sizes = Config { vocab_size: 40, hidden_size: 16, num_layers: 2, num_heads: 4, num_kv_heads: 2, ..plain };
    let family = Family::named(name).expect("it is there");
    (family, Config { intermediate_size: 24, max_context: 64, features, ..sizes })
}

/// A file with random tensors, vectors and routers in f32 and matrices in `dtype`, and a tokenizer.
fn write(path: &Path, family: &Family, config: &Config, dtype: DType) {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String(family.architecture.into()));
    metadata.set("general.name", Value::String("small".into()));
    metadata.set(
        "general.file_type",
        Value::U32([(DType::F16, 1), (DType::Bf16, 32)].iter().find(|(d, _)| *d == dtype).map_or(0, |(_, n)| *n)),
    );
    family.describe(config).gguf.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
    metadata.set("general.tags", Value::Array(Array::String(vec!["a".into(), "\u{1F600}\0".into()])));
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    let names = [(37, "t"), (38, "1"), (39, "<end>")];
    let name = |id| names.iter().find(|(named, _)| *named == id).map(|(_, name)| name.to_string());
    let tokens = (0..40).map(|id| name(id).unwrap_or_else(|| format!("t{id}"))).collect();
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.set(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32((0..40).map(|id| if id == 39 { 3 } else { 1 }).collect())),
    );
    metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(vec!["t 1".into()])));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(39));
    metadata.set("odd.float", Value::F32(0.1));
    let tensors = family.tensors(config).into_iter().map(|expected| {
        let dtype = if small(&expected) { DType::F32 } else { dtype };
        let planned = Planned { name: expected.gguf, dtype, shape: expected.shape.into() };
        let mut numbers = vec![0.0; planned.shape.elements()];
        Philox::new(1, &planned.name).fill_normal(&mut numbers, 1.0, 0.25);
        if planned.shape.len() == 1 {
            // What is added to 1 holds all bits of these.
            numbers.iter_mut().for_each(|number| *number = number.clamp(0.5, 1.9));
        }
        if planned.name == "rope_freqs.weight" {
            numbers = family::factors(&config.rope_scaling, config.rope_theta, config.head_dim());
        }
        let bytes: Vec<u8> = match dtype {
            DType::F16 => numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect(),
            DType::Bf16 => numbers.iter().flat_map(|n| half::bf16::from_f32(*n).to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        };
        (planned, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let tensors: Vec<_> = tensors.iter().map(|(planned, bytes)| (planned.clone(), bytes.as_slice())).collect();
    std::fs::write(path, format::write(Vec::new(), &metadata, &tensors).expect("a vector takes everything"))
        .expect("it can be written");
}

fn there_and_back(name: &str, features: Features, dtype: DType) {
    let folder = Folder::new(name);
    let (family, config) = little(name, features);
    let first = folder.0.join("first.gguf");
    write(&first, family, &config, dtype);
    let (between, last) = (folder.0.join("between"), folder.0.join("last.gguf"));
    let file = File::open(&first).expect("it is good");
    let mut all = |_: &str, _: u64| true;
    let mut options = Options { to: None, begin: &mut |_| Ok(()), progress: &mut all };
    let made = to_folder(&file, &between, &mut options).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(made.warnings, Vec::<String>::new(), "{name}");
    assert!(between.join("tokenizer.json").exists());
    to_gguf(&between, &last, &mut options).unwrap_or_else(|e| panic!("{name}: {e}"));
    let back = File::open(&last).expect("it is good");
    assert_eq!(back.metadata(), file.metadata(), "{name}");
    for ((a, a_bytes), (b, b_bytes)) in file.tensors().iter().zip(back.tensors().iter()) {
        assert_eq!((&a.name, a.dtype, &a.shape), (&b.name, b.dtype, &b.shape), "{name}");
        assert!(a_bytes == b_bytes, "{name}: {}", a.name);
    }
    // Nothing is written over, and what is stopped leaves nothing.
    assert!(
        to_folder(&file, &between, &mut options).expect_err("it is there").to_string().contains("it is there already")
    );
    let mut stop = |_: &str, _: u64| false;
    let stopped = folder.0.join("stopped");
    let mut options = Options { to: None, begin: &mut |_| Ok(()), progress: &mut stop };
    assert!(matches!(to_folder(&file, &stopped, &mut options), Err(ConvertError::Stopped)));
    let names: Vec<_> = std::fs::read_dir(&folder.0).expect("it is there").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn every_tensor_and_key_comes_back() {
    let experts = |intermediate_size| Some(Experts { count: 4, per_token: 2, intermediate_size, normalized: true });
    there_and_back("llama", Features::default(), DType::F16);
    there_and_back("mixtral", Features { experts: experts(24), ..Features::default() }, DType::Bf16);
    there_and_back("qwen2", Features { qkv_bias: true, ..Features::default() }, DType::Bf16);
    let wide = Features { head_dim: Some(8), qk_norm: true, ..Features::default() };
    there_and_back("qwen3", wide.clone(), DType::F32);
    let window = |pattern, rope_theta| Some(SlidingWindow { positions: 32, pattern, rope_theta });
    let gemma = Features { post_norms: true, gelu_gate: true, ..wide.clone() };
    let second = Features { qk_norm: false, sliding_window: window(2, None), ..gemma.clone() };
    there_and_back("gemma2", second, DType::Bf16);
    there_and_back("gemma3", Features { sliding_window: window(6, Some(1e4)), ..gemma }, DType::F16);
    there_and_back("phi3", Features::default(), DType::Bf16);
    there_and_back("qwen3moe", Features { experts: experts(6), ..wide }, DType::F16);
}

/// Other programs compute with vectors and routers of f32 alone; a folder of 16 bits comes back as it was.
#[test]
fn vectors_are_f32_in_gguf_and_of_their_own_type_in_a_folder() {
    let experts = Some(Experts { count: 4, per_token: 2, intermediate_size: 6, normalized: true });
    let post_norms = Features { post_norms: true, gelu_gate: true, qk_norm: true, ..Features::default() };
    let window = Some(SlidingWindow { positions: 32, pattern: 6, rope_theta: Some(1e4) });
    for (name, features) in [
        ("qwen2", Features { qkv_bias: true, ..Features::default() }),
        ("qwen3moe", Features { experts, qk_norm: true, ..Features::default() }),
        ("gemma3", Features { sliding_window: window, ..post_norms }),
    ] {
        for dtype in [DType::Bf16, DType::F16, DType::F32] {
            let place = Folder::new(&format!("vectors-{name}-{dtype}"));
            let (family, config) = little(name, features.clone());
            let (seed, folder) = (place.0.join("seed.gguf"), place.0.join("folder"));
            let (made, back) = (place.0.join("made.gguf"), place.0.join("back"));
            write(&seed, family, &config, DType::F32);
            let mut all = |_: &str, _: u64| true;
            let mut options = Options { to: Some(dtype), begin: &mut |_| Ok(()), progress: &mut all };
            to_folder(&File::open(&seed).expect("it is good"), &folder, &mut options).expect("it is converted");
            options.to = None;
            to_gguf(&folder, &made, &mut options).expect("it is converted");
            let file = File::open(&made).expect("it is good");
            for (tensor, _) in file.tensors().iter() {
                let vector = tensor.shape.len() == 1 || tensor.name.ends_with("ffn_gate_inp.weight");
                assert_eq!(tensor.dtype, if vector { DType::F32 } else { dtype }, "{name}: {}", tensor.name);
            }
            let made = to_folder(&file, &back, &mut options).expect("it is converted");
            assert_eq!(made.warnings, Vec::<String>::new(), "{name} {dtype}");
            let read = |folder: &Path| std::fs::read(folder.join("model.safetensors")).expect("it is there");
            assert!(read(&folder) == read(&back), "{name} {dtype}");
        }
    }
}

/// The rows of queries and keys lie in GGUF as llama.cpp's converter puts them.
#[test]
fn rows_of_heads_are_paired() {
    // 2 heads of 4 rows, a byte a row.
    let rows = [0u8, 1, 2, 3, 10, 11, 12, 13];
    let bytes: Vec<u8> = rows.iter().flat_map(|row| f32::from(*row).to_le_bytes()).collect();
    let change = crate::family::Change::Paired { heads: 2 };
    let types = (DType::F32, DType::F32);
    let paired = numbers::converted(&bytes, 8, types, change, numbers::Way::ToGguf).expect("whole heads");
    let values: Vec<f32> = paired.as_chunks::<4>().0.iter().map(|n| f32::from_le_bytes(*n)).collect();
    assert_eq!(values, [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0]);
    assert_eq!(numbers::converted(&paired, 8, types, change, numbers::Way::ToFolder).expect("whole heads"), bytes);
    assert!(numbers::converted(&bytes, 3, types, change, numbers::Way::ToGguf).is_err());
}

/// A checkpoint as training writes it: one tensor for q, k and v, and one for gate and up.
#[test]
fn a_model_that_rondo_trained_becomes_a_llama() {
    let folder = Folder::new("own");
    let (_, llama) = little("llama", Features::default());
    let config = Config { rope_scaling: Default::default(), tied_embeddings: true, vocab_size: 256, ..llama };
    let mut shapes = vec![("embed_tokens.weight".to_string(), vec![256, 16]), ("final_norm.weight".into(), vec![16])];
    for layer in 0..config.num_layers {
        for (name, shape) in [
            ("attention_norm", vec![16]),
            ("attention.qkv_proj", vec![32, 16]),
            ("attention.o_proj", vec![16, 16]),
            ("mlp_norm", vec![16]),
            ("mlp.gate_up_proj", vec![48, 16]),
            ("mlp.down_proj", vec![16, 24]),
        ] {
            shapes.push((format!("layers.{layer}.{name}.weight"), shape));
        }
    }
    let random = |name: &str, shape: &[usize]| {
        let mut numbers = vec![0.0f32; shape.iter().product()];
        Philox::new(3, name).fill_normal(&mut numbers, 0.0, 1.0);
        numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>()
    };
    let write = |shapes: &[(String, Vec<usize>)]| {
        let bytes: Vec<_> = shapes.iter().map(|(name, shape)| random(name, shape)).collect();
        let tensors =
            shapes.iter().zip(&bytes).map(|((name, shape), b)| (name.as_str(), DType::F32, &shape[..], &b[..]));
        tensor::file::safetensors::write(&folder.0.join("model.safetensors"), tensors, Default::default())
            .expect("it can be written");
    };
    let describe = |config: &Config| {
        let mut all = serde_json::to_value(config).expect("it is plain data");
        all["model_type"] = "rondo".into();
        all["tokenizer"] = "byte".into();
        std::fs::write(folder.0.join("config.json"), all.to_string()).expect("it can be written");
    };
    write(&shapes);
    describe(&config);
    let out = folder.0.join("out.gguf");
    let mut all = |_: &str, _: u64| true;
    let mut options = Options { to: None, begin: &mut |_| Ok(()), progress: &mut all };
    let made = to_gguf(&folder.0, &out, &mut options).expect("it is a Llama");
    assert_eq!((made.tensors, made.warnings.len()), (2 + 9 * config.num_layers, 0));
    let file = File::open(&out).expect("it is good");
    let known = family::of_gguf(&file).expect("it is a Llama");
    assert_eq!((known.family.name, &known.config), ("llama", &config));
    let there = |name: &str| file.tensor(name).expect("it is there").1;
    let row = 16 * 4;
    let qkv = random("layers.1.attention.qkv_proj.weight", &[32, 16]);
    // The first head of keys is rows 16 to 19, in GGUF as pairs 16, 18, 17, 19.
    for (place, from) in [16, 18, 17, 19].into_iter().enumerate() {
        assert_eq!(there("blk.1.attn_k.weight")[place * row..][..row], qkv[from * row..][..row], "row {place}");
    }
    assert_eq!(there("blk.1.attn_v.weight"), &qkv[24 * row..]);
    let gate_up = random("layers.0.mlp.gate_up_proj.weight", &[48, 16]);
    assert_eq!(there("blk.0.ffn_gate.weight"), &gate_up[..24 * row]);
    assert_eq!(there("blk.0.ffn_up.weight"), &gate_up[24 * row..]);
    let vocabulary = crate::text::of_gguf(&file).expect("it has one");
    assert_eq!(vocabulary.encode("a \u{e9}\0".as_bytes(), false), Ok(vec![97, 32, 0xC3, 0xA9, 0]));
    // What lacks rows, or is no Llama, is named.
    let mut short = shapes.clone();
    short.iter_mut().filter(|(name, _)| name.ends_with("1.attention.qkv_proj.weight")).for_each(|(_, s)| s[0] = 31);
    write(&short);
    let error = to_gguf(&folder.0, &out, &mut options).expect_err("a row is missing").to_string();
    assert!(error.contains("layers.1.attention.qkv_proj.weight") && error.contains("31 rows"), "{error}");
    describe(&Config { norm: crate::config::Norm::LayerNorm, ..config });
    let error = to_gguf(&folder.0, &out, &mut options).expect_err("it is no Llama").to_string();
    assert!(error.contains("key `norm` is not rms_norm") && error.contains("help: "), "{error}");
}
