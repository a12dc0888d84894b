//! Where a GGUF file and other programs don't say or do the same: keys that change nothing here, and models that other
//! programs compute otherwise.
#![forbid(unsafe_code)]

use super::{Family, gemma2};
use crate::config::Config;
use tensor::file::gguf::{self, Value};

/// Keys that change what models of other architectures compute, and the families whose files have them.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("attention.sliding_window", &["mistral", "gemma2", "gemma3", "phi3"]),
    ("attention.scale", &["gemma2", "gemma3"]),
    ("attention.clamp_kqv", &[]),
    ("attn_logit_softcapping", &["gemma2"]),
    ("final_logit_softcapping", &["gemma2", "gemma3"]),
    ("logit_scale", &[]),
    ("residual_scale", &[]),
    ("embedding_scale", &[]),
    ("expert_weights_scale", &[]),
    ("expert_shared_count", &[]),
    ("leading_dense_block_count", &[]),
    ("rope.scaling.yarn_ext_factor", &[]),
    ("rope.scaling.yarn_log_multiplier", &[]),
    ("rope.scaling.alpha", &[]),
    ("attention.causal", &[]),
];

/// Keys of a file that say something which models of its family don't have.
pub(super) fn not_read(family: &Family, file: &gguf::File) -> Vec<String> {
    let neutral = |value: &Value| {
        let number = value.float().or_else(|| value.unsigned().map(|whole| whole as f64));
        number.is_some_and(|number| number == 0.0 || number == 1.0) || value.flag() == Some(true)
    };
    let one = |(key, families): &(&str, &[&str])| {
        let name = format!("{}.{key}", family.architecture);
        let value = file.metadata().get(&name).filter(|value| !families.contains(&family.name) && !neutral(value))?;
        let value: String = value.to_string().chars().take(48).collect();
        Some(format!("`{name}` is {value}: models of the family {} have no such thing, so it isn't used", family.name))
    };
    ELSEWHERE.iter().filter_map(one).collect()
}

impl Family {
    /// What of a model llama.cpp and programs made of it leave out, although a GGUF file says it.
    pub fn left_out_elsewhere(&self, config: &Config) -> Vec<String> {
        let features = &config.features;
        let mut all = Vec::new();
        let mut tell = |key: &str, what: String| {
            let key = format!("{}.{key}", self.architecture);
            all.push(format!("{what}: the file says it as `{key}`, which llama.cpp doesn't heed in such models"));
        };
        if let Some(window) = features.sliding_window.as_ref().filter(|window| window.positions < config.max_context)
            && !self.name.starts_with("gemma")
        {
            tell("attention.sliding_window", format!("layers see the last {} positions alone", window.positions));
        }
        if features.experts.as_ref().is_some_and(|experts| !experts.normalized) {
            tell("expert_weights_norm", "the experts' weights aren't made to sum to 1 (norm_topk_prob)".into());
        }
        if self.name.starts_with("gemma") && !gemma2::is_by_size(config) {
            let scale = features.score_scale.unwrap_or_else(|| 1.0 / (config.head_dim() as f32).sqrt());
            tell("attention.scale", format!("scores are multiplied by {scale} (query_pre_attn_scalar)"));
        }
        if self.name == "gemma2" && !config.tied_embeddings {
            all.push("the head has a tensor of its own: llama.cpp reads no such file of this family".into());
        }
        all
    }
}
