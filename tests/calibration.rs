//! Calibration and its companions as totals: parts merge into the whole, bins have the edges that are promised, and rows
//! that cannot be judged show.

mod support;

use ndarray::{arr1, arr2};
use support::answers::{self, Asked};
use support::backends::{self, Arrays, Tested, all, cpu_and_gpu};
use support::kinds::Random;
use support::moderate::{self, Setup};
use support::oracle::{Extra, Input as Given, Problem, Targets};
use support::tolerance;
use xent::{Batch, CategoricalCrossEntropy, Input, Metric, Outputs, Totals};

const ROWS: usize = 2500;
const BINS: u32 = 10;

/// Rows beyond two of the blocks that sums are folded in, some of them ignored.
fn problem(setup: &Setup, dense: bool) -> Problem {
    let mut problem = moderate::problem(31, setup, dense, ROWS, 4, 1e-7);
    problem.sample_weights = Some((0..ROWS).map(|row| (row % 4) as f64 * 0.6).collect());
    if let Targets::Classes(labels) = &mut problem.targets {
        problem.ignore_index = Some(-1);
        labels.iter_mut().step_by(7).for_each(|label| *label = -1);
    }
    problem
}

/// Probabilities, logits and log-probabilities, and a loss whose plain cross-entropy is another.
fn problems() -> Vec<Problem> {
    let chosen = ["probabilities", "logits", "log-probabilities", "focal logits", "all of these and poly"];
    chosen.iter().enumerate().map(|(i, name)| problem(&moderate::named(name), i % 2 == 1)).collect()
}

fn outputs(bins: Option<u32>) -> Outputs {
    Outputs { calibration_bins: bins, ..Outputs::default() }
}

fn totals(evaluator: &xent::Evaluator, problem: &Problem, bins: Option<u32>) -> Totals {
    let arrays = Arrays::of(problem);
    let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &outputs(bins));
    evaluation.expect("the problem is sound").totals
}

/// Counts are whole, and sums of sums differ by what float64 rounds.
fn assert_whole(got: &Totals, whole: &Totals, context: &str) {
    let near = |what: &str, got: Option<f64>, want: Option<f64>| match (got, want) {
        (Some(got), Some(want)) => {
            tolerance::check(got, want, 1e-12 * want.abs() + 1e-15).unwrap_or_else(|why| panic!("{context}, {what}: {why}"));
        }
        _ => assert_eq!(got, want, "{context}, {what}"),
    };
    near("plain", got.plain, whole.plain);
    near("perplexity", got.perplexity(), whole.perplexity());
    near("entropy", got.entropy(), whole.entropy());
    near("Brier score", got.brier(), whole.brier());
    near("expected error", got.expected_calibration_error(), whole.expected_calibration_error());
    near("maximum error", got.maximum_calibration_error(), whole.maximum_calibration_error());
    let counts = |totals: &Totals| {
        let bins = totals.calibration.iter().flat_map(|calibration| &calibration.bins);
        bins.map(|bin| (bin.rows, bin.correct)).collect::<Vec<_>>()
    };
    assert_eq!(counts(got), counts(whole), "{context}");
    assert_eq!((got.rows, got.kept, got.correct), (whole.rows, whole.kept, whole.correct), "{context}");
}

#[test]
fn totals_are_what_the_oracle_says() {
    for problem in &problems() {
        let asked = Asked { bins: Some(BINS), ..Asked::default() };
        if let Err(why) = answers::verdict(problem, &Arrays::of(problem), asked) {
            panic!("{:?} {:?}: {why}", problem.input, problem.extra);
        }
    }
}

