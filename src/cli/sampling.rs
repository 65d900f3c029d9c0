//! The sampling options, named as in llama.cpp.
//!
//! The options of the samplers are generated from the table of `sampling`: names, defaults, help and ranges. The
//! options of the whole chain are defined here.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde_json::{Map, json};

use super::error::CliError;
use super::options::ModelArg;
use crate::model::Model;
use crate::sampling::{Mirostat, Parameter, SamplerParams, Stage, Value};
use crate::text::Tokenizer;

/// Sampling options.
#[derive(Clone, Debug)]
pub(super) struct SamplingArgs {
    /// The samplers' settings; the other fields are defaults.
    samplers: SamplerParams,
    chain: ChainArgs,
    /// The names of the options that were given.
    given: Vec<String>,
}

impl Args for SamplingArgs {
    fn augment_args(command: Command) -> Command {
        let mut defaults = SamplerParams::default();
        let parameters = defaults.parameters();
        // In the order in which the samplers act.
        let options = parameters.iter().zip(DEFAULTS.iter()).map(|(p, default)| option(p, default));
        ChainArgs::augment_args(command.next_help_heading("Sampling").args(options))
    }

    fn augment_args_for_update(command: Command) -> Command {
        SamplingArgs::augment_args(command)
    }
}

impl FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SamplingArgs, clap::Error> {
        let mut samplers = SamplerParams::default();
        for parameter in samplers.parameters() {
            set(parameter, matches);
        }
        // NaN is kept, and refused later.
        if samplers.temperature.value < 0.0 {
            samplers.temperature.value = 0.0;
        }
        let is_given = |name: &&str| {
            matches!(matches.try_contains_id(name), Ok(true))
                && matches.value_source(name) != Some(ValueSource::DefaultValue)
        };
        let names: Vec<&str> = samplers.parameters().iter().map(|parameter| parameter.name).collect();
        let given = names.iter().copied().chain(CHAIN).filter(is_given).map(str::to_owned).collect();
        Ok(SamplingArgs { samplers, chain: ChainArgs::from_arg_matches(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SamplingArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The defaults of the samplers' parameters as text, with the `'static` lifetime that clap needs.
static DEFAULTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |parameter: &Parameter<'_>| match &parameter.value {
        Value::Number(value, _) => value.to_string(),
        Value::Count(value, _) => value.to_string(),
        Value::Texts(texts) => texts.join(" "),
    };
    SamplerParams::default().parameters().iter().map(text).collect()
});

/// The option of a sampler's parameter.
fn option(parameter: &Parameter<'_>, default: &'static str) -> Arg {
    let option = Arg::new(parameter.name)
        .long(parameter.flag)
        .alias(parameter.alias)
        .value_name(parameter.value_name)
        .help(parameter.help)
        .hide_short_help(!parameter.common);
    match parameter.value {
        Value::Number(..) => {
            option.value_parser(value_parser!(f32)).allow_negative_numbers(true).default_value(default)
        }
        Value::Count(..) => option.value_parser(value_parser!(usize)).default_value(default),
        // The option's help states its default.
        Value::Texts(_) => option.action(ArgAction::Append).allow_hyphen_values(true),
    }
}

/// Sets a sampler's parameter from its option.
fn set(parameter: Parameter<'_>, matches: &ArgMatches) {
    match parameter.value {
        Value::Number(value, _) => *value = matches.get_one(parameter.name).copied().unwrap_or(*value),
        Value::Count(value, _) => *value = matches.get_one(parameter.name).copied().unwrap_or(*value),
        Value::Texts(texts) => {
            let Some(given) = matches.get_many::<String>(parameter.name) else { return };
            let given: Vec<String> = given.cloned().collect();
            // As in llama.cpp, `none` clears the earlier ones.
            *texts = given.rsplit(|text| text == "none").next().unwrap_or_default().to_vec();
        }
    }
}

/// The ids of the options of the whole chain that a file may suggest.
const CHAIN: [&str; 6] = ["samplers", "mirostat", "mirostat_lr", "mirostat_ent", "seed", "min_keep"];

/// Options of the whole chain of samplers.
#[derive(Clone, Debug, Args)]
struct ChainArgs {
    /// Fewest tokens that --typical-p, --top-p, --min-p and XTC keep
    #[arg(long, value_name = "N", default_value_t = SamplerParams::default().min_keep, hide_short_help = true)]
    min_keep: usize,
    #[command(flatten)]
    mirostat: MirostatArgs,
    /// Add a bias to a token's logit, such as 15+1.5 or 15-1.5; 15-inf bans the token. May be repeated
    #[arg(short = 'l', long, value_name = "TOKEN±VALUE", value_parser = logit_bias, hide_short_help = true)]
    logit_bias: Vec<(u32, f32)>,
    /// Ban all tokens that end the answer
    #[arg(long, hide_short_help = true)]
    ignore_eos: bool,
    /// Samplers in the order of their application, separated by `;`
    #[arg(long, value_name = "NAMES", default_value_t = default_order(), hide_short_help = true)]
    samplers: String,
    /// Random seed: the same seed gives the same text; -1: a random one
    #[arg(long, value_name = "S", default_value_t = SamplerParams::default().seed, allow_negative_numbers = true,
        value_parser = seed)]
    seed: u64,
}

/// Mirostat in place of all samplers but temperature.
#[derive(Clone, Debug, Args)]
struct MirostatArgs {
    /// 2: Mirostat 2, which keeps the mean surprise at --mirostat-ent and replaces all samplers but temperature; 0:
    /// off
    #[arg(long, value_name = "0|2", default_value_t = 0, value_parser = mirostat, hide_short_help = true)]
    mirostat: u8,
    /// Mirostat learning rate (eta)
    #[arg(long, value_name = "ETA", default_value_t = Mirostat::default().eta, hide_short_help = true)]
    mirostat_lr: f32,
    /// Mirostat target surprise (tau), in bits
    #[arg(long, value_name = "TAU", default_value_t = Mirostat::default().tau, hide_short_help = true)]
    mirostat_ent: f32,
}

fn mirostat(text: &str) -> Result<u8, String> {
    match text {
        "0" => Ok(0),
        "2" => Ok(2),
        "1" => Err("Mirostat 1 is not supported; 2 serves the same purpose".into()),
        _ => Err("expected 0 or 2".into()),
    }
}

/// A seed; -1 stands for a random one of 32 bits.
fn seed(text: &str) -> Result<u64, String> {
    if text == "-1" {
        return Ok(RandomState::new().build_hasher().finish() >> 32);
    }
    text.parse().map_err(|_| "expected 0 or a positive number, or -1 for a random seed".into())
}

fn default_order() -> String {
    Stage::ORDER.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(";")
}

/// A token and the bias of its logit.
fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let wrong = || "expected a token id and a signed number, such as 15+1.5 or 15-inf".to_string();
    let sign = text.find(['+', '-']).ok_or_else(wrong)?;
    let (token, bias) = text.split_at(sign);
    let bias: f32 = bias.parse().map_err(|_| wrong())?;
    Ok((token.parse().map_err(|_| wrong())?, bias))
}

impl SamplingArgs {
    /// The sampler's settings, checked against their ranges.
    pub(super) fn params(&self) -> Result<SamplerParams, CliError> {
        let chain = &self.chain;
        let names = chain.samplers.split(';').filter(|name| !name.trim().is_empty());
        let mirostat = Mirostat { tau: chain.mirostat.mirostat_ent, eta: chain.mirostat.mirostat_lr };
        let params = SamplerParams {
            order: names.map(str::parse).collect::<Result<Vec<Stage>, _>>()?,
            logit_bias: chain.logit_bias.clone(),
            min_keep: chain.min_keep,
            mirostat: (chain.mirostat.mirostat == 2).then_some(mirostat),
            seed: chain.seed,
            ..self.samplers.clone()
        };
        params.check()?;
        Ok(params)
    }

    /// The settings for an opened model: options win over its preset, the preset over what the file suggests, and that
    /// over the defaults.
    pub(super) fn choose(
        &self,
        model: &Model,
        tokenizer: &Tokenizer,
        given: &ModelArg,
    ) -> Result<Chosen, CliError> {
        let mut options = self.params()?;
        let is_given = |name: &str| self.given.iter().any(|given| given == name);
        let mut params = SamplerParams { logit_bias: options.logit_bias.clone(), ..SamplerParams::default() };
        (params.seed, params.min_keep) = (options.seed, options.min_keep);
        let suggested = model.suggest_sampling(&mut params);
        let preset = given.preset_sampling(&mut params);
        for (to, from) in params.parameters().into_iter().zip(options.parameters()) {
            match (to.value, from.value) {
                _ if !is_given(to.name) => {}
                (Value::Number(to, _), Value::Number(from, _)) => *to = *from,
                (Value::Count(to, _), Value::Count(from, _)) => *to = *from,
                (Value::Texts(to), Value::Texts(from)) => to.clone_from(from),
                _ => {}
            }
        }
        if is_given("samplers") {
            params.order.clone_from(&options.order);
        }
        let gives_mirostat = CHAIN[1..4].iter().any(|name| is_given(name));
        if gives_mirostat {
            params.mirostat = self.mirostat(params.mirostat, is_given);
        }
        params.check()?;
        let source = |name: &str| match name {
            _ if is_given(name) || (name == "mirostat" && gives_mirostat) => "option",
            _ if preset.contains(&name) => "preset",
            _ if suggested.contains(&name) => "file",
            _ => "default",
        };
        let settings = settings(&mut params, source);
        if self.chain.ignore_eos {
            let ends = tokenizer.end_tokens().iter();
            params.logit_bias.extend(ends.map(|&id| (id, f32::NEG_INFINITY)));
        }
        tracing::info!("the seed is {}", params.seed);
        for name in suggested.iter().filter(|name| source(name) == "file") {
            tracing::info!("the file sets {name}: {}", settings[*name]["value"]);
        }
        Ok(Chosen { params, settings })
    }

    /// Mirostat by the options that were given, on top of what the file suggests.
    fn mirostat(&self, suggested: Option<Mirostat>, is_given: impl Fn(&str) -> bool) -> Option<Mirostat> {
        let options = &self.chain.mirostat;
        let is_on = if is_given("mirostat") { options.mirostat == 2 } else { suggested.is_some() };
        let mut mirostat = suggested.unwrap_or_default();
        if is_given("mirostat_ent") {
            mirostat.tau = options.mirostat_ent;
        }
        if is_given("mirostat_lr") {
            mirostat.eta = options.mirostat_lr;
        }
        is_on.then_some(mirostat)
    }
}

/// The settings of an answer, and where each is from.
pub(super) struct Chosen {
    pub(super) params: SamplerParams,
    /// For `--json`: by name, `{"value": …, "from": "default" | "file" | "preset" | "option"}`.
    pub(super) settings: Map<String, serde_json::Value>,
}

/// The settings by name, each with its source.
fn settings(
    params: &mut SamplerParams,
    source: impl Fn(&str) -> &'static str,
) -> Map<String, serde_json::Value> {
    let order = params.order.iter().map(|stage| stage.name()).collect::<Vec<_>>().join(";");
    let mirostat = params.mirostat.map(|mirostat| json!({"tau": mirostat.tau, "eta": mirostat.eta}));
    let mut all = vec![
        ("samplers", json!(order)),
        ("mirostat", json!(mirostat)),
        ("seed", json!(params.seed)),
        ("min_keep", json!(params.min_keep)),
    ];
    for parameter in params.parameters() {
        let value = match parameter.value {
            // Rounded to the digits that the number has as f32.
            Value::Number(value, _) => {
                value.to_string().parse().map_or(json!(null), |value: f64| json!(value))
            }
            Value::Count(value, _) => json!(value),
            Value::Texts(texts) => json!(texts),
        };
        all.push((parameter.name, value));
    }
    let entry = |(name, value): (&str, _)| (name.to_owned(), json!({"value": value, "from": source(name)}));
    all.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::sampling::Dry;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sampling: SamplingArgs,
    }

    fn params(options: &str) -> Result<SamplerParams, CliError> {
        let line = Line::try_parse_from(std::iter::once("rfgraph").chain(options.split_whitespace()));
        line.unwrap_or_else(|error| panic!("{error}")).sampling.params()
    }

    #[test]
    fn no_option_gives_the_defaults() {
        assert_eq!(params("").unwrap(), SamplerParams::default());
    }

    #[test]
    fn a_temperature_below_0_is_0() {
        assert_eq!(params("--temp -1").unwrap().temperature.value, 0.0);
        assert!(params("--temp nan").is_err());
    }

    #[test]
    fn options_of_the_chain_set_their_settings() {
        let given = params(
            "--min-keep 3 --dry-sequence-breaker ab --dry-sequence-breaker cd --mirostat 2 --mirostat-lr 0.3 \
             --mirostat-ent 4 -l 15+1.5 -l 16-inf --samplers top_k;temp --seed 9",
        );
        let expected = SamplerParams {
            order: vec![Stage::TopK, Stage::Temperature],
            logit_bias: vec![(15, 1.5), (16, f32::NEG_INFINITY)],
            dry: Dry { sequence_breakers: vec!["ab".into(), "cd".into()], ..Dry::default() },
            min_keep: 3,
            mirostat: Some(Mirostat { tau: 4.0, eta: 0.3 }),
            seed: 9,
            ..SamplerParams::default()
        };
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn breakers_and_biases_are_parsed() {
        assert!(params("--dry-sequence-breaker none").unwrap().dry.sequence_breakers.is_empty());
        assert_eq!(logit_bias("7-0.5"), Ok((7, -0.5)));
        for bad in ["7", "+1", "7+", "7+x", "x+1", "7*2"] {
            assert!(logit_bias(bad).is_err(), "{bad}");
        }
    }

    /// Each parameter of the table has an option that sets it and no other.
    #[test]
    fn options_of_all_parameters_set_them() {
        let texts = |params: &mut SamplerParams| -> Vec<String> {
            params
                .parameters()
                .iter()
                .map(|parameter| format!("{} {:?}", parameter.name, parameter.value))
                .collect()
        };
        let mut defaults = SamplerParams::default();
        let before = texts(&mut defaults);
        for (i, parameter) in defaults.parameters().iter().enumerate() {
            let given = if matches!(parameter.value, Value::Count(..)) { "7" } else { "0.25" };
            for name in [Some(parameter.flag), parameter.alias].into_iter().flatten() {
                let after = texts(&mut params(&format!("--{name} {given}")).unwrap());
                let changed: Vec<usize> = (0..after.len()).filter(|&i| before[i] != after[i]).collect();
                assert!(
                    changed == [i] && after[i].contains(given),
                    "--{name} {given}: {changed:?} {after:?}"
                );
            }
        }
    }

    /// Each parameter of the table has an option, and an error for a number out of range names the range.
    #[test]
    fn options_of_all_parameters_are_checked_by_their_ranges() {
        let mut defaults = SamplerParams::default();
        for parameter in defaults.parameters() {
            let Value::Number(_, range) = parameter.value else { continue };
            let error = params(&format!("--{} nan", parameter.flag)).unwrap_err().to_string();
            assert_eq!(error, format!("{} is NaN; expected {}", parameter.name, range.describe()));
            for number in [-1.0, 0.0, 0.5, 1.0, 2.0].into_iter().filter(|_| parameter.flag != "temp") {
                let given = params(&format!("--{} {number}", parameter.flag));
                assert_eq!(given.is_ok(), range.contains(number), "--{} {number}", parameter.flag);
            }
        }
    }

    #[test]
    fn unknown_sampler_is_named() {
        let error = params("--samplers top_k;warmth").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no sampler `warmth`; the samplers are penalties, dry,"),
            "{error}"
        );
        let error = params("--samplers top_k;top-k").unwrap_err().to_string();
        assert_eq!(error, "the sampler `top_k` is listed twice");
    }
}
