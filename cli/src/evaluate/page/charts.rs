//! The page's charts, as SVG.

use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use xent::Calibration;

use super::spread::Spread;
use crate::drawing::{COLOURS, font};
use crate::figures::brief;

/// Pixels of a chart.
const SIZE: (u32, u32) = (640, 280);
/// The most bars that losses are drawn as.
const BARS: usize = 48;
const BARS_COLOUR: RGBColor = COLOURS[0];
const POINTS_COLOUR: RGBColor = COLOURS[1];

type Trouble = Box<dyn std::error::Error>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An axis: what is on it, from where to where, and what its numbers are called.
struct Axis<'a> {
    name: &'a str,
    range: Range<f64>,
    label: &'a dyn Fn(&f64) -> String,
}

/// A chart with these axes, and on it what `draw` draws.
fn chart(x: &Axis<'_>, y: &Axis<'_>, draw: impl FnOnce(&mut Chart<'_, '_>) -> Result<(), Trouble>) -> Result<String, Trouble> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut context = ChartBuilder::on(&root)
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(x.range.clone(), y.range.clone())?;
        context
            .configure_mesh()
            .disable_x_mesh()
            .x_desc(x.name)
            .y_desc(y.name)
            .x_labels(11)
            .y_labels(6)
            .x_label_formatter(x.label)
            .y_label_formatter(y.label)
            .label_style(font(12))
            .axis_desc_style(font(13))
            .bold_line_style(BLACK.mix(0.15))
            .light_line_style(BLACK.mix(0.0))
            .draw()?;
        draw(&mut context)?;
        root.present()?;
    }
    Ok(svg)
}

/// Rows over their losses, as far as these are above 0, on a logarithmic scale; nothing where none are.
pub(super) fn losses(spread: &Spread) -> Result<Option<String>, Trouble> {
    let Some(range) = spread.positive() else { return Ok(None) };
    let bars = spread.bars(range, BARS);
    let most = bars.iter().copied().max().unwrap_or(0) as f64;
    let (first, last) = (range.0.log10(), range.1.log10());
    let edge = |bar: usize| first + (last - first) / BARS as f64 * bar as f64;
    let x = Axis { name: "loss", range: first..last, label: &|power| of_ten(*power) };
    let y = Axis { name: "rows", range: 0.0..most * 1.05, label: &|rows| whole(*rows) };
    let drawn = chart(&x, &y, |context| {
        let filled = bars.iter().enumerate().filter(|(_, rows)| **rows > 0);
        context.draw_series(
            filled.map(|(bar, &rows)| Rectangle::new([(edge(bar), 0.0), (edge(bar + 1), rows as f64)], BARS_COLOUR.filled())),
        )?;
        Ok(())
    });
    drawn.map(Some)
}

/// The share of rows that are right over how sure the model is of them, a bar for each bin that has rows; on the diagonal it is
/// as sure as it is right.
pub(super) fn calibration(calibration: &Calibration) -> Result<String, Trouble> {
    let width = 1.0 / calibration.bins.len().max(1) as f64;
    let filled = || calibration.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0);
    let share = |share: &f64| format!("{share:.1}");
    let x = Axis { name: "confidence: probability of the most probable class", range: 0.0..1.0, label: &share };
    let y = Axis { name: "accuracy", range: 0.0..1.0, label: &share };
    chart(&x, &y, |context| {
        context.draw_series(filled().map(|(i, bin)| {
            let (start, accuracy) = (width * i as f64, bin.correct as f64 / bin.rows as f64);
            Rectangle::new([(start, 0.0), (start + width, accuracy)], BARS_COLOUR.mix(0.6).filled())
        }))?;
        context.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLACK.mix(0.4)))?;
        // A bin's mean confidence is somewhere within it.
        let points = filled().filter(|(_, bin)| bin.confidence.is_finite());
        context.draw_series(points.map(|(_, bin)| {
            let rows = bin.rows as f64;
            Circle::new((bin.confidence / rows, bin.correct as f64 / rows), 3, POINTS_COLOUR.filled())
        }))?;
        Ok(())
    })
}

/// A power of ten in no more than three digits.
fn of_ten(power: f64) -> String {
    let value = 10.0_f64.powf(power);
    brief(format!("{value:.2e}").parse().unwrap_or(value))
}

/// A number of rows: there are none between two of them.
fn whole(rows: f64) -> String {
    if rows.fract() == 0.0 { format!("{rows}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short() {
        assert_eq!([-5.0, -2.0, -0.5, 0.0, 4.0].map(of_ten), ["1e-5", "0.01", "0.316", "1", "10000"]);
        assert_eq!([0.0, 0.5, 20.0].map(whole), ["0", "", "20"]);
    }

    #[test]
    fn losses_that_are_all_alike_have_an_axis() {
        let mut spread = Spread::new();
        assert!(losses(&spread).expect("it is drawn").is_none());
        (0..1000).for_each(|_| spread.add(0.7));
        let svg = losses(&spread).expect("it is drawn").expect("there are some");
        let texts: Vec<&str> =
            svg.split("<text").skip(1).filter_map(|text| text.split_once('>')).map(|(_, text)| text).collect();
        let of_losses =
            texts.iter().filter(|text| text.trim_start().starts_with("0.69") || text.trim_start().starts_with("0.7"));
        assert!(of_losses.count() >= 2, "{texts:?}");
    }
}
