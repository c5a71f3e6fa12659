//! What callers hand in: every element type, and views of any strides with the classes on any axis.

mod support;

use half::{bf16, f16};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, arr0, s};
use support::backends::{self, all};
use support::tolerance::{assert_row, assert_total};
use xent::{Batch, CategoricalCrossEntropy, Evaluation, Floats, Indices, Input, Loss, Targets};

const CLASSES: usize = 6;
const ROWS: usize = 40;

/// Numbers that every type of floating point holds exactly: quarters from −8 to 8.
fn quarter(i: usize) -> f32 {
    ((i * 37 + i / 7 * 11) % 65) as f32 / 4.0 - 8.0
}

fn logits() -> Array2<f32> {
    Array2::from_shape_fn((ROWS, CLASSES), |(row, class)| quarter(row * CLASSES + class))
}

fn labels() -> Array1<i64> {
    Array1::from_shape_fn(ROWS, |row| (row * 5 % CLASSES) as i64)
}

fn from_logits() -> Loss {
    CategoricalCrossEntropy { input: Input::Logits, ..CategoricalCrossEntropy::default() }.into()
}

fn evaluate(tested: &backends::Tested, loss: &Loss, batch: &Batch<'_>) -> xent::Result<Evaluation> {
    tested.windowed.evaluate_blocking(loss, batch, &backends::everything())
}

/// What plain, contiguous arrays give.
fn plain(tested: &backends::Tested) -> Evaluation {
    let (logits, labels) = (logits(), labels());
    let batch = Batch::new(logits.view(), Targets::classes(labels.view())).expect("the shapes fit");
    evaluate(tested, &from_logits(), &batch).expect("the labels are good")
}

#[track_caller]
fn assert_plain(batch: &Batch<'_>, context: &str) {
    for tested in all() {
        let evaluation = evaluate(tested, &from_logits(), batch).expect("the labels are good");
        let plain = plain(tested);
        let flat = |evaluation: &Evaluation| evaluation.losses.iter().flatten().copied().collect::<Vec<_>>();
        assert_eq!(flat(&evaluation), flat(&plain), "{context} on the {}", tested.name);
        assert_eq!(evaluation.totals, plain.totals, "{context} on the {}", tested.name);
        assert_eq!(evaluation.losses.expect("asked for").shape(), batch.row_shape());
    }
}

#[test]
fn every_type_of_class_index() {
    fn of<T: TryFrom<i64>>()
    where
        for<'a> Indices<'a>: From<ArrayView1<'a, T>>,
    {
        let logits = logits();
        let labels = labels().mapv(|label| T::try_from(label).ok().expect("few classes"));
        let batch = Batch::new(logits.view(), Targets::classes(labels.view())).expect("the shapes fit");
        assert_plain(&batch, std::any::type_name::<T>());
    }
    of::<u8>();
    of::<i8>();
    of::<u16>();
    of::<i16>();
    of::<u32>();
    of::<i32>();
    of::<u64>();
    of::<i64>();
    of::<usize>();
    of::<isize>();
}

#[test]
fn arrays_are_taken_as_their_views_are() {
    let (logits, labels) = (logits(), labels());
    assert_plain(&Batch::new(&logits, Targets::classes(&labels)).expect("the shapes fit"), "owned arrays");
}

