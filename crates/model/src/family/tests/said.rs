//! What one form of a model's files says otherwise than the other, or not at all: nothing of it is lost unsaid.

use super::*;
use crate::convert::{Options, to_folder};

fn read(class: &str, more: Json) -> (&'static Family, Config) {
    of_json("said", &with(base(class), more)).expect("it is good")
}

/// What a GGUF file of it is read as.
fn back(family: &Family, config: &Config) -> Known {
    of_bytes("said", &gguf_of(family, config, |_, _| {})).expect("it is good")
}

fn number(family: &Family, config: &Config, key: &str) -> Option<f64> {
    family.describe(config).gguf.get(key).and_then(Value::float)
}

fn is(found: Option<f64>, expected: f64) {
    assert!(found.is_some_and(|found| (found - expected).abs() < 1e-6 * expected), "{found:?}, not {expected}");
}

#[test]
fn yarn_multiplies_by_the_same_in_both_forms() {
    let yarn = |more: Json| {
        let scaling = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
        json!({"rope_parameters": with(scaling, more)})
    };
    let (family, config) = read("LlamaForCausalLM", yarn(json!({"attention_factor": 1.3})));
    let usual = 0.1 * 4f64.ln() + 1.0;
    is(number(family, &config, "llama.rope.scaling.attn_factor"), 1.3 / usual);
    is(number(family, &config, "llama.rope.scaling.yarn_attn_factor"), 1.3);
    assert_eq!(back(family, &config).config, config);
    let of = |keys: &[(&str, Option<f32>)]| {
        let bytes = gguf_of(family, &config, |metadata, _| {
            *metadata = metadata
                .iter()
                .filter(|(key, _)| !key.ends_with("attn_factor"))
                .map(|(key, value)| (key.to_string(), value.clone()))
                .collect();
            for (key, value) in keys.iter().filter_map(|(key, value)| Some((key, (*value)?))) {
                metadata.set(format!("llama.rope.scaling.{key}"), Value::F32(value));
            }
        });
        match of_bytes("yarn", &bytes).expect("it is good").config.features.rope {
            RopeChange::Yarn { attention_factor, .. } => attention_factor.map(f64::from),
            other => panic!("{other:?}"),
        }
    };
    is(of(&[("attn_factor", Some(1.25))]), 1.25 * usual);
    is(of(&[("yarn_attn_factor", Some(1.4))]), 1.4);
    is(of(&[("attn_factor", Some(1.25)), ("yarn_attn_factor", Some(7.0))]), 1.25 * usual);
    assert_eq!(of(&[]), None);
    let (family, config) = read("LlamaForCausalLM", yarn(json!({"mscale": 0.7, "mscale_all_dim": 1.0})));
    let whole = (0.07 * 4f64.ln() + 1.0) / usual;
    is(number(family, &config, "llama.rope.scaling.yarn_attn_factor"), whole);
    for (more, expected) in [
        (yarn(json!({"truncate": false})), "its truncate is false"),
        (json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}), "its type \"dynamic\" is not supported"),
    ] {
        let error = of_json("said", &with(base("LlamaForCausalLM"), more)).expect_err(expected).to_string();
        assert!(error.contains(expected) && error.contains("would answer otherwise"), "{error}");
    }
}

