//! A page about an evaluation, for people: HTML that needs nothing but itself.

mod charts;
mod spread;
mod worst;

use std::fmt::{Display, Write};
use std::path::Path;

use xent::{Loss, Totals};

use super::Files;
use crate::explain::Story;
use crate::failure::Failure;
use crate::figures::{brief, figure};
use crate::files::{FileError, WholeFile, shape_text};
use crate::loss::described;
use crate::report::{Facts, numbers};
use spread::Spread;
use worst::Worst;

/// The page to be, and what of the rows goes on it.
pub(super) struct Page {
    file: WholeFile,
    spread: Spread,
    worst: Worst,
}

impl Page {
    pub(super) fn create(path: &Path) -> Result<Self, FileError> {
        Ok(Self { file: WholeFile::create(path)?, spread: Spread::new(), worst: Worst::default() })
    }

    /// Takes in the losses of the rows from `first` on.
    pub(super) fn add(&mut self, first: usize, losses: &[f32]) {
        for (row, &loss) in (first as u64..).zip(losses) {
            self.spread.add(loss);
            self.worst.add(row, loss);
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// A file system that is full or fails; the worst rows cannot be read again.
    pub(super) fn fill(self, facts: &Facts<'_>, files: &Files, loss: &Loss) -> Result<WholeFile, Failure> {
        let Self { mut file, mut spread, worst } = self;
        let totals = &facts.evaluation.totals;
        spread.without(totals.rows - totals.kept);
        let undrawn = |why| Failure::Data(format!("the report's charts cannot be drawn: {why}"));
        let inputs = &files.inputs;
        let [predictions, targets] = [&inputs.predictions, &inputs.targets].map(|source| Text(source.name()));
        let shape = shape_text(inputs.predictions.shape());

        let mut html = vec![
            format!("{HEAD}<title>xent: {predictions}</title>\n</head>\n<body>\n<h1>{}</h1>", Text(&described(loss))),
            format!("<p><code>{predictions}</code> {shape} against <code>{targets}</code></p>"),
        ];
        html.extend(facts.warnings().iter().map(|warning| format!("<p class=\"warning\">{}</p>", Text(warning))));
        html.push("<table>".into());
        let row = |(name, value): &(String, String)| format!("<tr><th>{}</th><td>{}</td></tr>", Text(name), Text(value));
        html.extend(numbers(facts).iter().map(row));
        html.push(format!("</table>\n<h2>Losses</h2>\n<p>{}</p>", in_words(&spread, totals)));
        html.extend(charts::losses(&spread).map_err(undrawn)?);
        html.extend(worst_rows(worst.rows(), files, loss)?);
        if let Some(calibration) = totals.calibration.as_ref().filter(|_| totals.kept > 0) {
            let bins = calibration.bins.len();
            html.push(format!(
                "<h2>Calibration</h2>\n<p>How often the most probable class is the label, over how probable it is, in {bins} bins. On \
                 the line the model is as sure as it is right.</p>"
            ));
            html.push(charts::calibration(calibration).map_err(undrawn)?);
        }
        html.push("</body>\n</html>\n".into());
        file.fill(html.join("\n").as_bytes())?;
        Ok(file)
    }
}

/// How the losses are spread.
fn in_words(spread: &Spread, totals: &Totals) -> String {
    let words = if spread.count() == 0 {
        "No row has a loss.".into()
    } else {
        let [half, most, nearly] = [0.5, 0.9, 0.99].map(|share| brief(spread.quantile(share)));
        format!(
            "Of the rows that have a loss half cost at most {half}, nine in ten at most {most}, 99 in 100 at most {nearly}."
        )
    };
    let facts = [
        (totals.rows - totals.kept, "ignored"),
        (totals.non_finite, "without a finite loss"),
        (spread.negative, "below 0"),
        (spread.zeros, "exactly 0"),
    ];
    let facts = facts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    let facts = facts.collect::<Vec<_>>().join(", ");
    if facts.is_empty() { words } else { format!("{words} Not drawn: {facts}.") }
}

/// The rows that cost most, with their labels and what was predicted instead, where there is a label.
fn worst_rows(rows: Vec<(u64, f32)>, files: &Files, loss: &Loss) -> Result<Vec<String>, Failure> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let has_labels = matches!(loss, Loss::Categorical(_));
    let labels =
        if has_labels { "<th>label</th><th>its probability</th><th>most probable</th><th>its probability</th>" } else { "" };
    let head = format!("<table class=\"rows\">\n<tr><th>row</th><th>loss</th>{labels}</tr>");
    let mut html = vec!["<h2>Rows that cost most</h2>".into(), head];
    for (row, cost) in rows {
        let mut cells = vec![row.to_string(), figure(f64::from(cost))];
        if has_labels {
            let story = Story::of(&files.inputs, loss, row as usize)?;
            for class in [story.label, story.top()] {
                cells.push(class.map_or_else(String::new, |class| class.to_string()));
                cells.push(class.map_or_else(String::new, |class| figure(story.probability(class))));
            }
        }
        html.push(format!("<tr><td>{}</td></tr>", cells.join("</td><td>")));
    }
    let how = "<code>xent explain</code> with the same options and <code>--row</code> shows how each comes about.";
    html.push(format!("</table>\n<p>{how}</p>"));
    Ok(html)
}

/// Text in which nothing is markup.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            other => f.write_char(other),
        })
    }
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<style>
body { font: 16px/1.5 sans-serif; max-width: 44em; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
h1 { font-size: 1.4em }
h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse }
th, td { text-align: left; padding: .15em 1.2em .15em 0; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums }
.rows td { text-align: right }
.warning { background: #fff3d6; padding: .4em .8em }
svg { max-width: 100%; height: auto }
</style>
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_markup() {
        assert_eq!(Text("<a href=\"x\">&").to_string(), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
