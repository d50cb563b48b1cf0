//! Progress with the time left: a bar on a terminal, now and then a line elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows how far a run is.
pub(super) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    last_percent: usize,
}

impl Progress {
    /// A display that shows nothing yet.
    pub(super) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        // Drawn by hand between windows: a drawing thread would use energy inside them.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} windows, {eta} left, {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, terminal, last_percent: 0 }
    }

    /// Says a sentence.
    pub(super) fn say(&self, text: &str) {
        super::complain(text);
    }

    /// Shows `done` of `total` windows and what comes.
    pub(super) fn update(&mut self, done: usize, total: usize, next: &str) {
        if !self.terminal {
            // A log gets a line for each tenth.
            let percent = done * 100 / total.max(1);
            if percent >= self.last_percent + 10 {
                self.last_percent = percent - percent % 10;
                let left = self.left(done, total);
                super::complain(&format!("{done} of {total} windows, {left} left"));
            }
            return;
        }
        self.bar.set_length(total as u64);
        self.bar.set_message(next.to_string());
        self.bar.set_position(done as u64);
        if next.is_empty() {
            self.bar.finish_and_clear();
        }
    }

    fn left(&self, done: usize, total: usize) -> String {
        let each = self.bar.elapsed().as_secs_f64() / done.max(1) as f64;
        let left = Duration::from_secs_f64((each * total.saturating_sub(done) as f64).round());
        humantime::format_duration(left).to_string()
    }
}
