//! Rows that are read when their turn comes give the bits of those that lie in memory, and what cannot be read is an error
//! that leaves no trace.

mod support;

use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::{bf16, f16};
use ndarray::{Array1, Array2, s};
use support::backends;
use xent::{
    Backend, Batch, CategoricalCrossEntropy, Error, Evaluation, Evaluator, EvaluatorDescriptor, Gradient, Input, Loss, Outputs,
    ReadRows, Reader, Reduction, Targets,
};

/// Numbers in memory, handed out as if they were read, and which rows were asked for.
struct Shelf<T> {
    numbers: Array2<T>,
    asked: Mutex<Vec<Range<usize>>>,
    /// This row and all after it are gone.
    end: usize,
}

impl<T: Copy + Sync + Send> ReadRows<T> for Shelf<T> {
    fn read_rows(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self.asked.lock().expect("nobody panics").push(rows.clone());
        if rows.end > self.end {
            return Err(format!("nothing from row {} on", self.end).into());
        }
        let classes = self.numbers.ncols();
        let all = self.numbers.as_slice().expect("rows lie one after the other");
        out.copy_from_slice(&all[rows.start * classes..rows.end * classes]);
        Ok(())
    }
}

impl<T> Shelf<T> {
    fn new(numbers: Array2<T>) -> Self {
        let end = numbers.nrows();
        Self { numbers, asked: Mutex::default(), end }
    }

    /// Whether every row was asked for, once.
    fn was_read_once(&self) -> bool {
        let mut asked = self.asked.lock().expect("nobody panics").clone();
        asked.sort_by_key(|rows| rows.start);
        let mut next = 0;
        asked.iter().all(|rows| rows.start == std::mem::replace(&mut next, rows.end)) && next == self.numbers.nrows()
    }
}

fn logits(rows: usize, classes: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, classes), |(row, class)| ((row * 37 + class * 101) % 211) as f32 / 16.0 - 6.0)
}

fn labels(rows: usize, classes: usize) -> Array1<u32> {
    Array1::from_shape_fn(rows, |row| (row * 7 % classes) as u32)
}

fn dense(rows: usize, classes: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, classes), |(row, class)| ((row * 5 + class * 3) % 11) as f32 / (5 * classes) as f32)
}

fn from_logits() -> Loss {
    CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into()
}

fn everything(classes: usize) -> Outputs {
    let gradient = (classes < 5000).then_some(Gradient::Of(Reduction::Mean));
    Outputs { gradient, logsumexp: true, calibration_bins: Some(15), ..backends::everything() }
}

fn evaluate(evaluator: &Evaluator, batch: &Batch<'_>) -> Evaluation {
    evaluator.evaluate_blocking(&from_logits(), batch, &everything(batch.classes())).expect("there is nothing to refuse")
}

/// None, one row, some, as many as are read at a time and their neighbours, so many that each thread has blocks of its own; a row
/// longer than what is read at a time, and one that threads share.
const SHAPES: [(usize, usize); 8] = [(0, 3), (1, 3), (131, 10), (63, 1000), (65, 1000), (70_000, 2), (3, 70_000), (1, 530_000)];

#[test]
fn rows_that_are_read_have_the_same_bits() {
    for tested in backends::all() {
        for (rows, classes) in SHAPES {
            let context = format!("{rows} rows of {classes} classes on the {}", tested.name);
            let evaluator = if rows < 200 { &tested.windowed } else { &tested.evaluator };
            let (numbers, classes_of) = (logits(rows, classes), labels(rows, classes));
            let targets = || Targets::classes(classes_of.view());

            let lying = evaluate(evaluator, &Batch::new(numbers.view(), targets()).expect("shapes fit"));
            let shelf = Shelf::new(numbers.clone());
            let batch = Batch::reading(rows, classes, Reader::F32(&shelf), targets()).expect("shapes fit");
            assert_eq!((batch.rows(), batch.classes(), batch.is_dense()), (rows, classes, false), "{context}");
            assert_eq!(batch.row_shape(), [rows], "{context}");
            assert_eq!(evaluate(evaluator, &batch), lying, "{context}");
            assert!(shelf.was_read_once(), "{context}");

            let (soft, shelf) = (Shelf::new(dense(rows, classes)), Shelf::new(numbers.clone()));
            let batch = Batch::new(numbers.view(), Targets::dense(soft.numbers.view())).expect("shapes fit");
            let lying = evaluate(evaluator, &batch);
            let batch = Batch::reading_dense(rows, classes, Reader::F32(&shelf), Reader::F32(&soft)).expect("shapes fit");
            assert!(batch.is_dense());
            assert_eq!(evaluate(evaluator, &batch), lying, "dense, {context}");
            assert!(shelf.was_read_once() && soft.was_read_once(), "dense, {context}");
            let targets = Targets::dense(soft.numbers.view());
            let batch = Batch::reading(rows, classes, Reader::F32(&shelf), targets).expect("shapes fit");
            assert_eq!(evaluate(evaluator, &batch), lying, "dense in memory, {context}");
        }
    }
}

