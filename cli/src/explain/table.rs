//! The table: a line a class, a column a step.

use xent::{ClassStep, Loss};

use super::rules::sums_to_one;
use super::{Kind, Story};
use crate::figures::{brief, figure};

/// A column: its heading, its cells, and what stands below them.
struct Column {
    heading: String,
    cells: Vec<String>,
    sum: String,
}

/// The table's lines: a title, the classes, the sum.
pub(super) fn lines(story: &Story<'_>, shown: &[usize]) -> Vec<String> {
    let steps: Vec<&ClassStep> = shown.iter().map(|&class| &story.why.steps[class]).collect();
    let mut columns = vec![Column {
        heading: "class".into(),
        cells: steps.iter().map(|step| step.class.to_string()).collect(),
        sum: "sum".into(),
    }];
    columns.extend(columns_of(story, &steps));

    let mut lines = vec![title(story), String::new()];
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let row = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, &width)| {
            let text = cell(column);
            format!("{}{text}", " ".repeat(width - text.chars().count()))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.push(row(&|column| column.heading.clone()));
    for (i, step) in steps.iter().enumerate() {
        let mark = if story.label == Some(step.class) { "  <- label" } else { "" };
        lines.push(row(&|column| column.cells[i].clone()) + mark);
    }
    let hidden = story.why.steps.len() - shown.len();
    if hidden > 0 {
        let added = brief(story.left_out(shown));
        lines.push(format!("({hidden} more classes are left out; their terms add up to {added})"));
    }
    lines.push(row(&|column| column.sum.clone()));
    lines.extend(after_the_sum(story, widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
    lines
}

impl Column {
    fn of(heading: impl Into<String>, steps: &[&ClassStep], value: impl Fn(&ClassStep) -> f64) -> Self {
        let cells = steps.iter().map(|step| figure(value(step))).collect();
        Self { heading: heading.into(), cells, sum: String::new() }
    }

    fn with_sum(self, sum: f64) -> Self {
        Self { sum: figure(sum), ..self }
    }

    fn width(&self) -> usize {
        let texts = self.cells.iter().chain([&self.heading, &self.sum]);
        texts.map(|text| text.chars().count()).max().unwrap_or_default()
    }
}

fn title(story: &Story<'_>) -> String {
    let what = match (story.label, story.why.ignored, story.index) {
        (_, true, Some(index)) => format!(", ignored (label {index})"),
        (Some(label), ..) => format!(", label {label}"),
        _ => String::new(),
    };
    format!("row {}{what}: loss {}", story.row, figure(story.why.loss.into()))
}

/// The steps of this kind of predictions. Steps that change nothing in this row have no column.
fn columns_of(story: &Story<'_>, steps: &[&ClassStep]) -> Vec<Column> {
    let all = &story.why.steps;
    let mut columns = vec![Column::of("given", steps, |step| step.given.into())];
    match story.kind {
        Kind::Probabilities => {
            let total = story.why.normaliser.unwrap_or(f64::NAN);
            columns[0].sum = figure(total);
            let heading = if sums_to_one(total) { "÷ sum".into() } else { format!("÷ {}", brief(total)) };
            columns.push(Column::of(heading, steps, |step| step.probability.into()));
        }
        Kind::Logits => {
            if is_moved(story.loss) {
                columns.push(Column::of("moved", steps, |step| step.moved.into()));
            }
            let top = all.iter().map(|step| f64::from(step.moved)).fold(f64::NEG_INFINITY, f64::max);
            let shifted = |step: &ClassStep| f64::from(step.moved) - top;
            let total = all.iter().fold(0.0, |sum, step| sum + shifted(step).exp());
            columns.push(Column::of("− max", steps, shifted));
            columns.push(Column::of("exp", steps, |step| shifted(step).exp()).with_sum(total));
            columns.push(Column::of("softmax", steps, |step| step.probability.into()));
        }
        Kind::BinaryLogits => columns.push(Column::of("sigmoid", steps, |step| step.probability.into())),
        Kind::LogProbabilities | Kind::BinaryProbabilities | Kind::KlDivergence => {}
    }
    if steps.iter().any(|step| step.is_clipped) {
        columns.push(Column::of("clipped", steps, |step| step.clipped.into()));
    }
    if story.kind.is_normalised() {
        columns.push(Column::of("log", steps, |step| step.log.into()));
    }
    columns.push(Column::of("target", steps, |step| step.target.into()));
    let weighted = !story.why.ignored && all.iter().any(|step| step.coefficient != step.target);
    if weighted {
        columns.push(Column::of("coefficient", steps, |step| step.coefficient.into()));
    }
    let terms = all.iter().fold(0.0, |sum, step| sum + f64::from(step.term));
    // The loss has the last word where it is the sum and nothing else: a row may be undefined as a whole.
    let terms = if is_sum(story) { story.why.loss.into() } else { terms };
    columns.push(Column::of(term_heading(story, weighted), steps, |step| step.term.into()).with_sum(terms));
    columns
}

fn term_heading(story: &Story<'_>, weighted: bool) -> &'static str {
    match story.loss {
        Loss::Categorical(loss) if loss.focal.is_none() && loss.poly_epsilon.is_none() => {
            let factor = if weighted {
                ["−coefficient × log", "−coefficient × given"]
            } else {
                ["−target × log", "−target × given"]
            };
            factor[usize::from(story.kind == Kind::LogProbabilities)]
        }
        _ => "term",
    }
}

fn is_moved(loss: &Loss) -> bool {
    matches!(loss, Loss::Categorical(loss) if loss.temperature != 1.0 || loss.softcap.is_some())
}

/// The loss is the sum of the terms and nothing else.
fn is_sum(story: &Story<'_>) -> bool {
    story.why.share == 1.0 && story.why.extra == 0.0
}

/// From the sum to the loss, below the last column.
fn after_the_sum(story: &Story<'_>, width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    if story.why.share != 1.0 {
        rows.push((format!("÷ {} classes", story.why.steps.len()), String::new()));
    }
    if story.why.extra != 0.0 {
        rows.push(("+ z-loss".into(), figure(story.why.extra)));
    }
    rows.push(("loss".to_owned(), figure(story.why.loss.into())));
    let fill = |name: &str, value: &str| " ".repeat(width.saturating_sub(name.chars().count() + value.chars().count()));
    rows.iter().map(|(name, value)| format!("{name}{}{value}", fill(name, value)).trim_end().to_owned()).collect()
}
