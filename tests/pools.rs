//! The same bits whatever threads there are: who takes which rows of a batch, and in what pieces, depends on their number.
#![cfg(feature = "threads")]

mod support;

use rayon::{ThreadPool, ThreadPoolBuilder};
use support::backends::{self, Arrays, Tested};
use support::moderate;
use support::oracle::{Problem, Targets};
use xent::{Backend, Evaluation, Gradient, Outputs, Totals};

/// Numbers of predictions on whose two sides a batch is worked on in another way: by one thread or several, with a caller that takes
/// part or waits, through the caches or past them.
const BORDERS: [usize; 3] = [1 << 16, 1 << 20, 1 << 22];

/// Short rows and long ones, and the last and first of either.
const CLASSES: [usize; 4] = [10, 192, 193, 1000];

fn pools() -> Vec<ThreadPool> {
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
    [1, 2, 3, 7].map(pool).into()
}

/// The CPU with each of its instruction sets.
fn processors() -> impl Iterator<Item = &'static Tested> {
    backends::all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu)
}

/// Rows with labels of which some are ignored, or with smoothed dense targets; weights of either that do not add up exactly. None is NaN,
/// which would make all sums the same.
fn problem(dense: bool, rows: usize, classes: usize) -> Problem {
    let mut problem = moderate::problem(rows as u64, &moderate::named("logits"), dense, rows, classes, 1e-7);
    problem.sample_weights = Some((0..rows).map(|row| (row % 7) as f64 * 0.7).collect());
    match &mut problem.targets {
        Targets::Classes(labels) => {
            problem.ignore_index = Some(-1);
            labels.iter_mut().step_by(11).for_each(|label| *label = -1);
        }
        Targets::Dense(_) => problem.label_smoothing = 0.1,
    }
    problem
}

/// Every number as its bits.
fn bits(evaluation: &Evaluation) -> ([Vec<u32>; 3], [u64; 2], Totals) {
    let parts = [&evaluation.losses, &evaluation.logsumexp].map(|part| part.iter().flatten().map(|x| x.to_bits()).collect());
    let [losses, logsumexp] = parts;
    let gradient = evaluation.gradient.iter().flatten().map(|x| x.to_bits()).collect();
    assert!(evaluation.totals.loss.is_finite(), "a sum that is no number is the same whoever adds it up");
    let mut counts = evaluation.totals.clone();
    let sums = [std::mem::take(&mut counts.loss), std::mem::take(&mut counts.weight)].map(f64::to_bits);
    ([losses, logsumexp, gradient], sums, counts)
}

#[track_caller]
fn check(pools: &[ThreadPool], problem: &Problem, outputs: &Outputs, context: &str) {
    let arrays = Arrays::of(problem);
    let (loss, batch) = (backends::loss(problem), arrays.batch());
    for tested in processors() {
        let mut of_pools = pools.iter().map(|pool| {
            let evaluation = pool.install(|| tested.evaluator.evaluate_blocking(&loss, &batch, outputs));
            (pool.current_num_threads(), bits(&evaluation.expect("the problem is sound")))
        });
        let (_, alone) = of_pools.next().expect("a pool of one thread");
        assert_eq!(alone.0[0].len(), problem.rows, "{context}");
        for (threads, all) in of_pools {
            // Not by `assert_eq`, which would print millions of numbers.
            assert!(all == alone, "{context}: {threads} threads have other bits, {}", tested.name);
        }
    }
}

fn wanted() -> Outputs {
    Outputs { logsumexp: true, gradient: Some(Gradient::Scaled(0.01)), ..backends::everything() }
}

#[test]
fn rows_on_both_sides_of_a_border() {
    let pools = pools();
    for (border, classes) in BORDERS.into_iter().flat_map(|border| CLASSES.map(|classes| (border, classes))) {
        // Of four million predictions, one number of classes for each driver and labels are enough.
        let is_largest = border == BORDERS[2];
        if is_largest && (classes == 192 || classes == 193) {
            continue;
        }
        let (offsets, kinds): (&[usize], &[bool]) = if is_largest { (&[1, 2], &[false]) } else { (&[0, 1, 2], &[false, true]) };
        for (&offset, &dense) in offsets.iter().flat_map(|offset| kinds.iter().map(move |dense| (offset, dense))) {
            let rows = border / classes + offset - 1;
            let problem = problem(dense, rows, classes);
            let context = format!("{rows} rows of {classes} classes, dense={dense}");
            check(&pools, &problem, &wanted(), &context);
            check(&pools, &problem, &Outputs { losses: true, ..Outputs::default() }, &format!("{context}, losses alone"));
        }
    }
}

/// Rows that are cut: one, which threads share, and as many as make them take rows of their own.
#[test]
fn rows_that_threads_share() {
    let pools = pools();
    for rows in [1, 2, 9] {
        let classes = (1 << 19) + 77;
        check(&pools, &problem(rows == 2, rows, classes), &wanted(), &format!("{rows} rows of {classes} classes"));
    }
}

/// A stream's second batch begins within a block of rows, whose sums stand apart.
#[test]
fn batches_that_begin_within_a_block() {
    let pools = pools();
    for (classes, rows) in [(10, 110_000), (1000, 1100)] {
        let problem = problem(false, rows, classes);
        let loss = backends::loss(&problem);
        let arrays = [0..100, 100..rows].map(|rows| Arrays::of(&backends::part(&problem, rows)));
        for tested in processors() {
            let mut of_pools = pools.iter().map(|pool| {
                let mut stream = tested.evaluator.stream(&loss, &wanted());
                for arrays in &arrays {
                    pool.install(|| stream.push_blocking(&arrays.batch()).map(|_| ())).expect("the problem is sound");
                }
                bits(&stream.finish())
            });
            let alone = of_pools.next().expect("a pool of one thread");
            assert!(of_pools.all(|all| all == alone), "{rows} rows of {classes} classes, {}", tested.name);
        }
    }
}
