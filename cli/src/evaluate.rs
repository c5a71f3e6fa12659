//! `xent evaluate`: files in, window by window; numbers out.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ndarray::ArrayView;
use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Input, Loss, Outputs, Targets};

use crate::args::EvaluateArgs;
use crate::failure::Failure;
use crate::files::{FileError, NpyWriter, Source, shape_text};
use crate::report;

/// Bytes of predictions and targets that are in memory at a time, as float32, unless a row has more.
const WINDOW_BYTES: usize = 32 << 20;
/// Labels or weights that are looked at at a time.
const SCAN: usize = 1 << 20;
/// A run that takes longer than this shows how far it is.
const PATIENCE: Duration = Duration::from_millis(500);

pub(crate) fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    let files = Files::open(args)?;
    let loss = files.loss(args)?;
    files.check_values(args.ignore_index)?;
    let mut losses = args.losses.as_deref().map(|path| files.create(path)).transpose()?;

    let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor {
        backend: args.backend.into(),
        adapter: args.adapter.clone(),
        window_rows: args.window_rows.map(Into::into),
        allow_software: args.allow_software,
        fault: args.fault,
    })?;
    let outputs = Outputs { losses: losses.is_some(), accuracy: true, top_k: args.top_k.clone() };
    let started = Instant::now();
    let mut stream = evaluator.stream(&loss, &outputs);
    let mut window = Window::default();
    let progress = Progress::new(files.rows as u64, started);
    let step = files.window_rows(args.window_rows.map(Into::into));
    let mut next = 0_usize;
    // A file without rows is still a batch: its shape and options are checked with it.
    loop {
        let rows = next..files.rows.min(next.saturating_add(step));
        window.read(&files, rows.clone())?;
        let row_losses = stream.push_blocking(&window.batch(&files, rows.len())?)?;
        if let Some(writer) = &mut losses {
            writer.write(row_losses)?;
        }
        next = rows.end;
        progress.at(next as u64);
        if next >= files.rows {
            break;
        }
    }
    progress.done();
    let evaluation = stream.finish();
    if let Some(writer) = losses {
        writer.finish()?;
    }
    report::evaluation(&report::Facts {
        evaluation: &evaluation,
        reduction: args.reduction,
        classes: files.classes,
        seconds: started.elapsed().as_secs_f64(),
        bytes: files.bytes(),
        format: args.format,
    });
    Ok(())
}

/// The files of an evaluation, opened, with shapes that fit.
struct Files {
    predictions: Source,
    targets: Source,
    dense: bool,
    class_weights: Option<(Source, Vec<f32>)>,
    sample_weights: Option<Source>,
    axis: usize,
    row_shape: Vec<usize>,
    rows: usize,
    classes: usize,
}

impl Files {
    fn open(args: &EvaluateArgs) -> Result<Self, Failure> {
        let predictions = Source::open(&args.predictions)?;
        if !predictions.is_float() {
            let problem = format!("{} are no predictions: floating-point numbers are needed", predictions.dtype_name());
            return Err(FileError::new(predictions.name(), problem).into());
        }
        let shape = predictions.shape().to_vec();
        if shape.is_empty() {
            return Err(FileError::new(predictions.name(), "a single number is no predictions: a class axis is needed").into());
        }
        let axis = if args.axis < 0 { args.axis.saturating_add_unsigned(shape.len()) } else { args.axis };
        let axis = usize::try_from(axis)
            .ok()
            .filter(|&axis| axis < shape.len())
            .ok_or(xent::Error::Axis { axis: args.axis, dimensions: shape.len() })?;
        let mut row_shape = shape.clone();
        let classes = row_shape.remove(axis);
        if classes == 0 {
            let problem = format!("predictions of shape {} have no classes", shape_text(&shape));
            return Err(FileError::new(predictions.name(), problem).into());
        }

        let targets = Source::open(&args.targets)?;
        let dense = targets.shape() == shape;
        if !dense && targets.shape() != row_shape {
            let problem = format!(
                "targets of shape {} where the predictions need {} (class indices) or {} (dense)",
                shape_text(targets.shape()),
                shape_text(&row_shape),
                shape_text(&shape),
            );
            return Err(FileError::new(targets.name(), problem).into());
        }
        let class_weights = args.class_weights.as_deref().map(|spec| read_class_weights(spec, classes)).transpose()?;
        let sample_weights = args.sample_weights.as_deref().map(Source::open).transpose()?;
        if let Some(weights) = &sample_weights
            && !weights.shape().is_empty()
            && weights.shape() != row_shape
        {
            let (found, wanted) = (shape_text(weights.shape()), shape_text(&row_shape));
            let problem = format!("sample weights of shape {found} where {wanted} or one number is needed");
            return Err(FileError::new(weights.name(), problem).into());
        }
        let rows = row_shape.iter().product();
        Ok(Self { predictions, targets, dense, class_weights, sample_weights, axis, row_shape, rows, classes })
    }

    fn loss(&self, args: &EvaluateArgs) -> Result<Loss, Failure> {
        let loss = Loss::from(CategoricalCrossEntropy {
            input: if args.from_logits { Input::Logits } else { args.input.into() },
            label_smoothing: args.label_smoothing,
            epsilon: args.epsilon,
            ignore_index: args.ignore_index,
            class_weights: self.class_weights.as_ref().map(|(_, weights)| weights.clone()),
        });
        loss.validate_for(self.classes, self.dense)?;
        Ok(loss)
    }

