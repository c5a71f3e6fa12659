//! A browser: its GPU by way of WebGPU, and the CPU backend within it. What other tests wait for is awaited here.
//! `scripts/test-browser` runs this file.

#![cfg(target_family = "wasm")]

mod support;

use std::cell::OnceCell;

use support::answers::{self, Asked};
use support::arrays::{Arrays, Element};
use support::oracle::{Input, Kind, Of, Problem, Targets};
use support::{agreement, golden, kinds, losses, moderate, tolerance};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use wgpu::util::DeviceExt;
use xent::gpu::{Bindings, Cache, Kernel, KernelDescriptor, KernelOutputs};
use xent::{Backend, BackendChoice, Error, Evaluator, EvaluatorDescriptor, Gradient, Pretence, Reduction, wgpu};

wasm_bindgen_test_configure!(run_in_browser);

async fn open(backend: BackendChoice) -> Evaluator {
    let descriptor = EvaluatorDescriptor { backend, ..EvaluatorDescriptor::default() };
    Evaluator::new(&descriptor).await.unwrap_or_else(|error| panic!("{error}; a browser without WebGPU has not been tested"))
}

/// The GPU, whose device all tests share: what one has compiled serves the next.
async fn gpu() -> Evaluator {
    thread_local!(static GPU: OnceCell<Evaluator> = const { OnceCell::new() });
    if let Some(gpu) = GPU.with(|gpu| gpu.get().cloned()) {
        return gpu;
    }
    let opened = open(BackendChoice::Gpu).await;
    GPU.with(|gpu| gpu.get_or_init(|| opened).clone())
}

