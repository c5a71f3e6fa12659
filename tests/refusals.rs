//! Labels, weights, shapes and options at and over their borders: what is refused, with the place named, and what is not;
//! and batches without rows or without anything that counts.

mod support;

use std::pin::pin;
use std::task::{Context, Waker};

use ndarray::{Array1, Array2, ArrayView1, arr0, arr1, arr2};
use support::backends::{self, all};
use xent::{
    Batch, BatchMut, CategoricalCrossEntropy, Error, Evaluation, Gradient, Indices, Input, Loss, Outputs, Reduction, Targets,
};

const CLASSES: usize = 3;

fn from_logits() -> CategoricalCrossEntropy {
    CategoricalCrossEntropy { input: Input::Logits, ..CategoricalCrossEntropy::default() }
}

fn ignoring(ignored: i64) -> Loss {
    CategoricalCrossEntropy { ignore_index: Some(ignored), ..from_logits() }.into()
}

fn evaluate(tested: &backends::Tested, loss: &Loss, batch: &Batch<'_>) -> xent::Result<Evaluation> {
    tested.windowed.evaluate_blocking(loss, batch, &backends::everything())
}

/// The error, which every backend has to give alike.
#[track_caller]
fn refused(loss: &Loss, batch: &Batch<'_>) -> Error {
    let mut errors = all().iter().map(|tested| evaluate(tested, loss, batch).expect_err("it is to be refused"));
    let first = errors.next().expect("there are backends");
    for other in errors {
        // As text: a NaN in an error is unequal to itself.
        assert_eq!(first.to_string(), other.to_string());
    }
    first
}

/// What every backend makes of it.
#[track_caller]
fn accepted(loss: &Loss, batch: &Batch<'_>) -> Vec<Evaluation> {
    all().iter().map(|tested| evaluate(tested, loss, batch).expect("it is sound")).collect()
}

