//! Reads a code object's metadata about its kernels: registers, memory, spills.
//!
//! AMD's code objects are ELF files whose note `NT_AMDGPU_METADATA` (owner `AMDGPU`, type 32) holds a MessagePack map.
//! Source: LLVM's "User Guide for AMDGPU Backend", sections "Code Object V4 Metadata" and "Clang Offload Bundler".
//! Every read is checked against its bounds: a damaged file is an error.

use object::elf::{FileHeader64, NoteType, SHT_NOTE};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, SectionHeader};
use serde::{Deserialize, Serialize};

/// `NT_AMDGPU_METADATA`.
const METADATA: NoteType = NoteType(32);
const OWNER: &[u8] = b"AMDGPU";
const BUNDLE: &[u8] = b"__CLANG_OFFLOAD_BUNDLE__";
const COMPRESSED: &[u8] = b"CCOB";

/// The reason why a code object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeObjectError {
    /// Neither an ELF file nor a bundle of ELF files.
    #[error("not an ELF file: {0}")]
    NotElf(String),
    /// A bundle with a damaged table, with compression, or without device code.
    #[error("offload bundle: {0}")]
    Bundle(&'static str),
    /// An ELF file without the note.
    #[error("the code object has no metadata note")]
    NoMetadata,
    /// A malformed note.
    #[error("the code object's metadata cannot be read: {0}")]
    Metadata(String),
}

/// A kernel's use of a compute unit's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The kernel's name.
    #[serde(rename(deserialize = ".name"), alias = "name")]
    pub name: String,
    /// Vector registers per lane, including accumulation registers where both share one register file.
    #[serde(rename(deserialize = ".vgpr_count"), alias = "vgprs", default)]
    pub vgprs: u32,
    /// Accumulation registers per lane.
    #[serde(rename(deserialize = ".agpr_count"), alias = "agprs", default)]
    pub agprs: u32,
    /// Scalar registers per wave.
    #[serde(rename(deserialize = ".sgpr_count"), alias = "sgprs", default)]
    pub sgprs: u32,
    /// Bytes of static shared memory per block.
    #[serde(rename(deserialize = ".group_segment_fixed_size"), alias = "lds", default)]
    pub lds: u32,
    /// Bytes of private memory per lane, stored in device memory.
    #[serde(rename(deserialize = ".private_segment_fixed_size"), alias = "scratch", default)]
    pub scratch: u32,
    /// Vector registers that were spilled to memory.
    #[serde(rename(deserialize = ".vgpr_spill_count"), alias = "vgpr_spills", default)]
    pub vgpr_spills: u32,
    /// Scalar registers that were spilled.
    #[serde(rename(deserialize = ".sgpr_spill_count"), alias = "sgpr_spills", default)]
    pub sgpr_spills: u32,
    /// Lanes of a wave.
    #[serde(rename(deserialize = ".wavefront_size"), alias = "wave", default)]
    pub wave: u32,
    /// The largest number of threads per block.
    #[serde(rename(deserialize = ".max_flat_workgroup_size"), alias = "max_threads", default)]
    pub max_threads: u32,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "amdhsa.kernels", default)]
    kernels: Vec<Resources>,
}

/// The kernels of an AMD code object, in file order.
///
/// # Errors
/// Not an AMD code object, or a damaged one.
pub fn resources(code: &[u8]) -> Result<Vec<Resources>, CodeObjectError> {
    let elf = device_part(code)?;
    let metadata = metadata(elf)?.ok_or(CodeObjectError::NoMetadata)?;
    let metadata: Metadata =
        rmp_serde::from_slice(metadata).map_err(|error| CodeObjectError::Metadata(error.to_string()))?;
    Ok(metadata.kernels)
}

/// The ELF file: the whole input, or a bundle's first part with device code.
fn device_part(code: &[u8]) -> Result<&[u8], CodeObjectError> {
    if code.starts_with(COMPRESSED) {
        return Err(CodeObjectError::Bundle("it is compressed"));
    }
    let Some(table) = code.strip_prefix(BUNDLE) else { return Ok(code) };
    let cut = CodeObjectError::Bundle("its table is cut short");
    let (count, mut table) = word(table).ok_or_else(|| cut.clone())?;
    for _ in 0..count {
        let entry = entry(table).ok_or_else(|| cut.clone())?;
        table = entry.rest;
        // Host parts are empty; their names start with `host-`.
        if entry.size > 0 && !entry.triple.starts_with(b"host") {
            let end = entry.offset.checked_add(entry.size);
            let part = end.and_then(|end| code.get(entry.offset..end));
            return part.ok_or(CodeObjectError::Bundle("a part lies beyond its end"));
        }
    }
    Err(CodeObjectError::Bundle("it has no device code"))
}

/// One line of a bundle's table.
struct Entry<'b> {
    offset: usize,
    size: usize,
    triple: &'b [u8],
    rest: &'b [u8],
}

fn entry(table: &[u8]) -> Option<Entry<'_>> {
    let (offset, table) = word(table)?;
    let (size, table) = word(table)?;
    let (length, table) = word(table)?;
    let (triple, rest) = table.split_at_checked(length)?;
    Some(Entry { offset, size, triple, rest })
}

/// A 64-bit little-endian number, and the bytes after it.
fn word(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (word, rest) = bytes.split_first_chunk::<8>()?;
    Some((usize::try_from(u64::from_le_bytes(*word)).ok()?, rest))
}

/// The text of the metadata note, if there is one.
fn metadata(elf: &[u8]) -> Result<Option<&[u8]>, CodeObjectError> {
    let not_elf = |error: object::read::Error| CodeObjectError::NotElf(error.to_string());
    let header = FileHeader64::<LittleEndian>::parse(elf).map_err(not_elf)?;
    let endian = header.endian().map_err(not_elf)?;
    for section in header.section_headers(endian, elf).map_err(not_elf)? {
        if section.sh_type(endian) != SHT_NOTE {
            continue;
        }
        let Some(mut notes) = section.notes(endian, elf).map_err(not_elf)? else { continue };
        while let Some(note) = notes.next().map_err(not_elf)? {
            if note.n_type(endian) == METADATA && note.name() == OWNER {
                return Ok(Some(note.desc()));
            }
        }
    }
    Ok(None)
}
