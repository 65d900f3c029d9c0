//! The passes, one after another, each checked.

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

/// Why a graph has no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A graph that is not legal.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Nodes that wait for each other: a state is read after it is written and written after that read.
    #[error("`{node}` waits for itself: something it needs reads a state that it must write first")]
    Order {
        /// A node of the circle.
        node: String,
    },
    /// An output that is a state's content from before it is written.
    #[error(
        "output `{output}` is gone by the end of the run, where outputs are read: `{writer}` writes over it"
    )]
    Overwritten {
        /// The output.
        output: String,
        /// The node that writes the state.
        writer: String,
    },
    /// Attributes that serde cannot write.
    #[error("the attributes of `{node}` cannot be written down: {reason}")]
    Attributes {
        /// The node.
        node: String,
        /// What serde says.
        #[source]
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A node that the GPU has no kernel for.
    #[error("`{node}` cannot run on a GPU: {error}")]
    Lower {
        /// The node.
        node: String,
        /// Why not.
        #[source]
        error: LowerError,
    },
    /// A plan that is not legal; a defect of a pass.
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
/// The graph is checked on entry; after each pass, and at the end, it is checked again in debug
/// builds and tests.
pub fn compile(graph: &GraphDef, device: &DeviceDesc) -> Result<Plan, CompileError> {
    graph.check("build")?;
    let simple = simplify(graph)?;
    verify(&simple, "simplify")?;
    // Fusing leaves nodes that nothing reads.
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
    /// Checks the legal form of a plan, for plans that come from elsewhere than [`compile`]: every
    /// tensor lies inside its memory, every step reads what was meant for it, and every pair of
    /// accesses that must not change places is ordered by a lane or an edge.
    pub fn check(&self) -> Result<(), PlanFault> {
        check(self)
    }
}
