//! What sampling can be told, and what it refuses.

/// The settings of a [`Sampler`](super::Sampler), in the order in which they act.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerParams {
    /// How many of the last tokens the three penalties look at; 0 turns them off.
    pub penalty_last_n: usize,
    /// Divides the positive logits of tokens in the window, and multiplies their negative ones. Above 0;
    /// 1 does nothing. Keskar et al. 2019 (arXiv 1909.05858).
    pub repeat_penalty: f32,
    /// Subtracted from a token's logit once for each time it is in the window. 0 does nothing.
    pub frequency_penalty: f32,
    /// Subtracted from the logit of every token in the window. 0 does nothing.
    pub presence_penalty: f32,
    /// Keeps the k most probable tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the tokens whose information is nearest the distribution's entropy until their probabilities
    /// reach this sum. In (0, 1]; 1 keeps all. Meister et al. 2022 (arXiv 2202.00666).
    pub typical_p: f32,
    /// Keeps the most probable tokens until their probabilities reach this sum. In [0, 1]; 1 keeps all.
    /// Holtzman et al. 2019 (arXiv 1904.09751).
    pub top_p: f32,
    /// Keeps the tokens that are at least so probable, relative to the most probable one. In [0, 1];
    /// 0 keeps all. Nguyen et al. 2024 (arXiv 2407.01082).
    pub min_p: f32,
    /// Divides the logits of what is left. 0: the most probable token, always.
    pub temperature: f32,
    /// The same seed gives the same choices.
    pub seed: u64,
}

impl Default for SamplerParams {
    /// Temperature 0.8, top-k 40, top-p 0.95, min-p 0.05; no penalties; seed 0.
    fn default() -> Self {
        SamplerParams {
            penalty_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.95,
            min_p: 0.05,
            temperature: 0.8,
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
    #[error("penalty_last_n is {0}; at most 16777216 is supported")]
    WindowTooLong(usize),
}

/// The longest window of the penalties.
const MAX_WINDOW: usize = 1 << 24;

impl SamplerParams {
    /// Says which setting is wrong, if one is.
    ///
    /// # Errors
    /// [`ParamError::OutOfRange`] or [`ParamError::WindowTooLong`].
    pub fn check(&self) -> Result<(), ParamError> {
        let finite = |v: f32| v.is_finite();
        let share = |v: f32| (0.0..=1.0).contains(&v);
        type Rule = (&'static str, f32, bool, &'static str);
        let rules: [Rule; 7] = [
            (
                "repeat_penalty",
                self.repeat_penalty,
                finite(self.repeat_penalty) && self.repeat_penalty > 0.0,
                "a number above 0",
            ),
            ("frequency_penalty", self.frequency_penalty, finite(self.frequency_penalty), "a finite number"),
            ("presence_penalty", self.presence_penalty, finite(self.presence_penalty), "a finite number"),
            (
                "typical_p",
                self.typical_p,
                share(self.typical_p) && self.typical_p > 0.0,
                "a number above 0 and up to 1",
            ),
            ("top_p", self.top_p, share(self.top_p), "a number from 0 to 1"),
            ("min_p", self.min_p, share(self.min_p), "a number from 0 to 1"),
            (
                "temperature",
                self.temperature,
                finite(self.temperature) && self.temperature >= 0.0,
                "0 or a positive number",
            ),
        ];
        for (name, value, ok, expected) in rules {
            if !ok {
                return Err(ParamError::OutOfRange { name, value, expected });
            }
        }
        if self.penalty_last_n > MAX_WINDOW {
            return Err(ParamError::WindowTooLong(self.penalty_last_n));
        }
        Ok(())
    }

    /// Whether the penalties change any logit.
    pub(super) fn penalizes(&self) -> bool {
        let neutral =
            self.repeat_penalty == 1.0 && self.frequency_penalty == 0.0 && self.presence_penalty == 0.0;
        self.penalty_last_n > 0 && !neutral
    }
}
