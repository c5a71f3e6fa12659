//! The streaming metric against the whole that its batches make up, on every backend and across them.

mod support;

use support::backends::{self, Arrays, all, cpu_and_gpu};
use support::kinds;
use support::oracle::{Input, Problem, Targets, Truth};
use support::tolerance::assert_total;
use xent::{Metric, Reduction, Totals};

const ROWS: usize = 90;

/// Without options; with an ignored class and both kinds of weights; with dense targets.
fn problems() -> Vec<Problem> {
    let plain = |input, dense| {
        let mut problem = kinds::problem(5, input, dense, ROWS, 9, 0);
        // Rows that have a loss: a NaN would hide everything else.
        let mut random = kinds::Random::new(3);
        problem.predictions = (0..ROWS).flat_map(|i| kinds::row(&mut random, input, 9, i % 3)).collect();
        if let Targets::Dense(dense) = &mut problem.targets {
            *dense = (0..ROWS).flat_map(|i| kinds::target(&mut random, 9, i % 4)).collect();
        }
        problem
    };
    let mut weighted = plain(Input::Logits, false);
    weighted.ignore_index = Some(4);
    weighted.class_weights = Some((0..9_u8).map(|class| f32::from(class) / 2.0).collect());
    weighted.sample_weights = Some((0..ROWS).map(|row| (row % 4) as f64).collect());
    vec![plain(Input::Probabilities, false), weighted, plain(Input::Probabilities, true)]
}

fn totals(tested: &backends::Tested, problem: &Problem) -> Totals {
    let arrays = Arrays::of(problem);
    let evaluation = tested.windowed.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &backends::everything());
    evaluation.expect("the problem is sound").totals
}

fn assert_whole(metric: &Metric, truth: &Truth, context: &str) {
    let totals = metric.totals();
    assert_total(&format!("{context}: result"), metric.result(), truth.weighted_mean);
    assert_total(&format!("{context}: sum"), totals.sum(), truth.sum);
    assert_total(&format!("{context}: mean"), totals.mean(), truth.mean);
    assert_total(&format!("{context}: weight"), totals.weight, truth.weight);
    assert_eq!(totals.reduced(Reduction::Mean), totals.mean());
    assert_eq!(totals.reduced(Reduction::Sum), totals.sum());
    assert_eq!(totals.reduced(Reduction::WeightedMean), metric.result());
    assert_eq!((totals.rows, totals.kept, totals.correct), (ROWS as u64, truth.kept, truth.correct), "{context}");
    assert_eq!(totals.accuracy(), Some(truth.accuracy()), "{context}");
    for k in backends::TOP_K {
        assert_eq!(totals.top_k_accuracy(k), Some(truth.top_k(u64::from(k))), "{context}, top {k}");
    }
}

#[test]
fn batches_add_up_to_the_whole() {
    for (i, problem) in problems().iter().enumerate() {
        let truth = problem.truth();
        for tested in all() {
            let mut metric = Metric::default();
            for rows in [0..1, 1..40, 40..40, 40..89, 89..90] {
                metric.update_state(&totals(tested, &backends::part(problem, rows)));
            }
            assert_whole(&metric, &truth, &format!("problem {i} on the {}", tested.name));
        }
    }
}

#[test]
fn batches_of_any_backend_join() {
    let [cpu, gpu] = cpu_and_gpu();
    for (i, problem) in problems().iter().enumerate() {
        let truth = problem.truth();
        let (mut metric, mut others) = (Metric::default(), Metric::default());
        metric.update_state(&totals(cpu, &backends::part(problem, 0..30)));
        others.update_state(&totals(gpu, &backends::part(problem, 30..70)));
        others.update_state(&totals(cpu, &backends::part(problem, 70..90)));
        metric.merge(&others);
        assert_whole(&metric, &truth, &format!("problem {i}"));
        // Merging in the other direction, and with nothing.
        let mut first = Metric::default();
        first.update_state(&totals(cpu, &backends::part(problem, 0..30)));
        others.merge(&first);
        others.merge(&Metric::default());
        assert_whole(&others, &truth, &format!("problem {i}, merged the other way round"));
    }
}

