//! Quantizing: a model file with its matrices in other dtypes.
//!
//! `mix` decides the dtype of each tensor; this file converts tensors, a stretch at a time and on all threads, and
//! writes each stretch at once, so that memory stays small for a file of any size.

use std::io::Write;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use super::mix::{self, Recipe};
use crate::Remedy;
use crate::cpu::{Pool, PoolError, physical_cores};
use crate::gguf::{Gguf, GgufError, GgufWriter, TensorInfo, WriteError};
use crate::tensor::DType;
use crate::tensor::blocks::{BlockError, WRITABLE, dequantize, quantize};

/// An error of quantizing a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A tensor that is already quantized.
    #[error(
        "tensor {name} is {from} already: rounding it to {to} adds to the error of the first rounding; take a file of \
         F16, BF16 or F32; with requantizing allowed it is rounded again"
    )]
    Requantize {
        /// The tensor.
        name: String,
        /// Its dtype.
        from: DType,
        /// The requested dtype.
        to: DType,
    },
    /// A dtype that can be read but not written.
    #[error("{dtype} can be read but not written; write {}", names(&WRITABLE))]
    NotWritable {
        /// The dtype.
        dtype: DType,
    },
    /// Values that a dtype cannot hold.
    #[error("tensor {name}, row {row}: {source}")]
    Values {
        /// The tensor.
        name: String,
        /// The first row of the stretch with these values.
        row: usize,
        /// The reason.
        source: BlockError,
    },
    /// An absurd number of layers, which the rules depend on.
    #[error("{key} is {n_layer}; at most {most} layers are supported")]
    LayerCount {
        /// The metadata key.
        key: String,
        /// Its value.
        n_layer: usize,
        /// The limit.
        most: usize,
    },
    /// A tensor of a layer that the model does not have.
    #[error("tensor {name} is of layer {layer}, but {key} is {n_layer}")]
    Layer {
        /// The tensor.
        name: String,
        /// Its layer.
        layer: usize,
        /// The metadata key.
        key: String,
        /// Its value.
        n_layer: usize,
    },
    /// The file cannot be read any more.
    #[error(transparent)]
    Read(#[from] GgufError),
    /// The new file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Threads cannot be started.
    #[error(transparent)]
    Threads(#[from] PoolError),
    /// The progress function stopped the work.
    #[error("stopped before the file was complete")]
    Stopped,
}

impl QuantizeError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            QuantizeError::Requantize { .. } => &[Remedy::Requantizing],
            _ => &[],
        }
    }
}

fn names(types: &[DType]) -> String {
    types.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ")
}

/// The conversion of one tensor.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'g> {
    /// The tensor in the original file.
    pub info: &'g TensorInfo,
    /// Its dtype in the new file.
    pub dtype: DType,
}

impl Conversion<'_> {
    /// Bytes of its data in the new file.
    pub fn bytes(&self) -> usize {
        let row = self.info.shape.sizes().first().copied().unwrap_or(1);
        self.dtype.row_bytes(row).unwrap_or(0) * self.info.shape.rows()
    }

    /// The data are copied unchanged.
    pub fn is_copy(&self) -> bool {
        self.dtype == self.info.dtype
    }
}

/// A file to be quantized, with the conversion of each tensor.
#[derive(Debug)]
pub struct Quantization<'g> {
    gguf: &'g Gguf,
    file_type: u32,
    conversions: Vec<Conversion<'g>>,
}

/// Metadata of a file's place in a split model: the new file is whole.
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

const FILE_TYPE: &str = "general.file_type";

const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// The version of the block formats' layouts, the same since 2023.
const VERSION: u32 = 2;

/// The approximate number of values that one thread converts at a time.
const PIECE: usize = 1 << 14;

/// The number of pieces per thread that are converted before they are written.
const PIECES_PER_THREAD: usize = 16;

