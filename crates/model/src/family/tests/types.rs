//! Each key of each family's GGUF files with a value of each type: an error or a model, and nothing else.

use super::*;
use crate::convert::{Options, to_folder};
use crate::memory::need;
use crate::text;

/// One value of every type, and lists of every type: empty, of one value a layer, and long.
fn every_value() -> Vec<Value> {
    let mut all = vec![
        Value::U8(2),
        Value::I8(-1),
        Value::U16(2),
        Value::I16(2),
        Value::U32(u32::MAX),
        Value::I32(2),
        Value::F32(2.0),
        Value::F32(f32::NAN),
        Value::Bool(true),
        Value::String("x".into()),
        Value::String(String::new()),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(f64::INFINITY),
    ];
    for count in [0, 2, 5000] {
        let lists = [
            Array::U8(vec![2; count]),
            Array::I8(vec![-1; count]),
            Array::U16(vec![2; count]),
            Array::I16(vec![2; count]),
            Array::U32(vec![2; count]),
            Array::I32(vec![2; count]),
            Array::F32(vec![2.0; count]),
            Array::Bool(vec![true; count]),
            Array::String(vec!["x".into(); count]),
            Array::U64(vec![u64::MAX; count]),
            Array::I64(vec![2; count]),
            Array::F64(vec![f64::NAN; count]),
            Array::Array(vec![Array::U32(vec![2; 2]); count]),
        ];
        all.extend(lists.map(Value::Array));
    }
    all
}

/// Keys that any family's file may have, beyond those that it is described by.
const MORE: &[&str] = &[
    "general.architecture",
    "general.name",
    "general.file_type",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.chat_template",
    "split.no",
    "split.count",
    "split.tensors.count",
    "ARCHITECTURE.vocab_size",
    "ARCHITECTURE.expert_count",
    "ARCHITECTURE.expert_used_count",
    "ARCHITECTURE.attention.key_length",
    "ARCHITECTURE.attention.value_length",
    "ARCHITECTURE.attention.sliding_window",
    "ARCHITECTURE.rope.dimension_count",
    "ARCHITECTURE.rope.scaling.type",
    "ARCHITECTURE.rope.scaling.factor",
    "ARCHITECTURE.rope.scaling.original_context_length",
];

fn vocabulary(metadata: &mut Metadata) {
    let tokens = (0..40).map(|id| if id == 39 { "<end>".into() } else { format!("t{id}") }).collect();
    metadata.set("tokenizer.ggml.model", Value::String("gpt2".into()));
    metadata.set("tokenizer.ggml.pre", Value::String("llama-bpe".into()));
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1; 40])));
    metadata.set("tokenizer.ggml.merges", Value::Array(Array::String(vec!["t 1".into()])));
    metadata.set("tokenizer.ggml.eos_token_id", Value::U32(39));
}

#[test]
fn every_key_of_every_type_is_an_error_or_a_model() {
    let out = std::env::temp_dir().join(format!("rondo-types-{}", std::process::id()));
    let (mut refused, mut taken) = (0, 0);
    for (place, (name, json)) in every_family().into_iter().enumerate() {
        let (family, config) = of_json(name, &json).unwrap_or_else(|e| panic!("{name}: {e}"));
        let described = family.describe(&config).gguf;
        let mut keys: Vec<String> = described.iter().map(|(key, _)| key.to_string()).collect();
        keys.extend(MORE.iter().map(|key| key.replace("ARCHITECTURE", family.architecture)));
        for key in &keys {
            // What all share is tried with one of them.
            if place > 0 && !key.starts_with(family.architecture) {
                continue;
            }
            for value in every_value() {
                let bytes = gguf_of(family, &config, |metadata, _| {
                    vocabulary(metadata);
                    metadata.set(key.clone(), value.clone());
                });
                let begun = std::time::Instant::now();
                let known = gguf::File::of_bytes(Path::new("input"), bytes).and_then(|file| {
                    if key.starts_with("tokenizer.") {
                        // It isn't needed for a model to be known, and answers in its own way.
                        let _ = text::of_gguf(&file).map(|codec| codec.encode(b"t1", true));
                    }
                    let known = of_gguf(&file)?;
                    // As above.
                    if place == 0 && !key.starts_with("general.") {
                        let mut options = Options { to: None, begin: &mut |_| Ok(()), progress: &mut |_, _| true };
                        let _ = to_folder(&file, &out, &mut options);
                        let _ = std::fs::remove_dir_all(&out);
                    }
                    Ok(known)
                });
                match known {
                    Ok(known) => {
                        let need = need(&known.config, 1, known.config.max_context);
                        assert!(known.config.num_parameters() > 0 && need.total_bytes > 1, "{key} = {value}");
                        taken += 1;
                    }
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains("byte ") && text.contains("help: "), "{key} = {value}: {text}");
                        refused += 1;
                    }
                }
                assert!(begun.elapsed().as_secs() < 2, "{key} = {value}: {:?}", begun.elapsed());
            }
        }
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 1000 && taken > 1000, "{refused} refused, {taken} taken");
}

#[test]
fn the_number_of_layers_is_no_list() {
    let (family, config) = of_json("layers", &every_family()[0].1).expect("it is good");
    for count in [0, 1, 2, 600] {
        let list = Value::Array(Array::U32(vec![2; count]));
        let bytes = gguf_of(family, &config, |metadata, _| metadata.set("llama.block_count", list));
        let error = of_bytes("layers", &bytes).expect_err("it is a list").to_string();
        assert!(error.contains("`llama.block_count`: it is a list of") && error.contains("help: "), "{error}");
    }
}
