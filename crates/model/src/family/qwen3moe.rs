//! Qwen 3 with a mixture of experts (arXiv 2505.09388).
#![forbid(unsafe_code)]

use super::mixtral::EXPERTS_PER_TOKEN;
use super::{Family, Key, Source};
use crate::features::Experts;

const EXPERTS: Key = Key("expert_count", "num_experts");
/// As version 5 of transformers calls it.
const LOCAL_EXPERTS: Key = Key("expert_count", "num_local_experts");
const WIDTH: Key = Key("expert_feed_forward_length", "moe_intermediate_size");
const NORMALIZED: Key = Key("expert_weights_norm", "norm_topk_prob");

/// GGUF files needn't say whether weights sum to 1: they do in every published model, and in other programs.
pub static QWEN3MOE: Family = Family {
    name: "qwen3moe",
    architecture: "qwen3moe",
    class: "Qwen3MoeForCausalLM",
    model_type: "qwen3_moe",
    read: |config, source| {
        let count = if source.has(EXPERTS) { EXPERTS } else { LOCAL_EXPERTS };
        let (count, per_token) = (source.need(count)?, source.need(EXPERTS_PER_TOKEN)?);
        // Hugging Face's class takes false where it isn't said.
        let normalized = source.flag(NORMALIZED)?.unwrap_or(matches!(source, Source::Gguf { .. }));
        config.features.experts =
            Some(Experts { count, per_token, intermediate_size: source.need(WIDTH)?, normalized });
        config.features.qk_norm = true;
        Ok(())
    },
    write: |config, out| {
        if let Some(experts) = &config.features.experts {
            out.size(EXPERTS, experts.count);
            out.size(EXPERTS_PER_TOKEN, experts.per_token);
            out.size(WIDTH, experts.intermediate_size);
            out.flag(Key("", NORMALIZED.1), experts.normalized);
            if !experts.normalized {
                out.flag(Key(NORMALIZED.0, ""), false);
            }
        }
    },
    names: &[
        ("ffn_gate_inp", "mlp.gate"),
        ("ffn_gate_exps", "mlp.experts.{expert}.gate_proj"),
        ("ffn_down_exps", "mlp.experts.{expert}.down_proj"),
        ("ffn_up_exps", "mlp.experts.{expert}.up_proj"),
    ],
    permuted: false,
    norms_from_one: false,
    fused: false,
    unsaid: &[("num_key_value_heads", 4)],
};
