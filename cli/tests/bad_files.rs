//! Files that are missing, damaged, cut, of another kind or lying about themselves: each is refused in one line that names
//! it, whichever role it was given, and nothing is left behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::XorShift;
use support::arrays::{Array, header, npy, npz, safetensors, safetensors_of};
use support::program::Folder;
use support::refusals::{self, CLASSES, ROWS};
use zip::CompressionMethod::{Deflated, Stored};

/// Every file as predictions, as targets and as weights.
#[track_caller]
fn check_in_every_role(folder: &Folder, files: &[(&str, &[&str])]) {
    let runs: Vec<(String, Vec<&str>)> = files
        .iter()
        .flat_map(|(file, words)| {
            // A file that is missing as a whole is named without the member.
            let path = file.split(':').next();
            let words: Vec<&str> = words.iter().copied().chain(path).collect();
            let uses = [
                format!("{file} l.npy"),
                format!("p.npy {file}"),
                format!("p.npy l.npy --sample-weights {file}"),
                format!("p.npy l.npy --class-weights {file}"),
            ];
            uses.map(|files| (format!("evaluate {files} --backend cpu --losses out.npy"), words.clone()))
        })
        .collect();
    refusals::check(folder, runs.iter().map(|(args, words)| (args.as_str(), 1, &words[..])));
}

/// A whole `.npy` of predictions with another dictionary.
fn with_header(header: &str) -> Vec<u8> {
    npy(header, &refusals::predictions().bytes("<f4"))
}

fn with_type(descr: &str) -> Vec<u8> {
    // Room for elements of any size.
    npy(&header(descr, false, &[ROWS, CLASSES]), &[0; ROWS * CLASSES * 32])
}