/// Whatever else the loss has: perplexity is of the plain cross-entropy.
#[test]
fn a_masked_class_with_a_negative_target_is_infinitely_perplexing() {
    let (predictions, targets) = (arr2(&[[f32::NEG_INFINITY, 1.0, 0.0]]), arr2(&[[-1.0_f32, 1.0, 0.0]]));
    let batch = Batch::new(predictions.view(), xent::Targets::dense(targets.view())).expect("shapes fit");
    let plain = CategoricalCrossEntropy { input: Input::Logits, ..CategoricalCrossEntropy::default() };
    let losses = [
        plain.clone(),
        CategoricalCrossEntropy { label_smoothing: 0.1, ..plain.clone() },
        CategoricalCrossEntropy { poly_epsilon: Some(1.0), ..plain.clone() },
        CategoricalCrossEntropy { softcap: Some(5.0), ..plain },
    ];
    for (tested, loss) in all().iter().flat_map(|tested| losses.iter().map(move |loss| (tested, loss))) {
        let outputs = outputs(Some(BINS));
        let evaluation = tested.evaluator.evaluate_blocking(&loss.clone().into(), &batch, &outputs).expect("it is sound");
        assert_eq!(evaluation.totals.perplexity(), Some(f64::INFINITY), "{loss:?} on the {}", tested.name);
    }
}

#[test]
fn parts_merge_into_the_whole_across_backends() {
    let [cpu, gpu] = cpu_and_gpu();
    for (index, problem) in problems().iter().enumerate() {
        let whole = totals(&cpu.evaluator, problem, Some(BINS));
        let mut metric = Metric::default();
        let mut second = Metric::default();
        for rows in [0..1, 1..1000, 1000..1000, 1000..2499] {
            metric.update_state(&totals(&cpu.evaluator, &backends::part(problem, rows), Some(BINS)));
        }
        second.update_state(&totals(&cpu.evaluator, &backends::part(problem, 2499..ROWS), Some(BINS)));
        metric.merge(&second);
        assert_whole(metric.totals(), &whole, &format!("problem {index}, on the CPU"));
        // The backends round each by itself, but they count alike.
        let mut mixed = Totals::default();
        for (tested, rows) in [cpu, gpu].into_iter().zip([0..1300, 1300..ROWS]) {
            mixed.merge(&totals(&tested.evaluator, &backends::part(problem, rows), Some(BINS)));
        }
        let errors = [&mixed, &whole].map(Totals::expected_calibration_error);
        if let [Some(got), Some(want)] = errors {
            tolerance::check_metric(got, want).unwrap_or_else(|why| panic!("problem {index}, mixed: {why}"));
        }
        assert_eq!((mixed.rows, mixed.kept), (whole.rows, whole.kept), "problem {index}");
    }
}

#[test]
fn sums_have_the_same_bits_however_rows_are_cut() {
    for tested in all() {
        let short = tested.evaluator.clone().with_window_rows(Some(611));
        for (index, problem) in problems().iter().enumerate() {
            let context = format!("problem {index} on the {}", tested.name);
            let whole = totals(&tested.evaluator, problem, Some(BINS));
            // No NaN among them: equal values have equal bits, but for the sign of a 0.
            assert_eq!(totals(&short, problem, Some(BINS)), whole, "{context}");
            let loss = backends::loss(problem);
            let mut stream = tested.evaluator.stream(&loss, &outputs(Some(BINS)));
            for rows in [0..3, 3..1500, 1500..ROWS] {
                stream.push_blocking(&Arrays::of(&backends::part(problem, rows)).batch()).expect("the problem is sound");
            }
            assert_eq!(stream.finish().totals, whole, "{context}, as a stream");
        }
    }
}

#[test]
fn merging_drops_what_one_side_does_not_have() {
    let problem = &problems()[0];
    let cpu = &all()[0].evaluator;
    let [ten, five, none] = [Some(10), Some(5), None].map(|bins| totals(cpu, &backends::part(problem, 0..50), bins));
    let merged = |a: &Totals, b: &Totals| {
        let mut merged = a.clone();
        merged.merge(b);
        merged
    };
    // Bins of other widths hold other rows: there is no error to say, but perplexity does not depend on them.
    for (a, b) in [(&ten, &five), (&five, &ten)] {
        let both = merged(a, b);
        assert_eq!((both.calibration.as_ref(), both.expected_calibration_error()), (None, None));
        assert!(both.perplexity().is_some());
    }
    for (a, b) in [(&ten, &none), (&none, &ten)] {
        let both = merged(a, b);
        assert_eq!((both.plain, both.perplexity(), both.entropy(), both.brier()), (None, None, None, None));
        assert_eq!(both.maximum_calibration_error(), None);
    }
    assert_eq!(merged(&Totals::default(), &ten), ten);
    assert_eq!(merged(&ten, &Totals::default()), ten);
}

