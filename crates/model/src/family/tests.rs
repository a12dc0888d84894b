//! Each family from both forms of its files, and files that lie.

mod said;
mod types;

use super::*;
use crate::config::RopeScaling;
use crate::features::RopeChange;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use tensor::DType;
use tensor::file::gguf::{Array, Metadata, Planned, Value, write};

/// A file of its own for a test, removed at its end.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str, bytes: &[u8]) -> Temporary {
        let path = std::env::temp_dir().join(format!("rondo-family-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).expect("the folder for temporary files can be written");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The keys that every config.json has here.
fn base(class: &str) -> Json {
    json!({
        "architectures": [class], "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 5e5,
    })
}

fn with(mut config: Json, more: Json) -> Json {
    let (Some(all), Json::Object(more)) = (config.as_object_mut(), more) else { unreachable!("both are objects") };
    all.extend(more);
    config
}

fn of_json(name: &str, config: &Json) -> Result<(&'static Family, Config), Error> {
    let file = Temporary::new(&format!("{name}.json"), config.to_string().as_bytes());
    of_config_json(&file.0).map(|(family, config, _)| (family, config))
}

/// A GGUF file of a configuration, with every tensor that it needs.
fn gguf_of(
    family: &Family,
    config: &Config,
    change: impl FnOnce(&mut Metadata, &mut Vec<(Planned, Vec<u8>)>),
) -> Vec<u8> {
    let mut metadata: Metadata =
        [("general.architecture", Value::String(family.architecture.into()))].into_iter().collect();
    family.describe(config).gguf.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
    let tensor = |expected: &Expected| {
        let planned = Planned { name: expected.gguf.clone(), dtype: DType::F32, shape: expected.shape.clone().into() };
        let elements = planned.shape.elements();
        let numbers = match (expected.gguf.as_str(), &config.features.rope) {
            ("rope_freqs.weight", _) => factors(&config.rope_scaling, config.rope_theta, config.head_dim()),
            ("rope_factors_long.weight", RopeChange::LongRope { long, .. }) => long.clone(),
            ("rope_factors_short.weight", RopeChange::LongRope { short, .. }) => short.clone(),
            _ => vec![0.5; elements],
        };
        (planned, numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>())
    };
    let mut tensors = family.tensors(config).iter().map(tensor).collect();
    change(&mut metadata, &mut tensors);
    let parts: Vec<_> = tensors.iter().map(|(planned, bytes)| (planned.clone(), bytes.as_slice())).collect();
    write(Vec::new(), &metadata, &parts).expect("a vector takes everything")
}

fn of_bytes(name: &str, bytes: &[u8]) -> Result<Known, Error> {
    let file = Temporary::new(&format!("{name}.gguf"), bytes);
    of_gguf(&gguf::File::open(&file.0)?)
}

/// A config.json of each family, with what is its own.
fn every_family() -> Vec<(&'static str, Json)> {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let gemma = json!({"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 32, "rms_norm_eps": 1e-6});
    let experts = json!({"num_local_experts": 4, "num_experts_per_tok": 2});
    let long = json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.5]},
        "original_max_position_embeddings": 16});
    vec![
        ("llama", with(base("LlamaForCausalLM"), json!({"rope_scaling": llama3}))),
        ("llama", with(base("LlamaForCausalLM"), json!({"attention_bias": true, "tie_word_embeddings": true}))),
        ("mistral", with(base("MistralForCausalLM"), json!({"head_dim": 8}))),
        ("mixtral", with(base("MixtralForCausalLM"), experts)),
        ("qwen2", with(base("Qwen2ForCausalLM"), json!({"tie_word_embeddings": true}))),
        ("qwen3", with(base("Qwen3ForCausalLM"), json!({"head_dim": 8}))),
        (
            "qwen3moe",
            with(
                base("Qwen3MoeForCausalLM"),
                json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6}),
            ),
        ),
        (
            "gemma2",
            with(
                with(base("Gemma2ForCausalLM"), gemma.clone()),
                json!({"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
            ),
        ),
        (
            "gemma3",
            with(
                with(base("Gemma3ForCausalLM"), gemma),
                json!({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 6}),
            ),
        ),
        ("phi3", with(base("Phi3ForCausalLM"), long)),
    ]
}

