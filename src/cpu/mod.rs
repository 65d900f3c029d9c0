//! The CPU's computations: the thread pool, and the SIMD products for each instruction set.
//!
//! This folder knows element types and their blocks (`tensor`). It knows no operators, graphs or plans.

pub mod activations;
pub mod bandwidth;
pub mod isa;
pub mod linear;
pub mod math;
mod parts;
pub mod pool;
mod product;
pub mod step;
pub mod vector;
mod view;

pub use bandwidth::read_bandwidth;
pub use isa::Isa;
pub use linear::{CpuKernel, CpuTarget, ProductKernel};
pub use parts::Part;
pub use pool::{Pool, PoolError, Worker, physical_cores};
pub use product::{Product, ProductId};
pub use step::{CpuStep, Span, StepError, Tile};
pub use view::{RawTensor, View};
