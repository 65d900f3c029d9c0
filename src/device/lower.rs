//! Lowering: a step's work on a device, as plain data that a plan holds.
//!
//! An operator's `hip` method adds commands to a [`Lower`]: kernels with their compile-time constants, grids and
//! arguments. Nothing here touches a device.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Target;
use crate::tensor::Desc;

/// The alignment of scratch memory and of every tensor in bytes; no kernel needs more.
pub const ALIGNMENT: usize = 256;

/// The source of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A file of `kernels/`, by its name without `.hip`.
    BuiltIn(Cow<'static, str>),
    /// A custom source: a name for messages, and the text. It may include the headers of `kernels/`.
    Own {
        /// For messages.
        name: String,
        /// The text.
        text: Cow<'static, str>,
    },
}

/// A kernel with its compile-time constants: the unit of compilation and caching.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variant {
    /// The source.
    pub source: Source,
    /// The kernel's name in the source.
    pub entry: Cow<'static, str>,
    /// Macros for the compiler. `WAVE` comes from the target.
    pub defines: BTreeMap<Cow<'static, str>, String>,
}

impl Variant {
    /// Kernel `entry` of `kernels/{source}.hip`.
    pub fn new(source: &'static str, entry: &'static str) -> Variant {
        Variant { source: Source::BuiltIn(source.into()), entry: entry.into(), defines: BTreeMap::new() }
    }

    /// Kernel `entry` of a custom source, which may include the headers of `kernels/`. The name is for messages.
    pub fn own(name: impl Into<String>, text: &'static str, entry: &'static str) -> Variant {
        let source = Source::Own { name: name.into(), text: text.into() };
        Variant { source, entry: entry.into(), defines: BTreeMap::new() }
    }

    /// Adds a macro.
    pub fn define(mut self, name: &'static str, value: impl ToString) -> Variant {
        self.defines.insert(name.into(), value.to_string());
        self
    }
}

/// A tensor of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Which {
    /// Its input of this number.
    Input(u32),
    /// Its first output.
    Output,
    /// Its output of this number, from 1 on; the first output is [`Which::Output`].
    OutputAt(u32),
    /// Its scratch memory.
    Scratch,
}

/// The value of an argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arg {
    /// The address this many bytes past the first element of a tensor.
    Address(Which, usize),
    /// A null pointer.
    Null,
    /// `Layout`, by value: sizes and strides of a tensor in four dimensions.
    Layout(Which),
    /// `int`.
    I32(i32),
    /// `unsigned`.
    U32(u32),
    /// `long long`.
    I64(i64),
    /// `float`. Must be finite, as JSON has no infinities or NaN.
    F32(f32),
}

/// An argument with the name that the kernel's source has for it.
pub type NamedArg = (&'static str, Arg);

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
    /// The arguments with their names, in the kernel's order.
    pub args: Vec<(Cow<'static, str>, Arg)>,
}

/// `C = A · Bᵀ + beta · C` with the BLAS library; `A` is `[k, m]` (`m` rows of `k`), `B` `[k, n]`, `C` F32 `[n, m]`,
/// all contiguous. `A` and `B` have the same type: F16, BF16 or F32.
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
    /// The tensor and byte offset of `A`.
    pub a: (Which, usize),
    /// The tensor and byte offset of `B`.
    pub b: (Which, usize),
    /// The tensor and byte offset of `C`.
    pub c: (Which, usize),
    /// Add the product to `C` (beta = 1) instead of overwriting it (beta = 0).
    pub accumulate: bool,
}

/// One command of a step to the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Command {
    /// A kernel.
    Launch(Launch),
    /// A product by the BLAS library.
    Gemm(Gemm),
    /// A copy within device memory.
    Copy {
        /// The source.
        from: (Which, usize),
        /// The destination.
        to: (Which, usize),
        /// The number of bytes.
        bytes: usize,
    },
}

/// The reason why a step cannot run on a device.
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
    /// A case that the operator's kernels do not support.
    #[error("operator `{op}`: {reason}")]
    Unsupported {
        /// The operator.
        op: String,
        /// The unsupported case, and a supported one.
        reason: String,
    },
}

/// A step during lowering.
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
    /// A step of operator `op` without commands. `further` are its outputs after the first.
    pub fn new(
        op: &'static str,
        target: &'l Target,
        inputs: &'l [Desc],
        output: &'l Desc,
        further: &'l [Desc],
    ) -> Lower<'l> {
        Lower { op, target, deterministic: false, inputs, output, further, scratch: 0, commands: Vec::new() }
    }

    /// Makes the step deterministic or not.
    pub fn deterministic(self, deterministic: bool) -> Lower<'l> {
        Lower { deterministic, ..self }
    }

    /// True if a row's bits must depend on that row only, so that any number of rows uses the same kernels and orders
    /// of summation.
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

    /// Dtype, shape and strides of the first output.
    pub fn output(&self) -> &'l Desc {
        self.output
    }

    /// Dtype, shape and strides of output number `i`, counted from 0; `None` if there is no such output.
    pub fn output_at(&self, i: usize) -> Option<&'l Desc> {
        std::iter::once(self.output).chain(self.further).nth(i)
    }

    /// Reserves scratch memory and returns its start as a kernel argument.
    pub fn scratch(&mut self, bytes: usize) -> (Which, usize) {
        let start = self.scratch;
        self.scratch += bytes.next_multiple_of(ALIGNMENT);
        (Which::Scratch, start)
    }

    /// Adds a kernel: `grid` blocks of `block` threads, with the arguments in the kernel's order, each under the name that
    /// the kernel's source has for it. A plan keeps the names, and a test compares them with the sources.
    pub fn launch(
        &mut self,
        variant: Variant,
        grid: [usize; 3],
        block: usize,
        args: &[NamedArg],
    ) -> Result<(), LowerError> {
        self.launch_shared(variant, grid, block, 0, args)
    }

    /// Like [`Lower::launch`], with dynamic shared memory.
    ///
    /// # Errors
    /// A grid, a block or shared memory beyond the limits (2³¹ − 1 by 65 535 by 65 535 blocks, 1024 threads, the
    /// target's shared memory).
    pub fn launch_shared(
        &mut self,
        variant: Variant,
        grid: [usize; 3],
        block: usize,
        shared: usize,
        args: &[NamedArg],
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
            args: args.iter().map(|&(name, arg)| (name.into(), arg)).collect(),
        }));
        Ok(())
    }

    /// Adds a command of any kind.
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