    /// Looks at every label and weight before any work is done: they are few beside the predictions, and an error in the
    /// last row of a long run would lose it all.
    fn check_values(&self, ignore_index: Option<i64>) -> Result<(), FileError> {
        if !self.dense {
            let mut labels = Vec::new();
            for range in pieces(self.rows) {
                self.targets.read_i64(range.clone(), &mut labels)?;
                for (row, &label) in range.zip(&labels) {
                    let known = usize::try_from(label).is_ok_and(|label| label < self.classes);
                    if !known && ignore_index != Some(label) {
                        let problem = format!("class index {label} is not among the {} classes", self.classes);
                        return Err(FileError::at_row(self.targets.name(), row, problem));
                    }
                }
            }
        }
        if let Some(source) = &self.sample_weights {
            let count = if source.shape().is_empty() { 1 } else { self.rows };
            let mut weights = Vec::new();
            for range in pieces(count) {
                source.read_f64(range.clone(), &mut weights)?;
                check_weights(source, ("row", f64::MAX), range.start, &weights)?;
            }
        }
        Ok(())
    }

    /// The output of one float32 a row.
    fn create(&self, path: &Path) -> Result<NpyWriter, Failure> {
        let inputs = [Some(&self.predictions), Some(&self.targets), self.sample_weights.as_ref()];
        let mut sources = inputs.into_iter().flatten().chain(self.class_weights.as_ref().map(|(source, _)| source));
        if sources.any(|source| source.is_at(path)) {
            return Err(FileError::new(path.display(), "an input of this run would be overwritten").into());
        }
        Ok(NpyWriter::create(path, &self.row_shape)?)
    }

    /// Rows that are read at a time.
    fn window_rows(&self, wanted: Option<usize>) -> usize {
        let values = self.classes.saturating_mul(if self.dense { 2 } else { 1 }).max(1);
        let most = (WINDOW_BYTES / size_of::<f32>() / values).max(1);
        wanted.map_or(most, |rows| rows.min(most))
    }

    /// Bytes of the predictions and targets as stored.
    fn bytes(&self) -> u64 {
        self.predictions.stored_bytes() + self.targets.stored_bytes()
    }
}

fn pieces(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(SCAN).map(move |start| start..count.min(start + SCAN))
}

fn read_class_weights(spec: &str, classes: usize) -> Result<(Source, Vec<f32>), FileError> {
    let source = Source::open(spec)?;
    if source.shape() != [classes] {
        let problem = format!("class weights of shape {} where [{classes}] is needed", shape_text(source.shape()));
        return Err(FileError::new(spec, problem));
    }
    let mut weights = Vec::new();
    source.read_f64(0..classes, &mut weights)?;
    check_weights(&source, ("class", f64::from(f32::MAX)), 0, &weights)?;
    let weights = weights.iter().map(|&w| w as f32).collect();
    Ok((source, weights))
}

/// Weights are finite and not negative, and at most `most`: class weights are taken as float32.
fn check_weights(source: &Source, (what, most): (&str, f64), first: usize, weights: &[f64]) -> Result<(), FileError> {
    match weights.iter().position(|w| !(*w >= 0.0 && *w <= most)) {
        None => Ok(()),
        Some(i) => {
            let problem = format!("{what} {}: the weight {:?} is not a finite number of at least 0", first + i, weights[i]);
            Err(FileError::new(source.name(), problem))
        }
    }
}

/// The rows in memory, with room kept from one window to the next.
#[derive(Default)]
struct Window {
    predictions: Vec<f32>,
    labels: Vec<i64>,
    targets: Vec<f32>,
    sample_weights: Vec<f64>,
}

impl Window {
    fn read(&mut self, files: &Files, rows: Range<usize>) -> Result<(), FileError> {
        files.predictions.read_rows_f32(files.axis, rows.clone(), &mut self.predictions)?;
        if files.dense {
            files.targets.read_rows_f32(files.axis, rows.clone(), &mut self.targets)?;
        } else {
            files.targets.read_i64(rows.clone(), &mut self.labels)?;
        }
        match &files.sample_weights {
            Some(source) if source.shape().is_empty() => source.read_f64(0..1, &mut self.sample_weights),
            Some(source) => source.read_f64(rows, &mut self.sample_weights),
            None => Ok(()),
        }
    }

    fn batch(&self, files: &Files, rows: usize) -> Result<Batch<'_>, Failure> {
        let shape_of = |error: ndarray::ShapeError| Failure::Data(format!("{}: {error}", files.predictions.name()));
        let matrix = |values| ArrayView::from_shape((rows, files.classes), values).map_err(shape_of);
        let targets =
            if files.dense { Targets::dense(matrix(&self.targets)?) } else { Targets::classes(ArrayView::from(&self.labels)) };
        let batch = Batch::new(matrix(&self.predictions)?, targets)?;
        Ok(match &files.sample_weights {
            Some(source) if source.shape().is_empty() => {
                batch.sample_weights(ArrayView::from_shape((), &self.sample_weights).map_err(shape_of)?)?
            }
            Some(_) => batch.sample_weights(ArrayView::from(&self.sample_weights))?,
            None => batch,
        })
    }
}

/// A bar on a terminal, once the run has taken a while. Elsewhere nothing.
struct Progress {
    bar: std::cell::OnceCell<ProgressBar>,
    rows: u64,
    started: Instant,
}

impl Progress {
    fn new(rows: u64, started: Instant) -> Self {
        Self { bar: std::cell::OnceCell::new(), rows, started }
    }

    fn at(&self, row: u64) {
        if self.bar.get().is_none() && self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            // Hidden by the library itself where standard error is no terminal.
            let bar = ProgressBar::new(self.rows);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% of {len} rows, {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(row);
    }

    fn done(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
