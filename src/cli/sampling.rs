//! The options that say how the next token is chosen. Their names are llama.cpp's.

use clap::Args;

use super::error::CliError;
use crate::text::{DryParams, Mirostat, SamplerParams, Stage, Tokenizer};

/// How the next token is chosen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingArgs {
    /// Temperature: above 1 bolder, below 1 surer; 0 or less always takes the most probable token
    #[arg(
        long, value_name = "T", default_value_t = SamplerParams::default().temperature, allow_negative_numbers = true
    )]
    temp: f32,
    /// Let the temperature follow the entropy, within R of --temp; 0: fixed
    #[arg(long, value_name = "R", default_value_t = SamplerParams::default().dynatemp_range, hide_short_help = true)]
    dynatemp_range: f32,
    /// Exponent of the dynamic temperature
    #[arg(long, value_name = "E", default_value_t = SamplerParams::default().dynatemp_exponent, hide_short_help = true)]
    dynatemp_exp: f32,
    /// Choose among the K most probable tokens; 0: among all
    #[arg(long, value_name = "K", default_value_t = SamplerParams::default().top_k)]
    top_k: usize,
    /// Choose among the most probable tokens that together have this probability; 1: among all
    #[arg(long, value_name = "P", default_value_t = SamplerParams::default().top_p)]
    top_p: f32,
    /// Choose among tokens at least this probable, relative to the most probable one; 0: among all
    #[arg(long, value_name = "P", default_value_t = SamplerParams::default().min_p)]
    min_p: f32,
    /// Choose among the tokens of typical information that together have this probability; 1: among all
    #[arg(long, alias = "typical", value_name = "P", default_value_t = SamplerParams::default().typical_p, hide_short_help = true)]
    typical_p: f32,
    /// Choose among tokens whose logits are within N standard deviations of the largest; 0 or less: among all
    #[arg(
        long, alias = "top-nsigma", value_name = "N", default_value_t = SamplerParams::default().top_n_sigma,
        allow_negative_numbers = true, hide_short_help = true
    )]
    top_n_sigma: f32,
    /// How often to exclude the top choices but the least probable of them; 0: never
    #[arg(long, value_name = "P", default_value_t = SamplerParams::default().xtc_probability, hide_short_help = true)]
    xtc_probability: f32,
    /// Probability from which a token is a top choice; above 0.5: none is excluded
    #[arg(long, value_name = "P", default_value_t = SamplerParams::default().xtc_threshold, hide_short_help = true)]
    xtc_threshold: f32,
    /// Leave at least N tokens to --typical-p, --top-p, --min-p and XTC
    #[arg(long, value_name = "N", default_value_t = SamplerParams::default().min_keep, hide_short_help = true)]
    min_keep: usize,
    /// Make tokens of the last --repeat-last-n less likely; 1: do not
    #[arg(long, value_name = "R", default_value_t = SamplerParams::default().repeat_penalty)]
    repeat_penalty: f32,
    /// How many of the last tokens the three penalties look at
    #[arg(long, value_name = "N", default_value_t = SamplerParams::default().penalty_last_n)]
    repeat_last_n: usize,
    /// Take from a token's logit for each time it is among the last tokens
    #[arg(
        long, value_name = "A", default_value_t = SamplerParams::default().frequency_penalty,
        allow_negative_numbers = true, hide_short_help = true
    )]
    frequency_penalty: f32,
    /// Take from the logits of all tokens among the last ones
    #[arg(
        long, value_name = "A", default_value_t = SamplerParams::default().presence_penalty,
        allow_negative_numbers = true, hide_short_help = true
    )]
    presence_penalty: f32,
    #[command(flatten)]
    dry: DryArgs,
    #[command(flatten)]
    mirostat: MirostatArgs,
    /// Add to a token's logit, or take from it: 15+1.5 or 15-1.5; 15-inf rules it out. May be repeated
    #[arg(short = 'l', long, value_name = "TOKEN±VALUE", value_parser = logit_bias, hide_short_help = true)]
    logit_bias: Vec<(u32, f32)>,
    /// Never end the answer with a token
    #[arg(long, hide_short_help = true)]
    ignore_eos: bool,
    /// The samplers that act, in their order, with `;` between them
    #[arg(long, value_name = "NAMES", default_value_t = default_order(), hide_short_help = true)]
    samplers: String,
    /// Seed of the random choices: the same seed gives the same text
    #[arg(long, value_name = "S", default_value_t = SamplerParams::default().seed)]
    seed: u64,
}

