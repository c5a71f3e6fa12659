//! Kernels in a caller's program: its device, its encoder, its buffers.

mod support;

use ndarray::{Array1, Array2};
use support::device::{Application, POISON};
use support::tolerance;
use xent::gpu::{
    Bindings, Cache, Kernel, KernelDescriptor, KernelOutputs, StatusWords, Step, TargetKind, TotalsWords, optional_features,
};
use xent::{
    Backend, BackendChoice, Batch, CategoricalCrossEntropy, Error, Evaluation, Evaluator, EvaluatorDescriptor, Gradient, Input,
    Loss, Outputs, Reduction, Targets, wgpu,
};

/// Of losses and gradients by kernels on a GPU and by the CPU, each within 1e-6 of the truth.
const NEAR: f32 = 4e-6;

/// A batch on the host.
struct Data {
    logits: Array2<f32>,
    labels: Array1<i32>,
    weights: Array1<f32>,
}

impl Data {
    fn new(rows: usize, classes: usize) -> Self {
        let hash = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 8;
        Self {
            logits: Array2::from_shape_fn((rows, classes), |(r, c)| hash(r * classes + c + 7) as f32 / 2e6 - 4.0),
            labels: Array1::from_shape_fn(rows, |r| if r % 7 == 3 { -100 } else { (hash(r) as usize % classes) as i32 }),
            weights: Array1::from_shape_fn(rows, |r| (r % 5) as f32 / 2.0),
        }
    }

    fn rows(&self) -> usize {
        self.logits.nrows()
    }

    /// What the CPU says.
    fn truth(&self, loss: &Loss, outputs: &Outputs) -> Evaluation {
        let descriptor = EvaluatorDescriptor { backend: BackendChoice::Cpu, ..EvaluatorDescriptor::default() };
        let evaluator = Evaluator::new_blocking(&descriptor).expect("there is a CPU");
        assert_eq!(evaluator.backend(), Backend::Cpu);
        let batch = Batch::new(self.logits.view(), Targets::classes(self.labels.view())).expect("shapes fit");
        let batch = batch.sample_weights(self.weights.view()).expect("weights fit");
        evaluator.evaluate_blocking(loss, &batch, outputs).expect("the data are sound")
    }
}

fn loss() -> Loss {
    smoothed(0.1)
}

/// Without smoothing, gradients by class indices have a form of their own.
fn smoothed(label_smoothing: f64) -> Loss {
    Loss::from(CategoricalCrossEntropy {
        input: Input::Logits,
        label_smoothing,
        ignore_index: Some(-100),
        ..CategoricalCrossEntropy::default()
    })
}

fn near(found: f32, truth: f32) -> bool {
    (found - truth).abs() <= NEAR * truth.abs().max(1.0) || found.is_nan() && truth.is_nan()
}

fn all_near<'a>(what: &str, found: &[f32], truth: impl IntoIterator<Item = &'a f32>) {
    let truth: Vec<f32> = truth.into_iter().copied().collect();
    assert_eq!(found.len(), truth.len(), "{what}");
    let wrong = found.iter().zip(&truth).position(|(&found, &truth)| !near(found, truth));
    assert_eq!(wrong.map(|i| (i, found[i], truth[i])), None, "{what}");
}

/// Where the buffers of a call lie.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Apart,
    InPlace,
    Arena,
}

/// The slices of one buffer, one after the other, each at an offset that the device binds.
struct Slices {
    bytes: Vec<u8>,
    ranges: Vec<(usize, usize)>,
}

impl Slices {
    fn push(&mut self, bytes: &[u8]) -> usize {
        let start = self.bytes.len().next_multiple_of(256) + 256;
        self.bytes.resize(start, POISON);
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(16), POISON);
        self.ranges.push((start, bytes.len()));
        self.ranges.len() - 1
    }
}

/// What a kernel wrote.
#[derive(Debug)]
struct Found {
    losses: Vec<f32>,
    logsumexp: Vec<f32>,
    gradient: Vec<f32>,
    totals: TotalsWords,
    status: StatusWords,
}

