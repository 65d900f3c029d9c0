//! Scaled rotary positions: the keys `rope.scaling.*`. The definition is that of transformers'
//! `modeling_rope_utils.py`; `tests/fixtures/rope` has its numbers for combinations of these keys.

use crate::model::{Keys, ModelError};
use crate::ops::Rope;

/// The scaling of a model's positions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scaled {
    /// The rotation.
    pub rope: Rope,
    /// True if the file states the magnitude, so that no other key changes it.
    pub stated: bool,
    /// True for LongRoPE, whose frequencies have one of two sets of factors.
    pub long: bool,
    /// The number of positions, if the scaling is known for so many only.
    pub n_positions: Option<usize>,
}

/// The keys that have an effect with YaRN only.
const YARN_KEYS: &[&str] =
    &["ext_factor", "attn_factor", "beta_fast", "beta_slow", "log_multiplier", "truncate"];

/// The numbers that several scalings use.
struct Numbers {
    factor: Option<f32>,
    attn_factor: Option<f32>,
    orig_ctx: Option<usize>,
    n_ctx_train: usize,
}

impl Scaled {
    /// Reads the scaling of `rope`, the rotation without any.
    pub fn read(keys: &Keys<'_>, rope: Rope) -> Result<Scaled, ModelError> {
        let numbers = Numbers::read(keys)?;
        let has_factors = keys.tensor_shape("rope_factors_long.weight").is_some();
        let kind = keys.opt_str("rope.scaling.type")?;
        let kind = kind.unwrap_or(if has_factors { "longrope" } else { "linear" });
        if kind != "yarn" {
            YARN_KEYS.iter().for_each(|key| keys.inert(&format!("rope.scaling.yarn_{key}")));
        }
        if has_factors && !matches!(kind, "longrope" | "su") {
            let reason = "a file with rope_factors_long.weight scales by its factors, longrope";
            return Err(keys.refuse("rope.scaling.type", kind, reason));
        }
        let plain = |rope| Scaled { rope, stated: false, long: false, n_positions: None };
        let magnitude = numbers.attn_factor.unwrap_or(1.0);
        match kind {
            "none" | "default" => Ok(plain(rope)),
            "linear" => {
                let freq_scale = 1.0 / numbers.factor.unwrap_or(1.0);
                Ok(plain(Rope { freq_scale, attn_factor: magnitude, ..rope }))
            }
            "yarn" => yarn(keys, rope, &numbers),
            // "su" is Phi 3's first name of it.
            "longrope" | "su" if has_factors => Ok(longrope(keys, rope, &numbers)),
            // The base grows with the text once that is longer than the context in training.
            "dynamic" => Ok(Scaled { n_positions: Some(numbers.n_ctx_train), ..plain(rope) }),
            // The scaling is in the tensor, and the factor with it.
            "llama3" if keys.tensor_shape("rope_freqs.weight").is_some() => Ok(plain(rope)),
            other => Err(keys.refuse("rope.scaling.type", other, missing(other))),
        }
    }
}

/// The reason why a scaling is refused.
fn missing(kind: &str) -> &'static str {
    match kind {
        "longrope" | "su" => {
            "its factors are in rope_factors_long.weight and rope_factors_short.weight, which the file does not have; \
             convert the model again"
        }
        "llama3" => {
            "its factors are in rope_freqs.weight, which the file does not have; convert the model again"
        }
        _ => {
            "none, linear, yarn and dynamic are known here, and longrope and llama3 with their tensors of factors"
        }
    }
}

impl Numbers {
    fn read(keys: &Keys<'_>) -> Result<Numbers, ModelError> {
        let factor = keys.opt_positive_or_zero("rope.scaling.factor")?;
        let older = keys.opt_positive_or_zero("rope.scale_linear")?;
        let orig_ctx = keys.opt_count("rope.scaling.original_context_length", 0..=1 << 30)?;
        Ok(Numbers {
            factor: factor.or(older),
            attn_factor: keys.opt_positive_or_zero("rope.scaling.attn_factor")?,
            orig_ctx: orig_ctx.filter(|&n| n > 0),
            n_ctx_train: keys.count("context_length", 1..=1 << 30)?,
        })
    }

