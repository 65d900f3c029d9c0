//! What sampling can be told, and what it refuses.

use std::str::FromStr;

/// A step of sampling. Each looks at the candidates that the steps before it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Repetition, frequency and presence penalties.
    Penalties,
    /// [`DryParams`].
    Dry,
    /// [`SamplerParams::top_n_sigma`].
    TopNSigma,
    /// [`SamplerParams::top_k`].
    TopK,
    /// [`SamplerParams::typical_p`].
    TypicalP,
    /// [`SamplerParams::top_p`].
    TopP,
    /// [`SamplerParams::min_p`].
    MinP,
    /// [`SamplerParams::xtc_probability`] and [`SamplerParams::xtc_threshold`].
    Xtc,
    /// [`SamplerParams::temperature`] and its dynamic form.
    Temperature,
}

impl Stage {
    /// All stages, in the order in which they act by default: llama.cpp's.
    pub const ORDER: [Stage; 9] = [
        Stage::Penalties,
        Stage::Dry,
        Stage::TopNSigma,
        Stage::TopK,
        Stage::TypicalP,
        Stage::TopP,
        Stage::MinP,
        Stage::Xtc,
        Stage::Temperature,
    ];

    /// The stage's name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Penalties => "penalties",
            Stage::Dry => "dry",
            Stage::TopNSigma => "top_n_sigma",
            Stage::TopK => "top_k",
            Stage::TypicalP => "typ_p",
            Stage::TopP => "top_p",
            Stage::MinP => "min_p",
            Stage::Xtc => "xtc",
            Stage::Temperature => "temperature",
        }
    }
}

impl FromStr for Stage {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Stage, ParamError> {
        let plain = text.trim().replace('-', "_");
        let alias = match plain.as_str() {
            "typical" | "typical_p" => "typ_p",
            "top_nsigma" => "top_n_sigma",
            "temp" => "temperature",
            name => name,
        };
        let found = Stage::ORDER.into_iter().find(|stage| stage.name() == alias);
        found.ok_or_else(|| ParamError::UnknownStage(text.trim().to_string()))
    }
}

/// DRY ("don't repeat yourself", p-e-w 2024): a token that would continue a repetition of length n, at least
/// `allowed_length`, loses `multiplier · base^(n − allowed_length)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DryParams {
    /// The penalty of the shortest repetition; 0 turns DRY off.
    pub multiplier: f32,
    /// What one more token of repetition multiplies the penalty by. Below 1 DRY is off.
    pub base: f32,
    /// Tokens that may repeat without a penalty, before the next one.
    pub allowed_length: usize,
    /// How many of the last tokens are searched; 0 turns DRY off.
    pub penalty_last_n: usize,
    /// Texts over which no repetition is seen: what comes before the last of them does not count.
    pub sequence_breakers: Vec<String>,
}

impl Default for DryParams {
    /// Off; base 1.75, two tokens allowed, 64 searched; a line end, `:`, `"` and `*` break.
    fn default() -> DryParams {
        DryParams {
            multiplier: 0.0,
            base: 1.75,
            allowed_length: 2,
            penalty_last_n: 64,
            sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
        }
    }
}

impl DryParams {
    /// Whether DRY can change any logit.
    pub(super) fn acts(&self) -> bool {
        self.multiplier != 0.0 && self.base >= 1.0 && self.penalty_last_n > 0
    }
}

/// Mirostat 2 (Basu et al. 2021, arXiv 2007.14966): drops the tokens whose surprise −log₂ p is above µ, draws, and
/// moves µ by the learning rate towards a mean surprise of τ. It takes the place of all stages but temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// τ: the mean surprise of the text, in bits.
    pub tau: f32,
    /// η: how fast µ moves.
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Mirostat {
        Mirostat { tau: 5.0, eta: 0.1 }
    }
}

