//! The hyper-parameters that every decoder has.

use super::rotary::Rotary;
use super::sizes::{Sizes, windows, windows_of};
use crate::graph::Tensor;
use crate::model::{Keys, ModelBuilder, ModelError};
use crate::ops::RopeKind;

/// The hyper-parameters that every decoder has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Common {
    pub sizes: Sizes,
    pub norm: Norm,
    /// `None`: the decoder has learned positions.
    pub rotary: Option<Rotary>,
    /// The attention window of each layer.
    pub windows: Vec<Option<usize>>,
}

impl Common {
    /// Reads the hyper-parameters of a decoder with rotary positions on whole heads, unless the file says otherwise.
    pub fn read(keys: &Keys<'_>, norm: NormKind, rope: RopeKind) -> Result<Common, ModelError> {
        let sizes = Sizes::read(keys)?;
        let rotary = Rotary::read(keys, rope, sizes.head_dim_k, sizes.head_dim_k)?;
        Common::of(keys, norm, sizes, Some(rotary))
    }

    /// As [`Common::read`], with rotary positions on the first half of each head.
    pub fn read_half_rotated(keys: &Keys<'_>, norm: NormKind, rope: RopeKind) -> Result<Common, ModelError> {
        let sizes = Sizes::read(keys)?;
        let rotary = Rotary::read(keys, rope, sizes.head_dim_k, sizes.head_dim_k / 2)?;
        Common::of(keys, norm, sizes, Some(rotary))
    }

    /// Reads the rest of the hyper-parameters of a decoder with these sizes and positions, whose layers have no window.
    pub fn of(
        keys: &Keys<'_>,
        kind: NormKind,
        sizes: Sizes,
        rotary: Option<Rotary>,
    ) -> Result<Common, ModelError> {
        let eps = keys.positive(match kind {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        })?;
        Ok(Common { norm: Norm { kind, eps }, rotary, windows: vec![None; sizes.n_layer], sizes })
    }

    /// With the file's window for the layers that it selects, or else for those selected by `default`.
    pub fn windowed(self, keys: &Keys<'_>, default: impl Fn(usize) -> bool) -> Result<Common, ModelError> {
        Ok(Common { windows: windows(keys, self.sizes.n_layer, default)?, ..self })
    }

    /// As [`Common::windowed`], where a file without the key means a window of `n` tokens.
    pub fn windowed_by(
        self,
        keys: &Keys<'_>,
        n: usize,
        default: impl Fn(usize) -> bool,
    ) -> Result<Common, ModelError> {
        let key = "attention.sliding_window";
        let window = keys.opt_count(key, 0..=1 << 30)?.unwrap_or_else(|| {
            keys.assume(key, n, "the window of the published models, whose first files lack the key");
            n
        });
        Ok(Common { windows: windows_of(keys, Some(window), self.sizes.n_layer, default)?, ..self })
    }
}

/// The norm of a decoder's hidden states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub kind: NormKind,
    pub eps: f32,
}

/// The two kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NormKind {
    /// RMS norm.
    Rms,
    /// Layer norm, with a bias if the file has it.
    Layer,
}

impl Norm {
    /// `x`, normed along its first dimension, with the scale `name.weight`.
    #[track_caller]
    pub fn of<'g>(&self, b: &ModelBuilder<'g, '_>, x: Tensor<'g>, name: &str) -> Tensor<'g> {
        match self.kind {
            NormKind::Rms => b.rms_norm(x, name, self.eps),
            NormKind::Layer => b.layer_norm(x, name, self.eps),
        }
    }
}
