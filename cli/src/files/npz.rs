//! Where an array lies inside a `.npz`, which is a zip file of `.npy` members.
//!
//! A stored member is read from the archive itself. A deflated one cannot be read from the middle, so it is inflated
//! once into an unnamed temporary file, of exactly the size that its own header asks for.

use super::npy::{self, Header};
use super::source::{Array, FileSection};
use super::{FileError, excerpt, names_text};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use zip::{CompressionMethod, ZipArchive};

/// Bytes inflated at a time.
const BLOCK: usize = 256 << 10;

/// Finds and checks the array `member` of the archive, or its only one.
pub(super) fn open(spec: &str, file: File, member: Option<&str>) -> Result<Array, FileError> {
    let fail = |problem: &dyn std::fmt::Display| FileError::new(spec, problem);
    let zip_error = |error: zip::result::ZipError| FileError::new(spec, format_args!("not a readable .npz: {error}"));
    let length = file.metadata().map_err(|error| fail(&error))?.len();
    let mut archive = ZipArchive::new(BufReader::new(&file)).map_err(zip_error)?;
    let index = find(spec, &archive, member)?;

    // Raw: the decoder is not wanted yet, and a stored member never needs one.
    let entry = archive.by_index_raw(index).map_err(zip_error)?;
    if entry.encrypted() {
        return Err(fail(&"the member is encrypted"));
    }
    let (method, size, packed, start) = (entry.compression(), entry.size(), entry.compressed_size(), entry.data_start());
    drop(entry);
    match method {
        CompressionMethod::Stored => {
            drop(archive);
            let start = start.unwrap_or(u64::MAX);
            if size != packed || start.checked_add(size).is_none_or(|end| end > length) {
                return Err(fail(&format_args!(
                    "the archive is damaged: a stored member of {size} bytes (packed: {packed}) at byte {start} of {length}"
                )));
            }
            Array::from_npy(spec, FileSection { file, start, length: size })
        }
        CompressionMethod::Deflated => {
            let mut member = archive.by_index(index).map_err(zip_error)?;
            let header = npy::read_header(&mut member).map_err(|problem| fail(&problem))?;
            let needed = header.check_size(spec, size.saturating_sub(header.length))?;
            let file = inflate(spec, &mut member, &header, needed, size)?;
            Ok(Array { file, start: 0, header })
        }
        other => {
            Err(fail(&format_args!("the member is compressed by {other:?}; only stored and deflated members can be read")))
        }
    }
}

/// The index of the member that is meant; `.npy` at the end of a name may be left out, as numpy does.
fn find(spec: &str, archive: &ZipArchive<BufReader<&File>>, member: Option<&str>) -> Result<usize, FileError> {
    let arrays = || archive.file_names().filter_map(Result::ok).filter_map(|name| name.strip_suffix(".npy").map(str::to_owned));
    match member {
        Some(name) => {
            archive.index_for_name(&format!("{name}.npy")).or_else(|| archive.index_for_name(name)).ok_or_else(|| {
                let names: Vec<_> = arrays().collect();
                FileError::new(spec, format_args!("holds no array {}; it holds {}", excerpt(name), names_text(&names)))
            })
        }
        None => match &arrays().collect::<Vec<_>>()[..] {
            [] => Err(FileError::new(spec, "holds no array")),
            [name] => archive.index_for_name(&format!("{name}.npy")).ok_or_else(|| FileError::new(spec, "holds no array")),
            names => {
                let problem = format!(
                    "holds {} arrays, so say which, as in {spec}:{}; it holds {}",
                    names.len(),
                    names[0],
                    names_text(names)
                );
                Err(FileError::new(spec, problem))
            }
        },
    }
}

/// The `needed` bytes of data into a temporary file. The rest, up to the `size` that the archive declares for header and
/// data together, is inflated but not kept: the checksum at its end covers it.
fn inflate(spec: &str, member: &mut impl Read, header: &Header, needed: u64, size: u64) -> Result<File, FileError> {
    let read_failed = |error: std::io::Error| FileError::new(spec, format_args!("cannot inflate: {error}"));
    let write_failed = |error: std::io::Error| {
        let folder = std::env::temp_dir();
        FileError::new(spec, format_args!("cannot inflate into a temporary file in {}: {error}", folder.display()))
    };
    let mut file = tempfile::tempfile().map_err(write_failed)?;
    let mut block = vec![0; BLOCK];
    let mut inflated = header.length;
    let mut missing = needed;
    loop {
        let count = match member.read(&mut block) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(error)),
        };
        inflated += count as u64;
        if inflated > size {
            return Err(FileError::new(spec, format_args!("inflates to more than the {size} bytes that the archive declares")));
        }
        let kept = missing.min(count as u64);
        file.write_all(&block[..kept as usize]).map_err(write_failed)?;
        missing -= kept;
    }
    if inflated != size {
        return Err(FileError::new(spec, format_args!("inflates to {inflated} bytes; the archive declares {size}")));
    }
    Ok(file)
}
