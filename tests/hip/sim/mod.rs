//! The simulated device, used only through its table of functions: sound programs run right in any order, and every
//! planted fault is found.

mod calls;
mod faults;
mod kernels;
mod rig;
mod streams;
