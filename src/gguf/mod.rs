//! The GGUF file format: a bounds-checked reader over a memory map, and a writer.
//!
//! This folder knows element types (`tensor`) and nothing else: no graph, no model, no operator.