#[test]
fn a_reset_forgets() {
    let problem = &problems()[1];
    for tested in all() {
        let mut metric = Metric::default();
        assert_eq!((metric.result(), metric.totals()), (0.0, &Totals::default()));
        metric.update_state(&totals(tested, &backends::part(problem, 3..20)));
        metric.reset_state();
        assert_eq!(metric, Metric::default());
        metric.update_state(&totals(tested, problem));
        assert_whole(&metric, &problem.truth(), tested.name);
    }
}

#[test]
fn a_row_without_a_loss_stays_in_the_result() {
    for tested in all() {
        let mut broken = backends::part(&problems()[0], 0..5);
        let mut metric = Metric::default();
        metric.update_state(&totals(tested, &broken));
        assert!(metric.result().is_finite());
        broken.predictions[2] = f32::NAN;
        metric.update_state(&totals(tested, &broken));
        metric.update_state(&totals(tested, &problems()[0]));
        assert!(metric.result().is_nan());
        assert_eq!(metric.totals().non_finite, 1, "on the {}", tested.name);
    }
}

#[test]
fn ignored_rows_alone_are_0() {
    let mut problem = problems().swap_remove(1);
    problem.targets = Targets::Classes(vec![4; ROWS]);
    for tested in all() {
        let mut metric = Metric::default();
        metric.update_state(&totals(tested, &problem));
        assert_eq!((metric.result(), metric.totals().mean(), metric.totals().kept), (0.0, 0.0, 0));
        assert_eq!((metric.totals().rows, metric.totals().accuracy()), (ROWS as u64, Some(0.0)));
    }
}

#[cfg(feature = "serde")]
#[test]
fn a_metric_survives_being_stored() {
    for problem in problems() {
        let mut metric = Metric::default();
        metric.update_state(&totals(&all()[0], &problem));
        let stored = serde_json::to_string(&metric).expect("numbers and lists");
        let mut back: Metric = serde_json::from_str(&stored).expect("what was stored");
        assert_eq!(back, metric);
        metric.update_state(&totals(&all()[0], &problem));
        back.update_state(&totals(&all()[0], &problem));
        assert_eq!(back, metric);
    }
}

#[cfg(feature = "serde")]
#[test]
fn sums_that_others_have_written_are_read() {
    let of = |loss: &str| {
        let fields = r#""rows":2,"kept":2,"non_finite":0,"weight":2,"ranked":false,"correct":0,"top_k":[]"#;
        serde_json::from_str::<Totals>(&format!("{{\"loss\":{loss},{fields}}}"))
    };
    for (text, sum) in [("3", 3.0), ("-3", -3.0), ("0.5", 0.5), ("\"inf\"", f64::INFINITY), ("\"-inf\"", f64::NEG_INFINITY)] {
        assert_eq!(of(text).expect("a number or a word").sum(), sum, "{text}");
    }
    let error = of("\"much\"").expect_err("no number").to_string();
    assert!(error.contains("much") && error.contains("nan"), "{error}");
    assert!(of("null").is_err());
}

/// What JSON has no numbers for is stored as well: one row without a loss must not cost a job its results.
#[cfg(feature = "serde")]
#[test]
fn a_metric_that_is_not_finite_survives_being_stored() {
    let predictions = ndarray::arr2(&[[f32::NEG_INFINITY, 0.0], [f32::NAN, 0.0], [1.0, 0.0]]);
    let loss = xent::CategoricalCrossEntropy { input: xent::Input::Logits, ..Default::default() }.into();
    let outputs = xent::Outputs { calibration_bins: Some(2), ..Default::default() };
    for (rows, loss_is) in [(0..1, "inf"), (1..2, "nan"), (0..3, "nan"), (2..3, "0.3")] {
        let labels = ndarray::Array1::<u8>::zeros(rows.len());
        let rows = predictions.slice(ndarray::s![rows, ..]);
        let batch = xent::Batch::new(rows, xent::Targets::classes(&labels)).expect("the shapes fit");
        let mut metric = Metric::default();
        metric.update_state(&all()[0].windowed.evaluate_blocking(&loss, &batch, &outputs).expect("it is sound").totals);
        let stored = serde_json::to_string(&metric).expect("numbers, words and lists");
        assert!(
            stored.contains(&format!("\"loss\":\"{loss_is}")) || stored.contains(&format!("\"loss\":{loss_is}")),
            "{stored}"
        );
        let back: Metric = serde_json::from_str(&stored).expect("what was stored");
        // As text: a NaN is unequal to itself.
        assert_eq!(format!("{back:?}"), format!("{metric:?}"));
    }
}
