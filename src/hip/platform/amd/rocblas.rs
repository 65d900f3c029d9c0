//! The files of kernels that rocBLAS reads for a GPU at its first product.
//!
//! They are made for the targets that rocBLAS was built for; Debian's 4.4.1 has ten and none of gfx942 or gfx12. Without
//! them rocBLAS ends the process ("Cannot read TensileLibrary.dat … for GPU arch"), so they are looked for before it is
//! used.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Replaces every other folder in rocBLAS.
const VARIABLE: &str = "ROCBLAS_TENSILE_LIBPATH";

/// The folders that rocBLAS may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    folders: Vec<PathBuf>,
}

impl Files {
    /// The folders of the rocBLAS that this process has loaded.
    pub fn of_process() -> Files {
        // If the list of mapped files cannot be read, rocBLAS is not found and not used.
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Files::of(env::var_os(VARIABLE), library(&maps))
    }

    fn of(named: Option<OsString>, library: Option<&Path>) -> Files {
        if let Some(named) = named {
            return Files { folders: vec![named.into()] };
        }
        let Some(beside) = library.and_then(Path::parent) else { return Files { folders: Vec::new() } };
        // Debian puts the version between: `rocblas/4.4.1/library`.
        let versions = fs::read_dir(beside.join("rocblas")).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("library")).collect();
        folders.sort();
        folders.extend(["rocblas/library", "../lib/rocblas/library"].map(|folder| beside.join(folder)));
        folders.retain(|folder| folder.is_dir());
        Files { folders }
    }

    /// `Ok` if rocBLAS has files for an architecture (`gfx1100`, without features), otherwise the reason why not.
    ///
    /// rocBLAS reads one of the folders, and which one depends on how it was built. So each must have them.
    pub fn serve(&self, arch: &str) -> Result<(), String> {
        let [_, ..] = &self.folders[..] else {
            return Err("the BLAS library's files of kernels were not found".into());
        };
        match self.folders.iter().find(|folder| !has(folder, arch)) {
            None => Ok(()),
            Some(folder) => Err(format!(
                "the BLAS library has no files for {arch} in {} (set {VARIABLE} to a folder that has them)",
                folder.display()
            )),
        }
    }
}

/// The file that rocBLAS was loaded from, in the text of `/proc/self/maps`.
fn library(maps: &str) -> Option<&Path> {
    let files = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    files.into_iter().find(|file| {
        let name = file.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("librocblas.so"))
    })
}

/// True if a folder, or its folder for this architecture, has a library of kernels for it.
fn has(folder: &Path, arch: &str) -> bool {
    [folder.to_path_buf(), folder.join(arch)].iter().any(|folder| {
        let mut files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.any(|file| file.file_name().to_str().is_some_and(|name| names(name, arch)))
    })
}

