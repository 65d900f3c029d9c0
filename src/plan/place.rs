//! Place: an offset in the arena for every value and scratch range, from their lifetimes.

use std::collections::BTreeMap;

use super::demands::demands;
use super::{CompileError, DeviceDesc};
use crate::graph::{GraphDef, Leaf, Memory, NodeId, NodeKind};

/// Rounds of repair after the first orders. Each costs one placement, about 0.2 ms for the decode graph of a 32-layer
/// model.
const REPAIRS: usize = 24;

/// Offsets of all values and scratch ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The offset of every value in the arena, by its root node.
    pub values: BTreeMap<NodeId, usize>,
    /// Offset and size of every step's scratch memory, by its node.
    pub scratch: BTreeMap<NodeId, (usize, usize)>,
    /// Size of the arena in bytes.
    pub arena: usize,
    /// The most bytes alive at one step.
    pub lower_bound: usize,
}

/// A range of bytes and the steps during which it is occupied, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Size in bytes, a multiple of the alignment.
    pub bytes: usize,
    /// The first step.
    pub first: usize,
    /// The last step.
    pub last: usize,
}

impl Block {
    fn overlaps(&self, other: &Block) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Places the values of a graph with this order of nodes.
pub fn place(graph: &GraphDef, order: &[NodeId], device: &DeviceDesc) -> Result<Placement, CompileError> {
    let align = |bytes: usize| bytes.next_multiple_of(device.alignment);
    let lives = Lives::of(graph, order);
    let mut blocks: Vec<Block> = Vec::new();
    let mut block_of: BTreeMap<NodeId, usize> = BTreeMap::new();
    for &root in &lives.made {
        let (first, last) = lives.of_root[&root];
        // A value that takes over the memory of a dying source shares one block with it.
        let source = lives.takes_over(graph, root).and_then(|source| block_of.get(&source).copied());
        let block = source.unwrap_or(blocks.len());
        match blocks.get_mut(block) {
            Some(block) => block.last = last,
            None => blocks.push(Block { bytes: align(graph.node(root).desc.extent()), first, last }),
        }
        block_of.insert(root, block);
    }
    let mut scratch_of: Vec<(NodeId, usize, usize)> = Vec::new();
    for (step, &id) in lives.steps.iter().enumerate() {
        let bytes = demands(graph, id, device)?.scratch;
        if bytes > 0 {
            scratch_of.push((id, blocks.len(), bytes));
            blocks.push(Block { bytes: align(bytes), first: step, last: step });
        }
    }
    let offsets = pack(&blocks);
    Ok(Placement {
        values: block_of.iter().map(|(&root, &block)| (root, offsets[block])).collect(),
        scratch: scratch_of.iter().map(|&(id, block, bytes)| (id, (offsets[block], bytes))).collect(),
        arena: end_of(&blocks, &offsets),
        lower_bound: lower_bound(&blocks),
    })
}

/// The nodes that run, in order: all operators except views.
pub fn steps(graph: &GraphDef, order: &[NodeId]) -> Vec<NodeId> {
    let is_view = |id: NodeId| matches!(graph.memory(id), Some(Memory::View { .. }));
    let runs = |id: &NodeId| graph.node(*id).op().is_some() && !is_view(*id);
    order.iter().copied().filter(runs).collect()
}

/// The lifetime of each value in the arena.
struct Lives {
    /// The nodes that run, in order.
    steps: Vec<NodeId>,
    /// The values, in creation order.
    made: Vec<NodeId>,
    /// First and last step of each value.
    of_root: BTreeMap<NodeId, (usize, usize)>,
    /// Roots of the graph's outputs.
    kept: Vec<NodeId>,
}

impl Lives {
    fn of(graph: &GraphDef, order: &[NodeId]) -> Lives {
        let steps = steps(graph, order);
        let end = steps.len().saturating_sub(1);
        let is_input = |id: &NodeId| matches!(graph.node(*id).kind, NodeKind::Leaf(Leaf::Input));
        // Inputs live for the whole run, so that unchanged ones need not be uploaded again.
        let mut made: Vec<NodeId> = graph.ids().filter(is_input).collect();
        let mut of_root: BTreeMap<NodeId, (usize, usize)> = made.iter().map(|&id| (id, (0, end))).collect();
        for (step, &id) in steps.iter().enumerate() {
            for &input in graph.node(id).inputs() {
                if let Some(life) = of_root.get_mut(&graph.root(input).0) {
                    life.1 = life.1.max(step);
                }
            }
            // A step writes all of its outputs, including unused ones.
            for output in graph.step_outputs(id).filter(|&output| graph.root(output).0 == output) {
                of_root.insert(output, (step, step));
                made.push(output);
            }
        }
        let kept: Vec<NodeId> = graph.outputs().iter().map(|(_, id)| graph.root(*id).0).collect();
        for root in &kept {
            if let Some(life) = of_root.get_mut(root) {
                life.1 = end;
            }
        }
        Lives { steps, made, of_root, kept }
    }