/// Runs a kernel with the outputs of its descriptor, over the data, in buffers laid out like this.
fn run(app: &Application, cache: &Cache, descriptor: &KernelDescriptor<'_>, data: &Data, layout: Layout) -> Found {
    let outputs = descriptor.outputs;
    let mut slices = Slices { bytes: Vec::new(), ranges: Vec::new() };
    let (rows, elements) = (data.rows(), data.logits.len());
    let predictions = slices.push(bytemuck::cast_slice(data.logits.as_slice().expect("rows lie together")));
    let targets = slices.push(bytemuck::cast_slice(data.labels.as_slice().expect("labels lie together")));
    let weights = slices.push(bytemuck::cast_slice(data.weights.as_slice().expect("weights lie together")));
    let poison = vec![POISON; elements * 4];
    let [losses, logsumexp, gradient, totals, status] = [
        slices.push(&poison[..rows * 4]),
        slices.push(&poison[..rows * 4]),
        slices.push(&poison),
        slices.push(&[POISON; size_of::<TotalsWords>()]),
        slices.push(&[POISON; size_of::<StatusWords>()]),
    ];
    // One buffer, or one for each slice.
    let count = if layout == Layout::Arena { 1 } else { slices.ranges.len() };
    let buffers: Vec<_> = (0..count).map(|_| app.buffer(&slices.bytes, 0)).collect();
    let slice = |index: usize| {
        let (start, length) = slices.ranges[index];
        buffers[index % count].slice(start as u64..(start + length) as u64)
    };
    let descriptor = KernelDescriptor {
        in_place: layout == Layout::InPlace && outputs.gradient.is_some(),
        arena: layout == Layout::Arena,
        sample_weights: true,
        ..descriptor.clone()
    };
    let kernel = Kernel::new_blocking(&app.device, cache, &descriptor).expect("the kernel is made");
    let bindings = Bindings {
        sample_weights: Some(slice(weights)),
        losses: outputs.losses.then(|| slice(losses)),
        logsumexp: outputs.logsumexp.then(|| slice(logsumexp)),
        gradient: (outputs.gradient.is_some() && !descriptor.in_place).then(|| slice(gradient)),
        totals: outputs.totals.map(|_| slice(totals)),
        status: outputs.status.then(|| slice(status)),
        ..Bindings::new(slice(predictions), slice(targets))
    };
    let bound = kernel.bind(&app.device, &bindings, rows).expect("the buffers are bound");
    app.submit(|encoder| bound.encode(encoder));
    let bytes: Vec<_> = buffers.iter().map(|buffer| app.read(buffer)).collect();
    let read = |index: usize| {
        let (start, length) = slices.ranges[index];
        &bytes[index % count][start..start + length]
    };
    let floats = |index: usize| -> Vec<f32> { bytemuck::pod_collect_to_vec(read(index)) };
    // Nothing but the outputs was written.
    for (number, after) in bytes.iter().enumerate() {
        let written = |index: usize| {
            let place = if index == predictions { descriptor.in_place } else { index >= losses };
            place && index % count == number
        };
        let ours = |at: usize| {
            slices
                .ranges
                .iter()
                .enumerate()
                .any(|(index, &(start, length))| written(index) && (start..start + length).contains(&at))
        };
        let stray = (0..after.len()).find(|&at| after[at] != slices.bytes[at] && !ours(at));
        assert_eq!(stray, None, "a byte that is not an output's changed, {layout:?}, {outputs:?}");
    }
    Found {
        losses: floats(losses),
        logsumexp: floats(logsumexp),
        gradient: floats(if descriptor.in_place { predictions } else { gradient }),
        totals: bytemuck::pod_read_unaligned(read(totals)),
        status: bytemuck::pod_read_unaligned(read(status)),
    }
}

/// Compares what a kernel wrote with what the CPU says.
fn check(found: &Found, outputs: &KernelOutputs, data: &Data, loss: &Loss, context: &str) {
    let wanted = Outputs { losses: true, logsumexp: true, gradient: outputs.gradient, ..Outputs::default() };
    let truth = data.truth(loss, &wanted);
    if outputs.losses {
        all_near(&format!("losses, {context}"), &found.losses, truth.losses.as_ref().expect("asked for"));
    }
    if outputs.logsumexp {
        all_near(&format!("logsumexp, {context}"), &found.logsumexp, truth.logsumexp.as_ref().expect("asked for"));
    }
    if outputs.gradient.is_some() {
        let truth: Vec<f64> = truth.gradient.iter().flatten().copied().map(f64::from).collect();
        let verdict = tolerance::check_gradient(&found.gradient, &truth, data.logits.ncols(), false);
        assert_eq!(verdict, Ok(()), "gradient, {context}");
    }
    if let Some(reduction) = outputs.totals {
        let totals = &truth.totals;
        assert!(near(found.totals.loss, totals.reduced(reduction) as f32), "{context}: {found:?} {totals:?}");
        assert!(near(found.totals.sum, totals.sum() as f32) && near(found.totals.weight, totals.weight as f32), "{context}");
        assert_eq!((u64::from(found.totals.rows), u64::from(found.totals.kept)), (totals.rows, totals.kept), "{context}");
        let correct = if outputs.accuracy { totals.correct } else { 0 };
        assert_eq!(u64::from(found.totals.correct), correct, "{context}");
    }
    if outputs.status {
        let rows = data.rows() as u32;
        let StatusWords { bad_labels, non_finite, rows: seen, .. } = found.status;
        assert_eq!((bad_labels, non_finite, seen), (0, 0, rows), "{context}");
    }
}

fn everything() -> KernelOutputs {
    KernelOutputs {
        losses: true,
        logsumexp: true,
        gradient: Some(Gradient::Of(Reduction::WeightedMean)),
        totals: Some(Reduction::WeightedMean),
        accuracy: true,
        status: true,
        accumulate: false,
    }
}

#[test]
fn every_combination_of_outputs_with_webgpus_default_limits() {
    let (app, cache) = (Application::plain(), Cache::default());
    let data = Data::new(301, 10);
    for bits in 0..32_u32 {
        let flag = |place: u32| bits >> place & 1 == 1;
        let outputs = KernelOutputs {
            losses: flag(0),
            logsumexp: flag(1),
            gradient: flag(2).then_some(Gradient::Of(Reduction::Mean)),
            totals: flag(3).then_some(Reduction::Mean),
            accuracy: flag(3),
            status: flag(4),
            accumulate: false,
        };
        let descriptor = KernelDescriptor { loss: loss(), classes: 10, outputs, ..KernelDescriptor::default() };
        let found = run(&app, &cache, &descriptor, &data, Layout::Apart);
        check(&found, &outputs, &data, &loss(), &format!("{outputs:?}"));
    }
}

