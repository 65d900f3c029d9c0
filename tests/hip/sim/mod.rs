//! The simulated device, through nothing but its table of functions: what is sound runs right in any order, and
//! every kind of fault is found when it is planted.

mod calls;
mod faults;
mod kernels;
mod rig;
mod streams;
