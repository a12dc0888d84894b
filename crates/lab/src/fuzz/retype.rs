//! GGUF files in which a value has another type.
#![forbid(unsafe_code)]

use tensor::file::gguf::{self, Array, Planned, Value};

/// Numbers that values are made of.
const NUMBERS: &[i64] = &[0, 1, 2, 3, -1, 8, 255, 65_536, i64::MAX];

/// The file with one key's value of a type that is drawn, a list as often as not.
pub(super) fn retyped(bytes: &[u8], draw: &mut dyn FnMut(usize) -> usize) -> Option<Vec<u8>> {
    let head = gguf::parse(bytes).ok()?;
    let mut metadata = head.metadata;
    let (key, _) = metadata.iter().nth(draw(metadata.len()))?;
    let key = key.to_string();
    metadata.set(key, value(draw));
    let place = |tensor: gguf::TensorInfo| {
        let start = usize::try_from(tensor.offset).ok()?;
        let bytes = bytes.get(start..start.checked_add(usize::try_from(tensor.bytes).ok()?)?)?;
        Some((Planned { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape }, bytes))
    };
    let tensors: Vec<_> = head.tensors.into_iter().map(place).collect::<Option<_>>()?;
    gguf::write(Vec::new(), &metadata, &tensors).ok()
}

fn value(draw: &mut dyn FnMut(usize) -> usize) -> Value {
    let number = NUMBERS[draw(NUMBERS.len())];
    match draw(24) {
        0 => Value::U8(number as u8),
        1 => Value::I8(number as i8),
        2 => Value::U16(number as u16),
        3 => Value::I16(number as i16),
        4 => Value::U32(number as u32),
        5 => Value::I32(number as i32),
        6 => Value::F32(number as f32),
        7 => Value::Bool(number > 0),
        8 => Value::String(["", "llama", "gpt2", "\u{1b}[2J"][draw(4)].into()),
        9 => Value::U64(number as u64),
        10 => Value::I64(number),
        11 => Value::F64(f64::NAN),
        _ => Value::Array(array(number, 0, draw)),
    }
}

fn array(number: i64, depth: usize, draw: &mut dyn FnMut(usize) -> usize) -> Array {
    let count = [0, 1, 2, 8, 200][draw(5)];
    match draw(13) {
        0 => Array::U8(vec![number as u8; count]),
        1 => Array::I8(vec![number as i8; count]),
        2 => Array::U16(vec![number as u16; count]),
        3 => Array::I16(vec![number as i16; count]),
        4 => Array::U32(vec![number as u32; count]),
        5 => Array::I32(vec![number as i32; count]),
        6 => Array::F32(vec![number as f32; count]),
        7 => Array::Bool(vec![number > 0; count]),
        8 => Array::String(vec![["", "a", "a b"][draw(3)].into(); count]),
        9 => Array::U64(vec![number as u64; count]),
        10 => Array::I64(vec![number; count]),
        _ if depth < 2 => Array::Array(vec![array(number, depth + 1, draw); count.min(2)]),
        _ => Array::F64(vec![number as f64; count]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{mutate::Mutator, target};
    use super::*;

    /// Lists where one number is meant are what changed bytes don't come to.
    #[test]
    fn the_number_of_layers_becomes_a_list_soon() {
        let target = target("gguf").expect("it is there");
        let (seeds, mut mutator) = ((target.seeds)(), Mutator::new(1, target.name, target.words));
        let found = (0..100_000).any(|_| {
            let input = mutator.change(&seeds, target.change);
            let head = gguf::parse(&input).ok();
            head.is_some_and(|head| matches!(head.metadata.get("llama.block_count"), Some(Value::Array(Array::U32(_)))))
        });
        assert!(found, "not in as many inputs as the tests try");
    }
}
