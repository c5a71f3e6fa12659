//! The definition of the losses and metrics, written for clarity in float64 and without any code of the library.
//!
//! A row's loss is `Σ w_c · t'_c · cost_c`, where `cost_c` is −log of the probability of class `c`, `t'` the smoothed
//! target and `w` the class weights. Only `cost_c` depends on the kind of input; each kind has its formula in [`Costs`].

/// What the predictions are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// Non-negative scores, divided by their row's sum and clipped.
    Probabilities,
    /// Scores before softmax.
    Logits,
    /// Logarithms of probabilities, taken as given.
    LogProbabilities,
}

/// What the predictions are compared with.
#[derive(Clone, Debug)]
pub enum Targets {
    /// A class a row.
    Classes(Vec<i64>),
    /// A value for every class of every row, row major.
    Dense(Vec<f32>),
}

/// Everything that a loss depends on.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What `predictions` are.
    pub input: Input,
    /// Number of rows.
    pub rows: usize,
    /// Number of classes.
    pub classes: usize,
    /// Row major, one value a class.
    pub predictions: Vec<f32>,
    /// What the predictions should have been.
    pub targets: Targets,
    /// The share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// How near a probability comes to 0 and to 1.
    pub epsilon: f64,
    /// Rows with this class do not count. Means nothing for dense targets.
    pub ignore_index: Option<i64>,
    /// One a class.
    pub class_weights: Option<Vec<f32>>,
    /// One a row.
    pub sample_weights: Option<Vec<f64>>,
}

/// The answer to a [`Problem`].
#[derive(Clone, Debug)]
pub struct Truth {
    /// One a row, before sample weights; 0 for ignored rows. A finite loss here may lie beyond float32's range.
    pub losses: Vec<f64>,
    /// Σ|terms| of each row: the scale of what float32 can promise. NaN or infinite where the loss is.
    pub terms: Vec<f64>,
    /// Σ s·l with the sample weights s.
    pub sum: f64,
    /// Σ s·l / kept rows.
    pub mean: f64,
    /// Σ s·l / Σ s·v with v the class weight of the row's label.
    pub weighted_mean: f64,
    /// Σ s·v.
    pub weight: f64,
    /// Rows that are not ignored.
    pub kept: u64,
    /// Rows whose loss is NaN or infinite.
    pub non_finite: u64,
    /// Rows whose label is the first of the largest predictions.
    pub correct: u64,
    /// How many classes score strictly above the label; `None` for an ignored row and for one with a NaN.
    pub above: Vec<Option<u64>>,
}

impl Truth {
    /// The share of kept rows that are correct; 0 when nothing is kept.
    pub fn accuracy(&self) -> f64 {
        self.share_of_kept(self.correct)
    }

    /// The share of kept rows in which fewer than `k` classes score strictly above the label; 0 when nothing is kept.
    pub fn top_k(&self, k: u64) -> f64 {
        let hits = self.above.iter().flatten().filter(|above| **above < k);
        self.share_of_kept(hits.count() as u64)
    }

    fn share_of_kept(&self, rows: u64) -> f64 {
        quotient_or_zero(rows as f64, self.kept as f64)
    }
}

impl Problem {
    /// Solves the problem.
    ///
    /// # Panics
    /// When a length does not fit `rows` and `classes`, or a label that is not ignored is no class.
    pub fn truth(&self) -> Truth {
        self.check_lengths();
        let rows: Vec<Row> = (0..self.rows).map(|row| self.row(row)).collect();
        let sample_weight = |row: usize| self.sample_weights.as_ref().map_or(1.0, |s| s[row]);
        let sum = total(rows.iter().enumerate().map(|(i, row)| sample_weight(i) * row.loss));
        let weight = total(rows.iter().enumerate().map(|(i, row)| sample_weight(i) * row.weight));
        let count = |what: fn(&Row) -> bool| rows.iter().filter(|row| what(row)).count() as u64;
        let kept = count(|row| row.kept);
        Truth {
            losses: rows.iter().map(|row| row.loss).collect(),
            terms: rows.iter().map(|row| row.terms).collect(),
            sum,
            mean: quotient_or_zero(sum, kept as f64),
            weighted_mean: quotient_or_zero(sum, weight),
            weight,
            kept,
            non_finite: count(|row| !row.loss.is_finite()),
            correct: count(|row| row.correct),
            above: rows.iter().map(|row| row.above).collect(),
        }
    }

