//! Fields that `/api/chat` and `/api/generate` share.

use serde_json::{Map, Value, json};

use crate::serve::app::App;
use crate::serve::error::{ApiError, Kind};
use crate::serve::models::{InvalidKeepAlive, KeepAlive, Loaded, Source};
use crate::serve::openai::format::bounded;
use crate::serve::settings::{MOST_LOGPROBS, Settings, flag, given, whole};

/// Options that ollama reads when it loads a model: here they are the server's own.
const OF_LOADING: [&str; 5] = ["num_ctx", "num_batch", "num_gpu", "num_thread", "main_gpu"];

/// Options that would change an answer and are not supported, with the value that asks for nothing.
const UNSUPPORTED: [(&str, f64); 1] = [("tfs_z", 1.0)];

/// The settings of a request: `options`, and the fields beside them.
pub(super) fn settings(
    fields: &Map<String, Value>,
    app: &App,
    loaded: &Loaded,
) -> Result<Settings, ApiError> {
    let empty = Map::new();
    let options = match given(fields, "options") {
        None => &empty,
        Some(Value::Object(options)) => options,
        Some(_) => return Err(ApiError::invalid("options", "options must be an object")),
    };
    for name in OF_LOADING {
        if let Some(n) = whole(options, name, -1, i64::from(i32::MAX))? {
            tracing::debug!("options.{name} = {n} is left to the server");
        }
    }
    for (name, neutral) in UNSUPPORTED {
        if given(options, name).is_some_and(|value| value.as_f64() != Some(neutral)) {
            return Err(ApiError::unsupported(name, &format!("leave it out, or set it to {neutral}")));
        }
    }
    if flag(options, "penalize_newline")? == Some(false) {
        return Err(ApiError::unsupported("penalize_newline", "leave it out, or set it to true"));
    }
    let mut settings = Settings::read(options, app, loaded)?;
    settings.limits.logprobs = logprobs(fields)?;
    Ok(settings)
}

/// `keep_alive`: the time that the model stays loaded after its answer.
pub(super) fn keep_alive(fields: &Map<String, Value>) -> Result<Option<KeepAlive>, ApiError> {
    let time = match given(fields, "keep_alive") {
        None => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_f64().and_then(KeepAlive::seconds),
    };
    let wrong = || ApiError::invalid("keep_alive", format!("keep_alive: {InvalidKeepAlive}"));
    time.map(Some).ok_or_else(wrong)
}

fn logprobs(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    let wanted = flag(fields, "logprobs")?.unwrap_or(false);
    let most = whole(fields, "top_logprobs", 0, MOST_LOGPROBS as i64)?.unwrap_or(0);
    if most > 0 && !wanted {
        return Err(ApiError::invalid("top_logprobs", "top_logprobs needs logprobs: true"));
    }
    Ok(wanted.then_some(most as usize))
}

/// True if the answer is streamed, which is the default.
pub(super) fn streams(fields: &Map<String, Value>) -> Result<bool, ApiError> {
    Ok(flag(fields, "stream")?.unwrap_or(true))
}

/// `format`: `json`, or a schema.
pub(super) fn format(fields: &Map<String, Value>) -> Result<Option<Source>, ApiError> {
    let schema = match given(fields, "format") {
        None => return Ok(None),
        Some(Value::String(name)) if name.is_empty() => return Ok(None),
        Some(Value::String(name)) if name == "json" => json!({"type": "object"}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(ApiError::invalid("format", "format must be \"json\" or a JSON schema")),
    };
    bounded(Source::Schema(schema.to_string()), "format").map(Some)
}

/// `think`: whether the model thinks before it answers, as variables of its template.
pub(super) fn think(
    fields: &Map<String, Value>,
    loaded: &Loaded,
    name: &str,
) -> Result<Map<String, Value>, ApiError> {
    const LEVELS: [&str; 4] = ["low", "medium", "high", "max"];
    let mut variables = Map::new();
    let thinks = match given(fields, "think") {
        None => return Ok(variables),
        Some(Value::Bool(thinks)) => *thinks,
        Some(Value::String(level)) if LEVELS.contains(&level.as_str()) => {
            variables.insert("reasoning_effort".into(), level.as_str().into());
            true
        }
        Some(_) => {
            let message = format!("think must be true, false, or one of {}", LEVELS.join(", "));
            return Err(ApiError::invalid("think", message));
        }
    };
    if thinks && !loaded.format.has_thoughts() {
        return Err(ApiError::invalid("think", format!("\"{name}\" does not support thinking")));
    }
    variables.insert("enable_thinking".into(), thinks.into());
    Ok(variables)
}

/// Refuses pictures. `path` is the field's.
pub(super) fn no_images(images: Option<&Value>, path: &str) -> Result<(), ApiError> {
    match images {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(images)) if images.is_empty() => Ok(()),
        Some(_) => {
            let message = format!("{path} is not supported: this server reads text alone");
            Err(ApiError { param: Some(path.into()), ..ApiError::new(Kind::NotSupported, message) })
        }
    }
}
