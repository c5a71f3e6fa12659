//! How far an evaluation is.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A run that takes longer than this shows how far it is.
const PATIENCE: Duration = Duration::from_millis(500);

/// A bar on a terminal, once the run has taken a while. Elsewhere nothing.
pub(super) struct Progress {
    bar: OnceCell<ProgressBar>,
    rows: u64,
    started: Instant,
}

impl Progress {
    pub(super) fn new(rows: u64, started: Instant) -> Self {
        Self { bar: OnceCell::new(), rows, started }
    }

    pub(super) fn at(&self, row: u64) {
        if self.bar.get().is_none() && self.started.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            // Hidden by the library itself where standard error is no terminal.
            let bar = ProgressBar::new(self.rows);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% of {len} rows, {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_position(row);
    }

    pub(super) fn done(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
