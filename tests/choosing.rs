//! Which backend runs, what happens when it fails in the middle, and that all of it may cross threads.

mod support;

use std::task::{Context, Poll, Waker};

use ndarray::{Array1, Array2, ArrayView2};
use pollster::block_on;
use support::backends;
use support::kinds;
use support::oracle::{Input, Problem, Targets as Wanted};
use xent::{
    Backend, BackendChoice, Batch, CategoricalCrossEntropy, Error, Evaluation, Evaluator, EvaluatorDescriptor, Fault, Loss,
    Metric, Outputs, Pretence, Stream, Targets, Totals, adapters,
};

/// Rows of a window in the tests of failures, and of the whole batch: the third window is in the middle.
const WINDOW: usize = 10;
const ROWS: usize = 45;

fn problem() -> Problem {
    let mut problem = kinds::problem(1, Input::Logits, false, ROWS, 7, 0);
    problem.sample_weights = Some((0..ROWS).map(|row| row as f64).collect());
    // Of ordinary rows only: totals are to be told apart.
    let mut random = kinds::Random::new(2);
    problem.predictions = (0..ROWS).flat_map(|_| kinds::row(&mut random, Input::Logits, 7, 0)).collect();
    problem
}

fn evaluate(evaluator: &Evaluator, problem: &Problem) -> xent::Result<Evaluation> {
    let arrays = backends::Arrays::of(problem);
    evaluator.evaluate_blocking(&backends::loss(problem), &arrays.batch(), &backends::everything())
}

fn failing(backend: BackendChoice, fault: Fault) -> Evaluator {
    failing_in_flight(backend, fault, Pretence::default())
}

fn failing_in_flight(backend: BackendChoice, fault: Fault, pretence: Pretence) -> Evaluator {
    backends::open_as(&EvaluatorDescriptor {
        backend,
        window_rows: Some(WINDOW),
        allow_software: true,
        fault: Some(fault),
        ..EvaluatorDescriptor::default()
    })
    .with_pretence(pretence)
}

/// The rows that a message may name. A window that finds no memory does no harm to those before it; with a device all windows
/// are lost that were in flight.
fn rows_at_fault(fault: Fault, in_flight: usize) -> Vec<u64> {
    let (last, before) = match fault {
        Fault::OutOfMemory { window } => (window, 0),
        Fault::DeviceLost { window } => (window, in_flight as u64 - 1),
        other => panic!("{other:?} has no row"),
    };
    (last.saturating_sub(before)..=last).map(|window| window * WINDOW as u64).collect()
}

/// Windows in flight, where nothing else is said.
const IN_FLIGHT: usize = 2;

fn faults(window: u64) -> [Fault; 2] {
    [Fault::DeviceLost { window }, Fault::OutOfMemory { window }]
}

#[test]
fn the_cpu_is_the_cpu_and_a_gpu_names_itself() {
    assert_eq!(backends::open(BackendChoice::Cpu).backend(), Backend::Cpu);
    let evaluator = backends::open(BackendChoice::Gpu);
    let Backend::Gpu { adapter, driver } = evaluator.backend() else { panic!("a GPU was demanded") };
    let known = block_on(adapters());
    assert!(known.iter().any(|known| known.name == adapter && known.driver == driver), "{adapter:?} {driver:?} in {known:?}");
    for (choice, backend) in [(BackendChoice::Cpu, Backend::Cpu), (BackendChoice::Gpu, evaluator.backend())] {
        let evaluation = evaluate(&backends::open(choice), &problem()).expect("the problem is sound");
        assert_eq!((evaluation.backend, evaluation.warnings), (backend, vec![]));
    }
}

