//! The simulated platform: a device inside this process, for tests and for writing kernels without a GPU.
//!
//! It fills the same table of functions as the others and runs the same kernel sources: the system's C++ compiler
//! builds them into shared objects, threads of a block are fibers, waves have 32 or 64 lanes. Errors that a real device
//! hides are reported as a [`Fault`]: streams are queues that run late, in a random order that events allow; memory is
//! poisoned and every access of a kernel is checked; accesses of different streams that no event orders are found,
//! whatever order they ran in. It can inject failures, and counts every call.
//!
//! It knows the table and nothing else of rfgraph.

mod blas;
mod call;
mod capture;
mod compiler;
mod config;
mod device;
mod execute;
mod fault;
mod handle;
mod launch;
mod memory;
mod module;
mod product;
mod queue;
mod race;
mod random;
mod registry;
mod rtc;
mod runtime;
mod schedule;
mod text;
mod worker;

pub use config::{Checks, Config, Schedule};
pub use fault::{Fault, FaultKind};
pub use handle::{SimHandle, add, find, without_devices};

use crate::hip::api::Api;

/// The simulated platform's functions. `RFGRAPH_SIM_BLAS=0` in the environment removes its BLAS library.
pub fn api() -> Api {
    let blas = std::env::var_os("RFGRAPH_SIM_BLAS").is_none_or(|value| value != "0");
    Api {
        runtime: runtime::TABLE,
        rtc: rtc::TABLE,
        blas: blas.then_some(blas::TABLE),
        arch: runtime::arch,
        allow_shared: runtime::allow_shared,
        blas_serves: |_| Ok(()),
    }
}
