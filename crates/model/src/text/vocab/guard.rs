//! What is checked of a tokenizer.json before the tokenizers crate sees it, which panics on much that is wrong.
#![forbid(unsafe_code)]

use super::json::{flatten, kind, pairs, present};
use super::read::{Texts, Values, Vocab};
use super::split::Splitter;
use super::tokens::{Problem, Tokens, problem, shown};
use serde_json::{Map, Value};

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, Problem>;

const NORMALIZERS: &[&str] = &[
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
];
const PRE_TOKENIZERS: &[&str] = &[
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "FixedLength",
    "Metaspace",
    "Punctuation",
    "Sequence",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
];
const DECODERS: &[&str] = &[
    "BPEDecoder",
    "ByteFallback",
    "ByteLevel",
    "CTC",
    "Fuse",
    "Metaspace",
    "Replace",
    "Sequence",
    "Strip",
    "WordPiece",
];
const POST_PROCESSORS: &[&str] =
    &["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"];
const MODELS: &[&str] = &["BPE", "Unigram", "WordLevel", "WordPiece"];
/// Steps of one kind, and how deep sequences may go.
const MOST_STEPS: usize = 64;
const DEEPEST: usize = 4;
/// Longest regular expression, in bytes.
const LONGEST_PATTERN: usize = 1 << 15;
/// How many times longer replacing may make a text.
const MOST_GROWTH: usize = 64;
/// Longest word that WordPiece may search, in characters.
const LONGEST_WORD: u64 = 1000;

/// Checks everything but the model.
///
/// # Errors
/// The field that is wrong, and how.
pub fn check(all: &Object) -> Result<()> {
    let version = all.get("version").and_then(Value::as_str);
    if version != Some("1.0") {
        return Err(problem("version", "it must be \"1.0\", as in every tokenizer.json"));
    }
    known("normalizer", all, "normalizers", NORMALIZERS)?;
    known("pre_tokenizer", all, "pretokenizers", PRE_TOKENIZERS)?;
    known("decoder", all, "decoders", DECODERS)?;
    known("post_processor", all, "processors", POST_PROCESSORS)?;
    let model = all.get("model").and_then(Value::as_object).and_then(kind);
    if let Some(other) = model.filter(|name| !MODELS.contains(name)) {
        return Err(problem("model.type", format!("{} is unknown; {} are known", shown(other), MODELS.join(", "))));
    }
    truncation(all)?;
    normalizer(all)?;
    pre_tokenizer(all)?;
    decoder(all)
}

fn steps<'j>(all: &'j Object, key: &str, list: &str) -> Vec<&'j Object> {
    let mut steps = Vec::new();
    flatten(all.get(key), list, &mut steps);
    steps
}

fn known(key: &str, all: &Object, list: &str, names: &[&str]) -> Result<()> {
    let Some(step) = present(all, key) else { return Ok(()) };
    let mut count = 0;
    known_step(key, step, list, names, 0, &mut count)
}

fn known_step(key: &str, step: &Value, list: &str, names: &[&str], depth: usize, count: &mut usize) -> Result<()> {
    *count += 1;
    if depth > DEEPEST || *count > MOST_STEPS {
        return Err(problem(key, format!("it has more than {MOST_STEPS} steps, or goes deeper than {DEEPEST}")));
    }
    let Value::Object(step) = step else { return Err(problem(key, "it must be an object")) };
    let name = kind(step).ok_or_else(|| problem(format!("{key}.type"), "it is missing, or no text"))?;
    if name == "Precompiled" {
        let what = "it is \"Precompiled\", a table of SentencePiece, which is not supported";
        return Err(problem(format!("{key}.type"), what));
    }
    if !names.contains(&name) {
        return Err(problem(
            format!("{key}.type"),
            format!("{} is unknown; {} are known", shown(name), names.join(", ")),
        ));
    }
    if name == "Sequence" {
        let Some(Value::Array(parts)) = step.get(list) else {
            return Err(problem(format!("{key}.{list}"), "it is missing, or no list"));
        };
        for part in parts {
            known_step(key, part, list, names, depth + 1, count)?;
        }
    }
    Ok(())
}

/// A whole number below 2^31 at `key`.
fn number(object: &Object, key: &str, field: &str) -> Result<u64> {
    let value = object.get(key).unwrap_or(&Value::Null);
    let number = value.as_u64().filter(|number| *number < 1 << 31);
    number.ok_or_else(|| {
        problem(format!("{field}.{key}"), format!("it is {}; it must be a count", shown(&value.to_string())))
    })
}

