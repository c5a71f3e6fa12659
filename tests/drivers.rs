//! Every driver of the GPU, whichever this machine's adapter would get: on both sides of every border, with subgroups and
//! without, at every size of subgroup that a software adapter can be made to have, and on rows that no binding holds.

mod support;

use support::answers::{self, Asked};
use support::arrays::Element;
use support::backends::{self, Arrays};
use support::kinds;
use support::moderate;
use support::oracle::{Input, Of, Problem, Targets};
use xent::{BackendChoice, Evaluator, Gradient, Outputs, Pretence, Reduction};

/// The adapter as it is.
const DEFAULT: Pretence = Pretence { software: None, no_subgroups: false, binding: None, copies: false, in_flight: None };

/// What the adapter is taken for.
const PRETENCES: [(&str, Pretence); 5] = [
    ("a GPU", Pretence { software: Some(false), ..DEFAULT }),
    ("a GPU without subgroups", Pretence { software: Some(false), no_subgroups: true, ..DEFAULT }),
    ("a processor", Pretence { software: Some(true), ..DEFAULT }),
    // Windows go up and come back as they do where the host cannot reach the device's memory.
    ("a GPU with memory of its own", Pretence { software: Some(false), copies: true, ..DEFAULT }),
    ("a processor without subgroups", Pretence { software: Some(true), no_subgroups: true, ..DEFAULT }),
];

/// The borders of the ranges in `src/plan/drivers.rs`: the last number of classes and the first of the next range, of long rows
/// the first alone; and rows in the midst of a range that begin with a word at each place.
const CLASSES: [usize; 23] =
    [1, 4, 5, 10, 16, 17, 31, 32, 64, 65, 128, 129, 256, 257, 512, 513, 1024, 1025, 2049, 4097, 8193, 16_384, 16_385];

fn open(pretence: Pretence) -> Evaluator {
    backends::gpu().with_pretence(pretence)
}

/// Rows of every kind where they are short, a few where they are long; one more than a multiple of four.
fn rows(classes: usize) -> usize {
    match classes {
        0..=128 => 2 * kinds::ROW_KINDS + 1,
        129..=1025 => kinds::ROW_KINDS + 1,
        _ => 5,
    }
}

/// Weights of rows and of classes, and a row that is ignored.
fn weighed(problem: &mut Problem) {
    problem.class_weights = Some((0..problem.classes).map(|class| (1 + class % 4) as f32 * 0.5).collect());
    problem.sample_weights = Some((0..problem.rows).map(|row| (1 + row % 5) as f64 * 0.5).collect());
    if let Targets::Classes(labels) = &mut problem.targets {
        problem.ignore_index = Some(-100);
        labels[1] = -100;
    }
}

/// Losses and ranks of every kind of row.
fn losses(evaluator: &Evaluator, name: &str, classes: usize) {
    for (input, dense) in [(Input::Logits, false), (Input::Logits, true), (Input::Probabilities, false)] {
        let mut problem = kinds::problem(classes as u64, input, dense, rows(classes), classes, classes % kinds::ROW_KINDS);
        problem.label_smoothing = if dense { 0.1 } else { 0.0 };
        if classes % 2 == 1 {
            weighed(&mut problem);
        }
        let arrays = Arrays::of(&problem);
        let evaluation = evaluator
            .evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &backends::everything())
            .unwrap_or_else(|error| panic!("{name}, {classes} classes: {error}"));
        backends::compare(&evaluation, &problem, &problem.truth())
            .unwrap_or_else(|why| panic!("{name}, {input:?}, dense={dense}, {classes} classes: {why}"));
    }
}

/// Everything that may be asked for, of a loss whose terms need a second walk and of one whose terms do not.
fn gradients(evaluator: &Evaluator, name: &str, classes: usize) {
    for setup in moderate::setups().iter().filter(|setup| matches!(setup.name, "z-loss" | "focal probabilities")) {
        for dense in [false, true] {
            let mut problem = moderate::problem(classes as u64, setup, dense, 3, classes, 1e-7);
            // Class indices without it have a shorter gradient.
            problem.label_smoothing = if dense { 0.1 } else { 0.0 };
            if dense == (setup.input == Input::Probabilities) {
                weighed(&mut problem);
            }
            if let Err(why) = everything_of(evaluator, &problem) {
                panic!("{name}, {}, dense={dense}, {classes} classes: {why}", setup.name);
            }
        }
    }
}

/// The oracle's gradients are differences of losses, a loss for each class. From so many classes on that takes too long, and
/// the CPU's gradients, which are tested on short rows as well, are the measure.
const LONG: usize = 512;

fn everything_of(evaluator: &Evaluator, problem: &Problem) -> Result<(), String> {
    let asked = Asked::all_of(problem, Of::Mean);
    let arrays = Arrays::of(problem);
    let evaluate = |evaluator: &Evaluator| {
        let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &asked.outputs(problem));
        evaluation.map_err(|error| error.to_string())
    };
    let gradient: Vec<f64> = if problem.classes < LONG {
        problem.gradient(Of::Mean)
    } else {
        let cpu = evaluate(&backends::open(BackendChoice::Cpu))?;
        cpu.gradient.into_iter().flatten().map(f64::from).collect()
    };
    answers::compare(&evaluate(evaluator)?, problem, &problem.truth(), asked, Some(&gradient))
}

#[test]
fn losses_on_both_sides_of_every_border() {
    for (name, pretence) in PRETENCES {
        let evaluator = open(pretence);
        for classes in CLASSES {
            losses(&evaluator, name, classes);
        }
    }
}

#[test]
fn gradients_of_every_driver() {
    for (name, pretence) in PRETENCES {
        let evaluator = open(pretence);
        for classes in [3, 20, 50, 200, 2000, 9000, 20_000] {
            gradients(&evaluator, name, classes);
        }
    }
}