#[test]
fn every_driver_in_place_and_in_an_arena() {
    let adapter = Application::plain().device.adapter_info();
    let features = if adapter.subgroup_max_size > 0 { optional_features() } else { wgpu::Features::empty() };
    let with_subgroups = Application::with(wgpu::Limits::default(), features);
    // Of the last two lengths, rows are teams of several subgroups.
    let plain = Application::plain();
    let lengths: [(_, &[usize]); 2] =
        [(&with_subgroups, &[2, 10, 100, 2000, 20_000, 3000, 10_000]), (&plain, &[1, 4, 17, 1500, 17_001])];
    for (app, classes) in lengths {
        let cache = Cache::default();
        for &classes in classes {
            let data = Data::new(if classes > 1000 { 9 } else { 131 }, classes);
            let all = [Layout::Apart, Layout::InPlace, Layout::Arena].map(|layout| (smoothed(0.1), layout));
            for (loss, layout) in all.into_iter().chain([(smoothed(0.0), Layout::InPlace)]) {
                let descriptor =
                    KernelDescriptor { loss: loss.clone(), classes, outputs: everything(), ..KernelDescriptor::default() };
                let found = run(app, &cache, &descriptor, &data, layout);
                check(&found, &everything(), &data, &loss, &format!("{loss:?}, {classes} classes, {layout:?}"));
            }
            // Nothing uses a label before the gradient does.
            let outputs = KernelOutputs { gradient: Some(Gradient::Of(Reduction::Sum)), ..KernelOutputs::default() };
            let descriptor = KernelDescriptor { loss: smoothed(0.0), classes, outputs, ..KernelDescriptor::default() };
            let found = run(app, &cache, &descriptor, &data, Layout::InPlace);
            check(&found, &outputs, &data, &smoothed(0.0), &format!("the gradient alone in place, {classes} classes"));
        }
    }
}

#[test]
fn bad_labels_poison_their_rows_alone_and_are_counted() {
    let (app, cache) = (Application::plain(), Cache::default());
    for classes in [2, 10, 40, 3000, 17_000] {
        let mut data = Data::new(67, classes);
        let clean = data.truth(&loss(), &Outputs { losses: true, ..Outputs::default() }).losses.expect("asked for");
        let bad = [(5, classes as i32), (6, -1), (11, i32::MIN), (12, i32::MAX), (66, -2)];
        for (row, label) in bad {
            data.labels[row] = label;
        }
        for ignore_index in [Some(-100), None] {
            let loss = Loss::from(CategoricalCrossEntropy {
                input: Input::Logits,
                label_smoothing: 0.1,
                ignore_index,
                ..CategoricalCrossEntropy::default()
            });
            let outputs = KernelOutputs { gradient: Some(Gradient::Of(Reduction::Sum)), ..everything() };
            let descriptor = KernelDescriptor { loss, classes, outputs, ..KernelDescriptor::default() };
            let found = run(&app, &cache, &descriptor, &data, Layout::Apart);
            let is_bad = |row: usize| bad.iter().any(|(at, _)| *at == row) || ignore_index.is_none() && row % 7 == 3;
            for row in 0..67 {
                let gradient = &found.gradient[row * classes..(row + 1) * classes];
                assert_eq!(found.losses[row].is_nan(), is_bad(row), "row {row} of {classes} classes");
                assert_eq!(gradient.iter().all(|g| g.is_nan()), is_bad(row), "row {row} of {classes} classes");
                assert_eq!(gradient.iter().any(|g| g.is_nan()), is_bad(row), "row {row} of {classes} classes");
                if !is_bad(row) {
                    assert!(near(found.losses[row], clean[row]), "row {row} of {classes} classes");
                }
            }
            let count = (0..67).filter(|&row| is_bad(row)).count() as u32;
            let (first, label) = if ignore_index.is_none() { (3, -100) } else { (5, classes as i32) };
            let expected = StatusWords {
                bad_labels: count,
                first_bad_row: first,
                first_bad_label: label as u32,
                non_finite: count,
                rows: 67,
            };
            assert_eq!(found.status, expected, "{classes} classes");
            assert!(found.totals.loss.is_nan() && found.totals.sum.is_nan());
        }
    }
}

/// A kernel of the sum's gradient with everything else, bound to buffers of its own.
struct Program {
    bound: xent::gpu::Bound,
    targets: wgpu::Buffer,
    gradient: wgpu::Buffer,
    totals: wgpu::Buffer,
    status: wgpu::Buffer,
    step: wgpu::Buffer,
}

impl Program {
    fn new(app: &Application, cache: &Cache, data: &Data, accumulate: bool) -> Self {
        let outputs = KernelOutputs {
            gradient: Some(Gradient::Of(Reduction::Mean)),
            totals: Some(Reduction::Mean),
            status: true,
            accumulate,
            ..KernelOutputs::default()
        };
        Self::of(app, cache, data, KernelDescriptor { loss: loss(), outputs, ..KernelDescriptor::default() })
    }

