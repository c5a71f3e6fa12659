//! Losses and gradients in float64, from the definitions.

use xent::{DEFAULT_EPSILON, Input};

use super::rows::Rows;
use super::{Pass, Place, loss};

/// How far a mean may be from the truth, relative to it.
const MEAN: f64 = 1e-6;
/// How far an element of a gradient may be, relative to itself,
const GRADIENT: f64 = 2e-5;
/// and besides relative to the largest of its row.
const GRADIENT_ROW: f64 = 3e-6;

/// Evaluates rows on a backend, the way they are timed, and compares with the truth.
///
/// # Panics
/// Where an answer is wrong or missing: a wrong answer's speed is of no interest.
pub fn check(rows: &Rows, pass: Pass, place: &Place) {
    let mut stream = place.evaluator.stream(&loss(rows.kind.input), &pass.outputs(rows.count));
    let found = stream.push_blocking(&rows.batch()).expect("it evaluates");
    let wanted = |is_wanted, count| if is_wanted { count } else { 0 };
    assert_eq!(found.losses.len(), wanted(pass == Pass::Both, rows.count), "losses, {}", rows.kind);
    assert_eq!(found.gradient.len(), wanted(pass != Pass::Forward, rows.count * rows.classes), "gradients, {}", rows.kind);
    let mut predictions = Vec::with_capacity(rows.classes);
    let mut slopes = Vec::with_capacity(rows.classes);
    let mut sum = 0.0;
    for row in 0..rows.count {
        rows.predictions(row, &mut predictions);
        let exact = match rows.kind.input {
            Input::Logits => of_logits(rows, row, &predictions, &mut slopes),
            _ => of_probabilities(rows, row, &predictions),
        };
        check_row(rows, row, exact, &slopes, found);
        sum += exact;
    }
    let (mean, exact) = (stream.finish().totals.mean(), sum / rows.count as f64);
    assert!((mean - exact).abs() <= MEAN * exact, "{}, {} classes: {mean} is not {exact}", rows.kind, rows.classes);
}

/// What the evaluation says of a row itself, as far as it was asked.
fn check_row(rows: &Rows, row: usize, exact: f64, slopes: &[f64], found: xent::Rows<'_>) {
    let place = || format!("{}, {} classes, row {row}", rows.kind, rows.classes);
    if let Some(&loss) = found.losses.get(row) {
        let loss = f64::from(loss);
        assert!((loss - exact).abs() <= MEAN * exact, "{}: {loss} is not {exact}", place());
    }
    if !found.gradient.is_empty() {
        let gradient = &found.gradient[row * rows.classes..][..rows.classes];
        let largest = slopes.iter().fold(0.0_f64, |largest, slope| largest.max(slope.abs()));
        for (class, &slope) in slopes.iter().enumerate() {
            let found = f64::from(gradient[class]) * rows.count as f64;
            let bound = GRADIENT * slope.abs() + GRADIENT_ROW * largest;
            assert!((found - slope).abs() <= bound, "{}, class {class}: {found} is not {slope}", place());
        }
    }
}

/// −Σ t·log softmax(x), and its derivatives p·Σt − t. Logits as small as these need no maximum taken out first.
fn of_logits(rows: &Rows, row: usize, x: &[f64], slopes: &mut Vec<f64>) -> f64 {
    slopes.clear();
    slopes.extend(x.iter().map(|x| x.exp()));
    let total: f64 = slopes.iter().sum();
    let (mut loss, mut targets) = (0.0, 0.0);
    for (class, x) in x.iter().enumerate() {
        let t = rows.target(row, class);
        loss += t * (total.ln() - x);
        targets += t;
    }
    for (class, slope) in slopes.iter_mut().enumerate() {
        *slope = *slope / total * targets - rows.target(row, class);
    }
    loss
}

/// −Σ t·log p with p = x / Σx, clipped.
fn of_probabilities(rows: &Rows, row: usize, x: &[f64]) -> f64 {
    let total: f64 = x.iter().sum();
    let p = |x: f64| (x / total).clamp(DEFAULT_EPSILON, 1.0 - DEFAULT_EPSILON);
    x.iter().enumerate().map(|(class, &x)| -rows.target(row, class) * p(x).ln()).sum()
}
