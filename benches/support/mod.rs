//! What the benchmarks share: rows of noise, the truth about them in float64, and the backends of this machine.

#![allow(dead_code, unreachable_pub, reason = "every benchmark compiles this module for itself and uses a part of it")]

pub mod rows;
pub mod truth;

use std::cell::OnceCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use xent::{Backend, BackendChoice, CategoricalCrossEntropy, Error, Evaluator, EvaluatorDescriptor, Gradient, Input, Outputs};

use rows::{Element, Kind, Rows};

/// Numbers of classes: each is another range of the drivers.
pub const CLASSES: [usize; 7] = [2, 10, 100, 1000, 8192, 32_000, 128_256];

/// Predictions of a batch: 64 MiB of float32, which no cache below the last holds.
pub const ELEMENTS: usize = 1 << 24;

/// An evaluator by a short name, which filters of `cargo bench` take.
pub struct Place {
    pub name: &'static str,
    pub evaluator: Evaluator,
}

/// The CPU, and the GPU that the library chooses, or a software adapter in its place.
pub fn places() -> Vec<Place> {
    let open = |name, backend| {
        let evaluator = match Evaluator::new_blocking(&EvaluatorDescriptor { backend, ..Default::default() }) {
            Err(Error::NoAdapter(_)) => return None,
            opened => opened.expect("an adapter that is there can be opened"),
        };
        #[expect(clippy::print_stderr, reason = "a result is worth nothing without the adapter's name")]
        if let Backend::Gpu { adapter, driver } = evaluator.backend() {
            eprintln!("gpu: {adapter}, {driver}");
        }
        Some(Place { name, evaluator })
    };
    [open("cpu", BackendChoice::Cpu), open("gpu", BackendChoice::Gpu)].into_iter().flatten().collect()
}

/// Categorical cross-entropy of an input, without options.
pub fn loss(input: Input) -> xent::Loss {
    CategoricalCrossEntropy { input, ..Default::default() }.into()
}

/// What a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The mean loss.
    Forward,
    /// The gradient of the mean.
    Gradient,
    /// The losses of rows, and the gradient of their mean.
    Both,
}

impl Pass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Gradient => "gradient",
            Self::Both => "both",
        }
    }

    pub fn outputs(self, rows: usize) -> Outputs {
        // A stream does not know what its mean is divided by.
        let gradient = (self != Self::Forward).then_some(Gradient::Scaled(1.0 / rows as f64));
        Outputs { losses: self == Self::Both, accuracy: false, gradient, ..Outputs::default() }
    }

    /// Bytes that have to move: predictions and targets as they are stored, and what is asked for, of float32.
    fn bytes(self, kind: Kind, classes: usize, rows: usize) -> usize {
        let of_targets = if kind.dense { size_of::<f32>() * classes } else { size_of::<u32>() };
        let of_outputs = match self {
            Self::Forward => 0,
            Self::Gradient => size_of::<f32>() * classes,
            Self::Both => size_of::<f32>() * (classes + 1),
        };
        rows * (kind.element.bytes() * classes + of_targets + of_outputs)
    }
}

/// One run takes from milliseconds to half a second: few samples, over the time that these need.
pub fn timing(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
}

/// Times a pass over every number of classes, through a stream, as one evaluates batch after batch: buffers and pipelines are
/// there from the first. What a batch comes to that way is checked first.
pub fn bench_classes(criterion: &mut Criterion, pass: Pass, kind: Kind, place: &Place) {
    let mut group = criterion.benchmark_group(format!("{}/{kind}/{}", pass.name(), place.name));
    timing(&mut group);
    for classes in CLASSES {
        let rows = ELEMENTS / classes;
        let data = OnceCell::new();
        group.throughput(Throughput::Bytes(pass.bytes(kind, classes, rows) as u64));
        // The closure is called many times, or never where a filter leaves it out.
        group.bench_function(BenchmarkId::from_parameter(classes), |bencher| {
            let data = data.get_or_init(|| {
                let rows = Rows::new(kind, rows, classes);
                truth::check(&rows, pass, place);
                rows
            });
            let (batch, loss) = (data.batch(), loss(kind.input));
            let mut stream = place.evaluator.stream(&loss, &pass.outputs(data.count));
            stream.push_blocking(&batch).expect("it evaluates");
            bencher.iter(|| {
                let rows = stream.push_blocking(black_box(&batch)).expect("it evaluates");
                black_box(rows);
            });
        });
    }
}

/// Shorthand of what most benchmarks take.
pub fn logits(dense: bool, element: Element) -> Kind {
    Kind { input: Input::Logits, dense, element }
}
