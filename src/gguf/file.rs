//! An open model file, or the files of a split model.

use std::fmt;
use std::path::Path;

use super::bytes::Bytes;
use super::error::{Fault, GgufError};
use super::index::NameIndex;
use super::metadata::Metadata;
use super::parse::{self, Header};
use super::shard::{Shard, open_shard};
use super::split::{self, SplitPart};
use super::tensors::TensorInfo;
use crate::tensor::DType;

/// An open GGUF model: its metadata, its tensors, and their data in place.
///
/// It is read-only; threads share it through an [`Arc`](std::sync::Arc).
pub struct Gguf {
    version: u32,
    alignment: usize,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: NameIndex,
    shards: Vec<Shard>,
}

impl Gguf {
    /// Opens a model file through a memory map. The first part of a split model (`NAME-00001-of-00005.gguf` with
    /// `split.count` 5) also opens the other parts; their metadata, apart from the `split.` keys, are ignored.
    ///
    /// The file must not change. Its length is taken once, here. Metadata are copied, but tensor data are read from the
    /// map when used: if another program overwrites the file, the data change, and if it shortens the file, reading the
    /// lost pages terminates the program (SIGBUS on Unix). [`Gguf::check_length`] detects a shorter file before long
    /// work starts; between the check and the reading the risk remains. Replacing a model by renaming a new file over
    /// it is safe.
    ///
    /// # Errors
    /// The file cannot be opened, violates the format (see the module's page), or is a part of a split model other than
    /// the first or with a missing sibling.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let (shard, header) = open_shard(path)?;
        match split::place(&header.metadata).map_err(|error| error.at(path))? {
            None => Ok(Gguf::assemble(header, vec![shard])),
            Some(place) => Gguf::open_split(path, place, shard, header),
        }
    }

    /// A model from bytes in memory: `&'static [u8]` (not copied), `Arc<[u8]>` or `Vec<u8>`.
    /// They must start at a multiple of 8 bytes; [`Aligned`](super::Aligned) ensures that.
    ///
    /// # Errors
    /// As [`Gguf::open`]; a part of a split model is refused.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Gguf, GgufError> {
        let bytes = bytes.into();
        let malformed = |fault: Fault| GgufError::Malformed { path: None, fault: Box::new(fault) };
        let header = parse::parse(bytes.as_slice()).map_err(malformed)?;
        if !bytes.is_aligned() {
            return Err(GgufError::Unaligned);
        }
        match split::place(&header.metadata).map_err(|error| error.at(Path::new("GGUF in memory")))? {
            None => Ok(Gguf::assemble(header, vec![Shard { bytes, path: None }])),
            Some(place) => Err(GgufError::SplitInMemory { count: place.count }),
        }
    }

    fn open_split(path: &Path, place: SplitPart, shard: Shard, header: Header) -> Result<Gguf, GgufError> {
        let siblings = split::siblings(path, &place).map_err(|error| error.at(path))?;
        let (mut first, mut shards) = (header, vec![shard]);
        for (no, sibling) in (1..).zip(siblings) {
            let (shard, header) = open_shard(&sibling)
                .map_err(|error| split::missing(error, no, place.count, path, &sibling))?;
            split::check_sibling(&place, no, &header.metadata).map_err(|error| error.at(&sibling))?;
            first
                .tensors
                .extend(header.tensors.into_iter().map(|info| TensorInfo { shard: shards.len(), ..info }));
            shards.push(shard);
        }
        split::check_total(&place, first.tensors.len()).map_err(|error| error.at(path))?;
        first.by_name = NameIndex::new(&first.tensors, TensorInfo::name)
            .map_err(|duplicate| split::duplicate_tensor(&first.tensors, &shards, &duplicate))?;
        Ok(Gguf::assemble(first, shards))
    }

    fn assemble(header: Header, shards: Vec<Shard>) -> Gguf {
        let Header { version, metadata, alignment, tensors, by_name } = header;
        Gguf { version, alignment, metadata, tensors, by_name, shards }
    }

    /// The format's version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data in bytes (for a split model, of its first part).
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The key-value pairs; for a split model, those of the first part.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the parts and of each file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes as u64).sum()
    }

    /// Number of weights: the elements of all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.shape.elements() as u64).sum()
    }

    /// The dtype with the largest share of the bytes; `None` without tensors.
    pub fn main_dtype(&self) -> Option<DType> {
        let mut sums: Vec<(DType, u64)> = Vec::new();
        for tensor in &self.tensors {
            match sums.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
                Some((_, sum)) => *sum += tensor.bytes as u64,
                None => sums.push((tensor.dtype, tensor.bytes as u64)),
            }
        }
        sums.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(dtype, _)| dtype)
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.find(&self.tensors, TensorInfo::name, name)
    }

    /// A tensor's data in place. It starts at a multiple of 8 bytes.
    ///
    /// # Panics
    /// If `info` comes from another model and reaches past the end of this one's files.
    pub fn data(&self, info: &TensorInfo) -> &[u8] {
        &self.shards[info.shard].bytes.as_slice()[info.offset..][..info.bytes]
    }

    /// The number of files of the model; 1 unless it is split.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The files of the model; empty for a model in memory.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().filter_map(|shard| shard.path.as_deref())
    }

    /// The total length of all files in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes.as_slice().len() as u64).sum()
    }

    /// Checks that the files are still as long as when they were opened.
    ///
    /// # Errors
    /// [`GgufError::Shrunk`] names a shorter file, which must not be read any more.
    pub fn check_length(&self) -> Result<(), GgufError> {
        self.shards
            .iter()
            .filter_map(|shard| Some((shard, shard.path.as_ref()?)))
            .try_for_each(|(shard, path)| shard.bytes.check_length(path))
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, pairs, tensors) = (self.version, self.metadata.len(), self.tensors.len());
        write!(f, "Gguf {{ version: {version}, metadata: {pairs}, tensors: {tensors}, ")?;
        write!(f, "files: {}, bytes: {} }}", self.shard_count(), self.total_bytes())
    }
}