async fn both() -> [(&'static str, Evaluator); 2] {
    [("CPU", open(BackendChoice::Cpu).await), ("GPU", gpu().await)]
}

/// What is asked of a problem, with the truth of its gradient where that is.
async fn holds(evaluator: &Evaluator, problem: &Problem, stored: Element, asked: Asked, slopes: Option<&[f64]>, context: &str) {
    let arrays = Arrays::stored(problem, stored);
    let evaluation = evaluator.evaluate(&losses::loss(problem), &arrays.batch(), &asked.outputs(problem)).await;
    evaluation
        .map_err(|error| error.to_string())
        .and_then(|evaluation| answers::compare(&evaluation, problem, &problem.truth(), asked, slopes))
        .unwrap_or_else(|why| panic!("{context}: {why}"));
}

#[wasm_bindgen_test]
async fn the_automatic_choice_takes_no_software_adapter() {
    let adapters = xent::adapters().await;
    assert!(!adapters.is_empty(), "a browser without WebGPU has not been tested");
    let software = |name: &str| name.to_lowercase().contains("swiftshader");
    assert!(adapters.iter().all(|adapter| !software(&adapter.name) || adapter.kind == "software"), "{adapters:?}");
    let gpu = adapters.iter().any(|adapter| adapter.kind != "software");
    let chosen = open(BackendChoice::Auto).await.backend();
    assert_eq!(chosen != Backend::Cpu, gpu, "{chosen:?} of {adapters:?}");
}

/// A number of classes of each driver in `src/plan/drivers.rs`.
#[wasm_bindgen_test]
async fn every_driver() {
    let pretences = [
        ("a GPU", Pretence { software: Some(false), copies: true, ..Pretence::default() }),
        ("a processor", Pretence { software: Some(true), ..Pretence::default() }),
    ];
    for (name, pretence) in pretences {
        let evaluator = gpu().await.with_pretence(pretence);
        for (number, classes) in [1, 2, 10, 31, 65, 129, 300, 1025, 2049, 9001, 16_385].into_iter().enumerate() {
            for (input, dense) in [(Input::Logits, number % 2 == 0), (Input::Probabilities, number % 2 == 1)] {
                let rows = if classes < 129 { 2 * kinds::ROW_KINDS + 1 } else { 5 };
                let problem = kinds::problem(classes as u64, input, dense, rows, classes, classes % kinds::ROW_KINDS);
                let context = format!("{name}, {input:?}, dense={dense}, {classes} classes");
                holds(&evaluator, &problem, Element::F32, Asked::default(), None, &context).await;
            }
        }
    }
}

/// In long rows most of a gradient is the same for all classes of a label: dense targets tell more.
#[wasm_bindgen_test]
async fn gradients_of_every_driver() {
    let evaluator = gpu().await.with_pretence(Pretence { software: Some(false), ..Pretence::default() });
    let cpu = open(BackendChoice::Cpu).await;
    let asked = Asked { gradient: Some(Of::Mean), ..Asked::default() };
    for classes in [20, 200, 2000, 20_000] {
        let mut problem = moderate::problem(classes as u64, &moderate::named("logits"), true, 3, classes, 1e-7);
        problem.label_smoothing = 0.1;
        let (loss, arrays) = (losses::loss(&problem), Arrays::of(&problem));
        let truth = cpu.evaluate(&loss, &arrays.batch(), &asked.outputs(&problem)).await.expect("the problem is sound");
        let slopes: Vec<f64> = truth.gradient.into_iter().flatten().map(f64::from).collect();
        holds(&evaluator, &problem, Element::F32, asked, Some(&slopes), &format!("{classes} classes")).await;
    }
}

/// The gradient apart from all else: software adapters take long to compile both at once.
#[wasm_bindgen_test]
async fn every_loss() {
    for (number, setup) in moderate::setups().iter().enumerate() {
        let dense = number % 2 == 0 || setup.extra.kind != Kind::Categorical;
        let mut problem = moderate::problem(5, setup, dense, 9, 7, 1e-7);
        problem.label_smoothing = if setup.extra.kind == Kind::KlDivergence { 0.0 } else { 0.1 };
        let slopes = problem.gradient(Of::Mean);
        let all = Asked::all_of(&problem, Of::Mean);
        let (gradient, others) = (Asked { bins: None, logsumexp: false, ..all }, Asked { gradient: None, ..all });
        for (name, evaluator) in both().await {
            let context = format!("{} on the {name}", setup.name);
            holds(&evaluator, &problem, Element::F32, others, None, &context).await;
            holds(&evaluator, &problem, Element::F32, gradient, Some(&slopes), &context).await;
        }
    }
}

#[wasm_bindgen_test]
async fn predictions_of_sixteen_bits_windows_and_stretches() {
    let gpu = gpu().await;
    for (element, classes) in [(Element::F16, 9), (Element::Bf16, 9), (Element::F16, 1001), (Element::Bf16, 40_000)] {
        let mut problem = kinds::problem(3, Input::Logits, false, 11, classes, 0);
        problem.predictions.iter_mut().for_each(|x| *x = element.rounded(*x));
        let short = Pretence { binding: Some((64 << 10) + 100), ..Pretence::default() };
        for evaluator in [gpu.clone(), gpu.clone().with_window_rows(Some(4)), gpu.clone().with_pretence(short)] {
            holds(&evaluator, &problem, element, Asked::default(), None, &format!("{element:?}, {classes} classes")).await;
        }
    }
}

/// What other libraries answered. Of the families some: the losses of the others are in [`every_loss`].
#[wasm_bindgen_test]
async fn golden_cases() {
    for family in ["keras_categorical", "keras_edges", "keras_reductions", "keras_sparse", "confident", "nd_axis"] {
        for case in &golden::family(family) {
            let (arrays, truth) = (Arrays::golden(case), case.problem.truth());
            for (name, evaluator) in both().await {
                let context = format!("{family} {} on the {name}", case.id);
                let outputs = agreement::asked(case).outputs(&case.problem);
                let evaluation = evaluator.evaluate(&losses::loss(&case.problem), &arrays.batch(), &outputs).await;
                agreement::check(evaluation.unwrap_or_else(|error| panic!("{context}: {error}")), case, &truth, &context);
            }
        }
    }
}

#[wasm_bindgen_test]
async fn a_stream_adds_up_its_batches() {
    let problem = moderate::problem(17, &moderate::named("logits"), false, 64, 12, 1e-7);
    let loss = losses::loss(&problem);
    for (name, evaluator) in both().await {
        let mut stream = evaluator.stream(&loss, &losses::everything());
        let mut found = Vec::new();
        for rows in [0..1, 1..40, 40..40, 40..64] {
            let arrays = Arrays::of(&losses::part(&problem, rows));
            found.extend(stream.push(&arrays.batch()).await.expect("the rows are sound").losses);
        }
        let whole = evaluator.evaluate(&loss, &Arrays::of(&problem).batch(), &losses::everything()).await.expect("too");
        let bits = |losses: &mut dyn Iterator<Item = f32>| losses.map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&mut found.into_iter()), bits(&mut whole.losses.into_iter().flatten()), "{name}");
        assert_eq!(stream.finish().totals, whole.totals, "{name}");
    }
}