    /// The original context.
    fn orig_ctx(&self, keys: &Keys<'_>) -> usize {
        self.orig_ctx.unwrap_or_else(|| {
            let reason = "the context in training";
            keys.assume("rope.scaling.original_context_length", self.n_ctx_train, reason);
            self.n_ctx_train
        })
    }

    /// The extension of the context.
    fn factor(&self, keys: &Keys<'_>, orig_ctx: usize) -> f32 {
        self.factor.unwrap_or_else(|| {
            let factor = self.n_ctx_train as f32 / orig_ctx as f32;
            keys.assume("rope.scaling.factor", factor, "the context in training / the original context");
            factor
        })
    }
}

/// YaRN (Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models").
fn yarn(keys: &Keys<'_>, rope: Rope, numbers: &Numbers) -> Result<Scaled, ModelError> {
    let orig_ctx = numbers.orig_ctx(keys);
    let factor = numbers.factor(keys, orig_ctx);
    let stated = stated_magnitude(keys, numbers)?;
    // A negative number stands for "not set".
    let ext_factor = keys.opt_real("rope.scaling.yarn_ext_factor")?.filter(|&share| share >= 0.0);
    let rope = Rope {
        freq_scale: 1.0 / factor,
        orig_ctx,
        ext_factor: ext_factor.unwrap_or(1.0),
        beta_fast: keys.opt_positive_or_zero("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.opt_positive_or_zero("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        whole_pairs: keys.opt_bool("rope.scaling.yarn_truncate")?.unwrap_or(true),
        ..rope
    };
    // The operator's magnitude is `attn_factor` times the growth that its `freq_scale` implies.
    let implied = 1.0 + 0.1 * factor.ln().max(0.0);
    let growth = if rope.ext_factor == 0.0 { 1.0 } else { 1.0 + 0.1 * factor.ln() };
    if growth < 0.1 {
        return Err(keys.refuse(
            "rope.scaling.factor",
            factor,
            "YaRN extends a context and cannot shrink it so far",
        ));
    }
    let attn_factor = stated.unwrap_or(implied) / growth;
    Ok(Scaled {
        rope: Rope { attn_factor, ..rope },
        stated: stated.is_some(),
        long: false,
        n_positions: None,
    })
}

/// The magnitude of rotated elements that the file states. It replaces the one that the factor implies.
fn stated_magnitude(keys: &Keys<'_>, numbers: &Numbers) -> Result<Option<f32>, ModelError> {
    let key = "rope.scaling.yarn_attn_factor";
    let stated = keys.opt_positive_or_zero(key)?;
    // 1 is the value of the general key in files that do not use it.
    let general = numbers.attn_factor.filter(|&factor| factor != 1.0);
    match (stated, general) {
        (Some(stated), Some(general)) if stated != general => {
            let reason =
                format!("rope.scaling.attn_factor is {general}, and both state the magnitude of YaRN");
            Err(keys.refuse(key, stated, reason))
        }
        _ => Ok(stated.or(general)),
    }
}

/// LongRoPE (Ding et al. 2024). Its factors stretch the positions; the extension of the context only gives the magnitude.
fn longrope(keys: &Keys<'_>, rope: Rope, numbers: &Numbers) -> Scaled {
    let orig_ctx = numbers.orig_ctx(keys);
    let attn_factor = numbers.attn_factor.unwrap_or_else(|| {
        let factor = numbers.factor.unwrap_or(numbers.n_ctx_train as f32 / orig_ctx as f32);
        let magnitude = (1.0 + factor.ln().max(0.0) / (orig_ctx as f32).ln()).sqrt();
        let reason = "√(1 + ln(extension of the context) / ln(original context))";
        // An original context of one token has no logarithm to divide by.
        let magnitude = if magnitude.is_finite() { magnitude } else { 1.0 };
        keys.assume("rope.scaling.attn_factor", magnitude, reason);
        magnitude
    });
    Scaled { rope: Rope { attn_factor, orig_ctx, ..rope }, stated: true, long: true, n_positions: None }
}
