//! Rotary positions: the settings by GGUF's keys, and where the factors of the frequencies are.

use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Rope, RopeKind};

/// The rotary positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotary {
    pub rope: Rope,
    factors: Factors,
}

/// What divides the frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factors {
    /// Nothing.
    Ones,
    /// `rope_freqs.weight`, if the file has it.
    File,
    /// LongRoPE (Ding et al. 2024): one of two sets, the long one for a context beyond the trained one.
    ShortOrLong,
}

impl Rotary {
    /// Reads the settings for heads of `head_dim` elements, of which `default` turn if the file does not say.
    pub fn read(
        keys: &Keys<'_>,
        kind: RopeKind,
        head_dim: usize,
        default: usize,
    ) -> Result<Rotary, ModelError> {
        let rotary = Rotary::read_one(keys, kind, head_dim, default)?;
        // Some files say it of every model with a window.
        match keys.opt_positive("rope.freq_base_swa")?.filter(|&base| base != rotary.rope.freq_base) {
            Some(base) => {
                let reason = "this architecture has one base, rope.freq_base, for all layers";
                Err(keys.refuse("rope.freq_base_swa", base, reason))
            }
            None => Ok(rotary),
        }
    }

    /// Reads the settings for heads that turn whole, and the base of the layers with a window, if the file has it.
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

    /// The same with other settings of the rotation.
    pub fn with(&self, change: impl FnOnce(&Rope) -> Rope) -> Rotary {
        Rotary { rope: change(&self.rope), ..*self }
    }

    /// Of layers with a window, which turn by another base without any scaling.
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

    /// `1 + 0.1 · mscale · ln s` for a stretch `s` of more than 1, and 1 for a smaller one.
    pub fn magnitude(&self, mscale: f32) -> f32 {
        1.0 + 0.1 * mscale * (1.0 / self.rope.freq_scale).ln().max(0.0)
    }

    /// The same with YaRN's magnitude for a model that was trained with this `mscale_all_dim`, its `mscale` being 1:
    /// `(1 + 0.1 · ln s) / (1 + 0.1 · mscale_all_dim · ln s)` for a stretch `s`. Other scalings than YaRN have no
    /// magnitude. DeepSeek-AI, "DeepSeek-V2", 2024.
    pub fn with_log_multiplier(&self, mscale_all_dim: Option<f32>) -> Rotary {
        let mscale = mscale_all_dim.filter(|_| self.rope.ext_factor != 0.0);
        let divisor = mscale.map_or(1.0, |mscale| self.magnitude(mscale));
        self.with(|rope| Rope { attn_factor: rope.attn_factor / divisor, ..rope.clone() })
    }

    /// Turns heads `[head_dim, n_head, n_tokens]` by their tokens' positions.
    #[track_caller]
    pub fn turn<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
        match self.factors {
            Factors::Ones => return x.rope(b.position(0), &self.rope),
            Factors::File => return b.rope(x, "rope_freqs.weight", &self.rope),
            Factors::ShortOrLong => {}
        }
        // Both sets are the file's; which one serves is settled by the context that the session was made for.
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
