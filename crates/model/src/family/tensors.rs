//! The tensors of a model: their names in GGUF and in Hugging Face's files, their shapes, and how the two differ.
#![forbid(unsafe_code)]

use super::Family;
use crate::config::Config;
use crate::features::RopeChange;
use std::collections::HashSet;
use tensor::Shape;
use tensor::file::{Error, Tensors, printable};

/// A file's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// GGUF.
    Gguf,
    /// Safetensors with Hugging Face's names.
    HuggingFace,
}

/// What becomes of numbers between Hugging Face's files and GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// The rows of each of so many heads are put from halves, (0 .. d/2, d/2 .. d), to pairs (0, d/2, 1, d/2 + 1, ...).
    Paired {
        /// How many heads.
        heads: usize,
    },
    /// 1 is added.
    PlusOne,
}

/// A tensor that a model has.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Its name in GGUF.
    pub gguf: String,
    /// Its name in Hugging Face's files; several where it is theirs stacked; none where it isn't there.
    pub hugging_face: Vec<String>,
    /// Its sizes in GGUF, outermost first.
    pub shape: Vec<usize>,
    /// Whether each of Hugging Face's is a part of the first size, also where there is only one.
    pub stacked: bool,
    /// What becomes of its numbers.
    pub change: Change,
    /// Whether a model may do without it.
    pub optional: bool,
}

/// Hugging Face's names by GGUF's, within a layer and without.
const NAMES: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_up", "mlp.gate_up_proj"),
];

/// Gathers the tensors of a model.
struct List<'a> {
    family: &'a Family,
    out: Vec<Expected>,
    layer: Option<usize>,
}