fn evaluated(tested: &Tested, input: Input, rows: &[[f32; 2]], labels: &[i64], ignore_index: Option<i64>) -> Totals {
    let (predictions, labels) = (arr2(rows), arr1(labels));
    let batch = Batch::new(predictions.view(), xent::Targets::classes(labels.view())).expect("the shapes fit");
    let loss = CategoricalCrossEntropy { input, ignore_index, ..CategoricalCrossEntropy::default() }.into();
    tested.evaluator.evaluate_blocking(&loss, &batch, &outputs(Some(4))).expect("the problem is sound").totals
}

#[test]
fn bins_are_open_below_and_closed_above() {
    let rows = [[0.5, 0.5], [0.25, 0.75], [1.0, 0.0], [0.51, 0.49], [0.76, 0.24]];
    for tested in all() {
        let totals = evaluated(tested, Input::Probabilities, &rows, &[0, 0, 0, 0, 1], None);
        let bins = totals.calibration.as_ref().expect("asked for").bins.clone();
        let counts: Vec<_> = bins.iter().map(|bin| (bin.rows, bin.correct)).collect();
        assert_eq!(counts, [(0, 0), (1, 1), (2, 1), (2, 1)], "{}", tested.name);
        let want = (0.5 + (1.0_f64 - 0.75 - 0.51).abs() + (1.0_f64 - 1.0 - 0.76).abs()) / 5.0;
        let got = totals.expected_calibration_error().expect("asked for");
        tolerance::check_metric(got, want).unwrap_or_else(|why| panic!("{}: {why}", tested.name));
        // Bins of 1, 2 and 2 rows: the first is the worst.
        let got = totals.maximum_calibration_error().expect("asked for");
        tolerance::check_metric(got, 0.5).unwrap_or_else(|why| panic!("{}: {why}", tested.name));
    }
}

/// 1 / classes is an edge, and mostly no float32.
#[test]
fn equal_logits_are_on_an_edge_and_not_above_it() {
    const EDGES: u32 = 420;
    for classes in [3_u32, 5, 6, 7, 15, 30, 140] {
        for (input, value) in
            [(Input::Logits, 0.0), (Input::Logits, -7.3), (Input::Probabilities, 0.1), (Input::Probabilities, 1.0)]
        {
            let predictions = ndarray::Array2::from_elem((1, classes as usize), value);
            let labels = arr1(&[0_i64]);
            let batch = Batch::new(predictions.view(), xent::Targets::classes(labels.view())).expect("the shapes fit");
            let loss = CategoricalCrossEntropy { input, ..CategoricalCrossEntropy::default() }.into();
            for tested in all() {
                let totals =
                    tested.evaluator.evaluate_blocking(&loss, &batch, &outputs(Some(EDGES))).expect("it is sound").totals;
                let place = totals.calibration.expect("asked for").bins.iter().position(|bin| bin.rows > 0);
                assert_eq!(place, Some((EDGES / classes - 1) as usize), "{classes} of {input:?} {value} on {}", tested.name);
            }
        }
    }
}

#[test]
fn nothing_kept_is_0_and_a_perplexity_of_1() {
    for tested in all() {
        let ignored = evaluated(tested, Input::Logits, &[[f32::NAN, 1.0], [0.0, 1.0]], &[-1, -1], Some(-1));
        let none = evaluated(tested, Input::Logits, &[], &[], None);
        for totals in [ignored, none] {
            assert_eq!(totals.kept, 0);
            assert_eq!(totals.perplexity(), Some(1.0), "{}", tested.name);
            let zeros =
                [totals.entropy(), totals.brier(), totals.expected_calibration_error(), totals.maximum_calibration_error()];
            assert_eq!(zeros, [Some(0.0); 4], "{}", tested.name);
        }
    }
}

