//! `xent bench`: how close each backend comes to its own memory bandwidth.

mod date;
mod plot;
mod report;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use xent::bench::{self, BenchDescriptor, Progress};

use crate::args::{BenchArgs, Format, MILLION};
use crate::failure::Failure;
use crate::files::WholeFile;
use crate::report::print;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let descriptor = descriptor(args);
    // What can fail of the output fails before minutes of work.
    let plot = args.plot.as_deref().map(WholeFile::create).transpose()?;
    let bar = Bar::default();
    let report = bench::run(&descriptor, |progress| bar.at(progress));
    bar.done();
    let report = report?;
    // Of nothing there is no plot: what was there before stays.
    if let Some(mut file) = plot.filter(|_| !report.machines.is_empty()) {
        let drawing = plot::draw(&report.machines).map_err(|why| Failure::Data(format!("the plot cannot be drawn: {why}")))?;
        file.fill(drawing.as_bytes())?;
        file.keep()?;
    }
    match args.format {
        Format::Text => print(report::text(&report))?,
        Format::Json => print([report::json(&report).to_string()])?,
    }
    if report.failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<_> = report.failures.iter().map(|failure| format!("{}: {}", failure.adapter, failure.error)).collect();
    Err(Failure::Data(failures.join("; ")))
}

fn descriptor(args: &BenchArgs) -> BenchDescriptor {
    BenchDescriptor {
        machines: args.backend.into(),
        adapter: args.adapter.clone(),
        instructions: distinct(args.instructions.iter().map(|&set| set.into())),
        classes: distinct(args.classes.iter().copied()),
        passes: distinct(args.pass.iter().map(|&pass| pass.into())),
        targets: distinct(args.targets.iter().map(|&targets| targets.into())),
        elements: distinct(args.element.iter().map(|&element| element.into())),
        inputs: distinct(args.input.iter().map(|&input| input.into())),
        bytes: args.bytes.or(args.megabytes.map(|megabytes| megabytes * MILLION)),
        repeat: args.repeat.get(),
        seconds: args.seconds,
    }
}

/// Each value once, where it comes first.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

/// A bar on a terminal. Elsewhere nothing.
struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        // Hidden by the library itself where standard error is no terminal.
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}, {eta} left") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self(bar)
    }
}

impl Bar {
    fn at(&self, progress: Progress<'_>) {
        if progress.done == 0 {
            // Another backend: what is left is estimated anew.
            self.0.reset();
        }
        self.0.set_length(progress.steps as u64);
        self.0.set_position(progress.done as u64);
        let what = if progress.checking { "checking" } else { "timing" };
        self.0.set_message(format!("{what} {}", progress.adapter));
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}
