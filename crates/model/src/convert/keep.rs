//! GGUF's metadata as JSON beside a folder's configuration, which can't hold all of it: types, order, tokenizer.
#![forbid(unsafe_code)]

use serde_json::{Map, Value as Json, json};
use tensor::file::gguf::{Array, Metadata, Value};

/// The file.
pub(super) const FILE: &str = "gguf_metadata.json";

/// All keys but those of parts.
pub(super) fn text(metadata: &Metadata) -> String {
    let kept = metadata.iter().filter(|(key, _)| !key.starts_with("split."));
    let all: Map<String, Json> = kept.map(|(key, value)| (key.to_string(), of_value(value))).collect();
    format!("{:#}\n", Json::Object(all))
}

/// The keys of such a file, in order.
///
/// # Errors
/// Which key makes no sense.
pub(super) fn read(text: &str) -> Result<Metadata, String> {
    let all: Map<String, Json> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let pair = |(key, value): (&String, &Json)| match to_value(value) {
        Some(value) => Ok((key.clone(), value)),
        None => Err(format!("key `{key}`: it is no value with its type")),
    };
    all.iter().map(pair).collect()
}

fn of_value(value: &Value) -> Json {
    let kind = value.kind().name();
    match value {
        Value::Array(array) => of_array(array),
        Value::F32(number) => json!({ "type": kind, "value": float(f64::from(*number), number.to_string()) }),
        Value::F64(number) => json!({ "type": kind, "value": float(*number, number.to_string()) }),
        Value::Bool(flag) => json!({ "type": kind, "value": flag }),
        Value::String(text) => json!({ "type": kind, "value": text }),
        Value::U64(number) => json!({ "type": kind, "value": number }),
        Value::I64(number) => json!({ "type": kind, "value": number }),
        Value::U8(number) => json!({ "type": kind, "value": number }),
        Value::U16(number) => json!({ "type": kind, "value": number }),
        Value::U32(number) => json!({ "type": kind, "value": number }),
        Value::I8(number) => json!({ "type": kind, "value": number }),
        Value::I16(number) => json!({ "type": kind, "value": number }),
        Value::I32(number) => json!({ "type": kind, "value": number }),
    }
}

/// The shortest decimals of a number; in words where it is none.
fn float(number: f64, shortest: String) -> Json {
    match shortest.parse::<f64>().ok().filter(|number| number.is_finite()) {
        Some(shortest) => json!(shortest),
        None => json!(number.to_string()),
    }
}

fn of_array(array: &Array) -> Json {
    let values: Json = match array {
        Array::U8(values) => json!(values),
        Array::I8(values) => json!(values),
        Array::U16(values) => json!(values),
        Array::I16(values) => json!(values),
        Array::U32(values) => json!(values),
        Array::I32(values) => json!(values),
        Array::U64(values) => json!(values),
        Array::I64(values) => json!(values),
        Array::Bool(values) => json!(values),
        Array::String(values) => json!(values),
        Array::F32(values) => values.iter().map(|n| float(f64::from(*n), n.to_string())).collect(),
        Array::F64(values) => values.iter().map(|n| float(*n, n.to_string())).collect(),
        Array::Array(values) => values.iter().map(of_array).collect(),
    };
    json!({ "type": "array", "of": array.kind().name(), "value": values })
}

fn number(value: &Json) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

fn to_value(json: &Json) -> Option<Value> {
    let value = json.get("value")?;
    fn whole<T: TryFrom<i64> + TryFrom<u64>>(value: &Json) -> Option<T> {
        value.as_u64().and_then(|n| T::try_from(n).ok()).or_else(|| value.as_i64().and_then(|n| T::try_from(n).ok()))
    }
    Some(match json.get("type")?.as_str()? {
        "u8" => Value::U8(whole(value)?),
        "i8" => Value::I8(whole(value)?),
        "u16" => Value::U16(whole(value)?),
        "i16" => Value::I16(whole(value)?),
        "u32" => Value::U32(whole(value)?),
        "i32" => Value::I32(whole(value)?),
        "u64" => Value::U64(whole(value)?),
        "i64" => Value::I64(whole(value)?),
        "f32" => Value::F32(number(value)? as f32),
        "f64" => Value::F64(number(value)?),
        "bool" => Value::Bool(value.as_bool()?),
        "string" => Value::String(value.as_str()?.into()),
        "array" => Value::Array(to_array(json, 0)?),
        _ => return None,
    })
}

fn to_array(json: &Json, depth: usize) -> Option<Array> {
    /// Lists within lists go no deeper in GGUF files that are read.
    const DEEPEST: usize = 4;
    let values = json.get("value")?.as_array()?;
    fn whole<T: TryFrom<i64> + TryFrom<u64>>(values: &[Json]) -> Option<Vec<T>> {
        let one = |value: &Json| {
            let unsigned = value.as_u64().and_then(|n| T::try_from(n).ok());
            unsigned.or_else(|| value.as_i64().and_then(|n| T::try_from(n).ok()))
        };
        values.iter().map(one).collect()
    }
    Some(match json.get("of")?.as_str()? {
        "u8" => Array::U8(whole(values)?),
        "i8" => Array::I8(whole(values)?),
        "u16" => Array::U16(whole(values)?),
        "i16" => Array::I16(whole(values)?),
        "u32" => Array::U32(whole(values)?),
        "i32" => Array::I32(whole(values)?),
        "u64" => Array::U64(whole(values)?),
        "i64" => Array::I64(whole(values)?),
        "f32" => Array::F32(values.iter().map(|n| number(n).map(|n| n as f32)).collect::<Option<_>>()?),
        "f64" => Array::F64(values.iter().map(number).collect::<Option<_>>()?),
        "bool" => Array::Bool(values.iter().map(Json::as_bool).collect::<Option<_>>()?),
        "string" => Array::String(values.iter().map(|v| v.as_str().map(Into::into)).collect::<Option<_>>()?),
        "array" if depth < DEEPEST => {
            Array::Array(values.iter().map(|value| to_array(value, depth + 1)).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
