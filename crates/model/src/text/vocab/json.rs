//! tokenizer.json: read without believing it; byte-pair encodings by our own merging, other models by the tokenizers crate.
#![forbid(unsafe_code)]

use super::guard;
use super::library::Library;
use super::pieces::{Pieces, Prefix, SPACE};
use super::read::{File, MOST_TOKENS, Texts, Values, Vocab, read};
use super::split::Splitter;
use super::tokens::{Kind, Problem, Special, Tokens, problem, shown};
use super::{Around, Scheme, Vocabulary};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most tokens of a vocabulary that the tokenizers crate runs, which holds several times what we do of each.
const MOST_OF_LIBRARY: usize = 300_000;

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, Problem>;

impl Vocabulary {
    /// The vocabulary of a tokenizer.json.
    ///
    /// # Errors
    /// The field that is wrong, and how.
    pub fn from_json(text: &str) -> Result<Vocabulary> {
        if text.starts_with("version https://git-lfs") {
            return Err(problem("the file", "it is a Git LFS pointer: fetch the file itself with `git lfs pull`"));
        }
        let File { mut all, vocab, merges } = read(text)?;
        object(&all, "model")?;
        guard::check(&all)?;
        let Some(vocab) = vocab else {
            return Err(problem("model.vocab", "it is missing, and there is no text without it"));
        };
        let model = object(&all, "model")?;
        let added = added(&all)?;
        let mut tokens = tokens(&vocab, &added)?;
        tokens.control_by_form();
        if is_true(model, "byte_fallback", false) {
            tokens.bytes_by_form();
        }
        let special = special(&all, &tokens, model)?;
        let those = |wanted: fn(&Added) -> bool| added.iter().filter(|token| wanted(token)).map(|t| t.id).collect();
        let around = Around {
            after: those(|token| token.swallows_after),
            before: those(|token| token.swallows_before),
            alone: those(|token| token.alone),
        };
        let scheme = match own(&all, model, &tokens, merges.as_ref(), special.unknown)? {
            Some(scheme) => scheme,
            None => {
                guard::models(&all, &vocab, merges.as_ref(), &tokens)?;
                whole(&mut all, vocab, merges)?;
                Scheme::Library(Box::new(Library::new(all, special.unknown)?))
            }
        };
        let mut vocabulary = Vocabulary::new(tokens, special, scheme);
        vocabulary.around = around;
        Ok(vocabulary)
    }
}

struct Added<'j> {
    id: u32,
    text: &'j str,
    special: bool,
    swallows_after: bool,
    swallows_before: bool,
    alone: bool,
}

impl Added<'_> {
    fn kind(&self) -> Kind {
        if self.special { Kind::Control } else { Kind::UserDefined }
    }
}

fn object<'j>(all: &'j Object, key: &str) -> Result<&'j Object> {
    match all.get(key) {
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(problem(key, "it must be an object")),
        None => Err(problem(key, "it is missing, so this is no tokenizer.json")),
    }
}

/// Present and not null.
pub(super) fn present<'j>(all: &'j Object, key: &str) -> Option<&'j Value> {
    all.get(key).filter(|value| !value.is_null())
}

pub(super) fn kind(object: &Object) -> Option<&str> {
    object.get("type").and_then(Value::as_str)
}

fn is_true(object: &Object, key: &str, otherwise: bool) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or(otherwise)
}

fn id_of(value: &Value, field: impl Fn() -> String) -> Result<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| (*id as usize) < MOST_TOKENS);
    id.ok_or_else(|| {
        let most = MOST_TOKENS - 1;
        problem(field(), format!("its id is {value}; it must be a whole number from 0 to {most}"))
    })
}

fn added(all: &Object) -> Result<Vec<Added<'_>>> {
    let list = match present(all, "added_tokens") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(problem("added_tokens", "it must be a list")),
    };
    let mut seen = HashMap::new();
    let mut tokens = Vec::with_capacity(list.len());
    for (at, entry) in list.iter().enumerate() {
        let field = || format!("added_tokens[{at}]");
        let Value::Object(entry) = entry else { return Err(problem(field(), "it must be an object")) };
        let id = id_of(entry.get("id").unwrap_or(&Value::Null), field)?;
        let text = entry.get("content").and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            return Err(problem(field(), "its `content` is missing or empty"));
        }
        if let Some(first) = seen.insert(text, at) {
            return Err(problem(field(), format!("it is {} again, as added_tokens[{first}] is", shown(text))));
        }
        let flag = |key: &str| is_true(entry, key, false);
        tokens.push(Added {
            id,
            text,
            special: flag("special"),
            swallows_after: flag("rstrip"),
            swallows_before: flag("lstrip"),
            alone: flag("single_word"),
        });
    }
    Ok(tokens)
}

