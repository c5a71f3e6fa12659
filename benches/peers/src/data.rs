//! Rows of logits, their labels, and the exact loss and gradient in float64.

use rayon::prelude::*;

/// Logits with their labels and what is true of them.
pub struct Data {
    pub rows: usize,
    pub classes: usize,
    pub logits: Vec<f32>,
    pub labels: Vec<u32>,
    /// The mean loss.
    pub mean: f64,
    /// ln Σ e^x of each row.
    logsumexp: Vec<f64>,
}

impl Data {
    /// About `elements` logits between -4 and 4 that look like noise, the same in every run.
    pub fn new(classes: usize, elements: usize) -> Self {
        let rows = (elements / classes).max(1);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let logits: Vec<f32> = (0..rows * classes)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 24) as f32 * 8.0 - 4.0
            })
            .collect();
        let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
        // Numbers of this size need no maximum taken out first.
        let logsumexp: Vec<f64> =
            logits.par_chunks(classes).map(|row| row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln()).collect();
        let of_labels = logits.chunks(classes).zip(&labels).map(|(row, &label)| f64::from(row[label as usize]));
        let mean = logsumexp.iter().zip(of_labels).map(|(sum, x)| sum - x).sum::<f64>() / rows as f64;
        Self { rows, classes, logits, labels, mean, logsumexp }
    }

    /// Bytes of the logits.
    pub fn bytes(&self) -> usize {
        size_of_val(self.logits.as_slice())
    }

    /// How far a mean loss is from the truth, relative to it.
    pub fn error_of_mean(&self, mean: f64) -> f64 {
        let error = (mean - self.mean).abs() / self.mean;
        if error.is_nan() { f64::INFINITY } else { error }
    }

    /// How far an element of the mean loss's gradient is from the truth at most, relative to the largest that there can be.
    pub fn error_of_gradient(&self, gradient: &[f32]) -> f64 {
        if gradient.len() != self.logits.len() {
            return f64::INFINITY;
        }
        let rows = self.rows as f64;
        (0..self.rows)
            .into_par_iter()
            .map(|row| {
                let elements = row * self.classes..(row + 1) * self.classes;
                let label = self.labels[row] as usize;
                let pairs = self.logits[elements.clone()].iter().zip(&gradient[elements]);
                let error = |(class, (&x, &found)): (usize, (&f32, &f32))| {
                    let exact = (f64::from(x) - self.logsumexp[row]).exp() - f64::from(u8::from(class == label));
                    let error = (f64::from(found) * rows - exact).abs();
                    if error.is_nan() { f64::INFINITY } else { error }
                };
                pairs.enumerate().map(error).fold(0.0, f64::max)
            })
            .reduce(|| 0.0, f64::max)
    }
}