    fn check_lengths(&self) {
        let elements = self.rows * self.classes;
        assert_eq!(self.predictions.len(), elements, "predictions");
        match &self.targets {
            Targets::Classes(labels) => assert_eq!(labels.len(), self.rows, "labels"),
            Targets::Dense(dense) => assert_eq!(dense.len(), elements, "dense targets"),
        }
        if let Some(weights) = &self.class_weights {
            assert_eq!(weights.len(), self.classes, "class weights");
        }
        if let Some(weights) = &self.sample_weights {
            assert_eq!(weights.len(), self.rows, "sample weights");
        }
    }

    fn row(&self, row: usize) -> Row {
        let span = row * self.classes..(row + 1) * self.classes;
        let x = &self.predictions[span.clone()];
        let (label, target, weight) = match &self.targets {
            Targets::Classes(labels) if Some(labels[row]) == self.ignore_index => {
                return Row::IGNORED;
            }
            Targets::Classes(labels) => {
                let label = usize::try_from(labels[row])
                    .ok()
                    .filter(|label| *label < self.classes)
                    .unwrap_or_else(|| panic!("row {row}: label {} is no class", labels[row]));
                let mut one_hot = vec![0.0; self.classes];
                one_hot[label] = 1.0;
                (Some(label), one_hot, self.class_weight(label))
            }
            Targets::Dense(dense) => {
                let target = &dense[span];
                let wide = target.iter().copied().map(f64::from).collect();
                (first_maximum(target), wide, 1.0)
            }
        };
        let above = label.and_then(|label| strictly_above(x, label));
        let first_of_equals = label.is_some_and(|label| x[..label].iter().all(|v| *v != x[label]));
        let (loss, terms) = self.loss(x, &target);
        Row { loss, terms, weight, kept: true, correct: above == Some(0) && first_of_equals, above }
    }

    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]))
    }

    /// A row's loss and the sum of its terms' sizes.
    fn loss(&self, x: &[f32], target: &[f64]) -> (f64, f64) {
        if !target.iter().all(|t| t.is_finite()) {
            return (f64::NAN, f64::NAN);
        }
        let Some(costs) = Costs::of(self.input, x, self.epsilon) else {
            return (f64::NAN, f64::NAN);
        };
        let alpha = self.label_smoothing;
        let (mut loss, mut terms) = (Exact::default(), Exact::default());
        // What is not finite adds up by the plain rules of floating point: opposite infinities are NaN.
        let mut special = 0.0;
        for (class, (t, x)) in target.iter().zip(x).enumerate() {
            let smoothed = t * (1.0 - alpha) + alpha / self.classes as f64;
            let coefficient = self.class_weight(class) * smoothed;
            // By selection: 0 · ∞ would be NaN where a masked class has to add nothing.
            if coefficient == 0.0 {
                continue;
            }
            let cost = costs.cost(*x);
            // Log-probabilities are taken as given, and so is the sign of an infinite term.
            if self.input == Input::LogProbabilities && !cost.is_finite() {
                special += coefficient * cost;
                continue;
            }
            // A class declared impossible is infinitely wrong to have any share in, even a negative one.
            if cost == f64::INFINITY {
                return (f64::INFINITY, f64::INFINITY);
            }
            loss.add(coefficient * cost);
            terms.add((coefficient * cost).abs());
        }
        if special == 0.0 { (loss.value(), terms.value()) } else { (special, special.abs()) }
    }
}

/// One row's part of a [`Truth`].
struct Row {
    loss: f64,
    terms: f64,
    weight: f64,
    kept: bool,
    correct: bool,
    above: Option<u64>,
}

impl Row {
    const IGNORED: Self = Self { loss: 0.0, terms: 0.0, weight: 0.0, kept: false, correct: false, above: None };
}

/// What −log p of a class takes besides the class's own prediction.
enum Costs {
    Probabilities { sum: Exact, smallest: f64, largest: f64 },
    Logits { maximum: f64, log_total: f64 },
    LogProbabilities,
}

