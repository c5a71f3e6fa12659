//! What a kernel in a caller's program computes: every loss, on every kind of target, element and weight that may be bound, and
//! over so many rows that every part of a sum has several, one after the other or side by side.

mod support;

use half::{bf16, f16};
use ndarray::ArrayView3;
use support::arrays::Element as Stored;
use support::backends::{self, Arrays};
use support::device::Application;
use support::moderate;
use support::oracle::{Input, Kind, Of, Problem, Targets};
use support::{answers, tolerance};
use xent::gpu::{Bindings, Cache, Kernel, KernelDescriptor, KernelOutputs, StatusWords, TargetKind, TotalsWords};
use xent::{BackendChoice, Element, Outputs, Reduction};

/// Of the totals, which a kernel adds up in float32.
const NEAR: f64 = 4e-6;

/// What a kernel wrote.
struct Found {
    losses: Vec<f32>,
    gradient: Vec<f32>,
    totals: TotalsWords,
    status: StatusWords,
}

/// How a problem is given to a kernel.
#[derive(Clone, Copy, Debug)]
struct Given {
    stored: Stored,
    gradient: Of,
    /// Class weights come in a buffer, else with the loss.
    bound: bool,
    /// So many rows lie side by side.
    inner: usize,
}

/// An array of these dimensions with the last two exchanged.
fn exchanged<T: Copy>(values: &[T], shape: [usize; 3]) -> Vec<T> {
    let view = ArrayView3::from_shape(shape, values).expect("rows are whole");
    view.permuted_axes([0, 2, 1]).iter().copied().collect()
}

/// Runs a kernel over a problem.
fn run(app: &Application, cache: &Cache, problem: &Problem, given: Given) -> Found {
    let Given { stored, gradient, bound, inner } = given;
    let outer = problem.rows / inner;
    let lying = |values: &[f32]| exchanged(values, [outer, inner, problem.classes]);
    let values = lying(&problem.predictions).into_iter();
    let predictions: Vec<u8> = match stored {
        Stored::F32 => bytemuck::pod_collect_to_vec(&values.collect::<Vec<_>>()),
        Stored::F16 => bytemuck::pod_collect_to_vec(&values.map(f16::from_f32).collect::<Vec<_>>()),
        Stored::Bf16 => bytemuck::pod_collect_to_vec(&values.map(bf16::from_f32).collect::<Vec<_>>()),
    };
    let (kind, targets): (_, Vec<u8>) = match &problem.targets {
        Targets::Classes(labels) => {
            let labels: Vec<i32> = labels.iter().map(|label| *label as i32).collect();
            (TargetKind::Classes, bytemuck::pod_collect_to_vec(&labels))
        }
        Targets::Dense(dense) => (TargetKind::Dense, bytemuck::pod_collect_to_vec(&lying(dense))),
    };
    let class_weights = problem.class_weights.as_ref().filter(|_| bound);
    let loss = match class_weights {
        Some(_) => backends::loss(&Problem { class_weights: None, ..problem.clone() }),
        None => backends::loss(problem),
    };
    let descriptor = KernelDescriptor {
        loss,
        classes: problem.classes,
        inner,
        element: match stored {
            Stored::F32 => Element::F32,
            Stored::F16 => Element::F16,
            Stored::Bf16 => Element::Bf16,
        },
        targets: kind,
        sample_weights: problem.sample_weights.is_some(),
        class_weights: class_weights.is_some(),
        outputs: KernelOutputs {
            losses: true,
            gradient: Some(answers::gradient(gradient)),
            totals: Some(Reduction::WeightedMean),
            accuracy: problem.extra.kind == Kind::Categorical,
            status: true,
            ..KernelOutputs::default()
        },
        ..KernelDescriptor::default()
    };
    let kernel = Kernel::new_blocking(&app.device, cache, &descriptor).expect("the kernel is made");

    // Words of 16 bytes, and poison after what they hold.
    let buffer = |bytes: &[u8]| app.buffer(bytes, (bytes.len() as u64).next_multiple_of(16));
    let room = |bytes: usize| app.buffer(&[], (bytes as u64).next_multiple_of(16));
    let weights: Option<Vec<f32>> =
        problem.sample_weights.as_ref().map(|all| all.iter().map(|weight| *weight as f32).collect());
    let weights = weights.map(|all| buffer(bytemuck::cast_slice(&all)));
    let class_weights = class_weights.map(|all| buffer(bytemuck::cast_slice(all)));
    let (predictions, targets) = (buffer(&predictions), buffer(&targets));
    let (losses, gradient) = (room(4 * problem.rows), room(4 * problem.predictions.len()));
    let (totals, status) = (room(size_of::<TotalsWords>()), room(size_of::<StatusWords>()));
    let bindings = Bindings {
        sample_weights: weights.as_ref().map(|buffer| buffer.slice(..)),
        class_weights: class_weights.as_ref().map(|buffer| buffer.slice(..)),
        losses: Some(losses.slice(..)),
        gradient: Some(gradient.slice(..)),
        totals: Some(totals.slice(..)),
        status: Some(status.slice(..)),
        ..Bindings::new(predictions.slice(..), targets.slice(..))
    };
    let bound = kernel.bind(&app.device, &bindings, problem.rows).expect("the buffers are bound");
    app.submit(|encoder| bound.encode(encoder));
    let floats = |buffer, count: usize| -> Vec<f32> { bytemuck::pod_collect_to_vec(&app.read(buffer)[..4 * count]) };
    Found {
        losses: floats(&losses, problem.rows),
        gradient: exchanged(&floats(&gradient, problem.predictions.len()), [outer, problem.classes, inner]),
        totals: bytemuck::pod_read_unaligned(&app.read(&totals)[..size_of::<TotalsWords>()]),
        status: bytemuck::pod_read_unaligned(&app.read(&status)[..size_of::<StatusWords>()]),
    }
}

