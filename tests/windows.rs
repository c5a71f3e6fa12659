//! The same bits however a batch is cut: into windows, into the batches of a stream, and on every run.

mod support;

use support::backends::{self, Arrays, Tested};
use support::kinds;
use support::oracle::{Input, Problem, Targets};
use xent::{Evaluation, Totals};

/// Few and many, on both sides of the change from lanes to workgroups, and rows that begin at every place of a word.
const CLASSES: [usize; 5] = [3, 10, 64, 65, 257];

/// Every kind of row and every option that has a part in a row's sums.
fn problem(input: Input, dense: bool, rows: usize, classes: usize) -> Problem {
    let mut problem = kinds::problem((rows * classes) as u64, input, dense, rows, classes, 0);
    problem.label_smoothing = if classes.is_multiple_of(2) { 0.1 } else { 0.0 };
    problem.class_weights = Some((0..classes).map(|class| (class % 5) as f32 * 0.3).collect());
    problem.sample_weights = Some((0..rows).map(|row| (row % 7) as f64 * 0.7).collect());
    if let Targets::Classes(labels) = &mut problem.targets {
        problem.ignore_index = Some(-1);
        labels.iter_mut().step_by(11).for_each(|label| *label = -1);
    }
    problem
}

/// Bits of the sums, beside the counts: NaN has bits that are equal where it is not.
fn bits(totals: &Totals) -> (u64, u64, Totals) {
    let mut counts = totals.clone();
    counts.loss = 0.0;
    counts.weight = 0.0;
    (totals.loss.to_bits(), totals.weight.to_bits(), counts)
}

fn loss_bits(losses: impl IntoIterator<Item = f32>) -> Vec<u32> {
    losses.into_iter().map(f32::to_bits).collect()
}

fn evaluate(evaluator: &xent::Evaluator, problem: &Problem) -> Evaluation {
    let arrays = Arrays::of(problem);
    let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &backends::everything());
    evaluation.expect("the problem is sound")
}

fn assert_same(got: &Evaluation, want: &Evaluation, context: &str) {
    let losses = |evaluation: &Evaluation| loss_bits(evaluation.losses.iter().flatten().copied());
    let (got_losses, want_losses) = (losses(got), losses(want));
    for (row, (got, want)) in got_losses.iter().zip(&want_losses).enumerate() {
        assert_eq!(got, want, "{context}, row {row}: {} and {}", f32::from_bits(*got), f32::from_bits(*want));
    }
    assert_eq!(got_losses.len(), want_losses.len(), "{context}");
    assert_eq!(bits(&got.totals), bits(&want.totals), "{context}");
}

/// Every input with either kind of targets.
fn for_each_problem(rows: impl Fn(usize) -> usize, test: impl Fn(&Problem, &Tested, &str)) {
    for input in [Input::Probabilities, Input::Logits, Input::LogProbabilities] {
        for dense in [false, true] {
            for classes in CLASSES {
                let problem = problem(input, dense, rows(classes), classes);
                for tested in backends::all() {
                    test(&problem, tested, &format!("{input:?} dense={dense} classes={classes} on the {}", tested.name));
                }
            }
        }
    }
}

#[test]
fn windows_change_no_bit() {
    for tested in backends::all() {
        let cut = [1, 7, 64].map(|rows| (rows, tested.evaluator.clone().with_window_rows(Some(rows))));
        for_each_problem(
            |_| 131,
            |problem, other, context| {
                if other.name != tested.name {
                    return;
                }
                let whole = evaluate(&tested.evaluator, problem);
                for (rows, evaluator) in &cut {
                    assert_same(&evaluate(evaluator, problem), &whole, &format!("{context}, windows of {rows}"));
                }
            },
        );
    }
}

/// Losses, logsumexp and gradient as bits, of float32 or float16 predictions, and the totals.
fn everything_of(evaluator: &xent::Evaluator, problem: &Problem, halves: bool) -> ([Vec<u32>; 3], Totals) {
    let shape = (problem.rows, problem.classes);
    let predictions = ndarray::Array2::from_shape_vec(shape, problem.predictions.clone()).expect("a number for each class");
    let narrow = predictions.mapv(half::f16::from_f32);
    let arrays = Arrays::of(problem);
    let batch = if halves {
        let Targets::Classes(labels) = &problem.targets else { panic!("class indices") };
        let labels = ndarray::ArrayView1::from(labels.as_slice());
        xent::Batch::new(narrow.view(), xent::Targets::classes(labels)).expect("shapes fit")
    } else {
        arrays.batch()
    };
    let logsumexp = problem.input == Input::Logits;
    let gradient = Some(xent::Gradient::Of(xent::Reduction::Mean));
    let outputs = xent::Outputs { logsumexp, gradient, ..backends::everything() };
    let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &batch, &outputs).expect("the problem is sound");
    let parts = [evaluation.losses, evaluation.logsumexp, evaluation.gradient];
    (parts.map(|part| loss_bits(part.into_iter().flatten())), evaluation.totals)
}