#[test]
fn rows_without_classes_are_none() {
    let shelf = Shelf::new(Array2::<f32>::zeros((4, 0)));
    for tested in backends::all() {
        let batch = Batch::reading_dense(4, 0, Reader::F32(&shelf), Reader::F32(&shelf)).expect("shapes fit");
        let totals = evaluate(&tested.evaluator, &batch).totals;
        assert_eq!((totals.rows, totals.non_finite, totals.correct), (4, 4, 0), "{}", tested.name);
    }
}

/// Rows of which a thread reads several times before it hands its sums over, after some that end in the midst of a block, with
/// weights.
#[test]
fn what_is_read_in_several_steps_has_the_same_bits() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (rows, classes) = (8 * threads * 1024 + 1029, 66);
    let (numbers, labels) = (logits(rows, classes), labels(rows, classes));
    let weights = Array1::from_shape_fn(rows, |row| (row % 7) as f32 * 0.7);
    let (loss, outputs) = (from_logits(), Outputs { gradient: Some(Gradient::Scaled(0.5)), ..everything(classes) });
    let evaluate = |evaluator: &Evaluator, reads: bool| {
        let mut stream = evaluator.stream(&loss, &outputs);
        let mut gradient = Vec::new();
        for range in [0..1000, 1000..rows] {
            let (some, part) = (Shelf::new(numbers.slice(s![range.clone(), ..]).to_owned()), s![range.clone()]);
            let targets = Targets::classes(labels.slice(part));
            let batch = if reads {
                Batch::reading(range.len(), classes, Reader::F32(&some), targets)
            } else {
                Batch::new(some.numbers.view(), targets)
            };
            let batch = batch.and_then(|batch| batch.sample_weights(weights.slice(part))).expect("shapes fit");
            gradient.extend_from_slice(stream.push_blocking(&batch).expect("there is nothing to refuse").gradient);
            assert_eq!(some.was_read_once(), reads);
        }
        (stream.finish().totals, gradient)
    };
    for tested in backends::all().iter().filter(|tested| tested.evaluator.backend() == Backend::Cpu) {
        let ((sums, gradient), lying) = (evaluate(&tested.evaluator, true), evaluate(&tested.evaluator, false));
        assert_eq!(sums, lying.0, "{}", tested.name);
        assert!(gradient == lying.1, "{}: gradients differ", tested.name);
    }
}

#[test]
fn numbers_of_16_bits_are_read_as_they_are() {
    let (rows, classes) = (150, 33);
    let (halves, brains) = (logits(rows, classes).mapv(f16::from_f32), dense(rows, classes).mapv(bf16::from_f32));
    for tested in backends::all() {
        let evaluator = &tested.windowed;
        let batch = Batch::new(halves.view(), Targets::dense(brains.view())).expect("shapes fit");
        let (predictions, targets) = (Shelf::new(halves.clone()), Shelf::new(brains.clone()));
        let read = Batch::reading_dense(rows, classes, Reader::F16(&predictions), Reader::Bf16(&targets));
        let read = read.expect("shapes fit");
        assert_eq!(evaluate(evaluator, &read), evaluate(evaluator, &batch), "{}", tested.name);
        // And the other way round.
        let batch = Batch::new(brains.view(), Targets::dense(halves.view())).expect("shapes fit");
        let read = Batch::reading_dense(rows, classes, Reader::Bf16(&targets), Reader::F16(&predictions));
        let read = read.expect("shapes fit");
        assert_eq!(evaluate(evaluator, &read), evaluate(evaluator, &batch), "{}", tested.name);
        let why = xent::explain(&from_logits(), &read, 149).expect("it explains");
        assert_eq!(why, xent::explain(&from_logits(), &batch, 149).expect("it explains"));
    }
}

#[test]
fn a_closure_reads() {
    let read = |rows: Range<usize>, out: &mut [f32]| {
        out.copy_from_slice(&rows.flat_map(|row| [row as f32, 0.0]).collect::<Vec<_>>());
        Ok::<_, Box<dyn StdError + Send + Sync>>(())
    };
    let labels = Array1::<u8>::zeros(100);
    let batch = Batch::reading(100, 2, Reader::F32(&read), Targets::classes(labels.view())).expect("shapes fit");
    let lying = Array2::from_shape_fn((100, 2), |(row, class)| if class == 0 { row as f32 } else { 0.0 });
    let lying = Batch::new(lying.view(), Targets::classes(labels.view())).expect("shapes fit");
    for tested in backends::all() {
        assert_eq!(evaluate(&tested.evaluator, &batch), evaluate(&tested.evaluator, &lying), "{}", tested.name);
    }
}

