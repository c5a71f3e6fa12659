//! `xent explain`: one row, step by step, as a table that a person can follow or as JSON.

mod rules;
mod table;

use ndarray::{ArrayView1, ArrayView2};
use serde_json::{Map, Value, json};
use xent::{Batch, ClassStep, Explanation, Input, Loss, Targets};

use crate::args::{ExplainArgs, Format};
use crate::failure::Failure;
use crate::files::FileError;
use crate::inputs::Inputs;
use crate::report::{number, print};

pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let inputs = Inputs::open(&args.predictions, &args.targets, &args.loss)?;
    let loss = inputs.loss(&args.loss)?;
    let story = Story::of(&inputs, &loss, args.row)?;
    let shown = story.shown(args.classes.get());
    match args.format {
        Format::Json => print([as_json(&story, &shown).to_string()]),
        Format::Text => {
            let mut lines = table::lines(&story, &shown);
            let rules = rules::sentences(&story);
            if !rules.is_empty() {
                lines.push(String::new());
            }
            lines.extend(rules.iter().map(|rule| format!("- {rule}")));
            print(lines)
        }
    }
}

/// What the classes of a row go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Probabilities,
    Logits,
    LogProbabilities,
    BinaryProbabilities,
    BinaryLogits,
    KlDivergence,
}

impl Kind {
    fn of(loss: &Loss) -> Self {
        match loss {
            Loss::Categorical(loss) => match loss.input {
                Input::Logits => Self::Logits,
                Input::LogProbabilities => Self::LogProbabilities,
                _ => Self::Probabilities,
            },
            Loss::Binary(loss) if loss.input == Input::Logits => Self::BinaryLogits,
            Loss::Binary(_) => Self::BinaryProbabilities,
            _ => Self::KlDivergence,
        }
    }
    /// The row is made to sum to 1.
    fn is_normalised(self) -> bool {
        matches!(self, Self::Probabilities | Self::Logits)
    }
}

/// A row and how it comes to its loss.
pub(crate) struct Story<'a> {
    row: usize,
    loss: &'a Loss,
    kind: Kind,
    /// The label; an ignored row's is no class.
    pub label: Option<usize>,
    /// The class index as the file has it; nothing for dense targets.
    index: Option<i64>,
    why: Explanation,
}

impl<'a> Story<'a> {
    /// Reads the row, and of the files nothing else.
    pub(crate) fn of(inputs: &Inputs, loss: &'a Loss, row: usize) -> Result<Self, Failure> {
        let name = inputs.predictions.name();
        if row >= inputs.rows {
            let problem = format!("there are {} rows, counted from 0", inputs.rows);
            return Err(FileError::at_row(name, row, problem).into());
        }
        let (mut predictions, mut dense, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        inputs.predictions.read_rows_f32(inputs.axis, row..row + 1, &mut predictions)?;
        if inputs.dense {
            inputs.targets.read_rows_f32(inputs.axis, row..row + 1, &mut dense)?;
        } else {
            inputs.targets.read_labels(row..row + 1, inputs.classes, &mut labels)?;
        }
        let index = labels.first().copied();
        if let Some(index) = index
            && ignore_index(loss) != Some(index)
        {
            inputs.class_of(index, row)?;
        }
        let matrix = |values: &'_ [f32]| {
            ArrayView2::from_shape((1, inputs.classes), values)
                .map(|view| view.to_owned())
                .map_err(|error| Failure::Data(format!("{name}: {error}")))
        };
        let (values, targets) = (matrix(&predictions)?, if inputs.dense { matrix(&dense)? } else { matrix(&predictions)? });
        let targets = if inputs.dense { Targets::dense(targets.view()) } else { Targets::classes(ArrayView1::from(&labels)) };
        let why = xent::explain(loss, &Batch::new(values.view(), targets)?, 0)?;
        Ok(Self { row, loss, kind: Kind::of(loss), label: why.label, index, why })
    }

