//! What was measured, as a table for people or as JSON for programs.

use serde_json::{Value, json};
use xent::bench::{MachineReport, Measured, Pass, Report};
use xent::{Backend, Instructions};

use super::date::today;

/// One object: when, by and on what, what each backend can do, and what was made of it; and what failed.
pub(super) fn json(report: &Report) -> Value {
    let machines = &report.machines;
    let bandwidths: Vec<_> = machines.iter().map(bandwidth).collect();
    let results: Vec<_> = machines.iter().flat_map(|machine| machine.results.iter().map(|r| result(machine, r))).collect();
    let failures: Vec<_> = report
        .failures
        .iter()
        .map(|failure| json!({ "backend": kind(&failure.backend), "adapter": failure.adapter, "reason": failure.error.to_string() }))
        .collect();
    json!({
        "date": today(),
        "version": env!("CARGO_PKG_VERSION"),
        "processor": xent::bench::processor(),
        "threads": xent::bench::threads(),
        "bandwidths": bandwidths,
        "results": results,
        "failures": failures,
    })
}

fn kind(backend: &Backend) -> &'static str {
    match backend {
        Backend::Cpu => "cpu",
        _ => "gpu",
    }
}

fn bandwidth(machine: &MachineReport) -> Value {
    let mut value = json!({
        "backend": kind(&machine.backend),
        "adapter": machine.adapter,
        "read_gbs": machine.read_gbs,
        "copy_gbs": machine.copy_gbs,
        "read": machine.yardsticks[0],
        "copy": machine.yardsticks[1],
        "bytes": machine.bytes,
        "timed_by": machine.clock.name(),
    });
    match &machine.backend {
        Backend::Gpu { driver, .. } => value["driver"] = json!(driver),
        _ => value["instructions"] = json!(machine.instructions.map(Instructions::name)),
    }
    value
}

fn result(machine: &MachineReport, result: &Measured) -> Value {
    let mut value = json!({
        "backend": kind(&machine.backend),
        "adapter": machine.adapter,
        "pass": result.case.pass.name(),
        "input": result.case.input_name(),
        "targets": result.case.targets.name(),
        "element": result.case.element_name(),
        "rows": result.rows,
        "classes": result.case.classes,
        "seconds": result.seconds,
        "bytes": result.bytes,
        "gbs": result.gbs(),
        "fraction": machine.fraction(result),
        "rows_per_second": result.rows_per_second(),
    });
    if let Some(instructions) = machine.instructions {
        value["instructions"] = json!(instructions.name());
    }
    value
}

/// A block for each backend: its bandwidths, then a line for each batch with its passes side by side.
pub(super) fn text(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for (i, machine) in report.machines.iter().enumerate() {
        if i > 0 {
            lines.push(String::new());
        }
        lines.push(format!("{}: {}", kind(&machine.backend), machine.adapter));
        lines.push(format!("  read  {:8.1} GB/s  ({})", machine.read_gbs, machine.yardsticks[0]));
        lines.push(format!("  copy  {:8.1} GB/s  ({})", machine.copy_gbs, machine.yardsticks[1]));
        let (size, clock) = (machine.bytes as f64 / 1e6, machine.clock.name());
        lines.push(format!("  of {size:.0} MB of float32; medians, by {clock}; of: fraction of read or copy"));
        lines.extend(table(machine).iter().map(|line| line.trim_end().to_owned()));
    }
    lines
}

fn table(machine: &MachineReport) -> Vec<String> {
    let mut passes: Vec<Pass> = Vec::new();
    for result in &machine.results {
        if !passes.contains(&result.case.pass) {
            passes.push(result.case.pass);
        }
    }
    let inputs: Vec<&str> = machine.results.iter().map(|result| result.case.input_name()).collect();
    let width = inputs.iter().map(|name| name.len()).max().unwrap_or(0);
    let label = |input: &str, targets: &str, element: &str, classes: &str| {
        format!("  {input:width$}  {targets:7} {element:7} {classes:>7}")
    };
    let blank = label("", "", "", "");
    let names = side_by_side(&passes, |pass| format!("  | {:^22}", pass.name()));
    let columns = side_by_side(&passes, |_| format!("  | {:>7} {:>5} {:>8}", "GB/s", "of", "rows/s"));
    let mut lines = vec![format!("{blank}{names}"), format!("{}{columns}", label("", "targets", "element", "classes"))];
    // Passes over the same batch follow each other.
    for row in machine.results.chunks(passes.len().max(1)) {
        let Some(first) = row.first() else { continue };
        let case = &first.case;
        let label = label(case.input_name(), case.targets.name(), case.element_name(), &case.classes.to_string());
        let cells = side_by_side(row, |result| cell(machine, result));
        lines.push(format!("{label}{cells}"));
    }
    lines
}

fn side_by_side<T>(passes: &[T], cell: impl Fn(&T) -> String) -> String {
    passes.iter().map(cell).collect()
}

fn cell(machine: &MachineReport, result: &Measured) -> String {
    format!("  | {:7.2} {:5.2} {:>8}", result.gbs(), machine.fraction(result), count(result.rows_per_second()))
}

/// A number of four digits or fewer, with a unit.
fn count(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", value / size),
        None => format!("{value:.1}"),
    }
}
