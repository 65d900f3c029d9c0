//! Compiles many variants as one program, for checks: hipRTC's fixed cost before and after the kernels is paid once.
//!
//! Every variant gets a namespace, its constants as macros with the variant's number as suffix, and kernel names of its
//! own. Headers that mention none of the constants are shared; the others are repeated. Where that fails, the program
//! does not compile, and the caller compiles smaller ones. Users' programs have one variant.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::super::sources::{self, SourceFile};
use super::JitError;
use super::compile::text;
use super::error::file_name;
use crate::device::{Source, Variant};

/// The most variants of a batch. With more, the kernels themselves are nearly all of the work.
const SIZE: usize = 32;

/// Groups of variant indices that are worth compiling together: those of one source, and those without constants.
pub fn groups(variants: &[Variant]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<Option<&Source>, Vec<usize>> = BTreeMap::new();
    for (i, variant) in variants.iter().enumerate() {
        let source = (!variant.defines.is_empty()).then_some(&variant.source);
        groups.entry(source).or_default().push(i);
    }
    groups.values().flat_map(|group| group.chunks(SIZE)).map(<[usize]>::to_vec).collect()
}

/// One program for AMD targets with the kernels of all these variants. [`own_name`] gives a kernel's original name.
///
/// # Errors
/// A built-in source that does not exist.
pub fn together(variants: &[&Variant]) -> Result<Variant, JitError> {
    let constants: BTreeSet<&str> =
        variants.iter().flat_map(|variant| variant.defines.keys().map(AsRef::as_ref)).collect();
    let repeated = repeated(&constants);
    let mut bodies: BTreeMap<&Source, Body> = BTreeMap::new();
    for variant in variants {
        if !bodies.contains_key(&variant.source) {
            let mut body = Body::new(&repeated);
            body.add(text(variant)?);
            bodies.insert(&variant.source, body);
        }
    }
    let mut program = String::new();
    // Formatting into a string cannot fail.
    for name in bodies.values().flat_map(|body| &body.shared) {
        let _ = writeln!(program, "#include \"{name}\"");
    }
    let _ = writeln!(program, "#undef KERNEL_NAME");
    for (i, variant) in variants.iter().enumerate() {
        let Some(body) = bodies.get(&variant.source) else { continue };
        for (name, value) in &variant.defines {
            let _ = writeln!(program, "#define {name} {value}");
        }
        let _ = writeln!(program, "#define KERNEL_NAME(name) name##{MARK}{i}");
        let _ = writeln!(program, "namespace variant_{i} {{\n{}\n}}", body.text);
        let defined = body.macros.iter().map(String::as_str).chain(["KERNEL_NAME"]);
        for name in constants.iter().copied().chain(defined) {
            let _ = writeln!(program, "#undef {name}");
        }
    }
    let name = variants.first().map_or_else(String::new, |variant| file_name(&variant.source));
    let source = Source::Own { name, text: program.into() };
    Ok(Variant { source, entry: "batch".into(), defines: BTreeMap::new() })
}

/// Separates a kernel's name from its variant's number.
const MARK: &str = "__of_";

/// The variant's number and the original name of a kernel of a batch.
pub fn own_name(name: &str) -> Option<(usize, &str)> {
    let (name, number) = name.rsplit_once(MARK)?;
    Some((number.parse().ok()?, name))
}

/// The headers that mention a constant, and those that include such a header.
fn repeated(constants: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    loop {
        let depends = |header: &&SourceFile| {
            !found.contains(header.name)
                && (mentions(header.text, constants)
                    || header.text.lines().filter_map(sources::include).any(|name| found.contains(name)))
        };
        let more: Vec<&str> = sources::headers().filter(depends).map(|header| header.name).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// True if one of these names occurs in a text outside `//` comments.
fn mentions(text: &str, names: &BTreeSet<&str>) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or(line));
    let mut words = code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words.any(|word| names.contains(word))
}

/// A source with the repeated headers inlined.
struct Body<'b> {
    repeated: &'b BTreeSet<&'static str>,
    text: String,
    /// Shared headers that the text needs, in its order.
    shared: Vec<&'b str>,
    /// The macros that the text defines.
    macros: BTreeSet<String>,
    /// Headers that are being inlined.
    open: Vec<&'static str>,
}

