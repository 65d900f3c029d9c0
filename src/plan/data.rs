//! The plan as data.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu::{CpuTarget, ProductKernel};
use crate::device::{ALIGNMENT, Command, Target};
use crate::graph::{Cost, StateKind};
use crate::tensor::Desc;

/// What a plan is made for. Plans for equal descriptions are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDesc {
    /// The executor: `cpu` or `hip`.
    pub executor: String,
    /// The threads that scratch memory is sized for.
    pub threads: usize,
    /// Offsets in the arena are multiples of this many bytes.
    pub alignment: usize,
    /// The GPU, for executor `hip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Whether a row's bits depend neither on the other rows of its batch nor on their number (promise P11): every
    /// operator then takes one kernel and one order of sums for every number of rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
}

impl DeviceDesc {
    /// A CPU with this many threads. Offsets are whole cache lines, so that no two tensors share one.
    pub fn cpu(threads: usize) -> DeviceDesc {
        DeviceDesc { executor: "cpu".into(), threads, alignment: 64, target: None, deterministic: false }
    }

    /// A GPU.
    pub fn hip(target: Target) -> DeviceDesc {
        let (threads, alignment) = (1, ALIGNMENT);
        DeviceDesc { executor: "hip".into(), threads, alignment, target: Some(target), deterministic: false }
    }

    /// The same device, deterministic or not.
    pub fn with_deterministic(self, deterministic: bool) -> DeviceDesc {
        DeviceDesc { deterministic, ..self }
    }

    /// What CPU kernels are chosen for.
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
    /// What it was made for.
    pub device: DeviceDesc,
    /// Bytes of the arena.
    pub arena: usize,
    /// The most bytes alive at one step: no placement needs less.
    pub lower_bound: usize,
    /// Weights, by the name they are bound by.
    pub weights: Vec<LeafSlot>,
    /// States, by the name they are kept by.
    pub states: Vec<StateSlot>,
    /// Constants and their bytes.
    pub constants: Vec<(LeafSlot, Vec<u8>)>,
    /// Inputs and where they lie in the arena.
    pub inputs: Vec<Port>,
    /// Outputs and where they lie.
    pub outputs: Vec<Port>,
    /// The steps, in the order they run.
    pub steps: Vec<Step>,
    /// What waits for what, besides the order of each lane.
    pub edges: Vec<Edge>,
}

/// A leaf that lies outside of the arena.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafSlot {
    /// Its name.
    pub name: String,
    /// What it is.
    pub desc: Desc,
}

/// A state: memory that outlives a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSlot {
    /// Its name.
    pub name: String,
    /// What it is.
    pub desc: Desc,
    /// How its slots belong to sequences.
    pub kind: StateKind,
}

/// A named value that goes in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub operand: Operand,
}

/// Which memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Place {
    /// The arena.
    Arena,
    /// The weight of this number.
    Weight(u32),
    /// The state of this number.
    State(u32),
    /// The constant of this number.
    Constant(u32),
}

/// A tensor in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operand {
    /// The value: the node that made these bytes what they are. Views of one value share its number; a
    /// state has another after each step that writes it.
    pub value: u32,
    /// Which memory.
    pub place: Place,
    /// Bytes from the start of that memory to the first element.
    pub offset: usize,
    /// Dtype, shape and strides.
    pub desc: Desc,
}

impl Operand {
    /// The bytes that the tensor may touch.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.desc.extent()
    }

    /// Whether the two tensors share a byte.
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
    /// The kernels that it runs, in words.
    pub kernel: String,
    /// The kernel of its product on a CPU, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<ProductKernel>,
    /// The operator's attributes.
    pub attributes: serde_json::Value,
    /// What it reads.
    pub inputs: Vec<Operand>,
    /// What it writes: one output or several, those that nothing reads included.
    pub outputs: Vec<Operand>,
    /// Scratch memory in the arena: offset and bytes.
    pub scratch: Option<(usize, usize)>,
    /// What it asks of the GPU, in order; nothing on the CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// What it costs at least.
    pub cost: Cost,
}

impl Step {
    /// The name of an output by its number: the first has the step's, the others end in their number, as `h.1`.
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
    /// What is waited for.
    pub from: Point,
    /// What waits.
    pub to: Point,
    /// Whether `from` is of the run before.
    pub across_runs: bool,
}

impl Plan {
    /// What lies outside of the arena: the names and descriptions of weights, states and constants.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &Desc)> {
        let weights = self.weights.iter().map(|slot| (slot.name.as_str(), &slot.desc));
        let states = self.states.iter().map(|slot| (slot.name.as_str(), &slot.desc));
        let constants = self.constants.iter().map(|(slot, _)| (slot.name.as_str(), &slot.desc));
        weights.chain(states).chain(constants)
    }

    /// The sum of all steps' costs.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |sum, step| Cost {
            bytes: sum.bytes + step.cost.bytes,
            flops: sum.flops + step.cost.flops,
        })
    }

    /// The input of this name and its number.
    pub fn input(&self, name: &str) -> Option<(usize, &Port)> {
        self.inputs.iter().enumerate().find(|(_, port)| port.name == name)
    }

    /// The output of this name and its number.
    pub fn output(&self, name: &str) -> Option<(usize, &Port)> {
        self.outputs.iter().enumerate().find(|(_, port)| port.name == name)
    }
}
