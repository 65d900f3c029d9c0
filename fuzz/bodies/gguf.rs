//! Any bytes as a GGUF file.

/// Reads the bytes as a file, and what is in it if they are accepted: true.
pub fn gguf(bytes: &[u8]) -> bool {
    rfgraph::gguf::check_bytes(bytes).is_ok()
}