/// True for `TensileLibrary_lazy_gfx1100.dat` and `TensileLibrary_gfx90a-xnack+.co` and their architectures. The files
/// `Kernels.so-000-gfx1100.hsaco` hold helpers only, without which there are products too.
fn names(file: &str, arch: &str) -> bool {
    let mut words = file.split(|c: char| !c.is_ascii_alphanumeric());
    words.next() == Some("TensileLibrary") && words.any(|word| word == arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files of these names.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn served(files: &[&str], arch: &str) -> bool {
        let root = folder(files);
        Files::of(None, Some(&root.path().join("librocblas.so.4"))).serve(arch).is_ok()
    }

    #[test]
    fn only_targets_with_files_are_served() {
        // A part of Debian's and of two upstream releases' lists.
        let debian = [
            "rocblas/4.4.1/library/Kernels.so-000-gfx803.hsaco",
            "rocblas/4.4.1/library/Kernels.so-000-gfx1103.hsaco",
            "rocblas/4.4.1/library/TensileLibrary_lazy_gfx1100.dat",
            "rocblas/4.4.1/library/TensileLibrary_lazy_gfx90a.dat",
        ];
        let merged = ["rocblas/library/TensileLibrary.dat", "rocblas/library/TensileLibrary_gfx906.co"];
        let by_target = ["rocblas/library/gfx1201/TensileLibrary_lazy_gfx1201.dat"];
        for (files, arch, expected) in [
            (&debian[..], "gfx1100", true),
            (&debian, "gfx90a", true),
            (&debian, "gfx110", false),
            (&debian, "gfx90", false),
            (&debian, "gfx1101", false),
            (&debian, "gfx1201", false),
            (&debian, "gfx942", false),
            // Helpers alone are not a library.
            (&debian, "gfx803", false),
            (&debian, "gfx1103", false),
            (&merged, "gfx906", true),
            (&merged, "gfx908", false),
            (&by_target, "gfx1201", true),
            (&by_target, "gfx1200", false),
            (&[], "gfx1100", false),
        ] {
            assert_eq!(served(files, arch), expected, "{arch} in {files:?}");
        }
    }

    #[test]
    fn of_several_versions_each_needs_the_files() {
        let one = "rocblas/2.45/library/TensileLibrary_lazy_gfx1010.dat";
        let other = "rocblas/4.4.1/library/TensileLibrary_lazy_gfx1100.dat";
        assert!(!served(&[one, other], "gfx1010"));
        assert!(!served(&[one, other], "gfx1100"));
        assert!(served(&[one, &one.replace("2.45", "4.4.1")], "gfx1010"));
    }

    /// rocBLAS looks into `../lib` of its folder too, so files there do not serve if others beside it are without the target.
    #[test]
    fn the_folder_lib_beside_that_of_the_library_counts() {
        let there = "lib/rocblas/library/TensileLibrary_lazy_gfx1100.dat";
        let beside = "lib64/rocblas/library/TensileLibrary_lazy_gfx1010.dat";
        let serve = |files: &[&str], arch: &str| {
            let root = folder(&[files, &["lib64/librocblas.so.4"]].concat());
            Files::of(None, Some(&root.path().join("lib64/librocblas.so.4"))).serve(arch)
        };
        assert_eq!(serve(&[there], "gfx1100"), Ok(()));
        assert!(serve(&[there], "gfx1010").is_err());
        assert!(serve(&[there, beside], "gfx1100").is_err());
        assert!(serve(&[there, beside], "gfx1010").is_err());
    }

    #[test]
    fn the_variable_replaces_the_folders_beside_the_library() {
        let root =
            folder(&["rocblas/library/TensileLibrary_lazy_gfx1100.dat", "own/TensileLibrary_gfx1201.co"]);
        let library = root.path().join("librocblas.so.4");
        let files = Files::of(Some(root.path().join("own").into()), Some(&library));
        assert_eq!(files.serve("gfx1201"), Ok(()));
        let reason = files.serve("gfx1100").unwrap_err();
        assert!(reason.contains("no files for gfx1100 in ") && reason.contains("/own"), "{reason}");
        assert!(Files::of(Some("/nowhere".into()), Some(&library)).serve("gfx1100").is_err());
    }

    #[test]
    fn the_library_is_found_among_mapped_files() {
        let maps = "\
7f0000000000-7f0000001000 r--p 00000000 fe:01 1234   /opt/rocm/lib/libhipblas.so.2.4
7f0000001000-7f0000002000 rw-p 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00000000 fe:01 1235   /opt/my rocm/lib/librocblas.so.4.4
7fff00000000-7fff00001000 r-xp 00000000 00:00 0      [vdso]
";
        assert_eq!(library(maps), Some(Path::new("/opt/my rocm/lib/librocblas.so.4.4")));
        assert_eq!(library("7f00-7f01 r--p 0 fe:01 1 /opt/librocblas.so.4/libother.so\n"), None);
        assert!(Files::of(None, None).serve("gfx1100").is_err());
    }
}