#[test]
fn what_is_no_npy() {
    let folder = refusals::folder();
    std::fs::create_dir(folder.path("folder")).unwrap();
    std::fs::create_dir(folder.path("folder.npy")).unwrap();
    folder.put("empty.npy", b"");
    folder.put("empty", b"");
    folder.put("text.npy", b"1.0,2.0\n3.0,4.0\n");
    folder.put("text.csv", b"1.0,2.0\n3.0,4.0\n");
    folder.put("version.npy", b"\x93NUMPY\x09\x00\x10\x00{'descr': '<f4'}");
    folder.put("pickle.npy", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.");
    check_in_every_role(
        &folder,
        &[
            ("missing.npy", &[]),
            ("missing/p.npy", &[]),
            ("folder", &[]),
            ("folder.npy", &[]),
            ("empty.npy", &[]),
            ("empty", &[]),
            ("text.npy", &[]),
            ("text.csv", &[]),
            ("version.npy", &["version 9"]),
            ("pickle.npy", &[]),
        ],
    );
}

#[test]
fn headers_that_are_cut_or_lie() {
    let folder = refusals::folder();
    let good = refusals::predictions().npy("<f4");
    let data = good.len() - ROWS * CLASSES * 4;
    for (name, length) in [("magic.npy", 6), ("length.npy", 9), ("cut_header.npy", 40), ("no_data.npy", data)] {
        folder.put(name, &good[..length]);
    }
    folder.put("cut.npy", &good[..good.len() - 1]);

    let of_shape = |shape: &str| with_header(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"));
    folder.put("product.npy", &of_shape("(1099511627776, 1099511627776)"));
    folder.put("length80.npy", &of_shape("(1208925819614629174706176,)"));
    folder.put("length64.npy", &of_shape("(18446744073709551615,)"));
    folder.put("bytes64.npy", &of_shape("(4611686018427387904,)"));
    folder.put("negative.npy", &of_shape("(-12, 4)"));
    folder.put("fraction.npy", &of_shape("(12.0, 4)"));
    folder.put("number.npy", &of_shape("(48)"));
    folder.put("list.npy", &of_shape("[12, 4]"));
    folder.put("long.npy", &of_shape("(12, 5)"));

    folder.put("no_shape.npy", &with_header("{'descr': '<f4', 'fortran_order': False, }"));
    folder.put("twice.npy", &with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (12, 4), 'shape': (4, 12)}"));
    folder.put("other_key.npy", &with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (12, 4), 'x': 1}"));
    folder.put("garbage.npy", &with_header("{{{{'''((("));
    folder.put("lines.npy", &with_header("\n\r\n\x1b[31m{'descr':\n'<\n\r4', 'fortran_order': False, 'shape': (12, 4)}"));
    folder.put("bytes.npy", &[&b"\x93NUMPY\x01\x00\x04\x00"[..], &[0xff, 0xfe, 0x00, 0x80], &[0; 64]].concat());
    // Header lengths: beyond the file, and as long as 32 bits can say.
    folder.put("length1.npy", &[&b"\x93NUMPY\x01\x00\xff\xff"[..], &good[10..]].concat());
    folder.put("length2.npy", &[&b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..], &good[10..]].concat());
    check_in_every_role(
        &folder,
        &[
            ("magic.npy", &[]),
            ("length.npy", &[]),
            ("cut_header.npy", &[]),
            ("no_data.npy", &["0 bytes"]),
            ("cut.npy", &["191 bytes", "192"]),
            ("product.npy", &["1099511627776"]),
            ("length80.npy", &["1208925819614629174706176"]),
            ("length64.npy", &["18446744073709551615"]),
            ("bytes64.npy", &["4611686018427387904"]),
            ("negative.npy", &["negative"]),
            ("fraction.npy", &[]),
            ("number.npy", &["48"]),
            ("list.npy", &[]),
            ("long.npy", &["240", "192"]),
            ("no_shape.npy", &["shape"]),
            ("twice.npy", &["shape"]),
            ("other_key.npy", &["'x'"]),
            ("garbage.npy", &[]),
            ("lines.npy", &[]),
            ("bytes.npy", &[]),
            ("length1.npy", &[]),
            ("length2.npy", &["4294967295"]),
        ],
    );
}

#[test]
fn elements_that_are_no_plain_numbers() {
    let folder = refusals::folder();
    let types = ["|O", "<c8", "<c16", "<U5", "|S4", "<M8[s]", "<f16", "<V4", "<i3", "", "float32"];
    let names: Vec<String> = (0..types.len()).map(|i| format!("type{i}.npy")).collect();
    for (name, descr) in names.iter().zip(types) {
        folder.put(name, &with_type(descr));
    }
    let structured = "{'descr': [('a', '<f4'), ('b', '<i8')], 'fortran_order': False, 'shape': (12, 4)}";
    folder.put("structured.npy", &with_header(structured));
    let mut files: Vec<(&str, [&str; 1])> = names.iter().map(String::as_str).zip(types.map(|descr| [descr])).collect();
    files.push(("structured.npy", ["structured"]));
    let files: Vec<(&str, &[&str])> = files.iter().map(|(name, words)| (*name, &words[..])).collect();
    check_in_every_role(&folder, &files);
}

#[test]
fn archives() {
    let folder = refusals::folder();
    let p = refusals::predictions().npy("<f4");
    folder.put("two.npz", &npz(&[("p", &p), ("q", &p)], Stored));
    folder.put("none.npz", &npz(&[], Stored));
    folder.put("text.npz", &npz(&[("p", b"hello")], Deflated));
    folder.put("cut_member.npz", &npz(&[("p", &p[..p.len() - 1])], Stored));
    folder.put("cut_deflated.npz", &npz(&[("p", &p[..p.len() - 1])], Deflated));
    let one = npz(&[("p", &p)], Stored);
    folder.put("cut.npz", &one[..one.len() - 10]);
    folder.put("start.npz", &one[..40]);
    folder.put("npy.npz", &p);
    folder.put("empty.npz", b"");
    folder.put("zip.npy", &one);
    check_in_every_role(
        &folder,
        &[
            ("two.npz", &["'p'", "'q'"]),
            ("two.npz:r", &["'p'", "'q'", "'r'"]),
            ("two.npz:", &["'p'", "'q'"]),
            ("none.npz", &[]),
            ("none.npz:p", &["'p'"]),
            ("missing.npz:p", &[]),
            ("text.npz", &[]),
            ("cut_member.npz", &["191", "192"]),
            ("cut_deflated.npz:p", &["191", "192"]),
            ("cut.npz", &[]),
            ("start.npz", &[]),
            ("npy.npz", &[]),
            ("empty.npz", &[]),
            ("zip.npy", &[]),
            ("p.npy:p", &[]),
        ],
    );
}

#[test]
fn a_flipped_byte_in_a_deflated_member() {
    let folder = refusals::folder();
    let mut random = XorShift(0x9E37_79B9_7F4A_7C15);
    let values = Array::new(&[200, CLASSES], (0..200 * CLASSES).map(|_| random.unit()));
    let good = npz(&[("p", &values.npy("<f4"))], Deflated);
    folder.put("good.npz", &good);
    folder.put("labels.npy", &Array::new(&[200], [0.0; 200]).npy("|u1"));
    folder.evaluate("cpu", "good.npz labels.npy");
    // The first hundred bytes and the last are the archive's own; all between them are the member's.
    let places = (100..good.len() - 150).step_by(good.len() / 20);
    let names: Vec<String> = places.clone().map(|place| format!("flipped{place}.npz")).collect();
    for (name, place) in names.iter().zip(places) {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        folder.put(name, &bytes);
    }
    let runs = names.iter().map(|name| (format!("evaluate {name} labels.npy --backend cpu --losses out.npy"), [name.as_str()]));
    let runs: Vec<(String, [&str; 1])> = runs.collect();
    refusals::check(&folder, runs.iter().map(|(args, words)| (args.as_str(), 1, &words[..])));
}

#[test]
fn safetensors_that_lie() {
    let folder = refusals::folder();
    let p = refusals::predictions();
    let data = p.bytes("<f4");
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"p\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let whole = tensor("F32", "[12,4]", "[0,192]");
    let good = safetensors_of(&whole, &data);
    for (name, header) in [
        ("json", "{\"p\":{\"dtype\":\"F32\"".to_owned()),
        ("list", "[1,2,3]".to_owned()),
        ("none", "{}".to_owned()),
        ("field", "{\"p\":{\"dtype\":\"F32\",\"shape\":[12,4]}}".to_owned()),
        ("beyond", tensor("F32", "[12,5]", "[0,240]")),
        ("backwards", tensor("F32", "[12,4]", "[192,0]")),
        ("far", tensor("F32", "[12,4]", "[18446744073709551423,18446744073709551615]")),
        ("shape", tensor("F32", "[12,5]", "[0,192]")),
        ("product", tensor("F32", "[1099511627776,1099511627776]", "[0,192]")),
        ("negative", tensor("F32", "[-12,-4]", "[0,192]")),
        ("float8", tensor("F8_E4M3", "[12,16]", "[0,192]")),
        ("unknown", tensor("F33", "[12,4]", "[0,192]")),
    ] {
        folder.put(&format!("{name}.safetensors"), &safetensors_of(&header, &data));
    }
    folder.put("two.safetensors", &safetensors(&[("p", "<f4", &p), ("q", "<f4", &p)]));
    folder.put("cut.safetensors", &good[..good.len() - 1]);
    folder.put("longer.safetensors", &[&good[..], &[0]].concat());
    folder.put("short.safetensors", &good[..5]);
    folder.put("empty.safetensors", b"");
    for (name, length) in [("huge", u64::MAX), ("large", 1 << 40), ("file", good.len() as u64)] {
        folder.put(&format!("{name}.safetensors"), &[&length.to_le_bytes()[..], &good[8..]].concat());
    }
    folder.put("bytes.safetensors", &[&8_u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}", &[0; 8]].concat());
    check_in_every_role(
        &folder,
        &[
            ("json.safetensors", &[]),
            ("list.safetensors", &[]),
            ("none.safetensors", &[]),
            ("field.safetensors:p", &["data_offsets"]),
            ("beyond.safetensors", &["192", "240"]),
            ("backwards.safetensors", &[]),
            ("far.safetensors", &[]),
            ("shape.safetensors", &[]),
            ("product.safetensors", &[]),
            ("negative.safetensors", &[]),
            ("float8.safetensors", &["F8_E4M3"]),
            ("unknown.safetensors", &["F33"]),
            ("two.safetensors", &["'p'", "'q'"]),
            ("two.safetensors:r", &["'p'", "'q'", "'r'"]),
            ("cut.safetensors", &["191", "192"]),
            ("longer.safetensors", &["193", "192"]),
            ("short.safetensors", &[]),
            ("empty.safetensors", &[]),
            ("huge.safetensors", &["18446744073709551615"]),
            ("large.safetensors", &["1099511627776"]),
            ("file.safetensors", &[]),
            ("bytes.safetensors", &[]),
            ("missing.safetensors:p", &[]),
        ],
    );
}

#[test]
fn a_shape_of_very_many_axes_is_told_in_short() {
    let folder = refusals::folder();
    let one = Array::new(&vec![1; 20_000], [1.0]);
    folder.put("deep.npy", &one.npy("<f4"));
    refusals::check(
        &folder,
        [
            ("evaluate deep.npy l.npy --backend cpu --losses out.npy", 1, &["l.npy", "[12]", "20000 axes"][..]),
            ("evaluate p.npy deep.npy --backend cpu --losses out.npy", 1, &["deep.npy", "[12, 4]", "20000 axes"]),
            ("evaluate p.npy l.npy --sample-weights deep.npy --backend cpu", 1, &["deep.npy", "[12]", "20000 axes"]),
            ("evaluate p.npy l.npy --class-weights deep.npy --backend cpu", 1, &["deep.npy", "[4]", "20000 axes"]),
        ],
    );
}

/// Rows that no byte of the file stands for: a few bytes would ask for terabytes of output.
#[test]
fn many_rows_of_no_classes() {
    let folder = refusals::folder();
    folder.put("nothing.npy", &npy(&header("<f4", false, &[1 << 40, 0]), &[]));
    refusals::check(&folder, [("evaluate nothing.npy nothing.npy --backend cpu --losses out.npy", 1, &["nothing.npy"][..])]);
}
