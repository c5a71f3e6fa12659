//! Arrays as the files that the program reads, written and read without any of its code.

use std::io::{Cursor, Write};

use half::{bf16, f16};
use serde_json::{Map, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Numbers in row-major order. Types are named as `.npy` names them, with `<b2` for the bfloat16 that it lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(shape: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "values of shape {shape:?}");
        Self { shape: shape.to_vec(), values }
    }

    /// One axis of whole numbers.
    pub fn labels(labels: &[i64]) -> Self {
        Self::new(&[labels.len()], labels.iter().map(|&label| label as f64))
    }

    /// The same numbers under another shape.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        Self::new(shape, self.values.clone())
    }

    /// The same array with its last axis moved to `place`.
    pub fn with_last_axis_at(&self, place: usize) -> Self {
        let (&last, rest) = self.shape.split_last().unwrap();
        let inner: usize = rest[place..].iter().product();
        let outer: usize = rest[..place].iter().product();
        let mut shape = rest.to_vec();
        shape.insert(place, last);
        let indices = (0..outer).flat_map(|o| (0..last).flat_map(move |l| (0..inner).map(move |i| (o, l, i))));
        Self::new(&shape, indices.map(|(o, l, i)| self.values[(o * inner + i) * last + l]))
    }

    /// The values as a type holds them.
    pub fn rounded(&self, descr: &str) -> Self {
        let round = |value: f64| match &descr[1..] {
            "f2" => f16::from_f64(value).to_f64(),
            "b2" => bf16::from_f64(value).to_f64(),
            "f4" => f64::from(value as f32),
            other => panic!("nothing rounds to {other}"),
        };
        Self::new(&self.shape, self.values.iter().map(|&value| round(value)))
    }

    /// As float32, for the oracle.
    pub fn floats(&self) -> Vec<f32> {
        self.values.iter().map(|&value| value as f32).collect()
    }

    /// A `.npy` in C order.
    pub fn npy(&self, descr: &str) -> Vec<u8> {
        npy(&header(descr, false, &self.shape), &self.bytes(descr))
    }

    /// A `.npy` in Fortran order.
    pub fn fortran_npy(&self, descr: &str) -> Vec<u8> {
        // Fortran order is the row-major order of the array with its axes reversed.
        let mut reversed = self.clone();
        for place in 0..self.shape.len().saturating_sub(1) {
            reversed = reversed.with_last_axis_at(place);
        }
        npy(&header(descr, true, &self.shape), &reversed.bytes(descr))
    }

    /// The elements alone, in row-major order.
    pub fn bytes(&self, descr: &str) -> Vec<u8> {
        self.values.iter().flat_map(|&value| encode(descr, value)).collect()
    }
}

fn encode(descr: &str, value: f64) -> Vec<u8> {
    let mut bytes = match &descr[1..] {
        "b1" => vec![u8::from(value != 0.0)],
        "i1" => (value as i8).to_le_bytes().to_vec(),
        "u1" => (value as u8).to_le_bytes().to_vec(),
        "i2" => (value as i16).to_le_bytes().to_vec(),
        "u2" => (value as u16).to_le_bytes().to_vec(),
        "i4" => (value as i32).to_le_bytes().to_vec(),
        "u4" => (value as u32).to_le_bytes().to_vec(),
        "i8" => (value as i64).to_le_bytes().to_vec(),
        "u8" => (value as u64).to_le_bytes().to_vec(),
        "f2" => f16::from_f64(value).to_le_bytes().to_vec(),
        "b2" => bf16::from_f64(value).to_le_bytes().to_vec(),
        "f4" => (value as f32).to_le_bytes().to_vec(),
        "f8" => value.to_le_bytes().to_vec(),
        other => panic!("no type is called {other}"),
    };
    if descr.starts_with('>') {
        bytes.reverse();
    }
    bytes
}

/// The dictionary of a `.npy`.
pub fn header(descr: &str, fortran: bool, shape: &[usize]) -> String {
    let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
    // One length needs the comma that the last of several may have, too; none must not have it.
    let lengths = lengths.join(", ") + if lengths.is_empty() { "" } else { "," };
    let fortran = if fortran { "True" } else { "False" };
    format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({lengths}), }}\n")
}

/// A `.npy` of version 1 with this dictionary and this data.
pub fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap();
    [&b"\x93NUMPY\x01\x00"[..], &length.to_le_bytes(), header.as_bytes(), data].concat()
}

/// A `.npz` of these members, which are named without `.npy`.
pub fn npz(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("{name}.npy"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A `.safetensors` of these tensors and types, laid out in their order.
pub fn safetensors(tensors: &[(&str, &str, &Array)]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, descr, array) in tensors {
        let dtype = match &descr[1..] {
            "b1" => "BOOL".to_owned(),
            "b2" => "BF16".to_owned(),
            code => format!("{}{}", code[..1].to_uppercase(), 8 * code[1..].parse::<u32>().unwrap()),
        };
        let start = data.len();
        data.extend(array.bytes(descr));
        let tensor = json!({ "dtype": dtype, "shape": array.shape, "data_offsets": [start, data.len()] });
        header.insert((*name).to_owned(), tensor);
    }
    safetensors_of(&serde_json::Value::from(header).to_string(), &data)
}

/// A `.safetensors` with this header and this data.
pub fn safetensors_of(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The numbers of a `.npy` of version 1 in C order, and their type.
pub fn read_npy(bytes: &[u8]) -> (String, Array) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "magic and version");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    assert!(header.contains("'fortran_order': False"), "{header}");
    let between = |before: &str, after: char| {
        let start = header.find(before).unwrap() + before.len();
        &header[start..start + header[start..].find(after).unwrap()]
    };
    let shape: Vec<usize> =
        between("'shape': (", ')').split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().unwrap()).collect();
    let descr = between("'descr': '", '\'').to_owned();
    let data = &bytes[end..];
    let values: Vec<f64> = match descr.as_str() {
        "<f4" => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        "<i8" => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => panic!("elements of type {other}"),
    };
    assert_eq!(data.len() % values.len().max(1), 0, "bytes left over");
    (descr, Array::new(&shape, values))
}
