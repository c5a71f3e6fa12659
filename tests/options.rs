//! Every pair of options, on every backend: either the oracle agrees with what comes out, or the pair is refused. The
//! refused ones are listed, so that none joins or leaves them unnoticed.

mod support;

use support::answers::{self, Asked};
use support::arrays::Element;
use support::backends::{self, Arrays, all};
use support::moderate::{self, Setup};
use support::oracle::{Extra, Input, Kind, Of, Problem, Targets};
use xent::{Error, Outputs};

const ROWS: usize = 12;
const CLASSES: usize = 7;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    Probabilities,
    Logits,
    LogProbabilities,
    Categorical,
    Binary,
    KlDivergence,
    ClassIndices,
    DenseTargets,
    LabelSmoothing,
    Epsilon,
    IgnoreIndex,
    ClassWeights,
    SampleWeights,
    Focal,
    Poly,
    ZLoss,
    Softcap,
    Temperature,
    TopK,
    Logsumexp,
    Gradient,
    CalibrationBins,
    HalfPrecision,
}

use Choice::{
    Binary, CalibrationBins, Categorical, ClassIndices, ClassWeights, DenseTargets, Epsilon, Focal, Gradient, HalfPrecision,
    IgnoreIndex, KlDivergence, LabelSmoothing, LogProbabilities, Logits, Logsumexp, Poly, Probabilities, SampleWeights,
    Softcap, Temperature, TopK, ZLoss,
};

const CHOICES: [Choice; 23] = [
    Probabilities,
    Logits,
    LogProbabilities,
    Categorical,
    Binary,
    KlDivergence,
    ClassIndices,
    DenseTargets,
    LabelSmoothing,
    Epsilon,
    IgnoreIndex,
    ClassWeights,
    SampleWeights,
    Focal,
    Poly,
    ZLoss,
    Softcap,
    Temperature,
    TopK,
    Logsumexp,
    Gradient,
    CalibrationBins,
    HalfPrecision,
];

/// Answers to one question: there can be only one of each.
const ALTERNATIVES: [&[Choice]; 3] =
    [&[Probabilities, Logits, LogProbabilities], &[Categorical, Binary, KlDivergence], &[ClassIndices, DenseTargets]];

/// What the type of a loss has no field for.
const ABSENT: [(Choice, &[Choice]); 2] = [
    (Binary, &[IgnoreIndex, ClassWeights, Focal, Poly, ZLoss, Softcap, Temperature]),
    (
        KlDivergence,
        &[Logits, LogProbabilities, LabelSmoothing, IgnoreIndex, ClassWeights, Focal, Poly, ZLoss, Softcap, Temperature],
    ),
];

/// What each option cannot be together with.
const REFUSED: [(Choice, &[Choice]); 8] = [
    (Probabilities, &[ZLoss, Softcap, Temperature, Logsumexp]),
    (Logits, &[Epsilon]),
    (LogProbabilities, &[Binary, Epsilon, Focal, Poly, ZLoss, Softcap, Temperature, Logsumexp]),
    (Binary, &[ClassIndices, TopK, Logsumexp, CalibrationBins]),
    (KlDivergence, &[ClassIndices, TopK, Logsumexp, CalibrationBins]),
    (DenseTargets, &[IgnoreIndex]),
    // The latter need logits, which are not clipped.
    (Epsilon, &[ZLoss, Softcap, Temperature, Logsumexp]),
    (Focal, &[Poly]),
];

fn is_listed(table: &[(Choice, &[Choice])], a: Choice, b: Choice) -> bool {
    table.iter().any(|(one, others)| (*one == a && others.contains(&b)) || (*one == b && others.contains(&a)))
}

fn pairs() -> impl Iterator<Item = [Choice; 2]> {
    let all = CHOICES.iter().enumerate().flat_map(|(i, a)| CHOICES[i + 1..].iter().map(|b| [*a, *b]));
    all.filter(|[a, b]| !ALTERNATIVES.iter().any(|of| of.contains(a) && of.contains(b)))
        .filter(|[a, b]| !is_listed(&ABSENT, *a, *b))
}

/// The problem that has these options and, for whatever else it needs, the most ordinary that they go with.
fn problem(choices: [Choice; 2]) -> Problem {
    let has = |choice| choices.contains(&choice);
    let input = match choices {
        _ if has(Probabilities) => Input::Probabilities,
        _ if has(LogProbabilities) => Input::LogProbabilities,
        _ if [Logits, ZLoss, Softcap, Temperature, Logsumexp].into_iter().any(has) && !has(KlDivergence) => Input::Logits,
        _ => Input::Probabilities,
    };
    let kind = match choices {
        _ if has(Binary) => Kind::Binary,
        _ if has(KlDivergence) => Kind::KlDivergence,
        _ => Kind::Categorical,
    };
    let extra = Extra {
        kind,
        focal: has(Focal).then_some((2.0, 0.25)),
        poly_epsilon: has(Poly).then_some(1.5),
        z_loss: if has(ZLoss) { 1e-2 } else { 0.0 },
        temperature: if has(Temperature) { 0.7 } else { 1.0 },
        softcap: has(Softcap).then_some(4.0),
    };
    let dense = has(DenseTargets) || (kind != Kind::Categorical && !has(ClassIndices));
    let epsilon = if has(Epsilon) { 0.1 } else { 1e-7 };
    let mut problem = moderate::problem(23, &Setup { name: "", input, extra }, dense, ROWS, CLASSES, epsilon);
    if has(LabelSmoothing) {
        problem.label_smoothing = 0.1;
    }
    if has(IgnoreIndex) {
        problem.ignore_index = Some(-1);
        if let Targets::Classes(labels) = &mut problem.targets {
            labels.iter_mut().step_by(5).for_each(|label| *label = -1);
        }
    }
    if has(ClassWeights) {
        problem.class_weights = Some((0..CLASSES as u8).map(|class| f32::from(class % 4) * 0.6).collect());
    }
    if has(SampleWeights) {
        problem.sample_weights = Some((0..ROWS as u8).map(|row| f64::from(row % 3) * 0.7).collect());
    }
    if has(HalfPrecision) {
        problem.predictions.iter_mut().for_each(|x| *x = Element::F16.rounded(*x));
    }
    problem
}

