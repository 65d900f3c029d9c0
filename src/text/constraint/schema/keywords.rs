//! The keywords of JSON schemas, and how simple ones are read.

use serde_json::{Map, Value};

use super::Refusal;
use super::number::Bounds;
use super::pointer::join;

pub(super) const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// Keywords that join a schema with others, or list its values.
pub(super) const APPLICATORS: [&str; 6] = ["const", "enum", "allOf", "anyOf", "oneOf", "$ref"];

pub(super) const BOUNDS: [&str; 4] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

/// Other keywords that restrict values.
pub(super) const PLAIN: [&str; 23] = [
    "type",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "required",
    "minProperties",
    "maxProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];

/// Formats that the library knows. Other formats are annotations, as the specification says of all formats.
pub(super) const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The pattern that zod writes beside the format `duration`, with conditions in its middle. The format allows no other
/// texts than the pattern.
pub(super) const ZOD_DURATION: &str =
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$";

/// Keywords that are refused unless `is_idle` says that they restrict nothing.
pub(super) const REFUSED: [&str; 11] = [
    "not",
    "if",
    "contains",
    "uniqueItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "$dynamicRef",
    "$recursiveRef",
    "minContains",
    "maxContains",
];

/// True for a keyword that restricts values.
pub(super) fn restricts(key: &str) -> bool {
    key == "format" || [&APPLICATORS[..], &PLAIN, &REFUSED].iter().any(|keys| keys.contains(&key))
}

/// True if a keyword restricts nothing in its schema.
pub(super) fn is_idle(key: &str, value: &Value, schema: &Map<String, Value>) -> bool {
    match key {
        "not" => *value == Value::Bool(false),
        "if" => !schema.contains_key("then") && !schema.contains_key("else"),
        "uniqueItems" => {
            *value == Value::Bool(false)
                || schema.get("maxItems").and_then(Value::as_u64).is_some_and(|most| most < 2)
        }
        // Without `contains` they restrict nothing.
        "minContains" | "maxContains" => !schema.contains_key("contains"),
        "dependencies" | "dependentRequired" | "dependentSchemas" => {
            value.as_object().is_some_and(Map::is_empty)
        }
        _ => false,
    }
}

/// A refusal of a keyword.
pub(super) fn refusal(path: &str, key: &str, reason: &str) -> Refusal {
    Refusal { path: join(path, key), reason: reason.into() }
}

/// A size: a whole number, which may be written as `5.0`.
pub(super) fn size(value: &Value, path: &str, key: &str) -> Result<u64, Refusal> {
    let whole = |number: f64| number.fract() == 0.0 && (0.0..9e15).contains(&number);
    let size =
        value.as_u64().or_else(|| value.as_f64().filter(|number| whole(*number)).map(|number| number as u64));
    size.ok_or_else(|| refusal(path, key, &format!("must be a whole number, not {}", shown(value))))
}

/// The names of the types that a schema allows, if it says so.
pub(super) fn types(map: &Map<String, Value>, path: &str) -> Result<Option<Vec<&'static str>>, Refusal> {
    let Some(value) = map.get("type") else { return Ok(None) };
    let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let known = names.iter().map(|name| {
        let known = TYPES.into_iter().find(|known| name.as_str() == Some(known));
        known.ok_or_else(|| refusal(path, "type", &format!("there is no type {}", shown(name))))
    });
    let mut known: Vec<&str> = known.collect::<Result<_, _>>()?;
    // Integers are numbers.
    if known.contains(&"number") {
        known.retain(|name| *name != "integer");
    }
    Ok(Some(known))
}

pub(super) fn bounds(map: &Map<String, Value>, path: &str) -> Result<Bounds, Refusal> {
    Bounds::read(map).map_err(|(key, reason)| refusal(path, key, &reason))
}

pub(super) fn is_of(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number) => {
            let whole = number.is_i64()
                || number.is_u64()
                || number.as_f64().is_some_and(|number| number.fract() == 0.0);
            name == "number" || name == "integer" && whole
        }
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
    }
}

/// The beginning of a value's text.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
