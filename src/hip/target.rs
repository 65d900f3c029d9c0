//! What a plan must know of a device.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who fills the table of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlatformKind {
    /// ROCm.
    Amd,
    /// CUDA, through HIP's names.
    Nvidia,
    /// The simulated device.
    Sim,
}

impl PlatformKind {
    /// The name, as `RFGRAPH_HIP_PLATFORM` takes it.
    pub fn name(self) -> &'static str {
        match self {
            PlatformKind::Amd => "amd",
            PlatformKind::Nvidia => "nvidia",
            PlatformKind::Sim => "sim",
        }
    }
}

impl fmt::Display for PlatformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What kernels are chosen and compiled for. Plans for equal targets are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The platform.
    pub platform: PlatformKind,
    /// The compiler's name for the device, features included: `gfx90a:sramecc+:xnack-`, `sm_90`, `sim32`.
    pub arch: String,
    /// Lanes of a wave: 32 or 64.
    pub wave: u32,
    /// Compute units (multiprocessors).
    pub compute_units: u32,
    /// Bytes of shared memory that a block may use.
    pub shared_bytes: u32,
    /// Whether the BLAS library is there.
    pub blas: bool,
}

impl Target {
    /// The arch without its features: `gfx90a`.
    pub fn base_arch(&self) -> &str {
        self.arch.split(':').next().unwrap_or(&self.arch)
    }
}
