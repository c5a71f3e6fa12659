//! `xent evaluate`: files in, window by window; numbers out.

mod ahead;
mod page;
mod progress;
mod scan;
mod window;
mod written;

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use xent::{Backend, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Gradient, Input, Loss, Outputs};

use crate::args::EvaluateArgs;
use crate::failure::Failure;
use crate::files::{FileError, Source, shape_text};
use crate::inputs::Inputs;
use crate::loss::categorical_only;
use crate::report;
use ahead::read_ahead;
use progress::Progress;
use window::Window;
use written::Written;

/// Bytes of a window in memory, with what comes of it, unless a row has more.
const WINDOW: usize = 8 << 20;
/// The same where it holds all of its rows: a GPU wants much work at a time, and rows that lie scattered in the file come in reads
/// whose length is the window's.
const LONG_WINDOW: usize = 32 << 20;
/// Bytes of the files that a window is of: many times what a thread reads at a time, so that none waits long for the others, and so
/// few that progress shows.
const SPAN: usize = 256 << 20;
/// Windows in memory: one is evaluated, one is ready, one is read.
const WINDOWS: usize = 3;

/// Bins of the calibration error where nothing else was asked for.
const CALIBRATION_BINS: u32 = 15;

pub(crate) fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    let files = Files::open(args)?;
    let loss = files.inputs.loss(&args.loss)?;
    let outputs = outputs(args, &files, &loss)?;
    let weights = scan::check_values(&files, &loss)?;
    let scale = args.gradient.as_ref().map(|_| weights.scale(args.reduction, &files)).transpose()?;
    let outputs = Outputs { gradient: scale.map(Gradient::Scaled), ..outputs };
    let mut written = Written::create(args, &files)?;

    let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor {
        backend: args.backend.into(),
        adapter: args.adapter.clone(),
        window_rows: args.window_rows.map(Into::into),
        allow_software: args.allow_software,
        fault: args.fault,
        ..EvaluatorDescriptor::default()
    })?;
    let started = Instant::now();
    let mut stream = evaluator.stream(&loss, &outputs);
    let progress = Progress::new(files.inputs.rows as u64, started);
    // Each thread of the CPU reads what it works on, where a few rows are one read. Longer ones it would wait for.
    let on_gpu = matches!(evaluator.backend(), Backend::Gpu { .. });
    let holds = on_gpu || !files.have_rows_in_order() || files.row_bytes() > LONG_WINDOW;
    let all = [(); WINDOWS].map(|()| Window::new(&files, holds));
    let step = files.window_rows(args.window_rows.map(Into::into), &all[0], &outputs);
    read_ahead(all, windows(files.inputs.rows, step), Window::read, |window, rows| {
        let results = stream.push_blocking(&window.batch(rows.len())?)?;
        progress.at(rows.end as u64);
        Ok(written.write(&files, rows, results)?)
    })?;
    progress.done();
    let evaluation = stream.finish();
    let facts = report::Facts {
        evaluation: &evaluation,
        reduction: args.reduction,
        classes: files.inputs.classes,
        seconds: started.elapsed().as_secs_f64(),
        bytes: files.bytes(),
        format: args.format,
    };
    written.finish(&facts, &files, &loss)?;
    report::evaluation(&facts)
}

/// What is to be computed, but for the gradient, whose scale takes a look at the labels.
fn outputs(args: &EvaluateArgs, files: &Files, loss: &Loss) -> Result<Outputs, Failure> {
    let categorical = matches!(loss, Loss::Categorical(_));
    if !categorical {
        categorical_only(&[
            ("--top-k", !args.top_k.is_empty()),
            ("--calibration-bins", args.calibration_bins.is_some()),
            ("--logsumexp", args.logsumexp.is_some()),
        ])?;
    }
    if let Loss::Categorical(CategoricalCrossEntropy { input: Input::LogProbabilities, .. }) = loss
        && args.calibration_bins.is_some()
    {
        let why = "--calibration-bins has nothing to act on: log-probabilities are taken as given, whether or not they add up";
        return Err(Failure::Usage(why.into()));
    }
    let outputs = Outputs {
        losses: args.losses.is_some() || args.report.is_some(),
        accuracy: categorical,
        top_k: args.top_k.clone(),
        logsumexp: args.logsumexp.is_some(),
        gradient: None,
        calibration_bins: categorical.then(|| args.calibration_bins.unwrap_or(CALIBRATION_BINS)),
    };
    outputs.validate_for(loss, files.inputs.classes, files.inputs.dense)?;
    Ok(outputs)
}

