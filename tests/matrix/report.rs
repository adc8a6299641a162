//! The table of a run.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    judge::{
        checks::{DOUBLED, LOST},
        world::World,
    },
    load::Count,
    table::{Kind, Row},
};

/// Of what must be answered, so much in a hundred must be: the rest is what was in flight when the
/// fault began to be known.
const ANSWERED_PERCENT: u64 = 95;
/// Fewer calls of a kind than this prove nothing.
const CALLS_MIN: u64 = 5;

/// What became of a row.
#[derive(Debug, Default)]
pub struct Cell {
    /// Calls that began while the fault lasted.
    pub during: BTreeMap<Kind, Count>,
    /// The same without the time in which it had to be noticed.
    pub noticed: BTreeMap<Kind, Count>,
    /// From the end of the fault to the end of the last call that failed or gave less than all.
    pub heals: Duration,
    /// From there until nothing was on its way any more.
    pub drains: Duration,
    pub lost: usize,
    pub doubled: usize,
    pub other: usize,
    /// What did not come as expected.
    pub wrong: Vec<String>,
}

impl Cell {
    /// Counts what the audit of this row has found.
    pub fn count(&mut self, world: &World) {
        for violation in world.violations.iter().filter(|found| found.kill == world.kill) {
            match violation.rule {
                LOST => self.lost += 1,
                DOUBLED => self.doubled += 1,
                _ => self.other += 1,
            }
        }
    }

    /// Holds what was answered against the expectation.
    pub fn judge(&mut self, row: &Row) {
        for kind in row.answers {
            let count = self.noticed.get(kind).copied().unwrap_or_default();
            let answered = count.answered + count.degraded;
            if count.all() < CALLS_MIN {
                self.wrong.push(format!("only {} calls of {}", count.all(), kind.name()));
            } else if answered * 100 < count.all() * ANSWERED_PERCENT {
                let (name, all) = (kind.name(), count.all());
                self.wrong.push(format!("{name}: {answered} of {all} answered"));
            }
        }
        for (count, what) in
            [(self.lost, "lost"), (self.doubled, "doubled"), (self.other, "other violations")]
        {
            if count > 0 {
                self.wrong.push(format!("{count} {what}"));
            }
        }
    }
}

/// `failed/all` of each kind; a star behind it: it had to be answered.
fn calls(row: &Row, cell: &Cell) -> String {
    let of = |kind: &Kind| {
        let count = cell.during.get(kind).copied().unwrap_or_default();
        let must = if row.answers.contains(kind) { "*" } else { "" };
        format!("{:>11}", format!("{}/{}{must}", count.failed(), count.all()))
    };
    Kind::ALL.iter().map(of).collect::<Vec<_>>().join(" ")
}

/// One line of the table.
pub fn line(row: &Row, cell: &Cell) -> String {
    format!(
        "{:<24}{} {:>7.1} {:>7.1} {:>5} {:>7}  {}",
        row.name(),
        calls(row, cell),
        cell.heals.as_secs_f64(),
        cell.drains.as_secs_f64(),
        cell.lost,
        cell.doubled,
        if cell.wrong.is_empty() { "as expected".to_owned() } else { cell.wrong.join("; ") }
    )
}

/// What stands above it.
pub fn head() -> String {
    let kinds = Kind::ALL.map(|kind| format!("{:>11}", kind.name())).join(" ");
    format!(
        "calls that failed of all while the fault lasted (* had to be answered); seconds to heal, \
         and then to deliver what waited\n{:<24}{kinds} {:>7} {:>7} {:>5} {:>7}",
        "fault", "heal", "deliver", "lost", "doubled"
    )
}
