//! Gradients of every backend against differences of the oracle's losses: for every loss and option, over shapes on both
//! sides of every border that the kernels have.

mod support;

use std::ops::Range;

use ndarray::{Array, Axis, IxDyn, Slice};
use support::answers::{self, Asked};
use support::arrays::Element;
use support::backends::{self, Arrays, all};
use support::kinds::{self, Random};
use support::moderate::{self, Setup};
use support::oracle::{Extra, Input, Kind, Of, Problem, Targets};
use support::tolerance;
use xent::{Backend, Batch, CategoricalCrossEntropy, Error, Evaluation, Gradient, Outputs, Reduction};

/// Every one of them on the CPU, and every other on the GPU, whose driver compiles a kernel for each problem: in turns, so that
/// neighbouring losses have the other ones, and each range of the table of drivers has several.
const CLASSES: [usize; 10] = [1, 2, 3, 5, 16, 17, 64, 65, 130, 300];

/// A setup's problem with options at random: each is there in about half of the problems.
fn drawn(seed: u64, setup: &Setup, dense: bool, classes: usize) -> Problem {
    let mut random = Random::new(!seed);
    let rows = if classes < 100 { 5 + random.below(4) } else { 2 + random.below(2) };
    let categorical = setup.extra.kind == Kind::Categorical;
    // Where something is clipped: a bound that matters, too.
    let clips = (setup.input == Input::Probabilities) || setup.extra.focal.is_some();
    let epsilon = if clips { [1e-7, 1e-3, 0.1][random.below(3)] } else { 1e-7 };
    let mut problem = moderate::problem(seed, setup, dense, rows, classes, epsilon);
    if setup.extra.kind != Kind::KlDivergence {
        problem.label_smoothing = [0.0, 0.0, 0.1, 1.0][random.below(4)];
    }
    let mut weight = |share: f64| if random.chance(share) { 0.0 } else { 3.0 * random.uniform() };
    let sample_weights: Vec<f64> = (0..rows).map(|_| weight(0.2)).collect();
    let class_weights: Vec<f32> = (0..classes).map(|_| weight(0.1) as f32).collect();
    problem.sample_weights = Some(sample_weights).filter(|_| random.chance(0.5));
    problem.class_weights = Some(class_weights).filter(|_| categorical && random.chance(0.5));
    if let Targets::Classes(labels) = &mut problem.targets
        && random.chance(0.5)
    {
        let ignored = [-100, classes as i64 / 2][random.below(2)];
        problem.ignore_index = Some(ignored);
        labels[random.below(rows)] = ignored;
    }
    problem
}

fn reduction(random: usize) -> Of {
    [Of::Sum, Of::Mean, Of::WeightedMean, Of::Scaled(0.37)][random % 4]
}

fn table(of: impl Fn(&Setup) -> bool) {
    let mut failures = Vec::new();
    let mut problems = 0;
    for (index, setup) in moderate::setups().iter().enumerate().filter(|(_, setup)| of(setup)) {
        for dense in [false, true] {
            if !dense && setup.extra.kind != Kind::Categorical {
                continue;
            }
            for (place, classes) in CLASSES.into_iter().enumerate() {
                problems += 1;
                let seed = (index * 1000 + classes * 2 + usize::from(dense)) as u64;
                let problem = drawn(seed, setup, dense, classes);
                let of = reduction(problems);
                let on_gpu = (index + place + usize::from(dense)) % 2 == 0;
                let backends = all().iter().filter(|tested| on_gpu || tested.evaluator.backend() == Backend::Cpu);
                if let Err(why) = answers::verdict_on(backends, &problem, &Arrays::of(&problem), Asked::all_of(&problem, of)) {
                    let Problem { label_smoothing, epsilon, ignore_index, .. } = &problem;
                    let weights = (problem.class_weights.is_some(), problem.sample_weights.is_some());
                    failures.push(format!(
                        "{}, dense={dense}, {classes} classes, seed {seed}, {of:?}, smoothing {label_smoothing}, epsilon \
                         {epsilon}, ignore {ignore_index:?}, class and sample weights {weights:?}: {why}",
                        setup.name
                    ));
                }
            }
        }
    }
    assert!(problems > 0);
    assert!(failures.is_empty(), "{} of {problems} fail, among them\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn of_probabilities_and_log_probabilities() {
    table(|setup| setup.input != Input::Logits && setup.extra.kind == Kind::Categorical);
}

#[test]
fn of_logits() {
    table(|setup| setup.input == Input::Logits && setup.extra.kind == Kind::Categorical && !setup.extra.moves());
}

#[test]
fn of_moved_logits() {
    table(|setup| setup.input == Input::Logits && setup.extra.kind == Kind::Categorical && setup.extra.moves());
}

#[test]
fn of_binary_and_divergence() {
    table(|setup| setup.extra.kind != Kind::Categorical);
}

fn outputs(gradient: Gradient) -> Outputs {
    Outputs { gradient: Some(gradient), accuracy: false, ..Outputs::default() }
}

fn evaluate(evaluator: &xent::Evaluator, problem: &Problem, gradient: Gradient) -> Evaluation {
    let arrays = Arrays::of(problem);
    let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &outputs(gradient));
    evaluation.expect("the problem is sound")
}