/// However many windows are under way, and whether they are copied or lie in memory that host and device share.
#[test]
fn windows_in_flight_change_no_bit() {
    let open = |software, window_rows, copies, in_flight| {
        let pretence = xent::Pretence { software, copies, in_flight, ..xent::Pretence::default() };
        backends::gpu().with_window_rows(window_rows).with_pretence(pretence)
    };
    let flights = [(false, Some(1)), (false, Some(3)), (true, Some(2)), (true, Some(7)), (false, None)];
    let ways: Vec<_> =
        flights.into_iter().flat_map(|(copies, in_flight)| [6, 19].map(|rows| (rows, copies, in_flight))).collect();
    // A GPU's drivers of more than a lane to a row take whole words, and rows begin at every place of one, of both widths.
    for (software, classes) in [(None, 3), (None, 10), (None, 65), (Some(false), 65), (Some(false), 303)] {
        let whole = open(software, None, false, None);
        let cut: Vec<_> = ways.iter().map(|&(rows, copies, in_flight)| open(software, Some(rows), copies, in_flight)).collect();
        for (input, dense, halves) in
            [(Input::Logits, false, false), (Input::Logits, false, true), (Input::Probabilities, true, false)]
        {
            let problem = problem(input, dense, 67, classes);
            let (parts, totals) = everything_of(&whole, &problem, halves);
            for (evaluator, way) in cut.iter().zip(&ways) {
                let (got, sums) = everything_of(evaluator, &problem, halves);
                let context = format!(
                    "{input:?} classes={classes} software={software:?} halves={halves} (rows, copies, in flight)={way:?}"
                );
                assert_eq!(got, parts, "{context}");
                assert_eq!(bits(&sums), bits(&totals), "{context}");
            }
        }
    }
}

#[test]
fn the_same_call_gives_the_same_bits_again() {
    for_each_problem(
        |_| 131,
        |problem, tested, context| {
            let first = evaluate(&tested.windowed, problem);
            for _ in 0..2 {
                assert_same(&evaluate(&tested.windowed, problem), &first, context);
            }
        },
    );
}

/// Pushes the problem's rows in batches of these sizes, the last one as long as it takes.
fn stream(evaluator: &xent::Evaluator, problem: &Problem, sizes: &[usize]) -> (Vec<u32>, Evaluation) {
    let mut stream = evaluator.stream(&backends::loss(problem), &backends::everything());
    let mut losses = Vec::new();
    let mut start = 0;
    for size in sizes.iter().copied().chain([problem.rows]) {
        let end = problem.rows.min(start + size);
        let part = backends::part(problem, start..end);
        let arrays = Arrays::of(&part);
        let pushed = stream.push_blocking(&arrays.batch()).expect("the problem is sound");
        assert_eq!(pushed.losses.len(), end - start);
        losses.extend(loss_bits(pushed.losses.iter().copied()));
        start = end;
        assert_eq!(stream.rows(), end as u64);
    }
    (losses, stream.finish())
}

#[test]
fn batches_of_a_stream_change_no_bit() {
    // Around the 1,024 rows that totals are summed in, one by one, and none at all.
    let cuts: [&[usize]; 4] = [&[1, 2, 1023], &[1024, 0, 1025], &[1025, 1, 1, 1, 1020], &[7, 64, 65, 127]];
    for_each_problem(
        |classes| if classes < 64 { 2500 } else { 1100 },
        |problem, tested, context| {
            let whole = evaluate(&tested.evaluator, problem);
            let losses = loss_bits(whole.losses.iter().flatten().copied());
            for sizes in cuts {
                let (pushed, evaluation) = stream(&tested.windowed, problem, sizes);
                let context = format!("{context}, batches of {sizes:?}");
                assert_eq!(pushed, losses, "{context}");
                assert_eq!(bits(&evaluation.totals), bits(&whole.totals), "{context}");
                assert!(evaluation.losses.is_none(), "they went by");
            }
        },
    );
}

/// A stream's buffers hold the losses and ranks of the batch before: a slot that nobody wrote would show them.
#[test]
fn nothing_is_left_of_the_batch_before() {
    for_each_problem(
        |_| 70,
        |problem, tested, context| {
            // The poison fills the same places: as many rows, all of them NaN.
            let mut poison = problem.clone();
            poison.predictions.fill(f32::NAN);
            if let Targets::Classes(labels) = &mut poison.targets {
                labels.fill(0);
            }
            let alone = evaluate(&tested.windowed, problem);
            let loss = backends::loss(problem);
            let mut stream = tested.windowed.stream(&loss, &backends::everything());
            // A multiple of 4 rows, so that the rows after them begin at the same places of a word as they do alone.
            for rows in [problem.rows, problem.rows, 16] {
                stream.push_blocking(&Arrays::of(&backends::part(&poison, 0..rows)).batch()).expect("NaN is no error");
            }
            let pushed = stream.push_blocking(&Arrays::of(problem).batch()).expect("the problem is sound");
            assert_eq!(
                loss_bits(pushed.losses.iter().copied()),
                loss_bits(alone.losses.iter().flatten().copied()),
                "{context}"
            );
            // Of the poison nothing is right.
            let totals = stream.finish().totals;
            assert_eq!((totals.correct, totals.top_k), (alone.totals.correct, alone.totals.top_k), "{context}");
        },
    );
}

