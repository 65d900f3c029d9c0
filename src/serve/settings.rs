//! The settings of an answer that all interfaces share: one table of fields with their ranges.

use serde_json::{Map, Value};

use super::app::App;
use super::error::ApiError;
use super::models::Loaded;
use crate::engine::GenerateOptions;
use crate::sampling::{Mirostat, SamplerParams, Stage, Value as Parameter};

/// The most stop strings, and the most bytes of one.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;

/// The most probable tokens that may be reported at each place.
pub(super) const MOST_LOGPROBS: u64 = 20;

/// Fields under another name than the parameter's own, in the order in which they are read.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("repeat_last_n", "penalty_last_n"),
    ("repetition_penalty", "repeat_penalty"),
    ("dynatemp_exp", "dynatemp_exponent"),
];

/// The names of the most tokens of thoughts: llama-server's two, vLLM's, and others that clients send.
const THOUGHTS_NAMES: &[&str] = &[
    "reasoning_budget_tokens",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "thinking_budget",
    "reasoning_budget",
    "max_thinking",
];

/// Fields that would change an answer and are not supported, with the values that ask for nothing.
const UNSUPPORTED: &[(&str, &[&str])] = &[
    ("adaptive_target", &["-1", "-1.0"]),
    ("allowed_token_ids", &["[]"]),
    ("audio", &[]),
    ("bad_words", &["[]"]),
    ("best_of", &["1"]),
    ("documents", &["[]"]),
    ("include_stop_str_in_output", &["false"]),
    ("length_penalty", &["1", "1.0"]),
    ("lora", &["[]"]),
    ("modalities", &["[\"text\"]"]),
    ("post_sampling_probs", &["false"]),
    ("reasoning_budget_message", &["\"\""]),
    ("repetition_detection", &[]),
    ("skip_special_tokens", &["true"]),
    ("t_max_predict_ms", &["0", "-1"]),
    ("truncate_prompt_tokens", &["-1"]),
    ("use_beam_search", &["false"]),
    ("web_search_options", &[]),
];

/// The settings of an answer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub sampling: SamplerParams,
    pub limits: GenerateOptions,
    /// True if computed prefixes may be shared.
    pub shares_prefix: bool,
    /// The request's own salt of its prefixes.
    pub cache_salt: Option<String>,
}

/// A field that is there and not null.
pub(super) fn given<'f>(fields: &'f Map<String, Value>, name: &str) -> Option<&'f Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// A whole number within a range.
pub(super) fn whole(
    fields: &Map<String, Value>,
    name: &str,
    least: i64,
    most: i64,
) -> Result<Option<i64>, ApiError> {
    let Some(value) = given(fields, name) else { return Ok(None) };
    // Clients in languages with one kind of number send 4.0.
    let number = value
        .as_i64()
        .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9.0e15).map(|n| n as i64));
    match number.filter(|n| (least..=most).contains(n)) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::invalid(
            name,
            format!("{name} is {}; it must be a whole number from {least} to {most}", short(value)),
        )),
    }
}

/// A truth value.
pub(super) fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, ApiError> {
    match given(fields, name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(value) => {
            Err(ApiError::invalid(name, format!("{name} is {}; it must be true or false", short(value))))
        }
    }
}

/// The beginning of a value, for an error.
fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain("…".chars()).collect() }
}

impl Settings {
    /// Reads the fields of a request.
    ///
    /// # Errors
    /// The first field with a value out of range, or one that is not supported.
    pub fn read(fields: &Map<String, Value>, app: &App, loaded: &Loaded) -> Result<Settings, ApiError> {
        refuse_unsupported(fields)?;
        let n_ctx = loaded.engine.n_ctx();
        let mut sampling = loaded.sampling.clone();
        parameters(fields, &mut sampling, n_ctx)?;
        mirostat(fields, &mut sampling)?;
        order(fields, &mut sampling)?;
        sampling.min_keep =
            whole(fields, "min_keep", 0, i64::from(i32::MAX))?.map_or(sampling.min_keep, |n| n as usize);
        sampling.logit_bias.extend(logit_bias(fields, loaded)?);
        if flag(fields, "ignore_eos")?.unwrap_or(false) {
            let ends = loaded.tokenizer().end_tokens().iter();
            sampling.logit_bias.extend(ends.map(|&id| (id, f32::NEG_INFINITY)));
        }
        // As in llama-server, -1 and its unsigned form ask for a random seed, and so does none.
        let seed = given(fields, "seed").filter(|seed| !is_random_seed(seed));
        sampling.seed = match seed.map(|seed| (seed, seed.as_u64().or(seed.as_i64().map(|n| n as u64)))) {
            None => app.random(),
            Some((_, Some(seed))) => seed,
            Some((seed, None)) => {
                return Err(ApiError::invalid(
                    "seed",
                    format!("seed is {}; it must be a whole number", short(seed)),
                ));
            }
        };
        Ok(Settings {
            sampling,
            limits: GenerateOptions {
                max_tokens: match max_tokens(fields)? {
                    Some(limit) => limit,
                    None => loaded.max_tokens,
                },
                stop: stops(fields)?,
                stop_tokens: stop_tokens(fields, loaded)?,
                min_tokens: whole(fields, "min_tokens", 0, i64::from(i32::MAX))?.unwrap_or(0) as usize,
                max_thoughts: max_thoughts(fields)?,
                logprobs: None,
            },
            shares_prefix: flag(fields, "cache_prompt")?.unwrap_or(true),
            cache_salt: cache_salt(fields)?,
        })
    }
}

