//! What becomes of numbers that are not finite on the way to metrics and gradients, and of batches that come to no end.

use ndarray::{Array2, arr1, arr2};
use xent::{
    BackendChoice, Batch, BinaryCrossEntropy, CategoricalCrossEntropy, Error, Evaluation, Evaluator, EvaluatorDescriptor,
    Focal, Gradient, Input, Loss, Outputs, Reduction, Targets,
};

const INFINITY: f32 = f32::INFINITY;

fn evaluators() -> [Evaluator; 2] {
    [BackendChoice::Cpu, BackendChoice::Gpu].map(|backend| {
        let descriptor = EvaluatorDescriptor { backend, window_rows: Some(4), ..Default::default() };
        Evaluator::new_blocking(&descriptor).expect("GPU tests need an adapter: on Debian, apt-get install mesa-vulkan-drivers")
    })
}

fn everything() -> Outputs {
    let gradient = Some(Gradient::Of(Reduction::Sum));
    Outputs { losses: true, gradient, calibration_bins: Some(15), ..Outputs::default() }
}

fn on_both(loss: &CategoricalCrossEntropy, batch: &Batch<'_>) -> [Evaluation; 2] {
    let loss = Loss::from(loss.clone());
    evaluators().map(|evaluator| evaluator.evaluate_blocking(&loss, batch, &everything()).expect("it evaluates"))
}

#[test]
fn an_impossible_label_has_no_finite_perplexity() {
    let loss = CategoricalCrossEntropy { input: Input::LogProbabilities, ..Default::default() };
    for (label, want) in [(-INFINITY, f64::INFINITY), (f32::NAN, f64::NAN), (-0.5, 0.5_f64.exp())] {
        let (predictions, labels) = (arr2(&[[label, -1.0]]), arr1(&[0]));
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
        for result in on_both(&loss, &batch) {
            let got = result.totals.perplexity().expect("log-probabilities have a perplexity");
            let same = (got.is_nan() && want.is_nan()) || got == want || (got / want - 1.0).abs() < 1e-6;
            assert!(same, "{label} on {:?}: {got}, want {want}", result.backend);
        }
    }
}

#[test]
fn a_row_that_is_no_number_has_no_gradient() {
    let loss = CategoricalCrossEntropy { input: Input::LogProbabilities, ..Default::default() };
    let (predictions, targets) = (arr2(&[[INFINITY, -INFINITY, -1.0], [-1.0, -2.0, -3.0]]), Array2::<f32>::ones((2, 3)));
    let batch = Batch::new(predictions.view(), Targets::dense(targets.view())).expect("shapes fit");
    for result in on_both(&loss, &batch) {
        let gradient = result.gradient.expect("a gradient was asked for");
        let row = |row: usize| (0..3).map(|class| gradient[[row, class]]).collect::<Vec<_>>();
        assert!(row(0).iter().all(|g| g.is_nan()), "{:?} on {:?}", row(0), result.backend);
        assert_eq!(row(1), [-1.0; 3]);
    }
}

#[test]
fn a_masked_class_costs_infinity_whatever_the_sign_of_its_target() {
    let (predictions, targets) = (arr2(&[[-INFINITY, 1.0, 2.0]]), arr2(&[[-0.5_f32, 1.0, 0.5]]));
    let batch = Batch::new(predictions.view(), Targets::dense(targets.view())).expect("shapes fit");
    for poly_epsilon in [None, Some(1.0)] {
        let loss = CategoricalCrossEntropy { input: Input::Logits, poly_epsilon, ..Default::default() };
        for result in on_both(&loss, &batch) {
            assert_eq!(result.totals.sum(), f64::INFINITY, "{poly_epsilon:?} on {:?}", result.backend);
        }
    }
}

/// An epsilon that float32 does not take away from 1.
const TINY: f64 = 1e-12;

#[test]
fn a_label_that_has_everything_costs_a_focal_loss_nothing() {
    let labels = arr1(&[0]);
    for (input, predictions) in
        [(Input::Logits, arr2(&[[200.0_f32, 0.0, 0.0]])), (Input::Probabilities, arr2(&[[1.0, 0.0, 0.0]]))]
    {
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
        for gamma in [0.5, 2.0] {
            let focal = Some(Focal { gamma, alpha: 0.25 });
            let loss = CategoricalCrossEntropy { input, epsilon: TINY, focal, ..Default::default() };
            for result in on_both(&loss, &batch) {
                let gradient = result.gradient.expect("a gradient was asked for");
                assert_eq!(result.totals.sum(), 0.0, "{input:?} on {:?}", result.backend);
                assert!(gradient.iter().all(|&g| g == 0.0), "{input:?} on {:?}: {gradient}", result.backend);
            }
        }
    }
}

