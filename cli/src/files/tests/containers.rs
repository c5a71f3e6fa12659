//! `.npz` and `.safetensors`: which array is meant, and where it lies.

use super::*;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

pub(super) fn npz(members: &[(&str, &[u8])], method: CompressionMethod, zip64: bool) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method).large_file(zip64)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn first_values(source: &Source) -> Vec<f64> {
    let mut values = Vec::new();
    source.read_f64(0..source.shape().iter().product(), &mut values).unwrap();
    values
}

#[test]
fn members_by_name() {
    let folder = Folder::new();
    let a = npy_of("<f4", &[4], false, &floats(4));
    let b = npy_of("<f4", &[2, 3], true, &floats(6));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        for zip64 in [false, true] {
            folder.put("x.npz", &npz(&[("a.npy", &a), ("b.npy", &b), ("notes.txt", b"hello")], method, zip64));
            assert_eq!(first_values(&folder.open("x.npz:a").unwrap()), [0.0, 1.0, 2.0, 3.0]);
            for name in ["x.npz:b", "x.npz:b.npy"] {
                assert_eq!(first_values(&folder.open(name).unwrap()), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
            }
            assert_eq!(folder.error("x.npz"), "x.npz: holds 2 arrays, so say which, as in x.npz:a; it holds 'a', 'b'");
            assert_eq!(folder.error("x.npz:c"), "x.npz:c: holds no array 'c'; it holds 'a', 'b'");
            assert!(
                folder.error("x.npz:notes.txt").contains("no .npy data")
                    || folder.error("x.npz:notes.txt").contains("cut short")
            );
            folder.put("one.npz", &npz(&[("a.npy", &a)], method, zip64));
            assert_eq!(first_values(&folder.open("one.npz").unwrap()), [0.0, 1.0, 2.0, 3.0]);
        }
    }
    folder.put("none.npz", &npz(&[], CompressionMethod::Stored, false));
    assert_eq!(folder.error("none.npz"), "none.npz: holds no array");
}

#[test]
fn large_members() {
    let folder = Folder::new();
    let shape = [500, 1000];
    let member = npy_of("<f8", &shape, false, &data(Dtype::F64, &shape, false, false));
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        folder.put("x.npz", &npz(&[("other.npy", b"?"), ("a.npy", &member)], method, false));
        let source = folder.open("x.npz:a").unwrap();
        let mut rows = Vec::new();
        source.read_rows_f32(1, 123..130, &mut rows).unwrap();
        assert!(rows.iter().zip(123_000..).all(|(&v, i)| f64::from(v) == value(Dtype::F64, i)));
    }
}

