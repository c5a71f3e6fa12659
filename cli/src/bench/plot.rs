//! The fraction of each backend's bandwidth over the number of classes, as an SVG: a chart for each pass, kind of targets,
//! element and input, in each a line for each backend.

use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use xent::bench::{Case, MachineReport};

use crate::drawing::{COLOURS, font};

/// Pixels of a chart.
const CHART: (u32, u32) = (360, 240);
/// Pixels of the title and the legend above them.
const HEAD: u32 = 64;
const LINE: u32 = 20;
/// Pixels that these take across.
const LEAST_WIDTH: u32 = 560;

type Trouble = Box<dyn std::error::Error>;

/// The drawing, complete.
pub(super) fn draw(machines: &[MachineReport]) -> Result<String, Trouble> {
    let charts = charts(machines);
    let columns = machines.iter().flat_map(|machine| &machine.results).fold(Vec::new(), |mut passes, result| {
        if !passes.contains(&result.case.pass) {
            passes.push(result.case.pass);
        }
        passes
    });
    let columns = columns.len().max(1);
    let lines = charts.len().div_ceil(columns).max(1);
    let head = HEAD + LINE * machines.len() as u32;
    let size = (LEAST_WIDTH.max(CHART.0 * columns as u32), head + CHART.1 * lines as u32);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, rest) = root.split_vertically(head);
        legend(&top, machines)?;
        for (area, case) in rest.split_evenly((lines, columns)).iter().zip(&charts) {
            chart(area, case, machines)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// One case of each chart, whatever its classes.
fn charts(machines: &[MachineReport]) -> Vec<Case> {
    let mut charts: Vec<Case> = Vec::new();
    for result in machines.iter().flat_map(|machine| &machine.results) {
        if !charts.iter().any(|case| same_chart(case, &result.case)) {
            charts.push(result.case);
        }
    }
    charts
}

fn same_chart(a: &Case, b: &Case) -> bool {
    (a.pass, a.input, a.targets, a.element) == (b.pass, b.input, b.targets, b.element)
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn legend(area: &Area<'_>, machines: &[MachineReport]) -> Result<(), Trouble> {
    area.draw(&Text::new("xent: fraction of the backend's own memory bandwidth", (16, 14), font(20)))?;
    let how = "necessary bytes a second over those of a read (forward) or a copy (gradient, both)";
    area.draw(&Text::new(how, (16, 40), font(13)))?;
    for (i, machine) in machines.iter().enumerate() {
        let y = (HEAD + LINE * i as u32) as i32;
        area.draw(&PathElement::new(vec![(16, y), (44, y)], colour(i).stroke_width(2)))?;
        area.draw(&Circle::new((30, y), 3, colour(i).filled()))?;
        let text = format!("{}: read {:.1} GB/s, copy {:.1} GB/s", machine.adapter, machine.read_gbs, machine.copy_gbs);
        area.draw(&Text::new(text, (52, y), font(13).pos(Pos::new(HPos::Left, VPos::Center))))?;
    }
    Ok(())
}

/// The number of classes and the fraction at which a point stands.
fn points<'a>(machine: &'a MachineReport, case: &'a Case) -> Vec<(f64, f64)> {
    let of_chart = machine.results.iter().filter(|result| same_chart(&result.case, case));
    let mut points: Vec<_> = of_chart.map(|result| (result.case.classes as f64, machine.fraction(result))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn chart(area: &Area<'_>, case: &Case, machines: &[MachineReport]) -> Result<(), Trouble> {
    let all: Vec<_> = machines.iter().flat_map(|machine| points(machine, case)).collect();
    let title = format!("{}, {} {}, {} targets", case.pass.name(), case.element_name(), case.input_name(), case.targets.name());
    let mut context = ChartBuilder::on(area)
        .caption(title, font(14))
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(classes_axis(&all).log_scale(), fraction_axis(&all))?;
    mesh(&mut context)?;
    for (i, machine) in machines.iter().enumerate() {
        let points = points(machine, case);
        context.draw_series(LineSeries::new(points.iter().copied(), colour(i).stroke_width(2)))?;
        context.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour(i).filled())))?;
    }
    Ok(())
}

type Axes = Cartesian2d<LogCoord<f64>, RangedCoordf64>;

fn mesh(context: &mut ChartContext<'_, SVGBackend<'_>, Axes>) -> Result<(), Trouble> {
    context
        .configure_mesh()
        .x_desc("classes")
        .y_desc("fraction")
        .x_labels(6)
        .y_labels(6)
        .x_label_formatter(&|classes| format!("{classes:.0}"))
        .y_label_formatter(&|fraction| format!("{fraction:.1}"))
        .label_style(font(11))
        .axis_desc_style(font(12))
        .bold_line_style(BLACK.mix(0.15))
        .light_line_style(BLACK.mix(0.0))
        .draw()?;
    Ok(())
}

/// From below the fewest classes to above the most.
fn classes_axis(points: &[(f64, f64)]) -> Range<f64> {
    let range = points.iter().fold(f64::MAX..1.0, |range, point| range.start.min(point.0)..range.end.max(point.0));
    range.start.min(range.end) / 1.3..range.end * 1.3
}

/// From 0 to 1, or above where something is faster than the yardstick.
fn fraction_axis(points: &[(f64, f64)]) -> Range<f64> {
    let most = points.iter().map(|point| point.1).filter(|fraction| fraction.is_finite()).fold(1.0, f64::max);
    0.0..most * 1.02
}
