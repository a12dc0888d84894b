//! Byte-pair encoding and SentencePiece: symbols of bytes or characters, merged piece by piece.
#![forbid(unsafe_code)]

use super::merge::{Found, Merges};
use super::split::Splitter;
use super::tokens::{Kind, Problem, Tokens, byte_of, problem, shown};
use std::collections::HashMap;
use unicode_normalization_alignments::UnicodeNormalization;

/// Symbols of characters that have no token: this and the character's code.
const NAMELESS: u32 = 1 << 31;
/// The space that SentencePiece sees.
pub const SPACE: char = '\u{2581}';
/// Pieces whose tokens are remembered.
const REMEMBERED: usize = 1 << 16;
/// Longest piece that is remembered, in bytes.
const LONGEST_REMEMBERED: usize = 64;
/// The most work that finding the merges of scored tokens may take: bytes of prefixes and suffixes looked up.
const MOST_LOOKUPS: u64 = 400_000_000;

/// What is merged first.
#[derive(Clone, Debug)]
enum Units {
    /// Bytes, each of which is a token, or `NAMELESS` and its number.
    Bytes(Box<[u32; 256]>),
    /// Characters; those without a token become bytes, or the unknown token.
    Characters { ids: HashMap<char, u32>, bytes: Box<[Option<u32>; 256]>, unknown: Option<u32>, fuse_unknown: bool },
}

/// Where a text is cut before it is merged.
#[derive(Clone, Debug)]
enum Cut {
    /// By rules.
    Rules(Splitter),
    /// Before each space that follows something else: no token reaches over such a place.
    BeforeSpace,
    /// Nowhere.
    Nowhere,
}

/// What stands before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is the first.
    Nothing,
    /// A token that was found as it stands.
    Token,
    /// More of the text.
    Text,
}

/// Text to tokens by merging.
#[derive(Clone, Debug)]
pub struct Pieces {
    units: Units,
    cut: Cut,
    merges: Merges,
    /// Pieces that are one token however they would be merged.
    whole: HashMap<Vec<u8>, u32>,
    /// Where U+2581 goes before a text.
    pub prefix: Prefix,
    /// Spaces become U+2581.
    pub escape: bool,
    /// Characters are composed first (Unicode's NFC).
    pub nfc: bool,
    /// What stands for a byte without a token in a byte-level vocabulary.
    pub unknown: Option<u32>,
}

/// Where U+2581 goes before a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Nowhere.
    Never,
    /// At the beginning, and after a special token.
    Always,
    /// The same, but not before a space.
    UnlessSpace,
    /// At the very beginning, but not before a space.
    FirstUnlessSpace,
}

