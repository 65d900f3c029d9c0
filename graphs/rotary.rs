//! Rotary positions: their settings from GGUF's keys, and the source of the frequency factors.

use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Rope, RopeKind};

/// The rotary positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotary {
    pub rope: Rope,
    factors: Factors,
}

/// Divisors of the frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factors {
    /// No factors.
    Ones,
    /// `rope_freqs.weight`, if the file has it.
    File,
    /// LongRoPE (Ding et al. 2024): one of two sets, the long one for a context beyond the original one.
    ShortOrLong,
}

impl Rotary {
    /// Reads the settings for heads of `head_dim` elements; without a key, rotary positions apply to the first
    /// `default` elements.
    pub fn read(
        keys: &Keys<'_>,
        kind: RopeKind,
        head_dim: usize,
        default: usize,
    ) -> Result<Rotary, ModelError> {
        let rotary = Rotary::read_one(keys, kind, head_dim, default)?;
        // Some files set this key for every model with a window.
        match keys.opt_positive("rope.freq_base_swa")?.filter(|&base| base != rotary.rope.freq_base) {
            Some(base) => {
                let reason = "this architecture has one base, rope.freq_base, for all layers";
                Err(keys.refuse("rope.freq_base_swa", base, reason))
            }
            None => Ok(rotary),
        }
    }

    /// Reads the settings for rotary positions on whole heads, and the base of the layers with a window if the file has
    /// it.
    pub fn read_with_local(
        keys: &Keys<'_>,
        kind: RopeKind,
        head_dim: usize,
    ) -> Result<(Rotary, Option<f32>), ModelError> {
        let rotary = Rotary::read_one(keys, kind, head_dim, head_dim)?;
        Ok((rotary, keys.opt_positive("rope.freq_base_swa")?))
    }

    fn read_one(
        keys: &Keys<'_>,
        kind: RopeKind,
        head_dim: usize,
        default: usize,
    ) -> Result<Rotary, ModelError> {
        let n_rot = keys.opt_count("rope.dimension_count", 2..=head_dim)?.unwrap_or(default);
        if n_rot % 2 != 0 {
            return Err(keys.refuse("rope.dimension_count", n_rot, "dimensions rotate in pairs"));
        }
        let base = keys.opt_positive("rope.freq_base")?.unwrap_or(10_000.0);
        let factor = keys.opt_positive("rope.scaling.factor")?;
        let stretch = factor.or(keys.opt_positive("rope.scale_linear")?).unwrap_or(1.0);
        let attn_factor = keys.opt_positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        let orig_ctx = keys.opt_count("rope.scaling.original_context_length", 1..=1 << 30)?;
        let rope = Rope::new(kind, n_rot, base);
        let plain = |rope| Ok(Rotary { rope, factors: Factors::File });
        if keys.tensor_shape("rope_factors_long.weight").is_some() {
            let orig_ctx = orig_ctx.unwrap_or(keys.count("context_length", 1..=1 << 30)?);
            if let Some(other) = keys.opt_str("rope.scaling.type")?.filter(|&name| name != "longrope") {
                let reason = "a file with rope_factors_long.weight scales by its factors, longrope";
                return Err(keys.refuse("rope.scaling.type", other, reason));
            }
            if stretch != 1.0 {
                let key = if factor.is_some() { "rope.scaling.factor" } else { "rope.scale_linear" };
                return Err(keys.refuse(
                    key,
                    stretch,
                    "with rope_factors_long.weight nothing else stretches",
                ));
            }
            return Ok(Rotary {
                rope: Rope { attn_factor, orig_ctx, ..rope },
                factors: Factors::ShortOrLong,
            });
        }
        match keys.opt_str("rope.scaling.type")?.unwrap_or("linear") {
            "none" => plain(rope),
            "linear" => plain(Rope { freq_scale: 1.0 / stretch, attn_factor, ..rope }),
            "yarn" => plain(yarn(keys, Rope { freq_scale: 1.0 / stretch, attn_factor, ..rope }, orig_ctx)?),
            other => {
                let reason = "none, linear and yarn are known here, and longrope with the tensor rope_factors_long.weight";
                Err(keys.refuse("rope.scaling.type", other, reason))
            }
        }
    }

    /// The same positions with changed rotation settings.
    pub fn with(&self, change: impl FnOnce(&Rope) -> Rope) -> Rotary {
        Rotary { rope: change(&self.rope), ..*self }
    }

    /// Rotary positions of layers with a window, which have another base and no scaling.
    pub fn local(&self, base: f32) -> Rotary {
        Rotary { rope: Rope::new(self.rope.kind, self.rope.n_rot, base), factors: Factors::Ones }
    }

    /// The key of YaRN's magnitude, from 0 to 100 (published models have 0.07 to 1).
    pub fn log_multiplier(keys: &Keys<'_>) -> Result<Option<f32>, ModelError> {
        let key = "rope.scaling.yarn_log_multiplier";
        match keys.opt_real(key)? {
            Some(value) if !(0.0..=100.0).contains(&value) => {
                Err(keys.refuse(key, value, "it must be from 0 to 100"))
            }
            value => Ok(value),
        }
    }

    /// `1 + 0.1 · mscale · ln s` for a context extension `s` above 1, otherwise 1.
    pub fn magnitude(&self, mscale: f32) -> f32 {
        1.0 + 0.1 * mscale * (1.0 / self.rope.freq_scale).ln().max(0.0)
    }

    /// Sets YaRN's magnitude for a model trained with this `mscale_all_dim` and an `mscale` of 1: `(1 + 0.1 · ln s) /
    /// (1 + 0.1 · mscale_all_dim · ln s)` for a context extension `s`. Only YaRN has a magnitude. DeepSeek-AI,
    /// "DeepSeek-V2", 2024.
    pub fn with_log_multiplier(&self, mscale_all_dim: Option<f32>) -> Rotary {
        let mscale = mscale_all_dim.filter(|_| self.rope.ext_factor != 0.0);
        let divisor = mscale.map_or(1.0, |mscale| self.magnitude(mscale));
        self.with(|rope| Rope { attn_factor: rope.attn_factor / divisor, ..rope.clone() })
    }

    /// Applies rotary positions to heads `[head_dim, n_head, n_tokens]`.
    #[track_caller]
    pub fn turn<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        match self.factors {
            Factors::Ones => return x.rope(b.position(0), &self.rope),
            Factors::File => return b.rope(x, "rope_freqs.weight", &self.rope),
            Factors::ShortOrLong => {}
        }
        // The file has both sets; the session's context size selects one.
        let names = ["rope_factors_short.weight", "rope_factors_long.weight"];
        let [short, long] = names.map(|name| b.weight(name, [self.rope.n_rot / 2]));
        let factors = if b.n_ctx() > self.rope.orig_ctx { long } else { short };
        x.rope_with_factors(b.position(0), factors, &self.rope)
    }
}

/// YaRN's settings (Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models").
fn yarn(keys: &Keys<'_>, rope: Rope, orig_ctx: Option<usize>) -> Result<Rope, ModelError> {
    let Some(orig_ctx) = orig_ctx else {
        let reason = "it must be there for the scaling yarn";
        return Err(keys.refuse("rope.scaling.original_context_length", "missing", reason));
    };
    Ok(Rope {
        orig_ctx,
        ext_factor: keys.opt_real("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0),
        attn_factor: rope.attn_factor * keys.opt_positive("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0),
        beta_fast: keys.opt_positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
        beta_slow: keys.opt_positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
        ..rope
    })
}
