//! Keys of clients.

use subtle::ConstantTimeEq;

/// A secret that clients must send, with a name for the log.
#[derive(Clone)]
pub struct ApiKey {
    /// Its name in the log and in limits; never the secret.
    pub name: String,
    secret: String,
}

impl ApiKey {
    /// A key.
    pub fn new(name: impl Into<String>, secret: impl Into<String>) -> ApiKey {
        ApiKey { name: name.into(), secret: secret.into() }
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The number of the key with this secret. Every key is compared, in a time that depends on lengths alone.
pub(super) fn find(keys: &[ApiKey], secret: &str) -> Option<usize> {
    let mut found = None;
    for (number, key) in keys.iter().enumerate() {
        if bool::from(key.secret.as_bytes().ct_eq(secret.as_bytes())) {
            found = Some(number);
        }
    }
    found
}
