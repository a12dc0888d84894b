//! What a tokenizer.json does to a text before its model: normalizers and pre-tokenizers over plain strings, in linear time.
#![forbid(unsafe_code)]

use super::json::{flatten, kind, present};
use super::split::Splitter;
use super::words::is_chinese;
use regex_automata::meta::Regex;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::OnceLock;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::is_combining_mark;

/// The steps of a tokenizer.json.
#[derive(Clone, Debug)]
pub struct Steps {
    normalizers: Vec<Normalizer>,
    cuts: Vec<Cut>,
}

#[derive(Clone, Debug)]
enum Normalizer {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,
    StripAccents,
    Prepend(String),
    ReplaceText(String, String),
    ReplaceMatches(Box<Regex>, String),
    Bert { clean: bool, chinese: bool, strip: bool, lowercase: bool },
}

#[derive(Clone, Debug)]
enum Cut {
    /// By rules, nothing left out.
    Rules(Splitter),
    /// What matches; the rest is left out.
    Matches(Box<Regex>),
    /// At such characters, which are left out.
    Without(fn(char) -> bool),
    /// Such characters stand alone.
    Alone(fn(char) -> bool),
    /// Such characters stand together.
    Together(fn(char) -> bool),
    /// Spaces become this, and with `split` each begins a piece.
    Marked { mark: char, prefix: MarkPrefix, split: bool },
    /// Bytes become the characters that name them.
    Bytes { prefix: bool, splitter: Option<Splitter> },
}

/// Where a mark goes before a text that doesn't begin with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkPrefix {
    Never,
    First,
    Always,
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && c.is_punctuation())
}

impl Steps {
    /// The steps of a checked tokenizer.json; `None` where one isn't known here.
    pub fn of(all: &Map<String, Value>) -> Option<Steps> {
        let (mut normalizers, mut cuts) = (Vec::new(), Vec::new());
        flatten(present(all, "normalizer"), "normalizers", &mut normalizers);
        flatten(present(all, "pre_tokenizer"), "pretokenizers", &mut cuts);
        let mut pieces = Vec::new();
        for step in cuts {
            pieces.extend(Cut::of(step)?);
        }
        Some(Steps { normalizers: normalizers.into_iter().map(Normalizer::of).collect::<Option<_>>()?, cuts: pieces })
    }

    /// Prepares `text` and cuts it; `first` says that nothing stands before it.
    pub fn run(&self, text: &str, first: bool, piece: &mut dyn FnMut(&str)) {
        let text = self.normalizers.iter().fold(Cow::Borrowed(text), |text, step| step.apply(text));
        cut(&self.cuts, &text, first, piece);
    }
}

impl Normalizer {
    fn of(step: &Map<String, Value>) -> Option<Normalizer> {
        let flag = |key: &str| step.get(key).and_then(Value::as_bool);
        let text = |key: &str| step.get(key).and_then(Value::as_str).map(String::from);
        Some(match kind(step)? {
            "NFC" => Normalizer::Nfc,
            "NFD" => Normalizer::Nfd,
            "NFKC" => Normalizer::Nfkc,
            "NFKD" => Normalizer::Nfkd,
            "Lowercase" => Normalizer::Lowercase,
            "StripAccents" => Normalizer::StripAccents,
            "Prepend" => Normalizer::Prepend(text("prepend")?),
            "Replace" => {
                let (pattern, content) = (step.get("pattern")?, text("content")?);
                match pattern.get("String").and_then(Value::as_str) {
                    Some(plain) => Normalizer::ReplaceText(plain.into(), content),
                    None => {
                        let regex = Regex::new(pattern.get("Regex")?.as_str()?).ok()?;
                        Normalizer::ReplaceMatches(Box::new(regex), content)
                    }
                }
            }
            "BertNormalizer" => {
                let lowercase = flag("lowercase")?;
                let strip = match step.get("strip_accents") {
                    None | Some(Value::Null) => lowercase,
                    Some(strip) => strip.as_bool()?,
                };
                Normalizer::Bert {
                    clean: flag("clean_text")?,
                    chinese: flag("handle_chinese_chars")?,
                    strip,
                    lowercase,
                }
            }
            _ => return None,
        })
    }

    fn apply<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let (ascii, composed) = (text.is_ascii(), |parts: &mut dyn Iterator<Item = (char, isize)>| {
            Cow::Owned(parts.map(|(c, _)| c).collect())
        });
        match self {
            Normalizer::Nfc | Normalizer::Nfd | Normalizer::Nfkc | Normalizer::Nfkd if ascii => text,
            Normalizer::Nfc => composed(&mut text.nfc()),
            Normalizer::Nfd => composed(&mut text.nfd()),
            Normalizer::Nfkc => composed(&mut text.nfkc()),
            Normalizer::Nfkd => composed(&mut text.nfkd()),
            Normalizer::Lowercase if ascii => Cow::Owned(text.to_ascii_lowercase()),
            Normalizer::Lowercase => Cow::Owned(text.chars().flat_map(char::to_lowercase).collect()),
            Normalizer::StripAccents if ascii => text,
            Normalizer::StripAccents => Cow::Owned(text.chars().filter(|c| !is_combining_mark(*c)).collect()),
            Normalizer::Prepend(_) if text.is_empty() => text,
            Normalizer::Prepend(before) => Cow::Owned(format!("{before}{text}")),
            Normalizer::ReplaceText(from, _) if !text.contains(from.as_str()) => text,
            Normalizer::ReplaceText(from, to) => Cow::Owned(text.replace(from.as_str(), to)),
            Normalizer::ReplaceMatches(regex, to) => {
                let mut replaced = String::with_capacity(text.len());
                let mut at = 0;
                for found in regex.find_iter(&*text) {
                    replaced.push_str(text.get(at..found.start()).unwrap_or_default());
                    replaced.push_str(to);
                    at = found.end();
                }
                replaced.push_str(text.get(at..).unwrap_or_default());
                Cow::Owned(replaced)
            }
            Normalizer::Bert { clean, chinese, strip, lowercase } => {
                let mut bert = bert(&text, *clean, *chinese);
                if *strip && !bert.is_ascii() {
                    bert = bert.nfd().map(|(c, _)| c).filter(|c| !c.is_mark_nonspacing()).collect();
                }
                match *lowercase {
                    true => Normalizer::Lowercase.apply(Cow::Owned(bert)),
                    false => Cow::Owned(bert),
                }
            }
        }
    }
}

