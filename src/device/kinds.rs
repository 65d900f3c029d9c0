//! Enums that kernels receive as numbers. Each is defined once, here; [`tables`](super::tables) writes the numbers into
//! a header for kernels.
//!
//! `ops` re-exports them (`ops::UnaryKind`). They are defined here because the run-time compiler needs their numbers
//! and does not know operators.

use serde::{Deserialize, Serialize};

/// Defines an enum, the list of its variants, and their names in the header for kernels, which begin with `$prefix`.
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

            /// The number that kernels receive.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// The variants' names in kernels, in the order of their numbers.
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
        /// ln(1 + eˣ).
        Softplus,
        /// √x.
        Sqrt,
    }
}

impl UnaryKind {
    /// Number and name of a further function of the unary kernel: `factor · x + bias`.
    pub(crate) const SCALE: (i32, &'static str) = (UnaryKind::ALL.len() as i32, "UNARY_SCALE");
    /// Number and name of a further function of the unary kernel: `factor · tanh(x / factor)`.
    pub(crate) const SOFTCAP: (i32, &'static str) = (UnaryKind::ALL.len() as i32 + 1, "UNARY_SOFTCAP");
}

kinds! {
    /// An arithmetic operation.
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
    /// The pairs of elements of a head that are rotated together.
    RopeKind, "ROPE_" {
        /// Neighbours: `2j` and `2j + 1`.
        Norm,
        /// Halves: `j` and `j + n_rot / 2`.
        Neox,
    }
}

kinds! {
    /// The key head of a value head, where several value heads share one.
    KeyHeads, "KEY_HEADS_" {
        /// Value heads take the key heads in turn: head `j` has key head `j mod n`.
        Tiled,
        /// Neighbouring value heads share a key head: head `j` has key head `j div r` for `r` value heads each.
        Grouped,
    }
}

kinds! {
    /// The normalisation of the selected experts' scores to weights.
    ChosenWeights, "WEIGHTS_" {
        /// The scores themselves.
        Given,
        /// Scores divided by their sum; a sum below the smallest normal number counts as that number.
        Shares,
        /// The softmax of the scores.
        Softmax,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_names_are_upper_snake_case() {
        assert_eq!(upper_snake_case("GeluErf"), "GELU_ERF");
        assert_eq!(RopeKind::kernel_names(), ["ROPE_NORM", "ROPE_NEOX"]);
    }

    #[test]
    fn numbers_are_indices_of_the_list() {
        for (i, kind) in UnaryKind::ALL.iter().enumerate() {
            assert_eq!(kind.number(), i as i32, "{kind:?}");
        }
        assert_eq!(UnaryKind::kernel_names().len(), UnaryKind::ALL.len());
    }
}
