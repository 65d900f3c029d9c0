//! A file of a model's log-probabilities, to compare other models with.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `RFGLOGP2` |
//! | 4 | `n_ctx`, tokens of a chunk |
//! | 4 | `n_vocab` |
//! | 4 | `n_chunk` |
//! | 4 | the BOS token that begins each chunk, or `FFFFFFFF` |
//! | 4 · `n_chunk` · `n_ctx` | the tokens |
//! | `n_chunk` · scored rows | a row for each scored token, in order |
//!
//! A row is two float32, the negative log-likelihood of the scored token and a `step`, and `n_vocab` numbers of 16
//! bits: a token's logit is `step · number` plus an unknown constant, which cancels when the row is converted to
//! probabilities. Logits more than [`SPAN`] below the largest are stored as 0: for a scored token that is so
//! improbable, only the separate likelihood is right. All other log-probabilities are off by at most `SPAN / 65535 /
//! 2`, 2·10⁻⁴, and a divergence by about the square of that.

use std::io::{self, Read, Write};

use super::{Chunks, LogProbs};
use crate::Remedy;

const MAGIC: [u8; 8] = *b"RFGLOGP2";

/// Distance below the largest logit at which smaller ones are no longer distinguished: `e⁻²⁴` is 4·10⁻¹¹.
const SPAN: f32 = 24.0;

/// The magic and four numbers.
const HEADER_BYTES: u64 = 24;

/// The value for no BOS token.
const NO_BOS: u32 = u32::MAX;

/// The largest size of the tokens of a file, in bytes.
const MAX_TOKENS: u64 = 1 << 30;

/// An error of reading or writing a base file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The operating system refuses, or the file ends early.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another kind of file.
    #[error("expected a file of log-probabilities, which begins with RFGLOGP2")]
    Magic,
    /// Impossible numbers in the header.
    #[error(
        "its header says {n_chunk} chunks of {n_ctx} tokens and a vocabulary of {n_vocab}; that cannot be"
    )]
    Header {
        /// Tokens of a chunk.
        n_ctx: u32,
        /// Tokens of the vocabulary.
        n_vocab: u32,
        /// Chunks.
        n_chunk: u32,
    },
    /// A truncated file, or a file with trailing bytes.
    #[error("it has {found} bytes; what its header says takes {expected}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes according to the header.
        expected: u64,
    },
}

impl BaseError {
    /// The remedies of the error; none if they are not known.
    pub fn remedies(&self) -> &'static [Remedy] {
        match self {
            BaseError::Magic => &[Remedy::LogitsFile],
            _ => &[],
        }
    }
}

/// The header of a base file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseHeader {
    /// The text.
    pub chunks: Chunks,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
}

/// Writes a base file.
pub struct BaseWriter<W> {
    out: W,
    row: Vec<u8>,
}

