//! Good files, damaged at random: whatever comes of it, the program ends by itself and in order, and leaves an output only
//! where it says that all went well.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::XorShift;
use support::arrays::{self, Array, header};
use support::program::{Folder, Run};
use zip::CompressionMethod::{Deflated, Stored};

const ROWS: usize = 12;
const CLASSES: usize = 4;
/// Damaged files of each kind.
const RUNS: u64 = 250;
/// What stands in headers, and near to it.
const WORDS: [&str; 22] = [
    "True",
    "False",
    "'",
    "(",
    ")",
    ",",
    "{",
    "}",
    "[",
    "]",
    ":",
    "<f8",
    ">f4",
    "|u1",
    "<i8",
    "-1",
    "0",
    "1099511627776",
    "18446744073709551615",
    "F64",
    "I8",
    "data_offsets",
];

fn predictions() -> Array {
    let mut random = XorShift(0xD1B5_4A32_D192_ED03);
    Array::new(&[ROWS, CLASSES], (0..ROWS * CLASSES).map(|_| random.unit()))
}

fn labels() -> Array {
    Array::labels(&(0..ROWS as i64).map(|row| row * 7 % CLASSES as i64).collect::<Vec<_>>())
}

/// Places at which damage does the most: the head of the file, its tail, where a zip has its directory, or anywhere.
fn place(random: &mut XorShift, length: usize) -> usize {
    match random.below(4) {
        0 | 1 => random.below(length.min(140)),
        2 => length - 1 - random.below(length.min(100)),
        _ => random.below(length),
    }
}

fn damage(random: &mut XorShift, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = place(random, bytes.len());
    match random.below(8) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = [0, 0xff, 0x80, b'0', b'9', b'-', b' ', b'\n'][random.below(8)],
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
        5 => {
            let more: Vec<u8> = (0..=random.below(9)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, more);
        }
        6 => {
            let word = WORDS[random.below(WORDS.len())].as_bytes();
            let end = (at + random.below(word.len() + 1)).min(bytes.len());
            bytes.splice(at..end, word.iter().copied());
        }
        // A digit becomes another, most often of a shape, a length or an offset.
        _ => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                bytes[digits[random.below(digits.len())]] = b'0' + random.below(10) as u8;
            }
        }
    }
}

/// What is out of order about a run and the folder after it, if anything is.
fn disorder(folder: &Folder, run: &Run, before: &[String]) -> Option<String> {
    let ended_well = run.status == Some(0);
    if !ended_well {
        let status = run.status.filter(|status| [1, 2].contains(status)).unwrap_or(1);
        if let Some(problem) = run.refusal_problem(status) {
            return Some(problem);
        }
    } else if !run.stderr.lines().all(|line| line.starts_with("warning: ")) {
        return Some(format!("says other things than warnings: {}", run.complaint()));
    }
    if ended_well {
        let rows = folder.read_f32("out.npy").values.len();
        std::fs::remove_file(folder.path("out.npy")).unwrap();
        if !run.stdout.contains(&format!("{rows} of ")) {
            return Some(format!("{rows} losses, but: {}", run.stdout));
        }
    }
    let after: Vec<String> = folder.contents().into_keys().collect();
    if after != before || !folder.leftovers().is_empty() {
        return Some(format!("files are left after status {:?}: {after:?}, {:?}", run.status, folder.leftovers()));
    }
    None
}

/// Damages one file at a time and runs the program on it as predictions or as targets, whichever it holds.
fn check(name: &str, good: &[u8], args: &str) {
    let folder = Folder::new();
    folder.put("p.npy", &predictions().npy("<f4"));
    folder.put("l.npy", &labels().npy("<i8"));
    folder.put(name, good);
    let before: Vec<String> = folder.contents().into_keys().collect();
    let args = format!("evaluate {args} --backend cpu --losses out.npy");
    assert_eq!(disorder(&folder, &folder.run(&args), &before), None, "the good file");
    let mut refused = 0;
    for seed in 1..=RUNS {
        let mut random = XorShift(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bytes = good.to_vec();
        for _ in 0..=random.below(3) {
            damage(&mut random, &mut bytes);
        }
        folder.put(name, &bytes);
        let run = folder.run(&args);
        refused += u64::from(run.status != Some(0));
        if let Some(problem) = disorder(&folder, &run, &before) {
            panic!("seed {seed}: {problem}\n{name} is {}", bytes.escape_ascii());
        }
    }
    assert!(refused > RUNS / 4, "only {refused} of {RUNS} refused: the damage is too kind");
}

#[test]
fn npy() {
    check("damaged.npy", &predictions().npy("<f4"), "damaged.npy l.npy");
    check("damaged.npy", &predictions().fortran_npy(">f8"), "damaged.npy l.npy");
    check("damaged.npy", &labels().npy("<i8"), "p.npy damaged.npy");
    check("damaged.npy", &labels().npy("<f2"), "p.npy damaged.npy");
}

#[test]
fn npz() {
    let (p, l) = (predictions().npy("<f4"), labels().npy("<i4"));
    for method in [Stored, Deflated] {
        check("damaged.npz", &arrays::npz(&[("p", &p), ("l", &l)], method), "damaged.npz:p damaged.npz:l");
    }
}

#[test]
fn safetensors() {
    let (p, l) = (predictions(), labels());
    let both = arrays::safetensors(&[("p", "<f4", &p), ("l", "<i8", &l)]);
    check("damaged.safetensors", &both, "damaged.safetensors:p damaged.safetensors:l");
    check("damaged.safetensors", &arrays::safetensors(&[("p", "<b2", &p)]), "damaged.safetensors l.npy");
}

/// Only the header's text, so that nearly every run gets past the magic and the lengths.
#[test]
fn headers() {
    let folder = Folder::new();
    folder.put("l.npy", &labels().npy("<i8"));
    folder.put("p.npy", b"");
    let before: Vec<String> = folder.contents().into_keys().collect();
    let good = header("<f4", false, &[ROWS, CLASSES]);
    let data = predictions().bytes("<f4");
    for seed in 1..=2 * RUNS {
        let mut random = XorShift(seed.wrapping_mul(0xA24B_AED4_963E_E407));
        let mut text = good.clone().into_bytes();
        for _ in 0..=random.below(2) {
            damage(&mut random, &mut text);
        }
        let length = (text.len() as u16).to_le_bytes();
        let bytes = [&b"\x93NUMPY\x01\x00"[..], &length, &text, &data].concat();
        folder.put("p.npy", &bytes);
        let run = folder.run("evaluate p.npy l.npy --backend cpu --losses out.npy");
        if let Some(problem) = disorder(&folder, &run, &before) {
            panic!("seed {seed}: {problem}\nthe header is {}", text.escape_ascii());
        }
    }
}