/// The characters that stand for the bytes 0 to 255 in byte-level vocabularies (Radford et al. 2019): those that print
/// stand for themselves, the others for 256 on.
pub fn name_of(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => code,
        0..=0x20 => code + 0x100,
        0x7F..=0xA0 => code - 0x7F + 0x121,
        0xAD => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte that a character of a byte-level vocabulary stands for.
pub fn byte_named(name: char) -> Option<u8> {
    match u32::from(name) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// The bytes that a token of a byte-level vocabulary stands for; its text's own where it is none of such.
pub fn bytes_named(text: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = text.chars().map(byte_named).collect();
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

impl Pieces {
    /// Byte-level byte-pair encoding; with `whole` a piece that is a token is never taken apart.
    ///
    /// # Errors
    /// The merge that is none.
    pub fn byte_level<'m>(
        tokens: &Tokens,
        merges: impl Iterator<Item = (&'m str, &'m str)>,
        splitter: Splitter,
        whole: bool,
        field: &str,
    ) -> Result<Pieces, Problem> {
        let mut bytes = Box::new([NAMELESS; 256]);
        for (byte, id) in (0u8..=255).zip(bytes.iter_mut()) {
            *id = tokens.ids.get(name_of(byte).encode_utf8(&mut [0; 4])).copied().unwrap_or(NAMELESS | u32::from(byte));
        }
        let kept = tokens.iter().filter(|(_, _, kind)| whole && *kind == Kind::Normal);
        Ok(Pieces {
            units: Units::Bytes(bytes),
            cut: Cut::Rules(splitter),
            merges: listed(tokens, merges, field)?,
            whole: kept.map(|(id, text, _)| (bytes_named(text), id)).collect(),
            prefix: Prefix::Never,
            escape: false,
            nfc: false,
            unknown: None,
        })
    }

    /// SentencePiece: any two neighbours whose text is a token become it, the likeliest first.
    ///
    /// # Errors
    /// When the tokens are too long to be a vocabulary.
    pub fn scored(tokens: &Tokens, unknown: Option<u32>) -> Result<Pieces, Problem> {
        let merges = by_score(tokens)?;
        Ok(Pieces::characters(tokens, merges, unknown, false))
    }

    /// Byte-pair encoding over characters, as SentencePiece's vocabularies are in tokenizer.json.
    ///
    /// # Errors
    /// The merge that is none.
    pub fn of_characters<'m>(
        tokens: &Tokens,
        merges: impl Iterator<Item = (&'m str, &'m str)>,
        unknown: Option<u32>,
        fuse_unknown: bool,
        field: &str,
    ) -> Result<Pieces, Problem> {
        let merges = listed(tokens, merges, field)?;
        Ok(Pieces::characters(tokens, merges, unknown, fuse_unknown))
    }

    fn characters(tokens: &Tokens, merges: Merges, unknown: Option<u32>, fuse_unknown: bool) -> Pieces {
        let mut bytes = Box::new([None; 256]);
        let mut ids = HashMap::new();
        let mut parted = true;
        for (id, text, kind) in tokens.iter() {
            if let Some(place) = byte_of(text).and_then(|byte| bytes.get_mut(usize::from(byte))) {
                *place = Some(id);
            } else if matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused) {
                let mut characters = text.chars();
                if let (Some(one), None) = (characters.next(), characters.next()) {
                    ids.insert(one, id);
                }
                parted &= !text.trim_start_matches(SPACE).contains(SPACE);
            }
        }
        Pieces {
            units: Units::Characters { ids, bytes, unknown, fuse_unknown },
            cut: if parted { Cut::BeforeSpace } else { Cut::Nowhere },
            merges,
            whole: HashMap::new(),
            prefix: Prefix::Never,
            escape: false,
            nfc: false,
            unknown: None,
        }
    }

    /// Pieces that are cut by these rules.
    pub fn cut_by(mut self, splitter: Splitter) -> Pieces {
        self.cut = Cut::Rules(splitter);
        self
    }

    /// Pieces that are tokens are never taken apart.
    pub fn keep_whole(mut self, tokens: &Tokens) -> Pieces {
        self.whole = tokens.iter().filter(|(_, _, k)| *k == Kind::Normal).map(|(id, t, _)| (t.into(), id)).collect();
        self
    }

    /// Characters without a token don't become bytes.
    pub fn without_bytes(mut self) -> Pieces {
        if let Units::Characters { bytes, .. } = &mut self.units {
            bytes.fill(None);
        }
        self
    }

    /// Whether there is no token for a character, nor for its bytes, nor one for what is unknown.
    pub fn lacks(&self, character: char) -> bool {
        let mut room = [0; 4];
        let mut bytes = character.encode_utf8(&mut room).bytes();
        match &self.units {
            Units::Bytes(ids) => self.unknown.is_none() && bytes.any(|byte| ids[usize::from(byte)] >= NAMELESS),
            Units::Characters { ids, bytes: of_bytes, unknown, .. } => {
                unknown.is_none()
                    && !ids.contains_key(&character)
                    && bytes.any(|byte| of_bytes[usize::from(byte)].is_none())
            }
        }
    }

    /// Whether U+2581 goes before a text after what `before` says.
    pub fn prefixes(&self, before: Before, text: &str) -> bool {
        let space = text.starts_with([' ', SPACE]);
        match self.prefix {
            Prefix::Never => false,
            Prefix::Always => before != Before::Text,
            Prefix::UnlessSpace => before != Before::Text && !space,
            Prefix::FirstUnlessSpace => before == Before::Nothing && !space,
        }
    }

    /// Tokens of `text`, onto `out`.
    pub fn encode(&self, text: &str, before: Before, out: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let composed: String;
        let text = if self.nfc && !text.is_ascii() {
            composed = text.nfc().map(|(c, _)| c).collect();
            &composed
        } else {
            text
        };
        if !self.escape {
            // Only a space is one to bytes.
            return match self.prefix == Prefix::UnlessSpace && before != Before::Text && !text.starts_with(' ') {
                true => self.pieces(&format!(" {text}"), out),
                false => self.pieces(text, out),
            };
        }
        let mut escaped = String::with_capacity(text.len() + text.len() / 2 + 3);
        if self.prefixes(before, text) {
            escaped.push(SPACE);
        }
        escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        self.pieces(&escaped, out);
    }

    fn pieces(&self, text: &str, out: &mut Vec<u32>) {
        let mut run = Run { pieces: self, seen: HashMap::new(), found: Found::default(), out };
        match &self.cut {
            Cut::Rules(splitter) => splitter.split(text, &mut |part| run.piece(part)),
            Cut::Nowhere => run.piece(text),
            Cut::BeforeSpace => {
                let mut rest = text;
                while !rest.is_empty() {
                    let solid = rest.find(|c| c != SPACE).unwrap_or(rest.len());
                    let end = rest.get(solid..).and_then(|word| word.find(SPACE)).map_or(rest.len(), |at| solid + at);
                    let (word, after) = rest.split_at(end);
                    run.piece(word);
                    rest = after;
                }
            }
        }
    }

    /// A piece's symbols, onto `out`.
    fn symbols(&self, piece: &str, out: &mut Vec<u32>) {
        match &self.units {
            Units::Bytes(ids) => out.extend(piece.bytes().map(|byte| ids[usize::from(byte)])),
            Units::Characters { ids, .. } => {
                out.extend(piece.chars().map(|c| ids.get(&c).copied().unwrap_or(NAMELESS | u32::from(c))));
            }
        }
    }

    /// What stands in `out` from `from` on, without symbols that are no tokens.
    fn name(&self, out: &mut Vec<u32>, from: usize) {
        if out.iter().skip(from).all(|symbol| *symbol < NAMELESS) {
            return;
        }
        let symbols = out.split_off(from);
        let mut fusing = false;
        for symbol in symbols {
            if symbol < NAMELESS {
                out.push(symbol);
                fusing = false;
                continue;
            }
            let Units::Characters { bytes, unknown, fuse_unknown, .. } = &self.units else {
                out.extend(self.unknown);
                continue;
            };
            let character = char::from_u32(symbol & !NAMELESS).unwrap_or(char::REPLACEMENT_CHARACTER);
            let mut room = [0; 4];
            let encoded = character.encode_utf8(&mut room).bytes();
            let ids: Option<Vec<u32>> = encoded.map(|byte| bytes[usize::from(byte)]).collect();
            match (ids, unknown) {
                (Some(ids), _) => out.extend(ids),
                (None, Some(unknown)) if !(fusing && *fuse_unknown) => {
                    out.push(*unknown);
                    fusing = true;
                    continue;
                }
                _ => continue,
            }
            fusing = false;
        }
    }
}

