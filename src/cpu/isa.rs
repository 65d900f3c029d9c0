//! The instruction sets that kernels are written for, and their detection.

use std::fmt;

/// An instruction set. Kernels give the same bits on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable code, which defines the results.
    Plain,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI, and all of [`Isa::Avx2`].
    Avx512,
    /// AArch64 with Advanced SIMD.
    Neon,
}

/// Every instruction set, the fastest last.
const ALL: [Isa; 4] = [Isa::Plain, Isa::Neon, Isa::Avx2, Isa::Avx512];

impl Isa {
    /// The fastest instruction set of this machine.
    pub fn detect() -> Isa {
        ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Isa::Plain)
    }

    /// Every instruction set of this machine, the fastest last.
    pub fn available() -> Vec<Isa> {
        ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// True if this machine has the instruction set. The standard library caches the result.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Plain => true,
            Isa::Avx2 => has_avx2(),
            Isa::Avx512 => has_avx512(),
            Isa::Neon => cfg!(target_arch = "aarch64"),
        }
    }

    /// The name in user input and output.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Plain => "plain",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// The instruction set of a name, ignoring case; `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Isa> {
        ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in ALL {
            assert_eq!(Isa::from_name(&isa.name().to_uppercase()), Some(isa));
        }
        assert_eq!(Isa::from_name("sse9"), None);
    }

    #[test]
    fn the_fastest_is_the_last_available() {
        let available = Isa::available();
        assert_eq!(available.first(), Some(&Isa::Plain));
        assert_eq!(available.last(), Some(&Isa::detect()));
    }
}