    /// What `descriptor` says, of as many classes as there are.
    fn of(app: &Application, cache: &Cache, data: &Data, descriptor: KernelDescriptor<'_>) -> Self {
        let descriptor = KernelDescriptor { classes: data.logits.ncols(), ..descriptor };
        let kernel = Kernel::new_blocking(&app.device, cache, &descriptor).expect("the kernel is made");
        let padded = |bytes: usize| bytes.next_multiple_of(16) as u64;
        let logits = bytemuck::cast_slice(data.logits.as_slice().expect("rows lie together"));
        let labels = bytemuck::cast_slice(data.labels.as_slice().expect("labels lie together"));
        let weights = bytemuck::cast_slice(data.weights.as_slice().expect("weights lie together"));
        let predictions = app.buffer(logits, padded(logits.len()));
        let targets = app.buffer(labels, padded(labels.len()));
        let weights = app.buffer(weights, padded(weights.len()));
        let gradient = app.buffer(&[], padded(logits.len()));
        let (totals, status) = (app.buffer(&[0; size_of::<TotalsWords>()], 0), app.buffer(&[0; size_of::<StatusWords>()], 0));
        let step = app.buffer(bytemuck::bytes_of(&Step::default()), 0);
        let bindings = Bindings {
            sample_weights: descriptor.sample_weights.then(|| weights.slice(..)),
            gradient: descriptor.outputs.gradient.map(|_| gradient.slice(..)),
            totals: Some(totals.slice(..)),
            status: Some(status.slice(..)),
            step: Some(step.slice(..)),
            ..Bindings::new(predictions.slice(..), targets.slice(..))
        };
        let bound = kernel.bind(&app.device, &bindings, data.rows()).expect("the buffers are bound");
        Self { bound, targets, gradient, totals, status, step }
    }

    fn totals(&self, app: &Application) -> TotalsWords {
        bytemuck::pod_read_unaligned(&app.read(&self.totals)[..size_of::<TotalsWords>()])
    }

    fn status(&self, app: &Application) -> StatusWords {
        bytemuck::pod_read_unaligned(&app.read(&self.status)[..size_of::<StatusWords>()])
    }
}

/// Of rows whose weights do not count.
fn mean(data: &Data) -> f32 {
    let unweighted = Data { logits: data.logits.clone(), labels: data.labels.clone(), weights: Array1::ones(data.rows()) };
    unweighted.truth(&loss(), &Outputs::default()).totals.mean() as f32
}

#[test]
fn a_step_says_how_many_rows_and_scales_the_gradient() {
    let app = Application::plain();
    // Rows that count are counted where some may be ignored; else they are the step's.
    for ignore_index in [Some(-100), None] {
        let mut data = Data::new(100, 10);
        data.weights.fill(1.0);
        if ignore_index.is_none() {
            data.labels.mapv_inplace(|label| label.max(0));
        }
        let plain = CategoricalCrossEntropy { input: Input::Logits, ignore_index, ..CategoricalCrossEntropy::default() };
        let loss = Loss::from(plain);
        let outputs = KernelOutputs {
            gradient: Some(Gradient::Of(Reduction::Mean)),
            totals: Some(Reduction::Mean),
            status: true,
            ..KernelOutputs::default()
        };
        let descriptor = KernelDescriptor { loss: loss.clone(), outputs, ..KernelDescriptor::default() };
        let program = Program::of(&app, &Cache::default(), &data, descriptor);
        let half = Data {
            logits: data.logits.slice(ndarray::s![..50, ..]).to_owned(),
            labels: data.labels.slice(ndarray::s![..50]).to_owned(),
            weights: Array1::ones(50),
        };
        let step = Step { rows: 50, scale: 1024.0, ..Step::default() };
        app.queue.write_buffer(&program.step, 0, bytemuck::bytes_of(&step));
        app.submit(|encoder| program.bound.encode(encoder));
        let gradient: Vec<f32> = bytemuck::pod_collect_to_vec(&app.read(&program.gradient));
        let outputs = Outputs { gradient: Some(Gradient::Of(Reduction::Mean)), ..Outputs::default() };
        let truth = half.truth(&loss, &outputs);
        let scaled = truth.gradient.expect("asked for").mapv(|g| g * 1024.0);
        all_near(&format!("gradient of half the rows, {ignore_index:?}"), &gradient[..500], &scaled);
        assert!(gradient[500..].iter().all(|g| g.is_nan()), "rows beyond the step's are left alone");
        assert!(near(program.totals(&app).loss, truth.totals.mean() as f32), "{ignore_index:?}");
    }
}

#[test]
fn totals_and_status_accumulate_when_asked() {
    let (app, data) = (Application::plain(), Data::new(100, 10));
    let truth = mean(&data);
    let program = Program::new(&app, &Cache::default(), &data, true);
    app.submit(|encoder| (0..3).for_each(|_| program.bound.encode(encoder)));
    let totals = program.totals(&app);
    assert!(near(totals.loss, truth), "{totals:?}");
    // Of each hundred rows 14 are ignored.
    assert_eq!((totals.rows, totals.kept), (300, 258));

    // What the second call of three found is there after the third.
    let program = Program::new(&app, &Cache::default(), &data, true);
    for label in [data.labels[8], 10, data.labels[8]] {
        app.queue.write_buffer(&program.targets, 32, bytemuck::bytes_of(&label));
        app.submit(|encoder| program.bound.encode(encoder));
    }
    let expected = StatusWords { bad_labels: 1, first_bad_row: 108, first_bad_label: 10, non_finite: 1, rows: 300 };
    assert_eq!(program.status(&app), expected);
    assert!(program.totals(&app).loss.is_nan());
}

