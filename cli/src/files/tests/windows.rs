//! Windows against a reference that knows nothing of strides.

use super::super::{FloatRows, Labels};
use super::*;
use std::ops::Range;

const SHAPES: [&[usize]; 12] =
    [&[], &[0], &[5], &[3, 4], &[0, 4], &[4, 0], &[1, 4], &[4, 1], &[2, 3, 4], &[2, 3, 4, 5], &[3, 1, 2, 1], &[2, 0, 3]];

/// What `read_rows_f32` should give, value by value.
fn expected_rows(dtype: Dtype, shape: &[usize], axis: usize, rows: Range<usize>) -> Vec<f32> {
    let mut others = shape.to_vec();
    let classes = others.remove(axis);
    let mut values = Vec::new();
    for row in rows {
        let mut indices = unravel(&others, row);
        indices.insert(axis, 0);
        for class in 0..classes {
            indices[axis] = class;
            let index = indices.iter().zip(shape).fold(0, |index, (&i, &length)| index * length + i);
            values.push(value(dtype, index) as f32);
        }
    }
    values
}

/// Ranges that cut anywhere: all of them where there are few.
fn ranges(total: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let step = 1 + total / 12;
    for start in (0..=total).step_by(step) {
        ranges.extend((start..=total).step_by(step).map(|end| start..end));
    }
    ranges.push(0..total);
    ranges
}

fn check(source: &Source, dtype: Dtype, shape: &[usize]) {
    assert_eq!(source.shape(), shape);
    assert_eq!(source.dtype_name(), dtype.name());
    assert_eq!(source.is_float(), dtype.is_float());
    let elements: usize = shape.iter().product();
    assert_eq!(source.stored_bytes(), (elements * dtype.size()) as u64);
    // Left over from one window to the next, as a caller would.
    let (mut rows, mut whole, mut numbers) = (vec![f32::NAN; 7], vec![-1; 7], vec![f64::NAN; 7]);
    for axis in 0..shape.len() {
        let mut others = shape.to_vec();
        others.remove(axis);
        let total = others.iter().product();
        for range in ranges(total) {
            rows.fill(f32::NAN);
            source.read_rows_f32(axis, range.clone(), &mut rows).unwrap();
            assert_eq!(rows, expected_rows(dtype, shape, axis, range.clone()), "{shape:?} {dtype:?} axis {axis} {range:?}");
        }
        assert!(source.read_rows_f32(axis, 0..total + 1, &mut rows).is_err());
    }
    assert!(source.read_rows_f32(shape.len(), 0..0, &mut rows).is_err());
    for range in ranges(elements) {
        let expected: Vec<f64> = range.clone().map(|index| value(dtype, index)).collect();
        numbers.fill(f64::NAN);
        source.read_f64(range.clone(), &mut numbers).unwrap();
        assert_eq!(numbers, expected, "{shape:?} {dtype:?} {range:?}");
        whole.fill(-1);
        source.read_labels(range.clone(), 5, &mut whole).unwrap();
        assert_eq!(whole, expected.iter().map(|&value| value as i64).collect::<Vec<_>>(), "{shape:?} {dtype:?} {range:?}");
    }
    assert!(source.read_f64(0..elements + 1, &mut numbers).is_err());
    assert!(source.read_labels(0..elements + 1, 5, &mut whole).is_err());
    check_types_of_the_library(source, dtype, shape);
}

