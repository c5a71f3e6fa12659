//! The definition of the losses and metrics, written for clarity in float64 and without any code of the library.
//!
//! A row's loss is `Σ w_c · t'_c · cost_c`, where `cost_c` is −log of the probability of class `c`, `t'` the smoothed
//! target and `w` the class weights. Only `cost_c` depends on the kind of input; each kind has its formula in `costs`,
//! what other losses make of it stands in `losses`, and gradients are differences of these losses.

#[path = "oracle/beliefs.rs"]
mod beliefs;
#[path = "oracle/costs.rs"]
mod costs;
#[path = "oracle/differences.rs"]
mod differences;
#[path = "oracle/exact.rs"]
mod exact;
#[path = "oracle/losses.rs"]
mod losses;

pub use beliefs::Belief;
#[allow(unused_imports, reason = "not everyone who includes this file asks for gradients")]
pub use differences::Of;
use exact::Exact;

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
    /// The loss itself, and what may be added to it.
    pub extra: Extra,
}

/// Which loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Kind {
    /// Categorical cross-entropy.
    #[default]
    Categorical,
    /// Binary cross-entropy of each class, averaged over the classes.
    Binary,
    /// Kullback-Leibler divergence.
    KlDivergence,
}

/// What a plain categorical cross-entropy does without.
#[derive(Clone, Debug, PartialEq)]
pub struct Extra {
    /// Which loss.
    pub kind: Kind,
    /// Each term is multiplied with α·(1 − p)^γ; γ, then α.
    pub focal: Option<(f64, f64)>,
    /// Each term gains so much times 1 − p.
    pub poly_epsilon: Option<f64>,
    /// A row gains so much times the square of its logsumexp.
    pub z_loss: f64,
    /// Logits are divided by it first.
    pub temperature: f64,
    /// Logits x then become softcap·tanh(x / softcap).
    pub softcap: Option<f64>,
}

impl Default for Extra {
    fn default() -> Self {
        Self { kind: Kind::Categorical, focal: None, poly_epsilon: None, z_loss: 0.0, temperature: 1.0, softcap: None }
    }
}

impl Extra {
    /// Temperature or softcap move the logits.
    pub fn moves(&self) -> bool {
        self.temperature != 1.0 || self.softcap.is_some()
    }
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
    /// log Σ e^x of each row after temperature and softcap, ignored ones too. Means something for logits alone.
    pub logsumexp: Vec<f64>,
    /// What calibration errors and their like come from: the kept rows', and whether each is correct.
    pub beliefs: Vec<(Belief, bool)>,
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
    /// Whether targets are numbers for each class, not class indices.
    pub fn is_dense(&self) -> bool {
        matches!(self.targets, Targets::Dense(_))
    }

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
            logsumexp: rows.iter().map(|row| row.logsumexp).collect(),
            beliefs: rows.iter().filter(|row| row.kept).map(|row| (row.belief, row.correct)).collect(),
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

    /// Some row's label, targets and class weight; `None` for an ignored row.
    fn target(&self, row: usize) -> Option<(Option<usize>, Vec<f64>, f64)> {
        match &self.targets {
            Targets::Classes(labels) if Some(labels[row]) == self.ignore_index => None,
            Targets::Classes(labels) => {
                let label = usize::try_from(labels[row])
                    .ok()
                    .filter(|label| *label < self.classes)
                    .unwrap_or_else(|| panic!("row {row}: label {} is no class", labels[row]));
                let mut one_hot = vec![0.0; self.classes];
                one_hot[label] = 1.0;
                Some((Some(label), one_hot, self.class_weight(label)))
            }
            Targets::Dense(dense) => {
                let target = &dense[row * self.classes..(row + 1) * self.classes];
                Some((first_maximum(target), target.iter().copied().map(f64::from).collect(), 1.0))
            }
        }
    }

    fn row(&self, row: usize) -> Row {
        let x = &self.predictions[row * self.classes..(row + 1) * self.classes];
        let wide: Vec<f64> = x.iter().copied().map(f64::from).collect();
        let logsumexp = self.logsumexp(&wide);
        let Some((label, target, weight)) = self.target(row) else { return Row { logsumexp, ..Row::IGNORED } };
        let above = label.and_then(|label| strictly_above(x, label));
        let first_of_equals = label.is_some_and(|label| x[..label].iter().all(|v| *v != x[label]));
        let (loss, terms) = self.loss(&wide, &target);
        Row {
            loss,
            terms,
            weight,
            kept: true,
            correct: above == Some(0) && first_of_equals,
            above,
            logsumexp,
            belief: self.belief(&wide, &target, label),
        }
    }

    fn class_weight(&self, class: usize) -> f64 {
        self.class_weights.as_ref().map_or(1.0, |weights| f64::from(weights[class]))
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
    logsumexp: f64,
    belief: Belief,
}

impl Row {
    const IGNORED: Self = Self {
        loss: 0.0,
        terms: 0.0,
        weight: 0.0,
        kept: false,
        correct: false,
        above: None,
        logsumexp: 0.0,
        belief: Belief::NONE,
    };
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
fn first_maximum<T: Copy + PartialOrd>(values: &[T]) -> Option<usize> {
    if values.iter().any(|value| value.partial_cmp(value).is_none()) {
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