impl<W: Write> BaseWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Writing fails, or the numbers do not fit 32 bits.
    pub fn new(mut out: W, header: &BaseHeader) -> Result<BaseWriter<W>, BaseError> {
        let BaseHeader { chunks, n_vocab } = header;
        out.write_all(&MAGIC)?;
        for number in [chunks.n_ctx, *n_vocab, chunks.count()] {
            let number = u32::try_from(number).map_err(|error| io::Error::other(error.to_string()))?;
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(&chunks.bos.unwrap_or(NO_BOS).to_le_bytes())?;
        chunks.tokens.iter().try_for_each(|token| out.write_all(&token.to_le_bytes()))?;
        Ok(BaseWriter { out, row: Vec::new() })
    }

    /// Writes the row of the next scored token: the logits before it, and its negative log-likelihood in nats.
    ///
    /// # Errors
    /// Writing fails.
    pub fn row(&mut self, logits: &[f32], nll: f64) -> Result<(), BaseError> {
        let fold = |start: f32, pick: fn(f32, f32) -> f32| logits.iter().copied().fold(start, pick);
        let largest = fold(f32::NEG_INFINITY, f32::max);
        let least = fold(f32::INFINITY, f32::min).max(largest - SPAN);
        let step = (largest - least) / f32::from(u16::MAX);
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        self.row.clear();
        self.row.extend((nll as f32).to_le_bytes());
        self.row.extend(step.to_le_bytes());
        // The conversion saturates.
        let numbers = logits.iter().map(|x| ((x - least) * inverse).round() as u16);
        self.row.extend(numbers.flat_map(u16::to_le_bytes));
        Ok(self.out.write_all(&self.row)?)
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<W, BaseError> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Reads a base file.
pub struct BaseReader<R> {
    input: R,
    header: BaseHeader,
    row: Vec<u8>,
}

impl<R: Read> BaseReader<R> {
    /// Reads the header of a file of `len` bytes.
    ///
    /// # Errors
    /// Reading fails, the file is of another kind, or its length does not match its header.
    pub fn new(mut input: R, len: u64) -> Result<BaseReader<R>, BaseError> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(BaseError::Magic);
        }
        let mut number = || -> io::Result<u32> {
            let mut bytes = [0; 4];
            input.read_exact(&mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let [n_ctx, n_vocab, n_chunk, bos] = [number()?, number()?, number()?, number()?];
        let wrong = BaseError::Header { n_ctx, n_vocab, n_chunk };
        let n_tokens = u64::from(n_ctx) * u64::from(n_chunk);
        if n_vocab == 0 || n_tokens > MAX_TOKENS / 4 {
            return Err(wrong);
        }
        // Tokens are read as they come, without an allocation of the claimed size: a false claim ends with the file.
        let mut bytes = Vec::new();
        input.by_ref().take(4 * n_tokens).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != 4 * n_tokens {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let tokens = bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        let chunks = Chunks::new(tokens, n_ctx as usize, Some(bos).filter(|&bos| bos != NO_BOS));
        let header = BaseHeader { chunks: chunks.map_err(|_| wrong)?, n_vocab: n_vocab as usize };
        // Below 2^63: at most 2^28 tokens, and rows of about 2^33 bytes.
        let rows = header.chunks.count() as u64 * header.chunks.scored() as u64;
        let expected = HEADER_BYTES + 4 * n_tokens + rows * (8 + 2 * u64::from(n_vocab));
        if len != expected {
            return Err(BaseError::Length { found: len, expected });
        }
        Ok(BaseReader { input, header, row: Vec::new() })
    }

    /// The header of the file.
    pub fn header(&self) -> &BaseHeader {
        &self.header
    }

    /// Reads the log-probabilities before the next scored token, and returns the token's negative log-likelihood in
    /// nats.
    ///
    /// # Errors
    /// Reading fails, or all rows were read.
    pub fn row(&mut self, probs: &mut LogProbs) -> Result<f64, BaseError> {
        let bytes = 8 + 2 * self.header.n_vocab;
        self.row.clear();
        self.input.by_ref().take(bytes as u64).read_to_end(&mut self.row)?;
        let ends = || BaseError::from(io::Error::from(io::ErrorKind::UnexpectedEof));
        if self.row.len() != bytes {
            return Err(ends());
        }
        let (nll, rest) = self.row.split_first_chunk().ok_or_else(ends)?;
        let (step, numbers) = rest.split_first_chunk().ok_or_else(ends)?;
        let step = f64::from(f32::from_le_bytes(*step));
        probs.set(numbers.as_chunks().0.iter().map(|&number| step * f64::from(u16::from_le_bytes(number))));
        Ok(f64::from(f32::from_le_bytes(*nll)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of two chunks with two rows each.
    fn header(n_vocab: usize) -> BaseHeader {
        BaseHeader { chunks: Chunks::new((0..10).collect(), 5, Some(7)).unwrap(), n_vocab }
    }

    fn open(file: &[u8]) -> Result<BaseReader<&[u8]>, BaseError> {
        BaseReader::new(file, file.len() as u64)
    }

    proptest! {
        #[test]
        fn rows_are_read_back_within_the_stated_error(
            rows in proptest::collection::vec((proptest::collection::vec(-30f32..30.0, 9), 0f32..100.0), 4)
        ) {
            let mut writer = BaseWriter::new(Vec::new(), &header(9)).unwrap();
            rows.iter().for_each(|(row, nll)| writer.row(row, f64::from(*nll)).unwrap());
            let file = writer.finish().unwrap();
            let mut reader = open(&file).unwrap();
            prop_assert_eq!(reader.header(), &header(9));
            let (mut found, mut exact) = (LogProbs::default(), LogProbs::default());
            for (row, nll) in &rows {
                // Exact, however improbable the token is.
                prop_assert_eq!(reader.row(&mut found).unwrap(), f64::from(*nll));
                exact.set_logits(row);
                for (a, b) in found.values().iter().zip(exact.values()) {
                    // Half a step for the number and as much for the sum, and the same again for f32.
                    let bound = 2.0 * f64::from(SPAN) / 65535.0;
                    prop_assert!((a - b).abs() < bound || *b < -23.0, "{a} {b}");
                }
            }
            prop_assert!(reader.row(&mut found).is_err(), "there is no row left");
            for length in 0..file.len() {
                prop_assert!(open(&file[..length]).is_err(), "{} of {} bytes", length, file.len());
            }
            let longer = [&file[..], b"x"].concat();
            prop_assert!(matches!(open(&longer), Err(BaseError::Length { .. })), "a byte too many");
        }

        #[test]
        fn any_bytes_are_refused_or_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80), magic in any::<bool>(), len in any::<u64>()
        ) {
            if magic && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&MAGIC);
            }
            if let Ok(mut reader) = BaseReader::new(&bytes[..], len) {
                let _ = reader.row(&mut LogProbs::default());
            }
        }
    }
}