fn values(evaluation: &Evaluation) -> Vec<f32> {
    evaluation.gradient.iter().flatten().copied().collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The place of a prediction that counts, whatever the input.
fn counted(problem: &Problem, row: usize) -> usize {
    let place = match &problem.targets {
        Targets::Classes(labels) => labels[row] as usize,
        Targets::Dense(dense) => {
            let row = &dense[row * problem.classes..][..problem.classes];
            (0..row.len()).reduce(|best, class| if row[class] > row[best] { class } else { best }).expect("classes")
        }
    };
    row * problem.classes + place
}

#[test]
fn ignored_rows_have_none_whatever_they_hold() {
    for setup in moderate::setups().iter().filter(|setup| setup.extra.kind == Kind::Categorical) {
        for classes in [5, 300] {
            let mut problem = moderate::problem(7, setup, false, 4, classes, 1e-7);
            problem.ignore_index = Some(-1);
            let Targets::Classes(labels) = &mut problem.targets else { panic!("class indices") };
            (labels[1], labels[2]) = (-1, -1);
            problem.predictions[2 * classes] = f32::NAN;
            for tested in all() {
                let context = format!("{}, {classes} classes, on the {}", setup.name, tested.name);
                let got = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::Mean)));
                assert!(got[classes..3 * classes].iter().all(|slope| *slope == 0.0), "{context}");
                assert!(got[..classes].iter().chain(&got[3 * classes..]).all(|slope| slope.is_finite()), "{context}");
            }
        }
    }
}