#[test]
fn every_type_of_prediction_and_dense_target() {
    fn one_hot<T: Copy>(zero: T, one: T) -> Array2<T> {
        let labels = labels();
        let value = |(row, class)| if labels[row] == class as i64 { one } else { zero };
        Array2::from_shape_fn((ROWS, CLASSES), value)
    }
    fn same<T>(predictions: &Array2<T>, dense: &Array2<T>, context: &str)
    where
        for<'a> Floats<'a>: From<ArrayView2<'a, T>>,
    {
        let labels = labels();
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("the shapes fit");
        assert_plain(&batch, context);
        // One-hot targets are class indices, written out; their sums may round otherwise.
        let batch = Batch::new(predictions.view(), Targets::dense(dense.view())).expect("the shapes fit");
        for tested in all() {
            let evaluation = evaluate(tested, &from_logits(), &batch).expect("nothing to refuse");
            let losses = plain(tested).losses.expect("asked for");
            for (row, (got, want)) in evaluation.losses.iter().flatten().zip(losses).enumerate() {
                assert_row(&format!("{context}, row {row} on the {}", tested.name), *got, f64::from(want), f64::from(want));
            }
        }
    }
    let logits = logits();
    same(&logits, &one_hot(0f32, 1.0), "f32");
    same(&logits.mapv(f64::from), &one_hot(0f64, 1.0), "f64");
    same(&logits.mapv(f16::from_f32), &one_hot(f16::ZERO, f16::ONE), "f16");
    same(&logits.mapv(bf16::from_f32), &one_hot(bf16::ZERO, bf16::ONE), "bf16");
}

#[test]
fn every_type_of_sample_weight() {
    let (logits, labels) = (logits(), labels());
    let weights = Array1::from_shape_fn(ROWS, |row| (row % 5) as f32 / 4.0);
    let (double, half, brain) = (weights.mapv(f64::from), weights.mapv(f16::from_f32), weights.mapv(bf16::from_f32));
    let batch = || Batch::new(logits.view(), Targets::classes(labels.view())).expect("the shapes fit");
    for tested in all() {
        let weighted = [
            batch().sample_weights(weights.view()),
            batch().sample_weights(double.view()),
            batch().sample_weights(half.view()),
            batch().sample_weights(brain.view()),
        ]
        .map(|batch| evaluate(tested, &from_logits(), &batch.expect("the shapes fit")).expect("the weights are good"));
        let losses = plain(tested).losses.expect("asked for");
        let sum = losses.iter().zip(&double).map(|(loss, weight)| f64::from(*loss) * weight).sum();
        for evaluation in &weighted {
            assert_eq!(evaluation.totals, weighted[0].totals, "on the {}", tested.name);
            assert_total("sum", evaluation.totals.sum(), sum);
            assert_total("weight", evaluation.totals.weight, double.sum());
        }
    }
}

#[test]
fn one_sample_weight_for_all_rows() {
    let (logits, labels) = (logits(), labels());
    for tested in all() {
        let evaluation = |weight: f32| {
            let weight = arr0(weight);
            let batch = Batch::new(logits.view(), Targets::classes(labels.view())).expect("the shapes fit");
            let batch = batch.sample_weights(weight.view()).expect("one number");
            evaluate(tested, &from_logits(), &batch).expect("the weight is good").totals
        };
        let plain = plain(tested).totals;
        assert_eq!(evaluation(1.0), plain);
        let doubled = evaluation(2.0);
        assert_eq!((doubled.sum(), doubled.weight), (2.0 * plain.sum(), 2.0 * plain.weight));
        assert_eq!((doubled.mean(), doubled.weighted_mean()), (2.0 * plain.mean(), plain.weighted_mean()));
        let nothing = evaluation(0.0);
        assert_eq!((nothing.mean(), nothing.weighted_mean(), nothing.kept), (0.0, 0.0, ROWS as u64));
    }
}

