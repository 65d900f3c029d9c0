//! The chat template.
