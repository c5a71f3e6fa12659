//! The table and the JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::contestant::Pass;
use crate::measure::Comparison;

/// What measured.
pub struct Machine {
    /// The adapter and its driver; none where only the CPU was measured.
    pub adapter: Option<(String, String)>,
}

/// The version of a package, as Cargo.lock has it.
pub fn version(package: &str) -> &'static str {
    let mut lines = include_str!("../Cargo.lock").lines();
    let name = format!("name = \"{package}\"");
    lines.find(|&line| line == name);
    lines.next().and_then(|line| line.split('"').nth(1)).unwrap_or("unknown")
}

/// The processor by its own name, with its cores.
fn processor() -> String {
    let cores = rayon::current_num_threads();
    let name = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split(':').nth(1)?.trim().to_string())
    });
    format!("{}, {cores} threads", name.unwrap_or_else(|| std::env::consts::ARCH.into()))
}

/// Today, in UTC, as year-month-day (after H. Hinnant's algorithm for days since 1970-01-01).
fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
    // Years begin with March, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

/// One comparison as lines of a table.
pub fn print(comparison: &Comparison) {
    let Comparison { pass, rows, classes, bytes, read, copy, outcomes } = comparison;
    println!(
        "\n{}, {classes} classes, {rows} rows; the machine reads {:.1} GB/s and copies {:.1} GB/s",
        pass.name(),
        read / 1e9,
        copy / 1e9
    );
    println!("{:12} {:48} {:>9} {:>8} {:>8}  {:>9}", "", "", "ms", "GB/s", "of it", "error");
    let roof = if *pass == Pass::Forward { read } else { copy };
    for outcome in outcomes {
        print!("{:12} {:48}", outcome.name, outcome.device);
        match &outcome.seconds {
            Ok(seconds) => {
                let speed = *bytes as f64 / seconds;
                let wrong = if outcome.correct() { "" } else { "  WRONG" };
                let error = outcome.error;
                println!(" {:9.2} {:8.3} {:8.3}  {error:9.1e}{wrong}", seconds * 1e3, speed / 1e9, speed / roof);
            }
            Err(error) => println!(" failed: {}", error.lines().next().unwrap_or_default()),
        }
    }
}

/// The whole run, with what it was measured on.
pub fn json(machine: &Machine, comparisons: &[Comparison]) -> Value {
    let versions: serde_json::Map<_, _> = ["xent", "candle-core", "candle-nn", "burn", "cubecl", "wgpu"]
        .map(|package| (package.to_string(), version(package).into()))
        .into_iter()
        .collect();
    let bandwidths: Vec<_> = comparisons
        .iter()
        .map(|c| json!({"pass": c.pass.name(), "classes": c.classes, "read_gbs": c.read / 1e9, "copy_gbs": c.copy / 1e9}))
        .collect();
    let result = |c: &Comparison| -> Vec<Value> {
        let roof = if c.pass == Pass::Forward { c.read } else { c.copy };
        let one = |outcome: &crate::measure::Outcome| {
            let seconds = outcome.seconds.as_ref();
            let speed = seconds.ok().map(|seconds| c.bytes as f64 / seconds);
            json!({
                "library": outcome.name, "device": outcome.device, "pass": c.pass.name(), "input": "logits",
                "targets": "sparse", "element": "f32", "rows": c.rows, "classes": c.classes,
                "seconds": seconds.ok(), "gbs": speed.map(|speed| speed / 1e9),
                "fraction_of_host": speed.map(|speed| speed / roof), "error": outcome.error, "correct": outcome.correct(),
                "failure": seconds.err(),
            })
        };
        c.outcomes.iter().map(one).collect()
    };
    json!({
        "date": date(),
        "processor": processor(),
        "adapter": machine.adapter.as_ref().map(|(name, _)| name),
        "driver": machine.adapter.as_ref().map(|(_, driver)| driver),
        "command": std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        "versions": versions,
        "bandwidths": bandwidths,
        "results": comparisons.iter().flat_map(result).collect::<Vec<_>>(),
    })
}
