//! `generation_settings`: the settings with which an answer was generated, under llama-server's names.

use serde_json::{Map, Value, json};

use crate::sampling::{SamplerParams, Value as Parameter};
use crate::serve::models::Loaded;
use crate::serve::settings::Settings;

/// The settings of a request that has none.
pub(super) fn defaults(loaded: &Loaded) -> Value {
    let mut settings = samplers(&loaded.sampling);
    // A request without a seed gets a random one.
    settings.insert("seed".into(), u32::MAX.into());
    limits(&mut settings, None, 0, &[]);
    settings.into()
}

/// The settings of a request.
pub(super) fn of(settings: &Settings, streams: bool) -> Value {
    let mut all = samplers(&settings.sampling);
    let limit = &settings.limits;
    all.insert("stream".into(), streams.into());
    limits(&mut all, limit.max_tokens, limit.logprobs.unwrap_or(0), &limit.stop);
    all.into()
}

fn limits(all: &mut Map<String, Value>, max_tokens: Option<usize>, n_probs: usize, stop: &[String]) {
    let most = max_tokens.map_or(-1, |n| n as i64);
    for (name, value) in [
        ("n_predict", most.into()),
        ("max_tokens", most.into()),
        ("n_probs", n_probs.into()),
        ("stop", stop.into()),
        ("n_keep", 0.into()),
        ("n_discard", 0.into()),
        ("lora", json!([])),
        ("post_sampling_probs", false.into()),
    ] {
        all.insert(name.into(), value);
    }
}

/// The settings of all samplers, by the names under which requests set them.
pub(in crate::serve) fn samplers(params: &SamplerParams) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("seed".into(), params.seed.into());
    for parameter in params.clone().parameters() {
        let value = match parameter.value {
            Parameter::Number(number, _) => number_value(*number),
            Parameter::Count(count, _) => (*count).into(),
            Parameter::Texts(texts) => texts.as_slice().into(),
        };
        // llama-server's name of this one.
        let name = if parameter.name == "penalty_last_n" { "repeat_last_n" } else { parameter.name };
        all.insert(name.into(), value);
    }
    let mirostat = params.mirostat.unwrap_or_default();
    all.insert("mirostat".into(), if params.mirostat.is_some() { 2 } else { 0 }.into());
    all.insert("mirostat_tau".into(), number_value(mirostat.tau));
    all.insert("mirostat_eta".into(), number_value(mirostat.eta));
    all.insert("min_keep".into(), params.min_keep.into());
    all.insert("samplers".into(), params.order.iter().map(|stage| stage.name()).collect());
    let bias = |&(token, bias): &(u32, f32)| match bias.is_finite() {
        true => json!({"token": token, "bias": number_value(bias)}),
        false => json!({"token": token, "bias": false}),
    };
    all.insert("logit_bias".into(), params.logit_bias.iter().map(bias).collect());
    all
}

/// The number that has the same shortest decimal form: 0.8, and not 0.800000011920929.
pub(in crate::serve) fn number_value(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