/// Compares what a kernel wrote with the truth of its rows, and its totals with the CPU's. A gradient is compared with the largest
/// of so many elements at a time.
fn check(found: &Found, problem: &Problem, slopes: &[f64], elements: usize, context: &str) {
    let truth = problem.truth();
    for (row, got) in found.losses.iter().enumerate() {
        tolerance::check_row_of(*got, truth.losses[row], truth.terms[row], problem.extra.moves())
            .unwrap_or_else(|why| panic!("{context}, row {row}: {why}"));
    }
    tolerance::check_gradient(&found.gradient, slopes, elements, problem.is_dense())
        .unwrap_or_else(|why| panic!("{context}: {why}"));
    let cpu = on_the_cpu(problem, &Outputs { accuracy: problem.extra.kind == Kind::Categorical, ..Outputs::default() }).totals;
    for (what, got, want) in [
        ("loss", found.totals.loss, cpu.weighted_mean()),
        ("sum", found.totals.sum, cpu.sum()),
        ("weight", found.totals.weight, cpu.weight),
    ] {
        assert!((f64::from(got) - want).abs() <= NEAR * want.abs().max(1.0), "{context}, {what}: got {got}, want {want}");
    }
    let counts = [found.totals.rows, found.totals.kept, found.totals.correct].map(u64::from);
    assert_eq!(counts, [cpu.rows, cpu.kept, cpu.correct], "{context}: rows, kept, correct");
    let StatusWords { bad_labels, non_finite, rows, .. } = found.status;
    assert_eq!((bad_labels, non_finite, rows as usize), (0, 0, problem.rows), "{context}");
}

fn on_the_cpu(problem: &Problem, outputs: &Outputs) -> xent::Evaluation {
    let evaluator = backends::open(BackendChoice::Cpu);
    evaluator.evaluate_blocking(&backends::loss(problem), &Arrays::of(problem).batch(), outputs).expect("the problem is sound")
}

/// Weights of rows and of classes, ignored rows, label smoothing: whatever the loss has of these.
fn weighed(mut problem: Problem) -> Problem {
    problem.sample_weights = Some((0..problem.rows).map(|row| (row % 5) as f64 * 0.5).collect());
    if problem.extra.kind != Kind::KlDivergence {
        problem.label_smoothing = 0.1;
    }
    if problem.extra.kind == Kind::Categorical {
        problem.class_weights = Some((0..problem.classes).map(|class| (1 + class % 4) as f32 * 0.5).collect());
    }
    if let Targets::Classes(labels) = &mut problem.targets {
        problem.ignore_index = Some(-100);
        labels.iter_mut().skip(3).step_by(7).for_each(|label| *label = -100);
    }
    problem
}

#[test]
fn every_loss_with_every_kind_of_target_element_and_weight() {
    let (app, cache) = (Application::plain(), Cache::default());
    let ofs = [Of::WeightedMean, Of::Mean, Of::Sum, Of::Scaled(0.5)];
    for (number, setup) in moderate::setups().iter().enumerate() {
        for dense in [false, true] {
            if setup.extra.kind != Kind::Categorical && !dense {
                continue;
            }
            let case = 2 * number + usize::from(dense);
            let stored = [Stored::F32, Stored::F16, Stored::Bf16][if setup.input == Input::Logits { number % 3 } else { 0 }];
            let mut problem = moderate::problem(31, setup, dense, 42, 6, 1e-7);
            problem.predictions.iter_mut().for_each(|x| *x = stored.rounded(*x));
            // Without weights and ignored rows a mean's divisor is known beforehand.
            for (weighty, problem) in [(false, problem.clone()), (true, weighed(problem))] {
                let of = ofs[(case + usize::from(weighty)) % ofs.len()];
                let slopes = problem.gradient(of);
                let inner = [1, 3][(number + usize::from(weighty)) % 2];
                let given = Given { stored, gradient: of, bound: case % 3 != 0, inner };
                let context = format!("{}, dense={dense}, weights={weighty}, {given:?}", setup.name);
                check(&run(&app, &cache, &problem, given), &problem, &slopes, problem.classes, &context);
            }
        }
    }
}

/// So many that each of 256 partial sums, each lane in it, and each tier of a lane (8 rows, 64, and more) has several rows; with the
/// divisor of a gradient counted from labels and weights, or from dense targets.
#[test]
fn so_many_rows_that_every_part_of_a_sum_has_several() {
    let (app, cache) = (Application::plain(), Cache::default());
    let setup = &moderate::named("logits");
    for (dense, of) in [(false, Of::WeightedMean), (false, Of::Mean), (true, Of::WeightedMean)] {
        let problem = weighed(moderate::problem(37, setup, dense, 2_200_003, 2, 1e-7));
        let found = run(&app, &cache, &problem, Given { stored: Stored::F32, gradient: of, bound: true, inner: 1 });
        // Of so many rows some are predicted nearly as they are: of their gradients little is left but what p and the target lost.
        let slopes = problem.gradient(of);
        check(&found, &problem, &slopes, slopes.len(), &format!("dense={dense}, {of:?}"));
    }
}
