//! Every type, order, shape, axis and window against a reference that knows nothing of strides; containers; output;
//! hostile files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod containers;
mod hostile;
mod labels;
mod messages;
mod windows;
mod writer;

use super::dtype::Dtype;
use super::{FileError, Source};
use half::{bf16, f16};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DTYPES: [Dtype; 13] = [
    Dtype::Bool,
    Dtype::I8,
    Dtype::U8,
    Dtype::I16,
    Dtype::U16,
    Dtype::I32,
    Dtype::U32,
    Dtype::I64,
    Dtype::U64,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::F32,
    Dtype::F64,
];

/// The types that `.npy` has.
fn npy_dtypes() -> impl Iterator<Item = (Dtype, &'static str)> {
    let codes = ["b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "", "f4", "f8"];
    DTYPES.into_iter().zip(codes).filter(|(dtype, _)| *dtype != Dtype::Bf16)
}

/// Element `index` of every test array: small, different for neighbours, negative where the type can be.
fn value(dtype: Dtype, index: usize) -> f64 {
    let small = (index % 113) as f64;
    match dtype {
        Dtype::Bool => (index % 3 % 2) as f64,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => small,
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => small - 50.0,
        Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => small - 60.0,
    }
}

fn encode(dtype: Dtype, value: f64, big_endian: bool) -> Vec<u8> {
    let mut bytes = match dtype {
        Dtype::Bool | Dtype::U8 => vec![value as u8],
        Dtype::I8 => (value as i8).to_le_bytes().to_vec(),
        Dtype::I16 => (value as i16).to_le_bytes().to_vec(),
        Dtype::U16 => (value as u16).to_le_bytes().to_vec(),
        Dtype::I32 => (value as i32).to_le_bytes().to_vec(),
        Dtype::U32 => (value as u32).to_le_bytes().to_vec(),
        Dtype::I64 => (value as i64).to_le_bytes().to_vec(),
        Dtype::U64 => (value as u64).to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F64 => value.to_le_bytes().to_vec(),
    };
    if big_endian {
        bytes.reverse();
    }
    bytes
}

/// The index on each axis of element `index` in row-major order.
fn unravel(shape: &[usize], mut index: usize) -> Vec<usize> {
    let mut indices = vec![0; shape.len()];
    for (place, &length) in indices.iter_mut().zip(shape).rev() {
        (*place, index) = (index % length, index / length);
    }
    indices
}

/// The data of an array of which element `i` in row-major order is `value(dtype, i)`.
fn data(dtype: Dtype, shape: &[usize], big_endian: bool, fortran: bool) -> Vec<u8> {
    let count = shape.iter().product();
    let mut elements = vec![Vec::new(); count];
    for index in 0..count {
        let place = if fortran {
            let indices = unravel(shape, index);
            indices.iter().zip(shape).rev().fold(0, |place, (&i, &length)| place * length + i)
        } else {
            index
        };
        elements[place] = encode(dtype, value(dtype, index), big_endian);
    }
    elements.concat()
}

fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    bytes
}

fn tuple(shape: &[usize]) -> String {
    let lengths: Vec<_> = shape.iter().map(ToString::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    format!("({}{comma})", lengths.join(", "))
}

fn npy_of(descr: &str, shape: &[usize], fortran: bool, data: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    npy(&format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {}, }}\n", tuple(shape)), data)
}

fn floats(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

/// A folder of files that goes away with it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn spec(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    fn open(&self, name: &str) -> Result<Source, FileError> {
        Source::open(&self.spec(name))
    }

    /// The error's line without the folder.
    fn error(&self, name: &str) -> String {
        self.plain(&self.open(name).unwrap_err())
    }

    fn plain(&self, error: &FileError) -> String {
        error.to_string().replace(&self.spec(""), "")
    }
}

/// All of a source, through every kind of read.
fn read_everything(source: &Source) -> Result<(), FileError> {
    let elements: usize = source.shape().iter().product();
    let (mut rows, mut whole, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    source.read_f64(0..elements, &mut numbers)?;
    assert_eq!(numbers.len(), elements);
    for (axis, &length) in source.shape().iter().enumerate() {
        if let Some(count) = elements.checked_div(length) {
            source.read_rows_f32(axis, 0..count, &mut rows)?;
            assert_eq!(rows.len(), elements);
        }
    }
    source.read_labels(0..elements, 5, &mut whole)
}
