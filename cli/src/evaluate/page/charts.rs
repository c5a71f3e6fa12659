//! The page's charts, as SVG.

use plotters::prelude::*;
use xent::Calibration;

use super::spread::Spread;

/// Pixels of a chart.
const SIZE: (u32, u32) = (640, 280);
/// The most bars that losses are drawn as.
const BARS: usize = 48;
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);

type Trouble = Box<dyn std::error::Error>;

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// Rows over their losses, as far as these are above 0; nothing where none are.
pub(super) fn losses(spread: &Spread) -> Result<Option<String>, Trouble> {
    let Some(range) = spread.positive() else { return Ok(None) };
    let bars = spread.bars(range, BARS);
    let most = bars.iter().copied().max().unwrap_or(0) as f64;
    let (first, step) = (range.0.ln(), (range.1 / range.0).ln() / BARS as f64);
    let edge = |bar: usize| (first + step * bar as f64).exp();
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut context = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d((range.0..range.1).log_scale(), 0.0..most * 1.05)?;
        context
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("loss")
            .y_desc("rows")
            .x_labels(8)
            .y_labels(5)
            .x_label_formatter(&|loss| short(*loss))
            .y_label_formatter(&|rows| format!("{rows:.0}"))
            .label_style(font(12))
            .axis_desc_style(font(13))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(BLACK.mix(0.0))
            .draw()?;
        let filled = bars.iter().enumerate().filter(|(_, rows)| **rows > 0);
        context.draw_series(
            filled.map(|(bar, &rows)| Rectangle::new([(edge(bar), 0.0), (edge(bar + 1), rows as f64)], BLUE.filled())),
        )?;
        root.present()?;
    }
    Ok(Some(svg))
}

/// The share of rows that are right over how sure the model is of them, a bar for each bin that has rows; on the diagonal it is
/// as sure as it is right.
pub(super) fn calibration(calibration: &Calibration) -> Result<String, Trouble> {
    let width = 1.0 / calibration.bins.len().max(1) as f64;
    let filled = || calibration.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut context = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        context
            .configure_mesh()
            .disable_x_mesh()
            .x_desc("confidence: probability of the most probable class")
            .y_desc("accuracy")
            .x_labels(11)
            .y_labels(6)
            .x_label_formatter(&|share| format!("{share:.1}"))
            .y_label_formatter(&|share| format!("{share:.1}"))
            .label_style(font(12))
            .axis_desc_style(font(13))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(BLACK.mix(0.0))
            .draw()?;
        context.draw_series(filled().map(|(i, bin)| {
            let (start, accuracy) = (width * i as f64, bin.correct as f64 / bin.rows as f64);
            Rectangle::new([(start, 0.0), (start + width, accuracy)], BLUE.mix(0.6).filled())
        }))?;
        context.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLACK.mix(0.4)))?;
        // A bin's mean confidence is somewhere within it.
        let points = filled().filter(|(_, bin)| bin.confidence.is_finite());
        context.draw_series(points.map(|(_, bin)| {
            let rows = bin.rows as f64;
            Circle::new((bin.confidence / rows, bin.correct as f64 / rows), 3, ORANGE.filled())
        }))?;
        root.present()?;
    }
    Ok(svg)
}

/// A label of an axis: of three digits those that it takes.
fn short(loss: f64) -> String {
    let loss = format!("{loss:.2e}").parse().unwrap_or(loss);
    if (1e-3..1e4).contains(&loss) { format!("{loss}") } else { format!("{loss:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!([9.999_999_999_999_999e-6, 0.01, 1.0, 20_000.0].map(short), ["1e-5", "0.01", "1", "2e4"]);
    }
}