fn arrays(problem: &Problem, choices: [Choice; 2]) -> Arrays {
    Arrays::stored(problem, if choices.contains(&HalfPrecision) { Element::F16 } else { Element::F32 })
}

fn refusals(choices: [Choice; 2]) -> Vec<String> {
    let has = |choice| choices.contains(&choice);
    let problem = problem(choices);
    let outputs = Outputs {
        top_k: if has(TopK) { vec![2] } else { Vec::new() },
        logsumexp: has(Logsumexp),
        gradient: has(Gradient).then_some(xent::Gradient::Scaled(1.0)),
        calibration_bins: has(CalibrationBins).then_some(5),
        ..Outputs::default()
    };
    let loss = backends::loss(&problem);
    let arrays = arrays(&problem, choices);
    let dense = problem.is_dense();
    let beforehand = outputs.validate_for(&loss, CLASSES, dense);
    let mut wrong = Vec::new();
    for tested in all() {
        let answer = tested.evaluator.evaluate_blocking(&loss, &arrays.batch(), &outputs).map(drop);
        match &answer {
            Err(Error::Combination(why)) if !why.is_empty() && answer == beforehand => {}
            _ => wrong.push(format!("{choices:?} on the {}: {answer:?}, and beforehand {beforehand:?}", tested.name)),
        }
    }
    wrong
}

fn disagreements(choices: [Choice; 2]) -> Vec<String> {
    let has = |choice| choices.contains(&choice);
    let problem = problem(choices);
    let asked = Asked {
        gradient: has(Gradient).then_some(Of::Mean),
        bins: has(CalibrationBins).then_some(5),
        logsumexp: has(Logsumexp),
    };
    // Alone, and with the gradient: what a class costs and its derivative are two formulas.
    let both = [asked, Asked { gradient: Some(Of::Mean), ..asked }];
    let verdicts = both.map(|asked| answers::verdict(&problem, &arrays(&problem, choices), asked));
    verdicts.into_iter().filter_map(Result::err).map(|why| format!("{choices:?}: {why}")).collect()
}

/// How many of these are refused, and what is wrong.
fn verdicts(pairs: &[[Choice; 2]]) -> (usize, Vec<String>) {
    let (mut refused, mut wrong) = (0, Vec::new());
    for &[a, b] in pairs {
        if is_listed(&REFUSED, a, b) {
            refused += 1;
            wrong.extend(refusals([a, b]));
        } else {
            wrong.extend(disagreements([a, b]));
        }
    }
    (refused, wrong)
}

#[test]
fn pairs_are_right_or_refused() {
    let pairs: Vec<_> = pairs().collect();
    // The longest test by far: its halves side by side.
    let (first, second) = pairs.split_at(pairs.len() / 2);
    let verdicts = std::thread::scope(|scope| {
        let first = scope.spawn(|| verdicts(first));
        let second = verdicts(second);
        [first.join().expect("it ends"), second]
    });
    let (refused, wrong) = (verdicts[0].0 + verdicts[1].0, verdicts.map(|(_, wrong)| wrong).concat());
    let right = pairs.len() - refused;
    assert!(wrong.is_empty(), "{} failures, among them\n{}", wrong.len(), wrong.join("\n"));
    // So that a list that swallowed everything would show.
    assert_eq!((right, refused), (202, 27));
}

/// Options that need a third one: without it refused, with it right.
#[test]
fn a_clip_bound_for_logits_needs_the_focal_loss() {
    let mut problem = problem([Focal, Logits]);
    problem.epsilon = 0.1;
    answers::verdict(&problem, &Arrays::of(&problem), Asked::all_of(&problem, Of::Sum)).expect("focal losses clip");
    problem.extra.focal = None;
    for tested in all() {
        let answer =
            tested.evaluator.evaluate_blocking(&backends::loss(&problem), &Arrays::of(&problem).batch(), &Outputs::default());
        assert!(matches!(answer, Err(Error::Combination(_))), "{}", tested.name);
    }
}

/// Everything at once that goes together.
#[test]
fn all_options_together() {
    for (focal, poly_epsilon) in [(Some((1.5, 0.7)), None), (None, Some(0.8))] {
        let extra = Extra { kind: Kind::Categorical, focal, poly_epsilon, z_loss: 1e-3, temperature: 1.3, softcap: Some(5.0) };
        let setup = Setup { name: "", input: Input::Logits, extra };
        let mut problem = moderate::problem(29, &setup, false, ROWS, CLASSES, 1e-7);
        problem.label_smoothing = 0.1;
        problem.ignore_index = Some(3);
        problem.class_weights = Some((0..CLASSES as u8).map(|class| f32::from(class) * 0.5).collect());
        problem.sample_weights = Some((0..ROWS as u8).map(|row| f64::from(row % 3) * 0.7).collect());
        problem.predictions.iter_mut().for_each(|x| *x = Element::F16.rounded(*x));
        for of in [Of::Sum, Of::Mean, Of::WeightedMean, Of::Scaled(1024.0)] {
            let asked = Asked::all_of(&problem, of);
            if let Err(why) = answers::verdict(&problem, &Arrays::stored(&problem, Element::F16), asked) {
                panic!("{focal:?} {poly_epsilon:?} {of:?}: {why}");
            }
        }
    }
}
