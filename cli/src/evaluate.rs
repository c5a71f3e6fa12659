//! `xent evaluate`: files in, window by window; numbers out.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ndarray::ArrayView;
use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Gradient, Input, Loss, Outputs, Targets};

use crate::args::{EvaluateArgs, Reduction};
use crate::failure::Failure;
use crate::files::{FileError, NpyWriter, Source, shape_text};
use crate::inputs::{Inputs, check_weights};
use crate::loss::categorical_only;
use crate::report;

/// Bytes of predictions and targets that are in memory at a time, as float32, unless a row has more.
const WINDOW_BYTES: usize = 32 << 20;
/// Labels or weights that are looked at at a time.
const SCAN: usize = 1 << 20;
/// A run that takes longer than this shows how far it is.
const PATIENCE: Duration = Duration::from_millis(500);

/// Bins of the calibration error where nothing else was asked for.
const CALIBRATION_BINS: u32 = 15;

pub(crate) fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    let files = Files::open(args)?;
    let loss = files.inputs.loss(&args.loss)?;
    let outputs = outputs(args, &files, &loss)?;
    let divisor = files.check_values(&loss)?.divisor(args.reduction);
    let outputs = Outputs {
        // A mean of nothing is 0, and so is its gradient.
        gradient: args.gradient.is_some().then_some(Gradient::Scaled(if divisor == 0.0 { 0.0 } else { 1.0 / divisor })),
        ..outputs
    };
    let mut written = Written::create(args, &files)?;

    let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor {
        backend: args.backend.into(),
        adapter: args.adapter.clone(),
        window_rows: args.window_rows.map(Into::into),
        allow_software: args.allow_software,
        fault: args.fault,
    })?;
    let started = Instant::now();
    let mut stream = evaluator.stream(&loss, &outputs);
    let mut window = Window::default();
    let progress = Progress::new(files.inputs.rows as u64, started);
    let step = files.window_rows(args.window_rows.map(Into::into), &outputs);
    let mut next = 0_usize;
    // A file without rows is still a batch: its shape and options are checked with it.
    loop {
        let rows = next..files.inputs.rows.min(next.saturating_add(step));
        window.read(&files, rows.clone())?;
        written.write(&files, rows.clone(), stream.push_blocking(&window.batch(&files, rows.len())?)?)?;
        next = rows.end;
        progress.at(next as u64);
        if next >= files.inputs.rows {
            break;
        }
    }
    progress.done();
    let evaluation = stream.finish();
    written.finish()?;
    report::evaluation(&report::Facts {
        evaluation: &evaluation,
        reduction: args.reduction,
        classes: files.inputs.classes,
        seconds: started.elapsed().as_secs_f64(),
        bytes: files.bytes(),
        format: args.format,
    });
    Ok(())
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
        losses: args.losses.is_some(),
        accuracy: categorical,
        top_k: args.top_k.clone(),
        logsumexp: args.logsumexp.is_some(),
        gradient: None,
        calibration_bins: categorical.then(|| args.calibration_bins.unwrap_or(CALIBRATION_BINS)),
    };
    outputs.validate_for(loss, files.inputs.classes, files.inputs.dense)?;
    Ok(outputs)
}

/// The files that are written, as far as they were asked for.
struct Written {
    losses: Option<NpyWriter>,
    logsumexp: Option<NpyWriter>,
    gradient: Option<NpyWriter>,
}

impl Written {
    fn create(args: &EvaluateArgs, files: &Files) -> Result<Self, Failure> {
        let paths = [&args.losses, &args.logsumexp, &args.gradient];
        let places = paths.map(|path| path.as_deref().map(place));
        for (i, path) in paths.iter().enumerate() {
            if let Some(path) = path
                && places[..i].contains(&places[i])
            {
                return Err(FileError::new(path.display(), "two outputs of this run have this name").into());
            }
        }
        let create =
            |path: &Option<PathBuf>, shape: &[usize]| path.as_deref().map(|path| files.create(path, shape)).transpose();
        Ok(Self {
            losses: create(&args.losses, &files.inputs.row_shape)?,
            logsumexp: create(&args.logsumexp, &files.inputs.row_shape)?,
            gradient: create(&args.gradient, files.inputs.predictions.shape())?,
        })
    }

    fn write(&mut self, files: &Files, range: Range<usize>, rows: xent::Rows<'_>) -> Result<(), FileError> {
        if let Some(writer) = &mut self.losses {
            writer.write(rows.losses)?;
        }
        if let Some(writer) = &mut self.logsumexp {
            writer.write(rows.logsumexp)?;
        }
        if let Some(writer) = &mut self.gradient {
            writer.write_rows(files.inputs.axis, range, rows.gradient)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), FileError> {
        let mut writers: Vec<_> = [self.losses, self.logsumexp, self.gradient].into_iter().flatten().collect();
        writers.iter_mut().try_for_each(NpyWriter::flush)?;
        writers.into_iter().try_for_each(NpyWriter::finish)?;
        Ok(())
    }
}

/// One name for each file that does not exist yet: its folder may have several.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// What the labels and weights of all rows add up to.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    /// Rows that are not ignored.
    kept: u64,
    /// Σ s·v over these.
    weight: f64,
}

