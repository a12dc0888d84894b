//! WordPiece (Wu et al. 2016) as BERT uses it: words of cleaned text, the longest known beginning first.
#![forbid(unsafe_code)]

use super::pieces::SPACE;
use super::tokens::Tokens;
use regex_syntax::hir::{Class, HirKind};
use unicode_normalization_alignments::UnicodeNormalization;

/// Longer words, in characters, are unknown.
const LONGEST_WORD: usize = 100;

/// Text to tokens by words.
#[derive(Clone, Debug)]
pub struct Words {
    unknown: u32,
    lowercase: bool,
    strip_accents: bool,
    longest: usize,
    punctuation: Ranges,
    marks: Ranges,
    controls: Ranges,
}

/// A set of characters.
#[derive(Clone, Debug)]
struct Ranges(Vec<(char, char)>);

impl Ranges {
    /// The characters of a class such as `\p{P}`.
    fn of(class: &str) -> Ranges {
        let hir = regex_syntax::parse(class).expect("the classes here are well formed");
        let HirKind::Class(Class::Unicode(class)) = hir.into_kind() else { return Ranges(Vec::new()) };
        Ranges(class.ranges().iter().map(|range| (range.start(), range.end())).collect())
    }

    fn contains(&self, c: char) -> bool {
        let after = self.0.partition_point(|(start, _)| *start <= c);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, end)| c <= *end)
    }
}

impl Words {
    /// Of tokens as GGUF has them: U+2581 begins those that begin words.
    pub fn new(tokens: &Tokens, unknown: u32, lowercase: bool, strip_accents: bool) -> Words {
        Words {
            unknown,
            lowercase,
            strip_accents,
            longest: tokens.texts.iter().map(String::len).max().unwrap_or(0),
            punctuation: Ranges::of(r"[\p{P}!-/:-@\[-`{-~]"),
            marks: Ranges::of(r"\p{Mn}"),
            controls: Ranges::of(r"[\p{Cc}\p{Cf}\p{Co}\p{Cn}]"),
        }
    }

    /// Tokens of `text`, onto `out`.
    pub fn encode(&self, tokens: &Tokens, text: &str, out: &mut Vec<u32>) {
        let mut word = String::new();
        for c in text.chars() {
            match c {
                '\t' | '\n' | '\r' => self.word(tokens, &mut word, out),
                '\0' | '\u{fffd}' => {}
                _ if c.is_ascii() => self.character(tokens, c, &mut word, out),
                _ if c.is_whitespace() => self.word(tokens, &mut word, out),
                _ if self.controls.contains(c) => {}
                _ if self.strip_accents => {
                    let parts =
                        std::iter::once(c).nfd().map(|(part, _)| part).filter(|part| !self.marks.contains(*part));
                    parts.for_each(|part| self.character(tokens, part, &mut word, out));
                }
                _ => self.character(tokens, c, &mut word, out),
            }
        }
        self.word(tokens, &mut word, out);
    }

    fn character(&self, tokens: &Tokens, c: char, word: &mut String, out: &mut Vec<u32>) {
        if c == ' ' {
            return self.word(tokens, word, out);
        }
        if c.is_ascii_control() {
            return;
        }
        let alone = self.punctuation.contains(c) || is_chinese(c);
        if alone {
            self.word(tokens, word, out);
        }
        match self.lowercase {
            true => word.extend(c.to_lowercase()),
            false => word.push(c),
        }
        if alone {
            self.word(tokens, word, out);
        }
    }

    /// The tokens of one word, which is empty then.
    fn word(&self, tokens: &Tokens, word: &mut String, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        let before = out.len();
        if word.chars().count() > LONGEST_WORD || !self.parts(tokens, word, out) {
            out.truncate(before);
            out.push(self.unknown);
        }
        word.clear();
    }

    fn parts(&self, tokens: &Tokens, word: &str, out: &mut Vec<u32>) -> bool {
        let marked = format!("{SPACE}{word}");
        let mut rest = marked.as_str();
        while !rest.is_empty() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).filter(|end| *end <= self.longest);
            let ends: Vec<usize> = ends.collect();
            let known = |end: &usize| rest.get(..*end).and_then(|part| tokens.ids.get(part)).map(|id| (*id, *end));
            let Some((id, end)) = ends.iter().rev().find_map(known) else { return false };
            // The mark alone is no part of a word.
            if end == SPACE.len_utf8() && rest.len() == marked.len() && tokens.text(id) == Some("\u{2581}") {
                return false;
            }
            out.push(id);
            rest = rest.get(end..).unwrap_or_default();
        }
        true
    }
}

/// Characters that BERT takes as words of their own.
pub fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
