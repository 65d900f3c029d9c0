//! Demands: a node's CPU kernel, GPU commands and scratch memory, which `place` and `lower` ask for.

use super::CompileError;
use super::data::DeviceDesc;
use crate::cpu::{CpuKernel, ProductKernel};
use crate::device::{Command, Lower};
use crate::graph::{GraphDef, NodeId};
use crate::tensor::blocks::planes;
use crate::tensor::{DType, Desc};

/// Device requirements of a node.
#[derive(Default)]
pub(super) struct Demands {
    /// The CPU kernel of its product.
    pub product: Option<ProductKernel>,
    /// Its GPU commands.
    pub commands: Vec<Command>,
    /// Bytes of scratch memory.
    pub scratch: usize,
}

/// The device requirements of a node.
pub(super) fn demands(graph: &GraphDef, id: NodeId, device: &DeviceDesc) -> Result<Demands, CompileError> {
    let node = graph.node(id);
    let Some(op) = node.op() else { return Ok(Demands::default()) };
    let inputs = graph.input_descs(id);
    let Some(target) = &device.target else {
        return Ok(match op.cpu_kernel(&inputs, device.cpu_target()) {
            Some(CpuKernel { product, scratch }) => {
                Demands { product: Some(product), scratch, ..Demands::default() }
            }
            None => {
                let scratch = op.cpu_scratch(&inputs, &node.desc, device.threads);
                Demands { scratch, ..Demands::default() }
            }
        });
    };
    let further: Vec<Desc> = graph.step_outputs(id).skip(1).map(|output| graph.node(output).desc).collect();
    let lower = Lower::new(op.name(), target, &inputs, &node.desc, &further);
    let mut lower = lower.deterministic(device.deterministic);
    let failed = |error| CompileError::Lower { node: node.name.clone(), error };
    for (i, (&input, desc)) in node.inputs().iter().zip(&inputs).enumerate() {
        let reads_state = op.reads_state_blocks(i);
        if let Some(reason) = misplaced_blocks(graph, input, desc.dtype, reads_state) {
            let name = &graph.node(input).name;
            return Err(failed(lower.unsupported(format!("`{name}` is {reason}"))));
        }
    }
    op.hip(&mut lower).map_err(failed)?;
    let (commands, scratch) = lower.finish();
    Ok(Demands { product: None, commands, scratch })
}

/// The reason why a kernel cannot read the blocks of an input. On a GPU the fields of a weight's or input's blocks are
/// stored in separate planes, so a part of them is not a tensor; a state's blocks are stored one after another.
fn misplaced_blocks(graph: &GraphDef, input: NodeId, dtype: DType, reads_state: bool) -> Option<String> {
    if planes(dtype).len() <= 1 {
        return None;
    }
    let root = graph.node(graph.root(input).0);
    match (root.is_state(), reads_state) {
        (true, true) => None,
        (true, false) => Some(format!("a state of {dtype}, which only `attention` and `kv_write` take")),
        (false, true) => Some(format!("{dtype} and no state; keys and values are states, or plain types")),
        (false, false) if graph.node(input).desc.shape.elements() == root.desc.shape.elements() => None,
        (false, false) => Some(format!("a part of a {dtype} tensor; cast it first, then take the part")),
    }
}
