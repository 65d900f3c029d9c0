//! Lowering: what a step says to a device, as plain data that a plan holds.
//!
//! An operator's `hip` method is given a [`Lower`] and adds commands to it: which kernels, with which
//! compile-time constants, grids and arguments. Nothing here touches a device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Target;
use crate::tensor::Desc;

/// Scratch memory, and every tensor, starts at a multiple of this many bytes: no kernel wants more.
pub const ALIGNMENT: usize = 256;

/// Where a kernel's source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A file of `kernels/`, by its name without `.hip`.
    BuiltIn(Cow<'static, str>),
    /// A user's own: a name for messages, and the text. It may include the headers of `kernels/`.
    Own {
        /// For messages.
        name: String,
        /// The text.
        text: Cow<'static, str>,
    },
}

/// A kernel with its compile-time constants: what is compiled, and cached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// The source.
    pub source: Source,
    /// The kernel's name in it.
    pub entry: Cow<'static, str>,
    /// Macros that are defined for the compiler. `WAVE` comes from the target.
    pub defines: BTreeMap<Cow<'static, str>, String>,
}

impl Variant {
    /// Kernel `entry` of `kernels/{source}.hip`.
    pub fn new(source: &'static str, entry: &'static str) -> Variant {
        Variant { source: Source::BuiltIn(source.into()), entry: entry.into(), defines: BTreeMap::new() }
    }

    /// Kernel `entry` of a source of one's own, which may include the headers of `kernels/`. The name is for
    /// messages.
    pub fn own(name: impl Into<String>, text: &'static str, entry: &'static str) -> Variant {
        let source = Source::Own { name: name.into(), text: text.into() };
        Variant { source, entry: entry.into(), defines: BTreeMap::new() }
    }

    /// With a macro defined.
    pub fn define(mut self, name: &'static str, value: impl ToString) -> Variant {
        self.defines.insert(name.into(), value.to_string());
        self
    }
}

/// Which tensor of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Which {
    /// Its input of this number.
    Input(u32),
    /// Its output; of several the first.
    Output,
    /// Its output of this number, for those after the first: from 1 on.
    OutputAt(u32),
    /// Its scratch memory.
    Scratch,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arg {
    /// An address: so many bytes past the first element of a tensor.
    Address(Which, usize),
    /// `Layout`, by value: sizes and strides of a tensor in four dimensions.
    Layout(Which),
    /// `int`.
    I32(i32),
    /// `unsigned`.
    U32(u32),
    /// `long long`.
    I64(i64),
    /// `float`. Must not be infinite or NaN: JSON has no such numbers.
    F32(f32),
}

/// A kernel to launch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The kernel.
    pub variant: Variant,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub shared: u32,
    /// The arguments, in the kernel's order.
    pub args: Vec<Arg>,
}

/// `C = A · Bᵀ + beta · C` with `A` `[k, m]` (`m` rows of `k`), `B` `[k, n]`, `C` F32 `[n, m]`, all contiguous, by the
/// BLAS library. `A` and `B` have one type: F16, BF16 or F32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gemm {
    /// Rows of `A` and of `C` (tokens).
    pub m: usize,
    /// Rows of `B`, elements of a row of `C`.
    pub n: usize,
    /// Elements of a row of `A` and `B`.
    pub k: usize,
    /// The type of `A` and `B`.
    pub dtype: crate::tensor::DType,
    /// Where `A` is.
    pub a: (Which, usize),
    /// Where `B` is.
    pub b: (Which, usize),
    /// Where `C` is.
    pub c: (Which, usize),
    /// Whether `C` holds something to add to.
    pub accumulate: bool,
}

/// One thing that a step asks of the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Command {
    /// A kernel.
    Launch(Launch),
    /// A product by the BLAS library.
    Gemm(Gemm),
    /// A copy of so many bytes within device memory.
    Copy {
        /// From here.
        from: (Which, usize),
        /// To here.
        to: (Which, usize),
        /// So many.
        bytes: usize,
    },
}