impl<'b> Body<'b> {
    fn new(repeated: &'b BTreeSet<&'static str>) -> Body<'b> {
        Body { repeated, text: String::new(), shared: Vec::new(), macros: BTreeSet::new(), open: Vec::new() }
    }

    fn add(&mut self, text: &'b str) {
        for line in text.lines() {
            let header = sources::include(line);
            let header = header.and_then(|name| sources::headers().find(|header| header.name == name));
            match header {
                Some(header) if self.repeated.contains(header.name) => self.add_header(header),
                // Included before the namespaces, where `#pragma once` includes it only once.
                Some(header) => self.shared.push(header.name),
                None if line.trim() == "#pragma once" => {}
                None => {
                    self.macros.extend(defined(line).map(String::from));
                    self.text += line;
                    self.text.push('\n');
                }
            }
        }
    }

    /// Replaces `#pragma once` by a guard with the variant's suffix.
    fn add_header(&mut self, header: &'static SourceFile) {
        if self.open.contains(&header.name) {
            return;
        }
        let guard = format!("ONCE_{}", header.name.replace('.', "_"));
        self.text += &format!("#ifndef {guard}\n#define {guard}\n");
        self.open.push(header.name);
        self.add(header.text);
        self.open.pop();
        self.text += "#endif\n";
        self.macros.insert(guard);
    }
}

/// The macro that a line defines by `#define`.
fn defined(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("define")?.trim_start();
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &'static str) -> Variant {
        Variant::own("mine", text, "mine")
    }

    fn program(variants: &[Variant]) -> String {
        let program = together(&variants.iter().collect::<Vec<_>>()).unwrap();
        assert!(program.defines.is_empty());
        text(&program).unwrap().to_string()
    }

    #[test]
    fn constants_and_macros_end_with_their_variant() {
        let kernel = own("#include \"platform.h\"\n# define TWICE(x) (2 * x)\nint x = TWICE(SIZE);\n");
        let program = program(&[kernel.clone().define("SIZE", 3), kernel.define("SIZE", 4)]);
        let lines: Vec<&str> = program.lines().collect();
        let at = |wanted: &str| {
            let found = lines.iter().enumerate().filter(|(_, line)| **line == wanted);
            found.map(|(i, _)| i).collect::<Vec<_>>()
        };
        // The header mentions no constant, so it comes first, outside the namespaces.
        assert!(at("#include \"platform.h\"").iter().all(|&i| i < at("#define SIZE 3")[0]));
        for name in ["SIZE", "TWICE"] {
            let ends = at(&format!("#undef {name}"));
            assert_eq!(ends.len(), 2, "{name}");
            assert!(at("namespace variant_0 {")[0] < ends[0] && ends[0] < at("#define SIZE 4")[0], "{name}");
        }
        assert_eq!(at("#define KERNEL_NAME(name) name##__of_1").len(), 1);
    }

    #[test]
    fn headers_that_mention_a_constant_are_repeated() {
        let kernel = || own("#include \"linear_rows.h\"\nint x;\n").define("ROWS", 4);
        let program = program(&[kernel(), kernel()]);
        assert_eq!(program.matches("struct BlockRows {").count(), 2);
        assert!(!program.contains("#pragma once") && !program.contains("#include \"linear_rows.h\""));
        // A mention in a comment does not count.
        assert!(!repeated(&BTreeSet::from(["FORMAT"])).contains("formats.h"));
        // A header that includes a repeated one is repeated too.
        let all: BTreeSet<&str> = sources::headers().map(|header| header.name).collect();
        let on_wave = repeated(&BTreeSet::from(["WAVE"]));
        assert!(on_wave.contains("platform.h") && on_wave.contains("formats.h") && on_wave.is_subset(&all));
    }

    #[test]
    fn own_name_inverts_batch_names() {
        assert_eq!(own_name("linear_few__of_31"), Some((31, "linear_few")));
        assert_eq!(own_name("a__of_1__of_2"), Some((2, "a__of_1")));
        for odd in ["linear_few", "linear_few__of_", "linear_few__of_x", ""] {
            assert_eq!(own_name(odd), None, "{odd}");
        }
    }

    #[test]
    fn groups_hold_every_variant_once() {
        let mut variants: Vec<Variant> =
            (0..70).map(|i| Variant::new("linear_few", "linear_few").define("ROWS", i)).collect();
        variants.extend(["norm", "rope", "sort"].map(|name| Variant::new(name, name)));
        let groups = groups(&variants);
        assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [3, 32, 32, 6]);
        let mut all: Vec<usize> = groups.concat();
        all.sort_unstable();
        assert_eq!(all, (0..73).collect::<Vec<_>>());
    }
}
