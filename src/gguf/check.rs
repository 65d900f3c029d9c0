//! Properties that hold for any bytes: shared by the mutation tests and the fuzz target.

use super::error::Fault;
use super::format::is_alignment;
use super::parse::{self, Header};
use super::writer::{GgufWriter, WriteError};

/// Parses `bytes` as a file and, if they are accepted, uses everything in it.
///
/// # Panics
/// If the reader broke a guarantee: data outside the file, misaligned or overlapping; a name that is not found; or a
/// file that changes when it is written and read again.
#[doc(hidden)]
pub fn check_bytes(bytes: &[u8]) -> Result<(), Fault> {
    let header = parse::parse(bytes)?;
    check_tensors(&header, bytes);
    for (key, value) in header.metadata.iter() {
        assert!(header.metadata.get(key).is_some(), "key {key:?} is not found");
        assert!(!value.to_string().is_empty());
    }
    let written = rewrite(&header, bytes).unwrap_or_else(|error| panic!("accepted, not written: {error}"));
    let again = parse::parse(&written).unwrap_or_else(|fault| panic!("written, not accepted: {fault}"));
    check_tensors(&again, &written);
    let twice = rewrite(&again, &written).unwrap_or_else(|error| panic!("not written again: {error}"));
    assert!(written == twice, "the file changed when it was written again");
    Ok(())
}

fn check_tensors(header: &Header, bytes: &[u8]) {
    assert!(is_alignment(header.alignment));
    let mut ranges = Vec::new();
    for info in &header.tensors {
        let data = &bytes[info.offset..][..info.bytes];
        assert!(!data.is_empty(), "tensor {:?} is empty", info.name);
        let found = header.by_name.find(&header.tensors, |info| info.name(), &info.name);
        assert_eq!(found, Some(info));
        ranges.push((info.offset, info.bytes));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "data overlap");
    assert!(ranges.iter().all(|(offset, _)| offset.is_multiple_of(header.alignment)), "data misaligned");
}

fn rewrite(header: &Header, bytes: &[u8]) -> Result<Vec<u8>, WriteError> {
    let mut writer = GgufWriter::new();
    for (key, value) in header.metadata.iter() {
        // The reader accepts any integer type as an alignment; the writer, following the format, only u32.
        match key {
            "general.alignment" => writer.set(key, header.alignment as u32)?,
            _ => writer.set(key, value.clone())?,
        };
    }
    for info in &header.tensors {
        writer.tensor(&info.name, info.dtype, info.shape, &bytes[info.offset..][..info.bytes])?;
    }
    let mut out = Vec::new();
    writer.write(&mut out)?;
    Ok(out)
}