/// Totals and status of weighted rows and their accuracy, from call to call, without a gradient.
fn weighted(loss: Loss) -> KernelDescriptor<'static> {
    let totals = Some(Reduction::WeightedMean);
    let outputs = KernelOutputs { totals, accuracy: true, status: true, accumulate: true, ..KernelOutputs::default() };
    KernelDescriptor { loss, sample_weights: true, outputs, ..KernelDescriptor::default() }
}

#[test]
fn weights_and_accuracy_accumulate_and_counts_stop_at_the_largest() {
    let (app, data) = (Application::plain(), Data::new(100, 10));
    let truth = data.truth(&loss(), &Outputs { accuracy: true, ..Outputs::default() }).totals;
    assert!(truth.correct > 0, "some rows are right");
    let program = Program::of(&app, &Cache::default(), &data, weighted(loss()));
    app.submit(|encoder| (0..3).for_each(|_| program.bound.encode(encoder)));
    let TotalsWords { loss, sum, weight, correct, .. } = program.totals(&app);
    assert!(near(loss, truth.weighted_mean() as f32), "{loss}");
    assert!(near(sum, 3.0 * truth.sum() as f32), "{sum}");
    assert!(near(weight, 3.0 * truth.weight as f32), "{weight}");
    assert_eq!(u64::from(correct), 3 * truth.correct);

    // As after many calls.
    let full = u32::MAX - 10;
    let before = TotalsWords { rows: full, kept: full, correct: u32::MAX - 1, ..TotalsWords::default() };
    app.queue.write_buffer(&program.totals, 0, bytemuck::bytes_of(&before));
    let before = StatusWords { rows: full, ..StatusWords::default() };
    app.queue.write_buffer(&program.status, 0, bytemuck::bytes_of(&before));
    app.submit(|encoder| program.bound.encode(encoder));
    let TotalsWords { rows, kept, correct, .. } = program.totals(&app);
    assert_eq!([rows, kept, correct, program.status(&app).rows], [u32::MAX; 4]);
}

#[test]
fn losses_that_are_infinite_make_the_totals_so() {
    // Rows with the log-probability and the weight that they are given: cases have what the totals are then, and why.
    type Rows = &'static [(usize, f32, f32)];
    const RISING: f32 = f32::NEG_INFINITY;
    const FALLING: f32 = f32::INFINITY;
    let (app, cache) = (Application::plain(), Cache::default());
    let loss = Loss::from(CategoricalCrossEntropy {
        input: Input::LogProbabilities,
        ignore_index: Some(-100),
        ..CategoricalCrossEntropy::default()
    });
    let cases: [(Rows, f32, u32); 6] = [
        (&[(2, RISING, 1.0)], f32::INFINITY, 2),
        (&[(2, FALLING, 1.0)], f32::NEG_INFINITY, 4),
        (&[(2, FALLING, 0.5), (99, FALLING, 2.0)], f32::NEG_INFINITY, 4),
        (&[(2, RISING, 1.0), (4, FALLING, 1.0)], f32::NAN, 6),
        (&[(2, RISING, 0.0)], f32::NAN, 1),
        (&[(2, f32::NAN, 1.0), (50, RISING, 1.0)], f32::NAN, 3),
    ];
    for (special_rows, want, special) in cases {
        let mut data = Data::new(100, 10);
        data.logits.mapv_inplace(|x| x - 5.0);
        for &(row, log_probability, weight) in special_rows {
            data.labels[row] = 7;
            data.logits[[row, 7]] = log_probability;
            data.weights[row] = weight;
        }
        let program = Program::of(&app, &cache, &data, weighted(loss.clone()));
        // What the first call found is there after the second.
        let same = |got: f32| got == want || got.is_nan() && want.is_nan();
        for calls in 1..3 {
            app.submit(|encoder| program.bound.encode(encoder));
            let totals = program.totals(&app);
            let context = format!("{special_rows:?}, call {calls}: {totals:?}");
            assert!([totals.loss, totals.sum].map(same) == [true; 2], "{context}");
            assert_eq!(totals.special, special, "{context}");
            assert!(totals.finite.is_finite(), "{context}");
            assert_eq!(program.status(&app).non_finite as usize, calls * special_rows.len(), "{context}");
        }
        let truth = data.truth(&loss, &Outputs::default()).totals.sum() as f32;
        assert!(same(truth), "{special_rows:?}: the CPU has {truth}");
    }
}

#[test]
fn kernels_and_the_callers_passes_keep_their_order_in_one_encoder() {
    let (app, cache) = (Application::plain(), Cache::default());
    let (first, second) = (Data::new(64, 10), Data::new(33, 100));
    let programs = [Program::new(&app, &cache, &first, true), Program::new(&app, &cache, &second, true)];
    // The caller's own pass: it doubles what the kernel before it wrote.
    let module = app.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(
            "@group(0) @binding(0) var<storage, read_write> values: array<f32>;
             @compute @workgroup_size(1) fn twice() { values[7] = 2.0 * bitcast<f32>(bitcast<u32>(values[7])); }"
                .into(),
        ),
    });
    let pipeline = app.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("twice"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let group = app.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: programs[0].totals.as_entire_binding() }],
    });
    app.submit(|encoder| {
        // In one pass: a loss, the caller's dispatch on its total, the loss again on top of that, and another kernel.
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        programs[0].bound.encode_in(&mut pass);
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
        programs[0].bound.encode_in(&mut pass);
        programs[1].bound.encode_in(&mut pass);
        drop(pass);
        programs[1].bound.encode(encoder);
    });
    // (2·sum + sum) / 2·kept.
    assert!(near(programs[0].totals(&app).loss, 1.5 * mean(&first)), "{:?}", programs[0].totals(&app));
    assert!(near(programs[1].totals(&app).loss, mean(&second)));
}