#[test]
fn every_family_reads_the_same_from_both_forms() {
    for (name, json) in every_family() {
        let (family, config) = of_json(name, &json).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(family.name, name);
        assert_eq!(config.num_kv_heads, 2, "{name}");
        // config.json again.
        let again = family.describe(&config).hugging_face;
        let (_, same) = of_json(name, &Json::Object(again)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(same, config, "{name}");
        // And GGUF, in which a mistral is a llama.
        let known = of_bytes(name, &gguf_of(family, &config, |_, _| {})).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(known.family.architecture, family.architecture);
        assert_eq!(known.config, config, "{name}");
        assert_eq!(known.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_a_family_has_is_in_its_configuration() {
    let all = every_family();
    let config = |place: usize| of_json("quirks", &all[place].1).expect("it is good").1;
    let scaling = RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };
    assert_eq!(config(0).rope_scaling, scaling);
    assert_eq!(config(0).unsupported(), None);
    assert_eq!(config(3).features.experts.as_ref().map(|e| (e.count, e.per_token, e.normalized)), Some((4, 2, true)));
    assert!(config(3).unsupported().is_some_and(|what| what.contains("a mixture of experts")));
    assert!(config(4).features.qkv_bias && config(4).tied_embeddings);
    assert_eq!((config(5).head_dim(), config(5).features.qk_norm), (8, true));
    let gemma = config(7).features;
    assert_eq!((gemma.score_cap, gemma.logit_cap, gemma.embedding_scale), (Some(50.0), Some(30.0), Some(4.0)));
    assert!(gemma.post_norms && gemma.gelu_gate && !gemma.qk_norm);
    assert_eq!(config(8).features.rope, RopeChange::Linear { factor: 8.0 });
    assert_eq!(config(8).features.sliding_window.map(|w| (w.positions, w.pattern)), Some((32, 6)));
    assert!(matches!(config(9).features.rope, RopeChange::LongRope { original_max_position: 16, .. }));
}

#[test]
fn presets_have_the_published_sizes() {
    // Parameters as the publishers count them, the head apart where it is the table.
    let published = [494_032_768, 1_543_714_304, 7_615_616_512, 32_763_876_352, 1_235_814_400, 8_030_261_248];
    for ((name, ..), parameters) in PRESETS.iter().zip(published) {
        let (family, config) = preset(&name.to_uppercase()).expect("it is there");
        assert_eq!(config.num_parameters(), parameters, "{name}");
        assert_eq!(config.problem(), None);
        let tensors = family.tensors(&config);
        let counted: usize =
            tensors.iter().filter(|t| !t.hugging_face.is_empty()).map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!(counted as u64, parameters, "{name}");
    }
    assert!(preset("qwen9").is_none());
}

#[test]
fn a_gguf_file_that_lies_is_refused_by_name() {
    let (family, config) = of_json("lies", &every_family()[4].1).expect("it is good");
    let refused = |expected: &str, change: &dyn Fn(&mut Metadata, &mut Vec<(Planned, Vec<u8>)>)| {
        let error = of_bytes("lies", &gguf_of(family, &config, change)).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("byte ") && error.contains("help: "), "{expected}: {error}");
    };
    let set = |key: &'static str, value: Value| {
        move |metadata: &mut Metadata, _: &mut Vec<_>| metadata.set(key, value.clone())
    };
    let number = Value::U32;
    refused("`general.architecture`: its type is u32", &set("general.architecture", number(3)));
    refused(
        "\"bloom\" is not supported; supported are llama, qwen2",
        &set("general.architecture", Value::String("bloom".into())),
    );
    refused("is not supported", &set("general.architecture", Value::String("x".repeat(1 << 20))));
    for (key, values) in [
        ("qwen2.attention.head_count", [0, 3, 5, u32::MAX].as_slice()),
        ("qwen2.attention.head_count_kv", &[0, 3, 8, u32::MAX]),
        ("qwen2.block_count", &[0, 513, 1 << 31, u32::MAX]),
        ("qwen2.embedding_length", &[0, 17, u32::MAX]),
        ("qwen2.feed_forward_length", &[0, u32::MAX]),
        ("qwen2.context_length", &[0, u32::MAX]),
        ("qwen2.vocab_size", &[0, u32::MAX]),
        ("qwen2.attention.key_length", &[1, u32::MAX]),
    ] {
        for value in values {
            let error = of_bytes("bounds", &gguf_of(family, &config, set(key, number(*value))));
            let error = error.expect_err(key).to_string();
            assert!(error.contains("help: "), "{key} = {value}: {error}");
        }
        for value in [Value::String("4".into()), Value::I32(-1), Value::F32(4.0), Value::Bool(true)] {
            let error = of_bytes("types", &gguf_of(family, &config, set(key, value.clone())));
            let error = error.expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("whole number"), "{key} = {value}: {error}");
        }
    }
    let per_layer = |sizes: &[u32]| Value::Array(Array::U32(sizes.into()));
    refused("it has 3 numbers; there are 2 layers", &set("qwen2.attention.head_count_kv", per_layer(&[2, 2, 2])));
    refused("differs from layer to layer", &set("qwen2.attention.head_count_kv", per_layer(&[2, 4])));
    let same = gguf_of(family, &config, set("qwen2.attention.head_count_kv", per_layer(&[2, 2])));
    assert_eq!(of_bytes("same", &same).expect("all are equal").config, config);
    refused(
        "`qwen2.attention.layer_norm_rms_epsilon`: it must be a number",
        &set("qwen2.attention.layer_norm_rms_epsilon", Value::F32(f32::NAN)),
    );
    refused("norm_eps is 0", &set("qwen2.attention.layer_norm_rms_epsilon", Value::F32(0.0)));
    refused("tensor `blk.1.ffn_up.weight`: it is missing", &|_, tensors| {
        tensors.retain(|(t, _)| t.name != "blk.1.ffn_up.weight")
    });
    refused("tensor `blk.0.attn_q.weight`: its sizes are [16, 8]; the model's are [16, 16]", &|_, tensors| {
        for (tensor, bytes) in tensors.iter_mut().filter(|(t, _)| t.name == "blk.0.attn_q.weight") {
            tensor.shape = [16, 8].into();
            bytes.truncate(16 * 8 * 4);
        }
    });
    let extra = gguf_of(family, &config, |_, tensors| {
        tensors.push((Planned { name: "surprise".into(), dtype: DType::F32, shape: [1].into() }, vec![0; 4]));
    });
    assert_eq!(
        of_bytes("extra", &extra).expect("it is no harm").warnings,
        ["tensor `surprise` is not one of the model's"]
    );
}

