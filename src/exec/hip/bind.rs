//! Turns a step's commands, which name tensors, into stream calls, which take addresses.

use std::ffi::c_void;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::device::{Arg, Command, Gemm, Lower, Which};
use crate::exec::ExecError;
use crate::exec::operators::{Operators, bad_step, check_scratch};
use crate::hip::{BlasHandle, DeviceMemory, Function, HipError, Stream};
use crate::plan::{DeviceDesc, Operand, Place, Step};
use crate::tensor::{Desc, MAX_RANK};

/// Checks that the commands are those that the operator itself makes of the step: a plan may come from a file, and a
/// kernel accesses any address in its arguments.
pub(super) fn check(operators: &Operators, device: &DeviceDesc, step: &Step) -> Result<(), ExecError> {
    let (operator, inputs) = operators.of_step(step)?;
    let outputs: SmallVec<[Desc; 2]> = step.outputs.iter().map(|output| output.desc).collect();
    let (output, further) = outputs.split_first().ok_or_else(|| bad_step(step, "it has no output"))?;
    let no_target = || bad_step(step, "the plan is not made for a GPU");
    let target = device.target.as_ref().ok_or_else(no_target)?;
    let lower = Lower::new(operator.name(), target, &inputs, output, further);
    let mut lower = lower.deterministic(device.deterministic);
    operator.hip(&mut lower).map_err(|error| bad_step(step, error))?;
    let (commands, scratch) = lower.finish();
    if commands != step.commands {
        return Err(bad_step(step, "the plan's commands are not those that the operator makes of this step"));
    }
    check_scratch(step, scratch)
}

/// The base addresses of a plan's memory.
pub(super) struct Addresses<'a> {
    pub arena: u64,
    pub weights: &'a [Arc<DeviceMemory>],
    pub states: &'a [Arc<DeviceMemory>],
    pub constants: &'a [DeviceMemory],
}

impl Addresses<'_> {
    /// The address of a tensor.
    pub fn of(&self, operand: &Operand) -> Result<u64, ExecError> {
        let address = match operand.place {
            Place::Arena => Some(self.arena),
            Place::Weight(i) => self.weights.get(i as usize).map(|memory| memory.address()),
            Place::State(i) => self.states.get(i as usize).map(|memory| memory.address()),
            Place::Constant(i) => self.constants.get(i as usize).map(DeviceMemory::address),
        };
        let unknown = || ExecError::Unknown { what: "memory", name: format!("{:?}", operand.place) };
        Ok(address.ok_or_else(unknown)? + operand.offset as u64)
    }
}

/// A command with its addresses.
#[derive(Debug)]
pub(super) enum Bound {
    Launch {
        function: Function,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        /// The arguments, each at the start of a word.
        words: Box<[u64]>,
        /// The word index of each argument.
        starts: Box<[u16]>,
    },
    Gemm {
        gemm: Gemm,
        a: u64,
        b: u64,
        c: u64,
    },
    Copy {
        from: u64,
        to: u64,
        bytes: usize,
    },
}

/// The commands of a step with their addresses. `functions` has the kernel of each launch, in order.
pub(super) fn bind(
    step: &Step,
    functions: &[Function],
    addresses: &Addresses<'_>,
) -> Result<Vec<Bound>, ExecError> {
    let tensor = Tensors { step, addresses };
    let mut functions = functions.iter();
    let bound = |command: &Command| match command {
        Command::Launch(launch) => {
            let missing = || bad_step(step, "a kernel was not compiled");
            let function = functions.next().ok_or_else(missing)?.clone();
            let (mut words, mut starts) = (Vec::new(), Vec::new());
            for (_, arg) in &launch.args {
                starts.push(words.len() as u16);
                tensor.push(arg, &mut words)?;
            }
            let (words, starts) = (words.into_boxed_slice(), starts.into_boxed_slice());
            let (grid, block, shared) = (launch.grid, launch.block, launch.shared);
            Ok(Bound::Launch { function, grid, block, shared, words, starts })
        }
        Command::Gemm(gemm) => {
            let (a, b, c) = (tensor.address(gemm.a)?, tensor.address(gemm.b)?, tensor.address(gemm.c)?);
            Ok(Bound::Gemm { gemm: gemm.clone(), a, b, c })
        }
        Command::Copy { from, to, bytes } => {
            Ok(Bound::Copy { from: tensor.address(*from)?, to: tensor.address(*to)?, bytes: *bytes })
        }
    };
    step.commands.iter().map(bound).collect()
}

/// The tensors of a step.
struct Tensors<'a> {
    step: &'a Step,
    addresses: &'a Addresses<'a>,
}

