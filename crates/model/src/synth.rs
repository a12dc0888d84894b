//! Model files with random weights: the exact shapes, types and sizes of a published model, for tests of speed and size.
#![forbid(unsafe_code)]

use crate::config::Config;
use crate::family::{Expected, Family, factors};
use std::collections::HashMap;
use std::io::{self, Write};
use tensor::DType;
use tensor::file::gguf::{self, Array, Metadata, Planned, Value};
use tensor::quant::recipe::{self, Facts, Recipe};
use tensor::rng::Philox;

/// Blocks of random numbers, repeated: a prime, and more than a vocabulary has rows, so that no two rows are the same.
const POOL_BLOCKS: usize = 200_003;
/// Blocks that a tensor begins after the one before it.
const STRIDE: usize = 7919;
/// Bytes of a piece at most.
const PIECE: usize = 8 << 20;
/// What weights are like: normal, with this standard deviation.
const DEVIATION: f32 = 0.02;

/// A file that is to be made.
pub struct Synth {
    /// Its keys.
    pub metadata: Metadata,
    /// Its tensors.
    pub planned: Vec<Planned>,
    factors: Vec<f32>,
    seed: u64,
}

impl Synth {
    /// Of a model's shape, with the types that a recipe chooses. `vocabulary` is a file whose tokenizer it gets, padded to
    /// the model's size; without one it has none.
    ///
    /// # Errors
    /// When the vocabulary has more tokens than the model, or none.
    pub fn new(
        name: &str,
        family: &Family,
        config: &Config,
        recipe: Recipe,
        vocabulary: Option<&gguf::File>,
        seed: u64,
    ) -> Result<Synth, String> {
        let expected = family.tensors(config);
        let plain = |tensor: &Expected| Planned {
            name: tensor.gguf.clone(),
            dtype: DType::F32,
            shape: tensor.shape.clone().into(),
        };
        let mut planned: Vec<Planned> = expected.iter().map(plain).collect();
        let facts = Facts {
            architecture: family.architecture.into(),
            num_layers: config.num_layers,
            num_heads: config.num_heads,
            num_kv_heads: config.kv_heads(),
            num_experts: config.features.experts.as_ref().map_or(0, |experts| experts.count),
            importance: false,
        };
        let tensors: Vec<recipe::Tensor> = planned.iter().map(|t| (t.name.as_str(), t.dtype, &t.shape)).collect();
        let types = recipe::types(recipe, &facts, &tensors);
        planned.iter_mut().zip(types).for_each(|(tensor, dtype)| tensor.dtype = dtype);
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::String(family.architecture.into()));
        metadata.set("general.name", Value::String(format!("synth-{name}")));
        if let Some(number) = recipe.file_type() {
            metadata.set("general.file_type", Value::U32(number));
        }
        family.describe(config).gguf.iter().for_each(|(key, value)| metadata.set(key, value.clone()));
        match vocabulary {
            Some(file) => tokenizer(file, config.vocab_size, &mut metadata)?,
            None => metadata.set("tokenizer.ggml.model", Value::String("no_vocab".into())),
        }
        metadata.set("general.quantization_version", Value::U32(2));
        let dimensions = config.features.rotary_dim.unwrap_or(config.head_dim());
        let factors = factors(&config.rope_scaling, config.rope_theta, dimensions);
        Ok(Synth { metadata, planned, factors, seed })
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.planned.iter().filter_map(Planned::bytes).sum()
    }

    /// Writes the tensors behind the head; `progress` hears of the bytes of each piece, some MB at most, and of its tensor,
    /// and answers whether to go on. Answers whether all was written.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn write<W: Write>(
        &self,
        writer: &mut gguf::Writer<W>,
        mut progress: impl FnMut(&Planned, u64) -> bool,
    ) -> io::Result<bool> {
        let mut pools: HashMap<DType, Vec<u8>> = HashMap::new();
        for (index, tensor) in self.planned.iter().enumerate() {
            let mut left = usize::try_from(tensor.bytes().unwrap_or(0)).unwrap_or(0);
            if tensor.dtype == DType::F32 && tensor.shape.len() == 1 {
                writer.tensor(&self.vector(tensor))?;
                if !progress(tensor, left as u64) {
                    return Ok(false);
                }
            } else {
                let pool = pools.entry(tensor.dtype).or_insert_with(|| pool(tensor.dtype, self.seed));
                let mut at = (index * STRIDE % POOL_BLOCKS) * tensor.dtype.block_bytes();
                while left > 0 {
                    let piece = pool.get(at..).unwrap_or_default();
                    let piece = piece.get(..left.min(piece.len()).min(PIECE)).unwrap_or_default();
                    writer.piece(piece)?;
                    left -= piece.len();
                    at = if at + piece.len() < pool.len() { at + piece.len() } else { 0 };
                    if !progress(tensor, piece.len() as u64) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Norms are 1, biases random.
    fn vector(&self, tensor: &Planned) -> Vec<u8> {
        let mut numbers = vec![1.0f32; tensor.shape.elements()];
        if tensor.name == "rope_freqs.weight" {
            numbers.clone_from(&self.factors);
        } else if !tensor.name.contains("norm") {
            Philox::new(self.seed, &tensor.name).fill_normal(&mut numbers, 0.0, DEVIATION);
        }
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }
}

/// The keys of a file's tokenizer, with as many tokens as the model has.
fn tokenizer(file: &gguf::File, vocab_size: usize, metadata: &mut Metadata) -> Result<(), String> {
    let tokens = file.metadata().get("tokenizer.ggml.tokens").and_then(Value::array).map_or(0, Array::len);
    if tokens == 0 || tokens > vocab_size {
        let help = match tokens {
            0 => "name a GGUF file with a tokenizer",
            _ => "name a preset whose vocabulary is as large, or a smaller vocabulary",
        };
        return Err(format!("the vocabulary has {tokens} tokens; the model has {vocab_size}\n  help: {help}"));
    }
    for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        let mut value = value.clone();
        match (&mut value, key) {
            (Value::Array(Array::String(texts)), "tokenizer.ggml.tokens") => {
                texts.extend((tokens..vocab_size).map(|id| format!("[PAD{id}]")));
            }
            // Of no use.
            (Value::Array(Array::I32(types)), "tokenizer.ggml.token_type") => types.resize(vocab_size, 5),
            (Value::Array(Array::F32(scores)), "tokenizer.ggml.scores") => scores.resize(vocab_size, -1000.0),
            _ => {}
        }
        metadata.set(key, value);
    }
    Ok(())
}

/// Where the 16-bit scales of a format's blocks are, and what they are for weights of standard deviation 1. Minima count
/// from the scale.
fn scales(dtype: DType) -> &'static [(usize, f32)] {
    match dtype {
        DType::Q4_0 => &[(0, 0.217)],
        DType::Q4_1 => &[(0, 0.217), (2, -1.63)],
        DType::Q5_0 => &[(0, 0.108)],
        DType::Q5_1 => &[(0, 0.108), (2, -1.68)],
        DType::Q8_0 => &[(0, 0.0135)],
        DType::Q2_K => &[(80, 0.1), (82, 0.15)],
        DType::Q3_K => &[(108, 0.0236)],
        DType::Q4_K => &[(0, 0.006), (2, 0.045)],
        DType::Q5_K => &[(0, 0.003), (2, 0.0465)],
        DType::Q6_K => &[(208, 0.00073)],
        DType::Iq4Nl => &[(0, 0.0146)],
        _ => &[],
    }
}

/// Random blocks: every bit of them but the scales', which make weights of a sensible size.
fn pool(dtype: DType, seed: u64) -> Vec<u8> {
    let random = Philox::new(seed, dtype.name());
    if dtype.block_elements() == 1 {
        let mut numbers = vec![0.0; POOL_BLOCKS];
        random.fill_normal(&mut numbers, 0.0, DEVIATION);
        return match dtype {
            DType::F16 => numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes()).collect(),
            DType::Bf16 => numbers.iter().flat_map(|n| half::bf16::from_f32(*n).to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
        };
    }
    let block_bytes = dtype.block_bytes();
    let words = (POOL_BLOCKS * block_bytes).div_ceil(16) as u64;
    let mut bytes: Vec<u8> = (0..words).flat_map(|i| random.block(i)).flat_map(u32::to_le_bytes).collect();
    bytes.truncate(POOL_BLOCKS * block_bytes);
    let sizes = Philox::new(seed, "scales");
    for (index, block) in bytes.chunks_exact_mut(block_bytes).enumerate() {
        let size = DEVIATION * (0.5 + tensor::rng::unit(sizes.word(index as u64)));
        for (at, scale) in scales(dtype) {
            let scale = half::f16::from_f32(size * scale).to_le_bytes();
            block.iter_mut().skip(*at).zip(scale).for_each(|(byte, new)| *byte = new);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{PRESETS, preset};

    fn synth(name: &str) -> Synth {
        let (family, config) = preset(name).expect("it is there");
        Synth::new(name, family, &config, Recipe::Q4KMedium, None, 0).expect("no vocabulary is asked for")
    }

    #[test]
    fn the_tensors_are_those_of_the_published_recipe() {
        // Tensors, bytes of all with each padded to 32, and the hash of their list (peers/synth_heads.py), of a Q4_K_M
        // file of each shape that another program made.
        for (name, tensors, padded, hash) in [
            ("qwen2.5-0.5b", 290, 391_859_712, "4be03434b1b18b5caba24c0fdca79eea227c42b599776a82726689b6fcd9c529"),
            ("qwen2.5-1.5b", 338, 980_097_536, "a122be510577036c7955048782e1884e6df23684dd36704c8e65a0404d0051c8"),
            ("qwen2.5-7b", 339, 4_677_120_000, "cc1166c9c69e81c2d50c8f5ec64b3ed7fe4c009b71d2bf8683c77c45e9f509ba"),
            ("qwen2.5-32b", 771, 19_845_357_568, "da170d3d814ad80631c10b8f5d568402b70832105e4eef9cb4d820f85bcfe739"),
        ] {
            let made = synth(name);
            assert_eq!(made.planned.len(), tensors, "{name}");
            let bytes: u64 = made.planned.iter().filter_map(Planned::bytes).map(|b| b.next_multiple_of(32)).sum();
            assert_eq!(bytes, padded, "{name}");
            let line = |t: &Planned| {
                let bytes = t.bytes().expect("it fills blocks");
                format!("{} {} {:?} {bytes}\n", t.name, t.dtype, &t.shape[..])
            };
            let list: String = made.planned.iter().map(line).collect();
            assert_eq!(tensor::hash::sha256(list.as_bytes()), hash, "{name}: {list}");
        }
        for (name, ..) in PRESETS {
            assert!(synth(name).bytes() > 0);
        }
    }

    #[test]
    fn weights_have_a_sensible_size() {
        for dtype in
            [DType::Q4_0, DType::Q5_0, DType::Q8_0, DType::Q2_K, DType::Q3_K, DType::Q4_K, DType::Q5_K, DType::Q6_K]
        {
            let bytes = pool(dtype, 0);
            let blocks = 2000;
            let mut numbers = vec![0.0; blocks * dtype.block_elements()];
            let format = tensor::quant::format(dtype).expect("it can be decoded");
            format.decode(&bytes[..blocks * dtype.block_bytes()], &mut numbers).expect("whole blocks");
            let squares = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            let deviation = (squares / numbers.len() as f64).sqrt();
            assert!((0.01..0.045).contains(&deviation), "{dtype}: {deviation}");
        }
    }
}