#[test]
fn rows_without_a_loss_have_nan_throughout_and_others_what_they_had() {
    let mut failures = Vec::new();
    for setup in &moderate::setups() {
        for (dense, classes) in [(false, 5), (true, 5), (false, 300), (true, 300)] {
            if !dense && setup.extra.kind != Kind::Categorical {
                continue;
            }
            let sound = moderate::problem(9, setup, dense, 3, classes, 1e-7);
            let mut broken = sound.clone();
            broken.predictions[counted(&sound, 1)] = f32::NAN;
            assert!(broken.truth().losses[1].is_nan(), "{}", setup.name);
            for tested in all() {
                let [want, got] = [&sound, &broken]
                    .map(|problem| values(&evaluate(&tested.evaluator, problem, Gradient::Of(Reduction::Sum))));
                let context = format!("{}, dense={dense}, {classes} classes, on the {}", setup.name, tested.name);
                if !got[classes..2 * classes].iter().all(|slope| slope.is_nan()) {
                    failures.push(format!("{context}: {:?}…", &got[classes..classes + 5]));
                }
                let others = |all: &[f32]| [bits(&all[..classes]), bits(&all[2 * classes..])];
                if others(&got) != others(&want) {
                    failures.push(format!("{context}: other rows changed"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures, among them\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn come_back_in_the_shape_of_the_predictions() {
    let setup = &moderate::named("logits");
    for dense in [false, true] {
        // Rows 2 × 3, classes 5 between them.
        let problem = moderate::problem(11, setup, dense, 6, 5, 1e-7);
        let want = problem.gradient(Of::Sum);
        let to_middle = |values: &[f32]| {
            let last = Array::from_shape_vec(IxDyn(&[2, 3, 5]), values.to_vec()).expect("30 values");
            last.permuted_axes(IxDyn(&[0, 2, 1])).as_standard_layout().into_owned()
        };
        let predictions = to_middle(&problem.predictions);
        let (labels, targets);
        let given = match &problem.targets {
            Targets::Classes(values) => {
                labels = Array::from_shape_vec((2, 3), values.clone()).expect("6 labels");
                xent::Targets::classes(labels.view())
            }
            Targets::Dense(values) => {
                targets = to_middle(values);
                xent::Targets::dense(targets.view())
            }
        };
        let batch = Batch::with_axis(predictions.view(), given, 1).expect("the shapes fit");
        for tested in all() {
            let evaluation =
                tested.evaluator.evaluate_blocking(&backends::loss(&problem), &batch, &outputs(Gradient::Scaled(1.0)));
            let gradient = evaluation.expect("the problem is sound").gradient.expect("asked for");
            assert_eq!(gradient.shape(), [2, 5, 3], "{}", tested.name);
            let lanes = gradient.lanes(Axis(1));
            let got: Vec<f32> = lanes.into_iter().flat_map(|lane| lane.to_vec()).collect();
            if let Err(why) = tolerance::check_gradient(&got, &want, 5, dense) {
                panic!("dense={dense} on the {}: {why}", tested.name);
            }
        }
    }
}

#[test]
fn have_the_same_bits_however_rows_are_cut() {
    for tested in all() {
        let short = [1, 7].map(|rows| tested.evaluator.clone().with_window_rows(Some(rows)));
        for (index, setup) in moderate::setups().iter().enumerate() {
            for classes in [3, 65, 130] {
                let dense = setup.extra.kind != Kind::Categorical || (index + classes) % 2 == 0;
                let mut problem = moderate::problem(13, setup, dense, 23, classes, 1e-7);
                problem.sample_weights = Some((0..23).map(|row| f64::from(row % 5) * 0.3).collect());
                let context = format!("{}, dense={dense}, {classes} classes, on the {}", setup.name, tested.name);
                let scaled = Gradient::Scaled(1.0 / 23.0);
                let whole = bits(&values(&evaluate(&tested.evaluator, &problem, scaled)));
                assert_eq!(whole.len(), 23 * classes, "{context}");
                for evaluator in &short {
                    assert_eq!(bits(&values(&evaluate(evaluator, &problem, scaled))), whole, "{context}");
                }
                let loss = backends::loss(&problem);
                let mut stream = tested.evaluator.stream(&loss, &outputs(scaled));
                let mut parts = Vec::new();
                for rows in [0..1, 1..9, 9..9, 9..23] {
                    let arrays = Arrays::of(&backends::part(&problem, rows));
                    parts.extend(bits(stream.push_blocking(&arrays.batch()).expect("the problem is sound").gradient));
                }
                assert_eq!(parts, whole, "{context}, as a stream");
            }
        }
    }
}

/// Gradients of 16 MiB and more go past the CPU's caches, by whole lines; of fewer rows at a time they do not.
#[test]
fn have_the_same_bits_past_the_caches() {
    for classes in [1, 2, 3, 100, 192, 193, 1000] {
        let rows = (1 << 22) / classes + 37;
        let mut random = Random::new(classes as u64);
        let predictions = Array::from_shape_fn((rows, classes), |_| (8.0 * random.uniform() - 4.0) as f32);
        let labels = Array::from_shape_fn(rows, |_| random.below(classes) as u32);
        let dense = Array::from_shape_fn((rows, classes), |(row, class)| 0.25 * ((row + class) % 4) as f32);
        let batch = |is_dense: bool, range: Range<usize>| {
            let rows = Slice::from(range);
            let targets = if is_dense {
                xent::Targets::dense(dense.slice_axis(Axis(0), rows))
            } else {
                xent::Targets::classes(labels.slice_axis(Axis(0), rows))
            };
            Batch::new(predictions.slice_axis(Axis(0), rows), targets).expect("the shapes fit")
        };
        let loss = CategoricalCrossEntropy { input: xent::Input::Logits, ..CategoricalCrossEntropy::default() }.into();
        let outputs = outputs(Gradient::Of(Reduction::Sum));
        for tested in all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
            for is_dense in [false, true] {
                let whole = tested.evaluator.evaluate_blocking(&loss, &batch(is_dense, 0..rows), &outputs);
                let whole = values(&whole.expect("the batch is sound"));
                let mut stream = tested.evaluator.stream(&loss, &outputs);
                let mut parts: Vec<f32> = Vec::new();
                for first in (0..rows).step_by(rows / 7) {
                    let batch = batch(is_dense, first..rows.min(first + rows / 7));
                    parts.extend(stream.push_blocking(&batch).expect("the batch is sound").gradient);
                }
                let differs = whole.iter().zip(&parts).position(|(a, b)| a.to_bits() != b.to_bits());
                assert_eq!((whole.len(), differs), (rows * classes, None), "{classes} classes: {}", tested.name);
            }
        }
    }
}

/// Whole groups of short rows take a way of their own where losses and gradients are all that is wanted, however predictions are
/// stored: the right losses, and the bits of the way that all others take.
#[test]
fn with_losses_alone_have_the_same_bits() {
    const ROWS: usize = 2 * 32 + 7;
    let setups = moderate::setups();
    for (index, setup) in setups.iter().enumerate().filter(|(_, setup)| setup.extra.kind == Kind::Categorical) {
        let kinds = [(false, 0.0, false), (false, 0.1, false), (false, 0.1, true), (true, 0.0, false), (true, 0.1, true)];
        let shapes = [1, 2, 3, 4, 5, 7, 8, 10, 16, 17, 47, 48, 49, 63, 64, 127, 128, 129, 191, 192]
            .map(|classes| kinds.map(|kind| (classes, kind)));
        for &(classes, (dense, label_smoothing, weighed)) in shapes.as_flattened() {
            let mut problem = moderate::problem((index * 200 + classes) as u64, setup, dense, ROWS, classes, 1e-7);
            problem.label_smoothing = label_smoothing;
            problem.class_weights = weighed.then(|| (0..classes).map(|class| 0.25 + (class % 3) as f32).collect());
            problem.sample_weights = Some((0..ROWS).map(|row| 0.5 * (row % 5) as f64).collect());
            problem.predictions[20 * classes] = f32::NAN;
            match &mut problem.targets {
                Targets::Classes(labels) => {
                    problem.ignore_index = Some(-1);
                    (labels[3], labels[40], labels[69]) = (-1, -1, -1);
                }
                Targets::Dense(targets) => targets[41 * classes] = f32::NAN,
            }
            // Every element holds numbers of few digits that are not too small.
            for x in &mut problem.predictions {
                *x = if x.abs() < 0.01 { 0.015_625 } else { f32::from_bits(x.to_bits() & 0xfff8_0000) };
            }
            let truth = problem.truth();
            for tested in all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
                let mut all = None;
                for element in [Element::F32, Element::F16, Element::Bf16] {
                    let arrays = Arrays::stored(&problem, element);
                    for accuracy in [true, false] {
                        let context = format!(
                            "{}, {classes} classes, dense {dense}, smoothed {label_smoothing}, {element:?}, accuracy {accuracy}, {}",
                            setup.name, tested.name
                        );
                        let outputs = Outputs { losses: true, accuracy, ..outputs(Gradient::Scaled(0.37)) };
                        let evaluation =
                            tested.evaluator.evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &outputs);
                        let evaluation = evaluation.expect("the problem is sound");
                        let losses = backends::compare_losses(&evaluation, &problem, &truth);
                        let losses = losses.unwrap_or_else(|why| panic!("{context}: {why}"));
                        let got = (bits(&losses), bits(&values(&evaluation)));
                        assert!(all.get_or_insert_with(|| got.clone()) == &got, "{context}");
                    }
                }
            }
        }
    }
}

/// The same bits as on the general way, whatever rows hold: infinities, NaN, ties, masked rows, targets of both signs.
#[test]
fn with_losses_alone_have_the_same_bits_in_any_rows() {
    for classes in [2, 3, 10, 47, 48, 100] {
        for dense in [false, true] {
            for input in [Input::Logits, Input::Probabilities] {
                compare_with_the_general_way(classes, dense, input);
            }
        }
    }
}

fn compare_with_the_general_way(classes: usize, dense: bool, input: Input) {
    const ROWS: usize = 3 * 32 + 5;
    let mut problem = kinds::problem(classes as u64, input, dense, ROWS, classes, 0);
    problem.predictions[50 * classes..51 * classes].fill(f32::NEG_INFINITY);
    problem.predictions[51 * classes..52 * classes].fill(2.0);
    // Targets that are none, one of them beside a class that is masked.
    if let Targets::Dense(targets) = &mut problem.targets {
        (targets[40 * classes], targets[71 * classes + 1]) = (f32::INFINITY, f32::NAN);
        problem.predictions[71 * classes] = f32::NEG_INFINITY;
    }
    let arrays = Arrays::of(&problem);
    for tested in all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
        let [general, alone] = [true, false].map(|accuracy| {
            let outputs = Outputs { losses: true, accuracy, ..outputs(Gradient::Scaled(0.37)) };
            let evaluation = tested.evaluator.evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &outputs);
            let evaluation = evaluation.expect("the problem is sound");
            let losses = evaluation.losses.iter().flatten().copied().collect();
            [losses, values(&evaluation)].map(|all: Vec<f32>| all.into_iter().map(of_any).collect::<Vec<_>>())
        });
        assert_eq!(general, alone, "{classes} classes, dense {dense}, {input:?}, {}", tested.name);
    }
}

/// The bits of a number, or of any NaN.
fn of_any(value: f32) -> u32 {
    if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }
}

/// Where a label's share stands a rounding from a clip bound, its row is clipped or not, but as a whole: the label's slope counts for
/// all classes, or for none.
#[test]
fn of_labels_at_the_clip_bounds() {
    const ROWS: usize = 40;
    let setup = Setup { name: "probabilities", input: Input::Probabilities, extra: Extra::default() };
    let below_the_upper = [0x3f7f_fffe, 0x3306_8dba, 0x33bc_b924].map(f32::from_bits);
    for predictions in [below_the_upper, [1e-7, 1.0, 0.0], [1e-7, 1.0 - 1e-7, 0.0], [1.0 - 1e-7, 1e-7, 0.0]] {
        let mut problem = moderate::problem(29, &setup, false, ROWS, 3, 1e-7);
        problem.predictions = predictions.repeat(ROWS);
        problem.targets = Targets::Classes(vec![0; ROWS]);
        let sum: f64 = predictions.iter().map(|&x| f64::from(x)).sum();
        let beyond = f64::from(predictions[1]) + f64::from(predictions[2]);
        let moves = [-beyond / f64::from(predictions[0]) / sum, 1.0 / sum, 1.0 / sum];
        let arrays = Arrays::of(&problem);
        for tested in all() {
            for accuracy in [false, true] {
                let outputs = Outputs { accuracy, ..outputs(Gradient::Of(Reduction::Sum)) };
                let evaluation = tested.evaluator.evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &outputs);
                let got = values(&evaluation.expect("the problem is sound"));
                for row in got.chunks(3) {
                    let is = |want: [f64; 3]| {
                        row.iter().zip(want).all(|(&got, want)| (f64::from(got) - want).abs() <= 1e-5 * want.abs())
                    };
                    assert!(is([0.0; 3]) || is(moves), "{predictions:?} on the {}: {row:?}", tested.name);
                }
            }
        }
    }
}

