//! Which element type each tensor of a model gets: llama.cpp's choices, so that files of both are alike.
#![forbid(unsafe_code)]

use crate::DType;
use crate::Shape;

/// A way to quantize a whole model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Every weight matrix in one type, blocks or plain.
    Pure(DType),
    /// 4 bits in blocks of 32.
    Q4_0,
    /// 8 bits in blocks of 32.
    Q8_0,
    /// 4 bits in blocks of 256; few tensors get 5.
    Q4KSmall,
    /// 4 bits in blocks of 256; half of `attn_v` and `ffn_down` get 6.
    Q4KMedium,
    /// 5 bits in blocks of 256; half of `attn_v` and `ffn_down` get 6.
    Q5KMedium,
    /// 6 bits in blocks of 256.
    Q6K,
}

/// The recipes with their names, and their numbers in `general.file_type`.
const NAMED: &[(&str, Recipe, u32)] = &[
    ("f32", Recipe::Pure(DType::F32), 0),
    ("f16", Recipe::Pure(DType::F16), 1),
    ("bf16", Recipe::Pure(DType::Bf16), 32),
    ("q4_0", Recipe::Q4_0, 2),
    ("q8_0", Recipe::Q8_0, 7),
    ("q4_k_s", Recipe::Q4KSmall, 14),
    ("q4_k_m", Recipe::Q4KMedium, 15),
    ("q5_k_m", Recipe::Q5KMedium, 17),
    ("q6_k", Recipe::Q6K, 18),
];

/// `general.file_type` of files whose weight matrices all have one type.
const PURE: &[(DType, u32)] = &[
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 7),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q2_K, 10),
    (DType::Q3_K, 11),
    (DType::Q4_K, 14),
    (DType::Q5_K, 16),
    (DType::Q6_K, 18),
    (DType::Iq4Nl, 25),
    (DType::Iq4Xs, 30),
    (DType::Bf16, 32),
    (DType::Mxfp4, 38),
];

impl Recipe {
    /// The names of all.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name)
    }

    /// The recipe of a name, upper or lower case.
    pub fn of_name(name: &str) -> Option<Recipe> {
        NAMED.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)).map(|(_, recipe, _)| *recipe)
    }

    /// Its name; of a pure one, its type's.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::Pure(dtype) => dtype.name(),
            _ => NAMED.iter().find(|(_, recipe, _)| *recipe == self).map_or("", |(name, ..)| name),
        }
    }

    /// What `general.file_type` says of its files; `None` for a type that llama.cpp has no number for.
    pub fn file_type(self) -> Option<u32> {
        match self {
            Recipe::Pure(dtype) => PURE.iter().find(|(known, _)| *known == dtype).map(|(_, number)| *number),
            _ => NAMED.iter().find(|(_, recipe, _)| *recipe == self).map(|(.., number)| *number),
        }
    }

    /// The type that most matrices get.
    fn base(self) -> DType {
        match self {
            Recipe::Pure(dtype) => dtype,
            Recipe::Q4_0 => DType::Q4_0,
            Recipe::Q8_0 => DType::Q8_0,
            Recipe::Q4KSmall | Recipe::Q4KMedium => DType::Q4_K,
            Recipe::Q5KMedium => DType::Q5_K,
            Recipe::Q6K => DType::Q6_K,
        }
    }
}

/// What of a model the choice depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `general.architecture`.
    pub architecture: String,
    /// `block_count`.
    pub num_layers: usize,
    /// `attention.head_count`.
    pub num_heads: usize,
    /// `attention.head_count_kv`.
    pub num_kv_heads: usize,
    /// `expert_count`; 0 without experts.
    pub num_experts: usize,
    /// Whether there is an importance matrix.
    pub importance: bool,
}

/// A tensor of the model: its name, its type now, and its sizes, outermost first.
pub type Tensor<'a> = (&'a str, DType, &'a Shape);

/// What a tensor becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// The type.
    pub dtype: DType,
    /// The type that the recipe means it to have; another where its rows are no whole blocks of that.
    pub wanted: DType,
}

/// The type of each tensor in the quantized file, in the order given.
pub fn types(recipe: Recipe, facts: &Facts, tensors: &[Tensor]) -> Vec<DType> {
    choose(recipe, facts, tensors).iter().map(|chosen| chosen.dtype).collect()
}

