//! Writing a graph: [`Graph`], copyable [`Tensor`] handles, and the [`Operator`] contract.
//!
//! Nothing runs here. A handle borrows its graph; calling a method on it adds a node. A wrong shape is kept with the
//! caller's line and returned by [`Graph::finish`], so model code needs no `?`. This folder knows the operator
//! contract, but no specific operator.

mod builder;
pub mod case;
mod definition;
mod error;
mod node;
pub mod operator;

pub use builder::{Graph, Tensor};
pub use definition::GraphDef;
pub use error::{GraphError, ShapeError};
pub use node::{Leaf, Node, NodeId, NodeKind, StateKind};
pub use operator::{AnyOperator, Cost, FurtherOutput, FurtherOutputs, Memory, Operator};
