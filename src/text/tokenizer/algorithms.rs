//! The algorithms that `tokenizer.ggml.model` names, as far as they are supported.

/// The values of `tokenizer.ggml.model` that are supported, each with what it is.
pub const TOKENIZER_FAMILIES: &[(&str, &str)] = &[
    ("gpt2", "byte-level byte-pair encoding, after one of the pre-tokenizers"),
    ("llama", "SentencePiece byte-pair encoding with byte fallback"),
    ("bert", "WordPiece"),
    ("t5", "SentencePiece unigram"),
    ("gemma4", "byte-pair encoding over characters with byte fallback"),
];

/// The supported values of `tokenizer.ggml.model`, separated by commas.
pub(super) fn known_families() -> String {
    TOKENIZER_FAMILIES.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
