//! Between text and tokens: tokenizers, chat templates, samplers.
//!
//! This folder reads its tables from a GGUF file's metadata. It knows no tensor, no graph and no
//! device.