#[test]
fn a_row_that_no_binding_holds_comes_in_stretches() {
    // A binding holds one part of 16,384 predictions, then three of them.
    for (binding, copies) in [((64 << 10) + 100, false), ((192 << 10) + 100, true)] {
        let evaluator = open(Pretence { binding: Some(binding), copies, ..DEFAULT });
        // Rows begin at each place of a word.
        for classes in [65_537, 81_919] {
            for (input, dense, element) in [
                (Input::Logits, false, Element::F32),
                (Input::Logits, false, Element::F16),
                (Input::Logits, false, Element::Bf16),
                (Input::Logits, true, Element::F32),
                (Input::Probabilities, true, Element::F32),
            ] {
                let mut problem = kinds::problem(7, input, dense, 5, classes, 0);
                problem.predictions.iter_mut().for_each(|x| *x = element.rounded(*x));
                problem.label_smoothing = if element == Element::F32 && !dense { 0.1 } else { 0.0 };
                weighed(&mut problem);
                if let Targets::Classes(labels) = &mut problem.targets {
                    // In the first part, and in the last.
                    (labels[0], labels[2]) = (3, classes as i64 - 1);
                }
                let arrays = Arrays::stored(&problem, element);
                let evaluation = evaluator
                    .evaluate_blocking(&backends::loss(&problem), &arrays.batch(), &backends::everything())
                    .expect("every part fits");
                backends::compare(&evaluation, &problem, &problem.truth()).unwrap_or_else(|why| {
                    panic!("{input:?}, {element:?}, dense={dense}, {classes} classes in {binding} bytes: {why}")
                });
            }
            gradients(&evaluator, "in stretches", classes);
        }
    }
}

/// The bits of a problem's losses and of their gradient.
fn bits(evaluator: &Evaluator, problem: &Problem, element: Element) -> Vec<u32> {
    let arrays = Arrays::stored(problem, element);
    let outputs = Outputs { gradient: Some(Gradient::Of(Reduction::Sum)), ..backends::everything() };
    let evaluation = evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &outputs);
    let evaluation = evaluation.expect("the problem is sound");
    let (losses, gradient) = (evaluation.losses.expect("asked for"), evaluation.gradient.expect("asked for"));
    losses.into_iter().chain(gradient).map(f32::to_bits).collect()
}

#[test]
fn stretches_change_no_bit() {
    let whole = open(Pretence::default());
    let stretches = open(Pretence { binding: Some((128 << 10) + 100), ..Pretence::default() });
    for (input, dense) in [(Input::Logits, true), (Input::Logits, false), (Input::Probabilities, false)] {
        let problem = kinds::problem(11, input, dense, 7, 70_003, 0);
        let [found, want] = [&stretches, &whole].map(|evaluator| bits(evaluator, &problem, Element::F32));
        assert!(found == want, "{input:?}, dense={dense}");
    }
}

#[test]
fn windows_change_no_bit_of_any_driver() {
    for (name, pretence) in PRETENCES {
        let whole = open(pretence);
        let cut = [1, 7].map(|rows| whole.clone().with_window_rows(Some(rows)));
        // One of each driver, with rows that begin at every place of a word.
        for classes in [3, 21, 45, 103, 301, 2003, 9001, 17_001] {
            for (input, dense, element) in [
                (Input::Logits, true, Element::F32),
                (Input::Logits, false, Element::F16),
                (Input::Probabilities, false, Element::F32),
            ] {
                let mut problem = kinds::problem(classes as u64, input, dense, 22, classes, 0);
                problem.predictions.iter_mut().for_each(|x| *x = element.rounded(*x));
                let want = bits(&whole, &problem, element);
                for evaluator in &cut {
                    assert!(bits(evaluator, &problem, element) == want, "{name}, {input:?}, {element:?}, {classes} classes");
                }
            }
        }
    }
}

/// Set in the processes that the test below starts.
const SIZE: &str = "XENT_TEST_SUBGROUPS";
/// Mesa's software adapter reads the width of its vectors from here, once a process.
const WIDTH: &str = "LP_NATIVE_VECTOR_WIDTH";

#[test]
fn every_size_of_subgroup() {
    if let Ok(bits) = std::env::var(SIZE) {
        // What a component's width in a vector of so many bits makes of a subgroup.
        let size = bits.parse::<u32>().expect("a number of bits") / 32;
        let evaluator = open(PRETENCES[0].1);
        let xent::Backend::Gpu { adapter, .. } = evaluator.backend() else { panic!("a GPU was demanded") };
        let known = xent::adapters_blocking().into_iter().find(|known| known.name == adapter).expect("it was just opened");
        if known.kind == "software" {
            assert_eq!(known.subgroup_sizes, (size, size), "{adapter}");
        }
        // Of itself Mesa makes no vectors of more than 256 bits: what has larger subgroups is a GPU.
        let pretences = [PRETENCES[0], PRETENCES[2]];
        for (name, pretence) in pretences.into_iter().take(if size > 8 { 1 } else { 2 }) {
            let evaluator = open(pretence);
            for classes in [10, 33, 100, 300, 2000, 9000, 17_000] {
                losses(&evaluator, name, classes);
            }
            gradients(&evaluator, name, 300);
        }
        return;
    }
    // That of this process is the other tests'.
    let tested = std::env::var(WIDTH).unwrap_or_default();
    for bits in ["128", "256", "512"].into_iter().filter(|bits| *bits != tested) {
        let output = std::process::Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "every_size_of_subgroup"])
            .envs([(SIZE, bits), (WIDTH, bits)])
            .output()
            .expect("this test starts once more");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "vectors of {bits} bits: {text}");
    }
}
