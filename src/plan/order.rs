//! Order: the run order of the compute lane, chosen for low peak memory.

use std::collections::BTreeSet;

use super::CompileError;
use crate::graph::{GraphDef, Memory, NodeId};

/// The nodes of the graph in the order in which they run.
///
/// Two orders are tried: the one in which the graph was written, and a greedy one that always takes the step after
/// which the fewest bytes are alive. The one with the lower peak wins; on a tie the written one, which is easier to
/// read in a plan.
pub fn order(graph: &GraphDef) -> Result<Vec<NodeId>, CompileError> {
    let waits = dependencies(graph);
    outputs_last(graph)?;
    let written = schedule(graph, &waits, |ready, _| ready.first().copied())?;
    let greedy = schedule(graph, &waits, |ready, lives| {
        ready.iter().copied().min_by_key(|&id| (lives.growth(id), id))
    })?;
    let better = peak(graph, &greedy) < peak(graph, &written);
    Ok(if better { greedy } else { written })
}

/// For each node, the nodes that must run before it: its inputs and, if one of its outputs writes a state, all readers
/// of the state's previous content.
fn dependencies(graph: &GraphDef) -> Vec<Vec<NodeId>> {
    let mut waits: Vec<Vec<NodeId>> = graph.ids().map(|id| graph.node(id).inputs().to_vec()).collect();
    for output in graph.ids() {
        let Some(state) = graph.written_state(output) else { continue };
        let writer = graph.step_of(output);
        // A writer may take a view; readers of any part of the same content come first.
        let mut versions = vec![graph.content(state)];
        while let Some(version) = versions.pop() {
            for user in graph.users(version).filter(|&user| user != writer) {
                waits[writer.index()].push(user);
                if matches!(graph.memory(user), Some(Memory::View { .. })) {
                    versions.push(user);
                }
            }
        }
    }
    for list in &mut waits {
        list.sort_unstable();
        list.dedup();
    }
    waits
}

/// Outputs are read after the run, so none may be a state's content from before a step writes it.
fn outputs_last(graph: &GraphDef) -> Result<(), CompileError> {
    for writer in graph.ids() {
        let Some(state) = graph.written_state(writer) else { continue };
        let before = graph.content(state);
        if let Some((output, _)) = graph.outputs().iter().find(|(_, id)| graph.content(*id) == before) {
            let (output, writer) = (output.clone(), graph.node(writer).name.clone());
            return Err(CompileError::Overwritten { output, writer });
        }
    }
    Ok(())
}

/// List scheduling: repeatedly takes the node that `choose` selects among the ready ones.
fn schedule(
    graph: &GraphDef,
    waits: &[Vec<NodeId>],
    choose: impl Fn(&BTreeSet<NodeId>, &Lives<'_>) -> Option<NodeId>,
) -> Result<Vec<NodeId>, CompileError> {
    let mut followers: Vec<Vec<NodeId>> = vec![Vec::new(); graph.len()];
    let mut open: Vec<usize> = waits.iter().map(Vec::len).collect();
    for id in graph.ids() {
        for wait in &waits[id.index()] {
            followers[wait.index()].push(id);
        }
    }
    let mut ready: BTreeSet<NodeId> = graph.ids().filter(|id| open[id.index()] == 0).collect();
    let mut lives = Lives::new(graph);
    let mut order = Vec::with_capacity(graph.len());
    while let Some(id) = choose(&ready, &lives) {
        ready.remove(&id);
        lives.run(id);
        order.push(id);
        for &follower in &followers[id.index()] {
            open[follower.index()] -= 1;
            if open[follower.index()] == 0 {
                ready.insert(follower);
            }
        }
    }
    if order.len() == graph.len() {
        return Ok(order);
    }
    let stuck = graph.ids().find(|id| open[id.index()] > 0).map(|id| graph.node(id).name.clone());
    Err(CompileError::Order { node: stuck.unwrap_or_default() })
}

/// The most bytes alive at one step of this order.
fn peak(graph: &GraphDef, order: &[NodeId]) -> i64 {
    let mut lives = Lives::new(graph);
    order.iter().fold(0, |peak, &id| {
        let during = lives.alive + lives.made(id);
        lives.run(id);
        peak.max(during)
    })
}

/// Counts the bytes alive while walking an order.
struct Lives<'g> {
    graph: &'g GraphDef,
    /// For each root, the number of readers that have not run.
    readers: Vec<usize>,
    /// For each node, the distinct roots that it reads.
    reads: Vec<Vec<NodeId>>,
    /// For each node, the bytes of the arena that its value occupies. It is kept because each node is asked for it many
    /// times, and the operators answer.
    bytes: Vec<i64>,
    alive: i64,
}

impl<'g> Lives<'g> {
    fn new(graph: &'g GraphDef) -> Lives<'g> {
        let mut readers = vec![0; graph.len()];
        let mut reads = vec![Vec::new(); graph.len()];
        // A further output runs nothing, so it reads nothing.
        for id in graph.ids().filter(|&id| graph.step_of(id) == id) {
            let mut roots: Vec<NodeId> =
                graph.node(id).inputs().iter().map(|&input| graph.root(input).0).collect();
            roots.sort_unstable();
            roots.dedup();
            roots.iter().for_each(|root| readers[root.index()] += 1);
            reads[id.index()] = roots;
        }
        for (_, id) in graph.outputs() {
            readers[graph.root(*id).0.index()] += 1;
        }
        let bytes = |id: NodeId| match graph.memory(id) {
            Some(Memory::Fresh | Memory::InPlace(_)) => graph.node(id).desc.extent() as i64,
            _ => 0,
        };
        Lives { graph, readers, reads, bytes: graph.ids().map(bytes).collect(), alive: 0 }
    }

    fn bytes(&self, id: NodeId) -> i64 {
        self.bytes[id.index()]
    }

    /// Bytes that running this node allocates: those of all outputs of an operator. A further output is allocated by
    /// its operator.
    fn made(&self, id: NodeId) -> i64 {
        if self.graph.step_of(id) != id {
            return 0;
        }
        self.graph.step_outputs(id).map(|output| self.bytes(output)).sum()
    }

    /// Bytes that are dead once this node has run: values that it reads last, and outputs that are never read.
    fn freed(&self, id: NodeId) -> i64 {
        let last = |root: &&NodeId| self.readers[root.index()] == 1;
        let read: i64 = self.reads[id.index()].iter().filter(last).map(|&root| self.bytes(root)).sum();
        let unread = |output: &NodeId| self.graph.step_of(id) == id && self.readers[output.index()] == 0;
        let unread: i64 = self.graph.step_outputs(id).filter(unread).map(|output| self.bytes(output)).sum();
        read + unread
    }

    fn growth(&self, id: NodeId) -> i64 {
        self.made(id) - self.freed(id)
    }

    fn run(&mut self, id: NodeId) {
        self.alive += self.growth(id);
        for root in &self.reads[id.index()] {
            self.readers[root.index()] -= 1;
        }
    }
}
