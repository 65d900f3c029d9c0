//! rfgraph
fn main() {}