#[test]
fn eight_threads_encode_at_once() {
    let (app, cache) = (Application::plain(), Cache::default());
    let data: Vec<_> = (0..8).map(|thread| Data::new(50 + thread, 10)).collect();
    let shared = Program::new(&app, &cache, &data[0], false);
    std::thread::scope(|scope| {
        for data in &data {
            let (app, cache, shared) = (&app, &cache, &shared);
            scope.spawn(move || {
                let own = Program::new(app, cache, data, false);
                for _ in 0..20 {
                    app.submit(|encoder| {
                        shared.bound.encode(encoder);
                        own.bound.encode(encoder);
                    });
                }
                assert!(near(own.totals(app).loss, mean(data)));
            });
        }
    });
    assert!(near(shared.totals(&app).loss, mean(&data[0])));
}

#[test]
fn recording_submits_maps_and_waits_for_nothing() {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let app = Application { device, queue };
    let program = Program::new(&app, &Cache::default(), &Data::new(8, 10), false);
    // What the test's own uploads left.
    app.queue.submit([]);
    app.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let before = app.device.get_internal_counters().hal;
    let mut encoder = app.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.on_submitted_work_done({
        let done = std::sync::Arc::clone(&done);
        move || done.store(true, std::sync::atomic::Ordering::SeqCst)
    });
    program.bound.encode(&mut encoder);
    let status = app.device.poll(wgpu::PollType::Poll).expect("the device answers");
    assert!(status.is_queue_empty(), "something is under way");
    assert!(!done.load(std::sync::atomic::Ordering::SeqCst), "what was recorded was submitted");
    let after = app.device.get_internal_counters().hal;
    assert_eq!(after.buffers.read(), before.buffers.read());
    assert_eq!(after.bind_groups.read(), before.bind_groups.read());
    app.queue.submit([encoder.finish()]);
    app.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    assert!(done.load(std::sync::atomic::Ordering::SeqCst), "the hook of the submission works");
}

#[test]
fn a_device_with_few_storage_buffers_has_what_fits() {
    let limits = wgpu::Limits::downlevel_defaults();
    assert_eq!(limits.max_storage_buffers_per_shader_stage, 4);
    let (app, cache, data) = (Application::with(limits, wgpu::Features::empty()), Cache::default(), Data::new(21, 10));
    let outputs = KernelOutputs { gradient: Some(Gradient::Scaled(0.5)), losses: true, ..KernelOutputs::default() };
    let descriptor = KernelDescriptor { loss: loss(), classes: 10, outputs, ..KernelDescriptor::default() };
    let needed = descriptor.required_limits(21).expect("the descriptor is sound");
    assert!(needed.check_limits(&wgpu::Limits::downlevel_defaults()), "four buffers suffice");
    let kernel = Kernel::new_blocking(&app.device, &cache, &descriptor).expect("four buffers suffice");
    let logits = bytemuck::cast_slice(data.logits.as_slice().expect("rows lie together"));
    let predictions = app.buffer(logits, 848);
    let targets = app.buffer(bytemuck::cast_slice(data.labels.as_slice().expect("labels lie together")), 96);
    let (losses, gradient) = (app.buffer(&[], 84), app.buffer(&[], 848));
    let bindings = Bindings {
        losses: Some(losses.slice(..)),
        gradient: Some(gradient.slice(..)),
        ..Bindings::new(predictions.slice(..), targets.slice(..))
    };
    let bound = kernel.bind(&app.device, &bindings, 21).expect("the buffers are bound");
    app.submit(|encoder| bound.encode(encoder));
    let found: Vec<f32> = bytemuck::pod_collect_to_vec(&app.read(&losses));
    let truth = data.truth(&loss(), &Outputs { losses: true, ..Outputs::default() });
    all_near("losses", &found, &truth.losses.expect("asked for"));

    let all = KernelDescriptor { outputs: everything(), sample_weights: true, ..descriptor };
    assert_eq!(all.required_limits(21).expect("the descriptor is sound").max_storage_buffers_per_shader_stage, 5);
    let Err(error) = Kernel::new_blocking(&app.device, &cache, &all) else { panic!("five buffers do not fit into four") };
    assert!(matches!(error, Error::Device { .. }) && error.to_string().contains("5 storage buffers"), "{error}");
}

