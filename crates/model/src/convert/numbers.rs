//! A tensor's bytes in another type and order.
#![forbid(unsafe_code)]

use crate::family::Change;
use tensor::DType;
use tensor::quant::{self, plain};

/// What to do about a tensor that can't be converted.
const HELP: &str = "convert a file whose tensors are f32, f16, bf16 or of a block format";

/// Why a tensor is not converted: what, and what to do.
pub(super) type Wrong = (String, &'static str);

/// Which way a tensor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToGguf,
    ToFolder,
}

/// A tensor of `rows` rows as `to`, its numbers changed as `change` says.
///
/// # Errors
/// When a type can't be read or written, a finite number would become an infinity, or the rows are not those of heads.
pub(super) fn converted(
    bytes: &[u8],
    rows: usize,
    (from, to): (DType, DType),
    change: Change,
    way: Way,
) -> Result<Vec<u8>, Wrong> {
    let plus = match (change, way) {
        (Change::PlusOne, Way::ToGguf) => 1.0,
        (Change::PlusOne, Way::ToFolder) => -1.0,
        _ => 0.0,
    };
    let mut out = match from == to && plus == 0.0 {
        true => bytes.to_vec(),
        false => cast(bytes, from, to, plus)?,
    };
    if let Change::Paired { heads } = change {
        out =
            paired(&out, rows, heads, way).ok_or_else(|| (format!("its rows are not those of {heads} heads"), HELP))?;
    }
    Ok(out)
}

/// What to do about numbers that a plain type doesn't hold.
fn narrow_help(to: DType) -> &'static str {
    if to == DType::F16 { "bf16 holds it: convert with --to bf16" } else { "f32 holds it: convert with --to f32" }
}

/// Whether the f32 numbers of a GGUF file, changed as `change` says for a folder, are all numbers of type `to`.
pub(super) fn fit(bytes: &[u8], to: DType, change: Change) -> bool {
    let plus = if change == Change::PlusOne { -1.0 } else { 0.0 };
    let mut numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes) + plus);
    match to {
        DType::F16 => numbers.all(|number| half::f16::from_f32(number).to_f32().to_bits() == number.to_bits()),
        DType::Bf16 => numbers.all(|number| half::bf16::from_f32(number).to_f32().to_bits() == number.to_bits()),
        _ => to == DType::F32,
    }
}

fn cast(bytes: &[u8], from: DType, to: DType, plus: f32) -> Result<Vec<u8>, Wrong> {
    let Some(source) = quant::format(from) else {
        let help = "save the model in f32, f16 or bf16, and convert that";
        return Err((format!("its type is {from}, which isn't converted"), help));
    };
    if !matches!(to, DType::F32 | DType::F16 | DType::Bf16) {
        return Err((format!("{from} can't become {to}"), HELP));
    }
    // Many blocks at once, so that the numbers stay near the processor.
    let elements = from.block_elements() * (8192 / from.block_elements());
    let step = from.bytes(elements).ok_or_else(|| (format!("{from} has no whole blocks"), HELP))?;
    let mut numbers = vec![0f32; elements];
    let mut out = Vec::new();
    let all = bytes.len() / from.block_bytes() * from.block_elements() * to.block_bytes();
    out.try_reserve_exact(all).map_err(|e| (format!("{all} bytes are too many: {e}"), HELP))?;
    // What is added may lead out of the smaller type too.
    let bounds = plain::bounds(if plus == 0.0 { from } else { DType::F32 }, to);
    for (index, piece) in bytes.chunks(step).enumerate() {
        let count = piece.len() / from.block_bytes() * from.block_elements();
        let numbers = numbers.get_mut(..count).unwrap_or_default();
        source.decode(piece, numbers).map_err(|what| (what, HELP))?;
        if plus != 0.0 {
            numbers.iter_mut().for_each(|number| *number += plus);
        }
        if let Some(bounds) = &bounds
            && let Some(place) = plain::beyond(numbers, bounds)
        {
            let value = numbers.get(place).copied().unwrap_or_default();
            let what = format!("element {} is {value}, which {to} doesn't hold", index * elements + place);
            return Err((what, narrow_help(to)));
        }
        match to {
            DType::F16 => out.extend(numbers.iter().flat_map(|n| half::f16::from_f32(*n).to_le_bytes())),
            DType::Bf16 => out.extend(numbers.iter().flat_map(|n| half::bf16::from_f32(*n).to_le_bytes())),
            _ => out.extend(numbers.iter().flat_map(|n| n.to_le_bytes())),
        }
    }
    Ok(out)
}

/// Each head's rows between halves and pairs: row i of the first half and row i of the second are rows 2 i and 2 i + 1.
fn paired(bytes: &[u8], rows: usize, heads: usize, way: Way) -> Option<Vec<u8>> {
    let row = bytes.len().checked_div(rows).filter(|row| *row > 0 && row * rows == bytes.len())?;
    let half = rows.checked_div(2 * heads).filter(|half| half * 2 * heads == rows)?;
    let mut out = Vec::with_capacity(bytes.len());
    for head in bytes.chunks_exact(2 * half * row) {
        let order = (0..2 * half).map(|place| match way {
            Way::ToGguf => place % 2 * half + place / 2,
            Way::ToFolder => place % half * 2 + place / half,
        });
        for from in order {
            out.extend_from_slice(head.get(from * row..(from + 1) * row)?);
        }
    }
    Some(out)
}