/// What each tensor becomes, in the order given.
pub fn choose(recipe: Recipe, facts: &Facts, tensors: &[Tensor]) -> Vec<Chosen> {
    let mut choice = Choice {
        recipe,
        facts,
        tied: !tensors.iter().any(|(name, ..)| *name == "output.weight"),
        values: tensors.iter().filter(|(name, ..)| Role::of(name) == Role::Value).count(),
        values_seen: 0,
        down_seen: 0,
    };
    // Layers are counted in the order of their numbers, whatever the file's order is.
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|place| tensors.get(*place).map(|(name, ..)| (layer_of(name), *name)));
    let mut chosen: Vec<_> = tensors.iter().map(|(_, dtype, _)| Chosen { dtype: *dtype, wanted: *dtype }).collect();
    for place in order {
        let (Some((name, dtype, shape)), Some(out)) = (tensors.get(place), chosen.get_mut(place)) else { continue };
        if is_quantized(name, shape) && dtype.is_float() {
            *out = choice.of(name, shape);
        } else if shape.len() < 2 && matches!(dtype, DType::F16 | DType::Bf16) {
            // llama.cpp computes with vectors in f32 alone.
            *out = Chosen { dtype: DType::F32, wanted: DType::F32 };
        }
    }
    chosen
}

/// What a tensor is for, as far as the choice cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Output,
    Embedding,
    /// Values, alone or with what they are fused with.
    Value,
    Key,
    AttentionOutput,
    Down,
    Other,
}

impl Role {
    fn of(name: &str) -> Role {
        let has = |part: &str| name.contains(part);
        match name {
            "output.weight" => Role::Output,
            "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
            _ if has("attn_qkv.weight") || has("attn_kv_b.weight") || has("attn_v.weight") => Role::Value,
            _ if has("attn_k.weight") => Role::Key,
            _ if has("attn_q.weight") => Role::Other,
            _ if has("attn_output.weight") => Role::AttentionOutput,
            _ if has("ffn_up") || has("ffn_gate") => Role::Other,
            _ if has("ffn_down") => Role::Down,
            _ => Role::Other,
        }
    }
}

/// The number in `blk.N.`; -1 for tensors of no layer.
fn layer_of(name: &str) -> i64 {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
    number.and_then(|number| number.parse::<u32>().ok()).map_or(-1, i64::from)
}

/// Parts of the names of small matrices that stay as they are.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
    ".position_embd",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
];

/// Whether a tensor is a weight matrix, or several, of those that are quantized.
fn is_quantized(name: &str, shape: &Shape) -> bool {
    // Sizes of 1 in front are no dimensions.
    let dimensions = shape.len() - shape.iter().take_while(|size| **size == 1).count().min(shape.len());
    dimensions >= 2
        && name.ends_with("weight")
        && name != "position_embd.weight"
        && name != "token_types.weight"
        && !KEPT.iter().any(|part| name.contains(part))
}

/// The first and the last eighth of the layers, and every third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

struct Choice<'a> {
    recipe: Recipe,
    facts: &'a Facts,
    tied: bool,
    values: usize,
    values_seen: usize,
    down_seen: usize,
}

