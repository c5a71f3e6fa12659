//! What the host does around the kernels: `cargo bench --bench host`. See README.md beside this file.

mod support;

use std::hint::black_box;
use std::ops::Range;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2, Axis, Slice};
use support::rows::noise;
use xent::{BackendChoice, Batch, Evaluator, EvaluatorDescriptor, Input, Outputs, Targets};

/// Few classes: most rows for their bytes, so that what is done once a row weighs most.
const CLASSES: usize = 2;
const ROWS: usize = 1 << 20;

fn cpu() -> Evaluator {
    let descriptor = EvaluatorDescriptor { backend: BackendChoice::Cpu, ..Default::default() };
    Evaluator::new_blocking(&descriptor).expect("the CPU is always there")
}

fn logits(rows: usize, classes: usize) -> Array2<f32> {
    let mut noise = noise();
    Array2::from_shape_simple_fn((rows, classes), || noise() * 8.0 - 4.0)
}

fn plain() -> Outputs {
    Outputs { accuracy: false, ..Outputs::default() }
}

/// The same rows pushed in parts of more and more rows: what a part costs by itself.
fn parts(criterion: &mut Criterion) {
    let (predictions, labels) = (logits(ROWS, CLASSES), Array1::<u32>::ones(ROWS));
    let (evaluator, loss) = (cpu(), support::loss(Input::Logits));
    let batch = |range: Range<usize>| {
        let part = Slice::from(range);
        let targets = Targets::classes(labels.slice_axis(Axis(0), part));
        Batch::new(predictions.slice_axis(Axis(0), part), targets).expect("shapes fit")
    };
    let exact = evaluator.evaluate_blocking(&loss, &batch(0..ROWS), &plain()).expect("it evaluates").totals;
    let mut group = criterion.benchmark_group("parts");
    support::timing(&mut group);
    group.throughput(Throughput::Elements(ROWS as u64));
    for rows in [64, 1 << 10, 1 << 14, ROWS] {
        let totals = || {
            let mut stream = evaluator.stream(&loss, &plain());
            for first in (0..ROWS).step_by(rows) {
                stream.push_blocking(&batch(first..first + rows)).expect("it evaluates");
            }
            stream.finish().totals
        };
        assert_eq!(totals(), exact, "parts of {rows} rows have other bits");
        group.bench_function(BenchmarkId::from_parameter(rows), |bencher| bencher.iter(|| black_box(totals())));
    }
}

/// Class indices of each width: checking them, and bringing them into the kernels' form.
fn labels(criterion: &mut Criterion) {
    let (predictions, labels) = (logits(ROWS, CLASSES), Array1::from_shape_fn(ROWS, |row| (row % CLASSES) as u8));
    let (evaluator, loss) = (cpu(), support::loss(Input::Logits));
    let (words, longs) = (labels.mapv(u32::from), labels.mapv(i64::from));
    let kinds = [
        ("u8", Targets::classes(labels.view())),
        ("u32", Targets::classes(words.view())),
        ("i64", Targets::classes(longs.view())),
    ];
    let mut group = criterion.benchmark_group("labels");
    support::timing(&mut group);
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut first = None;
    for (name, targets) in kinds {
        let batch = Batch::new(predictions.view(), targets).expect("shapes fit");
        let totals = evaluator.evaluate_blocking(&loss, &batch, &plain()).expect("it evaluates").totals;
        assert_eq!(&totals, first.get_or_insert_with(|| totals.clone()), "labels of {name} have another mean");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(evaluator.evaluate_blocking(&loss, black_box(&batch), &plain())));
        });
    }
}

/// What is added up over rows, more and more of it.
fn totals(criterion: &mut Criterion) {
    let (predictions, labels) = (logits(ROWS, CLASSES), Array1::<u32>::ones(ROWS));
    let weights = Array1::from_shape_fn(ROWS, |row| (row % 3) as f32);
    let (evaluator, loss) = (cpu(), support::loss(Input::Logits));
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
    let weighted = batch.clone().sample_weights(weights.view()).expect("shapes fit");
    let cases = [
        ("loss", &batch, plain()),
        ("loss of rows", &batch, Outputs { losses: true, ..plain() }),
        ("weights", &weighted, plain()),
        ("accuracy", &batch, Outputs::default()),
        ("calibration", &batch, Outputs { calibration_bins: Some(15), ..Outputs::default() }),
    ];
    let mut group = criterion.benchmark_group("totals");
    support::timing(&mut group);
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, batch, outputs) in cases {
        let found = evaluator.evaluate_blocking(&loss, batch, &outputs).expect("it evaluates").totals;
        assert!(found.mean().is_finite(), "{name}: {found:?}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(evaluator.evaluate_blocking(&loss, black_box(batch), &outputs)));
        });
    }
}

/// A batch of one row: what a call costs before it does anything, alone and as a stream's next batch.
fn calls(criterion: &mut Criterion) {
    let (predictions, labels) = (logits(1, CLASSES), Array1::<u32>::ones(1));
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
    let loss = support::loss(Input::Logits);
    for place in support::places() {
        let mut group = criterion.benchmark_group(format!("calls/{}", place.name));
        support::timing(&mut group);
        group.bench_function("evaluate", |bencher| {
            bencher.iter(|| black_box(place.evaluator.evaluate_blocking(&loss, black_box(&batch), &plain())));
        });
        let mut stream = place.evaluator.stream(&loss, &plain());
        group.bench_function("push", |bencher| {
            bencher.iter(|| {
                stream.push_blocking(black_box(&batch)).expect("it evaluates");
            });
        });
    }
}

criterion_group!(benches, parts, labels, totals, calls);
criterion_main!(benches);
