//! Problems with rows of moderate values: away from the places where a loss has no derivative, and from ties.

use super::kinds::Random;
use super::oracle::{Extra, Input, Kind, Problem, Targets};

/// How far a probability is kept from a clip bound, relative to it: many times a difference's step.
const MARGIN: f64 = 0.01;

/// A loss by its options; the random part of a problem comes from a seed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For messages.
    pub name: &'static str,
    /// What the predictions are.
    pub input: Input,
    /// The loss.
    pub extra: Extra,
}

/// Every loss with every option that changes what a class or a row costs, on every input that has it.
pub fn setups() -> Vec<Setup> {
    let plain = Extra::default();
    let (logits, shares) = (Input::Logits, Input::Probabilities);
    let setup = |name, input, extra| Setup { name, input, extra };
    let focal = |gamma, alpha| Extra { focal: Some((gamma, alpha)), ..Extra::default() };
    let poly = |epsilon| Extra { poly_epsilon: Some(epsilon), ..Extra::default() };
    let kind = |kind| Extra { kind, ..Extra::default() };
    let moving = Extra { z_loss: 1e-3, temperature: 1.3, softcap: Some(4.0), ..plain.clone() };
    vec![
        setup("probabilities", shares, plain.clone()),
        setup("logits", logits, plain.clone()),
        setup("log-probabilities", Input::LogProbabilities, plain.clone()),
        setup("focal probabilities", shares, focal(2.0, 0.25)),
        setup("focal logits", logits, focal(3.5, 0.6)),
        setup("focal logits, gamma 0", logits, focal(0.0, 1.0)),
        setup("focal logits, gamma 1/2", logits, focal(0.5, 1.0)),
        setup("poly probabilities", shares, poly(1.5)),
        setup("poly logits", logits, poly(-1.0)),
        setup("z-loss", logits, Extra { z_loss: 1e-2, ..plain.clone() }),
        setup("temperature", logits, Extra { temperature: 0.7, ..plain.clone() }),
        setup("softcap", logits, Extra { softcap: Some(3.0), ..plain.clone() }),
        setup("z-loss, temperature, softcap", logits, moving.clone()),
        setup("all of these and focal", logits, Extra { focal: Some((2.0, 0.25)), ..moving.clone() }),
        setup("all of these and poly", logits, Extra { poly_epsilon: Some(1.0), ..moving }),
        setup("binary probabilities", shares, kind(Kind::Binary)),
        setup("binary logits", logits, kind(Kind::Binary)),
        setup("KL divergence", shares, kind(Kind::KlDivergence)),
    ]
}

/// The one of [`setups`] that is called this.
pub fn named(name: &str) -> Setup {
    setups().into_iter().find(|setup| setup.name == name).expect("a name of the table")
}

/// A problem without weights, smoothing and ignored rows.
pub fn problem(seed: u64, setup: &Setup, dense: bool, rows: usize, classes: usize, epsilon: f64) -> Problem {
    let mut random = Random::new(seed);
    let mut predictions = Vec::new();
    for _ in 0..rows {
        let row = loop {
            let row = row(&mut random, setup, classes);
            if is_clear(&row, setup, epsilon) {
                break row;
            }
        };
        predictions.extend(row);
    }
    let targets = if dense {
        Targets::Dense((0..rows).flat_map(|row| target(&mut random, classes, row)).collect())
    } else {
        Targets::Classes((0..rows).map(|_| random.below(classes) as i64).collect())
    };
    Problem {
        input: setup.input,
        rows,
        classes,
        predictions,
        targets,
        label_smoothing: 0.0,
        epsilon,
        ignore_index: None,
        class_weights: None,
        sample_weights: None,
        extra: setup.extra.clone(),
    }
}

fn row(random: &mut Random, setup: &Setup, classes: usize) -> Vec<f32> {
    let scale = 0.2 + 2.0 * random.uniform();
    let mut value = || match (setup.extra.kind, setup.input) {
        (_, Input::Logits) => scale * random.normal(),
        (_, Input::LogProbabilities) => -0.05 - 5.0 * random.uniform(),
        (Kind::Categorical, Input::Probabilities) => scale * (0.03 + random.uniform()),
        (Kind::Binary, Input::Probabilities) => 0.02 + 0.96 * random.uniform(),
        // Above 1 they are clipped.
        (Kind::KlDivergence, Input::Probabilities) => 0.02 + 1.2 * random.uniform(),
    };
    (0..classes).map(|_| value() as f32).collect()
}

/// One-hot; or positive numbers, in sum 1 or not.
fn target(random: &mut Random, classes: usize, row: usize) -> Vec<f32> {
    let label = random.below(classes);
    let numbers: Vec<f64> = (0..classes).map(|_| random.uniform()).collect();
    let sum: f64 = numbers.iter().sum();
    let value = |class: usize| match row % 3 {
        0 => f64::from(u8::from(class == label)),
        1 => numbers[class] / sum,
        // Perplexity is e to what they sum to.
        _ => 3.0 * numbers[class] / classes as f64,
    };
    (0..classes).map(|class| value(class) as f32).collect()
}

/// Whether no probability is near a bound that it is clipped to.
fn is_clear(row: &[f32], setup: &Setup, epsilon: f64) -> bool {
    let wide: Vec<f64> = row.iter().copied().map(f64::from).collect();
    let categorical = setup.extra.kind == Kind::Categorical;
    let shares = match setup.input {
        Input::LogProbabilities => return true,
        Input::Logits if setup.extra.focal.is_none() => return true,
        Input::Logits => {
            let cap = setup.extra.softcap.unwrap_or(1e9);
            let moved = |x: &f64| (cap * (x / setup.extra.temperature / cap).tanh()).exp();
            normalised(&wide.iter().map(moved).collect::<Vec<_>>())
        }
        Input::Probabilities if categorical => normalised(&wide),
        Input::Probabilities => wide,
    };
    // A row of one class is at the upper bound, and stays there whatever is moved.
    let constant = categorical && row.len() == 1;
    let (upper, margin) = match setup.extra.kind {
        Kind::KlDivergence => (1.0, MARGIN),
        _ => (1.0 - epsilon, MARGIN * epsilon.max(1e-3)),
    };
    constant || shares.iter().all(|p| (p / epsilon - 1.0).abs() > MARGIN && (p - upper).abs() > margin)
}

fn normalised(values: &[f64]) -> Vec<f64> {
    let sum: f64 = values.iter().sum();
    values.iter().map(|value| value / sum).collect()
}