/// A logsumexp beyond the floats is of no account where there is no z-loss.
#[test]
fn of_logits_at_the_end_of_the_floats_are_numbers() {
    for temperature in [0.5, 1.0] {
        let setup = Setup { name: "huge logits", input: Input::Logits, extra: Extra { temperature, ..Extra::default() } };
        for classes in [2, 3, 130] {
            let mut problem = moderate::problem(23, &setup, false, 40, classes, 1e-7);
            for row in problem.predictions.chunks_mut(classes) {
                row.fill(-3e38);
                (row[0], row[1]) = (3e38, 3e38);
            }
            let Targets::Classes(labels) = &mut problem.targets else { panic!("class indices") };
            labels.fill(1);
            let mut want = vec![0.0; classes];
            (want[0], want[1]) = (0.5, -0.5);
            for tested in all() {
                let got = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::Sum)));
                let factor = (1.0 / temperature) as f32;
                let want: Vec<f32> = want.iter().map(|slope| slope * factor).collect();
                assert!(
                    got.chunks(classes).all(|row| row == want),
                    "{temperature}, {classes} classes, {}: {got:?}",
                    tested.name
                );
            }
        }
    }
}

#[test]
fn of_a_mean_need_the_whole_batch() {
    let problem = moderate::problem(17, &moderate::named("probabilities"), false, 3, 4, 1e-7);
    let arrays = Arrays::of(&problem);
    for tested in all() {
        for reduction in [Reduction::Mean, Reduction::WeightedMean] {
            let mut stream = tested.evaluator.stream(&backends::loss(&problem), &outputs(Gradient::Of(reduction)));
            let refusal = stream.push_blocking(&arrays.batch()).map(drop);
            assert!(matches!(refusal, Err(Error::Combination(_))), "{reduction:?} on the {}: {refusal:?}", tested.name);
            assert_eq!(stream.rows(), 0);
        }
        let mut stream = tested.evaluator.stream(&backends::loss(&problem), &outputs(Gradient::Of(Reduction::Sum)));
        let rows = stream.push_blocking(&arrays.batch()).expect("a sum needs no divisor");
        let whole = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::Sum)));
        assert_eq!(bits(rows.gradient), bits(&whole), "{}", tested.name);
    }
}