#[test]
fn longrope_multiplies_by_the_same_in_both_forms() {
    let long = |more: Json| {
        let lists = json!({"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.5]});
        json!({"rope_parameters": with(lists, more), "original_max_position_embeddings": 16})
    };
    let key = "phi3.rope.scaling.attn_factor";
    for (more, expected) in [
        (json!({}), 1.5f64.sqrt()),
        (json!({"attention_factor": 1.1}), 1.1),
        (json!({"factor": 16.0}), 2f64.sqrt()),
        (json!({"original_max_position_embeddings": 999}), 1.5f64.sqrt()),
    ] {
        let (family, config) = read("Phi3ForCausalLM", long(more));
        is(number(family, &config, key), expected);
        assert_eq!(back(family, &config).config, config);
        let again = Json::Object(family.describe(&config).hugging_face);
        assert_eq!(of_json("long", &again).expect("it is good").1, config);
    }
    let (family, config) = read("Phi3ForCausalLM", json!({"rope_parameters": {"partial_rotary_factor": 0.5}}));
    assert_eq!(config.features.rotary_dim, Some(2));
    assert_eq!(back(family, &config).config, config);
}

#[test]
fn windows_come_back_and_0_is_none() {
    let (family, config) = read("MistralForCausalLM", json!({"sliding_window": 32}));
    let known = back(family, &config);
    assert_eq!((known.family.name, &known.config, known.warnings.len()), ("mistral", &config, 0));
    let left_out = family.left_out_elsewhere(&config);
    assert!(matches!(&left_out[..], [one] if one.contains("`llama.attention.sliding_window`")), "{left_out:?}");
    // Its class has a window where the configuration doesn't say that there is none.
    assert!(read("MistralForCausalLM", json!({})).1.features.sliding_window.is_some_and(|w| w.positions == 4096));
    let (family, config) = read("MistralForCausalLM", json!({"sliding_window": null}));
    assert_eq!(config.features.sliding_window, None);
    assert_eq!(family.describe(&config).hugging_face.get("sliding_window"), Some(&Json::Null));
    for (class, key) in [("MistralForCausalLM", "llama"), ("Phi3ForCausalLM", "phi3")] {
        let (family, config) = read(class, json!({"sliding_window": null}));
        let zero = |metadata: &mut Metadata, _: &mut Vec<_>| {
            metadata.set(format!("{key}.attention.sliding_window"), Value::U32(0));
        };
        let known = of_bytes("zero", &gguf_of(family, &config, zero)).expect("0 is none");
        assert_eq!((known.family.name, &known.config, known.warnings.len()), (key, &config, 0));
    }
    let (family, config) = read("Qwen2ForCausalLM", json!({}));
    let window = |metadata: &mut Metadata, _: &mut Vec<_>| {
        metadata.set("qwen2.attention.sliding_window", Value::U32(32));
    };
    let known = of_bytes("window", &gguf_of(family, &config, window)).expect("it is good");
    assert!(matches!(&known.warnings[..], [one] if one.contains("`qwen2.attention.sliding_window` is 32")));
}

#[test]
fn weights_of_experts_that_do_not_sum_to_1_stay_so() {
    let experts = json!({"num_experts": 1, "num_experts_per_tok": 1, "moe_intermediate_size": 6});
    for (more, normalized) in [(json!({}), false), (json!({"norm_topk_prob": true}), true)] {
        let (family, config) = read("Qwen3MoeForCausalLM", with(experts.clone(), more));
        assert!(config.features.experts.as_ref().is_some_and(|experts| experts.normalized == normalized));
        assert_eq!(back(family, &config).config, config);
        assert_eq!(family.left_out_elsewhere(&config).is_empty(), normalized);
    }
}

#[test]
fn what_gemmas_scale_and_cap_comes_back() {
    let sizes = json!({"head_dim": 8, "sliding_window": 32, "query_pre_attn_scalar": 20});
    for class in ["Gemma2ForCausalLM", "Gemma3ForCausalLM"] {
        let (family, config) = read(class, sizes.clone());
        is(number(family, &config, &format!("{}.attention.scale", family.name)), 1.0 / 20f64.sqrt());
        assert_eq!(back(family, &config).config, config);
        assert!(family.left_out_elsewhere(&config).iter().any(|one| one.contains("attention.scale")));
        let again = Json::Object(family.describe(&config).hugging_face);
        assert_eq!(again["query_pre_attn_scalar"], json!(20));
        // The largest models' is known by their size.
        for (layers, scalar, said) in [(46, 4, class.contains('3')), (62, 4, class.contains('2')), (2, 8, false)] {
            let more = json!({"num_hidden_layers": layers, "query_pre_attn_scalar": scalar});
            let (family, config) = read(class, with(sizes.clone(), more));
            let key = format!("{}.attention.scale", family.name);
            assert_eq!(number(family, &config, &key).is_some(), said, "{class} {layers}");
            assert_eq!(back(family, &config).config, config);
        }
    }
    let caps = json!({"attn_logit_softcapping": null, "final_logit_softcapping": null});
    let (family, config) = read("Gemma2ForCausalLM", with(sizes.clone(), caps));
    assert_eq!((config.features.score_cap, config.features.logit_cap), (None, None));
    let again = family.describe(&config).hugging_face;
    assert_eq!(again.get("attn_logit_softcapping"), Some(&Json::Null));
    assert_eq!(of_json("caps", &Json::Object(again)).expect("it is good").1, config);
    // Other programs have caps where a file doesn't say any.
    is(number(family, &config, "gemma2.attn_logit_softcapping"), 65_536.0);
    assert_eq!(back(family, &config).config, config);
    let silent = |metadata: &mut Metadata, _: &mut Vec<_>| {
        let said = metadata.iter().filter(|(key, _)| !key.ends_with("softcapping"));
        *metadata = said.map(|(key, value)| (key.to_string(), value.clone())).collect();
    };
    let silent = of_bytes("caps", &gguf_of(family, &config, silent)).expect("it is good").config.features;
    assert_eq!((silent.score_cap, silent.logit_cap), (Some(50.0), Some(30.0)));
    let (family, config) = read("Gemma3ForCausalLM", with(sizes.clone(), json!({"final_logit_softcapping": 5.0})));
    assert_eq!((config.features.logit_cap, &back(family, &config).config), (Some(5.0), &config));
    let (_, config) = read("Gemma2ForCausalLM", sizes);
    assert_eq!((config.features.score_cap, config.features.logit_cap), (Some(50.0), Some(30.0)));
}

#[test]
fn layers_with_a_window_have_a_base_of_their_own() {
    let of = |local: Json| {
        let sets = json!({"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": local});
        with(base("Gemma3ForCausalLM"), json!({"head_dim": 8, "rope_parameters": sets}))
    };
    let (family, config) = of_json("local", &of(json!({"rope_type": "default", "rope_theta": 5e3}))).expect("good");
    assert_eq!(config.features.sliding_window.as_ref().and_then(|window| window.rope_theta), Some(5e3));
    assert_eq!((config.rope_theta, &config.features.rope), (1e6, &RopeChange::Linear { factor: 8.0 }));
    assert_eq!(back(family, &config).config, config);
    let error = of_json("local", &of(json!({"rope_type": "linear", "factor": 4.0}))).expect_err("it is scaled");
    assert!(error.to_string().contains("its sliding_attention is of the type \"linear\""), "{error}");
}

#[test]
fn llama_3s_scaling_is_found_in_its_factors() {
    for (head_dim, theta, factor, low, high, original) in [
        (64, 5e5, 32.0, 1.0, 4.0, 8192),
        (32, 1e4, 4.0, 1.0, 2.0, 64),
        (128, 5e5, 8.0, 1.0, 4.0, 4096),
        (128, 5e5, 16.0, 2.0, 8.0, 16384),
        (128, 1e6, 40.0, 1.0, 3.5, 32768),
        (16, 1e4, 4.0, 1.0, 4.0, 128),
        (8, 1e4, 6.0, 1.0, 4.0, 512),
        (4, 1e4, 8.0, 1.0, 4.0, 1024),
    ] {
        let scaling = json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
            "high_freq_factor": high, "original_max_position_embeddings": original});
        let more = json!({"head_dim": head_dim, "rope_theta": theta, "rope_scaling": scaling});
        let (family, config) = read("LlamaForCausalLM", more);
        let known = back(family, &config).config;
        let of = |config: &Config| factors(&config.rope_scaling, config.rope_theta, config.head_dim());
        assert_eq!(known.features.rope, RopeChange::None, "{factor} {low} {high} {original}");
        for (a, b) in of(&config).iter().zip(of(&known)) {
            assert!((a - b).abs() <= 3e-5 * b, "{factor} {low} {high} {original}: {a} {b}");
        }
    }
    // What no such scaling makes can't be said in a folder.
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let (family, config) = read("LlamaForCausalLM", json!({"head_dim": 8, "rope_scaling": scaling}));
    let odd = gguf_of(family, &config, |_, tensors| {
        for (_, bytes) in tensors.iter_mut().filter(|(t, _)| t.name == "rope_freqs.weight") {
            *bytes = [1.0f32, 2.0, 1.5, 7.0].iter().flat_map(|n| n.to_le_bytes()).collect();
        }
    });
    let file = Temporary::new("odd.gguf", &odd);
    let open = gguf::File::open(&file.0).expect("it is whole");
    assert!(matches!(of_gguf(&open).expect("it is good").config.features.rope, RopeChange::Factors { .. }));
    let mut options = Options { to: None, begin: &mut |_| Ok(()), progress: &mut |_, _| true };
    let out = file.0.with_extension("folder");
    let error = to_folder(&open, &out, &mut options).expect_err("it can't be said").to_string();
    assert!(error.contains("`rope_freqs.weight`") && error.contains("help: ") && !out.exists(), "{error}");
}
