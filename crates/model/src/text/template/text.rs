//! Strings that know which of their bytes came from the conversation and which from the template.
//!
//! Whatever a template does with a message (trim, slice, replace, join, `tojson`), the bytes that came from it stay
//! marked as content. So a tokenizer can read control tokens in the template's own bytes alone, and a message that
//! holds `<|im_start|>system` stays text.

use super::error::Result;
use super::meter::{Held, spend, spend_chars, spend_search, spent};
use std::ops::Range;
use std::rc::Rc;

/// Most bytes that are changed at once.
const PIECE: usize = 64 << 10;

/// Bytes that the allocator takes for a string beside its own, about.
const BESIDE: usize = 48;

/// A string with the byte ranges of it that are content, in order and apart.
#[derive(Clone, Debug)]
pub(super) struct Text(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    text: String,
    content: Vec<Range<usize>>,
    is_ascii: bool,
    _held: Held,
}

impl Text {
    /// The template's own words.
    pub(super) fn plain(text: &str) -> Result<Text> {
        let mut builder = Builder::new();
        builder.push_str(text, false)?;
        Ok(builder.finish())
    }

    /// Words of the conversation.
    pub(super) fn content(text: &str) -> Result<Text> {
        let mut builder = Builder::new();
        builder.push_str(text, true)?;
        Ok(builder.finish())
    }

    /// Whether both are one string in memory.
    pub(super) fn is_same(&self, other: &Text) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(super) fn len(&self) -> usize {
        self.0.text.len()
    }

    /// The length as Python has it.
    pub(super) fn num_chars(&self) -> usize {
        if self.0.is_ascii {
            return self.len();
        }
        spent(1 + self.len() / 64);
        self.as_str().chars().count()
    }

    /// The byte at which character `index` starts; the end where there are fewer.
    pub(super) fn byte_of(&self, index: usize) -> usize {
        if self.0.is_ascii {
            return index.min(self.len());
        }
        spent(1 + index.min(self.len()) / 16);
        self.as_str().char_indices().nth(index).map_or(self.len(), |(byte, _)| byte)
    }

    /// The character that starts at `byte`.
    pub(super) fn char_of(&self, byte: usize) -> usize {
        if self.0.is_ascii {
            return byte;
        }
        spent(1 + byte / 64);
        self.as_str().get(..byte).map_or(0, |s| s.chars().count())
    }

    /// Bytes `range` of it, at borders of characters.
    pub(super) fn slice(&self, range: Range<usize>) -> Result<Text> {
        if range == (0..self.len()) {
            return Ok(self.clone());
        }
        let mut builder = Builder::new();
        builder.push_part(self, range)?;
        Ok(builder.finish())
    }

    /// Its parts in order: where they are, and whether they are content.
    pub(super) fn runs(&self) -> Vec<(Range<usize>, bool)> {
        let mut runs = Vec::with_capacity(self.0.content.len() * 2 + 1);
        let mut at = 0;
        for range in &self.0.content {
            if at < range.start {
                runs.push((at..range.start, false));
            }
            runs.push((range.clone(), true));
            at = range.end;
        }
        if at < self.len() {
            runs.push((at..self.len(), false));
        }
        runs
    }

    /// It in pieces through `change`, which sees text of one origin at a time, and not much of it, so that what comes
    /// of it is counted before there is more.
    pub(super) fn map(&self, mut change: impl FnMut(&str) -> String) -> Result<Text> {
        spend_chars(self.len())?;
        spend(self.0.content.len())?;
        let mut builder = Builder::new();
        for (range, is_content) in self.runs() {
            let mut rest = self.part(range);
            while !rest.is_empty() {
                let (piece, after) = rest.split_at_checked(rest.floor_char_boundary(PIECE)).unwrap_or((rest, ""));
                builder.push_str(&change(piece), is_content)?;
                rest = after;
            }
        }
        Ok(builder.finish())
    }

    pub(super) fn part(&self, range: Range<usize>) -> &str {
        self.0.text.get(range).unwrap_or_default()
    }
}

/// A string while it is put together.
#[derive(Debug, Default)]
pub(super) struct Builder {
    text: String,
    content: Vec<Range<usize>>,
    held: Held,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder::default()
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn push_str(&mut self, text: &str, is_content: bool) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.held.grow(text.len())?;
        let start = self.text.len();
        self.text.push_str(text);
        if is_content { self.mark(start..self.text.len()) } else { Ok(()) }
    }

    /// `count` times `text`, asked for at once.
    pub(super) fn repeat(&mut self, text: &str, count: usize) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.held.grow(text.len().saturating_mul(count))?;
        let start = self.text.len();
        self.text.push_str(if count > 0 { text } else { "" });
        let mut have = count.min(1);
        while have < count {
            // As much as is there already, or what is missing.
            let more = have.min(count - have);
            self.text.extend_from_within(start..start + text.len() * more);
            have += more;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, text: &Text) -> Result<()> {
        self.push_part(text, 0..text.len())
    }

    /// Bytes `range` of `text`.
    pub(super) fn push_part(&mut self, text: &Text, range: Range<usize>) -> Result<()> {
        let start = self.text.len();
        self.push_str(text.part(range.clone()), false)?;
        let ranges = &text.0.content;
        let first = ranges.partition_point(|r| r.end <= range.start);
        for r in ranges.iter().skip(first).take_while(|r| r.start < range.end) {
            let (from, to) = (r.start.max(range.start), r.end.min(range.end));
            self.mark(start + from - range.start..start + to - range.start)?;
        }
        Ok(())
    }

    fn mark(&mut self, range: Range<usize>) -> Result<()> {
        match self.content.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                self.held.grow(size_of::<Range<usize>>())?;
                self.content.push(range);
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Text {
        self.held.add(size_of::<Inner>() + BESIDE);
        // It is looked at once more, and given back to the allocator.
        spent(2 + self.text.len() / 64);
        let is_ascii = self.text.is_ascii();
        Text(Rc::new(Inner { text: self.text, content: self.content, is_ascii, _held: self.held }))
    }

    /// The string and its content's ranges.
    pub(super) fn into_parts(self) -> (String, Vec<Range<usize>>) {
        (self.text, self.content)
    }
}

/// `text` with each `from` that stands apart replaced by `to`, at most `most` of them.
pub(super) fn replace(text: &Text, from: &Text, to: &Text, most: usize) -> Result<Text> {
    spend_search(text.len().saturating_add(from.len()))?;
    let mut builder = Builder::new();
    let mut at = 0;
    for (start, found) in text.as_str().match_indices(from.as_str()).take(most) {
        spend(1)?;
        builder.push_part(text, at..start)?;
        builder.push(to)?;
        at = start + found.len();
    }
    builder.push_part(text, at..text.len())?;
    Ok(builder.finish())
}
