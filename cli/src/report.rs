//! Results as text for people or as JSON for programs.

use std::io::{ErrorKind, Write};

use serde_json::{Map, Value, json};
use xent::{Backend, Evaluation};

use crate::args::{Format, Reduction};
use crate::failure::Failure;

/// Prints lines, which are the program's results. A reader who left has what they wanted; a full disk has not.
///
/// # Errors
/// Where the lines cannot be written.
pub(crate) fn print(lines: impl IntoIterator<Item = String>) -> Result<(), Failure> {
    let mut to = std::io::stdout().lock();
    match lines.into_iter().try_for_each(|line| writeln!(to, "{line}")).and_then(|()| to.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Data(format!("standard output: {error}"))),
        _ => Ok(()),
    }
}

/// Says something on standard error, whoever listens.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// What there is to report of an evaluation.
pub(crate) struct Facts<'a> {
    pub evaluation: &'a Evaluation,
    pub reduction: Reduction,
    pub classes: usize,
    pub seconds: f64,
    pub bytes: u64,
    pub format: Format,
}

impl Facts<'_> {
    /// What the user should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let totals = &self.evaluation.totals;
        let mut warnings = self.evaluation.warnings.clone();
        if totals.kept == 0 {
            let why = if totals.rows == 0 { "there are none" } else { "all are ignored" };
            warnings.push(format!("no row counts ({why}): the loss is 0 by definition"));
        } else if totals.weight == 0.0 && totals.reduced(self.reduction.into()) == 0.0 {
            warnings.push("the weights add up to 0, and so the loss is 0".into());
        }
        if totals.non_finite > 0 {
            warnings.push(format!("the loss of {} rows is not finite", totals.non_finite));
        }
        warnings
    }
}

/// Prints an evaluation.
pub(crate) fn evaluation(facts: &Facts<'_>) -> Result<(), Failure> {
    match facts.format {
        Format::Json => print([as_json(facts).to_string()]),
        Format::Text => {
            for warning in facts.warnings() {
                say(&format!("warning: {warning}"));
            }
            print(as_text(facts))
        }
    }
}

/// A number, or the string that stands for one that JSON has not.
pub(crate) fn number(value: f64) -> Value {
    if value.is_nan() {
        "nan".into()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".into() } else { "-inf".into() }
    } else {
        value.into()
    }
}

fn as_json(facts: &Facts<'_>) -> Value {
    let totals = &facts.evaluation.totals;
    let mut object = Map::new();
    object.insert("loss".into(), number(totals.reduced(facts.reduction.into())));
    object.insert("reduction".into(), facts.reduction.name().into());
    object.insert("rows".into(), totals.rows.into());
    object.insert("kept".into(), totals.kept.into());
    object.insert("weight".into(), number(totals.weight));
    object.insert("classes".into(), facts.classes.into());
    object.insert("non_finite".into(), totals.non_finite.into());
    if let Some(accuracy) = totals.accuracy() {
        object.insert("accuracy".into(), number(accuracy));
    }
    if !totals.top_k.is_empty() {
        let top_k: Map<_, _> = top_k(facts).map(|(k, share)| (k.to_string(), number(share))).collect();
        object.insert("top_k".into(), top_k.into());
    }
    for (name, value) in metrics(facts) {
        object.insert(name.into(), number(value));
    }
    let backend = match &facts.evaluation.backend {
        Backend::Gpu { adapter, driver } => json!({ "kind": "gpu", "adapter": adapter, "driver": driver }),
        _ => json!({ "kind": "cpu" }),
    };
    object.insert("backend".into(), backend);
    object.insert("seconds".into(), facts.seconds.into());
    object.insert("bytes".into(), facts.bytes.into());
    object.insert("warnings".into(), facts.warnings().into());
    object.into()
}

/// The metrics of probabilities, as far as they make sense for the input.
fn metrics(facts: &Facts<'_>) -> impl Iterator<Item = (&'static str, f64)> {
    let totals = &facts.evaluation.totals;
    let all = [
        ("perplexity", totals.perplexity()),
        ("entropy", totals.entropy()),
        ("ece", totals.expected_calibration_error()),
        ("mce", totals.maximum_calibration_error()),
        ("brier", totals.brier()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?)))
}

fn top_k(facts: &Facts<'_>) -> impl Iterator<Item = (u32, f64)> {
    let totals = &facts.evaluation.totals;
    totals.top_k.iter().filter_map(|&(k, _)| Some((k, totals.top_k_accuracy(k)?)))
}

/// Four places, or four digits where four places would be zeros.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.3e}") } else { format!("{value:.4}") }
}

fn as_text(facts: &Facts<'_>) -> Vec<String> {
    numbers(facts).into_iter().map(|(name, value)| format!("{name:<12}{value}")).collect()
}

/// Names and values, for people.
pub(crate) fn numbers(facts: &Facts<'_>) -> Vec<(String, String)> {
    let totals = &facts.evaluation.totals;
    let mut rows =
        vec![("loss".into(), format!("{} ({})", short(totals.reduced(facts.reduction.into())), facts.reduction.name()))];
    if let Some(accuracy) = totals.accuracy() {
        rows.push(("accuracy".into(), short(accuracy)));
    }
    rows.extend(top_k(facts).map(|(k, share)| (format!("top-{k}"), short(share))));
    rows.extend(metrics(facts).map(|(name, value)| (name.into(), short(value))));
    let ignored = totals.rows - totals.kept;
    let ignored = if ignored == 0 { String::new() } else { format!(", {ignored} of them ignored") };
    rows.push(("rows".into(), format!("{} of {} classes{ignored}", totals.rows, facts.classes)));
    rows.push((
        "backend".into(),
        match &facts.evaluation.backend {
            Backend::Gpu { adapter, driver } => format!("gpu: {adapter}, {driver}"),
            _ => "cpu".into(),
        },
    ));
    let rate = facts.bytes as f64 / facts.seconds.max(1e-9) / 1e9;
    rows.push(("time".into(), format!("{:.3} s, {rate:.2} GB/s", facts.seconds)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_keep_their_digits() {
        assert_eq!(short(0.083_825), "0.0838");
        assert_eq!(short(1.192e-7), "1.192e-7");
        assert_eq!(short(0.0), "0.0000");
        assert_eq!(short(f64::NAN), "NaN");
    }

    #[test]
    fn json_has_words_for_what_is_no_number() {
        assert_eq!(number(f64::NAN), "nan");
        assert_eq!(number(f64::INFINITY), "inf");
        assert_eq!(number(f64::NEG_INFINITY), "-inf");
        assert_eq!(number(0.5), 0.5);
    }
}
