//! Headers of all kinds, and what is said about bad ones.

use super::*;

#[test]
fn headers_as_writers_differ() {
    let folder = Folder::new();
    for header in [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n",
        "{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}",
        " \t{ 'shape' : ( 2L , 3L , ) , 'descr' : '<f4' , 'fortran_order' : False\n}\n",
        "{'shape': (0000002, 3), 'descr': '=f4', 'fortran_order': False}",
    ] {
        folder.put("a.npy", &npy(header, &floats(6)));
        assert_eq!(folder.open("a.npy").unwrap().shape(), [2, 3], "{header}");
        for version in [2, 3] {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            bytes.extend((header.len() as u32).to_le_bytes());
            bytes.extend(header.bytes());
            bytes.extend(floats(6));
            // Bytes after the data, as numpy allows.
            bytes.extend(b"trailing");
            folder.put("a.npy", &bytes);
            assert_eq!(folder.open("a.npy").unwrap().shape(), [2, 3], "{header}");
        }
    }
    folder.put("a.npy", &npy("{'shape': (), 'descr': '?', 'fortran_order': True}", &[1]));
    let source = folder.open("a.npy").unwrap();
    assert_eq!((source.shape(), source.dtype_name()), (&[][..], "bool"));
}

#[test]
fn bad_headers() {
    let folder = Folder::new();
    let header = |descr: &str, shape: &str| format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}");
    for (header, problem) in [
        (header("'|O'", "(2,)"), "elements of type '|O'; only bool, integers and float16, 32, 64 can be read"),
        (header("'<c8'", "(2,)"), "elements of type '<c8'; "),
        (header("'<U5'", "(2,)"), "elements of type '<U5'; "),
        (header("'<M8[s]'", "(2,)"), "elements of type '<M8[s]'; "),
        (header("''", "(2,)"), "elements of type ''; "),
        (header("[('x', '<f4')]", "(2,)"), "elements of a structured type, '[('x', '<f4')]"),
        (header("'<f4'", "(-2,)"), "its shape has a negative length"),
        (header("'<f4'", "(2)"), "its shape (2) is a number, not a tuple"),
        (header("'<f4'", "(2.0,)"), "its header has '.0,)}' at byte"),
        (
            header("'<f4'", "(1208925819614629174706176,)"),
            "its shape has the length '1208925819614629174706176', more than any file holds",
        ),
        (
            header("'<f4'", "(1099511627776, 1099511627776)"),
            "24 bytes of data, the shape [1099511627776, 1099511627776] of float32 needs more than any file holds",
        ),
        (
            header("'<f4'", "(1099511627776, 0, 1099511627776)"),
            "24 bytes of data, the shape [1099511627776, 0, 1099511627776] of float32 needs more",
        ),
        (header("'<f4'", "(7,)"), "cut short: 24 bytes of data, the shape [7] of float32 needs 28"),
        ("{'descr': '<f4', 'shape': (2,)}".into(), "its header lacks the key 'fortran_order'"),
        ("{'descr': '<f4', 'descr': '<f4', 'shape': (2,)}".into(), "its header has the key 'descr' twice"),
        ("{'descr': '<f4', 'colour': 'red'}".into(), "its header has the unknown key 'colour'"),
        (
            "{'descr': '<f4', 'fortran_order': Maybe}".into(),
            "its header has 'Maybe}' at byte 34 where True or False should stand",
        ),
        ("{'descr': '<f4".into(), "its header has a string without end"),
        ("{'descr': '<f4',".into(), "its header ends where a string should stand"),
        (String::new(), "its header ends where '{' should stand"),
        ("{'descr': 'ü'}".into(), "its header is not ASCII"),
        (header("'<f4'", "(2,)") + "import os", "its header has 'import os' at byte 55 where the end should stand"),
    ] {
        folder.put("a.npy", &npy(&header, &floats(6)));
        let error = folder.error("a.npy");
        assert!(error.strip_prefix("a.npy: ").unwrap().starts_with(problem), "{error}\n{problem}");
    }
}