impl List<'_> {
    /// The weight `role`; norms are changed where the family's are.
    fn weight(&mut self, role: &str, shape: &[usize], change: Change) {
        self.add(role, role, "weight", shape, change, 1);
    }

    fn norm(&mut self, role: &str, size: usize) {
        self.weight(role, &[size], if self.family.norms_from_one { Change::PlusOne } else { Change::None });
    }

    fn linear(&mut self, role: &str, shape: [usize; 2], bias: bool, change: Change) {
        self.weight(role, &shape, change);
        if bias {
            self.add(role, role, "bias", &shape[..1], change, 1);
        }
    }

    /// `role` is GGUF's name, `named` the one that Hugging Face's is found by; `experts` of theirs are stacked in it.
    fn add(&mut self, role: &str, named: &str, part: &str, shape: &[usize], change: Change, experts: usize) {
        let find =
            |names: &[(&str, &'static str)]| names.iter().find(|(gguf, _)| *gguf == named).map(|(_, name)| *name);
        let name = find(self.family.names).or_else(|| find(NAMES)).unwrap_or_default();
        let (gguf, prefix) = match self.layer {
            Some(layer) => (format!("blk.{layer}.{role}.{part}"), format!("model.layers.{layer}.")),
            None => (format!("{role}.{part}"), String::new()),
        };
        let name = format!("{prefix}{name}.{part}");
        let hugging_face = (0..experts).map(|expert| name.replace("{expert}", &expert.to_string())).collect();
        self.out.push(Expected { gguf, hugging_face, shape: shape.into(), stacked: false, change, optional: false });
    }

    /// A tensor of GGUF files alone, which Hugging Face's have in the configuration.
    fn table(&mut self, name: &str, size: usize, optional: bool) {
        let (gguf, shape) = (format!("{name}.weight"), vec![size]);
        self.out.push(Expected {
            gguf,
            hugging_face: Vec::new(),
            shape,
            stacked: false,
            change: Change::None,
            optional,
        });
    }

    fn attention(&mut self, config: &Config) {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (heads, kv_heads) = (config.num_heads, config.kv_heads());
        let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
        let bias = config.attention_bias || config.features.qkv_bias;
        let paired = |heads| if self.family.permuted { Change::Paired { heads } } else { Change::None };
        let (queries, keys) = (paired(heads), paired(kv_heads));
        if self.family.fused {
            self.linear("attn_qkv", [wide + 2 * narrow, hidden], bias, Change::None);
        } else {
            self.linear("attn_q", [wide, hidden], bias, queries);
            self.linear("attn_k", [narrow, hidden], bias, keys);
            self.linear("attn_v", [narrow, hidden], bias, Change::None);
        }
        self.linear("attn_output", [hidden, wide], config.attention_bias, Change::None);
        if config.features.qk_norm {
            self.norm("attn_q_norm", head_dim);
            self.norm("attn_k_norm", head_dim);
        }
    }

    fn mlp(&mut self, config: &Config) {
        let (hidden, wide, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
        if let Some(experts) = &config.features.experts {
            let (count, wide) = (experts.count, experts.intermediate_size);
            self.weight("ffn_gate_inp", &[count, hidden], Change::None);
            for (role, shape) in
                [("ffn_gate_exps", [wide, hidden]), ("ffn_up_exps", [wide, hidden]), ("ffn_down_exps", [hidden, wide])]
            {
                self.add(role, role, "weight", &[count, shape[0], shape[1]], Change::None, count);
                self.out.iter_mut().last().into_iter().for_each(|added| added.stacked = true);
            }
            return;
        }
        if self.family.fused {
            self.add("ffn_up", "ffn_gate_up", "weight", &[2 * wide, hidden], Change::None, 1);
        } else {
            self.linear("ffn_gate", [wide, hidden], bias, Change::None);
            self.linear("ffn_up", [wide, hidden], bias, Change::None);
        }
        self.linear("ffn_down", [hidden, wide], bias, Change::None);
    }
}

impl Family {
    /// The tensors of a model of this family, in the order in which files usually have them.
    pub fn tensors(&self, config: &Config) -> Vec<Expected> {
        let mut list = List { family: self, out: Vec::new(), layer: None };
        let hidden = config.hidden_size;
        list.weight("token_embd", &[config.vocab_size, hidden], Change::None);
        list.norm("output_norm", hidden);
        if !config.tied_embeddings {
            list.weight("output", &[config.vocab_size, hidden], Change::None);
        }
        let pairs = config.features.rotary_dim.unwrap_or(config.head_dim()) / 2;
        if config.rope_scaling.factor != 1.0 || matches!(config.features.rope, RopeChange::Factors { .. }) {
            list.table("rope_freqs", pairs, false);
        }
        if let RopeChange::LongRope { .. } = config.features.rope {
            list.table("rope_factors_long", pairs, false);
            list.table("rope_factors_short", pairs, false);
        }
        for layer in 0..config.num_layers {
            list.layer = Some(layer);
            list.norm("attn_norm", hidden);
            list.norm("ffn_norm", hidden);
            list.attention(config);
            list.mlp(config);
            if config.features.post_norms {
                list.norm("post_attention_norm", hidden);
                list.norm("post_ffw_norm", hidden);
            }
        }
        list.out
    }

    /// Checks that every tensor that the model needs is there with its shape; answers what is there beyond them.
    ///
    /// # Errors
    /// Which tensor is missing or of another shape.
    pub fn check(&self, config: &Config, tensors: &Tensors, form: Form) -> Result<Vec<String>, Error> {
        let mut known = HashSet::new();
        let help = "get a whole file of this model, or convert the original model again";
        let expected = self.tensors(config);
        for tensor in &expected {
            let (names, shape) = match form {
                Form::Gguf => (std::slice::from_ref(&tensor.gguf), &tensor.shape[..]),
                Form::HuggingFace if tensor.stacked => (&tensor.hugging_face[..], &tensor.shape[1..]),
                Form::HuggingFace => (&tensor.hugging_face[..], &tensor.shape[..]),
            };
            for name in names {
                known.insert(name.as_str());
                match tensors.get(name) {
                    None if tensor.optional => {}
                    None => return Err(tensors.error(name, "it is missing, and the model needs it", help)),
                    Some((found, _)) if *found.shape != *shape => {
                        let what = format!("its sizes are {}; the model's are {}", found.shape, Shape::from(shape));
                        return Err(tensors.error(name, what, help));
                    }
                    Some(_) => {}
                }
            }
        }
        let tied = |name: &str| config.tied_embeddings && name == "lm_head.weight";
        let harmless = |name: &str| tied(name) || name.ends_with(".rotary_emb.inv_freq");
        let extra: Vec<_> = tensors
            .iter()
            .map(|(tensor, _)| tensor.name.as_str())
            .filter(|n| !known.contains(n) && !harmless(n))
            .collect();
        Ok(match extra.as_slice() {
            [] => Vec::new(),
            [one] => vec![format!("tensor `{}` is not one of the model's", printable(one))],
            [first, ..] => vec![format!("{} tensors are not the model's, such as `{}`", extra.len(), printable(first))],
        })
    }
}