/// The settings of a [`Sampler`](super::Sampler). Names, meanings and defaults are llama.cpp's.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerParams {
    /// The stages that act, in their order. One that is left out does not act.
    pub order: Vec<Stage>,
    /// Added to the logits of tokens before all stages; −∞ rules a token out.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the last tokens the three penalties look at; 0 turns them off.
    pub penalty_last_n: usize,
    /// Divides the positive logits of tokens in the window, and multiplies their negative ones. Above 0;
    /// 1 does nothing. Keskar et al. 2019 (arXiv 1909.05858).
    pub repeat_penalty: f32,
    /// Subtracted from a token's logit once for each time it is in the window. 0 does nothing.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token in the window. 0 does nothing.
    pub presence_penalty: f32,
    /// The penalty on verbatim repetition.
    pub dry: DryParams,
    /// Keeps the tokens whose logits are within so many standard deviations (of the candidates' logits) of the
    /// largest. 0 and below keep all. Tang et al. 2024 (arXiv 2411.07641).
    pub top_n_sigma: f32,
    /// Keeps the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens whose information is nearest the distribution's entropy until their probabilities
    /// exceed this sum. In (0, 1]; 1 keeps all. Meister et al. 2022 (arXiv 2202.00666).
    pub typical_p: f32,
    /// Keeps the most probable tokens until their probabilities reach this sum. In [0, 1]; 1 keeps all.
    /// Holtzman et al. 2019 (arXiv 1904.09751).
    pub top_p: f32,
    /// Keeps the tokens that are at least so probable, relative to the most probable one. In [0, 1];
    /// 0 keeps all. Nguyen et al. 2024 (arXiv 2407.01082).
    pub min_p: f32,
    /// How often XTC ("exclude top choices", p-e-w 2024) acts, in [0, 1]: it drops all tokens that are at least
    /// [`xtc_threshold`](Self::xtc_threshold) probable, but the least probable of them.
    pub xtc_probability: f32,
    /// The probability from which a token is a top choice. Above 0.5 there are never two: XTC is off.
    pub xtc_threshold: f32,
    /// The fewest tokens that typical, top-p, min-p and XTC leave, if there are so many.
    pub min_keep: usize,
    /// Divides the logits of what is left. 0: the most probable token, always.
    pub temperature: f32,
    /// Lets the temperature follow the entropy H of the n candidates:
    /// t − r + 2r · (H / ln n)^[`exponent`](Self::dynatemp_exponent), from no less than 0. 0 turns it off.
    pub dynatemp_range: f32,
    /// The exponent of the dynamic temperature.
    pub dynatemp_exponent: f32,
    /// Mirostat in place of all stages but temperature.
    pub mirostat: Option<Mirostat>,
    /// The same seed gives the same choices.
    pub seed: u64,
}