/// Labels for rows of zeros, whose losses are all ln 3.
fn with_labels<T>(labels: &[T], test: impl FnOnce(&Batch<'_>))
where
    for<'a> Indices<'a>: From<ArrayView1<'a, T>>,
{
    let predictions = Array2::<f32>::zeros((labels.len(), CLASSES));
    let labels = ArrayView1::from(labels);
    test(&Batch::new(predictions.view(), Targets::classes(labels)).expect("the shapes fit"));
}

#[test]
fn a_label_that_is_no_class_is_named_with_its_row() {
    let loss = Loss::from(from_logits());
    let wrong = |row, label| Error::Label { row, label, classes: CLASSES };
    with_labels(&[0_u64, 2, u64::MAX], |batch| {
        assert_eq!(refused(&loss, batch), wrong(2, i128::from(u64::MAX)));
    });
    with_labels(&[0, i64::MIN, 7], |batch| assert_eq!(refused(&loss, batch), wrong(1, i128::from(i64::MIN))));
    with_labels(&[i64::MAX], |batch| assert_eq!(refused(&loss, batch), wrong(0, i128::from(i64::MAX))));
    with_labels(&[2_i32, 3], |batch| assert_eq!(refused(&loss, batch), wrong(1, 3)));
    with_labels(&[2_i8, -1], |batch| assert_eq!(refused(&loss, batch), wrong(1, -1)));
    with_labels(&[2_u8, 255], |batch| assert_eq!(refused(&loss, batch), wrong(1, 255)));
    // The value that kernels have for an ignored row is no label either, and neither is what wraps around to a class.
    with_labels(&[u32::MAX], |batch| assert_eq!(refused(&loss, batch), wrong(0, i128::from(u32::MAX))));
    with_labels(&[1_u64 << 32], |batch| assert_eq!(refused(&loss, batch), wrong(0, 1 << 32)));
    let error = wrong(1, -7).to_string();
    assert!(["row 1", "-7", "3 classes"].iter().all(|part| error.contains(part)), "{error}");
    with_labels(&[CLASSES as i64 - 1, 0], |batch| {
        for evaluation in accepted(&loss, batch) {
            assert_eq!(evaluation.totals.kept, 2);
        }
    });
}

#[test]
fn rows_of_a_stream_are_counted_from_its_beginning() {
    let loss = Loss::from(from_logits());
    for tested in all() {
        let mut stream = tested.windowed.stream(&loss, &backends::everything());
        with_labels(&[0_i64, 1, 2], |batch| assert_eq!(stream.push_blocking(batch).map(|rows| rows.losses.len()), Ok(3)));
        with_labels(&[0_i64, 9], |batch| {
            assert_eq!(stream.push_blocking(batch), Err(Error::Label { row: 4, label: 9, classes: CLASSES }));
        });
        // What was refused is not in the totals, and the stream goes on.
        assert_eq!(stream.rows(), 3);
        with_labels(&[0_i64, 1], |batch| assert_eq!(stream.push_blocking(batch).map(|rows| rows.losses.len()), Ok(2)));
        let other = Array2::<f32>::zeros((1, CLASSES + 1));
        let label = arr1(&[0_u8]);
        let other_classes = Batch::new(other.view(), Targets::classes(label.view())).expect("the shapes fit");
        assert!(matches!(stream.push_blocking(&other_classes), Err(Error::Shape { .. })));
        let same = Array2::<f32>::zeros((1, CLASSES));
        let other_targets = Batch::new(same.view(), Targets::dense(same.view())).expect("the shapes fit");
        assert!(matches!(stream.push_blocking(&other_targets), Err(Error::Shape { .. })));
        let totals = stream.finish().totals;
        assert_eq!((totals.rows, totals.kept), (5, 5));
        support::tolerance::assert_total("sum", totals.sum(), 5.0 * 3f64.ln());
    }
}

#[test]
fn a_first_batch_that_was_refused_says_nothing_of_the_next() {
    let loss = Loss::from(from_logits());
    for tested in all() {
        let mut stream = tested.windowed.stream(&loss, &backends::everything());
        with_labels(&[0_i64, 9], |batch| assert!(stream.push_blocking(batch).is_err()));
        let other = Array2::<f32>::zeros((1, CLASSES + 1));
        let label = arr1(&[3_u8]);
        let batch = Batch::new(&other, Targets::classes(&label)).expect("the shapes fit");
        assert_eq!(stream.push_blocking(&batch).map(|rows| rows.losses.len()), Ok(1));
        support::tolerance::assert_total("sum", stream.finish().totals.sum(), 4f64.ln());
    }
}

#[test]
fn a_batch_that_nobody_waits_for_leaves_no_trace() {
    let loss = Loss::from(from_logits());
    for tested in all() {
        let mut stream = tested.windowed.stream(&loss, &backends::everything());
        let mut done = 0;
        with_labels(&[0_i64; 100], |batch| {
            for _ in 0..3 {
                let polled = pin!(stream.push(batch)).poll(&mut Context::from_waker(Waker::noop()));
                done += if polled.is_ready() { 100 } else { 0 };
                assert_eq!(stream.rows(), done);
            }
            assert_eq!(stream.push_blocking(batch).map(|rows| rows.losses.len()), Ok(100));
        });
        assert_eq!(stream.finish().totals.rows, done + 100);
    }
}

#[test]
fn the_ignored_index_may_lie_anywhere() {
    for (ignored, labels, kept) in [
        (1, [0, 1, 2], 2),
        (-100, [0, -100, 2], 2),
        (3, [3, 1, 2], 2),
        (i64::MIN, [i64::MIN, 1, i64::MIN], 1),
        (i64::MAX, [0, 1, i64::MAX], 2),
        (i64::from(u32::MAX), [0, 1, i64::from(u32::MAX)], 2),
        (-1, [-1, -1, -1], 0),
        (7, [0, 1, 2], 3),
    ] {
        with_labels(&labels, |batch| {
            for evaluation in accepted(&ignoring(ignored), batch) {
                let totals = &evaluation.totals;
                assert_eq!((totals.rows, totals.kept), (3, kept), "{ignored} in {labels:?}");
                assert_eq!(totals.weight, kept as f64);
                support::tolerance::assert_total("sum", totals.sum(), kept as f64 * 3f64.ln());
                let losses = evaluation.losses.expect("asked for");
                for (loss, label) in losses.iter().zip(labels) {
                    assert_eq!(*loss == 0.0, label == ignored, "{ignored} in {labels:?}");
                }
            }
        });
    }
    // Another label outside is as wrong as ever; −1 is no u64, so nothing is ignored there.
    with_labels(&[-100_i64, -1], |batch| {
        assert_eq!(refused(&ignoring(-100), batch), Error::Label { row: 1, label: -1, classes: CLASSES });
    });
    with_labels(&[0, u64::MAX], |batch| {
        assert!(matches!(refused(&ignoring(-1), batch), Error::Label { row: 1, .. }));
    });
}

#[test]
fn no_rows_and_no_row_that_counts_are_0() {
    let nothing = Array2::<f32>::zeros((0, CLASSES));
    let no_labels = Array1::<u8>::zeros(0);
    let broken = Array2::from_elem((4, CLASSES), f32::NAN);
    let ignored = Array1::from_elem(4, 1_u8);
    let no_weights = Array1::<f32>::zeros(0);
    let batches = [
        Batch::new(nothing.view(), Targets::classes(no_labels.view())),
        Batch::new(nothing.view(), Targets::dense(nothing.view())),
        Batch::new(broken.view(), Targets::classes(ignored.view())),
        Batch::new(nothing.view(), Targets::classes(no_labels.view())).and_then(|b| b.sample_weights(no_weights.view())),
    ];
    for (i, batch) in batches.into_iter().enumerate() {
        let batch = batch.expect("the shapes fit");
        let loss = if i == 2 { ignoring(1) } else { from_logits().into() };
        for evaluation in accepted(&loss, &batch) {
            let totals = &evaluation.totals;
            assert_eq!((totals.rows, totals.kept, totals.non_finite), (batch.rows() as u64, 0, 0));
            assert_eq!((totals.sum(), totals.mean(), totals.weighted_mean()), (0.0, 0.0, 0.0));
            assert_eq!((totals.accuracy(), totals.top_k_accuracy(1)), (Some(0.0), Some(0.0)));
            let losses = evaluation.losses.expect("asked for");
            assert_eq!((losses.len(), losses.sum()), (batch.rows(), 0.0));
        }
    }
}

#[test]
fn no_class_is_no_loss() {
    let nothing = Array2::<f32>::zeros((2, 0));
    let dense = Batch::new(nothing.view(), Targets::dense(nothing.view())).expect("the shapes fit");
    for evaluation in accepted(&from_logits().into(), &dense) {
        assert_eq!((evaluation.totals.non_finite, evaluation.totals.correct), (2, 0));
    }
    let labels = arr1(&[0_u8, 0]);
    let classes = Batch::new(nothing.view(), Targets::classes(labels.view())).expect("the shapes fit");
    assert_eq!(refused(&from_logits().into(), &classes), Error::Label { row: 0, label: 0, classes: 0 });
    // A row that does not count has a loss of 0 whatever it holds.
    for evaluation in accepted(&ignoring(0), &classes) {
        let losses = evaluation.losses.expect("asked for");
        assert_eq!((losses.as_slice(), evaluation.totals.kept), (Some(&[0.0, 0.0][..]), 0));
        assert_eq!((evaluation.totals.sum(), evaluation.totals.non_finite), (0.0, 0));
    }
}

#[test]
fn more_than_any_array_or_label_can_hold_is_refused() {
    // One number in the place of all: it takes no memory.
    let (number, label) = (arr0(0_f32), arr1(&[0_u8]));
    let row = number.broadcast((1, (1 << 31) + 1)).expect("a number has any shape");
    let batch = Batch::new(row, Targets::classes(&label)).expect("an array may have it");
    let error = refused(&from_logits().into(), &batch);
    assert!(matches!(error, Error::Shape { what: "a row", .. }), "{error}");
    // Rows without classes take no memory, but their losses would.
    let nothing = Array2::<f32>::zeros((1 << 61, 0));
    let error = Batch::new(&nothing, Targets::dense(&nothing)).expect_err("too many rows");
    assert!(matches!(error, Error::Shape { what: "a batch", .. }), "{error}");
}

fn batch<'a>(predictions: &'a Array2<f32>, labels: &'a Array1<u8>) -> Batch<'a> {
    Batch::new(predictions.view(), Targets::classes(labels.view())).expect("the shapes fit")
}

#[test]
fn weights_out_of_range_are_named() {
    let predictions = Array2::<f32>::zeros((3, CLASSES));
    let labels = arr1(&[0_u8, 1, 2]);
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -1e-300] {
        let weights = arr1(&[1.0, 0.0, bad]);
        let error = refused(
            &from_logits().into(),
            &batch(&predictions, &labels).sample_weights(weights.view()).expect("the shapes fit"),
        );
        assert!(matches!(error, Error::Weight { what: "row", index: 2, .. }), "{error}");
        let one = arr0(bad);
        let error =
            refused(&from_logits().into(), &batch(&predictions, &labels).sample_weights(one.view()).expect("one number"));
        assert!(matches!(error, Error::Weight { what: "row", index: 0, .. }), "{error}");

        // −1e-300 is −0 as a float32, and that is no less than 0.
        if bad as f32 != 0.0 {
            let class_weights = Some(vec![1.0, bad as f32, 1.0]);
            let error =
                refused(&CategoricalCrossEntropy { class_weights, ..from_logits() }.into(), &batch(&predictions, &labels));
            assert!(matches!(error, Error::Weight { what: "class", index: 1, .. }), "{error}");
        }
    }
    let class_weights = Some(vec![1.0; CLASSES + 1]);
    let error = refused(&CategoricalCrossEntropy { class_weights, ..from_logits() }.into(), &batch(&predictions, &labels));
    assert!(matches!(&error, Error::Shape { what: "class weights", found, .. } if found == &[CLASSES + 1]), "{error}");
    let zeros = Array1::<f64>::zeros(3);
    for evaluation in
        accepted(&from_logits().into(), &batch(&predictions, &labels).sample_weights(zeros.view()).expect("the shapes fit"))
    {
        let totals = evaluation.totals;
        assert_eq!((totals.mean(), totals.weighted_mean(), totals.weight, totals.kept), (0.0, 0.0, 0.0, 3));
    }
}

#[test]
fn a_gradient_that_no_float_can_scale_is_refused() {
    let predictions = arr2(&[[1.0_f32, 2.0, 0.5], [0.0, 0.0, 4.0]]);
    let labels = arr1(&[0_u8, 1]);
    let evaluated = |weight: f64, gradient: Gradient| {
        let weights = arr1(&[0.0, weight]);
        let batch = batch(&predictions, &labels).sample_weights(&weights).expect("the shapes fit");
        let outputs = Outputs { gradient: Some(gradient), ..Outputs::default() };
        let mut in_place = predictions.clone();
        let targets = Targets::classes(&labels);
        let mut other =
            BatchMut::new(in_place.view_mut(), targets).and_then(|other| other.sample_weights(&weights)).expect("they fit");
        let loss = from_logits().into();
        let mut outcomes = all().iter().map(|tested| {
            let apart = tested.windowed.evaluate_blocking(&loss, &batch, &outputs);
            apart.map(|evaluation| evaluation.gradient.map(|gradient| gradient.mapv(f64::from)))
        });
        let first = outcomes.next().expect("there are backends");
        for outcome in outcomes {
            // Errors as text: a NaN in one is unequal to itself.
            assert_eq!(outcome.is_ok(), first.is_ok());
            if let (Err(one), Err(another)) = (&outcome, &first) {
                assert_eq!(one.to_string(), another.to_string());
            }
        }
        // In place it is the same.
        let placed = all()[0].windowed.evaluate_in_place_blocking(&loss, &mut other, &outputs);
        match &first {
            Ok(gradient) => {
                assert!(placed.is_ok(), "{placed:?}");
                assert_eq!(Some(in_place.mapv(f64::from).into_dyn()), *gradient);
            }
            Err(error) => {
                assert_eq!(placed.expect_err("in place no less").to_string(), error.to_string());
                assert_eq!(in_place, predictions, "nothing is overwritten");
            }
        }
        first
    };
    let weighted_mean = Gradient::Of(Reduction::WeightedMean);
    for weight in [1e-300, 1e-39, 1.0, 1e39, 1e300] {
        let gradient = evaluated(weight, weighted_mean).expect("its weight cancels").expect("asked for");
        assert!(gradient.iter().skip(CLASSES).all(|slope| slope.is_finite() && slope.abs() > 1e-3), "{weight}: {gradient}");
    }
    for (weight, gradient) in [
        (1e39, Gradient::Of(Reduction::Sum)),
        (1e40, Gradient::Of(Reduction::Mean)),
        (1e20, Gradient::Scaled(1e20)),
        (1e-310, weighted_mean),
    ] {
        let error = evaluated(weight, gradient).expect_err("no float32 scales it");
        assert!(matches!(error, Error::RowScale { row: 1, .. }), "{weight}: {error}");
    }
    assert!(evaluated(1e-20, Gradient::Scaled(1e50)).is_ok());
    assert!(matches!(evaluated(1.0, Gradient::Scaled(f64::INFINITY)), Err(Error::Option { option: "gradient scale", .. })));
    let outputs = Outputs { gradient: Some(Gradient::Scaled(1e39)), ..Outputs::default() };
    for tested in all() {
        let error = tested.windowed.evaluate_blocking(&from_logits().into(), &batch(&predictions, &labels), &outputs);
        assert!(matches!(error, Err(Error::Option { option: "gradient scale", .. })), "{error:?}");
    }
}

#[test]
fn a_row_that_does_not_count_may_have_any_weight() {
    let predictions = arr2(&[[1.0_f32, 2.0, 0.5], [0.0, 0.0, 4.0]]);
    let (labels, weights) = (arr1(&[0_u8, 1]), arr1(&[2.0, 1e300]));
    let batch = batch(&predictions, &labels).sample_weights(&weights).expect("the shapes fit");
    for reduction in [Reduction::Sum, Reduction::Mean, Reduction::WeightedMean] {
        let outputs = Outputs { gradient: Some(Gradient::Of(reduction)), ..Outputs::default() };
        for tested in all() {
            let evaluation = tested.windowed.evaluate_blocking(&ignoring(1), &batch, &outputs).expect("one row counts");
            let gradient = evaluation.gradient.expect("asked for");
            assert!(gradient.iter().take(CLASSES).all(|slope| slope.is_finite() && *slope != 0.0), "{gradient}");
            assert!(gradient.iter().skip(CLASSES).all(|slope| *slope == 0.0), "{gradient}");
        }
    }
}

#[test]
fn weights_that_add_up_to_no_number_are_no_mean_of_0() {
    let predictions = Array2::<f32>::zeros((2, CLASSES));
    let (labels, weights) = (arr1(&[0_u8, 1]), arr1(&[1e308, 1e308]));
    for evaluation in accepted(&from_logits().into(), &batch(&predictions, &labels).sample_weights(&weights).expect("they fit"))
    {
        assert!(
            evaluation.totals.weight == f64::INFINITY && evaluation.totals.weighted_mean().is_nan(),
            "{:?}",
            evaluation.totals
        );
    }
}

#[test]
fn options_out_of_range_are_refused_before_any_work() {
    let predictions = arr2(&[[0.5_f32, 0.25, 0.25]]);
    let labels = arr1(&[1_u8]);
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("the shapes fit");
    let base = CategoricalCrossEntropy::default;
    for bad in [-0.1, 1.1, f64::NAN] {
        let error = refused(&CategoricalCrossEntropy { label_smoothing: bad, ..base() }.into(), &batch);
        assert!(matches!(error, Error::Option { option: "label_smoothing", .. }), "{error}");
    }
    for bad in [0.0, 0.5, -1e-7, 1e-40, f64::NAN] {
        let error = refused(&CategoricalCrossEntropy { epsilon: bad, ..base() }.into(), &batch);
        assert!(matches!(error, Error::Option { option: "epsilon", .. }), "{error}");
    }
    let error = refused(&CategoricalCrossEntropy { epsilon: 1e-6, ..from_logits() }.into(), &batch);
    assert!(matches!(error, Error::Combination(_)), "{error}");
    let dense = Batch::new(predictions.view(), Targets::dense(predictions.view())).expect("the shapes fit");
    assert!(matches!(refused(&ignoring(0), &dense), Error::Combination(_)));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let predictions = Array2::<f32>::zeros((4, CLASSES));
    let (labels, dense) = (Array1::<u8>::zeros(3), Array2::<f32>::zeros((CLASSES, 4)));
    let error = Batch::new(predictions.view(), Targets::classes(labels.view())).expect_err("3 labels of 4 rows");
    assert!(matches!(&error, Error::Shape { what: "targets", found, .. } if found == &[3]), "{error}");
    let error = Batch::new(predictions.view(), Targets::dense(dense.view())).expect_err("the other way round");
    assert!(matches!(&error, Error::Shape { what: "targets", found, .. } if found == &[CLASSES, 4]), "{error}");
    // Labels as a column are not labels a row.
    let column = Array2::<u8>::zeros((4, 1));
    assert!(Batch::new(predictions.view(), Targets::classes(column.view())).is_err());
    for axis in [2, -3, isize::MAX, isize::MIN] {
        let error = Batch::with_axis(predictions.view(), Targets::dense(predictions.view()), axis).expect_err("no such axis");
        assert_eq!(error, Error::Axis { axis, dimensions: 2 });
    }
    let scalar = arr0(1_f32);
    assert!(matches!(Batch::new(scalar.view(), Targets::dense(scalar.view())), Err(Error::Axis { dimensions: 0, .. })));
    let batch = Batch::new(predictions.view(), Targets::dense(predictions.view())).expect("the shapes fit");
    let weights = Array2::<f32>::zeros((4, 1));
    let error = batch.sample_weights(weights.view()).expect_err("a column of weights");
    assert!(matches!(error, Error::Shape { what: "sample weights", .. }), "{error}");
}

#[test]
fn a_target_that_is_not_finite_breaks_its_row_and_no_other() {
    let predictions = arr2(&[[1.0_f32, 2.0, 0.5], [1.0, 2.0, 0.5], [1.0, 2.0, 0.5]]);
    for input in [Input::Probabilities, Input::Logits, Input::LogProbabilities] {
        let loss = Loss::from(CategoricalCrossEntropy { input, ..CategoricalCrossEntropy::default() });
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let targets = arr2(&[[0.0, 1.0, 0.0], [0.0, 1.0, broken], [0.0, 1.0, 0.0]]);
            let batch = Batch::new(predictions.view(), Targets::dense(targets.view())).expect("the shapes fit");
            let evaluations = accepted(&loss, &batch);
            let first = evaluations[0].totals.clone();
            for evaluation in evaluations {
                assert_eq!(evaluation.totals.correct, first.correct, "{input:?} {broken}");
                assert_eq!(evaluation.totals.top_k, first.top_k, "{input:?} {broken}");
                let finite: Vec<_> = evaluation.losses.iter().flatten().map(|loss| loss.is_finite()).collect();
                assert_eq!(finite, [true, false, true], "{input:?} {broken}");
                assert!(evaluation.totals.sum().is_nan() && evaluation.totals.non_finite == 1);
            }
        }
    }
}