impl Choice<'_> {
    fn of(&mut self, name: &str, shape: &Shape) -> Chosen {
        let columns = shape.iter().next_back().copied().unwrap_or(0);
        let wanted = match self.recipe {
            Recipe::Pure(dtype) => dtype,
            _ => self.wanted(name, columns),
        };
        Chosen { dtype: fallback(wanted, columns), wanted }
    }

    fn wanted(&mut self, name: &str, columns: usize) -> DType {
        let base = self.recipe.base();
        let falcon = self.facts.architecture == "falcon";
        match Role::of(name) {
            Role::Output => self.output(columns),
            Role::Embedding if self.tied => self.output(columns),
            Role::Value => self.value(),
            Role::Key if self.facts.num_experts == 8 => DType::Q8_0,
            Role::AttentionOutput if self.facts.num_experts == 8 && !falcon => match self.recipe {
                Recipe::Q4KSmall | Recipe::Q4KMedium => DType::Q5_K,
                _ => base,
            },
            Role::Down => self.down(name),
            _ => base,
        }
    }

    fn output(&self, columns: usize) -> DType {
        let base = self.recipe.base();
        let whole = columns.is_multiple_of(base.block_elements());
        match base {
            _ if self.facts.architecture == "falcon" || !whole => DType::Q8_0,
            DType::Q8_0 => DType::Q8_0,
            _ => DType::Q6_K,
        }
    }

    fn value(&mut self) -> DType {
        let seen = self.values_seen;
        self.values_seen += 1;
        let dtype = match self.recipe {
            Recipe::Q4KMedium | Recipe::Q5KMedium if more_bits(seen, self.values) => DType::Q6_K,
            Recipe::Q4KSmall if seen < 4 => DType::Q5_K,
            _ => self.recipe.base(),
        };
        match dtype {
            _ if self.facts.num_experts == 8 => DType::Q8_0,
            DType::Q4_K if self.is_70b() => DType::Q5_K,
            dtype => dtype,
        }
    }

    /// Whether it is a model of 80 layers whose few values are shared by many heads.
    fn is_70b(&self) -> bool {
        let facts = self.facts;
        match facts.architecture.as_str() {
            "llama" => facts.num_layers == 80 && facts.num_heads != facts.num_kv_heads,
            "qwen2" | "olmo" | "deci" => facts.num_layers == 80,
            "jais2" => facts.num_layers == 68,
            _ => false,
        }
    }

    fn down(&mut self, name: &str) -> DType {
        let (seen, layers) = (self.down_seen, self.facts.num_layers);
        self.down_seen += 1;
        // With experts there may be several of a layer.
        let layer = if self.facts.num_experts > 1 { usize::try_from(layer_of(name)).unwrap_or(seen) } else { seen };
        let falcon = self.facts.architecture == "falcon";
        match self.recipe {
            Recipe::Q4KMedium if falcon && layer < layers / 16 => DType::Q6_K,
            Recipe::Q4KMedium if falcon && more_bits(layer, layers) => DType::Q5_K,
            Recipe::Q4KMedium if falcon => DType::Q4_K,
            Recipe::Q4KMedium | Recipe::Q5KMedium if more_bits(layer, layers) => DType::Q6_K,
            Recipe::Q4KSmall if !falcon && layer < layers / 8 => DType::Q5_K,
            // With an importance matrix the first layers go astray in q4_0.
            Recipe::Q4_0 if self.facts.importance && layer < layers / 8 => DType::Q4_1,
            _ => self.recipe.base(),
        }
    }
}