/// The same windows, not widened: they have the file's own type where the library has it, and the same numbers.
fn check_types_of_the_library(source: &Source, dtype: Dtype, shape: &[usize]) {
    let mut floats = FloatRows::of(source);
    for (axis, &classes) in shape.iter().enumerate() {
        let others = shape.iter().enumerate().filter(|&(other, _)| other != axis);
        let total = others.map(|(_, &length)| length).product();
        for range in ranges(total) {
            floats.read(source, axis, range.clone()).unwrap();
            let got: Vec<f32> = match floats.view(range.len(), classes).unwrap() {
                xent::Floats::F16(view) if dtype == Dtype::F16 => view.iter().map(|x| x.to_f32()).collect(),
                xent::Floats::Bf16(view) if dtype == Dtype::Bf16 => view.iter().map(|x| x.to_f32()).collect(),
                xent::Floats::F32(view) if dtype.size() != 2 || !dtype.is_float() => view.iter().copied().collect(),
                other => panic!("{dtype:?} comes as {other:?}"),
            };
            assert_eq!(got, expected_rows(dtype, shape, axis, range.clone()), "{shape:?} {dtype:?} axis {axis} {range:?}");
        }
    }
    let elements: usize = shape.iter().product();
    let mut labels = Labels::of(source);
    for range in ranges(elements) {
        labels.read(source, range.clone(), 5).unwrap();
        let (got, kept) = match labels.view() {
            xent::Indices::I8(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::I8),
            xent::Indices::U8(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::U8),
            xent::Indices::I16(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::I16),
            xent::Indices::U16(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::U16),
            xent::Indices::I32(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::I32),
            xent::Indices::U32(view) => (view.iter().map(|&x| f64::from(x)).collect(), Dtype::U32),
            xent::Indices::I64(view) => (view.iter().map(|&x| x as f64).collect(), Dtype::I64),
            xent::Indices::U64(view) => (view.iter().map(|&x| x as f64).collect::<Vec<f64>>(), Dtype::U64),
            other => panic!("{other:?}"),
        };
        assert_eq!(kept, if dtype.is_float() || dtype == Dtype::Bool { Dtype::I64 } else { dtype });
        assert_eq!(labels.element_bytes(), kept.size());
        assert!(range.map(|index| value(dtype, index)).eq(got), "{shape:?} {dtype:?}");
    }
}

#[test]
fn every_npy_type_order_shape_axis_and_range() {
    let folder = Folder::new();
    for (dtype, code) in npy_dtypes() {
        for (order, big_endian) in
            [("<", false), (">", true), ("=", cfg!(target_endian = "big")), ("|", cfg!(target_endian = "big"))]
        {
            for fortran in [false, true] {
                for shape in SHAPES {
                    let data = data(dtype, shape, big_endian, fortran);
                    folder.put("a.npy", &npy_of(&format!("{order}{code}"), shape, fortran, &data));
                    check(&folder.open("a.npy").unwrap(), dtype, shape);
                }
            }
        }
    }
}

#[test]
fn every_safetensors_type() {
    use safetensors::tensor::{Dtype as Stored, TensorView};
    const STORED: [Stored; 13] = [
        Stored::BOOL,
        Stored::I8,
        Stored::U8,
        Stored::I16,
        Stored::U16,
        Stored::I32,
        Stored::U32,
        Stored::I64,
        Stored::U64,
        Stored::F16,
        Stored::BF16,
        Stored::F32,
        Stored::F64,
    ];
    let folder = Folder::new();
    for shape in SHAPES {
        let tensors: Vec<_> = DTYPES.iter().map(|&dtype| data(dtype, shape, false, false)).collect();
        let views = DTYPES.iter().zip(STORED).zip(&tensors);
        let views = views.map(|((dtype, stored), data)| (dtype.name(), TensorView::new(stored, shape.to_vec(), data).unwrap()));
        folder.put("a.safetensors", &safetensors::serialize(views, None).unwrap());
        for dtype in DTYPES {
            check(&folder.open(&format!("a.safetensors:{}", dtype.name())).unwrap(), dtype, shape);
        }
    }
}