#[test]
fn of_nothing_kept_are_0() {
    let mut problem = moderate::problem(19, &moderate::named("logits"), false, 3, 4, 1e-7);
    problem.ignore_index = Some(-1);
    problem.targets = Targets::Classes(vec![-1; 3]);
    for tested in all() {
        for reduction in [Reduction::Mean, Reduction::WeightedMean, Reduction::Sum] {
            let got = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(reduction)));
            assert_eq!(got, [0.0; 12], "{reduction:?} on the {}", tested.name);
        }
    }
}

/// Also where 1 / Σ x is more than any float32, with and without a short form, and by each driver.
#[test]
fn of_rows_without_weight_are_0() {
    const ROWS: usize = 67;
    for (classes, dense) in [(2, false), (4, false), (4, true), (60, false), (300, false), (300, true), (20_000, false)] {
        let rows = if classes > 1000 { 3 } else { ROWS };
        let mut problem = moderate::problem(19, &moderate::named("probabilities"), dense, rows, classes, 1e-7);
        for (row, x) in problem.predictions.chunks_mut(classes).enumerate().filter(|(row, _)| row % 2 == 0) {
            // Subnormals, and the largest numbers that there are.
            let entry = if row % 4 == 0 { 3e-45 } else { 3e38 };
            x.fill(0.0);
            x[..2].copy_from_slice(&[entry, entry / 3.0]);
        }
        problem.sample_weights = Some((0..rows).map(|row| (row % 2) as f64).collect());
        for tested in all() {
            let evaluation = evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::WeightedMean));
            // A GPU may take subnormals for 0: such a row has no probabilities, and no loss.
            let flushed = evaluation.totals.non_finite > 0;
            assert!(!flushed || tested.evaluator.backend() != Backend::Cpu, "{classes} classes on the {}", tested.name);
            let got = values(&evaluation);
            let counts_for_nothing = |row: usize| row % 4 == 2 || row.is_multiple_of(4) && !flushed;
            let mut rows = got.chunks(classes).enumerate().filter(|(row, _)| counts_for_nothing(*row));
            let wrong = rows.find(|(_, of)| of.iter().any(|d| *d != 0.0));
            assert_eq!(wrong.map(|(row, _)| row), None, "{classes} classes, dense={dense}, on the {}", tested.name);
        }
    }
}