/// Why a step cannot run on a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerError {
    /// An operator without a kernel.
    #[error(
        "operator `{op}` has no kernel for a GPU; run the graph on the CPU, or implement `Operator::hip`"
    )]
    NoKernel {
        /// The operator.
        op: String,
    },
    /// A case that its kernels do not take.
    #[error("operator `{op}`: {reason}")]
    Unsupported {
        /// The operator.
        op: String,
        /// What is not taken, and what would be.
        reason: String,
    },
}

/// A step under lowering.
#[derive(Debug)]
pub struct Lower<'l> {
    op: &'static str,
    target: &'l Target,
    deterministic: bool,
    inputs: &'l [Desc],
    output: &'l Desc,
    further: &'l [Desc],
    scratch: usize,
    commands: Vec<Command>,
}

impl<'l> Lower<'l> {
    /// A step of operator `op` without commands yet. `further` are its outputs after the first.
    pub fn new(
        op: &'static str,
        target: &'l Target,
        inputs: &'l [Desc],
        output: &'l Desc,
        further: &'l [Desc],
    ) -> Lower<'l> {
        Lower { op, target, deterministic: false, inputs, output, further, scratch: 0, commands: Vec::new() }
    }

    /// The same step, deterministic or not.
    pub fn deterministic(self, deterministic: bool) -> Lower<'l> {
        Lower { deterministic, ..self }
    }

    /// Whether a row's bits may depend on nothing but the row: every number of rows takes the same kernels and the same
    /// orders of sums.
    pub fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    /// The device.
    pub fn target(&self) -> &'l Target {
        self.target
    }

    /// Dtypes, shapes and strides of the inputs.
    pub fn inputs(&self) -> &'l [Desc] {
        self.inputs
    }

    /// Dtype, shape and strides of the output; of several the first.
    pub fn output(&self) -> &'l Desc {
        self.output
    }

    /// Dtype, shape and strides of output number `i`, the first one being 0; `None` if there is no such output.
    pub fn output_at(&self, i: usize) -> Option<&'l Desc> {
        std::iter::once(self.output).chain(self.further).nth(i)
    }

    /// Reserves scratch memory; where it starts, as an argument of kernels.
    pub fn scratch(&mut self, bytes: usize) -> (Which, usize) {
        let start = self.scratch;
        self.scratch += bytes.next_multiple_of(ALIGNMENT);
        (Which::Scratch, start)
    }

    /// Adds a kernel: `blocks` of `threads`, with the arguments in the kernel's order.
    pub fn launch(
        &mut self,
        variant: Variant,
        grid: [usize; 3],
        block: usize,
        args: &[Arg],
    ) -> Result<(), LowerError> {
        self.launch_shared(variant, grid, block, 0, args)
    }

    /// As [`Lower::launch`], with dynamic shared memory.
    ///
    /// # Errors
    /// A grid, a block or shared memory larger than devices take (2³¹ − 1 by 65 535 by 65 535 blocks, 1024 threads,
    /// the target's shared memory).
    pub fn launch_shared(
        &mut self,
        variant: Variant,
        grid: [usize; 3],
        block: usize,
        shared: usize,
        args: &[Arg],
    ) -> Result<(), LowerError> {
        let most = [i32::MAX as usize, 65_535, 65_535];
        if grid.iter().zip(most).any(|(&n, most)| n == 0 || n > most) || block == 0 || block > 1024 {
            return Err(
                self.unsupported(format!("a grid of {grid:?} blocks of {block} threads cannot be launched"))
            );
        }
        if shared > self.target.shared_bytes as usize {
            let limit = self.target.shared_bytes;
            return Err(
                self.unsupported(format!("{shared} bytes of shared memory; the device has {limit} a block"))
            );
        }
        self.commands.push(Command::Launch(Launch {
            variant,
            grid: grid.map(|n| n as u32),
            block: [block as u32, 1, 1],
            shared: shared as u32,
            args: args.to_vec(),
        }));
        Ok(())
    }

    /// Adds any command.
    pub fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// An error about this operator.
    pub fn unsupported(&self, reason: impl Into<String>) -> LowerError {
        LowerError::Unsupported { op: self.op.into(), reason: reason.into() }
    }

    /// The commands, and the bytes of scratch memory that they use.
    pub fn finish(self) -> (Vec<Command>, usize) {
        (self.commands, self.scratch)
    }
}