fn truncation(all: &Object) -> Result<()> {
    let Some(value) = present(all, "truncation") else { return Ok(()) };
    let Value::Object(truncation) = value else { return Err(problem("truncation", "it must be an object")) };
    let longest = number(truncation, "max_length", "truncation")?;
    let stride = if truncation.contains_key("stride") { number(truncation, "stride", "truncation")? } else { 0 };
    if stride >= longest && stride > 0 {
        let what = format!("it is {stride}, and must be less than max_length, {longest}");
        return Err(problem("truncation.stride", what));
    }
    Ok(())
}

fn normalizer(all: &Object) -> Result<()> {
    let mut growth = 1usize;
    for step in steps(all, "normalizer", "normalizers") {
        let field = format!("normalizer.{}", kind(step).unwrap_or_default());
        match kind(step) {
            Some("Prepend") => {
                let text = step.get("prepend").and_then(Value::as_str).unwrap_or_default();
                if text.is_empty() || text.len() > MOST_GROWTH {
                    return Err(problem(field, format!("`prepend` must have 1 to {MOST_GROWTH} bytes")));
                }
            }
            Some("Replace") => {
                let least = pattern(step, &field)?;
                let content = step.get("content").and_then(Value::as_str);
                let content = content.ok_or_else(|| problem(&field, "`content` is missing, or no text"))?;
                growth = growth.saturating_mul(content.len().div_ceil(least).max(1));
                if growth > MOST_GROWTH {
                    return Err(problem(field, format!("it could make a text more than {MOST_GROWTH} times as long")));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn pre_tokenizer(all: &Object) -> Result<()> {
    for step in steps(all, "pre_tokenizer", "pretokenizers") {
        let field = format!("pre_tokenizer.{}", kind(step).unwrap_or_default());
        match kind(step) {
            Some("Split") => {
                pattern(step, &field)?;
            }
            Some("FixedLength") if number(step, "length", &field)? == 0 => {
                return Err(problem(format!("{field}.length"), "it must be at least 1"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a `pattern` and gives the least number of bytes that it matches, as far as that is known.
fn pattern(step: &Object, field: &str) -> Result<usize> {
    let field = format!("{field}.pattern");
    let pattern = step.get("pattern").and_then(Value::as_object);
    let one = |key: &str| pattern.and_then(|pattern| pattern.get(key)).and_then(Value::as_str);
    let (text, regex) = (one("String"), one("Regex"));
    let Some(given) = text.or(regex).filter(|given| !given.is_empty()) else {
        return Err(problem(field, "it must be {\"String\": \"…\"} or {\"Regex\": \"…\"}, and not empty"));
    };
    if given.len() > LONGEST_PATTERN {
        return Err(problem(field, format!("it has {} bytes; more than {LONGEST_PATTERN} are refused", given.len())));
    }
    if text.is_some() {
        return Ok(given.len());
    }
    let mut splitter = Splitter::default();
    match splitter.pattern(given) {
        Ok(()) if !splitter.matches_nothing() => Ok(1),
        Ok(()) => Err(problem(field, "it matches the empty text")),
        Err(why) => Err(problem(field, format!("{} can't be used: {why}", shown(given)))),
    }
}

fn decoder(all: &Object) -> Result<()> {
    for step in steps(all, "decoder", "decoders").into_iter().filter(|step| kind(step) == Some("Strip")) {
        let (start, stop) = (number(step, "start", "decoder.Strip")?, number(step, "stop", "decoder.Strip")?);
        if start > 1024 || stop > 1024 || (stop > 0 && start > stop) {
            return Err(problem("decoder.Strip", format!("start {start} and stop {stop} make no sense")));
        }
    }
    Ok(())
}

/// The tokens that the post-processor puts before and after a text.
///
/// # Errors
/// A token that isn't there.
pub fn around(all: &Object, tokens: &Tokens) -> Result<[Option<u32>; 2]> {
    let mut found = [None, None];
    for step in steps(all, "post_processor", "processors") {
        match kind(step) {
            Some("TemplateProcessing") => found = template(step, tokens)?,
            Some("BertProcessing" | "RobertaProcessing") => {
                found = [Some(pair(step, "cls", tokens)?), Some(pair(step, "sep", tokens)?)];
            }
            _ => {}
        }
    }
    Ok(found)
}

fn pair(step: &Object, key: &str, tokens: &Tokens) -> Result<u32> {
    let field = format!("post_processor.{key}");
    let text = step.get(key).and_then(|pair| pair.get(0)).and_then(Value::as_str);
    let text = text.ok_or_else(|| problem(&field, "it must be a token and its id"))?;
    tokens.ids.get(text).copied().ok_or_else(|| problem(field, format!("{} is no token", shown(text))))
}

fn template(step: &Object, tokens: &Tokens) -> Result<[Option<u32>; 2]> {
    const FIELD: &str = "post_processor";
    let special = step.get("special_tokens").and_then(Value::as_object);
    let mut found = [None, None];
    for (key, counts) in [("single", true), ("pair", false)] {
        let field = format!("{FIELD}.{key}");
        let Some(Value::Array(parts)) = step.get(key) else { return Err(problem(field, "it is missing, or no list")) };
        let mut after = false;
        for part in parts {
            if part.get("Sequence").is_some() {
                after = true;
                continue;
            }
            let name = part.get("SpecialToken").and_then(|token| token.get("id")).and_then(Value::as_str);
            let name = name.ok_or_else(|| problem(&field, "each part must be a SpecialToken or a Sequence"))?;
            let Some(listed) = special.and_then(|special| special.get(name)) else {
                return Err(problem(field, format!("it names {}, which special_tokens doesn't have", shown(name))));
            };
            let absent = || problem(&field, format!("it names {}, which is no token", shown(name)));
            let ids = listed.get("ids").and_then(Value::as_array).ok_or_else(absent)?;
            let known =
                |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| tokens.kind(*id).is_some());
            let ids: Option<Vec<u32>> = ids.iter().map(known).collect();
            let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(absent)?;
            if counts && let Some(place) = found.get_mut(usize::from(after)) {
                *place = place.or(ids.first().copied());
            }
        }
    }
    Ok(found)
}

/// Checks a model that the crate will run.
///
/// # Errors
/// The field that is wrong, and how.
pub fn models(all: &Object, vocab: &Vocab, merges: Option<&Texts>, tokens: &Tokens) -> Result<()> {
    let Some(model) = all.get("model").and_then(Value::as_object) else { return Ok(()) };
    let unknown = present(model, "unk_token").and_then(Value::as_str);
    let is_object = matches!(vocab.values, Values::Ids(_));
    let in_vocab = |text: &str| is_object && vocab.texts.iter().any(|known| known == text);
    match kind(model) {
        Some("WordPiece") => {
            if !unknown.is_some_and(in_vocab) {
                return Err(problem("model.unk_token", "it is missing, or not in model.vocab"));
            }
            if number(model, "max_input_chars_per_word", "model")? > LONGEST_WORD {
                return Err(problem("model.max_input_chars_per_word", format!("it must be at most {LONGEST_WORD}")));
            }
            let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str);
            prefix.map(|_| ()).ok_or_else(|| problem("model.continuing_subword_prefix", "it is missing, or no text"))
        }
        Some("WordLevel") if !unknown.is_some_and(in_vocab) => {
            Err(problem("model.unk_token", "it is missing, or not in model.vocab"))
        }
        Some("Unigram") => unigram(model, vocab, tokens),
        Some("WordLevel") => Ok(()),
        _ => joined(model, pairs(merges)?, tokens),
    }
}

fn unigram(model: &Object, vocab: &Vocab, tokens: &Tokens) -> Result<()> {
    let count = if matches!(vocab.values, Values::Scores(_)) { vocab.texts.len() as u64 } else { 0 };
    let id = model.get("unk_id").and_then(Value::as_u64).filter(|id| *id < count);
    if id.is_none() {
        return Err(problem("model.unk_id", format!("it is missing, or not below {count}")));
    }
    let bytes = (0..=255u8).all(|byte| tokens.ids.contains_key(&format!("<0x{byte:02X}>")));
    if model.get("byte_fallback").and_then(Value::as_bool) == Some(true) && !bytes {
        return Err(problem("model.byte_fallback", "it is true, and some of <0x00> to <0xFF> are no tokens"));
    }
    Ok(())
}

/// Byte-pair encodings that our own merging doesn't do: with a prefix inside words, an ending of words, or dropout.
fn joined(model: &Object, merges: &Texts, tokens: &Tokens) -> Result<()> {
    if present(model, "dropout").is_some_and(|value| value.as_f64() != Some(0.0)) {
        return Err(problem("model.dropout", "tokens would be drawn by chance: only null and 0 are supported"));
    }
    let prefix = present(model, "continuing_subword_prefix").and_then(Value::as_str).unwrap_or_default();
    for (rank, (left, right)) in merges.pairs().enumerate() {
        let field = || format!("model.merges[{rank}]");
        let rest = right.strip_prefix(prefix);
        let rest =
            rest.ok_or_else(|| problem(field(), format!("{} doesn't begin with {}", shown(right), shown(prefix))))?;
        for text in [left, right, &format!("{left}{rest}")] {
            if !tokens.ids.contains_key(text) {
                return Err(problem(field(), format!("{} is no token", shown(text))));
            }
        }
    }
    Ok(())
}