/// Rows of half a million classes have parts, which threads share where rows are few: the right numbers, and the same bits
/// either way.
#[test]
fn of_rows_that_threads_share() {
    const CLASSES: usize = (1 << 19) + 1029;
    const ROWS: usize = 17;
    for (input, dense) in [(Input::Logits, false), (Input::Logits, true), (Input::Probabilities, true)] {
        let mut random = Random::new(7);
        let lowest = if input == Input::Logits { -4.0 } else { 0.01 };
        let mut numbers = |from: f64, to: f64| -> Vec<f32> {
            (0..ROWS * CLASSES).map(|_| (from + (to - from) * random.uniform()) as f32).collect()
        };
        let problem = Problem {
            input,
            rows: ROWS,
            classes: CLASSES,
            predictions: numbers(lowest, 4.0),
            targets: if dense {
                Targets::Dense(numbers(0.0, 1.0))
            } else {
                Targets::Classes((0..ROWS).map(|row| (row * 31_000) as i64).collect())
            },
            label_smoothing: 0.0,
            // Shares of half a millionth are not to be clipped.
            epsilon: if input == Input::Logits { 1e-7 } else { 1e-12 },
            ignore_index: None,
            class_weights: None,
            sample_weights: None,
            extra: Extra::default(),
        };
        let context = format!("{input:?}, dense={dense}");
        let first = backends::part(&problem, 0..1);
        let want = slopes(&first);
        for tested in all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
            let whole = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::Sum)));
            tolerance::check_gradient(&whole[..CLASSES], &want, CLASSES, dense)
                .unwrap_or_else(|why| panic!("{context} on {}: {why}", tested.name));
            for row in [0, ROWS - 1] {
                let part = backends::part(&problem, row..row + 1);
                let alone = values(&evaluate(&tested.evaluator, &part, Gradient::Of(Reduction::Sum)));
                let same = bits(&alone) == bits(&whole[row * CLASSES..][..CLASSES]);
                assert!(same, "{context}: row {row} on {}", tested.name);
            }
        }
    }
}

