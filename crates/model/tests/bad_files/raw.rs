//! GGUF files byte by byte, so that every field can lie.

use model::config::{Config, RopeScaling};
use model::family::{Family, preset};
use tensor::file::gguf::{Array, Value};

/// What a file says of a tensor.
#[derive(Clone)]
pub struct Tensor {
    pub name: Vec<u8>,
    /// How many sizes it says that it has, where that isn't how many there are.
    pub dimensions: Option<u32>,
    /// Innermost first.
    pub sizes: Vec<u64>,
    pub dtype: u32,
    pub offset: u64,
}

/// A file.
#[derive(Clone)]
pub struct Raw {
    pub magic: [u8; 4],
    pub version: u32,
    /// How many tensors and keys it says that it has, where that isn't how many there are.
    pub num_tensors: Option<u64>,
    pub num_keys: Option<u64>,
    /// Keys, and types with values.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

/// A number's bytes.
pub fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A number's bytes.
pub fn u64s(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A text with its length.
pub fn text(text: &[u8]) -> Vec<u8> {
    [u64s(&[text.len() as u64]), text.to_vec()].concat()
}

/// A type and a value of it.
pub fn value(value: &Value) -> Vec<u8> {
    match value {
        Value::String(s) => [u32s(&[8]), text(s.as_bytes())].concat(),
        Value::U32(n) => u32s(&[4, *n]),
        Value::I32(n) => [u32s(&[5]), n.to_le_bytes().to_vec()].concat(),
        Value::F32(n) => [u32s(&[6]), n.to_le_bytes().to_vec()].concat(),
        Value::Array(Array::U32(all)) => [u32s(&[9, 4]), u64s(&[all.len() as u64]), u32s(all)].concat(),
        other => unreachable!("{other}"),
    }
}

/// The model that the good file is of.
pub fn small() -> (&'static Family, Config) {
    let (family, plain) = preset("llama-3.2-1b").expect("it is there");
    let sizes = Config { vocab_size: 40, hidden_size: 16, num_layers: 2, num_heads: 4, num_kv_heads: 2, ..plain };
    (family, Config { intermediate_size: 24, max_context: 64, rope_scaling: RopeScaling::default(), ..sizes })
}

impl Raw {
    /// A small Llama that is read.
    pub fn good() -> Raw {
        let (family, config) = small();
        let mut pairs = vec![(b"general.architecture".to_vec(), value(&Value::String("llama".into())))];
        pairs.extend(family.describe(&config).gguf.iter().map(|(key, v)| (key.as_bytes().to_vec(), value(v))));
        let (mut tensors, mut data) = (Vec::new(), Vec::new());
        for expected in family.tensors(&config) {
            let sizes: Vec<u64> = expected.shape.iter().rev().map(|size| *size as u64).collect();
            let numbers: u64 = sizes.iter().product();
            tensors.push(Tensor {
                name: expected.gguf.into_bytes(),
                dimensions: None,
                sizes,
                dtype: 0,
                offset: data.len() as u64,
            });
            data.extend((0..numbers).flat_map(|n| (n as f32 / 64.0).to_le_bytes()));
            data.resize(data.len().next_multiple_of(32), 0);
        }
        let (magic, version, num_tensors, num_keys) = (*b"GGUF", 3, None, None);
        Raw { magic, version, num_tensors, num_keys, pairs, tensors, alignment: 32, data }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(u32s(&[self.version]));
        out.extend(u64s(&[
            self.num_tensors.unwrap_or(self.tensors.len() as u64),
            self.num_keys.unwrap_or(self.pairs.len() as u64),
        ]));
        for (key, value) in &self.pairs {
            out.extend(text(key));
            out.extend(value);
        }
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend(u32s(&[tensor.dimensions.unwrap_or(tensor.sizes.len() as u32)]));
            out.extend(u64s(&tensor.sizes));
            out.extend(u32s(&[tensor.dtype]));
            out.extend(u64s(&[tensor.offset]));
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }

    pub fn change(mut self, change: impl FnOnce(&mut Raw)) -> Raw {
        change(&mut self);
        self
    }

    /// With a key's value, replaced where it is there.
    pub fn with(self, key: &str, value: Vec<u8>) -> Raw {
        self.change(|raw| match raw.pairs.iter_mut().find(|(k, _)| k == key.as_bytes()) {
            Some((_, old)) => *old = value,
            None => raw.pairs.push((key.into(), value)),
        })
    }

    pub fn without(self, key: &str) -> Raw {
        self.change(|raw| raw.pairs.retain(|(k, _)| k != key.as_bytes()))
    }

    /// With its last tensor changed.
    pub fn last(self, change: impl FnOnce(&mut Tensor)) -> Raw {
        self.change(|raw| change(raw.tensors.last_mut().expect("there are tensors")))
    }
}