#[test]
fn a_config_json_that_lies_is_refused_by_name() {
    let good = base("LlamaForCausalLM");
    for (more, expected) in [
        (json!({"architectures": ["BloomForCausalLM"]}), "BloomForCausalLM"),
        (json!({"architectures": null}), "it is missing"),
        (json!({"num_attention_heads": 0}), "`num_attention_heads`: it is 0"),
        (json!({"num_attention_heads": -4}), "whole number"),
        (json!({"num_attention_heads": 5}), "5 heads can't share evenly"),
        (json!({"hidden_size": 18}), "doesn't divide the width 18"),
        (json!({"num_hidden_layers": 1u64 << 40}), "`num_hidden_layers`: it is 1099511627776"),
        (json!({"num_hidden_layers": null}), "`num_hidden_layers`: it is missing"),
        (json!({"vocab_size": "many"}), "`vocab_size`"),
        (json!({"rope_scaling": {"rope_type": "spiral"}}), "\"spiral\" is not supported"),
        (json!({"rope_scaling": {"rope_type": "linear"}}), "its factor is missing"),
        (json!({"rope_scaling": {"rope_type": "linear", "factor": -1}}), "factor"),
        (json!({"rope_scaling": 5}), "it must be an object"),
        (json!({"rope_theta": 0.5}), "rope_theta is 0.5"),
    ] {
        let error = of_json("bad", &with(good.clone(), more.clone())).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("byte ") && error.contains("help: "), "{more}: {error}");
    }
    for text in ["", "{", "[]", "null", "<html>"] {
        let file = Temporary::new("text.json", text.as_bytes());
        let error = of_config_json(&file.0).map(|_| ()).expect_err("it is no configuration").to_string();
        assert!(error.contains("it is no object in JSON"), "{error}");
    }
}

