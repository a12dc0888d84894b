//! Strings as Python's methods change them.

use super::error::{Error, Result};
use super::meter::{spend, spend_bytes};
use super::text::{Builder, Text};
use super::value::Value;
use std::collections::HashSet;

/// What Python takes for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Bytes of characters up to which going through them is the fastest.
const FEW: usize = 16;

/// Which ends are stripped.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Ends {
    Both,
    Left,
    Right,
}

/// `text` without the characters of `chars`, or white space, at its ends.
pub(super) fn strip(text: &Text, chars: Option<&str>, ends: Ends) -> Result<Text> {
    let s = text.as_str();
    spend_bytes(s.len())?;
    let many: Option<HashSet<char>> = match chars {
        Some(chars) if chars.len() > FEW => {
            spend(chars.len())?;
            Some(chars.chars().collect())
        }
        _ => None,
    };
    let goes = |c: char| match (&many, chars) {
        (Some(many), _) => many.contains(&c),
        (None, Some(chars)) => chars.contains(c),
        (None, None) => is_space(c),
    };
    let start = if ends == Ends::Right { 0 } else { s.len() - s.trim_start_matches(goes).len() };
    let end = if ends == Ends::Left { s.len() } else { s.trim_end_matches(goes).len() };
    text.slice(start..end.max(start))
}

/// The parts between separators, or between white space; at most `most` cuts.
pub(super) fn split(text: &Text, separator: Option<&str>, most: usize) -> Result<Vec<Value>> {
    let s = text.as_str();
    spend_bytes(s.len())?;
    let mut parts = Vec::new();
    let mut push = |start: usize, end: usize| -> Result<()> {
        spend(1)?;
        parts.push(Value::Str(text.slice(start..end)?));
        Ok(())
    };
    let mut at = 0;
    match separator {
        Some("") => return Err(Error::value("an empty separator")),
        Some(separator) => {
            for (start, _) in s.match_indices(separator).take(most) {
                push(at, start)?;
                at = start + separator.len();
            }
            push(at, s.len())?;
        }
        None => {
            let mut cuts = 0;
            loop {
                let rest = s.get(at..).unwrap_or_default();
                at += rest.len() - rest.trim_start_matches(is_space).len();
                let rest = s.get(at..).unwrap_or_default();
                if rest.is_empty() {
                    break;
                }
                match rest.find(is_space).filter(|_| cuts < most) {
                    Some(end) => push(at, at + end)?,
                    None => {
                        push(at, s.len())?;
                        break;
                    }
                }
                at += rest.find(is_space).unwrap_or(rest.len());
                cuts += 1;
            }
        }
    }
    Ok(parts)
}

/// `split` from the right.
pub(super) fn split_right(text: &Text, separator: Option<&str>, most: usize) -> Result<Vec<Value>> {
    let s = text.as_str();
    spend_bytes(s.len())?;
    let mut parts = Vec::new();
    let mut end = s.len();
    let mut push = |start: usize, end: usize| -> Result<()> {
        spend(1)?;
        parts.push(Value::Str(text.slice(start..end)?));
        Ok(())
    };
    match separator {
        Some("") => return Err(Error::value("an empty separator")),
        Some(separator) => {
            for (start, _) in s.rmatch_indices(separator).take(most) {
                push(start + separator.len(), end)?;
                end = start;
            }
            push(0, end)?;
        }
        None => {
            let mut cuts = 0;
            loop {
                let head = s.get(..end).unwrap_or_default().trim_end_matches(is_space);
                if head.is_empty() {
                    break;
                }
                let start = head.rfind(is_space).filter(|_| cuts < most);
                let Some(start) = start else {
                    push(0, head.len())?;
                    break;
                };
                let width = head.get(start..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8);
                push(start + width, head.len())?;
                end = start;
                cuts += 1;
            }
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The lines of `text`, with their ends where `keep` says so.
pub(super) fn lines(text: &Text, keep: bool) -> Result<Vec<Text>> {
    let s = text.as_str();
    spend_bytes(s.len())?;
    let ends =
        |c: char| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let mut lines = Vec::new();
    let mut at = 0;
    while at < s.len() {
        spend(1)?;
        let rest = s.get(at..).unwrap_or_default();
        let Some(end) = rest.find(ends) else {
            lines.push(text.slice(at..s.len())?);
            break;
        };
        let tail = rest.get(end..).unwrap_or_default();
        let width = if tail.starts_with("\r\n") { 2 } else { tail.chars().next().map_or(1, char::len_utf8) };
        lines.push(text.slice(at..at + if keep { end + width } else { end })?);
        at += end + width;
    }
    Ok(lines)
}

/// The first character as a capital, the others small.
pub(super) fn capitalize(text: &Text) -> Result<Text> {
    let mut is_first = true;
    text.map(|part| {
        let mut out = String::with_capacity(part.len());
        let mut rest = part;
        if std::mem::take(&mut is_first) {
            let mut chars = part.chars();
            out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
            rest = chars.as_str();
        }
        out + &rest.to_lowercase()
    })
}

/// Each word's first letter as a capital, the others small; `begins` says after which characters a word begins.
pub(super) fn title(text: &Text, begins: fn(char) -> bool) -> Result<Text> {
    let mut at_begin = true;
    text.map(|part| {
        let mut out = String::with_capacity(part.len());
        for c in part.chars() {
            if at_begin {
                out.extend(c.to_uppercase())
            } else {
                out.extend(c.to_lowercase())
            }
            at_begin = begins(c);
        }
        out
    })
}

/// Capitals small and small letters capital.
pub(super) fn swap_case(part: &str) -> String {
    let swap =
        |c: char| -> String { if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() } };
    part.chars().map(swap).collect()
}

/// `text` between `left` and `right` fills of `fill`.
pub(super) fn padded(text: &Text, left: usize, right: usize, fill: &str) -> Result<Text> {
    let mut out = Builder::new();
    out.repeat(fill, left)?;
    out.push(text)?;
    out.repeat(fill, right)?;
    Ok(out.finish())
}

/// The strings of `items` with `between` between them.
pub(super) fn join(items: impl Iterator<Item = Result<Text>>, between: &Text) -> Result<Text> {
    let mut out = Builder::new();
    for (i, item) in items.enumerate() {
        spend(1)?;
        if i > 0 {
            out.push(between)?;
        }
        out.push(&item?)?;
    }
    Ok(out.finish())
}

/// `s` for HTML.
pub(super) fn escaped(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}
