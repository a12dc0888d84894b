//! Strings as Python's methods change them.

use super::error::{Error, Result};
use super::meter::{spend, spend_chars, spend_search};
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
    let many: Option<HashSet<char>> = match chars {
        Some(chars) if chars.len() > FEW => {
            spend(chars.len().saturating_mul(2))?;
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
    let gone = s.len() - end.max(start) + start;
    spend(if chars.is_some() { gone } else { gone / 4 })?;
    text.slice(start..end.max(start))
}

/// The parts between separators, or between white space; at most `most` cuts.
pub(super) fn split(text: &Text, separator: Option<&str>, most: usize) -> Result<Vec<Value>> {
    let s = text.as_str();
    match separator {
        Some(separator) => spend_search(s.len().saturating_add(separator.len()))?,
        None => spend_chars(s.len())?,
    }
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
    match separator {
        Some(separator) => spend_search(s.len().saturating_add(separator.len()))?,
        None => spend_chars(s.len())?,
    }
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
    spend_chars(s.len())?;
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
            if let Some(first) = chars.next() {
                title_case(first, &mut out);
            }
            rest = chars.as_str();
        }
        out + &rest.to_lowercase()
    })
}

/// Whether `c` is a capital or a small letter, or one of the letters that are both.
pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_both(c)
}

/// Letters of which a part is a capital and a part is small.
fn is_both(c: char) -> bool {
    let code = u32::from(c);
    matches!(code, 0x1c5 | 0x1c8 | 0x1cb | 0x1f2 | 0x1fbc | 0x1fcc | 0x1ffc)
        || (matches!(code, 0x1f88..=0x1faf) && code & 8 != 0)
}

/// Appends `c` as Unicode writes it at the start of a word.
pub(super) fn title_case(c: char, out: &mut String) {
    let code = u32::from(c);
    let one = match code {
        0x1c4..=0x1c6 => 0x1c5,
        0x1c7..=0x1c9 => 0x1c8,
        0x1ca..=0x1cc => 0x1cb,
        0x1f1..=0x1f3 => 0x1f2,
        0x1f80..=0x1faf => code | 8,
        0x1fb3 | 0x1fbc => 0x1fbc,
        0x1fc3 | 0x1fcc => 0x1fcc,
        0x1ff3 | 0x1ffc => 0x1ffc,
        // Georgian has capitals, and no word begins with one.
        0x10d0..=0x10fa | 0x10fd..=0x10ff => code,
        _ => return several(c, out),
    };
    out.extend(char::from_u32(one));
}

/// Appends the capital of `c`, of several letters only the first as one.
fn several(c: char, out: &mut String) {
    let mut capital = c.to_uppercase();
    out.extend(capital.next());
    match u32::from(c) {
        // Ligatures become a capital and a small letter.
        0xdf | 0x587 | 0xfb00..=0xfb17 => out.extend(capital.flat_map(char::to_lowercase)),
        // An iota below a letter stays below it.
        0x1fb2 | 0x1fb4 | 0x1fb7 | 0x1fc2 | 0x1fc4 | 0x1fc7 | 0x1ff2 | 0x1ff4 | 0x1ff7 => {
            out.extend(capital.map(|c| if c == '\u{399}' { '\u{345}' } else { c }));
        }
        _ => out.extend(capital),
    }
}

/// Each word's first letter as `first` writes it, the others small; `begins` says after which characters a word begins.
pub(super) fn title(text: &Text, first: fn(char, &mut String), begins: fn(char) -> bool) -> Result<Text> {
    let mut at_begin = true;
    text.map(|part| {
        let mut out = String::with_capacity(part.len());
        for c in part.chars() {
            if at_begin {
                first(c, &mut out)
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
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether there are small letters, and no others; those that are a capital in part are others.
pub(super) fn is_lower(s: &str) -> bool {
    s.chars().any(char::is_lowercase) && !s.chars().any(|c| is_cased(c) && !c.is_lowercase())
}

/// Whether there are capitals, and no other letters that have a case.
pub(super) fn is_upper(s: &str) -> bool {
    s.chars().any(char::is_uppercase) && !s.chars().any(|c| is_cased(c) && !c.is_uppercase())
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

/// As Python's `casefold`.
pub(super) fn case_folded(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            'ı' => out.push(c),
            'ẞ' => out.push_str("ss"),
            // Cherokee is folded to its capitals.
            '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => out.extend(c.to_uppercase()),
            c => out.extend(c.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    out
}
