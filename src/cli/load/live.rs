//! What is shown while a load runs.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{super::printer::Printer, Args};
use crate::load::{report::text, run::Progress, stats::Tick};

/// Without a terminal a line is printed this often, in seconds.
const LINE_EVERY_S: u64 = 5;

/// What is shown meanwhile.
pub(super) struct Live {
    printer: Printer,
    bar: ProgressBar,
    lines: bool,
    speaks: bool,
}

impl Live {
    pub(super) fn new(printer: Printer, args: &Args) -> Self {
        let terminal = std::io::stderr().is_terminal() && !args.no_tui && !args.quiet;
        let bar = if terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let form = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(form.expect("a template of the library"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { printer, bar, lines: !terminal && !args.quiet, speaks: !args.quiet }
    }

    pub(super) fn show(&self, progress: &Progress) {
        match progress {
            Progress::Phase(what) => {
                self.bar.set_message(*what);
                if self.lines {
                    self.printer.talk(what);
                }
            }
            Progress::Trial(text) => {
                if self.speaks {
                    self.bar.suspend(|| self.printer.talk(text));
                }
            }
            Progress::Second(second, of, tick, violations) => {
                let text = line(*second, *of, tick, *violations);
                if self.lines && (second + 1) % LINE_EVERY_S == 0 {
                    self.printer.talk(&text);
                }
                self.bar.set_message(text);
            }
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(second: u64, of: u64, tick: &Tick, violations: u64) -> String {
    let second_of = tick.second();
    let slowest = second_of.operations.iter().max_by_key(|(_, figures)| figures.p99_us);
    let slowest = slowest.map_or_else(String::new, |(name, figures)| {
        format!(", slowest p99 {} ({name})", text::time(figures.p99_us))
    });
    format!(
        "{:>4} of {of} s: {} due, {} answered, {} errors{slowest}, {violations} violations",
        second + 1,
        second_of.due,
        second_of.ok,
        second_of.errors,
    )
}