/// One text on its way.
struct Run<'p, 't, 'o> {
    pieces: &'p Pieces,
    /// Where in `out` the tokens of a piece stand that has come before.
    seen: HashMap<&'t str, (usize, usize)>,
    found: Found,
    out: &'o mut Vec<u32>,
}

impl<'t> Run<'_, 't, '_> {
    fn piece(&mut self, text: &'t str) {
        if let Some((from, to)) = self.seen.get(text) {
            return self.out.extend_from_within(*from..*to);
        }
        let from = self.out.len();
        match self.pieces.whole.get(text.as_bytes()) {
            Some(id) => self.out.push(*id),
            None => {
                self.pieces.symbols(text, self.out);
                self.pieces.merges.apply(self.out, from, &mut self.found);
                self.pieces.name(self.out, from);
            }
        }
        if text.len() <= LONGEST_REMEMBERED && self.seen.len() < REMEMBERED {
            self.seen.insert(text, (from, self.out.len()));
        }
    }
}

/// Merges that a file lists, the first first.
fn listed<'m>(
    tokens: &Tokens,
    merges: impl Iterator<Item = (&'m str, &'m str)>,
    field: &str,
) -> Result<Merges, Problem> {
    let mut all = Merges::default();
    let mut both = String::new();
    for (rank, (left, right)) in (0u32..).zip(merges) {
        both.clear();
        both.push_str(left);
        both.push_str(right);
        let id = |text: &str| {
            tokens.ids.get(text).copied().ok_or_else(|| {
                let what = format!("merge {rank} of {} and {}: {} is no token", shown(left), shown(right), shown(text));
                problem(field, what)
            })
        };
        all.insert(id(left)?, id(right)?, rank, id(&both)?);
    }
    Ok(all)
}