/// A masked class that has a term makes the loss infinite, and nothing else: its coefficient counts among the row's, wherever it stands.
#[test]
fn of_infinite_losses_are_numbers() {
    const ROWS: usize = 19;
    let setup = Setup { name: "masked terms", input: Input::Logits, extra: Extra::default() };
    for (classes, dense) in
        [2, 3, 10, 47, 100, 193, 300, 1029, 2100].into_iter().flat_map(|classes| [(classes, false), (classes, true)])
    {
        let mut problem = moderate::problem(classes as u64, &setup, dense, ROWS, classes, 1e-7);
        problem.label_smoothing = if dense { 0.0 } else { 0.1 };
        if let Targets::Dense(targets) = &mut problem.targets {
            // None is all but alone: what is left of the others would have lost its digits.
            for (index, target) in targets.iter_mut().enumerate() {
                *target = [0.2, 0.3, 0.5][index % 3];
            }
        }
        for (row, x) in problem.predictions.chunks_mut(classes).enumerate() {
            x[row % classes] = f32::NEG_INFINITY;
            if row % 3 == 0 && classes > 2 {
                // The first that come, in some of the lanes or in all of them.
                x[..classes / 2].fill(f32::NEG_INFINITY);
            }
        }
        let want: Vec<f64> = (0..ROWS).flat_map(|row| slopes(&backends::part(&problem, row..row + 1))).collect();
        for tested in all() {
            let context = format!("dense={dense}, {classes} classes on {}", tested.name);
            let outputs = Outputs { losses: true, ..outputs(Gradient::Of(Reduction::Sum)) };
            let evaluation =
                tested.evaluator.evaluate_blocking(&backends::loss(&problem), &Arrays::of(&problem).batch(), &outputs);
            let evaluation = evaluation.expect("the problem is sound");
            tolerance::check_gradient(&values(&evaluation), &want, classes, dense)
                .unwrap_or_else(|why| panic!("{context}: {why}"));
            assert!(evaluation.losses.iter().flatten().all(|&loss| loss == f32::INFINITY), "{context}: losses");
        }
    }
}

