//! Evaluates the digits network through the library: `cargo run --release --example evaluate`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use ndarray::{Array1, Array2};
use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Outputs, Targets};

/// The elements of a `.npy` file of format 1: what follows its header, `N` bytes each.
fn elements<const N: usize, T>(file: &[u8], element: fn([u8; N]) -> T) -> Vec<T> {
    let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
    file[10 + header..].as_chunks().0.iter().copied().map(element).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let predictions = elements(include_bytes!("digits/network_probabilities.npy"), f32::from_le_bytes);
    let predictions = Array2::from_shape_vec((899, 10), predictions)?;
    let labels = Array1::from_vec(elements(include_bytes!("digits/labels.npy"), i64::from_le_bytes));

    let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor::default())?;
    let batch = Batch::new(predictions.view(), Targets::classes(labels.view()))?;
    let result = evaluator.evaluate_blocking(&CategoricalCrossEntropy::default().into(), &batch, &Outputs::default())?;
    let accuracy = result.totals.accuracy().unwrap_or_default();
    println!("loss {:.4}, accuracy {accuracy:.4}, on {:?}", result.totals.mean(), result.backend);
    Ok(())
}
