//! Where a tensor lies inside a `.safetensors`: eight bytes of header length, a JSON header, the data.

use super::dtype::Dtype;
use super::npy::Header;
use super::source::{Array, FileSection};
use super::{FileError, excerpt, names_text};
use safetensors::tensor::{Dtype as StoredDtype, Metadata};
use std::fs::File;
use std::io::Read;

/// The format's own limit on its header.
const LONGEST: u64 = 100_000_000;

/// Finds and checks the tensor `name`, or the only one.
pub(super) fn open(spec: &str, file: File, name: Option<&str>) -> Result<Array, FileError> {
    let fail = |problem: &dyn std::fmt::Display| FileError::new(spec, problem);
    let file_length = file.metadata().map_err(|error| fail(&error))?.len();
    let section = FileSection { file, start: 0, length: file_length };
    let mut reader = section.reader();
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes).map_err(|_| fail(&format_args!("not a .safetensors file: only {file_length} bytes long")))?;
    let header_length = u64::from_le_bytes(bytes);
    if header_length > LONGEST || header_length > file_length.saturating_sub(8) {
        return Err(fail(&format_args!(
            "not a .safetensors file, or cut short: its header claims {header_length} bytes of a file of {file_length}"
        )));
    }
    let mut text = vec![0; header_length as usize];
    reader.read_exact(&mut text).map_err(|error| fail(&format_args!("cannot read its header: {error}")))?;
    if text.first() != Some(&b'{') {
        return Err(fail(&"not a .safetensors file: its header is no JSON object"));
    }
    // Checks that the tensors follow each other without gaps and that each has the size of its shape.
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| fail(&format_args!("not a readable .safetensors header: {error}")))?;

    let data_start = 8 + header_length;
    let (present, declared) = (file_length - data_start, metadata.data_len() as u64);
    if present < declared {
        return Err(fail(&format_args!("cut short: {present} bytes of data, its header declares {declared}")));
    }
    // The format has nothing after the data: a longer file is not the one that its header describes.
    if present > declared {
        return Err(fail(&format_args!("{present} bytes of data, its header declares only {declared}")));
    }

    let name = match name {
        Some(name) => name.to_owned(),
        None => match &metadata.offset_keys()[..] {
            [] => return Err(fail(&"holds no tensor")),
            [name] => name.clone(),
            names => {
                return Err(fail(&format_args!(
                    "holds {} tensors, so say which, as in {spec}:{}; it holds {}",
                    names.len(),
                    names[0],
                    names_text(names)
                )));
            }
        },
    };
    let info = metadata.info(&name).ok_or_else(|| {
        fail(&format_args!("holds no tensor {}; it holds {}", excerpt(&name), names_text(&metadata.offset_keys())))
    })?;
    let header = Header {
        dtype: parse_dtype(spec, info.dtype)?,
        big_endian: false,
        fortran: false,
        shape: info.shape.clone(),
        length: 0,
    };
    let (start, end) = info.data_offsets;
    Array::new(spec, FileSection { file: section.file, start: data_start + start as u64, length: (end - start) as u64 }, header)
}

fn parse_dtype(spec: &str, dtype: StoredDtype) -> Result<Dtype, FileError> {
    Ok(match dtype {
        StoredDtype::BOOL => Dtype::Bool,
        StoredDtype::I8 => Dtype::I8,
        StoredDtype::U8 => Dtype::U8,
        StoredDtype::I16 => Dtype::I16,
        StoredDtype::U16 => Dtype::U16,
        StoredDtype::I32 => Dtype::I32,
        StoredDtype::U32 => Dtype::U32,
        StoredDtype::I64 => Dtype::I64,
        StoredDtype::U64 => Dtype::U64,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::BF16 => Dtype::Bf16,
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F64 => Dtype::F64,
        other => {
            return Err(FileError::new(
                spec,
                format_args!("elements of type {other:?}; only BOOL, integers, F16, BF16, F32 and F64 can be read"),
            ));
        }
    })
}
