//! The files that a loss is of: predictions, targets and class weights, opened, with shapes that fit.

use xent::Loss;

use crate::args::LossArgs;
use crate::failure::Failure;
use crate::files::{FileError, Source, shape_text};
use crate::loss::loss;

/// What a loss is of.
pub(crate) struct Inputs {
    pub predictions: Source,
    pub targets: Source,
    /// The targets have the predictions' shape; else they are class indices.
    pub dense: bool,
    pub class_weights: Option<(Source, Vec<f32>)>,
    /// The class axis of the predictions, and of dense targets.
    pub axis: usize,
    /// The shape without that axis.
    pub row_shape: Vec<usize>,
    pub rows: usize,
    pub classes: usize,
}

impl Inputs {
    pub(crate) fn open(predictions: &str, targets: &str, args: &LossArgs) -> Result<Self, Failure> {
        let predictions = Source::open(predictions)?;
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

        let targets = Source::open(targets)?;
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
        let rows = row_shape.iter().product();
        if classes > xent::MOST_CLASSES && rows > 0 {
            let problem = format!("{classes} classes, where a row may have {}", xent::MOST_CLASSES);
            return Err(FileError::new(predictions.name(), problem).into());
        }
        Ok(Self { predictions, targets, dense, class_weights, axis, row_shape, rows, classes })
    }

    /// The loss that the options describe, checked against these files.
    pub(crate) fn loss(&self, args: &LossArgs) -> Result<Loss, Failure> {
        let loss = loss(args, self.class_weights.as_ref().map(|(_, weights)| weights.clone()))?;
        loss.validate_for(self.classes, self.dense)?;
        Ok(loss)
    }

    /// The class of a label in the targets.
    pub(crate) fn class_of(&self, label: i64, row: usize) -> Result<usize, FileError> {
        let class = usize::try_from(label).ok().filter(|&class| class < self.classes);
        class.ok_or_else(|| self.targets.no_class(row, label, self.classes))
    }
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
pub(crate) fn check_weights(
    source: &Source,
    (what, most): (&str, f64),
    first: usize,
    weights: &[f64],
) -> Result<(), FileError> {
    let is_good = |w: &f64| (*w >= 0.0) & (*w <= most);
    // Without a way out in between, so that it goes through vectors: hardly ever is one bad.
    if weights.iter().fold(true, |good, w| good & is_good(w)) {
        return Ok(());
    }
    match weights.iter().position(|w| !is_good(w)) {
        None => Ok(()),
        Some(i) => {
            let size = if most < f64::MAX { "finite float32" } else { "finite number" };
            let problem = format!("{what} {}: the weight {:?} is not a {size} of at least 0", first + i, weights[i]);
            Err(FileError::new(source.name(), problem))
        }
    }
}