/// The tokens in order of their ids, which must be all numbers from 0 on.
fn tokens(vocab: &Vocab, added: &[Added]) -> Result<Tokens> {
    let count = vocab.texts.len();
    if count == 0 || count.saturating_add(added.len()) > MOST_TOKENS {
        return Err(problem("model.vocab", format!("it has {count} tokens; there must be 1 to {MOST_TOKENS}")));
    }
    let mut by_text: HashMap<&str, (&Added, bool)> = added.iter().map(|token| (token.text, (token, false))).collect();
    let mut all: Vec<(u32, &str, Kind)> = Vec::with_capacity(count + added.len());
    for (at, text) in (0u32..).zip(vocab.texts.iter()) {
        let id = match &vocab.values {
            Values::Ids(ids) => ids.get(at as usize).copied().unwrap_or(at),
            Values::Scores(_) => at,
        };
        let mut kind = Kind::Normal;
        if let Some((token, is_there)) = by_text.get_mut(text) {
            if token.id != id {
                let what = format!("{} has the id {}, and in model.vocab {id}", shown(token.text), token.id);
                return Err(problem("added_tokens", what));
            }
            *is_there = true;
            kind = token.kind();
        }
        all.push((id, text, kind));
    }
    let is_new = |token: &&Added| by_text.get(token.text).is_some_and(|(_, is_there)| !is_there);
    all.extend(added.iter().filter(is_new).map(|token| (token.id, token.text, token.kind())));
    all.sort_unstable_by_key(|(id, ..)| *id);
    for (expected, pair) in (0u32..).zip(&all) {
        let (id, text, _) = *pair;
        if id > expected {
            return Err(problem(
                "model.vocab",
                format!("no token has the id {expected}, and {} has {id}", shown(text)),
            ));
        }
        if id < expected {
            return Err(problem(
                "model.vocab",
                format!("{} has the id {id}, which another token has too", shown(text)),
            ));
        }
    }
    let count = all.len();
    let tokens = Tokens::of(all.into_iter().map(|(_, text, kind)| (text.to_string(), kind)));
    if tokens.ids.len() < count {
        let again = tokens.iter().find(|(id, text, _)| tokens.ids.get(*text) != Some(id));
        let (id, text, _) = again.unwrap_or_default();
        let what = format!("{} has the id {id} and another one too", shown(text));
        return Err(problem("model.vocab", what));
    }
    Ok(tokens)
}

/// Merges as two texts each.
pub(super) fn pairs<'m, 't>(merges: Option<&'m Texts<'t>>) -> Result<&'m Texts<'t>> {
    merges.ok_or_else(|| problem("model.merges", "it is missing, or no list"))
}

/// Puts tokens and merges back to where they were.
fn whole(all: &mut Object, vocab: Vocab, merges: Option<Texts>) -> Result<()> {
    let count = vocab.texts.len();
    if count > MOST_OF_LIBRARY {
        let what = format!("it has {count} tokens; of this model at most {MOST_OF_LIBRARY} are supported");
        return Err(problem("model.vocab", what));
    }
    let Some(Value::Object(model)) = all.get_mut("model") else { return Ok(()) };
    let texts = vocab.texts.iter();
    let tokens: Value = match &vocab.values {
        Values::Ids(ids) => texts.zip(ids).map(|(text, id)| (text.to_string(), Value::from(*id))).collect(),
        Values::Scores(scores) => texts.zip(scores).map(|(text, score)| serde_json::json!([text, score])).collect(),
    };
    model.insert("vocab".into(), tokens);
    if let Some(merges) = merges {
        model.insert("merges".into(), merges.pairs().map(|(left, right)| serde_json::json!([left, right])).collect());
    }
    Ok(())
}

/// The unknown token, and what the template puts around a text.
fn special(all: &Object, tokens: &Tokens, model: &Object) -> Result<Special> {
    let mut special = Special::default();
    if let Some(unknown) = present(model, "unk_token") {
        let text = unknown.as_str().ok_or_else(|| problem("model.unk_token", "it must be a text"))?;
        let id = tokens.ids.get(text).copied();
        special.unknown = Some(id.ok_or_else(|| problem("model.unk_token", format!("{} is no token", shown(text))))?);
    } else if let Some(unknown) = present(model, "unk_id") {
        let id = id_of(unknown, || "model.unk_id".into())?;
        if id as usize >= tokens.len() {
            return Err(problem("model.unk_id", format!("it is {id}, and there are {} tokens", tokens.len())));
        }
        special.unknown = Some(id);
    }
    let [before, after] = guard::around(all, tokens)?;
    (special.add_bos, special.bos) = (before.is_some(), before);
    (special.add_eos, special.eos) = (after.is_some(), after);
    special.ends = tokens.ends(special.eos);
    Ok(special)
}

/// How text is prepared, where our own merging knows how.
struct Prepared {
    nfc: bool,
    escape: bool,
    prefix: Prefix,
}