impl Tensors<'_> {
    fn operand(&self, which: Which) -> Result<&Operand, ExecError> {
        let none = || bad_step(self.step, format!("a command names {which:?}, which the step does not have"));
        match which {
            Which::Input(i) => self.step.inputs.get(i as usize).ok_or_else(none),
            Which::Output => self.step.outputs.first().ok_or_else(none),
            // The first output has a name of its own.
            Which::OutputAt(0) => Err(none()),
            Which::OutputAt(i) => self.step.outputs.get(i as usize).ok_or_else(none),
            Which::Scratch => Err(none()),
        }
    }

    fn address(&self, (which, offset): (Which, usize)) -> Result<u64, ExecError> {
        let start = match which {
            Which::Scratch => {
                let none = || bad_step(self.step, "a command uses scratch memory, and the step has none");
                self.addresses.arena + self.step.scratch.ok_or_else(none)?.0 as u64
            }
            _ => self.addresses.of(self.operand(which)?)?,
        };
        Ok(start + offset as u64)
    }

    /// Appends an argument; a small one is at the start of its word, in native byte order.
    fn push(&self, arg: &Arg, words: &mut Vec<u64>) -> Result<(), ExecError> {
        match *arg {
            Arg::Address(which, offset) => words.push(self.address((which, offset))?),
            Arg::Null => words.push(0),
            Arg::Layout(which) => words.extend(layout(&self.operand(which)?.desc)),
            Arg::I32(value) => words.push(low(value.to_ne_bytes())),
            Arg::U32(value) => words.push(low(value.to_ne_bytes())),
            Arg::I64(value) => words.push(u64::from_ne_bytes(value.to_ne_bytes())),
            Arg::F32(value) => words.push(low(value.to_ne_bytes())),
        }
        Ok(())
    }
}

/// `Layout` of `kernels/platform.h`: sizes, then strides in bytes.
fn layout(desc: &Desc) -> [u64; 2 * MAX_RANK] {
    let mut words = [0; 2 * MAX_RANK];
    let (ne, nb) = words.split_at_mut(MAX_RANK);
    ne.iter_mut().zip(desc.shape.ne()).for_each(|(word, n)| *word = n as u64);
    nb.iter_mut().zip(desc.strides).for_each(|(word, stride)| *word = stride as u64);
    words
}

/// A word that starts with these bytes.
fn low([a, b, c, d]: [u8; 4]) -> u64 {
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

impl Bound {
    /// Queues the command.
    ///
    /// # Safety
    /// The memory behind the addresses, and the kernel, stay valid until the run's fence.
    pub unsafe fn queue(&self, stream: &Stream, blas: Option<&BlasHandle>) -> Result<(), HipError> {
        match self {
            Bound::Launch { function, grid, block, shared, words, starts } => {
                let at = |&start: &u16| -> *mut c_void {
                    words.get(usize::from(start)..).unwrap_or_default().as_ptr().cast_mut().cast()
                };
                let mut args: SmallVec<[*mut c_void; 32]> = starts.iter().map(at).collect();
                // SAFETY: the arguments are those that the operator wrote for this kernel, and their words are stored
                // in `self`; the rest is guaranteed by the caller.
                unsafe { stream.launch(function, *grid, *block, *shared, &mut args) }
            }
            Bound::Gemm { gemm, a, b, c } => {
                let missing = || {
                    let text = "the plan was made for a device with a BLAS library, which is not there";
                    HipError::with_text("hipblasGemmEx", crate::hip::api::hipErrorNotSupported, text)
                };
                // SAFETY: the operator gave the sizes and types of its own tensors; the rest is guaranteed by the
                // caller.
                unsafe { blas.ok_or_else(missing)?.gemm(gemm, *a, *b, *c) }
            }
            // An output in place of its input; a copy's ranges may not overlap.
            Bound::Copy { from, to, .. } if from == to => Ok(()),
            Bound::Copy { from, to, bytes } => {
                // SAFETY: the ranges are inside the step's own tensors; the rest is guaranteed by the caller.
                unsafe { stream.copy_within(*to, *from, *bytes) }
            }
        }
    }

    /// The command, for messages.
    pub fn describe(&self, command: Option<&Command>) -> String {
        match (self, command) {
            (Bound::Launch { grid, block, shared, .. }, Some(Command::Launch(launch))) => format!(
                "kernel {} on {grid:?} blocks of {} threads with {shared} bytes of shared memory",
                launch.variant.entry, block[0]
            ),
            (Bound::Gemm { gemm, .. }, _) => {
                format!("{} product of {}×{} and {}×{}", gemm.dtype, gemm.m, gemm.k, gemm.k, gemm.n)
            }
            (Bound::Copy { bytes, .. }, _) => format!("copy of {bytes} bytes"),
            (Bound::Launch { .. }, _) => "kernel".into(),
        }
    }
}