#[test]
fn a_class_that_has_everything_costs_a_binary_loss_nothing_or_infinity() {
    let outputs = Outputs { losses: true, accuracy: false, gradient: Some(Gradient::Of(Reduction::Sum)), ..Outputs::default() };
    let predictions = arr2(&[[1.0_f32, 0.25]]);
    let right = -0.75_f32.ln() / 2.0;
    // A smoothing that leaves 1 what it is takes a share of it all the same.
    for (target, label_smoothing, want, slope) in [
        (1.0, 0.0, right, -0.5),
        (1.0, 1e-8, INFINITY, INFINITY),
        (0.0, 0.0, INFINITY, INFINITY),
        (0.5, 0.0, INFINITY, INFINITY),
    ] {
        let loss = Loss::from(BinaryCrossEntropy { epsilon: TINY, label_smoothing, ..Default::default() });
        let targets = arr2(&[[target, 0.0_f32]]);
        let batch = Batch::new(predictions.view(), Targets::dense(targets.view())).expect("shapes fit");
        for evaluator in evaluators() {
            let result = evaluator.evaluate_blocking(&loss, &batch, &outputs).expect("it evaluates");
            let got = result.losses.expect("losses were asked for")[0];
            assert!(got == want || (got / want - 1.0).abs() < 1e-6, "{target} on {:?}: {got}, want {want}", result.backend);
            let gradient = result.gradient.expect("a gradient was asked for");
            assert_eq!(gradient[[0, 0]], slope, "{target} on {:?}", result.backend);
            assert!((gradient[[0, 1]] * 1.5 - 1.0).abs() < 1e-6, "{target} on {:?}: {gradient}", result.backend);
        }
    }
}

#[test]
fn a_masked_class_costs_a_binary_loss_nothing_where_it_has_no_target() {
    let loss = Loss::from(BinaryCrossEntropy { input: Input::Logits, ..Default::default() });
    let outputs = Outputs { losses: true, accuracy: false, gradient: Some(Gradient::Of(Reduction::Sum)), ..Outputs::default() };
    let rest = 2.0_f32.ln() / 2.0;
    for (x, target, want, slope) in [
        (-INFINITY, 0.0, rest, 0.0),
        (-INFINITY, 0.5, INFINITY, -0.25),
        (-INFINITY, -0.5, INFINITY, 0.25),
        (INFINITY, 1.0, f32::NAN, f32::NAN),
        (f32::NAN, 0.0, f32::NAN, f32::NAN),
    ] {
        let (predictions, targets) = (arr2(&[[x, 0.0]]), arr2(&[[target, 1.0_f32]]));
        let batch = Batch::new(predictions.view(), Targets::dense(targets.view())).expect("shapes fit");
        for evaluator in evaluators() {
            let result = evaluator.evaluate_blocking(&loss, &batch, &outputs).expect("it evaluates");
            let (got, gradient) = (result.losses.expect("losses")[0], result.gradient.expect("a gradient")[[0, 0]]);
            let same = |got: f32, want: f32| (got.is_nan() && want.is_nan()) || got == want || (got - want).abs() < 1e-6;
            let context = format!("{x} with {target} on {:?}: {got}, {gradient}", result.backend);
            assert!(same(got, want) && same(gradient, slope), "{context}");
        }
    }
}

#[test]
fn outputs_that_no_one_can_hold_are_refused() {
    let (predictions, labels) = (arr2(&[[1.0_f32, 2.0]]), arr1(&[0]));
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
    let loss = CategoricalCrossEntropy::default().into();
    let bad = [
        Outputs { calibration_bins: Some(u32::MAX), ..Outputs::default() },
        Outputs { gradient: Some(Gradient::Scaled(f64::NAN)), ..Outputs::default() },
        Outputs { top_k: vec![1, 0], ..Outputs::default() },
    ];
    for outputs in bad {
        let [evaluator, _] = evaluators();
        let refused = evaluator.evaluate_blocking(&loss, &batch, &outputs);
        assert!(matches!(refused, Err(Error::Option { .. })), "{outputs:?}");
    }
}

/// A caller with a timeout drops the future: the rows of that batch are not in the totals, those before are.
#[test]
fn a_push_that_is_dropped_leaves_the_batches_before() {
    let (predictions, labels) = (Array2::<f32>::ones((9, 3)), ndarray::Array1::<u8>::zeros(9));
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
    let loss = CategoricalCrossEntropy::default().into();
    for evaluator in evaluators() {
        let mut stream = evaluator.stream(&loss, &Outputs::default());
        stream.push_blocking(&batch).expect("it evaluates");
        let dropped = {
            let mut push = Box::pin(stream.push(&batch));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            push.as_mut().poll(&mut context).is_pending()
        };
        stream.push_blocking(&batch).expect("it evaluates");
        // On the CPU a push never waits, so it came to its end.
        assert_eq!(stream.finish().totals.rows, if dropped { 18 } else { 27 });
    }
}
