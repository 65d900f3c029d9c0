//! The fuzz targets: their names and their bodies.

pub mod gguf;
pub mod template;
pub mod text;

/// A fuzz target: its name, and its body, which returns true if the input is accepted.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// All targets. Their seeds are in `fuzz/seeds`, by name.
pub const TARGETS: [Target; 7] = [
    ("gbnf", text::gbnf),
    ("gguf", gguf::gguf),
    ("lark", text::lark),
    ("pattern", text::pattern),
    ("schema", text::schema),
    ("template", template::template),
    ("vocabulary", text::vocabulary),
];
