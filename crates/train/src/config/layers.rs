//! Layers of a configuration: presets, files and single keys, each checked and laid over what is there.
#![forbid(unsafe_code)]

use super::{ConfigError, Origin, PRESETS};
use crate::keys;
use std::path::Path;
use toml::{Table, Value};

/// What to do where a file can't be read.
pub(super) const NO_FILE: &str = "name a file of keys (TOML), or begin from a preset: --preset NAME";

/// The version of configurations that this build writes, and the last that it reads; files may leave it out.
pub(super) const FORMAT: i64 = 1;
pub(super) const FORMAT_KEY: &str = "format";

/// A larger configuration than this is none.
const LARGEST: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let data = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !data.is_file() {
        return Err("it is not a file".into());
    }
    if data.len() > LARGEST {
        return Err(format!("it has {} bytes; a configuration has at most {LARGEST}", data.len()));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}

/// A file's bytes as the text that a configuration is.
pub(super) fn text_of(bytes: Vec<u8>, origin: &Origin) -> Result<String, ConfigError> {
    let place = match std::str::from_utf8(&bytes) {
        Ok(_) => bytes.iter().position(|b| *b == 0).map(|at| (at, "zero")),
        Err(e) => Some((e.valid_up_to(), "not valid UTF-8")),
    };
    let Some((at, what)) = place else { return Ok(String::from_utf8(bytes).unwrap_or_default()) };
    let before = bytes.get(..at).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    let what = format!("it is no text: byte {column} of the line is {what}");
    Err(ConfigError { line: Some(line), ..error(origin, what, Some(NO_FILE.into())) })
}

pub(super) fn check_format(value: Option<Value>, origin: &Origin) -> Result<(), ConfigError> {
    match value {
        None | Some(Value::Integer(1..=FORMAT)) => Ok(()),
        Some(Value::Integer(newer)) if newer > FORMAT => {
            let what =
                format!("it has format {newer}, of a newer version of Rondo; this one reads up to format {FORMAT}");
            Err(error(origin, what, Some("go on with the version that wrote it, or a later one".into())))
        }
        Some(other) => Err(error(origin, format!("`{FORMAT_KEY}` is {other}; it must be {FORMAT}"), None)),
    }
}

pub(super) fn preset_text(name: &str) -> Result<&'static str, ConfigError> {
    let found = PRESETS.iter().find(|(n, _)| *n == name);
    found.map(|(_, text)| *text).ok_or_else(|| {
        let known: Vec<_> = PRESETS.iter().map(|(n, _)| *n).collect();
        let what = "there is no such preset".into();
        let near = keys::nearest_of(name, known.iter().copied()).map(|near| format!("did you mean {near}? "));
        let help = format!("{}the presets are {}", near.unwrap_or_default(), known.join(", "));
        error(&Origin::Preset(name.into()), what, Some(help))
    })
}

pub(super) fn error(origin: &Origin, what: String, help: Option<String>) -> ConfigError {
    ConfigError { origin: origin.clone(), line: None, what, help }
}

pub(super) fn parse(text: &str, origin: Origin) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|e| error(&origin, format!("not valid TOML\n{e}"), None))
}

/// Lays `from` over `into`, key by key, each checked; `text` is the file, to find a mistake's line in.
pub(super) fn merge(
    into: &mut Table,
    from: &Table,
    origin: &Origin,
    section: &str,
    text: &str,
) -> Result<(), ConfigError> {
    for (key, value) in from {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (value, keys::is_section(&path)) {
            (Value::Table(inner), true) => merge(into, inner, origin, &path, text)?,
            _ => put(into, &path, value, origin).map_err(|e| ConfigError { line: line_of(text, &path), ..e })?,
        }
    }
    Ok(())
}

/// The line of a key, from 1 on: under its section's head, or with its section before it.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let plain = |name: &str| name.chars().filter(|c| !c.is_whitespace() && !"\"'".contains(*c)).collect::<String>();
        if line.trim_start().starts_with('[') {
            let head = line.trim_start().trim_start_matches('[');
            section = plain(head.split(']').next().unwrap_or_default());
        }
        let full = match line.split_once('=') {
            Some((key, _)) if section.is_empty() => plain(key),
            Some((key, _)) => format!("{section}.{}", plain(key)),
            None => section.clone(),
        };
        // What is set within a list in braces stands on its section's line.
        if full == path || path.strip_prefix(&full).is_some_and(|rest| rest.starts_with('.') && line.contains('{')) {
            return Some(number + 1);
        }
    }
    None
}

/// One `key=value`.
pub(super) fn apply(table: &mut Table, setting: &str) -> Result<(), ConfigError> {
    let origin = Origin::Flag(format!("--set {setting}"));
    let Some((path, text)) = setting.split_once('=') else {
        return Err(error(&origin, "expected KEY=VALUE".into(), Some("such as --set optimizer.lr=1e-3".into())));
    };
    let (path, text) = (path.trim(), text.trim());
    let is_text = matches!(keys::kind(path), Some(keys::Kind::Text | keys::Kind::OneOf(_)));
    // Text needs no quotes on a command line.
    let value = match text.parse::<Value>() {
        Ok(Value::String(s)) => Value::String(s),
        Ok(Value::Array(all)) if keys::kind(path) == Some(keys::Kind::Texts) => Value::Array(all),
        _ if keys::kind(path) == Some(keys::Kind::Texts) => Value::Array(vec![Value::String(text.into())]),
        Ok(value) if !is_text => value,
        _ => Value::String(text.into()),
    };
    put(table, path, &value, &origin)
}

fn put(table: &mut Table, path: &str, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
    let Some(kind) = keys::kind(path) else {
        let help = keys::nearest(path).map(|key| format!("did you mean `{key}`?"));
        let what = if keys::is_section(path) {
            format!("`{path}` is a section; set its keys, `{path}.KEY`")
        } else {
            format!("unknown key `{path}`")
        };
        return Err(error(origin, what, help));
    };
    let value = kind.check(path, value).map_err(|what| error(origin, what, None))?;
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let holder = if section.is_empty() {
        table
    } else {
        let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        inner.as_table_mut().ok_or_else(|| error(origin, format!("`{section}` is a section"), None))?
    };
    holder.insert(name.into(), value);
    Ok(())
}
