//! The keys of a configuration: what each may hold, and the nearest name of one that isn't there.
#![forbid(unsafe_code)]

use toml::Value;

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A whole number from 0 on.
    Count,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// Text.
    Text,
    /// A list of texts.
    Texts,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A number, or one of these words.
    NumberOr(&'static [&'static str]),
}

/// Element types that only some precisions are; the others are refused by name when a configuration is checked.
const TYPES: Kind = Kind::OneOf(&["f32", "bf16", "f16", "f64"]);

/// Every key of a configuration.
pub const KEYS: &[(&str, Kind)] = &[
    ("preset", Kind::Text),
    ("seed", Kind::Count),
    ("batch_size", Kind::Count),
    ("grad_accumulation", Kind::Count),
    ("epochs", Kind::Count),
    ("steps", Kind::Count),
    ("fuse", Kind::Flag),
    ("model.vocab_size", Kind::Count),
    ("model.hidden_size", Kind::Count),
    ("model.num_layers", Kind::Count),
    ("model.num_heads", Kind::Count),
    ("model.num_kv_heads", Kind::Count),
    ("model.intermediate_size", Kind::Count),
    ("model.max_context", Kind::Count),
    ("model.mixer", Kind::OneOf(&["attention", "value"])),
    ("model.norm", Kind::OneOf(&["layer_norm", "rms_norm"])),
    ("model.norm_eps", Kind::Number),
    ("model.positions", Kind::OneOf(&["learned", "rope"])),
    ("model.rope_theta", Kind::Number),
    ("model.rope_scaling_factor", Kind::Number),
    ("model.rope_scaling_low_freq_factor", Kind::Number),
    ("model.rope_scaling_high_freq_factor", Kind::Number),
    ("model.rope_scaling_original_max_position", Kind::Count),
    ("model.mlp", Kind::OneOf(&["gelu", "swiglu"])),
    ("model.attention_bias", Kind::Flag),
    ("model.mlp_bias", Kind::Flag),
    ("model.tied_embeddings", Kind::Flag),
    ("data.corpus", Kind::OneOf(&["hlx", "jsonl", "text"])),
    ("data.path", Kind::Text),
    ("data.tokenizer", Kind::OneOf(&["auto", "ascii", "byte", "bpe"])),
    ("data.shuffle", Kind::Flag),
    ("optimizer.kind", Kind::OneOf(&["adam", "adamw"])),
    ("optimizer.lr", Kind::Number),
    ("optimizer.beta1", Kind::Number),
    ("optimizer.beta2", Kind::Number),
    ("optimizer.eps", Kind::Number),
    ("optimizer.weight_decay", Kind::Number),
    ("optimizer.max_norm", Kind::Number),
    ("schedule.kind", Kind::OneOf(&["constant", "cosine", "linear", "wsd"])),
    ("schedule.warmup_steps", Kind::Count),
    ("schedule.decay_steps", Kind::Count),
    ("schedule.end_share", Kind::Number),
    ("precision.weights", TYPES),
    ("precision.compute", TYPES),
    ("precision.gradients", TYPES),
    ("precision.moments", TYPES),
    ("precision.master", Kind::OneOf(&["none", "f32"])),
    ("precision.loss_scale", Kind::NumberOr(&["none", "dynamic"])),
    ("eval.fraction", Kind::Number),
    ("eval.every", Kind::Count),
    ("eval.batches", Kind::Count),
    ("sample.every", Kind::Count),
    ("sample.prompts", Kind::Texts),
    ("sample.max_tokens", Kind::Count),
    ("sample.temperature", Kind::Number),
    ("checkpoint.every", Kind::Count),
    ("checkpoint.seconds", Kind::Number),
    ("checkpoint.keep", Kind::Count),
    ("log.tensorboard", Kind::Flag),
];

/// Names that others have for keys.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("learning_rate", "optimizer.lr"),
    ("context", "model.max_context"),
    ("layers", "model.num_layers"),
    ("heads", "model.num_heads"),
    ("width", "model.hidden_size"),
    ("gradient_accumulation", "grad_accumulation"),
    ("warmup", "schedule.warmup_steps"),
];