/// All sizes and offsets behind zip64 markers, end record included, as archives over 4 GiB have them.
#[test]
fn zip64_throughout() {
    let folder = Folder::new();
    let member = npy_of("<f4", &[4], false, &floats(4));
    let size = member.len() as u64;
    let both = |bytes: &mut Vec<u8>, extra: &[u64]| {
        bytes.extend(b"a.npy");
        bytes.extend([1, 0]);
        bytes.extend((extra.len() as u16 * 8).to_le_bytes());
        bytes.extend(extra.iter().flat_map(|value| value.to_le_bytes()));
    };
    let mut zip = b"PK\x03\x04\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    zip.extend([0xff; 8]);
    zip.extend([5, 0, 20, 0]);
    both(&mut zip, &[size, size]);
    zip.extend(&member);
    let directory = zip.len() as u64;
    zip.extend(b"PK\x01\x02\x2d\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0");
    zip.extend([0xff; 8]);
    zip.extend([5, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    both(&mut zip, &[size, size, 0]);
    let end = zip.len() as u64;
    zip.extend(b"PK\x06\x06");
    zip.extend(44_u64.to_le_bytes());
    zip.extend(*b"\x2d\0\x2d\0\0\0\0\0\0\0\0\0");
    let counts_and_place: [u64; 4] = [1, 1, end - directory, directory];
    zip.extend(counts_and_place.iter().flat_map(|value| value.to_le_bytes()));
    zip.extend(b"PK\x06\x07\0\0\0\0");
    zip.extend(end.to_le_bytes());
    zip.extend(1_u32.to_le_bytes());
    zip.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff");
    zip.extend([0xff; 8]);
    zip.extend([0, 0]);
    folder.put("x.npz", &zip);
    assert_eq!(first_values(&folder.open("x.npz:a").unwrap()), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn inflated_members_are_bounded() {
    let folder = Folder::new();
    // Ten MB behind an array of four numbers: kept out, but not an error, since .npy allows bytes after the data.
    let mut member = npy_of("<f4", &[4], false, &floats(4));
    member.extend(vec![0; 10 << 20]);
    folder.put("x.npz", &npz(&[("a.npy", &member)], CompressionMethod::Deflated, false));
    let source = folder.open("x.npz").unwrap();
    assert_eq!(source.array().file.metadata().unwrap().len(), 16);
    assert_eq!(first_values(&source), [0.0, 1.0, 2.0, 3.0]);

    // An archive that declares another size than it inflates to.
    let declared = (member.len() as u32).to_le_bytes();
    for other in [member.len() as u32 - 1, member.len() as u32 + 1, 200] {
        let mut bytes = npz(&[("a.npy", &member)], CompressionMethod::Deflated, false);
        let places: Vec<_> = (0..bytes.len() - 3).filter(|&at| bytes[at..at + 4] == declared).collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at..at + 4].copy_from_slice(&other.to_le_bytes());
        }
        folder.put("x.npz", &bytes);
        assert!(folder.error("x.npz").contains("inflate"), "{}", folder.error("x.npz"));
    }

    // Damage that only the checksum shows.
    let mut bytes = npz(&[("a.npy", &npy_of("<f4", &[64], false, &floats(64)))], CompressionMethod::Deflated, false);
    let directory = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[directory + 16] ^= 1;
    folder.put("x.npz", &bytes);
    assert!(folder.error("x.npz").starts_with("x.npz: cannot inflate"), "{}", folder.error("x.npz"));
}

#[test]
fn paths_with_colons() {
    let folder = Folder::new();
    let a = npy_of("<f4", &[4], false, &floats(4));
    let archive = npz(&[("a.npy", &a), ("b:c.npy", &a)], CompressionMethod::Stored, false);
    std::fs::create_dir(folder.path().join("d.npz:e")).unwrap();
    folder.put("d.npz:e/x.npz", &archive);
    folder.put("y:z.npy", &a);
    folder.put("UPPER.NPZ", &archive);
    folder.put("no extension", &a);
    for spec in ["d.npz:e/x.npz:a", "d.npz:e/x.npz:a.npy", "d.npz:e/x.npz:b:c", "y:z.npy", "UPPER.NPZ:a", "no extension"] {
        assert_eq!(folder.open(spec).unwrap().shape(), [4], "{spec}");
        assert_eq!(folder.open(spec).unwrap().name(), folder.spec(spec));
    }
    assert!(folder.error("gone.npz:a").starts_with("gone.npz: cannot open: "));
    assert!(folder.error("gone.npy").starts_with("gone.npy: cannot open: "));
    assert!(folder.error("").contains("not a regular file"));
}

#[test]
fn tensors_by_name() {
    let folder = Folder::new();
    let put = |header: &str, data: &[u8]| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(data);
        folder.put("x.safetensors", &bytes);
    };
    let one = r#"{"__metadata__":{"by":"test"},"a:b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#;
    put(one, &floats(4));
    assert_eq!(first_values(&folder.open("x.safetensors").unwrap()), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(first_values(&folder.open("x.safetensors:a:b").unwrap()), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(folder.error("x.safetensors:c"), "x.safetensors:c: holds no tensor 'c'; it holds 'a:b'");
    put(one, &floats(3));
    assert_eq!(folder.error("x.safetensors"), "x.safetensors: cut short: 12 bytes of data, its header declares 16");
    put(one, &floats(5));
    assert_eq!(folder.error("x.safetensors"), "x.safetensors: 20 bytes of data, its header declares only 16");
    put(
        r#"{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
        &[1; 8],
    );
    assert_eq!(
        folder.error("x.safetensors:a"),
        "x.safetensors:a: elements of type F8_E4M3; only BOOL, integers, F16, BF16, F32 and F64 can be read"
    );
    assert_eq!(first_values(&folder.open("x.safetensors:b").unwrap()), [1.0; 4]);
    assert!(folder.error("x.safetensors").contains("holds 2 tensors"));
    put(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,12]}}"#, &[1; 12]);
    assert!(folder.error("x.safetensors").contains("not a readable .safetensors header"));
    put(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,12]}}"#, &[1; 12]);
    assert!(folder.error("x.safetensors").contains("not a readable .safetensors header"));
    put("{}", &[]);
    assert_eq!(folder.error("x.safetensors"), "x.safetensors: holds no tensor");
    folder.put("x.safetensors", &[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    assert!(folder.error("x.safetensors").contains("its header claims 18446744073709551615 bytes of a file of 10"));
    folder.put("x.safetensors", b"{}");
    assert!(folder.error("x.safetensors").contains("only 2 bytes long"));
}