impl<'g> Quantization<'g> {
    /// Decides the conversion of each tensor of a file. Data are not read.
    ///
    /// # Errors
    /// A dtype of the recipe cannot be written; a tensor is already quantized, and that is not allowed; the number of
    /// layers is absurd, or a tensor is of a layer beyond it.
    pub fn new(
        gguf: &'g Gguf,
        recipe: &Recipe,
        allow_requantize: bool,
    ) -> Result<Quantization<'g>, QuantizeError> {
        let types = mix::types(gguf, recipe)?.into_iter();
        let conversions: Vec<_> =
            gguf.tensors().iter().zip(types).map(|(info, dtype)| Conversion { info, dtype }).collect();
        for Conversion { info, dtype } in conversions.iter().filter(|conversion| !conversion.is_copy()) {
            if !WRITABLE.contains(dtype) {
                return Err(QuantizeError::NotWritable { dtype: *dtype });
            }
            if !info.dtype.is_plain() && !allow_requantize {
                return Err(QuantizeError::Requantize {
                    name: info.name.clone(),
                    from: info.dtype,
                    to: *dtype,
                });
            }
        }
        Ok(Quantization { gguf, file_type: recipe.mix.file_type(), conversions })
    }

    /// The conversion of each tensor, in the file's order.
    pub fn conversions(&self) -> &[Conversion<'g>] {
        &self.conversions
    }

    /// Bytes of all tensors' data in the new file.
    pub fn bytes(&self) -> u64 {
        self.conversions.iter().map(|conversion| conversion.bytes() as u64).sum()
    }

    /// Elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.conversions.iter().map(|conversion| conversion.info.shape.elements() as u64).sum()
    }

    /// Writes the new file. Its metadata are those of the file, in order, except that `general.file_type` and
    /// `general.quantization_version` are set, and the keys of a split are dropped. Its bytes are the same for any
    /// number of threads. `progress` is called with the number of converted elements, and may stop the work.
    ///
    /// # Errors
    /// Reading or writing fails, values do not fit their dtype, threads cannot be started, or `progress` stops the
    /// work. A partly written file is not a valid model.
    pub fn write(
        &self,
        out: &mut impl Write,
        threads: Option<NonZeroUsize>,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), QuantizeError> {
        self.gguf.check_length()?;
        let writer = self.writer()?;
        let mut converter = Converter::new(threads.unwrap_or_else(physical_cores))?;
        let (mut done, mut conversions) = (0, self.conversions.iter());
        writer.write_with(out, |_, out| {
            // Tensors are written in the order in which they were added.
            let Some(conversion) = conversions.next() else { return Ok(()) };
            let data = self.gguf.data(conversion.info);
            converter.convert(conversion, data, out, |elements| {
                done += elements as u64;
                progress(done)
            })
        })
    }

    /// Metadata and tensors of the new file, without data.
    fn writer(&self) -> Result<GgufWriter<'static>, WriteError> {
        let mut writer = GgufWriter::new();
        let mut set = [(FILE_TYPE, Some(self.file_type)), (QUANTIZATION_VERSION, Some(VERSION))];
        for (key, value) in self.gguf.metadata().iter().filter(|(key, _)| !SPLIT_KEYS.contains(key)) {
            match set.iter_mut().find(|(name, _)| *name == key).and_then(|(_, number)| number.take()) {
                Some(number) => writer.set(key, number)?,
                None => writer.set(key, value.clone())?,
            };
        }
        for (key, number) in set {
            if let Some(number) = number {
                writer.set(key, number)?;
            }
        }
        for Conversion { info, dtype } in &self.conversions {
            writer.later(&info.name, *dtype, info.shape)?;
        }
        Ok(writer)
    }
}

/// Threads and their buffers.
struct Converter {
    pool: Pool,
    pieces: Vec<Mutex<Piece>>,
}

/// Rows in conversion.
#[derive(Default)]
struct Piece {
    values: Vec<f32>,
    blocks: Vec<u8>,
    result: Option<BlockError>,
}

impl Converter {
    fn new(threads: NonZeroUsize) -> Result<Converter, PoolError> {
        let pieces = threads.get() * PIECES_PER_THREAD;
        Ok(Converter { pool: Pool::new(threads)?, pieces: (0..pieces).map(|_| Mutex::default()).collect() })
    }

    /// Writes a tensor's data in its new dtype, and calls `progress` with the number of elements of each stretch.
    fn convert(
        &mut self,
        conversion: &Conversion<'_>,
        data: &[u8],
        out: &mut dyn Write,
        mut progress: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), QuantizeError> {
        let Conversion { info, dtype } = *conversion;
        let row = info.shape.sizes().first().copied().unwrap_or(1);
        let rows_of_piece = (PIECE / row).max(1);
        let row_bytes = info.bytes / info.shape.rows().max(1);
        let piece_bytes = (rows_of_piece * row_bytes).max(1);
        let stretches = data.chunks(piece_bytes * self.pieces.len());
        for (i, stretch) in stretches.enumerate() {
            if conversion.is_copy() {
                out.write_all(stretch).map_err(WriteError::Io)?;
            } else {
                let first_row = i * self.pieces.len() * rows_of_piece;
                let failed = |(piece, source)| QuantizeError::Values {
                    name: info.name.clone(),
                    row: first_row + piece * rows_of_piece,
                    source,
                };
                self.stretch(stretch, piece_bytes, info.dtype, dtype).map_err(failed)?;
                for piece in &mut self.pieces[..stretch.len().div_ceil(piece_bytes)] {
                    let piece = piece.get_mut().unwrap_or_else(PoisonError::into_inner);
                    out.write_all(&piece.blocks).map_err(WriteError::Io)?;
                }
            }
            if progress(stretch.len() / row_bytes.max(1) * row).is_break() {
                return Err(QuantizeError::Stopped);
            }
        }
        Ok(())
    }

    /// Converts the pieces of a stretch on all threads. An error names the first piece that failed.
    fn stretch(
        &self,
        data: &[u8],
        piece_bytes: usize,
        from: DType,
        to: DType,
    ) -> Result<(), (usize, BlockError)> {
        let count = data.len().div_ceil(piece_bytes);
        self.pool.run(|worker| {
            worker.for_chunks(count, 1, |pieces| {
                for i in pieces {
                    let bytes = &data[i * piece_bytes..data.len().min((i + 1) * piece_bytes)];
                    // Each piece belongs to one worker, so the lock is free.
                    let mut piece = self.pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
                    piece.result = piece.convert(bytes, from, to).err();
                }
            });
        });
        for (i, piece) in self.pieces[..count].iter().enumerate() {
            if let Some(error) = piece.lock().unwrap_or_else(PoisonError::into_inner).result.take() {
                return Err((i, error));
            }
        }
        Ok(())
    }
}

impl Piece {
    fn convert(&mut self, bytes: &[u8], from: DType, to: DType) -> Result<(), BlockError> {
        self.values.resize(bytes.len() / from.block_bytes() * from.block_elements(), 0.0);
        dequantize(from, bytes, &mut self.values)?;
        self.blocks.clear();
        quantize(to, &self.values, &mut self.blocks)
    }
}