/// What a key may hold, if there is such a key.
pub fn kind(path: &str) -> Option<Kind> {
    KEYS.iter().find(|(key, _)| *key == path).map(|(_, kind)| *kind)
}

/// Whether some key begins with `path` and a dot.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|(key, _)| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The key whose name is nearest to `path`, if one is near; words of a flag may be joined by dashes.
pub fn nearest(path: &str) -> Option<&'static str> {
    let path = &path.replace('-', "_");
    let last = |text: &'_ str| text.rsplit('.').next().unwrap_or_default().to_string();
    let distance = |key: &str| edits(path, key).min(edits(&last(path), &last(key)) + usize::from(last(path) != *path));
    // Of two keys with the same last part, the one whose section is nearer.
    let (key, to_key) =
        KEYS.iter().map(|(key, _)| (*key, distance(key))).min_by_key(|(key, d)| (*d, edits(path, key)))?;
    let others = OTHER_NAMES.iter().map(|(name, key)| (*key, edits(path, name)));
    let (key, edits) = others.filter(|(_, edits)| *edits < to_key).min_by_key(|(_, d)| *d).unwrap_or((key, to_key));
    (edits <= 1 + last(path).len() / 4).then_some(key)
}

/// The name nearest to `text`, if one is near.
pub fn nearest_of<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, name) = names.map(|name| (edits(text, name), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + text.len() / 4).then_some(name)
}

impl Kind {
    /// The value as this kind holds it, or what is wrong with it.
    pub fn check(self, path: &str, value: &Value) -> Result<Value, String> {
        match (self, value) {
            (Kind::Count, Value::Integer(i)) if *i >= 0 => Ok(value.clone()),
            (Kind::Number | Kind::NumberOr(_), Value::Integer(i)) => Ok(Value::Float(*i as f64)),
            (Kind::Number | Kind::NumberOr(_), Value::Float(_))
            | (Kind::Flag, Value::Boolean(_))
            | (Kind::Text, Value::String(_)) => Ok(value.clone()),
            (Kind::OneOf(words) | Kind::NumberOr(words), Value::String(s)) if words.contains(&s.as_str()) => {
                Ok(value.clone())
            }
            (Kind::Texts, Value::Array(all)) if all.iter().all(Value::is_str) => Ok(value.clone()),
            _ => Err(format!("`{path}` is {}; it must be {}", show(value), self.expected())),
        }
    }

    fn expected(self) -> String {
        match self {
            Kind::Count => "a whole number from 0 on".into(),
            Kind::Number => "a number".into(),
            Kind::Flag => "true or false".into(),
            Kind::Text => "text in quotes".into(),
            Kind::Texts => "a list of texts: [\"a\", \"b\"]".into(),
            Kind::OneOf(words) => format!("one of {}", quoted(words)),
            Kind::NumberOr(words) => format!("a number, or one of {}", quoted(words)),
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|w| format!("\"{w}\"")).collect();
    words.join(", ")
}

/// A value with its type, for messages.
fn show(value: &Value) -> String {
    let kind = match value {
        Value::String(_) => "text",
        Value::Integer(_) => "whole number",
        Value::Float(_) => "number",
        Value::Boolean(_) => "flag",
        Value::Datetime(_) => "date",
        Value::Array(_) => return "a list".into(),
        Value::Table(_) => return "a table".into(),
    };
    format!("the {kind} {value}")
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one name into the other.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(table[(i - 1) * width + j] + 1).min(table[i * width + j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(table[(i - 2) * width + j - 2] + 1);
                }
                best
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("optimizer.lrr"), Some("optimizer.lr"));
        assert_eq!(nearest("lr"), Some("optimizer.lr"));
        assert_eq!(nearest("bacth_size"), Some("batch_size"));
        assert_eq!(nearest("model.hiden_size"), Some("model.hidden_size"));
        assert_eq!(nearest("chekpoint.every"), Some("checkpoint.every"));
        assert_eq!(nearest("elephant"), None);
        assert_eq!(nearest("learning-rat"), Some("optimizer.lr"));
        assert_eq!(nearest("batch-size"), Some("batch_size"));
        assert_eq!(nearest("max-context"), Some("model.max_context"));
        assert_eq!(nearest("num_heads"), Some("model.num_heads"));
    }
}