#[test]
fn what_cannot_be_bound_is_an_error_that_names_it() {
    let (app, cache) = (Application::plain(), Cache::default());
    let outputs = KernelOutputs { losses: true, gradient: Some(Gradient::Of(Reduction::Sum)), ..KernelOutputs::default() };
    let descriptor = KernelDescriptor { loss: loss(), classes: 10, outputs, ..KernelDescriptor::default() };
    let kernel = Kernel::new_blocking(&app.device, &cache, &descriptor).expect("the kernel is made");
    let buffer = || app.buffer(&[], 4096);
    let (predictions, targets, losses, gradient) = (buffer(), buffer(), buffer(), buffer());
    let uniform = app.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 4096,
        usage: wgpu::BufferUsages::UNIFORM,
        mapped_at_creation: false,
    });
    let good = Bindings {
        losses: Some(losses.slice(..)),
        gradient: Some(gradient.slice(..)),
        ..Bindings::new(predictions.slice(..), targets.slice(..))
    };
    assert!(kernel.bind(&app.device, &good, 100).is_ok());
    for (bindings, rows, parts) in [
        (good, 103, ["predictions", "4096 bytes where 4120"]),
        (Bindings { predictions: predictions.slice(4..), ..good }, 10, ["predictions", "no multiple of 256"]),
        (Bindings { targets: uniform.slice(..), ..good }, 10, ["targets", "STORAGE"]),
        (Bindings { losses: None, ..good }, 10, ["losses", "missing"]),
        (Bindings { status: Some(losses.slice(..)), ..good }, 10, ["status", "without it"]),
        (Bindings { gradient: Some(predictions.slice(..)), ..good }, 10, ["gradient", "in_place"]),
        (Bindings { losses: Some(targets.slice(1024..)), ..good }, 10, ["targets", "arena"]),
        (Bindings { losses: Some(gradient.slice(256..)), ..good }, 10, ["gradient", "overlaps the losses"]),
    ] {
        let Err(error) = kernel.bind(&app.device, &bindings, rows) else { panic!("{parts:?} was bound") };
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message:?} has not {parts:?}");
    }
    // In an arena all inputs are bound as if they were written, and a step never is.
    let arena = KernelDescriptor { arena: true, ..descriptor.clone() };
    let arena = Kernel::new_blocking(&app.device, &cache, &arena).expect("the kernel is made");
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
    let both = app.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 4096, usage, mapped_at_creation: false });
    let beside = Bindings { targets: both.slice(..1024), step: Some(both.slice(1024..)), ..good };
    assert!(kernel.bind(&app.device, &beside, 10).is_ok());
    let Err(error) = arena.bind(&app.device, &beside, 10) else { panic!("a step was bound beside targets") };
    assert!(error.to_string().contains("step") && error.to_string().contains("holds the targets"), "{error}");
    // 5 labels are 20 bytes: whole words are 32.
    let short = app.buffer(&[0; 20], 20);
    let Err(error) = kernel.bind(&app.device, &Bindings { targets: short.slice(..), ..good }, 5) else {
        panic!("it ends early")
    };
    assert!(error.to_string().contains("32 are needed"), "{error}");
    for (descriptor, part) in [
        (KernelDescriptor { classes: 0, ..descriptor.clone() }, "at least one class"),
        (KernelDescriptor { in_place: true, element: xent::Element::F16, ..descriptor.clone() }, "in place"),
        (KernelDescriptor { targets: TargetKind::Dense, ..descriptor.clone() }, "ignore_index"),
    ] {
        let Err(error) = Kernel::new_blocking(&app.device, &cache, &descriptor) else { panic!("{part:?} was made") };
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn rows_that_alternate_are_bound_in_whole_stretches() {
    // Rows that alternate share words of the gradient.
    const INNER: usize = 3;
    let (app, data) = (Application::plain(), Data::new(5 * INNER, 10));
    let logits = data.logits.to_shape((5, INNER, 10)).expect("rows lie together").permuted_axes([0, 2, 1]);
    // Whole words.
    let predictions = app.buffer(bytemuck::cast_slice(&logits.iter().copied().collect::<Vec<_>>()), 608);
    let targets = app.buffer(bytemuck::cast_slice(data.labels.as_slice().expect("labels lie together")), 64);
    let (losses, gradient) = (app.buffer(&[], 4 * data.labels.len() as u64), app.buffer(&[], 608));
    let outputs = KernelOutputs { losses: true, gradient: Some(Gradient::Of(Reduction::Sum)), ..KernelOutputs::default() };
    let descriptor = KernelDescriptor {
        loss: loss(),
        classes: 10,
        inner: INNER,
        sample_weights: true,
        outputs,
        ..KernelDescriptor::default()
    };
    let weights = app.buffer(bytemuck::cast_slice(data.weights.as_slice().expect("weights lie together")), 0);
    let kernel = Kernel::new_blocking(&app.device, &Cache::default(), &descriptor).expect("the kernel is made");
    let bindings = Bindings {
        sample_weights: Some(weights.slice(..)),
        losses: Some(losses.slice(..)),
        gradient: Some(gradient.slice(..)),
        ..Bindings::new(predictions.slice(..), targets.slice(..))
    };
    let bound = kernel.bind(&app.device, &bindings, 5 * INNER).expect("the buffers are bound");
    app.submit(|encoder| bound.encode(encoder));
    let found: Vec<f32> = bytemuck::pod_collect_to_vec(&app.read(&losses));
    let outputs = Outputs { losses: true, gradient: Some(Gradient::Of(Reduction::Sum)), ..Outputs::default() };
    let truth = data.truth(&loss(), &outputs);
    all_near("losses", &found, &truth.losses.expect("asked for"));
    let found: Vec<f32> = bytemuck::pod_collect_to_vec(&app.read(&gradient));
    let want = truth.gradient.expect("asked for");
    let want = want.to_shape((5, INNER, 10)).expect("rows lie together").permuted_axes([0, 2, 1]);
    for (element, (got, want)) in found.iter().zip(&want).enumerate() {
        assert!(near(*got, *want), "gradient {element}: {got}, want {want}");
    }
    // Of a stretch that is not whole, classes would be taken from beyond.
    let Err(error) = kernel.bind(&app.device, &bindings, 4 * INNER + 1) else { panic!("a part of a stretch was bound") };
    assert!(error.to_string().contains("13 rows are no multiple of the 3"), "{error}");
}

#[test]
fn no_rows_are_bound_as_well() {
    let app = Application::plain();
    let outputs = KernelOutputs { totals: Some(Reduction::Mean), ..KernelOutputs::default() };
    // In one piece, and in parts.
    for classes in [10, 20_000] {
        let descriptor = KernelDescriptor { loss: loss(), classes, outputs, ..KernelDescriptor::default() };
        let kernel = Kernel::new_blocking(&app.device, &Cache::default(), &descriptor).expect("the kernel is made");
        let buffer = || app.buffer(&[0xff; 64], 64);
        let (predictions, targets, totals) = (buffer(), buffer(), buffer());
        let bindings = Bindings { totals: Some(totals.slice(..)), ..Bindings::new(predictions.slice(..), targets.slice(..)) };
        let bound = kernel.bind(&app.device, &bindings, 0).expect("there is nothing to refuse");
        app.submit(|encoder| bound.encode(encoder));
        let found: TotalsWords = bytemuck::pod_read_unaligned(&app.read(&totals)[..size_of::<TotalsWords>()]);
        assert_eq!((found.loss, found.kept), (0.0, 0), "{classes} classes");
    }
}

#[test]
fn required_limits_cover_records_and_never_overflow() {
    let outputs = KernelOutputs { totals: Some(Reduction::Sum), accuracy: true, ..KernelOutputs::default() };
    let descriptor = KernelDescriptor { loss: loss(), element: xent::Element::F16, outputs, ..KernelDescriptor::default() };
    // Records of two words a row outgrow the predictions of four bytes, and do not end with one of 16 bytes.
    let rows = (128 << 20) / 8 + 1;
    let limits = descriptor.required_limits(rows).expect("the descriptor is sound");
    assert!(limits.max_storage_buffer_binding_size >= 8 * rows as u64, "{limits:?}");
    // What no device has is no overflow either.
    for (rows, classes) in [(usize::MAX, 2), (1, usize::MAX), (usize::MAX, usize::MAX)] {
        let all = KernelDescriptor { classes, ..descriptor.clone() };
        let limits = all.required_limits(rows).expect("the descriptor is sound");
        assert!(limits.max_storage_buffer_binding_size >= 1 << 62, "{limits:?}");
    }
}

#[test]
fn an_evaluator_takes_the_callers_device() {
    let (app, data) = (Application::plain(), Data::new(500, 10));
    let evaluator = Evaluator::from_device(app.device.clone(), app.queue.clone());
    assert!(matches!(evaluator.backend(), Backend::Gpu { .. }));
    let outputs = Outputs { losses: true, gradient: Some(Gradient::Of(Reduction::Mean)), ..Outputs::default() };
    let batch = Batch::new(data.logits.view(), Targets::classes(data.labels.view())).expect("shapes fit");
    let batch = batch.sample_weights(data.weights.view()).expect("weights fit");
    let found = evaluator.evaluate_blocking(&loss(), &batch, &outputs).expect("the data are sound");
    let cut = evaluator.clone().with_window_rows(Some(7)).evaluate_blocking(&loss(), &batch, &outputs);
    assert_eq!(cut.expect("the data are sound"), found);
    let truth = data.truth(&loss(), &outputs);
    all_near("losses", found.losses.expect("asked for").as_slice().expect("one after the other"), &truth.losses.expect("too"));
    assert_eq!((found.totals.kept, found.totals.correct), (truth.totals.kept, truth.totals.correct));

    // What lies on the device stays there.
    let logits = bytemuck::cast_slice(data.logits.as_slice().expect("rows lie together"));
    let predictions = app.buffer(logits, 0);
    let targets = app.buffer(bytemuck::cast_slice(data.labels.as_slice().expect("labels lie together")), 0);
    let bindings = Bindings::new(predictions.slice(..), targets.slice(..));
    let outputs = KernelOutputs { totals: Some(Reduction::Sum), accuracy: true, ..KernelOutputs::default() };
    let descriptor = KernelDescriptor { loss: loss(), classes: 10, outputs, ..KernelDescriptor::default() };
    let resident = evaluator.evaluate_resident_blocking(&descriptor, &bindings, 500).expect("it lies there");
    assert!(near(resident.totals.loss / resident.totals.kept as f32, mean(&data)), "{resident:?}");
    assert_eq!((u64::from(resident.totals.correct), resident.status.rows), (found.totals.correct, 500));

    let adding = KernelDescriptor { outputs: KernelOutputs { accumulate: true, ..outputs }, ..descriptor.clone() };
    assert!(matches!(evaluator.evaluate_resident_blocking(&adding, &bindings, 500), Err(Error::Combination(_))));

    // A device that is gone is an error, not a panic, and nobody waits for it forever.
    app.device.destroy();
    let outputs = Outputs::default();
    assert!(matches!(evaluator.evaluate_blocking(&loss(), &batch, &outputs), Err(Error::Gpu { .. })));
    assert!(pollster::block_on(evaluator.evaluate_resident(&descriptor, &bindings, 500)).is_err());
}
