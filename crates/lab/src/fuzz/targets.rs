//! The parsers of files that others have made.
#![forbid(unsafe_code)]

use super::Target;
use super::retype::retyped;
use super::template::TEMPLATE;
use model::config::{Config, RopeScaling};
use model::family::{self, Family, preset};
use model::memory::need;
use model::text::{self, Vocabulary};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tensor::DType;
use tensor::file::gguf::{self, Array, Metadata, Planned, Value};
use tensor::file::{TensorInfo, safetensors};
use tensor::quant;

/// All of them.
pub static TARGETS: &[&Target] = &[&GGUF, &SAFETENSORS, &TOKENIZER, &TEMPLATE];

static GGUF: Target = Target {
    name: "gguf",
    in_tests: 100_000,
    seeds: gguf_seeds,
    words: &["general.alignment", "split.count", "llama", "qwen2", "gpt2", "llama.block_count", "rope_freqs.weight"],
    change: Some(retyped),
    run: |bytes| {
        let file = match gguf::File::of_bytes(Path::new("input"), bytes.to_vec()) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for (tensor, data) in file.tensors().iter() {
            inside(tensor, bytes.len())?;
            decoded(tensor, data)?;
        }
        for (_, value) in file.metadata().iter() {
            if value.to_string().is_empty() {
                return Err("a value is shown as nothing".into());
            }
        }
        match family::of_gguf(&file) {
            Ok(known) => shown(&known.config, file.tensors().file_bytes())?,
            Err(error) => return Ok(Err(error.to_string())),
        }
        // Making the patterns of a vocabulary takes a hundred times as long as all else: one input in sixteen.
        if bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) % 16 != 0 {
            return Ok(Ok(()));
        }
        let vocabulary = text::of_gguf(&file).map(|codec| codec.encode(b"a b\xc3\xa9", true));
        Ok(vocabulary.map(|_| ()).map_err(|e| e.to_string()))
    },
};

static SAFETENSORS: Target = Target {
    name: "safetensors",
    in_tests: 100_000,
    seeds: safetensors_seeds,
    words: &[
        "__metadata__",
        "data_offsets",
        "dtype",
        "shape",
        "BF16",
        "F64",
        "U8",
        "[0,",
        "],",
        "{}",
        "null",
        "1e3",
        "\\u0000",
    ],
    change: None,
    run: |bytes| match safetensors::head(bytes) {
        Ok(head) => {
            let mut covered = 0;
            for tensor in &head.tensors {
                inside(tensor, bytes.len())?;
                covered += tensor.bytes;
            }
            let header = u64::from_le_bytes(*bytes.first_chunk::<8>().ok_or("it has no header")?);
            if 8 + header + covered != bytes.len() as u64 {
                return Err(format!("the tensors cover {covered} bytes of {} behind {header}", bytes.len()));
            }
            Ok(Ok(()))
        }
        Err(problem) if problem.offset > bytes.len() as u64 => Err(format!("a problem beyond the file: {problem}")),
        Err(problem) => Ok(Err(problem.to_string())),
    },
};

static TOKENIZER: Target = Target {
    name: "tokenizer",
    in_tests: 100_000,
    seeds: tokenizer_seeds,
    words: &[
        "null",
        "true",
        "-1",
        "4294967296",
        "1e400",
        "\"BPE\"",
        "\"WordPiece\"",
        "\"Unigram\"",
        "\"ByteLevel\"",
        "\"Split\"",
        "\"Sequence\"",
        "\"Regex\"",
        "\"Metaspace\"",
        "\"NFC\"",
        "\"Prepend\"",
        "\"Replace\"",
        "\"type\":",
        "(a+)+$",
        "\\p{L}",
        "\"<0x41>\"",
        "\"byte_fallback\":true",
        "\"Strip\"",
    ],
    change: None,
    run: |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Ok(Err("it is no UTF-8".into())) };
        match Vocabulary::from_json(text) {
            Ok(vocabulary) => {
                let ids = vocabulary.encode("ab ba\u{e9} [UNK]  a", true);
                if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary.size()) {
                    return Err(format!("id {id} of {} tokens", vocabulary.size()));
                }
                vocabulary.decode(&ids, true);
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error.to_string())),
        }
    },
};

/// Whether a tensor lies in its file and has the bytes of its shape.
fn inside(tensor: &TensorInfo, length: usize) -> Result<(), String> {
    let end = tensor.offset.checked_add(tensor.bytes).filter(|end| *end <= length as u64);
    let bytes = tensor.dtype.bytes(tensor.shape.elements()).map(|bytes| bytes as u64);
    match (end, bytes == Some(tensor.bytes)) {
        (Some(_), true) => Ok(()),
        _ => Err(format!("tensor `{}` is not in the file of {length} bytes: {tensor:?}", tensor.name)),
    }
}

/// What `show` says of a model.
fn shown(config: &Config, bytes: u64) -> Result<(), String> {
    let (parameters, unsupported) = (config.num_parameters(), config.unsupported());
    if parameters == 0 || unsupported.is_some_and(|what| what.is_empty()) {
        return Err(format!("a model of {parameters} parameters: {config:?}"));
    }
    for context in [2048, config.max_context] {
        let need = need(config, bytes, context);
        if need.total_bytes < need.kv_cache_bytes.max(bytes) {
            return Err(format!("less memory than its parts: {need:?}"));
        }
    }
    Ok(())
}