    /// The value whose memory this one may reuse: the input that its operator can overwrite, if it covers its whole
    /// memory, was made by a step, and is read only once by this step and never later.
    fn takes_over(&self, graph: &GraphDef, id: NodeId) -> Option<NodeId> {
        let Some(Memory::InPlace(input)) = graph.memory(id) else { return None };
        let node = graph.node(id);
        let source = *graph.operands(id).get(input)?;
        let (root, offset) = graph.root(source);
        let same = offset == 0
            && graph.node(source).desc == node.desc
            && graph.node(root).desc.extent() == node.desc.extent();
        let step = self.of_root.get(&id)?.0;
        let dies =
            !graph.node(root).is_leaf() && self.of_root.get(&root)?.1 == step && !self.kept.contains(&root);
        let reads = graph.operands(id).iter().filter(|&&input| graph.root(input).0 == root).count();
        (same && dies && reads == 1).then_some(root)
    }
}

/// An offset for every block, such that blocks that overlap in time never share a byte.
///
/// Blocks are placed one after another, each at the lowest offset where it fits. Several orders are tried; then, while
/// the peak is above the lower bound, the block at the peak is moved to the front of the best order. (Placing the
/// largest first is the strategy of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
/// 2020.)
pub fn pack(blocks: &[Block]) -> Vec<usize> {
    let bound = lower_bound(blocks);
    let mut best = Packing::of(blocks, (0..blocks.len()).collect());
    let life = |i: usize| blocks[i].last - blocks[i].first + 1;
    let keys: [&dyn Fn(usize) -> usize; 4] = [
        &|i| usize::MAX - blocks[i].bytes,
        &|i| usize::MAX - blocks[i].bytes.saturating_mul(life(i)),
        &|i| usize::MAX - life(i),
        &|i| blocks[i].first,
    ];
    for key in keys {
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&i| (key(i), i));
        best = best.or(Packing::of(blocks, order));
    }
    let mut current = best.clone();
    for _ in 0..REPAIRS {
        if best.peak == bound || !current.move_peak_forward(blocks) {
            break;
        }
        best = best.or(current.clone());
    }
    best.offsets
}

/// A placement order and its result.
#[derive(Clone)]
struct Packing {
    order: Vec<usize>,
    offsets: Vec<usize>,
    peak: usize,
}

impl Packing {
    fn of(blocks: &[Block], order: Vec<usize>) -> Packing {
        let offsets = first_fit(blocks, &order);
        let peak = end_of(blocks, &offsets);
        Packing { order, offsets, peak }
    }

    fn or(self, other: Packing) -> Packing {
        if other.peak < self.peak { other } else { self }
    }

    /// Moves the block with the highest end to the front of the order; false if it was already first.
    fn move_peak_forward(&mut self, blocks: &[Block]) -> bool {
        let reaches = |&i: &usize| self.offsets[i] + blocks[i].bytes == self.peak;
        let Some(at) = self.order.iter().position(reaches).filter(|&at| at > 0) else { return false };
        let mut order = std::mem::take(&mut self.order);
        order[..=at].rotate_right(1);
        *self = Packing::of(blocks, order);
        true
    }
}

/// Places blocks in this order, each at the lowest offset that is free during its life.
fn first_fit(blocks: &[Block], order: &[usize]) -> Vec<usize> {
    let mut offsets = vec![0; blocks.len()];
    // Placed blocks sorted by offset, so that one pass finds the first gap.
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    for &i in order {
        let mut offset = 0;
        for &other in placed.iter().filter(|&&other| blocks[other].overlaps(&blocks[i])) {
            if offsets[other] >= offset + blocks[i].bytes {
                break;
            }
            offset = offset.max(offsets[other] + blocks[other].bytes);
        }
        offsets[i] = offset;
        let at = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(at, i);
    }
    offsets
}

fn end_of(blocks: &[Block], offsets: &[usize]) -> usize {
    blocks.iter().zip(offsets).map(|(block, offset)| offset + block.bytes).max().unwrap_or(0)
}

/// The most bytes alive at one step.
fn lower_bound(blocks: &[Block]) -> usize {
    let steps = blocks.iter().map(|block| block.last + 1).max().unwrap_or(0);
    let mut change = vec![0i64; steps + 1];
    for block in blocks {
        change[block.first] += block.bytes as i64;
        change[block.last + 1] -= block.bytes as i64;
    }
    let mut alive = 0;
    change
        .iter()
        .map(|step| {
            alive += step;
            alive
        })
        .max()
        .unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks() -> impl Strategy<Value = Vec<Block>> {
        let block = (1usize..64, 0usize..60, 0usize..12);
        let block = block.prop_map(|(n, first, life)| Block { bytes: n * 64, first, last: first + life });
        prop::collection::vec(block, 1..80)
    }

    proptest! {
        #[test]
        fn blocks_that_overlap_in_time_share_no_byte(blocks in blocks()) {
            let offsets = pack(&blocks);
            for i in 0..blocks.len() {
                for j in 0..i {
                    let (a, b) = (offsets[i], offsets[j]);
                    let apart = a + blocks[i].bytes <= b || b + blocks[j].bytes <= a;
                    prop_assert!(apart || !blocks[i].overlaps(&blocks[j]));
                }
            }
        }

        #[test]
        fn peak_is_near_the_lower_bound(blocks in blocks()) {
            let peak = end_of(&blocks, &pack(&blocks));
            let bound = lower_bound(&blocks);
            prop_assert!(peak >= bound);
            prop_assert!(peak * 4 <= bound * 5, "peak {peak}, lower bound {bound}");
        }
    }
}