/// What is asked for besides does not touch the losses.
#[test]
fn outputs_change_no_bit() {
    for_each_problem(
        |_| 50,
        |problem, tested, context| {
            let arrays = Arrays::of(problem);
            let all = evaluate(&tested.windowed, problem);
            for (accuracy, top_k) in [(false, vec![]), (true, vec![]), (false, vec![3, 1, 3])] {
                let outputs = xent::Outputs { losses: true, accuracy, top_k: top_k.clone(), ..xent::Outputs::default() };
                let loss = backends::loss(problem);
                let some = tested.windowed.evaluate_blocking(&loss, &arrays.batch(), &outputs).expect("the problem is sound");
                let losses = |evaluation: &Evaluation| loss_bits(evaluation.losses.iter().flatten().copied());
                assert_eq!(losses(&some), losses(&all), "{context}");
                assert_eq!(some.totals.sum().to_bits(), all.totals.sum().to_bits(), "{context}");
                assert_eq!(some.totals.accuracy().is_some(), accuracy || !top_k.is_empty(), "{context}");
                if some.totals.ranked {
                    // Whether a label is the first of its row's maxima has a shorter way than how many are above it.
                    assert_eq!(some.totals.correct, all.totals.correct, "{context}, top {top_k:?}");
                }
                assert_eq!(some.totals.top_k_accuracy(1).is_some(), !top_k.is_empty(), "{context}");
            }
            if problem.input != Input::LogProbabilities {
                let calibrated = xent::Outputs { calibration_bins: Some(15), ..backends::everything() };
                let loss = backends::loss(problem);
                let calibrated = tested.windowed.evaluate_blocking(&loss, &arrays.batch(), &calibrated);
                let calibrated = calibrated.expect("the problem is sound");
                let losses = |evaluation: &Evaluation| loss_bits(evaluation.losses.iter().flatten().copied());
                assert_eq!(losses(&calibrated), losses(&all), "{context}");
            }
            let none = xent::Outputs { losses: false, accuracy: false, ..xent::Outputs::default() };
            let none = tested.windowed.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &none);
            assert_eq!(none.expect("the problem is sound").losses, None, "{context}");
        },
    );
}

/// A row's bits are its own, whatever the rows are that share its registers: one whose logits grow late, by a little or beyond all
/// numbers, or that begins with masks. Where the batch is cut decides which these are.
#[test]
fn neighbours_change_no_bit() {
    const WILD: usize = 5;
    for (classes, dense) in [9, 10, 16, 17, 24, 100, 192, 193, 300].into_iter().flat_map(|c| [(c, false), (c, true)]) {
        let mut tame = kinds::problem(7, Input::Logits, dense, 19, classes, 0);
        let mut random = kinds::Random::new(classes as u64);
        tame.predictions.fill_with(|| (4.0 * random.normal()) as f32);
        match &mut tame.targets {
            Targets::Classes(labels) => {
                tame.ignore_index = Some(-1);
                labels[WILD] = -1;
            }
            // What a row has no target for costs it nothing.
            Targets::Dense(targets) => targets[WILD * classes..][..classes].fill(0.0),
        }
        let grown = [40.0, 200.0, 1e30, 3e38, f32::INFINITY].into_iter();
        let grown = grown.flat_map(|logit| [(7..8, logit), (8..9, logit), (classes - 1..classes, logit)]);
        let masked = [(0..8, f32::NEG_INFINITY), (0..classes, f32::NEG_INFINITY), (3..4, f32::NAN), (0..1, f32::MIN)];
        for (range, logit) in grown.chain(masked) {
            let mut wild = tame.clone();
            wild.predictions[WILD * classes..][range.clone()].fill(logit);
            for tested in backends::all() {
                let outputs = xent::Outputs { calibration_bins: Some(15), ..backends::everything() };
                let evaluate = |problem: &Problem| {
                    let (arrays, loss) = (Arrays::of(problem), backends::loss(problem));
                    let evaluation = tested.evaluator.evaluate_blocking(&loss, &arrays.batch(), &outputs);
                    let evaluation = evaluation.expect("the problem is sound");
                    let mut losses = loss_bits(evaluation.losses.into_iter().flatten());
                    losses.remove(WILD);
                    let calibration = evaluation.totals.calibration.expect("it was asked for");
                    (losses, (!dense).then_some((calibration.entropy.to_bits(), calibration.brier.to_bits(), calibration.bins)))
                };
                let context = format!("{classes} classes, dense={dense}, {logit} at {range:?}, on the {}", tested.name);
                assert_eq!(evaluate(&wild), evaluate(&tame), "{context}");
            }
        }
    }
}