/// Every way to make a token of two others, or of characters that are none; the higher its score, the sooner.
fn by_score(tokens: &Tokens) -> Result<Merges, Problem> {
    let mut merges = Merges::default();
    each_scored(tokens, |rank, left, right, id| merges.insert(left, right, rank, id))?;
    Ok(merges)
}

/// As [`by_score`], in the order in which they are merged, as ids: left, right, and what they become. Without those that
/// become tokens which are found in a text before it is merged.
///
/// # Errors
/// When the tokens are too long to be a vocabulary, or one has a character that is none.
pub fn scored_pairs(tokens: &Tokens) -> Result<Vec<[u32; 3]>, Problem> {
    let (mut pairs, mut nameless) = (Vec::new(), None);
    each_scored(tokens, |rank, left, right, id| {
        if tokens.kind(id) != Some(Kind::UserDefined) {
            nameless = nameless.or((left.max(right) >= NAMELESS).then_some(id));
            pairs.push((rank, id, left, right));
        }
    })?;
    if let Some(text) = nameless.and_then(|id| tokens.text(id)) {
        return Err(problem("tokenizer.ggml.tokens", format!("{} has a character that is no token", shown(text))));
    }
    pairs.sort_unstable();
    Ok(pairs.into_iter().map(|(_, id, left, right)| [left, right, id]).collect())
}

/// Calls with rank, left, right and what they become.
fn each_scored(tokens: &Tokens, mut each: impl FnMut(u32, u32, u32, u32)) -> Result<(), Problem> {
    let mergeable = |kind| matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused);
    let work = tokens.iter().map(|(_, text, _)| (text.len() as u64).saturating_pow(2)).fold(0, u64::saturating_add);
    if work > MOST_LOOKUPS {
        return Err(problem("tokenizer.ggml.tokens", "the tokens are too long to be a vocabulary of pieces"));
    }
    let score = |id: u32| tokens.scores.get(id as usize).copied().unwrap_or(0.0);
    let mut order: Vec<f32> = (0u32..).take(tokens.len()).map(score).collect();
    order.sort_unstable_by(|a, b| b.total_cmp(a));
    order.dedup();
    let symbol = |text: &str| {
        let known = tokens.ids.get(text).copied();
        known.filter(|id| tokens.kind(*id).is_some_and(mergeable)).or_else(|| {
            let mut characters = text.chars();
            let one = characters.next()?;
            characters.next().is_none().then_some(NAMELESS | u32::from(one))
        })
    };
    for (id, text, _) in tokens.iter().filter(|(_, _, kind)| mergeable(*kind)) {
        let rank = order.partition_point(|other| other.total_cmp(&score(id)).is_gt());
        let rank = u32::try_from(rank).unwrap_or(u32::MAX - 1);
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                each(rank, left, right, id);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_name_and_is_found_by_it() {
        for byte in 0..=255 {
            assert_eq!(byte_named(name_of(byte)), Some(byte), "{byte}");
        }
        assert_eq!(bytes_named("\u{120}a"), b" a");
        assert_eq!(bytes_named("a b"), b"a b");
    }
}