/// Shapes that need several parts, pieces and reads a batch, at a few windows that cut them in the middle.
#[test]
fn windows_larger_than_the_working_memory() {
    let folder = Folder::new();
    let shapes: [&[usize]; 9] = [
        &[300_000],
        &[40_000, 7],
        &[7, 40_000],
        &[200_000, 2],
        &[3, 70_000, 2],
        &[2, 3, 50_000],
        &[5, 21, 60, 50],
        &[600, 600],
        &[2, 150_000],
    ];
    for (shape, (dtype, code)) in shapes.iter().flat_map(|shape| {
        npy_dtypes().filter(|(d, _)| matches!(d, Dtype::U8 | Dtype::F32 | Dtype::F64)).map(move |d| (*shape, d))
    }) {
        for (order, fortran) in [("<", false), (">", false), ("<", true)] {
            folder.put("a.npy", &npy_of(&format!("{order}{code}"), shape, fortran, &data(dtype, shape, order == ">", fortran)));
            let source = folder.open("a.npy").unwrap();
            let elements: usize = shape.iter().product();
            let mut rows = Vec::new();
            for axis in 0..shape.len() {
                let total = elements / shape[axis];
                for range in [0..total, total / 3..total, total / 7..total / 2, total - 1..total] {
                    source.read_rows_f32(axis, range.clone(), &mut rows).unwrap();
                    assert!(
                        rows == expected_rows(dtype, shape, axis, range.clone()),
                        "{shape:?} {dtype:?} axis {axis} {range:?}"
                    );
                }
            }
            let mut numbers = Vec::new();
            source.read_f64(elements / 5..elements - 1, &mut numbers).unwrap();
            assert!((elements / 5..elements - 1).map(|index| value(dtype, index)).eq(numbers));
        }
    }
}

#[test]
fn extreme_values_keep_their_meaning() {
    let folder = Folder::new();
    let mut whole = Vec::new();
    let mut rows = Vec::new();
    folder.put("a.npy", &npy_of("<i8", &[2], false, &[i64::MIN.to_le_bytes(), i64::MAX.to_le_bytes()].concat()));
    folder.open("a.npy").unwrap().read_labels(0..2, 5, &mut whole).unwrap();
    assert_eq!(whole, [i64::MIN, i64::MAX]);

    let halves = [0x7c00_u16, 0xfc00, 0x0001, 0x83ff, 0x7bff, 0x8000, 0x7e00].map(u16::to_le_bytes).concat();
    folder.put("h.npy", &npy_of("<f2", &[7], false, &halves));
    folder.open("h.npy").unwrap().read_rows_f32(0, 0..1, &mut rows).unwrap();
    assert_eq!(rows[..6], [f32::INFINITY, f32::NEG_INFINITY, 2f32.powi(-24), -1023.0 * 2f32.powi(-24), 65504.0, 0.0]);
    assert!(rows[5].is_sign_negative() && rows[6].is_nan());

    folder.put("d.npy", &npy_of(">f8", &[3], false, &[0.1f64, 1e300, -1e-300].map(f64::to_be_bytes).concat()));
    folder.open("d.npy").unwrap().read_rows_f32(0, 0..1, &mut rows).unwrap();
    assert_eq!(rows, [0.1f32, f32::INFINITY, -0.0]);

    folder.put("b.npy", &npy_of("|b1", &[3], false, &[0, 1, 255]));
    folder.open("b.npy").unwrap().read_labels(0..3, 5, &mut whole).unwrap();
    assert_eq!(whole, [0, 1, 1]);
}

#[test]
fn threads_share_a_source() {
    fn shared<T: Send + Sync>(_: &T) {}
    let folder = Folder::new();
    let shape = [2000, 3];
    folder.put("a.npy", &npy_of("<f4", &shape, true, &data(Dtype::F32, &shape, false, true)));
    let source = folder.open("a.npy").unwrap();
    shared(&source);
    std::thread::scope(|scope| {
        for start in 0..4 {
            let source = &source;
            scope.spawn(move || {
                let mut rows = Vec::new();
                for _ in 0..20 {
                    source.read_rows_f32(1, start * 400..start * 400 + 500, &mut rows).unwrap();
                    assert_eq!(rows, expected_rows(Dtype::F32, &shape, 1, start * 400..start * 400 + 500));
                }
            });
        }
    });
}
