//! Runs that have to be refused, as tables.

use super::arrays::Array;
use super::program::Folder;

/// Arguments; the exit status; and what standard error has to say: the file's name, the place, the value.
pub type Case<'a> = (&'a str, i32, &'a [&'a str]);

pub const ROWS: usize = 12;
pub const CLASSES: usize = 4;

/// Good files: predictions `p.npy`, labels `l.npy`, dense targets `d.npy`, weights `rows.npy` and `classes.npy`.
pub fn folder() -> Folder {
    let folder = Folder::new();
    folder.put("p.npy", &predictions().npy("<f4"));
    folder.put("l.npy", &Array::labels(&labels()).npy("<i8"));
    folder.put("d.npy", &predictions().npy("<f8"));
    folder.put("rows.npy", &Array::new(&[ROWS], [1.0; ROWS]).npy("<f4"));
    folder.put("classes.npy", &Array::new(&[CLASSES], [1.0; CLASSES]).npy("<f4"));
    let all = "p.npy l.npy --sample-weights rows.npy --class-weights classes.npy --losses out.npy";
    for args in [all, "p.npy d.npy"] {
        folder.evaluate("cpu", args);
    }
    std::fs::remove_file(folder.path("out.npy")).unwrap();
    folder
}

pub fn predictions() -> Array {
    Array::new(&[ROWS, CLASSES], (0..ROWS * CLASSES).map(|i| (1 + i * i % 7) as f64))
}

pub fn labels() -> Vec<i64> {
    (0..ROWS as i64).map(|row| row % CLASSES as i64).collect()
}

/// Runs every case in the folder and says of all that went wrong, not of the first alone: each ends in time with its
/// status, prints nothing on standard output, says what it has to, and leaves every file as it was and no new one.
#[track_caller]
pub fn check<'a>(folder: &Folder, cases: impl IntoIterator<Item = Case<'a>>) {
    let before = folder.contents();
    let mut problems: Vec<String> = Vec::new();
    for (args, status, words) in cases {
        let run = folder.run(args);
        problems.extend(run.refusal_problem(status));
        let mut wrong = |problem: String| problems.push(format!("xent {args}: {problem}: {}", run.complaint()));
        for word in words.iter().filter(|word| !run.stderr.contains(**word)) {
            wrong(format!("nothing is said of {word}"));
        }
        let after = folder.contents();
        if after != before {
            let changed: Vec<_> = after.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)).collect();
            let names: Vec<_> = changed.iter().map(|(name, _)| name.as_str()).collect();
            wrong(format!("files are new or not what they were: {names:?}"));
            // So that the cases after this one do not answer for it.
            for name in names {
                match before.get(name) {
                    Some(Some(bytes)) => folder.put(name, bytes),
                    _ => std::fs::remove_file(folder.path(name)).unwrap(),
                }
            }
        }
        for left in folder.leftovers() {
            wrong(format!("a temporary file is left: {}", left.display()));
            std::fs::remove_file(left).unwrap();
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