/// The penalty on verbatim repetition.
#[derive(Debug, Args)]
struct DryArgs {
    /// Penalty of tokens that would continue a repetition (DRY); 0: none
    #[arg(long, value_name = "A", default_value_t = DryParams::default().multiplier, hide_short_help = true)]
    dry_multiplier: f32,
    /// What each further token of the repetition multiplies DRY's penalty by
    #[arg(long, value_name = "B", default_value_t = DryParams::default().base, hide_short_help = true)]
    dry_base: f32,
    /// Tokens that may repeat before DRY's penalty
    #[arg(long, value_name = "N", default_value_t = DryParams::default().allowed_length, hide_short_help = true)]
    dry_allowed_length: usize,
    /// How many of the last tokens DRY looks at; 0: none
    #[arg(long, value_name = "N", default_value_t = DryParams::default().penalty_last_n, hide_short_help = true)]
    dry_penalty_last_n: usize,
    /// Text over which DRY sees no repetition; `none`: there is no such text. May be repeated [default: a line end, `:`,
    /// `"` and `*`]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, hide_short_help = true)]
    dry_sequence_breaker: Vec<String>,
}

impl DryArgs {
    fn params(&self) -> DryParams {
        let breakers = &self.dry_sequence_breaker;
        DryParams {
            multiplier: self.dry_multiplier,
            base: self.dry_base,
            allowed_length: self.dry_allowed_length,
            penalty_last_n: self.dry_penalty_last_n,
            sequence_breakers: match breakers.as_slice() {
                [] => DryParams::default().sequence_breakers,
                // As in llama.cpp, it forgets the ones before it.
                given => given.rsplit(|text| text == "none").next().unwrap_or_default().to_vec(),
            },
        }
    }
}

/// Mirostat in place of all samplers but temperature.
#[derive(Debug, Args)]
struct MirostatArgs {
    /// 2: keep the mean surprise of the text at --mirostat-ent, in place of all samplers but temperature; 0: do not
    #[arg(long, value_name = "0|2", default_value_t = 0, value_parser = mirostat, hide_short_help = true)]
    mirostat: u8,
    /// Mirostat's learning rate, eta
    #[arg(long, value_name = "ETA", default_value_t = Mirostat::default().eta, hide_short_help = true)]
    mirostat_lr: f32,
    /// The surprise that Mirostat aims at, tau, in bits
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

fn default_order() -> String {
    Stage::ORDER.map(Stage::name).join(";")
}

/// A token and what to add to its logit.
fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let wrong = || "expected a token id and a signed number, such as 15+1.5 or 15-inf".to_string();
    let sign = text.find(['+', '-']).ok_or_else(wrong)?;
    let (token, bias) = text.split_at(sign);
    let bias: f32 = bias.parse().map_err(|_| wrong())?;
    Ok((token.parse().map_err(|_| wrong())?, bias))
}

