//! The key of a compiled program: a hash of all its inputs.

use std::fmt;

use sha2::{Digest, Sha256};

/// SHA-256 over source, headers, constants, options, target and compiler. Programs with equal keys are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of these parts. Each is hashed with its length, so that different lists of parts never look alike.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p str>) -> Key {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Key(hash.finalize().into())
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
