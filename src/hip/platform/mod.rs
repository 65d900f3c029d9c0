//! Who fills the table of functions: one file per platform, and the search for libraries that they share.

use super::api::Api;
use super::target::PlatformKind;

/// Why a platform's table could not be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// This build has no such platform.
    #[error("this build of rfgraph has no `{platform}` platform")]
    NotBuilt {
        /// The platform.
        platform: PlatformKind,
    },
}

/// The table of a platform. Its libraries are opened once and stay open.
pub fn api(platform: PlatformKind) -> Result<&'static Api, LoadError> {
    Err(LoadError::NotBuilt { platform })
}