impl SamplingArgs {
    /// The sampler's settings, which are in their ranges.
    pub(super) fn params(&self) -> Result<SamplerParams, CliError> {
        let names = self.samplers.split(';').filter(|name| !name.trim().is_empty());
        let params = SamplerParams {
            order: names.map(str::parse).collect::<Result<Vec<Stage>, _>>()?,
            logit_bias: self.logit_bias.clone(),
            penalty_last_n: self.repeat_last_n,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            dry: self.dry.params(),
            top_n_sigma: self.top_n_sigma,
            top_k: self.top_k,
            typical_p: self.typical_p,
            top_p: self.top_p,
            min_p: self.min_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            min_keep: self.min_keep,
            // NaN stays, to be refused.
            temperature: if self.temp < 0.0 { 0.0 } else { self.temp },
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exp,
            mirostat: (self.mirostat.mirostat == 2)
                .then_some(Mirostat { tau: self.mirostat.mirostat_ent, eta: self.mirostat.mirostat_lr }),
            seed: self.seed,
        };
        params.check()?;
        Ok(params)
    }

    /// The same for a vocabulary, whose end tokens --ignore-eos rules out.
    pub(super) fn params_for(&self, tokenizer: &Tokenizer) -> Result<SamplerParams, CliError> {
        let mut params = self.params()?;
        if self.ignore_eos {
            let ids = 0..tokenizer.n_vocab() as u32;
            let ends = ids.filter(|&id| tokenizer.is_end_of_generation(id));
            params.logit_bias.extend(ends.map(|id| (id, f32::NEG_INFINITY)));
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

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
        assert_eq!(params("--temp -1").unwrap().temperature, 0.0);
        assert!(params("--temp nan").is_err());
    }

    #[test]
    fn options_reach_the_settings_they_name() {
        let given = params(
            "--temp 0.7 --dynatemp-range 0.2 --dynatemp-exp 1.5 --top-k 7 --top-p 0.8 --min-p 0.1 --typical-p 0.9 \
             --top-n-sigma 2 --xtc-probability 0.4 --xtc-threshold 0.2 --min-keep 3 --repeat-penalty 1.1 \
             --repeat-last-n 33 --frequency-penalty -0.5 --presence-penalty 0.25 --dry-multiplier 0.8 --dry-base 2 \
             --dry-allowed-length 4 --dry-penalty-last-n 99 --dry-sequence-breaker ab --dry-sequence-breaker cd \
             --mirostat 2 --mirostat-lr 0.3 --mirostat-ent 4 -l 15+1.5 -l 16-inf --samplers top_k;temp --seed 9",
        );
        let dry = DryParams {
            multiplier: 0.8,
            base: 2.0,
            allowed_length: 4,
            penalty_last_n: 99,
            sequence_breakers: vec!["ab".into(), "cd".into()],
        };
        let expected = SamplerParams {
            order: vec![Stage::TopK, Stage::Temperature],
            logit_bias: vec![(15, 1.5), (16, f32::NEG_INFINITY)],
            penalty_last_n: 33,
            repeat_penalty: 1.1,
            frequency_penalty: -0.5,
            presence_penalty: 0.25,
            dry,
            top_n_sigma: 2.0,
            top_k: 7,
            typical_p: 0.9,
            top_p: 0.8,
            min_p: 0.1,
            xtc_probability: 0.4,
            xtc_threshold: 0.2,
            min_keep: 3,
            temperature: 0.7,
            dynatemp_range: 0.2,
            dynatemp_exponent: 1.5,
            mirostat: Some(Mirostat { tau: 4.0, eta: 0.3 }),
            seed: 9,
        };
        assert_eq!(given.unwrap(), expected);
    }

    #[test]
    fn breakers_and_biases_are_as_they_are_written() {
        assert!(params("--dry-sequence-breaker none").unwrap().dry.sequence_breakers.is_empty());
        assert_eq!(logit_bias("7-0.5"), Ok((7, -0.5)));
        for bad in ["7", "+1", "7+", "7+x", "x+1", "7*2"] {
            assert!(logit_bias(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sampler_that_there_is_not_is_named() {
        let error = params("--samplers top_k;warmth").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no sampler `warmth`; the samplers are penalties, dry,"),
            "{error}"
        );
        let error = params("--samplers top_k;top-k").unwrap_err().to_string();
        assert_eq!(error, "the sampler `top_k` is listed twice");
    }
}
