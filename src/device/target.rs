//! The properties of a device that a plan depends on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The platform that fills the table of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PlatformKind {
    /// ROCm.
    Amd,
    /// CUDA, through HIP's names.
    Nvidia,
    /// The simulated device.
    Sim,
}

impl PlatformKind {
    /// The name, as in `RFGRAPH_HIP_PLATFORM`.
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

/// The target that kernels are chosen and compiled for. Equal targets get equal plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The platform.
    pub platform: PlatformKind,
    /// The compiler's name for the device, features included: `gfx90a:sramecc+:xnack-`, `sm_90`, `sim32`.
    pub arch: String,
    /// Lanes of a wave: 32 or 64.
    pub wave: u32,
    /// Compute units (multiprocessors), as the runtime counts them: pairs of them on RDNA.
    pub compute_units: u32,
    /// Bytes of shared memory that a block may use.
    pub shared_bytes: u32,
    /// True if there is a BLAS library for this device.
    pub blas: bool,
}

impl Target {
    /// The architecture without its features: `gfx90a`.
    pub fn base_arch(&self) -> &str {
        self.arch.split(':').next().unwrap_or(&self.arch)
    }

    /// Matrix throughput of a compute unit in flops per cycle, for F16 inputs with F32 sums; a multiply-add counts as
    /// two. `None` for an unknown target. From the vendors' data sheets: peak rate without sparsity / (compute units ·
    /// boost clock). On RDNA the runtime counts pairs of compute units.
    pub fn matrix_flops_per_cycle(&self) -> Option<u32> {
        let base = self.base_arch();
        let generations: &[(&str, u32)] = match self.platform {
            PlatformKind::Nvidia => &[
                ("sm_70", 1024),
                ("sm_75", 512),
                ("sm_80", 2048),
                ("sm_86", 512),
                ("sm_87", 512),
                ("sm_89", 512),
                ("sm_90", 4096),
                ("sm_100", 8192),
                ("sm_103", 8192),
                ("sm_120", 512),
                ("sm_121", 512),
            ],
            PlatformKind::Amd => &[
                ("gfx900", 256),
                ("gfx906", 256),
                ("gfx908", 1024),
                ("gfx90a", 1024),
                ("gfx942", 2048),
                ("gfx950", 4096),
                ("gfx10", 512),
                ("gfx11", 1024),
                ("gfx12", 2048),
            ],
            PlatformKind::Sim => &[],
        };
        let is_of = |name: &str| match self.platform {
            PlatformKind::Amd => base.starts_with(name),
            // The suffix `a` or `f` selects instructions, not another device.
            _ => base.trim_end_matches(|c: char| c.is_ascii_alphabetic()) == name,
        };
        generations.iter().find(|(name, _)| is_of(name)).map(|(_, flops)| *flops)
    }

    /// A typical device of this architecture, to compile for without having one: `gfx1100` (with or without features),
    /// `sm_90`, `sim32`. `None` for other forms of names.
    pub fn named(arch: &str) -> Option<Target> {
        let base = arch.split(':').next().unwrap_or(arch);
        if !base.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return None;
        }
        let (platform, wave, compute_units, shared_bytes) = match base {
            "sim32" => (PlatformKind::Sim, 32, 16, 64 << 10),
            "sim64" => (PlatformKind::Sim, 64, 16, 64 << 10),
            _ if base.starts_with("sm_") => (PlatformKind::Nvidia, 32, 132, 227 << 10),
            // Generation, minor version and stepping; waves have 32 lanes since generation 10 (RDNA).
            _ => {
                let digits = base.strip_prefix("gfx")?;
                let generation: u32 = digits.get(..digits.len().checked_sub(2)?)?.parse().ok()?;
                (PlatformKind::Amd, if generation < 10 { 64 } else { 32 }, 60, 64 << 10)
            }
        };
        Some(Target { platform, arch: arch.into(), wave, compute_units, shared_bytes, blas: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_known_by_name() {
        let known = |arch| Target::named(arch).map(|target| (target.platform, target.wave));
        assert_eq!(known("gfx906"), Some((PlatformKind::Amd, 64)));
        assert_eq!(known("gfx90a:sramecc+:xnack-"), Some((PlatformKind::Amd, 64)));
        assert_eq!(known("gfx1030"), Some((PlatformKind::Amd, 32)));
        assert_eq!(known("gfx1201"), Some((PlatformKind::Amd, 32)));
        assert_eq!(known("sm_90"), Some((PlatformKind::Nvidia, 32)));
        assert_eq!(known("sim64"), Some((PlatformKind::Sim, 64)));
        let flops = |arch| Target::named(arch).and_then(|target| target.matrix_flops_per_cycle());
        assert_eq!(flops("sm_90a"), Some(4096));
        assert_eq!(flops("sm_100"), Some(8192));
        assert_eq!(flops("gfx90a:sramecc+:xnack-"), Some(1024));
        assert_eq!(flops("gfx1201"), Some(2048));
        assert_eq!((flops("gfx803"), flops("sm_60"), flops("sim32")), (None, None, None));
        for odd in ["", "gfx", "gfx9", "gfxé", "x", "gfx+106", ":", "cpu"] {
            assert_eq!(known(odd), None, "{odd}");
        }
    }
}