#[test]
fn what_would_change_the_answers_is_refused_by_name() {
    let llama = base("LlamaForCausalLM");
    for (more, expected) in [
        (json!({"hidden_act": "gelu"}), "`hidden_act`: it is \"gelu\"; models of the family llama have \"silu\""),
        (json!({"hidden_act": "relu"}), "`hidden_act`: it is \"relu\""),
        (json!({"hidden_act": 3}), "`hidden_act`: it is 3"),
        (json!({"quantization_config": {"quant_method": "gptq"}}), "`quantization_config`"),
        (json!({"model_type": "qwen2"}), "`model_type`: it is \"qwen2\", and the class is LlamaForCausalLM"),
        (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`: it is 0.5"),
        (json!({"rope_interleaved": true}), "`rope_interleaved`: it is true"),
        (json!({"logits_scaling": 8}), "`logits_scaling`: it is 8"),
        (json!({"attention_multiplier": 0.25}), "`attention_multiplier`: it is 0.25"),
        (json!({"residual_multiplier": 0.22}), "`residual_multiplier`"),
        (json!({"embedding_multiplier": 12.0}), "`embedding_multiplier`"),
        (json!({"sliding_window": -1}), "`sliding_window`: it is -1"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer 1 is \"sliding_attention\""),
        (json!({"final_logit_softcapping": 30.0}), "`final_logit_softcapping`"),
        (json!({"architectures": ["MistralForCausalLM"], "attention_bias": true}), "`attention_bias`: it is true"),
        (json!({"architectures": ["Qwen2ForCausalLM"], "mlp_bias": true}), "`mlp_bias`: it is true"),
        (json!({"architectures": ["Qwen3ForCausalLM"], "use_sliding_window": true}), "`use_sliding_window`"),
        (
            json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
            "`rope_parameters`: it is 0.5",
        ),
    ] {
        let error = of_json("answers", &with(llama.clone(), more.clone())).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("byte ") && error.contains("help: "), "{more}: {error}");
    }
    let gemma = every_family().into_iter().find(|(name, _)| *name == "gemma2").expect("it is there").1;
    for act in ["gelu", "silu"] {
        let error = of_json("gemma", &with(gemma.clone(), json!({"hidden_activation": act}))).expect_err(act);
        assert!(error.to_string().contains("have \"gelu_pytorch_tanh\""), "{error}");
    }
    let neutral = json!({"hidden_act": "silu", "model_type": "llama", "partial_rotary_factor": 1.0, "logits_scaling": 1,
        "rope_interleaved": false, "attention_multiplier": 0.5, "quantization_config": null, "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0", "use_cache": true, "attention_bias": false, "sliding_window": null,
        "layer_types": ["full_attention", "full_attention"], "bos_token_id": 1, "attention_dropout": 0.1,
        "attn_logit_softcapping": null, "pretraining_tp": 1, "initializer_range": 0.02});
    assert_eq!(
        of_json("neutral", &with(llama.clone(), neutral)).expect("it changes nothing").1,
        of_json("plain", &llama).expect("it is good").1
    );
    // Its classes heed the other key.
    of_json("gemma", &with(gemma, json!({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"})))
        .expect("it is good");
}
