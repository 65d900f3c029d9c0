//! The graph under construction and its handles.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use smallvec::SmallVec;

use super::definition::GraphDef;
use super::{AnyOperator, GraphError, Leaf, Node, NodeId, NodeKind, Operator, StateKind};
use crate::tensor::{DType, Desc, Shape};

/// A graph under construction.
///
/// Methods that make a tensor never fail: the first error is kept and returned by
/// [`Graph::finish`].
#[derive(Default)]
pub struct Graph {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    def: GraphDef,
    leaf_names: HashSet<String>,
    error: Option<GraphError>,
}

/// A handle to a value of a graph; freely copyable.
///
/// A handle whose construction failed has no value; nodes built on it are silently dropped, since [`Graph::finish`]
/// returns the error.
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    graph: &'g Graph,
    id: Option<NodeId>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// A value that is set for each run.
    #[track_caller]
    pub fn input(&self, name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Tensor<'_> {
        self.leaf(Leaf::Input, name.into(), dtype, shape.into())
    }

    /// A read-only value that is bound by name when the graph is loaded.
    #[track_caller]
    pub fn weight(&self, name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Tensor<'_> {
        self.leaf(Leaf::Weight, name.into(), dtype, shape.into())
    }

    /// Memory that persists between runs: zero at first, written by operators that declare it. Its last dimension
    /// counts the slots of a paged cache, one per position; see [`StateKind`].
    #[track_caller]
    pub fn state(&self, name: impl Into<String>, dtype: DType, shape: impl Into<Shape>) -> Tensor<'_> {
        self.leaf(Leaf::State(StateKind::Paged), name.into(), dtype, shape.into())
    }

    /// As [`Graph::state`], for a recurrent state: the last dimension counts sequences and their snapshots.
    #[track_caller]
    pub fn recurrent_state(
        &self,
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Shape>,
    ) -> Tensor<'_> {
        self.leaf(Leaf::State(StateKind::Recurrent), name.into(), dtype, shape.into())
    }

    /// F32 values that are part of the graph.
    #[track_caller]
    pub fn constant(&self, name: impl Into<String>, values: &[f32], shape: impl Into<Shape>) -> Tensor<'_> {
        let bytes: Arc<[u8]> = bytemuck::cast_slice(values).into();
        let (name, shape) = (name.into(), shape.into());
        if shape.elements() != values.len() {
            let reason = format!("{} values do not fill {shape}", values.len());
            return self.fail(GraphError::Leaf { leaf: "constant", name, at: Location::caller(), reason });
        }
        self.leaf(Leaf::Constant(bytes), name, DType::F32, shape)
    }

    #[track_caller]
    fn leaf(&self, leaf: Leaf, name: String, dtype: DType, shape: Shape) -> Tensor<'_> {
        let at = Location::caller();
        let kind = leaf.kind();
        let fail = |name, reason| self.fail(GraphError::Leaf { leaf: kind, name, at, reason });
        if shape.elements() == 0 {
            return fail(name, format!("{shape} holds no element"));
        }
        let desc = match Desc::contiguous(dtype, shape) {
            Ok(desc) => desc,
            Err(error) => return fail(name, error.to_string()),
        };
        let fresh = self.state.borrow_mut().leaf_names.insert(format!("{kind} {name}"));
        if !fresh {
            return fail(name, "is declared twice".into());
        }
        let id = self.state.borrow_mut().def.add(Node { name, kind: NodeKind::Leaf(leaf), desc });
        Tensor { graph: self, id: Some(id) }
    }

    /// Adds an operator of any type: the methods of [`Tensor`] and users' own operators go through here. Returns the
    /// first output.
    #[track_caller]
    pub fn apply<'g>(&'g self, op: impl Operator, inputs: &[Tensor<'g>]) -> Tensor<'g> {
        self.apply_any(Arc::new(op), inputs)
    }

    /// As [`Graph::apply`], for an operator with several outputs; returns all of them. A count other than `N` is an
    /// error of the graph.
    #[track_caller]
    pub fn apply_several<'g, const N: usize>(
        &'g self,
        op: impl Operator,
        inputs: &[Tensor<'g>],
    ) -> [Tensor<'g>; N] {
        let (operator, at) = (op.name(), Location::caller());
        let first = self.apply_any(Arc::new(op), inputs);
        let all = first.outputs();
        if first.id.is_some() && all.len() != N {
            self.fail(GraphError::OutputCount { operator, wanted: N, found: all.len(), at });
        }
        std::array::from_fn(|i| all.get(i).copied().unwrap_or(Tensor { graph: self, id: None }))
    }

    /// [`Graph::apply`] for an operator behind a pointer.
    #[track_caller]
    pub fn apply_any<'g>(&'g self, op: Arc<dyn AnyOperator>, inputs: &[Tensor<'g>]) -> Tensor<'g> {
        let at = Location::caller();
        let operator = op.name();
        let ids: Option<SmallVec<[NodeId; 4]>> =
            inputs.iter().map(|tensor| tensor.id.filter(|_| std::ptr::eq(tensor.graph, self))).collect();
        let Some(ids) = ids else {
            if inputs.iter().any(|tensor| !std::ptr::eq(tensor.graph, self)) {
                let reason = "an input belongs to another graph".to_string();
                let error = GraphError::Leaf { leaf: "operator", name: operator.into(), at, reason };
                return self.fail(error);
            }
            return Tensor { graph: self, id: None };
        };
        let mut state = self.state.borrow_mut();
        let descs: SmallVec<[Desc; 4]> = ids.iter().map(|&id| state.def.node(id).desc).collect();
        match op.outputs(&descs) {
            Ok(outputs) => {
                let name = format!("{operator}.{}", state.def.len());
                let first = state.def.add_operator(name, op, ids, &outputs);
                Tensor { graph: self, id: first }
            }
            Err(error) => {
                drop(state);
                self.fail(GraphError::Shape { operator, name: None, at, error })
            }
        }
    }

    /// Declares a value as a result of the graph.
    #[track_caller]
    pub fn output(&self, name: impl Into<String>, tensor: Tensor<'_>) {
        let (name, at) = (name.into(), Location::caller());
        let mut state = self.state.borrow_mut();
        if state.def.outputs().iter().any(|(other, _)| *other == name) {
            drop(state);
            self.fail(GraphError::DuplicateOutput { name, at });
        } else if let Some(id) = tensor.id {
            let desc = state.def.node(id).desc;
            if !desc.is_contiguous() {
                drop(state);
                self.fail(GraphError::OutputLayout { name, at, desc });
                return;
            }
            state.def.add_output(name, id);
        }
    }

    /// The finished graph, or the first error in it.
    pub fn finish(self) -> Result<GraphDef, GraphError> {
        let State { def, error, .. } = self.state.into_inner();
        match error {
            Some(error) => Err(error),
            None if def.outputs().is_empty() => Err(GraphError::NoOutput),
            None => Ok(def),
        }
    }

    /// Records an error about a leaf, such as a weight missing from the file. The returned handle has no value.
    #[track_caller]
    pub fn refuse(&self, leaf: &'static str, name: &str, reason: String) -> Tensor<'_> {
        self.fail(GraphError::Leaf { leaf, name: name.into(), at: Location::caller(), reason })
    }

    fn fail(&self, error: GraphError) -> Tensor<'_> {
        self.state.borrow_mut().error.get_or_insert(error);
        Tensor { graph: self, id: None }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").field("nodes", &self.state.borrow().def.len()).finish_non_exhaustive()
    }
}

impl<'g> Tensor<'g> {
    /// The graph that the value belongs to.
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Dtype, shape and strides; `None` if construction failed.
    pub fn desc(self) -> Option<Desc> {
        let state = self.graph.state.borrow();
        self.id.map(|id| state.def.node(id).desc)
    }

    /// The size of dimension `i`; 0 if construction failed.
    pub fn dim(self, i: usize) -> usize {
        self.desc().map_or(0, |desc| desc.shape.dim(i))
    }

    /// All outputs of the operator that makes this value, in order; the value alone if it is a leaf or its construction
    /// failed.
    pub fn outputs(self) -> SmallVec<[Tensor<'g>; 2]> {
        let state = self.graph.state.borrow();
        let Some(id) = self.id else { return SmallVec::from_slice(&[self]) };
        state.def.step_outputs(state.def.step_of(id)).map(|id| Tensor { id: Some(id), ..self }).collect()
    }

    /// Names the value in plans and messages.
    pub fn named(self, name: impl Into<String>) -> Tensor<'g> {
        if let Some(id) = self.id {
            self.graph.state.borrow_mut().def.node_mut(id).name = name.into();
        }
        self
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.desc() {
            Some(desc) => write!(f, "Tensor({desc})"),
            None => write!(f, "Tensor(failed)"),
        }
    }
}
