//! A stable sort whose comparisons may fail, and need not agree with each other.

use super::error::Result;
use super::meter::spend;
use super::value::Value;
use std::cmp::Ordering;

/// `items` in the order of their keys, equal ones as they were.
pub(super) fn sorted<T>(
    mut items: Vec<(Value, T)>,
    is_reversed: bool,
    compare: fn(&Value, &Value) -> Result<Option<Ordering>>,
) -> Result<Vec<(Value, T)>> {
    if items.len() < 2 {
        return Ok(items);
    }
    let right = items.split_off(items.len() / 2);
    let mut left = sorted(items, is_reversed, compare)?.into_iter().peekable();
    let mut right = sorted(right, is_reversed, compare)?.into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
        spend(1)?;
        let order = if is_reversed { compare(a, b)? } else { compare(b, a)? };
        let next = if order == Some(Ordering::Less) { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}