/// The type for rows that a type's blocks don't fill.
fn fallback(dtype: DType, columns: usize) -> DType {
    if columns.is_multiple_of(dtype.block_elements()) {
        return dtype;
    }
    let smaller = match dtype {
        DType::Q2_K | DType::Q3_K => DType::Q4_0,
        DType::Q4_K => DType::Q5_0,
        DType::Q5_K => DType::Q5_1,
        DType::Q6_K => DType::Q8_0,
        DType::Iq4Xs => DType::Iq4Nl,
        _ => dtype,
    };
    if columns.is_multiple_of(smaller.block_elements()) { smaller } else { DType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sizes = (usize, usize, usize, usize, usize, usize, bool);

    /// Layers, width, heads, heads of keys and values, feed-forward width, vocabulary, tied.
    fn model((layers, hidden, heads, kv, ffn, vocab, tied): Sizes) -> (Facts, Vec<(String, Shape)>) {
        let (facts, head) = (
            Facts {
                architecture: "qwen2".into(),
                num_layers: layers,
                num_heads: heads,
                num_kv_heads: kv,
                ..Facts::default()
            },
            hidden / heads,
        );
        let mut tensors = vec![("token_embd.weight".to_string(), Shape::from([vocab, hidden]))];
        tensors.push(("output_norm.weight".into(), Shape::from([hidden])));
        if !tied {
            tensors.push(("output.weight".into(), Shape::from([vocab, hidden])));
        }
        for layer in 0..layers {
            let mut add = |name: &str, shape: &[usize]| tensors.push((format!("blk.{layer}.{name}"), shape.into()));
            add("attn_norm.weight", &[hidden]);
            add("attn_q.weight", &[heads * head, hidden]);
            add("attn_q.bias", &[heads * head]);
            add("attn_k.weight", &[kv * head, hidden]);
            add("attn_v.weight", &[kv * head, hidden]);
            add("attn_output.weight", &[hidden, heads * head]);
            add("ffn_gate.weight", &[ffn, hidden]);
            add("ffn_up.weight", &[ffn, hidden]);
            add("ffn_down.weight", &[hidden, ffn]);
        }
        (facts, tensors)
    }

    fn chosen(recipe: Recipe, facts: &Facts, tensors: &[(String, Shape)]) -> Vec<(String, DType)> {
        let plain = |name: &str, shape: &Shape| {
            if name.ends_with(".bias") || shape.len() < 2 { DType::F32 } else { DType::F16 }
        };
        let list: Vec<Tensor> = tensors.iter().map(|(n, s)| (n.as_str(), plain(n, s), s)).collect();
        tensors.iter().map(|(name, _)| name.clone()).zip(types(recipe, facts, &list)).collect()
    }

    /// What the four Qwen2.5 sizes have in q4_k_m: layers whose `attn_v` and `ffn_down` have more bits, and which types.
    #[test]
    fn q4_k_m_of_four_sizes() {
        let less = [DType::Q4_K, DType::Q5_0];
        let more = [DType::Q6_K, DType::Q8_0];
        let sizes: [Sizes; 4] = [
            (24, 896, 14, 2, 4864, 151936, true),
            (28, 1536, 12, 2, 8960, 151936, true),
            (28, 3584, 28, 4, 18944, 152064, false),
            (64, 5120, 40, 8, 27648, 152064, false),
        ];
        let extra: [&[usize]; 4] = [
            &[0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23],
            &[0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27],
            &[0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27],
            &[
                0, 1, 2, 3, 4, 5, 6, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 37, 40, 43, 46, 49, 52, 55, 56, 57, 58, 59,
                60, 61, 62, 63,
            ],
        ];
        for (sizes, extra) in sizes.into_iter().zip(extra) {
            let (facts, tensors) = model(sizes);
            let (hidden, ffn, tied) = (sizes.1, sizes.4, sizes.6);
            // Rows that no block of 256 fills fall back to blocks of 32.
            let kind = |types: [DType; 2], columns: usize| types[usize::from(!columns.is_multiple_of(256))];
            for (name, dtype) in chosen(Recipe::Q4KMedium, &facts, &tensors) {
                let layer = layer_of(&name);
                let bits = if usize::try_from(layer).is_ok_and(|layer| extra.contains(&layer)) { more } else { less };
                let expected = match name.rsplit_once("blk.").map_or(name.as_str(), |(_, rest)| rest) {
                    "token_embd.weight" => kind(if tied { more } else { less }, hidden),
                    "output.weight" => DType::Q6_K,
                    rest if rest.contains("norm") || rest.contains("bias") => DType::F32,
                    rest if rest.contains("attn_v") => kind(bits, hidden),
                    rest if rest.contains("ffn_down") => kind(bits, ffn),
                    _ => kind(less, hidden),
                };
                assert_eq!(dtype, expected, "{name} of {sizes:?}");
            }
        }
    }

    fn of(recipe: Recipe, facts: &Facts, tensors: &[(String, Shape)], name: &str) -> DType {
        chosen(recipe, facts, tensors).into_iter().find(|(n, _)| n == name).expect("it is there").1
    }

    #[test]
    fn the_other_recipes() {
        let (facts, tensors) = model((32, 4096, 32, 8, 14336, 128256, false));
        let is = |recipe, name, expected| assert_eq!(of(recipe, &facts, &tensors, name), expected, "{recipe:?} {name}");
        for (recipe, base) in [(Recipe::Q4_0, DType::Q4_0), (Recipe::Q6K, DType::Q6_K), (Recipe::Q8_0, DType::Q8_0)] {
            for name in ["token_embd.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight", "blk.9.attn_q.weight"] {
                is(recipe, name, base);
            }
        }
        is(Recipe::Q4_0, "output.weight", DType::Q6_K);
        is(Recipe::Q8_0, "output.weight", DType::Q8_0);
        is(Recipe::Q5KMedium, "output.weight", DType::Q6_K);
        is(Recipe::Q5KMedium, "blk.4.attn_v.weight", DType::Q5_K);
        is(Recipe::Q5KMedium, "blk.6.attn_v.weight", DType::Q6_K);
        is(Recipe::Q5KMedium, "blk.6.ffn_down.weight", DType::Q6_K);
        is(Recipe::Q4KSmall, "blk.3.attn_v.weight", DType::Q5_K);
        is(Recipe::Q4KSmall, "blk.4.attn_v.weight", DType::Q4_K);
        is(Recipe::Q4KSmall, "blk.3.ffn_down.weight", DType::Q5_K);
        is(Recipe::Q4KSmall, "blk.4.ffn_down.weight", DType::Q4_K);
        is(Recipe::Pure(DType::F16), "output_norm.weight", DType::F32);
        is(Recipe::Pure(DType::Iq4Nl), "output.weight", DType::Iq4Nl);
        let important = Facts { importance: true, ..facts.clone() };
        assert_eq!(of(Recipe::Q4_0, &important, &tensors, "blk.3.ffn_down.weight"), DType::Q4_1);
        assert_eq!(of(Recipe::Q4_0, &important, &tensors, "blk.4.ffn_down.weight"), DType::Q4_0);
    }

    #[test]
    fn vectors_in_16_bits_become_f32() {
        let (vector, router, table): (Shape, Shape, Shape) = ([64].into(), [4, 64].into(), [64, 64].into());
        let tensors = [
            ("output_norm.weight", DType::Bf16, &vector),
            ("blk.0.attn_q.bias", DType::F16, &vector),
            ("blk.0.ffn_gate_inp.weight", DType::Bf16, &router),
            ("position_embd.weight", DType::F16, &table),
            ("token_types", DType::I32, &vector),
        ];
        for recipe in [Recipe::Q4KMedium, Recipe::Pure(DType::Bf16)] {
            let made = types(recipe, &Facts::default(), &tensors);
            assert_eq!(made, [DType::F32, DType::F32, DType::Bf16, DType::F16, DType::I32], "{recipe:?}");
        }
    }

    #[test]
    fn models_with_their_own_rules() {
        let (facts, tensors) = model((80, 8192, 64, 8, 28672, 128256, false));
        for architecture in ["llama", "qwen2"] {
            let facts = Facts { architecture: architecture.into(), ..facts.clone() };
            assert_eq!(of(Recipe::Q4KMedium, &facts, &tensors, "blk.10.attn_v.weight"), DType::Q5_K);
            assert_eq!(of(Recipe::Q4KMedium, &facts, &tensors, "blk.12.attn_v.weight"), DType::Q6_K);
        }
        let all_heads = Facts { architecture: "llama".into(), num_kv_heads: 64, ..facts };
        assert_eq!(of(Recipe::Q4KMedium, &all_heads, &tensors, "blk.10.attn_v.weight"), DType::Q4_K);
        let mixtral = Facts { architecture: "llama".into(), num_layers: 32, num_experts: 8, ..Facts::default() };
        let shape = Shape::from([1024, 4096]);
        let mut tensors = vec![("output.weight".to_string(), shape.clone())];
        // Out of order in the file: the layer is the name's.
        for layer in [5, 0, 31] {
            for name in ["attn_k.weight", "attn_v.weight", "attn_output.weight", "ffn_gate_inp.weight"] {
                tensors.push((format!("blk.{layer}.{name}"), shape.clone()));
            }
            tensors.push((format!("blk.{layer}.ffn_down_exps.weight"), Shape::from([8, 1024, 4096])));
        }
        let is = |name, expected| assert_eq!(of(Recipe::Q4KMedium, &mixtral, &tensors, name), expected, "{name}");
        is("blk.5.attn_k.weight", DType::Q8_0);
        is("blk.5.attn_v.weight", DType::Q8_0);
        is("blk.5.attn_output.weight", DType::Q5_K);
        is("blk.5.ffn_gate_inp.weight", DType::F16);
        is("blk.0.ffn_down_exps.weight", DType::Q6_K);
        is("blk.5.ffn_down_exps.weight", DType::Q4_K);
        is("blk.31.ffn_down_exps.weight", DType::Q6_K);
    }

    #[test]
    fn rows_that_no_block_fills() {
        for (dtype, of_32, of_none) in [
            (DType::Q2_K, DType::Q4_0, DType::F16),
            (DType::Q4_K, DType::Q5_0, DType::F16),
            (DType::Q5_K, DType::Q5_1, DType::F16),
            (DType::Q6_K, DType::Q8_0, DType::F16),
            (DType::Iq4Xs, DType::Iq4Nl, DType::F16),
            (DType::Q4_0, DType::Q4_0, DType::F16),
        ] {
            assert_eq!([fallback(dtype, 512), fallback(dtype, 96), fallback(dtype, 100)], [dtype, of_32, of_none]);
        }
        for name in Recipe::names() {
            let recipe = Recipe::of_name(name).expect("it is named");
            assert_eq!((recipe.name(), recipe.file_type().is_some()), (name, true));
        }
    }
}
