//! Labels that are a class, those that are none, and those that are ignored, in every type.

use super::super::Labels;
use super::*;

/// The integer types: each name in `.npy`, its least and its largest number.
const TYPES: [(&str, Dtype, i128, i128); 8] = [
    ("i1", Dtype::I8, i8::MIN as i128, i8::MAX as i128),
    ("u1", Dtype::U8, 0, u8::MAX as i128),
    ("i2", Dtype::I16, i16::MIN as i128, i16::MAX as i128),
    ("u2", Dtype::U16, 0, u16::MAX as i128),
    ("i4", Dtype::I32, i32::MIN as i128, i32::MAX as i128),
    ("u4", Dtype::U32, 0, u32::MAX as i128),
    ("i8", Dtype::I64, i64::MIN as i128, i64::MAX as i128),
    ("u8", Dtype::U64, 0, u64::MAX as i128),
];

const ROWS: usize = 300;

/// What is found in labels that are all 1 but for a few, given with their rows.
fn check(code: &str, dtype: Dtype, others: &[(usize, i128)], classes: usize, ignore: Option<i64>) -> Result<usize, String> {
    let mut labels = [1; ROWS];
    for &(row, label) in others {
        labels[row] = label;
    }
    let folder = Folder::new();
    let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()[..dtype.size()].to_vec()).collect();
    folder.put("l.npy", &npy_of(&format!("<{code}"), &[ROWS], false, &bytes));
    let source = folder.open("l.npy").unwrap();
    let mut labels = Labels::of(&source);
    labels.read(&source, 0..ROWS, classes).unwrap();
    // As if they were rows 1000 and on.
    labels.check(&source, 1000, classes, ignore).map_err(|error| folder.plain(&error))
}

#[test]
fn the_first_label_that_is_no_class_is_named() {
    for (code, dtype, least, most) in TYPES {
        assert_eq!(check(code, dtype, &[], 2, None), Ok(ROWS), "{code}");
        assert_eq!(check(code, dtype, &[(0, 0), (299, 99)], 100, None), Ok(ROWS), "{code}");
        // Within a block, at its ends, and in the last one.
        for row in [0, 77, 127, 128, 299] {
            for bad in [2, least, most].into_iter().filter(|bad| !(0..2).contains(bad)) {
                let want = format!("l.npy: row {}: class index {bad} is not among the 2 classes", 1000 + row);
                assert_eq!(check(code, dtype, &[(row, bad), (row.max(298), bad)], 2, None), Err(want), "{code}");
            }
        }
        // More classes than the type can name.
        if least == 0 {
            assert_eq!(check(code, dtype, &[(5, most.min(i64::MAX.into()))], usize::MAX, None), Ok(ROWS), "{code}");
        }
    }
}

#[test]
fn ignored_labels_need_be_no_class_and_do_not_count() {
    for (code, dtype, least, most) in TYPES {
        let few: Vec<_> = (0..200).map(|row| (row, most.min(i64::MAX.into()))).collect();
        let ignored = i64::try_from(few[0].1).unwrap();
        assert_eq!(check(code, dtype, &few, 2, Some(ignored)), Ok(100), "{code}");
        assert_eq!(check(code, dtype, &[], 2, Some(1)), Ok(0), "{code}: all of them");
        assert!(check(code, dtype, &few, 2, Some(0)).is_err(), "{code}");
        // One that the type cannot hold, which must not be taken for another.
        let wrapped = 1 + (1_i128 << (8 * dtype.size()));
        if let Ok(beyond) = i64::try_from(wrapped) {
            assert_eq!(check(code, dtype, &[], 2, Some(beyond)), Ok(ROWS), "{code}");
        }
        if least == 0 {
            assert_eq!(check(code, dtype, &[], 2, Some(-100)), Ok(ROWS), "{code}");
        } else {
            assert_eq!(check(code, dtype, &[(3, -100), (150, -100)], 2, Some(-100)), Ok(ROWS - 2), "{code}");
        }
    }
}

#[test]
fn classes_come_with_their_places() {
    let folder = Folder::new();
    folder.put("l.npy", &npy_of("|i1", &[4], false, &[3, 0xff, 0, 2]));
    let source = folder.open("l.npy").unwrap();
    let mut labels = Labels::of(&source);
    labels.read(&source, 0..4, 4).unwrap();
    let classes = |ignore| {
        let mut classes = Vec::new();
        labels.each_class(ignore, |place, class| classes.push((place, class)));
        classes
    };
    assert_eq!(classes(Some(-1)), [(0, 3), (2, 0), (3, 2)]);
    labels.read(&source, 2..4, 4).unwrap();
    let mut rest = Vec::new();
    labels.each_class(None, |place, class| rest.push((place, class)));
    assert_eq!(rest, [(0, 0), (1, 2)]);
}
