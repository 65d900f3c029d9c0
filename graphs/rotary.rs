//! Rotary positions: their settings from GGUF's keys, and the source of the frequency factors.

use super::scaling::Scaled;
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::{Rope, RopeKind};

/// The rotary positions of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rotary {
    pub rope: Rope,
    factors: Factors,
    /// True if the file states the magnitude of rotated elements.
    stated: bool,
    /// The number of positions, if there are so many only.
    pub n_positions: Option<usize>,
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
        let rotary = Rotary::read_without_multiplier(keys, kind, head_dim, default)?;
        Ok(rotary.with_log_multiplier(Rotary::log_multiplier(keys)?))
    }

    /// As [`Rotary::read`], for an architecture with its own reading of `rope.scaling.yarn_log_multiplier`.
    pub fn read_without_multiplier(
        keys: &Keys<'_>,
        kind: RopeKind,
        head_dim: usize,
        default: usize,
    ) -> Result<Rotary, ModelError> {
        let rotary = Rotary::read_one(keys, kind, head_dim, default)?;
        // Some files set this key for every model, with a window or without.
        let other = keys.opt_positive("rope.freq_base_swa")?.filter(|&base| base != rotary.rope.freq_base);
        match other.filter(|_| keys.is_set("attention.sliding_window")) {
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
        let rotary = rotary.with_log_multiplier(Rotary::log_multiplier(keys)?);
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
        if kind == RopeKind::Neox {
            // A token of a text has the same position in all sections, and sections do not change these pairs.
            keys.inert("rope.dimension_sections");
        }
        let base = keys.opt_positive("rope.freq_base")?.unwrap_or(10_000.0);
        let Scaled { rope, stated, long, n_positions } = Scaled::read(keys, Rope::new(kind, n_rot, base))?;
        let factors = if long { Factors::ShortOrLong } else { Factors::File };
        Ok(Rotary { rope, factors, stated, n_positions })
    }

    /// The same positions with changed rotation settings.
    pub fn with(&self, change: impl FnOnce(&Rope) -> Rope) -> Rotary {
        Rotary { rope: change(&self.rope), ..*self }
    }

    /// Rotary positions of layers with a window, which have another base and no scaling.
    pub fn local(&self, base: f32) -> Rotary {
        let rope = Rope::new(self.rope.kind, self.rope.n_rot, base);
        Rotary { rope, factors: Factors::Ones, ..*self }
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
    /// "DeepSeek-V2", 2024. A magnitude that the file states remains.
    pub fn with_log_multiplier(&self, mscale_all_dim: Option<f32>) -> Rotary {
        let mscale = mscale_all_dim.filter(|_| self.rope.ext_factor != 0.0 && !self.stated);
        let divisor = mscale.map_or(1.0, |mscale| self.magnitude(mscale));
        self.with(|rope| Rope { attn_factor: rope.attn_factor / divisor, ..rope.clone() })
    }

    /// Applies rotary positions to heads `[head_dim, n_head, n_tokens]`.
    #[track_caller]
    pub fn rotate<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>) -> Tensor<'g> {
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
