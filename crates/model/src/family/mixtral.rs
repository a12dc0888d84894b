//! Mixtral (arXiv 2401.04088): Llama with a mixture of experts. In GGUF it is a Llama with experts.
#![forbid(unsafe_code)]

use super::{Family, Key};
use crate::features::Experts;

/// How many experts there are.
pub(super) const EXPERTS: Key = Key("expert_count", "num_local_experts");
/// How many each token goes to.
pub(super) const EXPERTS_PER_TOKEN: Key = Key("expert_used_count", "num_experts_per_tok");

/// The weights of the chosen experts sum to 1.
pub static MIXTRAL: Family = Family {
    name: "mixtral",
    architecture: "llama",
    class: "MixtralForCausalLM",
    model_type: "mixtral",
    read: |config, source| {
        let (count, per_token) = (source.need(EXPERTS)?, source.need(EXPERTS_PER_TOKEN)?);
        let intermediate_size = config.intermediate_size;
        config.features.experts = Some(Experts { count, per_token, intermediate_size, normalized: true });
        Ok(())
    },
    write: |config, out| {
        if let Some(experts) = &config.features.experts {
            out.size(EXPERTS, experts.count);
            out.size(EXPERTS_PER_TOKEN, experts.per_token);
        }
    },
    names: &[
        ("ffn_gate_inp", "block_sparse_moe.gate"),
        ("ffn_gate_exps", "block_sparse_moe.experts.{expert}.w1"),
        ("ffn_down_exps", "block_sparse_moe.experts.{expert}.w2"),
        ("ffn_up_exps", "block_sparse_moe.experts.{expert}.w3"),
    ],
    permuted: true,
    norms_from_one: false,
    fused: false,
    unsaid: &[("num_key_value_heads", 8), ("rope_theta", 1_000_000)],
};