fn is_random_seed(seed: &Value) -> bool {
    seed.as_i64() == Some(-1) || seed.as_u64() == Some(u64::from(u32::MAX))
}

fn refuse_unsupported(fields: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, neutral) in UNSUPPORTED {
        let Some(value) = given(fields, name) else { continue };
        let text = value.to_string();
        if !neutral.contains(&text.as_str()) {
            let wanted = match neutral.first() {
                Some(value) => format!("leave it out, or set it to {value}"),
                None => "leave it out".to_string(),
            };
            return Err(ApiError::unsupported(name, &wanted));
        }
    }
    Ok(())
}

/// Sets the samplers' parameters.
fn parameters(
    fields: &Map<String, Value>,
    sampling: &mut SamplerParams,
    n_ctx: usize,
) -> Result<(), ApiError> {
    for parameter in sampling.parameters() {
        let others = OTHER_NAMES.iter().filter(|(_, name)| *name == parameter.name).map(|(other, _)| *other);
        let names = others.chain([parameter.name]);
        let Some((name, value)) = names.rev().find_map(|name| Some((name, given(fields, name)?))) else {
            continue;
        };
        let wrong = |wanted: &str| {
            Err(ApiError::invalid(name, format!("{name} is {}; it must be {wanted}", short(value))))
        };
        match parameter.value {
            Parameter::Number(number, range) => match value.as_f64().map(|value| value as f32) {
                Some(value) if range.contains(value) => *number = value,
                _ => return wrong(range.describe()),
            },
            Parameter::Count(count, most) => match value.as_i64() {
                // In llama-server -1 is the context's size for windows, and off for top-k.
                Some(-1) if name.ends_with("last_n") => *count = n_ctx.min(most),
                Some(n) if n < 0 && name == "top_k" => *count = 0,
                Some(n) if n >= 0 && n as u64 <= most as u64 => *count = n as usize,
                _ => return wrong("a whole number, 0 or more"),
            },
            Parameter::Texts(texts) => match serde_json::from_value::<Vec<String>>(value.clone()) {
                Ok(given) if given.len() <= MOST_STOPS && given.iter().all(|t| t.len() <= LONGEST_STOP) => {
                    *texts = given;
                }
                _ => return wrong("a list of at most 16 texts of up to 1024 bytes"),
            },
        }
    }
    Ok(())
}

fn mirostat(fields: &Map<String, Value>, sampling: &mut SamplerParams) -> Result<(), ApiError> {
    match whole(fields, "mirostat", 0, 2)? {
        None => return Ok(()),
        Some(0) => sampling.mirostat = None,
        Some(1) => return Err(ApiError::unsupported("mirostat", "set it to 0 or 2")),
        Some(_) => {
            let mut mirostat = Mirostat::default();
            for (name, setting) in [("mirostat_tau", &mut mirostat.tau), ("mirostat_eta", &mut mirostat.eta)]
            {
                let Some(value) = given(fields, name) else { continue };
                match value.as_f64().map(|n| n as f32).filter(|n| n.is_finite() && *n >= 0.0) {
                    Some(number) => *setting = number,
                    None => return Err(ApiError::invalid(name, format!("{name} must be 0 or more"))),
                }
            }
            sampling.mirostat = Some(mirostat);
        }
    }
    Ok(())
}

/// `samplers`: the order of the stages.
fn order(fields: &Map<String, Value>, sampling: &mut SamplerParams) -> Result<(), ApiError> {
    let names: Vec<String> = match given(fields, "samplers") {
        None => return Ok(()),
        Some(Value::String(text)) => text.split(';').map(str::to_owned).collect(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|_| ApiError::invalid("samplers", "samplers must be a list of names"))?,
    };
    let stages: Result<Vec<Stage>, _> = names.iter().map(|name| name.parse()).collect();
    sampling.order = stages.map_err(|error| ApiError::invalid("samplers", error.to_string()))?;
    sampling.check().map_err(|error| ApiError::invalid("samplers", error.to_string()))
}

