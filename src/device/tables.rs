//! Definitions that Rust and kernels share, as two headers for kernels beside those of `kernels/`, written once per
//! process.
//!
//! `tables.h` has the numbers of element types and enums, the sizes that operators and kernels share, and the layout of
//! each block format on a device. `lattice_points.h` has the points of the IQ formats. Kernels include them like any
//! other header, and so may the kernels of users' operators.

use std::fmt::Write;
use std::sync::LazyLock;

use super::constants;
use super::kinds::{BinaryKind, ChosenWeights, KeyHeads, RopeKind, UnaryKind};
use crate::tensor::DType;
use crate::tensor::blocks::{self, lattice_points};

/// The names and texts of the headers. They are the same in every process of a build.
pub fn headers() -> [(&'static str, &'static str); 2] {
    static TABLES: LazyLock<String> = LazyLock::new(tables);
    static LATTICE_POINTS: LazyLock<String> = LazyLock::new(points);
    [("lattice_points.h", &LATTICE_POINTS), ("tables.h", &TABLES)]
}

/// Appends a line. Formatting into a string cannot fail.
macro_rules! line {
    ($out:ident, $($format:tt)*) => {{ let _ = writeln!($out, $($format)*); }};
}

fn tables() -> String {
    let mut out = String::from(
        "// Numbers and layouts that kernels share with Rust. Written by src/device/tables.rs.\n#pragma once\n\n",
    );
    line!(out, "// Element types, as `DType` numbers them; the preprocessor knows them too.");
    for dtype in DType::all() {
        line!(out, "#define TYPE_{dtype} {}", dtype.number());
    }
    line!(out, "\n// Sizes that operators count on.");
    for (name, value) in constants::ALL {
        line!(out, "#define {name} {value}");
    }
    let further = [UnaryKind::SCALE, UnaryKind::SOFTCAP].map(|(_, name)| name.to_string());
    let unary = UnaryKind::kernel_names().into_iter().chain(further).collect();
    for (what, names) in [
        ("UnaryKind, then `scale` and `softcap`", unary),
        ("BinaryKind", BinaryKind::kernel_names()),
        ("RopeKind", RopeKind::kernel_names()),
        ("KeyHeads", KeyHeads::kernel_names()),
        ("ChosenWeights", ChosenWeights::kernel_names()),
    ] {
        line!(out, "\n// {what}.\nenum {{");
        for (i, name) in names.iter().enumerate() {
            line!(out, "    {name} = {i},");
        }
        line!(out, "}};");
    }
    out += LAYOUTS;
    for dtype in DType::all() {
        layout(&mut out, dtype);
    }
    line!(out, "\n}}  // namespace layouts");
    out
}

/// The text before the layouts.
const LAYOUTS: &str = "
// The block formats. A block has BLOCK elements in BLOCK_BYTES; a thread unpacks VECTORS runs of 16 elements at a time.
// On a device the fields of all blocks of a tensor lie in planes: bytes of plane X of block i of n start at
// X_PLANE * n + X_BYTES * i. In a block that lies as in a file they start at X_AT.
namespace layouts {
";

/// The struct of a block format; nothing for plain types.
fn layout(out: &mut String, dtype: DType) {
    let Some(vectors) = blocks::vectors(dtype) else { return };
    let (elements, bytes) = (dtype.block_elements(), dtype.block_bytes());
    line!(out, "\nstruct {dtype} {{");
    line!(out, "    static constexpr bool PLAIN = false;");
    line!(out, "    static constexpr int BLOCK = {elements}, BLOCK_BYTES = {bytes}, VECTORS = {vectors};");
    let mut before = 0;
    for plane in blocks::planes(dtype) {
        let (name, at, bytes) = (plane.name.to_uppercase(), plane.bytes.start, plane.bytes.len());
        line!(
            out,
            "    static constexpr int {name}_PLANE = {before}, {name}_BYTES = {bytes}, {name}_AT = {at};"
        );
        before += bytes;
    }
    line!(out, "}};");
}

fn points() -> String {
    let mut out = String::from(
        "// The lattice points of the IQ1, IQ2 and IQ3 formats, 16 bits a point. Written by src/device/tables.rs.
//
// Coordinate j of a point is a number in bits w·j to w·j + w - 1, lowest first, with w = 2 for eight coordinates
// and 4 for four. What the numbers stand for is in formats_lattice.h.
#pragma once

#include \"platform.h\"
",
    );
    for (name, points) in lattice_points() {
        line!(out, "\nTABLE u16 {name}_POINTS[{}] = {{", points.len());
        for points in points.chunks(13) {
            let points: Vec<String> = points.iter().map(|point| format!("0x{point:04x}")).collect();
            line!(out, "    {},", points.join(", "));
        }
        line!(out, "}};");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> &'static str {
        headers()[1].1
    }

    #[test]
    fn numbers_and_layouts_are_in_the_header() {
        println!("{}", tables());
        for line in [
            "#define TYPE_BF16 2",
            "#define TYPE_Q8_0 8",
            "#define MAX_SPLITS 128",
            "    BINARY_DIV = 3,",
            "    UNARY_SOFTCAP = 15,",
            "    ROPE_NEOX = 1,",
            "    WEIGHTS_SOFTMAX = 2,",
            "    static constexpr int BLOCK = 256, BLOCK_BYTES = 176, VECTORS = 4;",
            "    static constexpr int D_PLANE = 172, D_BYTES = 4, D_AT = 0;",
        ] {
            assert!(tables().lines().any(|found| found == line), "no line `{line}` in\n{}", tables());
        }
    }

    #[test]
    fn names_of_the_header_are_unique() {
        let outside = tables().split("namespace layouts").next().unwrap();
        let name = |line: &str| {
            let name = line.strip_prefix("#define ").or(line.strip_prefix("    "))?;
            Some(name.split(' ').next()?.to_string())
        };
        let mut names: Vec<String> = outside.lines().filter_map(name).collect();
        let all = names.len();
        assert!(all > 60, "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all, "a name stands for two numbers");
    }

    #[test]
    fn all_points_are_in_their_header() {
        let text = headers()[0].1;
        assert_eq!(text.matches("0x").count(), 256 + 512 + 1024 + 256 + 512 + 2048);
        assert!(text.contains("TABLE u16 IQ3_S_POINTS[512] = {"));
    }
}
