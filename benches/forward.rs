//! The loss of rows of logits with class indices, on every backend of this machine: `cargo bench`.
//!
//! Isolates the evaluation itself: predictions lie in memory, the evaluator is open, pipelines are compiled. On a GPU the
//! upload and the read-back are part of it. Each answer is checked against float64 before it is timed.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2, ArrayView1};
use xent::{Backend, BackendChoice, Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Input, Outputs, Targets};

/// Predictions of a batch.
const ELEMENTS: usize = 1 << 22;
/// How far a mean may be from the truth.
const TOLERANCE: f64 = 1e-6;

/// Logits that look like noise, the same in every run.
fn logits(rows: usize, classes: usize) -> Array2<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    Array2::from_shape_fn((rows, classes), |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 * 2.0 - 4.0
    })
}

fn truth(row: &ArrayView1<'_, f32>, label: u32) -> f64 {
    let top = row.iter().fold(f64::NEG_INFINITY, |top, &x| top.max(f64::from(x)));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - top).exp()).sum();
    sum.ln() + top - f64::from(row[label as usize])
}

fn forward(criterion: &mut Criterion) {
    let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
    let outputs = Outputs { accuracy: false, ..Outputs::default() };
    for choice in [BackendChoice::Cpu, BackendChoice::Gpu] {
        let descriptor = EvaluatorDescriptor { backend: choice, ..Default::default() };
        let Ok(evaluator) = Evaluator::new_blocking(&descriptor) else { continue };
        let name = match evaluator.backend() {
            Backend::Gpu { adapter, .. } => adapter,
            _ => "cpu".into(),
        };
        let mut group = criterion.benchmark_group(format!("forward, logits, class indices, {name}"));
        group.sample_size(10);
        for classes in [2, 10, 100, 1000, 32_000] {
            let rows = ELEMENTS / classes;
            let predictions = logits(rows, classes);
            let labels = Array1::from_shape_fn(rows, |row| (row * 7 % classes) as u32);
            let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
            let mean = evaluator.evaluate_blocking(&loss, &batch, &outputs).expect("it evaluates").totals.mean();
            let exact =
                predictions.rows().into_iter().zip(&labels).map(|(row, &label)| truth(&row, label)).sum::<f64>() / rows as f64;
            assert!((mean - exact).abs() <= TOLERANCE * exact, "{name}, {classes} classes: {mean} is not {exact}");

            group.throughput(Throughput::Bytes((rows * (classes + 1) * size_of::<f32>()) as u64));
            group.bench_function(BenchmarkId::from_parameter(classes), |bencher| {
                bencher.iter(|| black_box(evaluator.evaluate_blocking(&loss, black_box(&batch), &outputs)));
            });
        }
    }
}

criterion_group!(benches, forward);
criterion_main!(benches);