#[test]
fn an_adapter_is_found_by_part_of_its_name() {
    let known = block_on(adapters());
    let name = &known.first().expect("Debian's mesa-vulkan-drivers has an adapter for any machine").name;
    let part = name[..name.len().min(5)].to_uppercase();
    for backend in [BackendChoice::Gpu, BackendChoice::Auto] {
        let descriptor = EvaluatorDescriptor { backend, adapter: Some(part.clone()), ..EvaluatorDescriptor::default() };
        let Backend::Gpu { adapter, .. } = backends::open_as(&descriptor).backend() else { panic!("{part} was demanded") };
        assert!(adapter.to_uppercase().contains(&part), "{adapter}");
    }
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_what_is() {
    let known = block_on(adapters());
    for backend in [BackendChoice::Gpu, BackendChoice::Auto] {
        let adapter = Some("no such adapter".to_owned());
        let descriptor = EvaluatorDescriptor { backend, adapter, ..EvaluatorDescriptor::default() };
        let error = Evaluator::new_blocking(&descriptor).expect_err("no adapter is called that").to_string();
        assert!(error.contains("no such adapter"), "{error}");
        for adapter in &known {
            assert!(error.contains(&adapter.name), "{error} leaves out {}", adapter.name);
        }
    }
    let adapter = Some("no such adapter".to_owned());
    let descriptor = EvaluatorDescriptor { backend: BackendChoice::Cpu, adapter, ..EvaluatorDescriptor::default() };
    assert!(matches!(Evaluator::new_blocking(&descriptor), Err(Error::Combination(_))));
}

#[test]
fn auto_takes_no_software_adapter_unless_told_to() {
    let known = block_on(adapters());
    let real = known.iter().any(|adapter| adapter.kind != "software");
    let auto = backends::open_as(&EvaluatorDescriptor::default());
    assert_eq!(matches!(auto.backend(), Backend::Gpu { .. }), real, "{known:?}");
    assert_eq!(known.iter().filter(|adapter| adapter.auto).count(), usize::from(real));
    assert!(known.iter().all(|adapter| !adapter.auto || adapter.kind != "software"));
    // Nothing to warn of: a machine without a GPU is an ordinary machine.
    assert!(evaluate(&auto, &problem()).expect("the problem is sound").warnings.is_empty());

    let welcome = EvaluatorDescriptor { allow_software: true, ..EvaluatorDescriptor::default() };
    assert!(matches!(backends::open_as(&welcome).backend(), Backend::Gpu { .. }));
}

#[test]
fn the_cpu_finishes_what_auto_began() {
    let problem = problem();
    for (copies, in_flight) in [(false, 1), (false, 2), (true, 2), (false, 5), (true, 5)] {
        let pretence = Pretence { copies, in_flight: Some(in_flight), ..Pretence::default() };
        for fault in [0, 1, 2, 3, 4].into_iter().flat_map(faults) {
            let context = format!("{fault:?}, {in_flight} in flight, copies={copies}");
            let evaluator = failing_in_flight(BackendChoice::Auto, fault, pretence);
            let mut evaluation = evaluate(&evaluator, &problem).expect("the CPU finishes");
            assert_eq!(evaluation.backend, Backend::Cpu, "{context}");
            let [warning] = evaluation.warnings.as_slice() else { panic!("{context}: {:?}", evaluation.warnings) };
            let rows = rows_at_fault(fault, in_flight);
            assert!(rows.iter().any(|row| warning.contains(&format!("row {row}:"))), "{context}: {warning}");
            // Windows of both backends are in the totals, each row once.
            evaluation.warnings.clear();
            backends::compare(&evaluation, &problem, &problem.truth()).unwrap_or_else(|why| panic!("{context}: {why}"));
        }
    }
}

#[test]
fn a_failure_after_the_last_window_is_none() {
    for fault in faults(5) {
        for backend in [BackendChoice::Auto, BackendChoice::Gpu] {
            let evaluation = evaluate(&failing(backend, fault), &problem()).expect("windows are 0 to 4");
            assert!(matches!(evaluation.backend, Backend::Gpu { .. }) && evaluation.warnings.is_empty());
        }
    }
}

#[test]
fn a_demanded_gpu_that_fails_is_an_error_with_the_row() {
    for window in [0, 2] {
        for fault in faults(window) {
            let error = evaluate(&failing(BackendChoice::Gpu, fault), &problem()).expect_err("the fault comes up");
            let Error::Gpu { row, reason } = &error else { panic!("{fault:?}: {error}") };
            assert!(rows_at_fault(fault, IN_FLIGHT).contains(row) && !reason.is_empty(), "{fault:?}: {error}");
        }
    }
    // The device of another evaluator is another device.
    assert!(evaluate(&backends::open(BackendChoice::Gpu), &problem()).is_ok());
}

/// Pushes the first rows, then all of them.
fn in_two_batches(stream: &mut Stream<'_>, problem: &Problem) -> [xent::Result<usize>; 2] {
    let first = head(problem, WINDOW);
    [&first, problem].map(|part| stream.push_blocking(&backends::Arrays::of(part).batch()).map(|rows| rows.losses.len()))
}

fn head(problem: &Problem, rows: usize) -> Problem {
    let Wanted::Classes(labels) = &problem.targets else { panic!("class indices") };
    Problem {
        rows,
        predictions: problem.predictions[..rows * problem.classes].to_vec(),
        targets: Wanted::Classes(labels[..rows].to_vec()),
        sample_weights: problem.sample_weights.as_ref().map(|weights| weights[..rows].to_vec()),
        ..problem.clone()
    }
}

#[test]
fn after_an_error_a_stream_has_the_batches_before() {
    let problem = problem();
    let before = head(&problem, WINDOW).truth();
    // Window 0 is the first batch, windows 1 and 2 of the second one are thrown away with it.
    for fault in faults(3) {
        let evaluator = failing(BackendChoice::Gpu, fault);
        let mut stream = evaluator.stream(&backends::loss(&problem), &backends::everything());
        let [first, second] = in_two_batches(&mut stream, &problem);
        assert_eq!(first, Ok(WINDOW));
        let Err(Error::Gpu { row, .. }) = second else { panic!("{fault:?}: {second:?}") };
        assert!(rows_at_fault(fault, IN_FLIGHT).contains(&row), "{fault:?}: row {row}");
        assert_eq!(stream.rows(), WINDOW as u64);
        let totals = stream.finish().totals;
        assert_eq!((totals.rows, totals.kept, totals.correct), (before.kept, before.kept, before.correct));
        support::tolerance::assert_total("sum", totals.sum(), before.sum);
        support::tolerance::assert_total("weight", totals.weight, before.weight);
    }
    // Under Auto the second batch is finished on the CPU, and the third is begun there.
    for fault in faults(3) {
        let evaluator = failing(BackendChoice::Auto, fault);
        let mut stream = evaluator.stream(&backends::loss(&problem), &backends::everything());
        assert_eq!(in_two_batches(&mut stream, &problem), [Ok(WINDOW), Ok(ROWS)]);
        assert_eq!(in_two_batches(&mut stream, &problem), [Ok(WINDOW), Ok(ROWS)]);
        let evaluation = stream.finish();
        assert_eq!((evaluation.backend, evaluation.warnings.len()), (Backend::Cpu, 1));
        let twice = 2.0 * (before.sum + problem.truth().sum);
        support::tolerance::assert_total("sum", evaluation.totals.sum(), twice);
    }
}

/// Windows that are in flight when nobody waits for them any more are gone, and the next batch does not notice.
#[test]
fn a_dropped_future_leaves_no_trace() {
    let problem = problem();
    for (copies, in_flight) in [(false, 1), (false, 2), (true, 2), (true, 5)] {
        let pretence = Pretence { copies, in_flight: Some(in_flight), ..Pretence::default() };
        let evaluator = backends::gpu().with_window_rows(Some(WINDOW)).with_pretence(pretence);
        let alone = evaluate(&evaluator, &problem).expect("the problem is sound");
        let arrays = backends::Arrays::of(&problem);
        let batch = arrays.batch();
        let mut stream = evaluator.stream(&backends::loss(&problem), &backends::everything());
        let mut dropped = 0;
        // The device may be done before it is asked, where this thread had to wait for its turn: then once more.
        for polls in (1..=4).cycle().take(100) {
            if dropped == 4 {
                break;
            }
            let mut push = Box::pin(stream.push(&batch));
            let context = &mut Context::from_waker(Waker::noop());
            // It may be ready early where the device is as fast as that.
            let ready = (0..polls).find_map(|_| match push.as_mut().poll(context) {
                Poll::Ready(outcome) => Some(outcome.map(drop)),
                Poll::Pending => None,
            });
            drop(push);
            match ready {
                Some(outcome) => {
                    assert_eq!(outcome, Ok(()));
                    stream = evaluator.stream(&backends::loss(&problem), &backends::everything());
                }
                None => dropped += 1,
            }
            assert_eq!(stream.rows(), 0);
        }
        assert!(dropped > 0, "no push had to wait, {in_flight} in flight, copies={copies}");
        let losses = stream.push_blocking(&batch).expect("the problem is sound").losses.to_vec();
        assert_eq!(losses, alone.losses.clone().into_iter().flatten().collect::<Vec<_>>());
        assert_eq!(stream.finish().totals, alone.totals, "{in_flight} in flight, copies={copies}");
    }
}

#[test]
fn a_row_that_does_not_even_fit_in_parts_is_named_or_left_to_the_cpu() {
    const LIMIT: u64 = 1 << 10;
    let classes = 1000;
    let mut predictions = Array2::<f32>::zeros((1, classes));
    predictions[[0, classes - 1]] = 3.0;
    let labels = Array1::from(vec![classes as i64 - 1]);
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("the shapes fit");
    let loss = Loss::from(CategoricalCrossEntropy { input: xent::Input::Logits, ..CategoricalCrossEntropy::default() });
    let pretence = Pretence { binding: Some(LIMIT), ..Pretence::default() };

    let gpu = backends::gpu().with_pretence(pretence);
    let error = gpu.evaluate_blocking(&loss, &batch, &Outputs::default()).expect_err("the row does not fit");
    let Error::RowTooLarge { classes: found, bytes, limit, .. } = &error else { panic!("{error}") };
    assert_eq!((*found, *bytes, *limit), (classes, 4 * classes as u64, LIMIT));

    let auto = EvaluatorDescriptor { allow_software: true, ..EvaluatorDescriptor::default() };
    let auto = backends::open_as(&auto).with_pretence(pretence);
    let auto = auto.evaluate_blocking(&loss, &batch, &Outputs::default()).expect("the CPU steps in");
    assert_eq!(auto.backend, Backend::Cpu);
    assert!(auto.warnings.len() == 1 && auto.warnings[0].contains("CPU"), "{:?}", auto.warnings);
    let want = ((classes - 1) as f64 * (-3f64).exp()).ln_1p();
    support::tolerance::assert_total("mean", auto.totals.mean(), want);
    assert_eq!(auto.totals.correct, 1);
}

#[test]
fn one_evaluator_serves_many_threads() {
    let problem = problem();
    for tested in backends::all() {
        let alone = evaluate(&tested.windowed, &problem).expect("the problem is sound");
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..20).map(|_| evaluate(&tested.windowed, &problem)).collect::<Vec<_>>()))
                .collect();
            for thread in threads {
                for evaluation in thread.join().expect("no panic") {
                    assert_eq!(evaluation.as_ref(), Ok(&alone), "on the {}", tested.name);
                }
            }
        });
    }
}

#[test]
fn everything_crosses_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>(_: &T) {}
    shared::<Evaluator>();
    shared::<EvaluatorDescriptor>();
    shared::<Stream<'static>>();
    shared::<Metric>();
    shared::<Totals>();
    shared::<Evaluation>();
    shared::<Batch<'static>>();
    shared::<Loss>();
    shared::<Error>();

    let evaluator = backends::open(BackendChoice::Cpu);
    let (predictions, labels) = (ArrayView2::<f32>::from_shape((1, 2), &[0.0, 1.0]).expect("a row"), Array1::from(vec![1_u8]));
    let batch = Batch::new(predictions, Targets::classes(labels.view())).expect("the shapes fit");
    let (loss, outputs) = (CategoricalCrossEntropy::default().into(), Outputs::default());
    sent(&evaluator.evaluate(&loss, &batch, &outputs));
    sent(&evaluator.stream(&loss, &outputs).push(&batch));
    sent(&Evaluator::new(&EvaluatorDescriptor::default()));
    sent(&adapters());
}