impl Costs {
    /// `None` where the row as a whole has no loss: a NaN or +∞ in it, or nothing to normalise by. Log-probabilities are
    /// not normalised, so there only the entries that count can spoil a row.
    fn of(input: Input, x: &[f32], epsilon: f64) -> Option<Self> {
        let broken = x.iter().any(|x| x.is_nan() || *x == f32::INFINITY);
        match input {
            Input::LogProbabilities => Some(Self::LogProbabilities),
            _ if broken => None,
            Input::Probabilities => {
                if x.contains(&f32::NEG_INFINITY) {
                    return None;
                }
                let sum = Exact::of(x.iter().copied().map(f64::from));
                if sum.value() == 0.0 {
                    return None;
                }
                // The bounds are float32 numbers by definition; the upper one is 0.99999988 for an epsilon of 1e-7.
                let low = f64::from(epsilon as f32);
                let high = f64::from((1.0 - epsilon) as f32);
                Some(Self::Probabilities { sum, smallest: -high.ln(), largest: -low.ln() })
            }
            Input::Logits => {
                let top = first_maximum(x).filter(|top| x[*top].is_finite())?;
                let maximum = f64::from(x[top]);
                // The maximum itself stays out of the sum: its 1 would swallow the digits of a confident row's rest.
                let others = x.iter().enumerate().filter(|(class, _)| *class != top);
                let rest = Exact::of(others.map(|(_, x)| (f64::from(*x) - maximum).exp()));
                Some(Self::Logits { maximum, log_total: rest.value().ln_1p() })
            }
        }
    }

    /// −log p of a class with the prediction `x`.
    fn cost(&self, x: f32) -> f64 {
        let x = f64::from(x);
        match self {
            Self::Probabilities { sum, smallest, largest } => {
                if x / sum.value() <= 0.0 {
                    return *largest;
                }
                // −log(x/s) = log1p((s − x)/x): x/s itself would round to 1 where the others are tiny.
                let mut others = sum.clone();
                others.add(-x);
                (others.value() / x).ln_1p().clamp(*smallest, *largest)
            }
            Self::Logits { maximum, log_total } => log_total + (maximum - x),
            Self::LogProbabilities => -x,
        }
    }
}

/// A sum without rounding, as parts that do not overlap (Shewchuk 1997, "Adaptive Precision Floating-Point Arithmetic").
/// Whether a row's probabilities sum to exactly 0, and what is left of a sum without one of them, must not depend on order.
#[derive(Clone, Default)]
struct Exact {
    /// In increasing magnitude.
    parts: Vec<f64>,
}

impl Exact {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sum = Self::default();
        values.for_each(|value| sum.add(value));
        sum
    }

    fn add(&mut self, value: f64) {
        let mut carried = value;
        let mut kept = 0;
        for i in 0..self.parts.len() {
            let part = self.parts[i];
            let (large, small) = if carried.abs() < part.abs() { (part, carried) } else { (carried, part) };
            carried = large + small;
            let lost = small - (carried - large);
            if lost != 0.0 {
                self.parts[kept] = lost;
                kept += 1;
            }
        }
        self.parts.truncate(kept);
        self.parts.push(carried);
    }

    fn value(&self) -> f64 {
        self.parts.iter().rev().fold(0.0, |sum, part| sum + part)
    }
}

/// Adds up; where a value is not finite, by the plain rules of floating point, so that a NaN stays in the total.
fn total(values: impl Iterator<Item = f64> + Clone) -> f64 {
    if values.clone().all(f64::is_finite) { Exact::of(values).value() } else { values.fold(0.0, |sum, value| sum + value) }
}

/// Nothing divided by nothing is 0 here, whatever the numerator.
fn quotient_or_zero(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

/// Where the largest value stands first; `None` for an empty slice and for one with a NaN.
fn first_maximum(values: &[f32]) -> Option<usize> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}

/// How many predictions are larger than the label's, in float32 as they were given; `None` with a NaN among them.
fn strictly_above(x: &[f32], label: usize) -> Option<u64> {
    if x.iter().any(|x| x.is_nan()) {
        return None;
    }
    Some(x.iter().filter(|v| **v > x[label]).count() as u64)
}
