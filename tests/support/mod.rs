//! Code and data that several test binaries share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod architectures;
pub mod demo;
pub mod fake_compiler;
pub mod gpu;
pub mod inside;
pub mod numbers;
pub mod outside;
pub mod product;
pub mod random_graph;
pub mod reference;
pub mod sessions;
pub mod several;
pub mod signature;
pub mod skipped;
pub mod timelines;
pub mod tiny_hybrid;
pub mod tiny_llama;
