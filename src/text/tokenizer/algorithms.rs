//! The supported algorithms, by their names in `tokenizer.ggml.model`.

/// The supported values of `tokenizer.ggml.model`, with descriptions.
pub const TOKENIZER_FAMILIES: &[(&str, &str)] = &[
    ("gpt2", "byte-level byte-pair encoding, after one of the pre-tokenizers"),
    ("llama", "SentencePiece byte-pair encoding with byte fallback"),
    ("bert", "WordPiece"),
    ("t5", "SentencePiece unigram"),
    ("gemma4", "byte-pair encoding over characters with byte fallback"),
];

/// The supported values of `tokenizer.ggml.model`, separated by commas.
pub(super) fn known_algorithms() -> String {
    TOKENIZER_FAMILIES.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
