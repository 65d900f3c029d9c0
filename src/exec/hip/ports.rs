//! A plan's inputs and outputs in pinned memory, for copies to and from the device: one range for all inputs, one for
//! all outputs. Their addresses never change, so a recorded run can be replayed.

use std::ops::Range;

use super::bind::Addresses;
use crate::device::ALIGNMENT;
use crate::exec::ExecError;
use crate::hip::{Context, PinnedMemory};
use crate::plan::{Operand, Place, Plan};
use crate::tensor::DType;
use crate::tensor::blocks::to_planes;

/// The pinned memory of a plan.
#[derive(Debug)]
pub(super) struct Pinned {
    pub inputs: PinnedMemory,
    pub outputs: PinnedMemory,
}

/// A copy between pinned memory and the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Bytes from the start of the pinned inputs or outputs.
    pub pinned: usize,
    /// For inputs the offset in the arena, for outputs the address.
    pub device: u64,
    pub bytes: usize,
}

/// An input's offsets in the arena and in pinned memory.
#[derive(Clone, Debug)]
struct Input {
    /// Its number in the plan.
    number: usize,
    dtype: DType,
    arena: Range<usize>,
    pinned: usize,
    /// True if only padding separates it from the previous input, so that one copy serves both.
    follows: bool,
}

/// The memory layout of a plan's inputs and outputs.
#[derive(Debug)]
pub(super) struct Ports {
    /// Sorted by offset in the arena.
    inputs: Vec<Input>,
    outputs: Vec<Transfer>,
    /// `None` before [`Ports::allocate`].
    pub memory: Option<Pinned>,
    input_bytes: usize,
    output_bytes: usize,
    /// Working memory for inputs of block formats.
    planes: Vec<u8>,
}

impl Ports {
    /// Lays out the ports of a checked plan.
    ///
    /// # Errors
    /// An output of a block format that is not a state: on the device its blocks are stored as planes.
    pub fn new(plan: &Plan) -> Result<Ports, ExecError> {
        let mut inputs: Vec<Input> = (plan.inputs.iter().enumerate())
            .map(|(number, port)| {
                let (dtype, arena) = (port.operand.desc.dtype, port.operand.range());
                Input { number, dtype, arena, pinned: 0, follows: false }
            })
            .collect();
        inputs.sort_by_key(|input| (input.arena.start, input.arena.end));
        let mut end = 0;
        for i in 0..inputs.len() {
            let before = i.checked_sub(1).and_then(|i| inputs.get(i)).map(|input| input.arena.end);
            let input = &mut inputs[i];
            let gap =
                before.filter(|&before| before <= input.arena.start).map(|before| before..input.arena.start);
            let free = gap.filter(|gap| gap.len() < ALIGNMENT && !is_used(plan, gap));
            input.follows = free.is_some();
            input.pinned = match free {
                Some(gap) => end + gap.len(),
                None => end.next_multiple_of(ALIGNMENT),
            };
            end = input.pinned + input.arena.len();
        }
        let mut output_bytes: usize = 0;
        for port in &plan.outputs {
            let is_state = matches!(port.operand.place, Place::State(_));
            if !port.operand.desc.dtype.is_plain() && !is_state {
                return Err(ExecError::Mismatch {
                    what: "output",
                    name: port.name.clone(),
                    found: format!("{} on a GPU", port.operand.desc),
                    wanted: "a plain type; cast it first".into(),
                });
            }
            output_bytes = output_bytes.next_multiple_of(ALIGNMENT) + port.operand.desc.extent();
        }
        Ok(Ports {
            inputs,
            outputs: Vec::new(),
            memory: None,
            input_bytes: end,
            output_bytes,
            planes: Vec::new(),
        })
    }

    /// Bytes of pinned memory that the plan needs.
    pub fn bytes(&self) -> u64 {
        (self.input_bytes + self.output_bytes) as u64
    }

    /// Allocates the pinned memory, which the budget has already granted.
    pub fn allocate(&mut self, context: &Context) -> Result<(), ExecError> {
        let pinned = |bytes| {
            context.alloc_pinned(bytes).map_err(|error| ExecError::gpu("pinned memory of a run", error))
        };
        self.memory = Some(Pinned { inputs: pinned(self.input_bytes)?, outputs: pinned(self.output_bytes)? });
        Ok(())
    }

    /// Finds the device addresses of the outputs; called again after the arena has moved.
    pub fn bind(&mut self, plan: &Plan, addresses: &Addresses<'_>) -> Result<(), ExecError> {
        self.outputs.clear();
        let mut pinned = 0_usize;
        for port in &plan.outputs {
            pinned = pinned.next_multiple_of(ALIGNMENT);
            let bytes = port.operand.desc.extent();
            self.outputs.push(Transfer { pinned, device: addresses.of(&port.operand)?, bytes });
            pinned += bytes;
        }
        Ok(())
    }

    /// Writes an input's bytes to pinned memory, with blocks split into planes. `bytes` has the input's size.
    pub fn write(&mut self, number: usize, bytes: &[u8]) {
        let input = self.inputs.iter().find(|input| input.number == number);
        let (Some(input), Some(memory)) = (input, &mut self.memory) else { return };
        let all = memory.inputs.bytes_mut();
        let Some(place) = all.get_mut(input.pinned..input.pinned + input.arena.len()) else { return };
        if input.dtype.is_plain() {
            return place.copy_from_slice(bytes);
        }
        let n_blocks = bytes.len() / input.dtype.block_bytes();
        to_planes(input.dtype, 0, n_blocks, bytes, &mut self.planes, |offset, plane| {
            if let Some(place) = place.get_mut(offset..offset + plane.len()) {
                place.copy_from_slice(plane);
            }
        });
    }

    /// The fewest copies that upload the wanted inputs.
    pub fn uploads(&self, wanted: impl Fn(usize) -> bool) -> Vec<Transfer> {
        let mut copies: Vec<Transfer> = Vec::new();
        let mut joins = false;
        for input in &self.inputs {
            let is_wanted = wanted(input.number);
            match copies.last_mut() {
                Some(last) if joins && is_wanted && input.follows => {
                    last.bytes = input.pinned + input.arena.len() - last.pinned;
                }
                _ if is_wanted => copies.push(Transfer {
                    pinned: input.pinned,
                    device: input.arena.start as u64,
                    bytes: input.arena.len(),
                }),
                _ => {}
            }
            joins = is_wanted;
        }
        copies
    }

    /// The copies that download the outputs.
    pub fn downloads(&self) -> &[Transfer] {
        &self.outputs
    }

    /// An output's bytes, after the fence.
    pub fn output(&self, number: usize) -> Option<&[u8]> {
        let Transfer { pinned, bytes, .. } = *self.outputs.get(number)?;
        self.memory.as_ref()?.outputs.bytes().get(pinned..pinned + bytes)
    }
}

/// True if a step or port uses any of these bytes of the arena.
fn is_used(plan: &Plan, gap: &Range<usize>) -> bool {
    let overlaps = |range: &Range<usize>| range.start < gap.end && gap.start < range.end;
    let hits = |operand: &Operand| operand.place == Place::Arena && overlaps(&operand.range());
    plan.steps.iter().any(|step| {
        let scratch = step.scratch.is_some_and(|(offset, bytes)| overlaps(&(offset..offset + bytes)));
        scratch || step.outputs.iter().chain(&step.inputs).any(hits)
    }) || plan.inputs.iter().chain(&plan.outputs).any(|port| hits(&port.operand))
}
