//! What was measured, as a table for people or as JSON for programs.

use serde_json::{Value, json};
use xent::bench::{MachineReport, Measured, Pass};
use xent::{Backend, Instructions};

use super::date::today;
use crate::report::line;

/// One object: when and on what, what each backend can do, and what was made of it.
pub(super) fn json(machines: &[MachineReport]) {
    let bandwidths: Vec<_> = machines.iter().map(bandwidth).collect();
    let results: Vec<_> = machines.iter().flat_map(|machine| machine.results.iter().map(|r| result(machine, r))).collect();
    let report = json!({
        "date": today(),
        "processor": xent::bench::processor(),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "bandwidths": bandwidths,
        "results": results,
    });
    line(std::io::stdout(), &report.to_string());
}

fn kind(machine: &MachineReport) -> &'static str {
    match machine.backend {
        Backend::Cpu => "cpu",
        _ => "gpu",
    }
}

fn bandwidth(machine: &MachineReport) -> Value {
    let mut value = json!({
        "backend": kind(machine),
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
        "backend": kind(machine),
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
pub(super) fn text(machines: &[MachineReport]) {
    for (i, machine) in machines.iter().enumerate() {
        if i > 0 {
            say("");
        }
        say(&format!("{}: {}", kind(machine), machine.adapter));
        say(&format!("  read  {:8.1} GB/s  ({})", machine.read_gbs, machine.yardsticks[0]));
        say(&format!("  copy  {:8.1} GB/s  ({})", machine.copy_gbs, machine.yardsticks[1]));
        let size = machine.bytes as f64 / 1e6;
        say(&format!("  of {size:.0} MB of float32; medians, by {}; of: fraction of read or copy", machine.clock.name()));
        table(machine);
    }
}

fn say(text: &str) {
    line(std::io::stdout(), text.trim_end());
}

fn table(machine: &MachineReport) {
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
    say(&format!("{blank}{names}"));
    say(&format!("{}{columns}", label("", "targets", "element", "classes")));
    // Passes over the same batch follow each other.
    for row in machine.results.chunks(passes.len().max(1)) {
        let Some(first) = row.first() else { continue };
        let case = &first.case;
        let label = label(case.input_name(), case.targets.name(), case.element_name(), &case.classes.to_string());
        let cells = side_by_side(row, |result| cell(machine, result));
        say(&format!("{label}{cells}"));
    }
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