#[test]
fn bad_beginnings() {
    let folder = Folder::new();
    for (bytes, problem) in [
        (&b"\x93NUMPX\x01\x00rest"[..], "no .npy data: starts with the bytes [93, 4e, 55, 4d, 50, 58]"),
        (b"\x93NUMPY\x09\x00rest", "version 9 of the .npy format; 1, 2 and 3 are known"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7frest", "its header claims 2147483647 bytes; the limit is 1048576"),
        (b"\x93NUMPY\x01\x00\xff\xffrest", "cut short inside its header"),
        (b"\x93NUM", "cut short inside its header"),
        (b"", "cut short inside its header"),
    ] {
        folder.put("a.npy", bytes);
        assert_eq!(folder.error("a.npy"), format!("a.npy: {problem}"));
    }
    folder.put("a.npz", b"\x93NUMPY");
    assert_eq!(folder.error("a.npz"), "a.npz: not a .npz file: starts with the bytes [93, 4e, 55, 4d]");
    folder.put("a.npz", b"PK\x03\x04");
    assert!(folder.error("a.npz").starts_with("a.npz: not a readable .npz: "));
    folder.put("a.bin", b"whatever");
    assert_eq!(folder.error("a.bin"), "a.bin: neither .npy, .npz nor .safetensors");
}

#[test]
fn values_that_are_no_class_indices() {
    let folder = Folder::new();
    let mut whole = Vec::new();
    let mut read = |value: f64| {
        let mut values = [3.0; 10];
        values[7] = value;
        folder.put("a.npy", &npy_of("<f8", &[2, 5], false, &values.map(f64::to_le_bytes).concat()));
        let source = folder.open("a.npy").unwrap();
        source.read_labels(5..10, 4, &mut whole).map(|()| whole.clone()).map_err(|error| folder.plain(&error))
    };
    assert_eq!(read(-0.0).unwrap(), [3, 3, 0, 3, 3]);
    assert_eq!(read(-9_223_372_036_854_775_808.0).unwrap()[2], i64::MIN);
    assert_eq!(read(2.5).unwrap_err(), "a.npy: row 7: 2.5 is not a whole number, so none of the 4 classes");
    assert_eq!(read(f64::NAN).unwrap_err(), "a.npy: row 7: NaN is not a whole number, so none of the 4 classes");
    assert_eq!(read(f64::INFINITY).unwrap_err(), "a.npy: row 7: inf is not a whole number, so none of the 4 classes");
    assert_eq!(
        read(9_223_372_036_854_775_808.0).unwrap_err(),
        "a.npy: row 7: class index 9.223372036854776e18 is not among the 4 classes"
    );

    let values = [1, u64::MAX, 1 << 63].map(u64::to_be_bytes).concat();
    folder.put("u.npy", &npy_of(">u8", &[3], false, &values));
    let source = folder.open("u.npy").unwrap();
    let error = source.read_labels(0..3, 4, &mut whole).unwrap_err();
    assert_eq!(folder.plain(&error), "u.npy: row 1: class index 18446744073709551615 is not among the 4 classes");
    let error = source.read_labels(2..3, 4, &mut whole).unwrap_err();
    assert_eq!(folder.plain(&error), "u.npy: row 2: class index 9223372036854775808 is not among the 4 classes");
}

#[test]
fn a_file_that_shrinks() {
    let folder = Folder::new();
    let path = folder.put("a.npy", &npy_of("<f4", &[1000, 10], false, &floats(10_000)));
    let source = folder.open("a.npy").unwrap();
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(20_000).unwrap();
    let (mut rows, mut whole) = (Vec::new(), Vec::new());
    source.read_rows_f32(1, 0..400, &mut rows).unwrap();
    for error in [
        source.read_rows_f32(1, 0..1000, &mut rows).unwrap_err(),
        source.read_rows_f32(0, 0..10, &mut rows).unwrap_err(),
        source.read_labels(9000..9001, 4, &mut whole).unwrap_err(),
    ] {
        assert!(folder.plain(&error).starts_with("a.npy: became shorter while it was read: "), "{error}");
    }
}

#[test]
fn a_message_is_one_line() {
    assert_eq!(FileError::new("a\nb", "c\u{1b}[2Jd\r").to_string(), "a\\nb: c\\u{1b}[2Jd\\r");
}