/// Whichever thread meets it first, the error is of the first rows that are gone; what was there before stays, and so does
/// the stream.
#[test]
fn what_cannot_be_read_ends_the_batch_and_nothing_else() {
    for tested in backends::all() {
        for (rows, classes, evaluator) in
            [(131, 10, &tested.windowed), (200, 1000, &tested.evaluator), (70_000, 2, &tested.evaluator)]
        {
            let context = format!("{rows} rows of {classes} classes on the {}", tested.name);
            let (mut shelf, labels) = (Shelf::new(logits(rows, classes)), labels(rows, classes));
            let (loss, outputs) = (from_logits(), backends::everything());
            let mut stream = evaluator.stream(&loss, &outputs);
            {
                let batch = Batch::reading(rows, classes, Reader::F32(&shelf), Targets::classes(labels.view()));
                stream.push_blocking(&batch.expect("shapes fit")).expect("all is there");
            }
            shelf.end = rows / 2;
            let first = {
                let batch = Batch::reading(rows, classes, Reader::F32(&shelf), Targets::classes(labels.view()));
                match stream.push_blocking(&batch.expect("shapes fit")) {
                    Err(Error::Read { first, last, reason }) => {
                        assert_eq!(reason, format!("nothing from row {} on", rows / 2), "{context}");
                        assert!((first..=last).contains(&(rows as u64 + rows as u64 / 2)), "{context}: {first} to {last}");
                        first
                    }
                    other => panic!("{context}: {other:?}"),
                }
            };
            assert!(first >= rows as u64, "rows are counted from the beginning of the stream");
            assert_eq!(stream.rows(), rows as u64, "{context}");
            shelf.end = rows;
            let batch = Batch::reading(rows, classes, Reader::F32(&shelf), Targets::classes(labels.view()));
            stream.push_blocking(&batch.expect("shapes fit")).expect("all is there again");
            let twice = stream.finish();
            let mut good = evaluator.stream(&loss, &outputs);
            for _ in 0..2 {
                let batch = Batch::new(shelf.numbers.view(), Targets::classes(labels.view())).expect("shapes fit");
                good.push_blocking(&batch).expect("there is nothing to refuse");
            }
            assert_eq!(twice, good.finish(), "{context}");
        }
    }
}

/// Who has met an error need not be kept waiting for all the rest.
#[test]
fn nothing_is_begun_after_a_failure() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for tested in backends::all() {
        let (mut shelf, labels) = (Shelf::new(logits(20_000, 100)), labels(20_000, 100));
        shelf.end = 0;
        let batch = Batch::reading(20_000, 100, Reader::F32(&shelf), Targets::classes(labels.view())).expect("shapes fit");
        let result = tested.evaluator.evaluate_blocking(&from_logits(), &batch, &Outputs::default());
        assert!(matches!(result, Err(Error::Read { first: 0, .. })), "{}: {result:?}", tested.name);
        let asked = shelf.asked.lock().expect("nobody panics").len();
        assert!(asked <= threads, "{}: {asked}", tested.name);
    }
}

/// A GPU is not at fault for a file: nothing falls back, though a second attempt would find all there.
#[test]
fn the_cpu_does_not_finish_what_cannot_be_read() {
    let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor { allow_software: true, ..Default::default() });
    let evaluator = evaluator.expect("there is an adapter");
    assert_ne!(evaluator.backend(), Backend::Cpu);
    let attempts = AtomicUsize::new(0);
    let read = |_: Range<usize>, out: &mut [f32]| {
        out.fill(0.0);
        match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Err("the disk is asleep".into()),
            _ => Ok::<_, Box<dyn StdError + Send + Sync>>(()),
        }
    };
    let labels = labels(100, 10);
    let batch = Batch::reading(100, 10, Reader::F32(&read), Targets::classes(labels.view())).expect("shapes fit");
    let result = evaluator.evaluate_blocking(&from_logits(), &batch, &Outputs::default());
    let error = result.expect_err("the first attempt fails").to_string();
    assert_eq!(error, "rows 0 to 99 cannot be read: the disk is asleep", "the message names the rows");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let (shelf, labels, dense) = (Shelf::new(logits(4, 3)), labels(3, 3), dense(4, 2));
    for targets in [Targets::classes(labels.view()), Targets::dense(dense.view())] {
        let refused = Batch::reading(4, 3, Reader::F32(&shelf), targets);
        assert!(matches!(refused, Err(Error::Shape { what: "targets", .. })));
    }
    for (rows, classes) in [(usize::MAX, 2), (1 << 40, 1 << 40), (usize::MAX / 8, 3)] {
        let refused = Batch::reading_dense(rows, classes, Reader::F32(&shelf), Reader::F32(&shelf));
        assert!(matches!(refused, Err(Error::Shape { what: "a batch", .. })));
    }
}
