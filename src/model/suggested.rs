//! The samplers' settings that a file suggests: `general.sampling.*`.

use super::Model;
use crate::gguf::Value as FileValue;
use crate::sampling::{Mirostat, SamplerParams, Stage, Value};

/// The keys of parameters, with the parameters' names.
const PARAMETERS: [(&str, &str); 8] = [
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.xtc_probability", "xtc_probability"),
    ("general.sampling.xtc_threshold", "xtc_threshold"),
    ("general.sampling.temp", "temperature"),
    ("general.sampling.penalty_last_n", "penalty_last_n"),
    ("general.sampling.penalty_repeat", "repeat_penalty"),
];

const SEQUENCE: &str = "general.sampling.sequence";
const MIROSTAT: &str = "general.sampling.mirostat";
const MIROSTAT_TAU: &str = "general.sampling.mirostat_tau";
const MIROSTAT_ETA: &str = "general.sampling.mirostat_eta";

impl Model {
    /// Sets what the file suggests, and returns the names of these settings: those of
    /// [`SamplerParams::parameters`], `samplers` (the order) and `mirostat`.
    ///
    /// A suggestion that cannot be followed is a warning: it never refuses a file.
    pub fn suggest_sampling(&self, params: &mut SamplerParams) -> Vec<&'static str> {
        let mut set = Vec::new();
        for (key, name) in PARAMETERS {
            let Some(number) = self.suggestion(key) else { continue };
            let mut suggested = params.clone();
            for parameter in suggested.parameters() {
                if parameter.name == name {
                    assign(name, parameter.value, number);
                }
            }
            match suggested.check() {
                Ok(()) => {
                    *params = suggested;
                    set.push(name);
                }
                Err(error) => tracing::warn!("{key} is ignored: {error}"),
            }
        }
        set.extend(self.suggest_order(params));
        set.extend(self.suggest_mirostat(params));
        set
    }

    /// A key's number; none, with a warning, if the key has something else.
    fn suggestion(&self, key: &str) -> Option<f64> {
        let value = self.gguf().metadata().get(key)?;
        let number = match value {
            FileValue::F32(number) => Some(f64::from(*number)),
            FileValue::F64(number) => Some(*number),
            other => other.integer().map(|number| number as f64),
        };
        if number.is_none() {
            tracing::warn!("{key} is ignored: it is not a number");
        }
        number
    }

    fn suggest_order(&self, params: &mut SamplerParams) -> Option<&'static str> {
        let value = self.gguf().metadata().get(SEQUENCE)?;
        let FileValue::String(names) = value else {
            tracing::warn!("{SEQUENCE} is ignored: it is not text");
            return None;
        };
        let names = names.split([';', ',']).map(str::trim).filter(|name| !name.is_empty());
        let order: Result<Vec<Stage>, _> = names.map(str::parse).collect();
        let suggested = order.map(|order| SamplerParams { order, ..params.clone() });
        match suggested.and_then(|suggested| suggested.check().map(|()| suggested)) {
            Ok(suggested) => *params = suggested,
            Err(error) => {
                tracing::warn!("{SEQUENCE} is ignored: {error}");
                return None;
            }
        }
        Some("samplers")
    }

    fn suggest_mirostat(&self, params: &mut SamplerParams) -> Option<&'static str> {
        let kind = self.suggestion(MIROSTAT)?;
        if kind == 0.0 {
            params.mirostat = None;
            return Some("mirostat");
        }
        if kind != 2.0 {
            tracing::warn!("{MIROSTAT} is {kind} and ignored: only 0 and 2 are supported");
            return None;
        }
        let mut mirostat = Mirostat::default();
        mirostat.tau = self.suggestion(MIROSTAT_TAU).map_or(mirostat.tau, |tau| tau as f32);
        mirostat.eta = self.suggestion(MIROSTAT_ETA).map_or(mirostat.eta, |eta| eta as f32);
        let suggested = SamplerParams { mirostat: Some(mirostat), ..params.clone() };
        if let Err(error) = suggested.check() {
            tracing::warn!("{MIROSTAT} is ignored: {error}");
            return None;
        }
        *params = suggested;
        Some("mirostat")
    }
}

/// Sets a parameter to a number of the file. As in llama.cpp a temperature below 0 is 0, a `top_k` below 1 turns it off,
/// and a negative count of tokens is all of them.
fn assign(name: &str, value: Value<'_>, number: f64) {
    match value {
        Value::Number(value, _) if name == "temperature" && number < 0.0 => *value = 0.0,
        Value::Number(value, _) => *value = number as f32,
        Value::Count(value, most) if number < 0.0 && most < usize::MAX => *value = most,
        // A float becomes the nearest integer in range; NaN becomes 0.
        Value::Count(value, _) => *value = number.max(0.0) as usize,
        Value::Texts(_) => {}
    }
}