/// Decodes a tensor's first blocks.
fn decoded(tensor: &TensorInfo, bytes: &[u8]) -> Result<(), String> {
    let Some(format) = quant::format(tensor.dtype) else { return Ok(()) };
    let (size, count) = (tensor.dtype.block_bytes(), tensor.dtype.block_elements());
    let blocks = (bytes.len() / size).min(4096 / count);
    let mut numbers = vec![0.0; blocks * count];
    format.decode(&bytes[..blocks * size], &mut numbers).map_err(|what| format!("tensor `{}`: {what}", tensor.name))
}

fn gguf_seeds() -> Vec<Vec<u8>> {
    let mut all = vec![every_value()];
    let (_, plain) = preset("llama-3.2-1b").unwrap_or_else(|| unreachable!("it is there"));
    let sizes = Config { vocab_size: 8, hidden_size: 8, num_layers: 1, num_heads: 2, num_kv_heads: 1, ..plain };
    let config = Config { intermediate_size: 8, max_context: 16, rope_scaling: RopeScaling::default(), ..sizes };
    for name in ["llama", "qwen2"] {
        let Some(family) = Family::named(name) else { continue };
        let mut config = config.clone();
        config.features.qkv_bias = name == "qwen2";
        all.push(whole(family, &config));
    }
    all
}

/// A small model with a vocabulary.
fn whole(family: &Family, config: &Config) -> Vec<u8> {
    let texts = |all: &[&str]| Value::Array(Array::String(all.iter().map(ToString::to_string).collect()));
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String(family.architecture.into()));
    family.describe(config).gguf.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::String("qwen2".into()));
    metadata.set("tokenizer.ggml.tokens", texts(&["a", "b", "ab", "\u{120}", "\u{c3}", "\u{a9}", "\u{120}b", "<e>"]));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1, 1, 1, 1, 1, 1, 3])));
    metadata.set("tokenizer.ggml.merges", texts(&["a b", "\u{120} b"]));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(7));
    let tensors = family.tensors(config).into_iter().map(|expected| {
        let planned = Planned { name: expected.gguf, dtype: DType::F32, shape: expected.shape.into() };
        let bytes = vec![60; planned.shape.elements() * 4];
        (planned, bytes)
    });
    written(&metadata, &tensors.collect::<Vec<_>>())
}

/// A value of every kind, and tensors of several types.
fn every_value() -> Vec<u8> {
    let list = Array::Array(vec![Array::I32(vec![1, 2]), Array::String(vec!["x".into()])]);
    let metadata: Metadata = [
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(32)),
        ("a", Value::U8(200)),
        ("b", Value::I8(-3)),
        ("c", Value::U16(60_000)),
        ("d", Value::I16(-30_000)),
        ("e", Value::I32(-5)),
        ("f", Value::F32(0.1)),
        ("g", Value::Bool(true)),
        ("h", Value::U64(1 << 60)),
        ("i", Value::I64(-(1 << 60))),
        ("j", Value::F64(0.5)),
        ("k", Value::Array(list)),
        ("l", Value::Array(Array::Bool(vec![true, false]))),
        ("m", Value::Array(Array::F32(vec![1.0, -2.5]))),
    ]
    .into_iter()
    .collect();
    let types = [DType::F16, DType::Q4_0, DType::Q8_0, DType::Q4_K, DType::Iq2Xxs, DType::I8];
    let tensors = types.into_iter().map(|dtype| {
        let planned = Planned { name: dtype.name().into(), dtype, shape: [2, dtype.block_elements()].into() };
        (planned, vec![1; 2 * dtype.block_bytes()])
    });
    written(&metadata, &tensors.collect::<Vec<_>>())
}

fn written(metadata: &Metadata, tensors: &[(Planned, Vec<u8>)]) -> Vec<u8> {
    let tensors: Vec<_> = tensors.iter().map(|(planned, bytes)| (planned.clone(), bytes.as_slice())).collect();
    gguf::write(Vec::new(), metadata, &tensors).unwrap_or_default()
}

fn safetensors_seeds() -> Vec<Vec<u8>> {
    let numbers: Vec<u8> = (0..96).collect();
    let tensors = [
        ("a.weight", DType::F32, &[2usize, 3][..], &numbers[..24]),
        ("b", DType::Bf16, &[4], &numbers[24..32]),
        ("empty", DType::F16, &[0, 7], &[]),
        ("scalar", DType::I64, &[], &numbers[32..40]),
        ("bytes", DType::U8, &[3], &numbers[40..43]),
    ];
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::bytes(Path::new("seed"), tensors, metadata).into_iter().collect()
}

fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let space = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let split = json!({"type": "Split", "pattern": {"Regex": "\\p{L}+|\\p{N}| ?[^\\s]"}, "behavior": "Isolated", "invert": false});
    let bpe = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": {"a": 0, "b": 1, "ab": 2, "\u{120}": 3, "\u{120}b": 4}, "merges": [["a", "b"], ["\u{120}", "b"]]});
    let words = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "ab": 3, "##a": 4}});
    let unigram = json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
        "vocab": [["<unk>", 0.0], ["\u{2581}", -1.5], ["a", -2.0], ["b", -2.5], ["\u{2581}ab", -3.0]]});
    let added = json!([{"id": 5, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true}]);
    let file = |model, before, decoder| {
        json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": {"type": "NFC"},
            "pre_tokenizer": before, "post_processor": null, "decoder": decoder, "model": model})
        .to_string()
        .into_bytes()
    };
    let both = json!({"type": "Sequence", "pretokenizers": [split, level]});
    let plain = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    vec![
        file(bpe.clone(), level.clone(), level.clone()),
        file(bpe, both, level),
        file(words, json!({"type": "BertPreTokenizer"}), plain),
        file(unigram, space.clone(), space),
    ]
}
