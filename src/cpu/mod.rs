//! The CPU's computations: the thread pool, and the SIMD products for each instruction set.
//!
//! This folder knows element types and their blocks (`tensor`). It knows no operators, graphs or plans.

mod activations;
mod attendance;
mod bandwidth;
mod cores;
pub(crate) mod delta;
mod isa;
// Public because `benches/linear.rs`, a crate of its own, times the products alone.
#[doc(hidden)]
pub mod linear;
pub(crate) mod math;
mod parts;
mod pool;
mod product;
mod step;
pub(crate) mod vector;
mod view;

pub use bandwidth::read_bandwidth;
pub use cores::physical_cores;
pub use isa::Isa;
pub use linear::{CpuKernel, CpuTarget, ProductKernel};
pub use parts::Part;
pub use pool::{Pool, PoolError, Worker};
pub use product::{Product, ProductId};
pub use step::{CpuStep, Span, StepError, Tile};
pub(crate) use view::RawTensor;
pub use view::View;
