//! Choices that kernels are given as numbers: one definition each, which [`tables`](super::tables) hands on to kernels.
//!
//! The operators that have them show them as their own (`ops::UnaryKind`). They stand here because the run-time compiler
//! needs their numbers and knows no operator.

use serde::{Deserialize, Serialize};

/// Defines an enum, the list of its variants, and its part of the header for kernels. `$prefix` stands before each name there.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident, $prefix:literal { $($(#[$doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant),*
        }

        impl $name {
            /// Every variant, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The number that kernels are given.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// The names that kernels have for the variants, in the order of their numbers.
            pub(super) fn kernel_names() -> Vec<String> {
                let names: &[&str] = &[$(stringify!($variant)),*];
                names.iter().map(|name| format!("{}{}", $prefix, upper_snake_case(name))).collect()
            }
        }
    };
}

/// `GeluErf` as `GELU_ERF`.
fn upper_snake_case(name: &str) -> String {
    let mut upper = String::new();
    for (i, c) in name.chars().enumerate() {
        if i > 0 && c.is_ascii_uppercase() {
            upper.push('_');
        }
        upper.push(c.to_ascii_uppercase());
    }
    upper
}

kinds! {
    /// A function of one number.
    UnaryKind, "UNARY_" {
        /// x·σ(x).
        Silu,
        /// The Gaussian error linear unit in its tanh form.
        Gelu,
        /// The Gaussian error linear unit x·Φ(x), within 6e-7·|x|.
        GeluErf,
        /// x·σ(1.702·x).
        GeluQuick,
        /// max(x, 0).
        Relu,
        /// max(x, 0)².
        ReluSqr,
        /// σ(x) = 1 / (1 + e⁻ˣ).
        Sigmoid,
        /// The hyperbolic tangent.
        Tanh,
        /// eˣ.
        Exp,
        /// -x.
        Neg,
        /// |x|.
        Abs,
        /// x².
        Sqr,
        /// √x.
        Sqrt,
    }
}

impl UnaryKind {
    /// Number and name of what the kernel of unary functions computes besides: `factor · x + bias`.
    pub(crate) const SCALE: (i32, &'static str) = (UnaryKind::ALL.len() as i32, "UNARY_SCALE");
    /// The same for `factor · tanh(x / factor)`.
    pub(crate) const SOFTCAP: (i32, &'static str) = (UnaryKind::ALL.len() as i32 + 1, "UNARY_SOFTCAP");
}

kinds! {
    /// An operation of arithmetic.
    BinaryKind, "BINARY_" {
        /// a + b.
        Add,
        /// a - b.
        Sub,
        /// a · b.
        Mul,
        /// a / b.
        Div,
    }
}

kinds! {
    /// Which elements of a head turn together.
    RopeKind, "ROPE_" {
        /// Neighbours: `2j` and `2j + 1`.
        Norm,
        /// Halves: `j` and `j + n_rot / 2`.
        Neox,
    }
}

kinds! {
    /// What the chosen experts' numbers become.
    ChosenWeights, "WEIGHTS_" {
        /// They stay as they are.
        Given,
        /// Their share of their sum; a sum below the smallest normal number counts as that.
        Shares,
        /// Their softmax.
        Softmax,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_names_are_upper_snake_case() {
        assert_eq!(upper_snake_case("GeluErf"), "GELU_ERF");
        assert_eq!(RopeKind::kernel_names(), ["ROPE_NORM", "ROPE_NEOX"]);
    }

    #[test]
    fn numbers_are_places_in_the_list() {
        for (i, kind) in UnaryKind::ALL.iter().enumerate() {
            assert_eq!(kind.number(), i as i32, "{kind:?}");
        }
        assert_eq!(UnaryKind::kernel_names().len(), UnaryKind::ALL.len());
    }
}
