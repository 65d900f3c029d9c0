//! Compiling a graph to a plan: simplify → fuse → order → place → connect → lower.
//!
//! Every pass is a pure function in its own file, and the result of every stage is checked. A [`Plan`] is plain data:
//! the same graph and device description give the same bytes, and nothing is decided at run time. This folder knows
//! operators, but no device, and memory only as offsets.

mod attributes;
mod check;
mod compile;
mod connect;
mod data;
mod demands;
mod flow;
mod fuse;
mod fuse_gpu;
mod layers;
mod lives;
mod lower;
mod order;
mod page;
mod place;
mod show;
mod simplify;
mod stages;
#[cfg(test)]
mod tests;
mod text;

pub use check::PlanFault;
pub use compile::{CompileError, compile};
pub use data::{DeviceDesc, Edge, LeafSlot, Operand, Place, Plan, Point, Port, StateSlot, Step};
pub use lives::{Life, LifeKind};
pub use page::PlanPage;
pub use show::PlanDot;