#[test]
fn a_row_that_cannot_be_judged_shows_in_everything() {
    for tested in all() {
        let totals = evaluated(tested, Input::Logits, &[[f32::NAN, 1.0], [0.0, 1.0]], &[0, 1], None);
        let all = [
            totals.perplexity(),
            totals.entropy(),
            totals.brier(),
            totals.expected_calibration_error(),
            totals.maximum_calibration_error(),
        ];
        assert!(all.iter().all(|value| value.is_some_and(f64::is_nan)), "{}: {all:?}", tested.name);
    }
}

/// A masked class has a probability of 0, which adds nothing to the entropy.
#[test]
fn masked_classes_add_nothing() {
    for tested in all() {
        let totals = evaluated(tested, Input::Logits, &[[0.0, f32::NEG_INFINITY]], &[0], None);
        assert_eq!((totals.entropy(), totals.brier(), totals.perplexity()), (Some(0.0), Some(0.0), Some(1.0)));
        assert_eq!(totals.expected_calibration_error(), Some(0.0), "{}", tested.name);
    }
}

/// Rows of logits as they come, with their unit left behind, far from 0, and masked: entropy and Brier score have their
/// digits everywhere, however long the row is and however its logits are moved.
#[test]
fn rows_of_every_length_and_place() {
    let (mut random, mut others) = (Random::new(77), Random::new(78));
    let moves = [(1.0, None), (0.7, None), (30.0, None), (1.0, Some(20.0))];
    for classes in [2, 17, 130, 1000] {
        for (place, (scale, offset)) in [(0.1, 0.0), (3.0, 0.0), (30.0, 1e3), (3.0, -9e4), (2.0, 3e5)].into_iter().enumerate() {
            for kind in 0..5 {
                let random = if kind == 4 { &mut others } else { &mut random };
                // What a lane takes in of a row first, and a part of what it takes in next.
                let early = if classes > 192 { 12 * 16 } else { 12 };
                let logit = |class: usize, random: &mut Random| {
                    let ascending = if kind == 1 { 0.2 * class as f64 } else { 0.0 };
                    match class % 3 {
                        _ if kind == 4 && class < early => (-3e5 + scale * random.uniform()) as f32,
                        1 if kind == 2 => f32::NEG_INFINITY,
                        1 if kind == 3 => f32::MIN,
                        _ => (scale * (2.0 * random.uniform() - 1.0) + offset + ascending) as f32,
                    }
                };
                let rows = 3;
                let predictions = (0..rows * classes).map(|at| logit(at % classes, random)).collect();
                let (temperature, softcap) = moves[(place + kind) % moves.len()];
                let dense = kind == 1;
                let problem = Problem {
                    input: Given::Logits,
                    rows,
                    classes,
                    predictions,
                    targets: if dense {
                        Targets::Dense((0..rows * classes).map(|_| random.uniform() as f32).collect())
                    } else {
                        // One that is not masked.
                        Targets::Classes((0..rows).map(|_| (random.below(classes.div_ceil(3)) * 3) as i64).collect())
                    },
                    label_smoothing: 0.0,
                    epsilon: 1e-7,
                    ignore_index: None,
                    class_weights: None,
                    sample_weights: None,
                    extra: Extra { temperature, softcap, ..Extra::default() },
                };
                let asked = Asked { bins: Some(BINS), ..Asked::default() };
                if let Err(why) = answers::verdict(&problem, &Arrays::of(&problem), asked) {
                    panic!(
                        "{classes} classes, {scale} around {offset}, kind {kind}, moved by {temperature}, {softcap:?}: {why}"
                    );
                }
            }
        }
    }
}