/// Long rows of every kind, which the CPU's first walk keeps exponentials of, or cannot: those of logits that climb, that leave
/// lanes far behind each other, that are masked or huge. What else is asked for does not move a bit.
#[test]
fn of_long_rows_of_every_kind() {
    for (dense, classes) in
        [false, true].into_iter().flat_map(|dense| [193, 208, 300, 1029, 2100].map(|classes| (dense, classes)))
    {
        let mut problem = kinds::problem(classes as u64, Input::Logits, dense, kinds::ROW_KINDS, classes, 0);
        if let Targets::Dense(targets) = &mut problem.targets {
            for target in targets.iter_mut().filter(|target| target.is_nan()) {
                *target = 0.0;
            }
        }
        // bfloat16 has the first sixteen bits of a float.
        let first_bits = |x: &f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        let coarse = Problem { predictions: problem.predictions.iter().map(first_bits).collect(), ..problem.clone() };
        let rows: Vec<_> = (0..problem.rows).map(|row| backends::part(&problem, row..row + 1)).collect();
        let want: Vec<f64> = rows.iter().flat_map(slopes).collect();
        for tested in all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
            let context = format!("dense={dense}, {classes} classes on {}", tested.name);
            let whole = values(&evaluate(&tested.evaluator, &problem, Gradient::Of(Reduction::Sum)));
            tolerance::check_gradient(&whole, &want, classes, dense).unwrap_or_else(|why| panic!("{context}: {why}"));
            let gradient = Some(Gradient::Of(Reduction::Sum));
            let outputs = Outputs { gradient, calibration_bins: Some(10), ..backends::all_of(&problem) };
            let with_everything = |problem: &Problem, element| {
                let arrays = Arrays::stored(problem, element);
                let all = tested.evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &outputs);
                bits(&values(&all.expect("the problem is sound")))
            };
            assert!(with_everything(&problem, Element::F32) == bits(&whole), "{context}: with everything");
            let [wide, narrow] = [Element::F32, Element::Bf16].map(|element| with_everything(&coarse, element));
            assert!(wide == narrow, "{context}: as bfloat16");
            for (row, part) in rows.iter().enumerate() {
                let alone = values(&evaluate(&tested.evaluator, part, Gradient::Of(Reduction::Sum)));
                assert!(bits(&alone) == bits(&whole[row * classes..][..classes]), "{context}: row {row} by itself");
            }
        }
    }
}

/// The gradient of a row's categorical loss, nothing being clipped, as formulas have it: of so many classes the oracle's
/// differences would take hours.
fn slopes(problem: &Problem) -> Vec<f64> {
    let x: Vec<f64> = problem.predictions.iter().copied().map(f64::from).collect();
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let target = |class: usize| {
        let given = match &problem.targets {
            Targets::Classes(labels) => f64::from(labels[0] == class as i64),
            Targets::Dense(dense) => f64::from(dense[class]),
        };
        given * (1.0 - problem.label_smoothing) + problem.label_smoothing / problem.classes as f64
    };
    let all: f64 = (0..x.len()).map(target).sum();
    let weight = |x: f64| if problem.input == Input::Logits { (x - top).exp() } else { x };
    let sum: f64 = x.iter().copied().map(weight).sum();
    let slope = |(class, &x): (usize, &f64)| match problem.input {
        Input::Logits => all * (x - top).exp() / sum - target(class),
        _ => all / sum - target(class) / x,
    };
    x.iter().enumerate().map(slope).collect()
}