/// The files of an evaluation, opened, with shapes that fit.
struct Files {
    inputs: Inputs,
    sample_weights: Option<Source>,
}

impl Files {
    fn open(args: &EvaluateArgs) -> Result<Self, Failure> {
        let inputs = Inputs::open(&args.predictions, &args.targets, &args.loss)?;
        let sample_weights = args.sample_weights.as_deref().map(Source::open).transpose()?;
        if let Some(weights) = &sample_weights
            && !weights.shape().is_empty()
            && weights.shape() != inputs.row_shape
        {
            let (found, wanted) = (shape_text(weights.shape()), shape_text(&inputs.row_shape));
            let problem = format!("sample weights of shape {found} where {wanted} or one number is needed");
            return Err(FileError::new(weights.name(), problem).into());
        }
        Ok(Self { inputs, sample_weights })
    }

    /// Whether sample weights are given row by row, and not as none or as one number.
    fn has_weight_per_row(&self) -> bool {
        self.sample_weights.as_ref().is_some_and(|source| !source.shape().is_empty())
    }

    /// Refuses an output in the place of an input.
    fn check_output(&self, path: &Path) -> Result<(), FileError> {
        let inputs = [Some(&self.inputs.predictions), Some(&self.inputs.targets), self.sample_weights.as_ref()];
        let mut sources = inputs.into_iter().flatten().chain(self.inputs.class_weights.as_ref().map(|(source, _)| source));
        if sources.any(|source| source.is_at(path)) {
            return Err(FileError::new(path.display(), "an input of this run would be overwritten"));
        }
        Ok(())
    }

    /// Whether a row's predictions, and its targets, lie in the files one after the other.
    fn have_rows_in_order(&self) -> bool {
        let Inputs { predictions, targets, axis, dense, .. } = &self.inputs;
        predictions.has_rows_in_order(*axis) && (!dense || targets.has_rows_in_order(*axis))
    }

    /// Rows of a window.
    fn window_rows(&self, wanted: Option<usize>, window: &Window<'_>, outputs: &Outputs) -> usize {
        let float = |wanted: bool| if wanted { size_of::<f32>() } else { 0 };
        // The library has a weight for each row, whether or not the file does.
        let weights = if self.sample_weights.is_some() { size_of::<f64>() } else { 0 };
        let of_row = float(outputs.losses) + float(outputs.logsumexp) + weights;
        let gradient = self.inputs.classes.saturating_mul(float(outputs.gradient.is_some()));
        let held = window.row_bytes().saturating_add(gradient).saturating_add(of_row);
        let bytes = if window.holds() { LONG_WINDOW } else { WINDOW };
        let most = (bytes / held.max(1)).min(SPAN / self.row_bytes().max(1)).max(1);
        wanted.map_or(most, |rows| rows.min(most))
    }

    /// Bytes of a row's predictions and targets as stored.
    fn row_bytes(&self) -> usize {
        usize::try_from(self.bytes() / (self.inputs.rows as u64).max(1)).unwrap_or(usize::MAX)
    }

    /// Bytes of the predictions and targets as stored.
    fn bytes(&self) -> u64 {
        self.inputs.predictions.stored_bytes() + self.inputs.targets.stored_bytes()
    }
}

/// The rows of each window. A file without rows is still a batch: its shape and options are checked with it.
fn windows(rows: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows.max(1)).step_by(step).map(move |start| start..rows.min(start.saturating_add(step)))
}
