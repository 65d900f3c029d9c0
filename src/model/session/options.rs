//! Options of a session.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::placement::DeviceChoice;
use crate::exec::{Budget, HipOptions, OnLoading};
use crate::graph::operator::OperatorRow;
use crate::model::{CacheTypes, Output};

/// Options of a session: sizes, memory, devices.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOptions {
    /// The context in tokens of one sequence; 0: that of the model's training.
    pub n_ctx: usize,
    /// The most sequences that are open at a time.
    pub n_sequences: usize,
    /// Tokens that all sequences may hold together; `None`: `n_ctx` for each sequence.
    pub n_tokens: Option<usize>,
    /// The most tokens of a prompt in one batch; `None`: [`SessionOptions::UBATCH`] on a CPU; on a GPU as many as take
    /// about 200 ms, from 64 to 2048, if they fit its budget ([`Session::ubatch`](super::Session::ubatch) returns the
    /// number).
    pub ubatch: Option<usize>,
    /// True if a row's bits must depend on its own sequence alone (promise P11): not on other rows of the batch, the
    /// chunks of a prompt or a shared prefix. Costs speed, since every number of rows uses the same kernels.
    pub deterministic: bool,
    /// Threads; `None`: one for each physical core.
    pub threads: Option<NonZeroUsize>,
    /// Types of the KV cache.
    pub cache_types: CacheTypes,
    /// The fraction of each device's free memory that may be used.
    pub memory_fraction: f64,
    /// The device that computes.
    pub device: DeviceChoice,
    /// The number of layers that a GPU computes, counted from the last, with the head; `None`: as many as fit its
    /// budget. The CPU computes the others.
    pub gpu_layers: Option<usize>,
    /// The longest time of a batch on the GPU; `None`: the default of [`HipOptions`].
    pub timeout: Option<Duration>,
}

impl SessionOptions {
    /// The default ubatch of a CPU.
    pub const UBATCH: usize = super::ubatch::DEFAULT;
    /// The largest ubatch that is chosen for a GPU.
    pub const LARGEST_UBATCH: usize = super::ubatch::SIZES[0];
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            n_ctx: 4096,
            n_sequences: 1,
            n_tokens: None,
            ubatch: None,
            deterministic: false,
            threads: None,
            cache_types: CacheTypes::default(),
            memory_fraction: Budget::FRACTION,
            device: DeviceChoice::Cpu,
            gpu_layers: None,
            timeout: None,
        }
    }
}

/// Parts of a session beside its plain options: settings for the GPU, custom operators, and a callback for progress.
#[derive(Clone, Default)]
pub struct SessionExtras {
    /// Options of the GPU's executor.
    pub hip: HipOptions,
    /// The output of decoded rows, whose plan is compiled with the session on a GPU.
    pub want: Output,
    /// Custom operators that the model's graph may use beside the built-in ones.
    pub operators: Vec<OperatorRow>,
    /// Receives the progress of compiling kernels and loading weights.
    pub on_loading: Option<OnLoading>,
}

impl std::fmt::Debug for SessionExtras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionExtras")
            .field("hip", &self.hip)
            .field("want", &self.want)
            .finish_non_exhaustive()
    }
}