/// `logit_bias`: an object by ids or texts, or a list of pairs. `false` rules a token out.
fn logit_bias(fields: &Map<String, Value>, loaded: &Loaded) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let wrong = |what: &str| ApiError::invalid(NAME, format!("logit_bias: {what}"));
    let pairs: Vec<(Value, Value)> = match given(fields, NAME) {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => {
            map.iter().map(|(key, bias)| (Value::from(key.as_str()), bias.clone())).collect()
        }
        Some(list) => serde_json::from_value(list.clone())
            .map_err(|_| wrong("expected an object, or a list of pairs of a token and a number"))?,
    };
    let n_vocab = loaded.tokenizer().n_vocab();
    if pairs.len() > n_vocab {
        return Err(wrong("more entries than the vocabulary has tokens"));
    }
    let mut biases = Vec::new();
    for (token, bias) in pairs {
        let bias = match bias {
            Value::Bool(false) => f32::NEG_INFINITY,
            other => match other.as_f64().map(|bias| bias as f32).filter(|bias| bias.is_finite()) {
                Some(bias) => bias,
                None => return Err(wrong("a bias must be a finite number, or false to rule a token out")),
            },
        };
        let by_id = token.as_u64().or_else(|| token.as_str().and_then(|text| text.parse().ok()));
        match (by_id, token.as_str()) {
            (Some(id), _) if id < n_vocab as u64 => biases.push((id as u32, bias)),
            (Some(id), _) => return Err(wrong(&format!("there is no token {id}"))),
            (None, Some(text)) => {
                let options = crate::text::EncodeOptions::default();
                biases.extend(loaded.tokenizer().encode(text, options).into_iter().map(|id| (id, bias)));
            }
            (None, None) => return Err(wrong("a token is an id or a text")),
        }
    }
    Ok(biases)
}

/// The limit of tokens under its many names, if it is given; negative: none.
fn max_tokens(fields: &Map<String, Value>) -> Result<Option<Option<usize>>, ApiError> {
    for name in ["max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict", "num_predict"] {
        if let Some(n) = whole(fields, name, -2, i64::from(i32::MAX))? {
            return Ok(Some(usize::try_from(n).ok()));
        }
    }
    Ok(None)
}

/// `stop`, or Anthropic's `stop_sequences`.
fn stops(fields: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let named = ["stop", "stop_sequences"].into_iter().find_map(|name| Some((name, given(fields, name)?)));
    let Some((name, value)) = named else { return Ok(Vec::new()) };
    let texts: Option<Vec<String>> = match value {
        Value::String(text) => Some(vec![text.clone()]),
        list => serde_json::from_value(list.clone()).ok(),
    };
    let Some(texts) = texts else {
        return Err(ApiError::invalid(name, format!("{name} must be a text or a list of texts")));
    };
    if texts.len() > MOST_STOPS || texts.iter().any(|text| text.len() > LONGEST_STOP) {
        let message = format!("{name} has at most {MOST_STOPS} texts of up to {LONGEST_STOP} bytes");
        return Err(ApiError::invalid(name, message));
    }
    // An empty text would end every answer before it begins; llama-server ignores it too.
    Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
}

/// `stop_token_ids`.
fn stop_tokens(fields: &Map<String, Value>, loaded: &Loaded) -> Result<Vec<u32>, ApiError> {
    const NAME: &str = "stop_token_ids";
    let Some(value) = given(fields, NAME) else { return Ok(Vec::new()) };
    let n_vocab = loaded.tokenizer().n_vocab();
    match serde_json::from_value::<Vec<u32>>(value.clone()) {
        Ok(ids) if ids.len() <= n_vocab && ids.iter().all(|id| (*id as usize) < n_vocab) => Ok(ids),
        _ => {
            let message = format!("{NAME} must be a list of ids of tokens, each less than {n_vocab}");
            Err(ApiError::invalid(NAME, message))
        }
    }
}

/// The most tokens of thoughts, under its many names; -1: no limit.
fn max_thoughts(fields: &Map<String, Value>) -> Result<Option<usize>, ApiError> {
    for name in THOUGHTS_NAMES {
        if let Some(n) = whole(fields, name, -1, i64::from(i32::MAX))? {
            return Ok(usize::try_from(n).ok());
        }
    }
    Ok(None)
}

fn cache_salt(fields: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    match given(fields, "cache_salt") {
        None => Ok(None),
        Some(Value::String(salt)) if salt.len() <= LONGEST_STOP => Ok(Some(salt.clone())),
        Some(_) => Err(ApiError::invalid("cache_salt", "cache_salt must be a text of at most 1024 bytes")),
    }
}