/// Our own merging, where it means the same; `None` where the crate must do it.
fn own(
    all: &Object,
    model: &Object,
    tokens: &Tokens,
    merges: Option<&Texts>,
    unknown: Option<u32>,
) -> Result<Option<Scheme>> {
    let plain = |key: &str| present(model, key).is_none_or(|v| v.as_str() == Some("") || v.as_f64() == Some(0.0));
    if kind(model).unwrap_or("BPE") != "BPE"
        || !(plain("dropout") && plain("continuing_subword_prefix") && plain("end_of_word_suffix"))
    {
        return Ok(None);
    }
    let Some(mut prepared) = normalized(present(all, "normalizer")) else { return Ok(None) };
    let mut steps = Vec::new();
    flatten(present(all, "pre_tokenizer"), "pretokenizers", &mut steps);
    let byte_level = steps.iter().any(|step| kind(step) == Some("ByteLevel"));
    let Some(splitter) = cut(&steps, &mut prepared) else { return Ok(None) };
    let merges = pairs(merges)?;
    let field = "model.merges";
    let whole = is_true(model, "ignore_merges", false);
    if byte_level {
        if prepared.escape {
            return Ok(None);
        }
        let mut pieces = Pieces::byte_level(tokens, merges.pairs(), splitter.unwrap_or_default(), whole, field)?;
        (pieces.nfc, pieces.prefix, pieces.unknown) = (prepared.nfc, prepared.prefix, unknown);
        return Ok(Some(Scheme::Bytes(pieces)));
    }
    let (fuse, fallback) = (is_true(model, "fuse_unk", false), is_true(model, "byte_fallback", false));
    let mut pieces = Pieces::of_characters(tokens, merges.pairs(), unknown, fuse, field)?;
    if !fallback {
        pieces = pieces.without_bytes();
    }
    if let Some(splitter) = splitter {
        pieces = pieces.cut_by(splitter);
    }
    if whole {
        pieces = pieces.keep_whole(tokens);
    }
    (pieces.nfc, pieces.escape, pieces.prefix) = (prepared.nfc, prepared.escape, prepared.prefix);
    Ok(Some(if prepared.escape { Scheme::Sentence(pieces) } else { Scheme::Characters(pieces) }))
}

/// Lists a sequence's parts, which may be sequences.
pub(super) fn flatten<'j>(step: Option<&'j Value>, list: &str, into: &mut Vec<&'j Object>) {
    let Some(Value::Object(step)) = step else { return };
    match (kind(step), step.get(list)) {
        (Some("Sequence"), Some(Value::Array(parts))) => {
            parts.iter().for_each(|part| flatten(Some(part), list, into));
        }
        _ => into.push(step),
    }
}

fn normalized(normalizer: Option<&Value>) -> Option<Prepared> {
    let mut prepared = Prepared { nfc: false, escape: false, prefix: Prefix::Never };
    let mut steps = Vec::new();
    flatten(normalizer, "normalizers", &mut steps);
    let space = SPACE.to_string();
    for step in steps {
        let text = |key: &str| step.get(key).and_then(Value::as_str);
        match kind(step)? {
            "NFC" if !prepared.escape => prepared.nfc = true,
            "Prepend" if text("prepend") == Some(&space) && !prepared.escape => prepared.prefix = Prefix::Always,
            "Replace" => {
                let pattern = step.get("pattern").and_then(|p| p.get("String")).and_then(Value::as_str);
                if pattern != Some(" ") || text("content") != Some(&space) {
                    return None;
                }
                prepared.escape = true;
            }
            _ => return None,
        }
    }
    // A mark that is put before a text without spaces becoming marks is another scheme.
    (prepared.escape || prepared.prefix == Prefix::Never).then_some(prepared)
}

/// The rules of these pre-tokenizers; the inner `None` says that there are none.
fn cut(steps: &[&Object], prepared: &mut Prepared) -> Option<Option<Splitter>> {
    let mut splitter = Splitter::default();
    let mut any = false;
    for (at, step) in steps.iter().enumerate() {
        match kind(step)? {
            "ByteLevel" if at + 1 == steps.len() => {
                if is_true(step, "add_prefix_space", true) {
                    // After other rules each of their pieces would get a space.
                    if at > 0 || prepared.prefix != Prefix::Never {
                        return None;
                    }
                    prepared.prefix = Prefix::UnlessSpace;
                }
                if is_true(step, "use_regex", true) {
                    splitter.gpt2();
                }
            }
            "Split" if step.get("behavior").and_then(Value::as_str) == Some("Isolated") => {
                if is_true(step, "invert", false) {
                    return None;
                }
                let pattern = step.get("pattern")?.get("Regex").and_then(Value::as_str)?;
                splitter.pattern(pattern).ok()?;
            }
            "Digits" => {
                let each = is_true(step, "individual_digits", false);
                splitter.pattern(if each { r"\p{N}" } else { r"\p{N}+" }).ok()?;
            }
            "Metaspace" if steps.len() == 1 && !prepared.escape => {
                let replacement = step.get("replacement").and_then(Value::as_str);
                if replacement != Some("\u{2581}") || is_true(step, "split", true) {
                    return None;
                }
                prepared.escape = true;
                prepared.prefix = match step.get("prepend_scheme").and_then(Value::as_str) {
                    Some("never") => Prefix::Never,
                    Some("first") => Prefix::FirstUnlessSpace,
                    Some("always") | None => Prefix::UnlessSpace,
                    Some(_) => return None,
                };
                return Some(None);
            }
            _ => return None,
        }
        any = true;
    }
    Some(any.then_some(splitter))
}
