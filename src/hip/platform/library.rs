//! Finding and opening shared libraries.

use std::env;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

use libloading::Library;

use super::{LoadError, PlatformKind};

/// The places where libraries are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Folders; the first one with the library is used.
    pub folders: Vec<PathBuf>,
    /// Search with the system's loader afterwards: its own folders, and `LD_LIBRARY_PATH`.
    pub loader: bool,
}

impl Search {
    /// A platform's usual places: `$ROCM_PATH/lib`, `$HIP_PATH/lib` and `/opt/rocm/lib`; `$CUDA_PATH` and `$CUDA_HOME`
    /// with `lib64` and `lib`, `/usr/local/cuda/lib64`, and the folders where containers and WSL put the driver's
    /// library.
    pub fn of(platform: PlatformKind) -> Search {
        let (roots, inside, fixed): (_, &[_], &[_]) = match platform {
            PlatformKind::Amd => (["ROCM_PATH", "HIP_PATH"], &["lib"], &["/opt/rocm/lib"]),
            PlatformKind::Nvidia => (
                ["CUDA_PATH", "CUDA_HOME"],
                &["lib64", "lib"],
                &["/usr/local/cuda/lib64", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib"],
            ),
            PlatformKind::Sim => return Search { folders: Vec::new(), loader: false },
        };
        let named = roots.into_iter().filter_map(env::var_os).filter(|root| !root.is_empty());
        let named = named.flat_map(|root| inside.iter().map(move |folder| Path::new(&root).join(folder)));
        let mut folders = Vec::new();
        for folder in named.chain(fixed.iter().map(PathBuf::from)) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Search { folders, loader: true }
    }

    /// Opens the first library of these names that can be opened and that `fill` accepts, and returns the result of
    /// `fill`. The library stays open for the rest of the process, since its functions may be held anywhere.
    ///
    /// # Errors
    /// The reason why the first library found was not accepted, or else that none was found.
    pub(in crate::hip) fn load<T>(
        &self,
        what: &'static str,
        names: &[String],
        fill: impl Fn(&Opened) -> Result<T, &'static str>,
    ) -> Result<T, LoadError> {
        let in_folders =
            self.folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        let files = in_folders.filter(|path| path.exists());
        let by_loader = names.iter().filter(|_| self.loader).map(PathBuf::from);
        let mut refused = None;
        for path in files.chain(by_loader) {
            // SAFETY: the library's initialisers run, like those of any library that a program links; this is inherent
            // in using a GPU's runtime.
            let error = match unsafe { Library::new(&path) } {
                Ok(library) => {
                    let opened = Opened { library: Box::leak(Box::new(library)), path };
                    match fill(&opened) {
                        Ok(filled) => return Ok(filled),
                        Err(function) => LoadError::Partial { what, path: opened.path, function },
                    }
                }
                Err(error) => {
                    let reason = reason(&error);
                    if path.parent() == Some(Path::new("")) && says_absent(&reason, &path) {
                        continue;
                    }
                    LoadError::Broken { what, path, reason }
                }
            };
            refused.get_or_insert(error);
        }
        Err(refused.unwrap_or_else(|| LoadError::NotFound {
            what,
            names: names.to_vec(),
            folders: self.folders.clone(),
            loader: self.loader,
        }))
    }
}

/// The loader's message, without the crate's wrapping.
fn reason(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.unwrap_or_else(|| error.to_string())
}

/// True if the loader says that this library was not found, rather than another library that it depends on.
fn says_absent(reason: &str, path: &Path) -> bool {
    let name = path.to_string_lossy();
    reason.contains("No such file") && reason.contains(name.as_ref())
}

/// An open library.
#[derive(Clone, Debug)]
pub(in crate::hip) struct Opened {
    library: &'static Library,
    /// The file, or its name if the system's loader found it.
    pub(super) path: PathBuf,
}

impl Opened {
    /// The address of a function.
    pub(in crate::hip) fn address(&self, name: &str) -> Option<*const c_void> {
        // SAFETY: the symbol is only used as an address here; the caller guarantees its type.
        let symbol = unsafe { self.library.get::<*const c_void>(name.as_bytes()) };
        symbol.ok().map(|symbol| *symbol).filter(|address| !address.is_null())
    }

    /// The part of its file name after `.so.`.
    pub(super) fn version(&self) -> Option<&str> {
        let name = self.path.file_name()?.to_str()?;
        name.split_once(".so.").map(|(_, version)| version)
    }
}

/// `lib{stem}.so.{version}` for each version, and `lib{stem}.so`.
pub(in crate::hip) fn sonames(stem: &str, versions: &[u32]) -> Vec<String> {
    let versioned = versions.iter().map(|version| format!("lib{stem}.so.{version}"));
    versioned.chain([format!("lib{stem}.so")]).collect()
}
