//! The plan as data.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu::{CpuTarget, ProductKernel};
use crate::device::{ALIGNMENT, Command, Target};
use crate::graph::{Cost, StateKind};
use crate::tensor::Desc;

/// The target of a plan. Equal descriptions give equal plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDesc {
    /// The executor: `cpu` or `hip`.
    pub executor: String,
    /// The number of threads that scratch memory is sized for.
    pub threads: usize,
    /// Alignment of offsets in the arena, in bytes.
    pub alignment: usize,
    /// The GPU, for executor `hip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// True if the bits of a row must not depend on the batch's other rows or their number (promise P11): every
    /// operator then uses one kernel and one order of sums for any number of rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
}

impl DeviceDesc {
    /// A CPU with this many threads. Offsets are multiples of a cache line, so that no two tensors share one.
    pub fn cpu(threads: usize) -> DeviceDesc {
        DeviceDesc { executor: "cpu".into(), threads, alignment: 64, target: None, deterministic: false }
    }

    /// A GPU.
    pub fn hip(target: Target) -> DeviceDesc {
        let (threads, alignment) = (1, ALIGNMENT);
        DeviceDesc { executor: "hip".into(), threads, alignment, target: Some(target), deterministic: false }
    }

    /// Sets whether results must be deterministic.
    pub fn with_deterministic(self, deterministic: bool) -> DeviceDesc {
        DeviceDesc { deterministic, ..self }
    }

    /// The target for the choice of CPU kernels.
    pub(crate) fn cpu_target(&self) -> CpuTarget {
        CpuTarget { threads: self.threads, deterministic: self.deterministic }
    }
}

impl fmt::Display for DeviceDesc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            None => write!(f, "`{}` with {} threads", self.executor, self.threads),
            Some(Target { platform, arch, wave, compute_units, .. }) => write!(
                f,
                "`{}` on {arch} ({platform}, {compute_units} compute units, waves of {wave})",
                self.executor
            ),
        }?;
        f.write_str(if self.deterministic { ", deterministic" } else { "" })
    }
}

/// A compiled graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The target device.
    pub device: DeviceDesc,
    /// Size of the arena in bytes.
    pub arena: usize,
    /// The most bytes alive at one step: a lower bound of the arena's size.
    pub lower_bound: usize,
    /// Weights, bound by name.
    pub weights: Vec<LeafSlot>,
    /// States, kept by name.
    pub states: Vec<StateSlot>,
    /// Constants and their bytes.
    pub constants: Vec<(LeafSlot, Vec<u8>)>,
    /// Inputs, with their places in the arena.
    pub inputs: Vec<Port>,
    /// Outputs, with their places.
    pub outputs: Vec<Port>,
    /// The steps in run order.
    pub steps: Vec<Step>,
    /// Dependencies in addition to the order of each lane.
    pub edges: Vec<Edge>,
}

/// A leaf outside the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafSlot {
    /// Its name.
    pub name: String,
    /// Dtype, shape and strides.
    pub desc: Desc,
}

/// A state: memory that persists between runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSlot {
    /// Its name.
    pub name: String,
    /// Dtype, shape and strides.
    pub desc: Desc,
    /// Assignment of its slots to sequences.
    pub kind: StateKind,
}

/// A named input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The tensor in memory.
    pub operand: Operand,
}

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Place {
    /// The arena.
    Arena,
    /// The weight with this index.
    Weight(u32),
    /// The state with this index.
    State(u32),
    /// The constant with this index.
    Constant(u32),
}

/// A tensor in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// The value: the node that produced these bytes. Views of a value share its number; a state gets a new one from
    /// each step that writes it.
    pub value: u32,
    /// The memory.
    pub place: Place,
    /// Offset of the first element in that memory, in bytes.
    pub offset: usize,
    /// Dtype, shape and strides.
    pub desc: Desc,
}

impl Operand {
    /// The bytes that the tensor may occupy.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.desc.extent()
    }

    /// True if the two tensors share a byte.
    pub fn shares_memory(&self, other: &Operand) -> bool {
        let (a, b) = (self.range(), other.range());
        self.place == other.place && a.start < b.end && b.start < a.end
    }
}

/// One operator to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The node's name.
    pub name: String,
    /// The operator's name.
    pub op: String,
    /// The names of the kernels that it runs.
    pub kernel: String,
    /// The kernel of its product on a CPU, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ProductKernel>,
    /// The operator's attributes.
    pub attributes: serde_json::Value,
    /// The tensors it reads.
    pub inputs: Vec<Operand>,
    /// The tensors it writes: one or more outputs, including unused ones.
    pub outputs: Vec<Operand>,
    /// Scratch memory in the arena: offset and bytes.
    pub scratch: Option<(usize, usize)>,
    /// GPU commands in order; empty on the CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// Lower bound of its cost.
    pub cost: Cost,
}

impl Step {
    /// The name of an output by number: the first has the step's name, the others append their number, as `h.1`.
    pub(super) fn output_name(&self, number: usize) -> Cow<'_, str> {
        match number {
            0 => Cow::from(self.name.as_str()),
            number => Cow::from(format!("{}.{number}", self.name)),
        }
    }
}

/// A point on one of the two lanes: the copy stream (uploads in the order of [`Plan::inputs`], then
/// downloads in the order of [`Plan::outputs`]) and the compute stream (steps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Point {
    /// The end of this input's upload.
    Upload(u32),
    /// The end of this step.
    Step(u32),
    /// The end of this output's download.
    Download(u32),
}

/// `to` starts after `from` has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edge {
    /// The point to wait for.
    pub from: Point,
    /// The point that waits.
    pub to: Point,
    /// True if `from` belongs to the previous run.
    pub across_runs: bool,
}

impl Plan {
    /// The leaves outside the arena: names and descriptions of weights, states and constants.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &Desc)> {
        let weights = self.weights.iter().map(|slot| (slot.name.as_str(), &slot.desc));
        let states = self.states.iter().map(|slot| (slot.name.as_str(), &slot.desc));
        let constants = self.constants.iter().map(|(slot, _)| (slot.name.as_str(), &slot.desc));
        weights.chain(states).chain(constants)
    }

    /// The sum of the costs of all steps.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |sum, step| Cost {
            bytes: sum.bytes + step.cost.bytes,
            flops: sum.flops + step.cost.flops,
        })
    }

    /// The input with this name and its index.
    pub fn input(&self, name: &str) -> Option<(usize, &Port)> {
        self.inputs.iter().enumerate().find(|(_, port)| port.name == name)
    }

    /// The output with this name and its index.
    pub fn output(&self, name: &str) -> Option<(usize, &Port)> {
        self.outputs.iter().enumerate().find(|(_, port)| port.name == name)
    }
}