    /// The probability of a class, before clipping.
    pub(crate) fn probability(&self, class: usize) -> f64 {
        let step = &self.why.steps[class];
        match self.kind {
            // As float32 most of them may be 0.
            Kind::LogProbabilities => f64::from(step.log).exp(),
            _ => step.probability.into(),
        }
    }

    /// The most probable class, the first of several; nothing where one has no probability.
    pub(crate) fn top(&self) -> Option<usize> {
        let all: Vec<f64> = (0..self.why.steps.len()).map(|class| self.probability(class)).collect();
        let known = !all.iter().any(|p| p.is_nan());
        (0..all.len()).rev().max_by(|&a, &b| all[a].total_cmp(&all[b])).filter(|_| known)
    }

    /// The classes to show, in order: all, or the most probable ones first and always the label.
    fn shown(&self, most: usize) -> Vec<usize> {
        let steps = &self.why.steps;
        if steps.len() <= most {
            return (0..steps.len()).collect();
        }
        // A sigmoid may be the same number of many logits.
        let known = self.kind.is_normalised() && steps.iter().all(|step| step.probability.is_finite());
        // What is no number has to show, whatever its sign.
        let rank = |class: usize| {
            let value = if known { steps[class].probability } else { steps[class].given };
            if value.is_nan() { f32::INFINITY } else { value }
        };
        let mut classes: Vec<usize> = (0..steps.len()).collect();
        classes.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
        if let Some(label) = self.label
            && let Some(last) = classes.get_mut(most - 1..)
            && last.contains(&label)
        {
            last[0] = label;
        }
        classes.truncate(most);
        classes
    }

    /// What the classes that are not shown add to the loss, before the mean over classes.
    fn left_out(&self, shown: &[usize]) -> f64 {
        let mut is_shown = vec![false; self.why.steps.len()];
        for &class in shown {
            is_shown[class] = true;
        }
        let hidden = self.why.steps.iter().filter(|step| !is_shown[step.class]);
        hidden.fold(0.0, |sum, step| sum + f64::from(step.term))
    }
}

fn ignore_index(loss: &Loss) -> Option<i64> {
    match loss {
        Loss::Categorical(loss) => loss.ignore_index,
        _ => None,
    }
}

fn as_json(story: &Story<'_>, shown: &[usize]) -> Value {
    let why = &story.why;
    let classes: Vec<Value> = shown.iter().map(|&class| step_as_json(&why.steps[class], story.kind)).collect();
    json!({
        "row": story.row,
        "loss": number(why.loss.into()),
        "label": story.label,
        "ignored": why.ignored,
        "normaliser": why.normaliser.map(number),
        "extra": number(why.extra),
        "share": number(why.share.into()),
        "classes": classes,
        "left_out": why.steps.len() - shown.len(),
        "rules": rules::sentences(story),
    })
}

/// A class, without the fields that make no sense for its kind.
fn step_as_json(step: &ClassStep, kind: Kind) -> Value {
    let of = |value: f32| Some(number(value.into()));
    let when = |is_so: bool, value: f32| if is_so { of(value) } else { None };
    let has_probability = kind.is_normalised() || kind == Kind::BinaryLogits;
    let clips = !matches!(kind, Kind::LogProbabilities | Kind::BinaryLogits);
    let fields = [
        ("class", Some(step.class.into())),
        ("given", of(step.given)),
        ("moved", of(step.moved)),
        ("probability", when(has_probability, step.probability)),
        ("clipped", when(clips, step.clipped)),
        ("is_clipped", Some(step.is_clipped.into())),
        ("log", of(step.log)),
        ("log_rest", step.log_rest.and_then(of)),
        ("target", of(step.target)),
        ("clipped_target", when(kind == Kind::KlDivergence, step.clipped_target)),
        ("coefficient", of(step.coefficient)),
        ("term", of(step.term)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}