#[wasm_bindgen_test]
async fn a_bad_label_is_named() {
    let mut problem = moderate::problem(1, &moderate::named("logits"), false, 6, 4, 1e-7);
    let Targets::Classes(labels) = &mut problem.targets else { panic!("labels were asked for") };
    labels[4] = 9;
    for (name, evaluator) in both().await {
        let arrays = Arrays::of(&problem);
        let error = evaluator.evaluate(&losses::loss(&problem), &arrays.batch(), &losses::everything()).await;
        assert!(matches!(error, Err(Error::Label { row: 4, .. })), "{name}: {error:?}");
    }
}

/// A page's own device and buffers; the gradient goes where the logits were.
#[wasm_bindgen_test]
async fn a_page_embeds_a_kernel() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.expect("there is an adapter");
    let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor::default()).await.expect("it gives a device");

    let (rows, classes) = (52, 8);
    let problem = moderate::problem(23, &moderate::named("logits"), false, rows, classes, 1e-7);
    let Targets::Classes(labels) = &problem.targets else { panic!("labels were asked for") };
    let labels: Vec<u32> = labels.iter().map(|label| *label as u32).collect();
    let buffer = |contents: &[u8]| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    };
    let (logits, labels) = (buffer(bytemuck::cast_slice(&problem.predictions)), buffer(bytemuck::cast_slice(&labels)));
    let bindings = Bindings::new(logits.slice(..), labels.slice(..));
    let descriptor = KernelDescriptor {
        loss: losses::loss(&problem),
        classes,
        outputs: KernelOutputs { totals: Some(Reduction::Sum), accuracy: true, ..KernelOutputs::default() },
        ..KernelDescriptor::default()
    };
    let evaluator = Evaluator::from_device(device.clone(), queue.clone());
    let resident = evaluator.evaluate_resident(&descriptor, &bindings, rows).await.expect("it lies there");
    assert_eq!((u64::from(resident.totals.correct), resident.status.rows as usize), (problem.truth().correct, rows));

    let outputs = KernelOutputs { gradient: Some(Gradient::Of(Reduction::Mean)), ..KernelOutputs::default() };
    let descriptor = KernelDescriptor { outputs, in_place: true, ..descriptor };
    let kernel = Kernel::new(&device, &Cache::default(), &descriptor).await.expect("the kernel is made");
    let bound = kernel.bind(&device, &bindings, rows).expect("the buffers fit");
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    bound.encode(&mut encoder);
    queue.submit([encoder.finish()]);
    let (sender, receiver) = futures_channel::oneshot::channel();
    wgpu::util::DownloadBuffer::read_buffer(&device, &queue, &logits.slice(..), move |read| {
        let _ = sender.send(read.map(|bytes| bytes.to_vec()));
    });
    let gradient = receiver.await.expect("the buffer is read").expect("it can be");
    let slopes = problem.gradient(Of::Mean);
    tolerance::check_gradient(bytemuck::cast_slice(&gradient), &slopes, classes, false).unwrap_or_else(|why| panic!("{why}"));
}