/// A text with white space as spaces and without control characters, and with spaces around Chinese characters.
fn bert(text: &str, clean: bool, chinese: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            '\t' | '\n' | '\r' if clean => ' ',
            _ if clean && c.is_ascii_control() => continue,
            _ if c.is_ascii() || !clean => c,
            '\u{fffd}' => continue,
            _ if c.is_other() => continue,
            _ if c.is_whitespace() => ' ',
            _ => c,
        };
        if chinese && is_chinese(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

impl Cut {
    /// A pre-tokenizer's cuts; `None` where it isn't known here.
    fn of(step: &Map<String, Value>) -> Option<Vec<Cut>> {
        let flag = |key: &str, otherwise: bool| step.get(key).and_then(Value::as_bool).unwrap_or(otherwise);
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        Some(vec![match kind(step)? {
            "Whitespace" => {
                static MADE: OnceLock<Regex> = OnceLock::new();
                let make = || Regex::new(r"\w+|[^\w\s]+").expect("it is well formed");
                Cut::Matches(Box::new(MADE.get_or_init(make).clone()))
            }
            "WhitespaceSplit" => Cut::Without(char::is_whitespace),
            "BertPreTokenizer" => return Some(vec![Cut::Without(char::is_whitespace), Cut::Alone(is_punctuation)]),
            "Punctuation" if text("behavior").is_none_or(|behavior| behavior == "Isolated") => {
                Cut::Alone(is_punctuation)
            }
            "Digits" if flag("individual_digits", false) => Cut::Alone(char::is_numeric),
            "Digits" => Cut::Together(char::is_numeric),
            "Split" if text("behavior") == Some("Isolated") && !flag("invert", false) => {
                let mut splitter = Splitter::default();
                splitter.pattern(step.get("pattern")?.get("Regex")?.as_str()?).ok()?;
                Cut::Rules(splitter)
            }
            "Metaspace" => {
                let mut mark = text("replacement")?.chars();
                let prefix = match text("prepend_scheme") {
                    Some("never") => MarkPrefix::Never,
                    Some("first") => MarkPrefix::First,
                    Some("always") | None => MarkPrefix::Always,
                    Some(_) => return None,
                };
                let one = mark.next().filter(|_| mark.next().is_none())?;
                Cut::Marked { mark: one, prefix, split: flag("split", true) }
            }
            "ByteLevel" => {
                let mut splitter = flag("use_regex", true).then(Splitter::default);
                splitter.iter_mut().for_each(Splitter::gpt2);
                Cut::Bytes { prefix: flag("add_prefix_space", true), splitter }
            }
            _ => return None,
        }])
    }
}

/// Cuts a text by one step after the other.
fn cut(cuts: &[Cut], text: &str, first: bool, piece: &mut dyn FnMut(&str)) {
    if text.is_empty() {
        return;
    }
    let Some((step, rest)) = cuts.split_first() else { return piece(text) };
    // What is cut off begins the text only where it stands first in it.
    let mut begins = first;
    let mut next = |part: &str| {
        cut(rest, part, begins, piece);
        begins = false;
    };
    match step {
        Cut::Rules(splitter) => splitter.split(text, &mut next),
        Cut::Matches(regex) => {
            for found in regex.find_iter(text) {
                next(text.get(found.range()).unwrap_or_default());
            }
        }
        Cut::Without(at) => text.split(*at).for_each(next),
        Cut::Alone(at) | Cut::Together(at) => {
            let (mut from, mut inside) = (0, false);
            let alone = matches!(step, Cut::Alone(_));
            for (place, c) in text.char_indices() {
                let is = at(c);
                if (is && alone) || is != inside {
                    next(text.get(from..place).unwrap_or_default());
                    from = place;
                }
                inside = is;
            }
            next(text.get(from..).unwrap_or_default());
        }
        Cut::Marked { mark, prefix, split } => {
            let mut marked = String::with_capacity(text.len() + text.len() / 2);
            let wanted = *prefix == MarkPrefix::Always || (*prefix == MarkPrefix::First && first);
            if wanted && !text.starts_with([' ', *mark]) {
                marked.push(*mark);
            }
            marked.extend(text.chars().map(|c| if c == ' ' { *mark } else { c }));
            if !*split {
                return next(&marked);
            }
            let mut from = 0;
            for (place, _) in marked.match_indices(*mark) {
                next(marked.get(from..place).unwrap_or_default());
                from = place;
            }
            next(marked.get(from..).unwrap_or_default());
        }
        Cut::Bytes { prefix, splitter } => {
            let spaced = if *prefix && !text.starts_with(' ') { Cow::Owned(format!(" {text}")) } else { text.into() };
            let mut named = |part: &str| next(&part.bytes().map(super::pieces::name_of).collect::<String>());
            match splitter {
                Some(splitter) => splitter.split(&spaced, &mut named),
                None => named(&spaced),
            }
        }
    }
}
