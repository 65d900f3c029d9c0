//! The kernel sources: all text that a run-time compiler reads. The files of `kernels/` are built into the library;
//! Rust writes two more headers ([`tables`]).

use std::sync::LazyLock;

use crate::device::tables;

/// A file of `kernels/`, or a header that Rust writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// The file's name, with the extension.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(SourceFile { name: $name, text: include_str!(concat!("../../kernels/", $name)) }),*]
    };
}

/// Every file of `kernels/`, one line each; a test compares the list with the folder.
const EMBEDDED: &[SourceFile] = embed! {
    "attention.h",
    "attention.hip",
    "attention_combine.hip",
    "attention_tiled.hip",
    "bias.hip",
    "cache.h",
    "delta_rule.hip",
    "dequantize.hip",
    "elements.h",
    "elementwise.hip",
    "experts.h",
    "experts.hip",
    "formats.h",
    "formats_k.h",
    "formats_lattice.h",
    "formats_legacy.h",
    "formats_small.h",
    "formats_words.h",
    "functions.h",
    "gated_norm.h",
    "get_rows.hip",
    "kv_write.hip",
    "linear_few.hip",
    "linear_float.hip",
    "linear_many.hip",
    "linear_rows.h",
    "matmul.hip",
    "matrix.h",
    "matrix_amd.h",
    "matrix_nvidia.h",
    "matrix_plain.h",
    "norm.hip",
    "norm_quantize.hip",
    "platform.h",
    "platform_amd.h",
    "platform_nvidia.h",
    "platform_sim.h",
    "quantize.h",
    "quantize.hip",
    "rearrange.hip",
    "rope.hip",
    "rows.h",
    "runs.h",
    "short_conv.hip",
    "sim_access.h",
    "sim_block.h",
    "sim_state.h",
    "softmax.hip",
    "sort.hip",
};

/// All files: kernels and headers, including those that Rust writes.
pub fn files() -> &'static [SourceFile] {
    static FILES: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
        let written = tables::headers().map(|(name, text)| SourceFile { name, text });
        EMBEDDED.iter().copied().chain(written).collect()
    });
    &FILES
}

/// The text of `kernels/{name}.hip`.
pub fn source(name: &str) -> Option<&'static str> {
    let file = files().iter().find(|file| file.name.strip_suffix(".hip") == Some(name));
    file.map(|file| file.text)
}

/// The headers.
pub fn headers() -> impl Iterator<Item = &'static SourceFile> {
    files().iter().filter(|file| file.name.ends_with(".h"))
}

/// The headers that a text includes, directly or indirectly, each once, in the order of the list. Conditions are
/// ignored, so the list may be too long but never too short.
pub fn included(text: &str) -> Vec<&'static SourceFile> {
    let files = files();
    let mut found = vec![false; files.len()];
    let mut open = vec![text];
    while let Some(text) = open.pop() {
        for name in text.lines().filter_map(include) {
            let position = files.iter().position(|file| file.name == name);
            if let Some((seen, file)) = position.and_then(|i| Some((found.get_mut(i)?, files.get(i)?)))
                && !std::mem::replace(seen, true)
            {
                open.push(file.text);
            }
        }
    }
    files.iter().zip(found).filter_map(|(file, found)| found.then_some(file)).collect()
}

/// The file name in a line `#include "…"`.
pub(super) fn include(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
    rest.trim_start().strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        let mut listed: Vec<&str> = EMBEDDED.iter().map(|file| file.name).collect();
        listed.sort_unstable();
        assert_eq!(listed, there, "list each file of kernels/ in src/hip/sources.rs, once");
    }

    #[test]
    fn includes_are_followed() {
        let names = |text: &str| included(text).iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names("int x;"), [""; 0]);
        assert_eq!(names("  #  include \"platform_amd.h\" // first\nint x;"), ["platform_amd.h"]);
        let all = names("#include \"platform.h\"");
        assert!(
            all.contains(&"platform.h")
                && all.contains(&"platform_amd.h")
                && all.contains(&"platform_nvidia.h")
        );
        assert_eq!(names("#include \"platform.h\"\n#include \"platform.h\""), all);
        assert_eq!(names("#include \"absent.h\"\n#include <stdint.h>\n#include"), [""; 0]);
    }

    #[test]
    fn sources_are_found_by_name() {
        assert_eq!(source("platform"), None);
        assert_eq!(source(""), None);
        for file in files() {
            if let Some(name) = file.name.strip_suffix(".hip") {
                assert_eq!(source(name), Some(file.text));
            }
        }
        assert!(headers().any(|file| file.name == "platform.h"));
    }

    #[test]
    fn headers_that_rust_writes_are_files_like_all_others() {
        let names: Vec<&str> = included("#include \"formats.h\"").iter().map(|file| file.name).collect();
        assert!(names.contains(&"tables.h") && names.contains(&"lattice_points.h"), "{names:?}");
        for (name, _) in tables::headers() {
            assert!(
                EMBEDDED.iter().all(|file| file.name != name),
                "{name} is written by Rust: remove it from kernels/"
            );
        }
    }
}