impl Default for SamplerParams {
    /// Temperature 0.8, top-k 40, top-p 0.95, min-p 0.05; all else off; seed 0.
    fn default() -> Self {
        SamplerParams {
            order: Stage::ORDER.to_vec(),
            logit_bias: Vec::new(),
            penalty_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry: DryParams::default(),
            top_n_sigma: -1.0,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            min_keep: 0,
            temperature: 0.8,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: None,
            seed: 0,
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParamError {
    /// A number outside its range, or not a number.
    #[error("{name} is {value}; expected {expected}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What it was.
        value: f32,
        /// What it can be.
        expected: &'static str,
    },
    /// There is nothing to choose from.
    #[error("the vocabulary has no tokens to sample from")]
    EmptyVocabulary,
    /// More tokens than 32-bit ids can name.
    #[error("the vocabulary has {0} tokens; at most 4294967295 can be sampled from")]
    VocabularyTooLarge(usize),
    /// A window that no run could fill.
    #[error("{name} is {value}; at most 16777216 is supported")]
    WindowTooLong {
        /// The setting.
        name: &'static str,
        /// What it was.
        value: usize,
    },
    /// A stage that does not exist.
    #[error(
        "there is no sampler `{0}`; the samplers are {list}",
        list = Stage::ORDER.map(Stage::name).join(", ")
    )]
    UnknownStage(String),
    /// A stage that would act twice.
    #[error("the sampler `{0}` is listed twice")]
    RepeatedStage(&'static str),
    /// A bias for a token that does not exist.
    #[error("logit_bias names token {token}; the vocabulary has {n_vocab}")]
    BiasedToken {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// An empty text is everywhere.
    #[error("a DRY sequence breaker is empty: it would break everywhere; turn DRY off instead")]
    EmptyBreaker,
    /// DRY's sequence breakers are text, and a sampler without a tokenizer knows no text.
    #[error("DRY's sequence breakers need the tokens' texts: make the sampler with Sampler::for_tokenizer")]
    BreakersWithoutText,
}

/// The longest window of the penalties.
const MAX_WINDOW: usize = 1 << 24;

impl SamplerParams {
    /// Says which setting is wrong, if one is.
    ///
    /// # Errors
    /// [`ParamError`], but for what depends on the vocabulary.
    pub fn check(&self) -> Result<(), ParamError> {
        self.check_numbers()?;
        for (name, value) in
            [("penalty_last_n", self.penalty_last_n), ("dry_penalty_last_n", self.dry.penalty_last_n)]
        {
            if value > MAX_WINDOW {
                return Err(ParamError::WindowTooLong { name, value });
            }
        }
        if self.dry.sequence_breakers.iter().any(String::is_empty) {
            return Err(ParamError::EmptyBreaker);
        }
        for (i, stage) in self.order.iter().enumerate() {
            if self.order[..i].contains(stage) {
                return Err(ParamError::RepeatedStage(stage.name()));
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), ParamError> {
        let finite = |v: f32| v.is_finite();
        let share = |v: f32| (0.0..=1.0).contains(&v);
        let not_negative = |v: f32| v.is_finite() && v >= 0.0;
        let positive = |v: f32| v.is_finite() && v > 0.0;
        let bias = |v: f32| v < f32::INFINITY;
        type Rule = (&'static str, f32, fn(f32) -> bool, &'static str);
        let mirostat = self.mirostat.unwrap_or_default();
        let rules: [Rule; 16] = [
            ("repeat_penalty", self.repeat_penalty, positive, "a number above 0"),
            ("frequency_penalty", self.frequency_penalty, finite, "a finite number"),
            ("presence_penalty", self.presence_penalty, finite, "a finite number"),
            ("dry_multiplier", self.dry.multiplier, not_negative, "0 or a positive number"),
            ("dry_base", self.dry.base, not_negative, "0 or a positive number"),
            ("top_n_sigma", self.top_n_sigma, finite, "a finite number"),
            ("typical_p", self.typical_p, |v| v > 0.0 && v <= 1.0, "a number above 0 and up to 1"),
            ("top_p", self.top_p, share, "a number from 0 to 1"),
            ("min_p", self.min_p, share, "a number from 0 to 1"),
            ("xtc_probability", self.xtc_probability, share, "a number from 0 to 1"),
            ("xtc_threshold", self.xtc_threshold, share, "a number from 0 to 1"),
            ("temperature", self.temperature, not_negative, "0 or a positive number"),
            ("dynatemp_range", self.dynatemp_range, not_negative, "0 or a positive number"),
            ("dynatemp_exponent", self.dynatemp_exponent, positive, "a number above 0"),
            ("mirostat_tau", mirostat.tau, not_negative, "0 or a positive number"),
            ("mirostat_eta", mirostat.eta, not_negative, "0 or a positive number"),
        ];
        let biases = self
            .logit_bias
            .iter()
            .map(|&(_, value)| -> Rule { ("logit_bias", value, bias, "a finite number or -infinity") });
        for (name, value, ok, expected) in rules.into_iter().chain(biases) {
            if !ok(value) {
                return Err(ParamError::OutOfRange { name, value, expected });
            }
        }
        Ok(())
    }

    /// Whether the penalties change any logit.
    fn penalizes(&self) -> bool {
        let neutral =
            self.repeat_penalty == 1.0 && self.frequency_penalty == 0.0 && self.presence_penalty == 0.0;
        self.penalty_last_n > 0 && !neutral
    }

    /// Whether a stage can change anything.
    fn acts(&self, stage: Stage) -> bool {
        match stage {
            Stage::Penalties => self.penalizes(),
            Stage::Dry => self.dry.acts(),
            Stage::TopNSigma => self.top_n_sigma > 0.0,
            Stage::TopK => self.top_k > 0,
            Stage::TypicalP => self.typical_p < 1.0,
            Stage::TopP => self.top_p < 1.0,
            Stage::MinP => self.min_p > 0.0,
            Stage::Xtc => self.xtc_probability > 0.0 && self.xtc_threshold <= 0.5,
            Stage::Temperature => self.temperature != 1.0 || self.dynatemp_range > 0.0,
        }
    }

    /// Whether the most probable token is taken, of what the stages before leave.
    fn greedy(&self) -> bool {
        self.temperature == 0.0 && self.dynatemp_range == 0.0
    }

    /// The stages that can change what is chosen, in their order.
    pub(super) fn active(&self) -> Vec<Stage> {
        if self.mirostat.is_some() {
            return if self.acts(Stage::Temperature) { vec![Stage::Temperature] } else { vec![] };
        }
        let mut stages: Vec<Stage> = self.order.iter().copied().filter(|&stage| self.acts(stage)).collect();
        let Some(end) = stages.iter().position(|&stage| stage == Stage::Temperature) else { return stages };
        if self.greedy() {
            // One candidate is left, which no stage drops.
            stages.truncate(end + 1);
            // Filters that always keep the most probable token choose nothing where only that is taken.
            let keeps_it =
                |stage: &Stage| matches!(stage, Stage::TopNSigma | Stage::TopK | Stage::TopP | Stage::MinP);
            let needed = stages[..end].iter().rposition(|stage| !keeps_it(stage)).map_or(0, |last| last + 1);
            stages.drain(needed..end);
        }
        stages
    }
}
