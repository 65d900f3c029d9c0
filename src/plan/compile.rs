//! Runs the passes, and checks the result of each.

use super::check::{PlanFault, check};
use super::data::{DeviceDesc, Plan};
use super::fuse::fuse;
use super::fuse_gpu::fuse_gpu;
use super::lower::lower;
use super::order::order;
use super::place::place;
use super::simplify::simplify;
use super::stages::{check_order, check_placement};
use crate::device::LowerError;
use crate::graph::{GraphDef, GraphError, Node};

/// Reason why a graph has no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// An invalid graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Cyclic dependencies: a state is read after it is written, and written after that read.
    #[error("`{node}` waits for itself: something it needs reads a state that it must write first")]
    Order {
        /// A node of the cycle.
        node: String,
    },
    /// An output is a state's content from before a step writes it.
    #[error(
        "output `{output}` is gone by the end of the run, where outputs are read: `{writer}` writes over it"
    )]
    Overwritten {
        /// The output.
        output: String,
        /// The node that writes the state.
        writer: String,
    },
    /// Attributes that serde cannot serialize.
    #[error("the attributes of `{node}` cannot be written down: {reason}")]
    Attributes {
        /// The node.
        node: String,
        /// serde's error.
        #[source]
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A node without a GPU kernel.
    #[error("`{node}` cannot run on a GPU: {error}")]
    Lower {
        /// The node.
        node: String,
        /// The reason.
        #[source]
        error: LowerError,
    },
    /// An invalid plan; a bug in a pass.
    #[error("the plan is not legal: {0}")]
    Plan(#[source] Box<PlanFault>),
}

impl From<PlanFault> for CompileError {
    fn from(fault: PlanFault) -> CompileError {
        CompileError::Plan(Box::new(fault))
    }
}

impl CompileError {
    pub(super) fn attributes(node: &Node, error: serde_json::Error) -> CompileError {
        CompileError::Attributes { node: node.name.clone(), reason: error.into() }
    }
}

/// Compiles a graph to a plan for this device.
///
/// The graph is checked on entry; after each pass, and at the end, it is checked again in debug builds and tests.
pub fn compile(graph: &GraphDef, device: &DeviceDesc) -> Result<Plan, CompileError> {
    graph.check("build")?;
    let simple = simplify(graph)?;
    verify(&simple, "simplify")?;
    // Fusing leaves unused nodes behind.
    let fused = fuse_gpu(simplify(&fuse(&simple))?, device)?;
    verify(&fused, "fuse")?;
    let order = order(&fused)?;
    let placement = place(&fused, &order, device)?;
    if cfg!(debug_assertions) {
        check_order(&fused, &order)?;
        check_placement(&fused, &order, &placement)?;
    }
    let plan = lower(&fused, &order, &placement, device)?;
    if cfg!(debug_assertions) {
        check(&plan)?;
    }
    tracing::debug!(
        nodes = graph.len(),
        steps = plan.steps.len(),
        arena = plan.arena,
        lower_bound = plan.lower_bound,
        "compiled a plan"
    );
    Ok(plan)
}

fn verify(graph: &GraphDef, pass: &'static str) -> Result<(), GraphError> {
    if cfg!(debug_assertions) { graph.check(pass) } else { Ok(()) }
}

impl Plan {
    /// Checks a plan from elsewhere than [`compile`]: every tensor is inside its memory, every step reads the values
    /// meant for it, and every pair of conflicting accesses is ordered by a lane or an edge.
    pub fn check(&self) -> Result<(), PlanFault> {
        check(self)
    }
}
