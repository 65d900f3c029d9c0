//! The form that a request gives its answer: JSON, a schema, a grammar.

use serde_json::{Map, Value};

use crate::serve::error::ApiError;
use crate::serve::models::Source;
use crate::serve::settings::given;

/// The most bytes of a schema or grammar.
const LONGEST: usize = 1 << 20;

/// The constraint that a request asks for, with the field that asks for it.
pub(in crate::serve) fn constraint(
    fields: &Map<String, Value>,
) -> Result<Option<(Source, &'static str)>, ApiError> {
    let mut found = Vec::new();
    if let Some(format) = given(fields, "response_format") {
        found.extend(response_format(format, "response_format")?.map(|schema| (schema, "response_format")));
    }
    if let Some(schema) = given(fields, "json_schema") {
        found.push((Source::Schema(schema.to_string()), "json_schema"));
    }
    match given(fields, "grammar") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => found.push((Source::Grammar(text.clone()), "grammar")),
        Some(_) => return Err(ApiError::invalid("grammar", "grammar must be a text")),
    }
    if let Some(outputs) = given(fields, "structured_outputs") {
        found.push((structured(outputs)?, "structured_outputs"));
    }
    if let [(_, first), (_, second), ..] = &found[..] {
        return Err(ApiError::invalid(*second, format!("{first} and {second} exclude each other")));
    }
    match found.pop() {
        Some((source, name)) => Ok(Some((bounded(source, name)?, name))),
        None => Ok(None),
    }
}

/// A source that is not too long to compile.
pub(in crate::serve) fn bounded(source: Source, name: &str) -> Result<Source, ApiError> {
    match &source {
        Source::Schema(text) | Source::Grammar(text) if text.len() > LONGEST => {
            Err(ApiError::invalid(name, format!("{name} has more than {LONGEST} bytes")))
        }
        _ => Ok(source),
    }
}

/// OpenAI's description of a format, which the field `name` has: `text`, `json_object` with or without a schema, `json_schema`.
pub(super) fn response_format(format: &Value, name: &str) -> Result<Option<Source>, ApiError> {
    let kind = format.get("type").and_then(Value::as_str);
    let any_object = || Value::from_iter([("type", "object")]);
    let schema = match kind {
        Some("text") => return Ok(None),
        Some("json_object") => format.get("schema").cloned().unwrap_or_else(any_object),
        Some("json_schema") => {
            let outer = format.get("json_schema");
            // The form of llama-server has the schema itself here.
            let schema = outer.and_then(|outer| outer.get("schema")).or_else(|| format.get("schema"));
            schema.cloned().ok_or_else(|| {
                let path = format!("{name}.json_schema.schema");
                ApiError::invalid(&path, format!("{path} is missing"))
            })?
        }
        _ => {
            let path = format!("{name}.type");
            return Err(ApiError::invalid(&path, format!("{path} must be text, json_object or json_schema")));
        }
    };
    Ok(Some(Source::Schema(schema.to_string())))
}

/// vLLM's `structured_outputs`: `json`, `choice`, `regex` or `grammar`.
fn structured(outputs: &Value) -> Result<Source, ApiError> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let quoted = |text: &Value| text.as_str().map(|text| Value::from(text).to_string());
    let wrong = || {
        ApiError::invalid(
            "structured_outputs",
            "structured_outputs must have one of json, choice (a list of texts), regex and grammar",
        )
    };
    let fields = outputs.as_object().ok_or_else(wrong)?;
    let given: Vec<(&String, &Value)> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
    let [(name, value)] = given[..] else { return Err(wrong()) };
    match name.as_str() {
        "json" => Ok(Source::Schema(text(value))),
        "grammar" => Ok(Source::Grammar(text(value))),
        "regex" => {
            let pattern = value.as_str().ok_or_else(wrong)?.replace('/', "\\/");
            Ok(Source::Grammar(format!("start: /{pattern}/")))
        }
        "choice" => {
            let choices = value.as_array().ok_or_else(wrong)?.iter().map(quoted);
            let choices: Option<Vec<String>> = choices.collect();
            let choices = choices.filter(|choices| !choices.is_empty()).ok_or_else(wrong)?;
            Ok(Source::Grammar(format!("start: {}", choices.join(" | "))))
        }
        _ => Err(wrong()),
    }
}