#[test]
fn views_of_any_strides() {
    let (logits, labels) = (logits(), labels());
    let batch = |predictions| Batch::new(predictions, Targets::classes(labels.view())).expect("the shapes fit");

    let transposed = logits.t().as_standard_layout().into_owned();
    assert_plain(&batch(transposed.t()), "transposed in memory");

    let mut spread = Array2::from_elem((2 * ROWS, 3 * CLASSES), f32::NAN);
    spread.slice_mut(s![1..;2, ..;3]).assign(&logits);
    assert_plain(&batch(spread.slice(s![1..;2, ..;3])), "every second row, every third class");

    let mut reversed = logits.clone();
    reversed.invert_axis(ndarray::Axis(1));
    let reversed = reversed.as_standard_layout().into_owned();
    assert_plain(&batch(reversed.slice(s![.., ..;-1])), "classes backwards");

    let backwards = logits.slice(s![..;-1, ..]).as_standard_layout().into_owned();
    assert_plain(&batch(backwards.slice(s![..;-1, ..])), "rows backwards");

    // Labels and weights have strides as well.
    let every_third = Array1::from_shape_fn(3 * ROWS, |i| if i % 3 == 0 { labels[ROWS - 1 - i / 3] as u8 } else { 255 });
    let view = every_third.slice(s![..;3]);
    let batch = Batch::new(logits.view(), Targets::classes(view.slice(s![..;-1]))).expect("the shapes fit");
    let ones = Array1::from_shape_fn(2 * ROWS, |i| if i % 2 == 0 { 1.0_f32 } else { f32::NAN });
    assert_plain(&batch.sample_weights(ones.slice(s![..;2])).expect("the shapes fit"), "labels and weights with strides");

    // One row for all.
    let (one, label) = (logits.slice(s![3..4, ..]), labels[3]);
    let many = one.broadcast((ROWS, CLASSES)).expect("one row for many");
    let same_labels = Array1::from_elem(ROWS, label);
    let batch = Batch::new(many, Targets::classes(same_labels.view())).expect("the shapes fit");
    for tested in all() {
        let losses = evaluate(tested, &from_logits(), &batch).expect("the labels are good").losses.expect("asked for");
        assert!(losses.iter().all(|loss| *loss == losses[0]), "{losses} on the {}", tested.name);
    }
}

#[test]
fn classes_on_any_axis() {
    let (logits, labels) = (logits(), labels());
    let rows = logits.view().into_shape_with_order((5, 8, CLASSES)).expect("5 times 8 rows");
    let labels = labels.into_shape_with_order((5, 8)).expect("5 times 8 rows");
    for axis in 0..3 {
        // Where the classes go, and the dense targets with them.
        let mut order = vec![0, 1];
        order.insert(axis, 2);
        let moved = rows.into_dyn().permuted_axes(order.clone());
        let dense = one_hot(&labels).into_dyn().permuted_axes(order);
        let contiguous = moved.as_standard_layout().into_owned();
        for axis in [axis as isize, axis as isize - 3] {
            for view in [moved.view(), contiguous.view()] {
                let batch = Batch::with_axis(view, Targets::classes(labels.view()), axis).expect("the shapes fit");
                assert_eq!((batch.row_shape(), batch.classes()), ([5, 8].as_slice(), CLASSES));
                assert_plain(&batch, &format!("axis {axis}"));
            }
            let batch = Batch::with_axis(moved.view(), Targets::dense(dense.view()), axis).expect("the shapes fit");
            for tested in all() {
                let totals = evaluate(tested, &from_logits(), &batch).expect("nothing to refuse").totals;
                assert_eq!(totals.correct, plain(tested).totals.correct);
                assert_total("dense", totals.sum(), plain(tested).totals.sum());
            }
        }
    }
    // A row alone: no axis but that of the classes.
    let one = logits.slice(s![0, ..]);
    let label = arr0(labels[[0, 0]]);
    let batch = Batch::new(one, Targets::classes(label.view())).expect("the shapes fit");
    for tested in all() {
        let losses = evaluate(tested, &from_logits(), &batch).expect("the label is good").losses.expect("asked for");
        assert_eq!((losses.ndim(), losses.len()), (0, 1));
        assert_eq!(losses.first(), plain(tested).losses.expect("asked for").first());
    }
}

fn one_hot(labels: &Array2<i64>) -> Array3<f32> {
    let (a, b) = labels.dim();
    Array3::from_shape_fn((a, b, CLASSES), |(a, b, class)| f32::from(u8::from(labels[[a, b]] == class as i64)))
}
