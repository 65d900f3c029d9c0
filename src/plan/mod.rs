//! Compiling a graph to a plan: simplify → fuse → order → place → connect → lower.
//!
//! Every pass is a pure function in a file of its own, and every stage has a check of its legal form.
//! A [`Plan`] is plain data: the same graph and device description give the same bytes, and nothing is
//! decided while it runs. This folder knows operators; it knows no device and no memory but offsets.

mod check;
mod compile;
mod connect;
mod data;
mod fuse;
mod fuse_gpu;
mod lower;
mod order;
mod place;
mod show;
mod simplify;
mod stages;
#[cfg(test)]
mod tests;

pub use check::PlanFault;
pub use compile::{CompileError, compile};
pub use data::{DeviceDesc, Edge, LeafSlot, Operand, Place, Plan, Point, Port, Step};
pub use show::PlanDot;