impl Weights {
    /// What the reduced loss is divided by.
    fn divisor(self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => self.kept as f64,
            Reduction::WeightedMean => self.weight,
        }
    }
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

    /// Looks at every label and weight before any work is done: they are few beside the predictions, and an error in the
    /// last row of a long run would lose it all.
    fn check_values(&self, loss: &Loss) -> Result<Weights, FileError> {
        let ignore_index = match loss {
            Loss::Categorical(loss) => loss.ignore_index,
            _ => None,
        };
        let class_weights = self.inputs.class_weights.as_ref().map(|(_, weights)| weights.as_slice());
        let (mut labels, mut weights) = (Vec::new(), vec![1.0]);
        let mut sums = Weights::default();
        let one_weight = self.sample_weights.as_ref().is_none_or(|source| source.shape().is_empty());
        if let Some(source) = &self.sample_weights
            && one_weight
        {
            source.read_f64(0..1, &mut weights)?;
            check_weights(source, ("row", f64::MAX), 0, &weights)?;
        }
        for range in pieces(self.inputs.rows) {
            if let Some(source) = &self.sample_weights
                && !one_weight
            {
                source.read_f64(range.clone(), &mut weights)?;
                check_weights(source, ("row", f64::MAX), range.start, &weights)?;
            }
            let sample_weight = |i: usize| if one_weight { weights[0] } else { weights[i] };
            if self.inputs.dense {
                sums.kept += range.len() as u64;
                sums.weight += (0..range.len()).map(sample_weight).sum::<f64>();
                continue;
            }
            self.inputs.targets.read_i64(range.clone(), &mut labels)?;
            for (i, (row, &label)) in range.zip(&labels).enumerate() {
                if ignore_index == Some(label) {
                    continue;
                }
                let class = self.inputs.class_of(label, row)?;
                sums.kept += 1;
                sums.weight += sample_weight(i) * class_weights.map_or(1.0, |weights| f64::from(weights[class]));
            }
        }
        Ok(sums)
    }

    /// An output of float32.
    fn create(&self, path: &Path, shape: &[usize]) -> Result<NpyWriter, Failure> {
        let inputs = [Some(&self.inputs.predictions), Some(&self.inputs.targets), self.sample_weights.as_ref()];
        let mut sources = inputs.into_iter().flatten().chain(self.inputs.class_weights.as_ref().map(|(source, _)| source));
        if sources.any(|source| source.is_at(path)) {
            return Err(FileError::new(path.display(), "an input of this run would be overwritten").into());
        }
        Ok(NpyWriter::create(path, shape)?)
    }

    /// Rows that are read at a time.
    fn window_rows(&self, wanted: Option<usize>, outputs: &Outputs) -> usize {
        let arrays = 1 + usize::from(self.inputs.dense) + usize::from(outputs.gradient.is_some());
        let values = self.inputs.classes.saturating_mul(arrays).max(1);
        let most = (WINDOW_BYTES / size_of::<f32>() / values).max(1);
        wanted.map_or(most, |rows| rows.min(most))
    }

    /// Bytes of the predictions and targets as stored.
    fn bytes(&self) -> u64 {
        self.inputs.predictions.stored_bytes() + self.inputs.targets.stored_bytes()
    }
}

fn pieces(count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(SCAN).map(move |start| start..count.min(start + SCAN))
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
        files.inputs.predictions.read_rows_f32(files.inputs.axis, rows.clone(), &mut self.predictions)?;
        if files.inputs.dense {
            files.inputs.targets.read_rows_f32(files.inputs.axis, rows.clone(), &mut self.targets)?;
        } else {
            files.inputs.targets.read_i64(rows.clone(), &mut self.labels)?;
        }
        match &files.sample_weights {
            Some(source) if source.shape().is_empty() => source.read_f64(0..1, &mut self.sample_weights),
            Some(source) => source.read_f64(rows, &mut self.sample_weights),
            None => Ok(()),
        }
    }

    fn batch(&self, files: &Files, rows: usize) -> Result<Batch<'_>, Failure> {
        let shape_of = |error: ndarray::ShapeError| Failure::Data(format!("{}: {error}", files.inputs.predictions.name()));
        let matrix = |values| ArrayView::from_shape((rows, files.inputs.classes), values).map_err(shape_of);
        let targets = if files.inputs.dense {
            Targets::dense(matrix(&self.targets)?)
        } else {
            Targets::classes(ArrayView::from(&self.labels))
        };
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
