//! Storage of a file's bytes: a memory map, or memory.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::GgufError;
use super::format::BASE_ALIGNMENT;

/// A file's bytes, for [`Gguf::from_bytes`](super::Gguf::from_bytes): static, which are not copied, or shared.
pub struct Bytes(Storage);

enum Storage {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    /// The open file is kept to check its length later.
    Map(Mmap, File),
}

impl Bytes {
    /// Maps a file for reading.
    pub(super) fn map(path: &Path) -> Result<Bytes, GgufError> {
        let failed = |source| GgufError::Open { path: path.to_owned(), source };
        // Checked before opening, which blocks on a pipe without a writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() == 0 {
            return Ok(Bytes(Storage::Static(&[])));
        }
        // SAFETY: the map is read-only and as long as the file was when it was mapped. Another
        // process may write to the file (the bytes change under a shared reference) or shorten it
        // (touching the lost pages raises SIGBUS); the operating system offers no way to exclude that. `Gguf::open` names the risk, everything but tensor data is
        // copied while parsing, and tensor data are plain numbers for which every bit pattern is
        // valid, so no checked property is lost when they change.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        Ok(Bytes(Storage::Map(map, file)))
    }

    /// True if tensors in these bytes can be read in place.
    pub(super) fn is_aligned(&self) -> bool {
        self.as_slice().as_ptr().addr().is_multiple_of(BASE_ALIGNMENT)
    }

    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Storage::Static(bytes) => bytes,
            Storage::Shared(bytes) => bytes,
            Storage::Map(map, _) => map,
        }
    }

    /// An error if the mapped file at `path` is now shorter than its map.
    pub(super) fn check_length(&self, path: &Path) -> Result<(), GgufError> {
        let Storage::Map(map, file) = &self.0 else { return Ok(()) };
        let metadata = file.metadata();
        let now = metadata.map_err(|source| GgufError::Open { path: path.to_owned(), source })?.len();
        let opened = map.len() as u64;
        if now < opened {
            return Err(GgufError::Shrunk { path: path.to_owned(), opened, now });
        }
        Ok(())
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Bytes {
        Bytes(Storage::Static(bytes))
    }
}

impl<const N: usize> From<&'static [u8; N]> for Bytes {
    fn from(bytes: &'static [u8; N]) -> Bytes {
        Bytes(Storage::Static(bytes))
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Bytes {
        Bytes(Storage::Shared(bytes))
    }
}

impl From<Vec<u8>> for Bytes {
    /// Copies once into shared memory.
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(Storage::Shared(bytes.into()))
    }
}

/// A value aligned to 64 bytes. `include_bytes!` alone guarantees no alignment, which a model embedded in a program
/// needs:
///
/// ```
/// use rfgraph::gguf::{Aligned, Gguf};
///
/// static MODEL: &Aligned<[u8]> =
///     &Aligned(*include_bytes!("../../tests/fixtures/stories260K/stories260K-Q4_0.gguf"));
///
/// let gguf = Gguf::from_bytes(&MODEL.0)?;
/// assert_eq!(gguf.metadata().str("general.architecture")?, "llama");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(
    /// The value.
    pub T,
);
