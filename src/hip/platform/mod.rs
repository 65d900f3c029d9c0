//! Platforms, which fill the table of functions: a file or folder each, and their common search for libraries.
//!
//! A platform knows the table ([`api`](crate::hip::api)) and its own libraries, and nothing else of `hip`. The
//! simulated platform is built with the feature `sim`.

pub mod amd;
mod library;
pub mod nvidia;
#[cfg(feature = "sim")]
pub mod sim;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::api::Api;
use crate::device::PlatformKind;

pub use library::Search;
pub(in crate::hip) use library::{Opened, sonames};

/// The reason why a platform's table could not be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The simulated device in a build without the feature `sim`.
    #[error(
        "this build of rfgraph has no simulated device: build it with the feature `sim` (cargo build --release --features sim)"
    )]
    NotBuilt,
    /// A platform whose libraries did not answer earlier.
    #[error("the libraries of `{platform}` did not answer when they were first asked; they are left alone")]
    Stuck {
        /// The platform.
        platform: PlatformKind,
    },
    /// A library that was not found.
    #[error("{what} is not installed: {names} was not found in {folders}{}",
        if *loader { " or on the loader's path" } else { "" },
        names = one_of(names), folders = list(folders))]
    NotFound {
        /// The library's display name.
        what: &'static str,
        /// The file names that were tried.
        names: Vec<String>,
        /// The folders that were searched.
        folders: Vec<PathBuf>,
        /// True if the system's loader was tried too.
        loader: bool,
    },
    /// A file that is not a library, or depends on a missing one.
    #[error("{} is there but cannot be loaded: {reason}; install {what} again", path.display())]
    Broken {
        /// The library's display name.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system loader's message.
        reason: String,
    },
    /// A library without one of the functions.
    #[error("{} has no function `{function}`; another version of {what} is needed", path.display())]
    Partial {
        /// The library's display name.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The function.
        function: &'static str,
    },
}

fn one_of(names: &[String]) -> String {
    match names {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => names.join(", "),
    }
}

fn list(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "any folder that is named for it".into();
    }
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A library that a platform uses at run time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Library {
    /// Its display name.
    pub what: String,
    /// The file that is opened, or its name if the system's loader finds it; absent if there is none.
    pub file: Option<PathBuf>,
    /// The reason why there is none.
    pub problem: Option<String>,
}

/// Opens each of a platform's libraries, and says which are there. A broken library may end the process.
pub fn libraries(platform: PlatformKind) -> Vec<Library> {
    let names = match platform {
        PlatformKind::Amd => amd::libraries(),
        PlatformKind::Nvidia => nvidia::libraries(),
        PlatformKind::Sim => return Vec::new(),
    };
    let search = Search::of(platform);
    let open = |(what, names): (&'static str, Vec<String>)| {
        let opened = search.load(what, &names, |library| Ok(library.path.clone()));
        let (file, problem) = match opened {
            Ok(path) => (Some(path), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Library { what: what.to_owned(), file, problem }
    };
    names.into_iter().map(open).collect()
}

/// The table of a platform. Its libraries are opened once and stay open.
///
/// # Errors
/// A library is missing, cannot be loaded, or lacks a function.
pub fn api(platform: PlatformKind) -> Result<&'static Api, LoadError> {
    api_from(platform, &Search::of(platform))
}

/// Like [`api`], with the search for the libraries; the first call of a process decides.
pub(super) fn api_from(platform: PlatformKind, search: &Search) -> Result<&'static Api, LoadError> {
    static AMD: OnceLock<Result<Api, LoadError>> = OnceLock::new();
    static NVIDIA: OnceLock<Result<Api, LoadError>> = OnceLock::new();
    static SIM: OnceLock<Result<Api, LoadError>> = OnceLock::new();
    if STUCK.load(Ordering::Relaxed) & bit(platform) != 0 {
        return Err(LoadError::Stuck { platform });
    }
    let loaded = match platform {
        PlatformKind::Amd => AMD.get_or_init(|| amd::load(search)),
        PlatformKind::Nvidia => NVIDIA.get_or_init(|| nvidia::load(search)),
        PlatformKind::Sim => SIM.get_or_init(simulated),
    };
    loaded.as_ref().map_err(LoadError::clone)
}

#[cfg(feature = "sim")]
fn simulated() -> Result<Api, LoadError> {
    Ok(sim::api())
}

#[cfg(not(feature = "sim"))]
fn simulated() -> Result<Api, LoadError> {
    Err(LoadError::NotBuilt)
}

/// Platforms whose libraries did not answer, one bit each.
static STUCK: AtomicU32 = AtomicU32::new(0);

fn bit(platform: PlatformKind) -> u32 {
    1 << platform as u32
}

/// Makes further uses of a platform's libraries fail at once.
pub(super) fn leave_alone(platform: PlatformKind) {
    STUCK.fetch_or(bit(platform), Ordering::Relaxed);
}

/// The devices of `0..count` that a list such as `HIP_VISIBLE_DEVICES` leaves, in its order. As in HIP, entries after
/// an invalid number are ignored, and an empty list hides nothing.
pub(super) fn visible(count: u32, list: Option<&str>) -> Vec<u32> {
    match list.map(str::trim) {
        None | Some("") => (0..count).collect(),
        Some(list) => list
            .split(',')
            .map_while(|number| number.trim().parse().ok().filter(|&number: &u32| number < count))
            .collect(),
    }
}

/// The list of visible devices in the environment.
pub(super) fn visible_devices() -> Option<String> {
    std::env::var("HIP_VISIBLE_DEVICES").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_visible_devices_filters_and_renumbers() {
        assert_eq!(visible(3, None), [0, 1, 2]);
        assert_eq!(visible(3, Some("")), [0, 1, 2]);
        assert_eq!(visible(3, Some("2,0")), [2, 0]);
        assert_eq!(visible(3, Some(" 1 , 7, 0")), [1]);
        assert!(visible(3, Some("-1")).is_empty());
        assert!(visible(0, Some("0")).is_empty());
    }
}
