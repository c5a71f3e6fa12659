//! A look at every label and weight before any work is done: they are few beside the predictions, and an error in the last
//! row of a long run would lose it all.

use std::ops::Range;
use std::panic::resume_unwind;
use std::thread::{available_parallelism, scope};

use xent::Loss;

use super::Files;
use crate::args::Reduction;
use crate::files::{FileError, Labels};
use crate::inputs::{Inputs, check_weights};

/// Rows that are looked at at a time: their labels and weights stay in the second-level cache.
const PIECE: usize = 64 << 10;
/// Pieces below which another thread is not worth its start.
const FEW: usize = 16;
/// Threads above which memory is no faster.
const THREADS: usize = 4;

/// What the labels and weights of all rows add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weights {
    /// Rows that are not ignored.
    kept: u64,
    /// Σ s·v over these.
    weight: f64,
    /// The largest s of these, with its row.
    heaviest: Heavy,
}

/// A row with its weight.
#[derive(Debug, Clone, Copy, Default)]
struct Heavy {
    weight: f64,
    row: usize,
}

impl Heavy {
    fn or(self, other: Self) -> Self {
        if other.weight > self.weight { other } else { self }
    }
}

impl Weights {
    /// What the gradients of all rows are multiplied with, besides their weights.
    ///
    /// # Errors
    /// Where that, times the weight of some row, is no float32, as which gradients are made.
    pub(super) fn scale(self, reduction: Reduction, files: &Files) -> Result<f64, FileError> {
        let divisor = match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => self.kept as f64,
            Reduction::WeightedMean => self.weight,
        };
        // A mean of nothing is 0, and so is its gradient.
        let scale = if divisor == 0.0 { 0.0 } else { 1.0 / divisor };
        let Heavy { weight, row } = self.heaviest;
        let is_float = |factor: f64| (factor as f32).is_finite();
        if divisor.is_finite() && is_float(scale * weight) {
            return Ok(scale);
        }
        let Inputs { predictions, class_weights, .. } = &files.inputs;
        let of_classes = class_weights.as_ref().map(|(source, _)| source);
        if divisor.is_finite() && is_float(scale) {
            // Then it is the row's weight.
            let source = files.sample_weights.as_ref().unwrap_or(predictions);
            let problem = format!("gradients would be multiplied with {:?}, which is no finite float32", scale * weight);
            return Err(if files.has_weight_per_row() {
                FileError::at_row(source.name(), row, problem)
            } else {
                FileError::new(source.name(), problem)
            });
        }
        let source = of_classes.or(files.sample_weights.as_ref()).unwrap_or(predictions);
        Err(FileError::new(
            source.name(),
            format!("the weights add up to {divisor:?}, by which no float32 gradient can be divided"),
        ))
    }
}

/// Looks at every label and weight.
///
/// # Errors
/// The first that is none, with its row; a file that cannot be read or has become shorter.
pub(super) fn check_values(files: &Files, loss: &Loss) -> Result<Weights, FileError> {
    let rows = files.inputs.rows;
    let mut scan = Scan {
        files,
        ignore_index: match loss {
            Loss::Categorical(loss) => loss.ignore_index,
            _ => None,
        },
        class_weights: files.inputs.class_weights.as_ref().map(|(_, weights)| weights.as_slice()),
        one_weight: 1.0,
    };
    if let Some(source) = &files.sample_weights
        && !files.has_weight_per_row()
    {
        let mut weight = Vec::new();
        source.read_f64(0..1, &mut weight)?;
        check_weights(source, ("row", f64::MAX), 0, &weight)?;
        scan.one_weight = weight[0];
    }
    if files.inputs.dense && !files.has_weight_per_row() {
        let heaviest = if rows > 0 { Heavy { weight: scan.one_weight, row: 0 } } else { Heavy::default() };
        return Ok(Weights { kept: rows as u64, weight: rows as f64 * scan.one_weight, heaviest });
    }

    let pieces = rows.div_ceil(PIECE);
    let threads = available_parallelism().map_or(1, Into::into).min(THREADS).min(pieces / FEW).max(1);
    let share = pieces.div_ceil(threads) * PIECE;
    let rows_of = |thread: usize| rows.min(thread * share)..rows.min((thread + 1) * share);
    let shares: Vec<_> = scope(|scope| {
        let scan = &scan;
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || scan.rows(rows_of(thread)))).collect();
        let own = scan.rows(rows_of(0));
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    let mut all = Weights::default();
    // In the order of the pieces, so that the sum does not depend on the number of threads.
    for share in shares {
        for piece in share? {
            all.kept += piece.kept;
            all.weight += piece.weight;
            all.heaviest = all.heaviest.or(piece.heaviest);
        }
    }
    Ok(all)
}

struct Scan<'a> {
    files: &'a Files,
    ignore_index: Option<i64>,
    class_weights: Option<&'a [f32]>,
    /// The weight of every row, where rows have none of their own.
    one_weight: f64,
}

impl Scan<'_> {
    /// The sums of each piece of these rows.
    fn rows(&self, rows: Range<usize>) -> Result<Vec<Weights>, FileError> {
        let (mut labels, mut weights) = (Labels::of(&self.files.inputs.targets), Vec::new());
        let pieces = rows.clone().step_by(PIECE).map(|start| start..rows.end.min(start + PIECE));
        pieces.map(|piece| self.piece(piece, &mut labels, &mut weights)).collect()
    }

    fn piece(&self, rows: Range<usize>, labels: &mut Labels, weights: &mut Vec<f64>) -> Result<Weights, FileError> {
        let Files { inputs, sample_weights } = self.files;
        if let Some(source) = sample_weights
            && self.files.has_weight_per_row()
        {
            source.read_f64(rows.clone(), weights)?;
            check_weights(source, ("row", f64::MAX), rows.start, weights)?;
        }
        if inputs.dense {
            let heaviest = (rows.clone())
                .zip(weights.iter())
                .fold(Heavy::default(), |most, (row, &weight)| most.or(Heavy { weight, row }));
            return Ok(Weights { kept: rows.len() as u64, weight: weights.iter().sum(), heaviest });
        }
        labels.read(&inputs.targets, rows.clone(), inputs.classes)?;
        let kept = labels.check(&inputs.targets, rows.start, inputs.classes, self.ignore_index)?;
        let mut weight = kept as f64 * self.one_weight;
        let mut heaviest = if kept > 0 { Heavy { weight: self.one_weight, row: rows.start } } else { Heavy::default() };
        if !weights.is_empty() || self.class_weights.is_some() {
            (weight, heaviest) = (0.0, Heavy::default());
            labels.each_class(self.ignore_index, |row, class| {
                let sample_weight = weights.get(row).copied().unwrap_or(self.one_weight);
                heaviest = heaviest.or(Heavy { weight: sample_weight, row: rows.start + row });
                weight += sample_weight * self.class_weights.map_or(1.0, |weights| f64::from(weights[class]));
            });
        }
        Ok(Weights { kept: kept as u64, weight, heaviest })
    }
}
