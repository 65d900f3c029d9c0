//! Reads and edits preprocessed kernel sources, at marks left by the macros of `kernels/platform_sim.h`.

use std::ops::Range;

/// The names of the kernels in a preprocessed text: each follows the mark that `KERNEL` leaves.
pub(super) fn kernels(text: &str) -> Vec<String> {
    const MARK: &str = "section(\"rfkernel\")))";
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names: Vec<String> = Vec::new();
    for rest in text.split(MARK).skip(1) {
        let Some(rest) = rest.trim_start().strip_prefix("void") else { continue };
        let name: String = rest.trim_start().chars().take_while(|c| is_name(*c)).collect();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Makes every use of a shared variable go through an opaque reference.
///
/// Compilers do not check an access that is provably inside a global variable; but for a shared variable, races matter
/// too. `SHARED float x[2];` becomes `SHARED float rfs_x[2]; auto& x = *rf_opaque(&rfs_x);`, on the same line.
pub(super) fn shared_by_reference(text: &str) -> String {
    const MARK: &str = "section(\"rfshared\"), aligned(16)))";
    let mut parts = text.split(MARK);
    let mut changed = parts.next().unwrap_or_default().to_string();
    for rest in parts {
        changed.push_str(MARK);
        let (names, end) = declared(rest);
        let mut from = 0;
        for name in &names {
            changed.push_str(&rest[from..name.start]);
            changed.push_str(SHARED_PREFIX);
            changed.push_str(&rest[name.clone()]);
            from = name.end;
        }
        changed.push_str(&rest[from..end]);
        for name in names {
            let name = &rest[name];
            changed.push_str(&format!(" auto& {name} = *rf_opaque(&{SHARED_PREFIX}{name});"));
        }
        changed.push_str(&rest[end..]);
    }
    changed
}

/// The prefix of shared variables' names.
pub(super) const SHARED_PREFIX: &str = "rfs_";

/// The positions of the names in a declaration, and its end (after the semicolon).
fn declared(text: &str) -> (Vec<Range<usize>>, usize) {
    let is_name = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let bytes = text.as_bytes();
    // Angle brackets are brackets only in the type; inside other brackets they are comparisons.
    let (mut names, mut depth, mut angles, mut named) = (Vec::new(), 0i32, 0i32, false);
    for (at, &c) in bytes.iter().enumerate() {
        // A name ends where its dimensions, the next declarator or the end of the declaration begin.
        if depth == 0 && angles == 0 && matches!(c, b'[' | b',' | b';') && !named {
            let end = text[..at].trim_end().len();
            let start = bytes[..end].iter().rposition(|&c| !is_name(c)).map_or(0, |before| before + 1);
            if start < end {
                names.push(start..end);
                named = true;
            }
        }
        match c {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'<' if depth == 0 => angles += 1,
            b'>' if depth == 0 => angles -= 1,
            b',' if depth == 0 && angles == 0 => named = false,
            b';' if depth == 0 && angles == 0 => return (names, at + 1),
            _ => {}
        }
    }
    (Vec::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "static __attribute__((section(\"rfshared\"), aligned(16)))";

    #[test]
    fn shared_variables_are_reached_by_reference() {
        for (before, after) in [
            ("float x;", "float rfs_x; auto& x = *rf_opaque(&rfs_x);"),
            (
                "Pair<int, 3> a[2][N > 3 ? N : (4)], b ;",
                "Pair<int, 3> rfs_a[2][N > 3 ? N : (4)], rfs_b ; auto& a = *rf_opaque(&rfs_a); auto& b = *rf_opaque(&rfs_b);",
            ),
            ("struct { int y, z; } s;", "struct { int y, z; } rfs_s; auto& s = *rf_opaque(&rfs_s);"),
        ] {
            let text = format!("void f() {{ {MARK} {before} g(x, y); }}");
            assert_eq!(shared_by_reference(&text), format!("void f() {{ {MARK} {after} g(x, y); }}"));
        }
        assert_eq!(shared_by_reference("int x;"), "int x;");
    }

    #[test]
    fn kernels_are_found_by_their_mark() {
        let mark = "static __attribute__((section(\"rfkernel\")))";
        let text = format!("{mark} void\nfirst(int a) {{}} {mark} void second () {{}} void third() {{}}");
        assert_eq!(kernels(&text), ["first", "second"]);
    }
}
