//! How a session is set up.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::placement::DeviceChoice;
use crate::exec::{Budget, HipOptions, OnLoading};
use crate::graph::operator::OperatorRow;
use crate::model::{CacheTypes, Output};

/// How a session is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionOptions {
    /// Tokens that one sequence may hold; 0: as many as the model was trained for.
    pub n_ctx: usize,
    /// Sequences at a time.
    pub n_sequences: usize,
    /// Tokens that all sequences may hold together; `None`: `n_ctx` for each of them.
    pub n_tokens: Option<usize>,
    /// Tokens of a prompt that are computed at once; `None`: [`SessionOptions::UBATCH`] on a CPU, on a GPU as many as take
    /// about 200 ms, from 512 to 2048, as far as its budget holds them ([`Session::ubatch`](super::Session::ubatch) says
    /// how many).
    pub ubatch: Option<usize>,
    /// Whether a row's bits depend on its own sequence alone (promise P11): not on the batch's other rows, not on how a
    /// prompt was cut into chunks, not on a shared prefix. Costs speed, since every number of rows takes the same kernels.
    pub deterministic: bool,
    /// Threads; `None`: one for each physical core.
    pub threads: Option<NonZeroUsize>,
    /// Types of the KV cache.
    pub cache_types: CacheTypes,
    /// The share of the free memory that may be taken, of each device.
    pub memory_fraction: f64,
    /// Where to compute.
    pub device: DeviceChoice,
    /// The layers that a GPU computes, counted from the last, with the head; `None`: as many as its budget holds. The
    /// CPU computes the others.
    pub gpu_layers: Option<usize>,
    /// How long the GPU may take for a batch; `None`: as [`HipOptions`] says.
    pub timeout: Option<Duration>,
}

impl SessionOptions {
    /// Tokens of a prompt that a CPU computes at once, unless told otherwise.
    pub const UBATCH: usize = super::ubatch::LEAST;
    /// The most that is chosen for a GPU.
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

/// How the GPU is used, and who is told of long work.
#[derive(Clone, Default)]
pub struct Setup {
    /// How the GPU's executor works.
    pub hip: HipOptions,
    /// The wish of decoded rows: on a GPU, the plan for it is made with the session.
    pub want: Output,
    /// A user's own operators, which the model's graph may use beside the built-in ones.
    pub operators: Vec<OperatorRow>,
    /// Told how far kernels and weights are.
    pub on_loading: Option<OnLoading>,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("hip", &self.hip).field("want", &self.want).finish_non_exhaustive()
    }
}
