//! Gradients as central differences of the losses: no formula of a derivative that could be wrong.

use super::{Input, Kind, Problem};

/// The step of a difference, relative to what is moved. Differences of four values are off by the step's fourth power and
/// by what float64 rounds divided by the step: both are around 1e-12 where a prediction is not tiny.
pub const STEP: f64 = 1e-3;

/// What a gradient is the gradient of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of {
    /// Σ s·l.
    Sum,
    /// Σ s·l over the kept rows.
    Mean,
    /// Σ s·l over the weights.
    WeightedMean,
    /// Σ s·l times this.
    Scaled(f64),
}

impl Problem {
    /// The gradient by each prediction, row major: 0 for ignored rows, NaN where the loss is. Right where no prediction is
    /// within [`STEP`] of a place at which the loss has no derivative.
    pub fn gradient(&self, of: Of) -> Vec<f64> {
        let truth = self.truth();
        let scale = match of {
            Of::Sum => 1.0,
            Of::Mean => super::quotient_or_zero(1.0, truth.kept as f64),
            Of::WeightedMean => super::quotient_or_zero(1.0, truth.weight),
            Of::Scaled(scale) => scale,
        };
        let rows = 0..self.rows;
        rows.flat_map(|row| {
            let weight = self.sample_weights.as_ref().map_or(1.0, |weights| weights[row]);
            self.row_gradient(row).into_iter().map(move |slope| scale * weight * slope)
        })
        .collect()
    }

    fn row_gradient(&self, row: usize) -> Vec<f64> {
        let Some((_, target, _)) = self.target(row) else { return vec![0.0; self.classes] };
        let span = row * self.classes..(row + 1) * self.classes;
        let mut x: Vec<f64> = self.predictions[span].iter().copied().map(f64::from).collect();
        if self.loss(&x, &target).0.is_nan() {
            return vec![f64::NAN; self.classes];
        }
        (0..self.classes)
            .map(|class| {
                let at = x[class];
                // Probabilities are compared by their ratios, binary ones with 1 as well, logits by their differences.
                let step = match (self.input, self.extra.kind) {
                    (Input::Probabilities, Kind::Binary) if at < 1.0 => STEP * at.abs().min(1.0 - at),
                    (Input::Probabilities, _) => STEP * at.abs(),
                    _ => STEP,
                };
                let mut moved_by = |steps: f64| {
                    x[class] = at + steps * step;
                    self.loss(&x, &target).0
                };
                let near = moved_by(1.0) - moved_by(-1.0);
                let far = moved_by(2.0) - moved_by(-2.0);
                x[class] = at;
                if step == 0.0 { 0.0 } else { (8.0 * near - far) / (12.0 * step) }
            })
            .collect()
    }
}
