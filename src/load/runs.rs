//! Several runs of one profile, and whether they are slower than those of a file.

use serde::{Deserialize, Serialize};

use super::{
    baseline::{Change, Comparison, Rules, Run, Scope, Statistic, Verdict, Window, compare},
    report::{Plan, Report, SCHEMA as REPORT},
    verdict::{INVALID, MISSED, VIOLATED},
};

/// The schema of [`Runs`].
pub const SCHEMA: &str = "chirp.load.runs/1";
/// The most runs.
pub const RUNS_MAX: u32 = 100;
/// Seconds at the beginning of a run that are not compared: caches are cold.
const WARM_UP_S: u64 = 2;

/// Runs, the same but for their seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// [`SCHEMA`].
    pub schema: String,
    /// The exit code that says what all of them came to, the worst first: 98, 97, 99, 0.
    pub exit: u8,
    /// Each of them.
    pub runs: Vec<Report>,
    /// How they compare with a baseline, if one was given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub comparison: Option<Comparison>,
}

/// What may be in a file of runs.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    Runs(Runs),
    One(Box<Report>),
}

/// The runs of a file: one report, or several.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Vec<Report>, String> {
    let kept = serde_json::from_str::<Kept>(text)
        .map_err(|_| format!("it is neither {REPORT} nor {SCHEMA}"))?;
    let (runs, schema, wanted) = match kept {
        Kept::Runs(runs) => (runs.runs, runs.schema, SCHEMA),
        Kept::One(report) => (vec![*report.clone()], report.schema, REPORT),
    };
    if schema != wanted {
        return Err(format!("its schema is `{schema}`, and {wanted} is known"));
    }
    if runs.is_empty() {
        return Err("it has no run".to_owned());
    }
    if let Some(cut) = runs.iter().find_map(|run| run.cut_short.as_ref()) {
        return Err(format!("a run of it was cut short: {cut}"));
    }
    Ok(runs)
}

/// Whether runs of two plans can be compared.
///
/// # Errors
/// In what they differ.
pub fn alike(old: &Plan, new: &Plan) -> Result<(), String> {
    let differs = |what: &str, old: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
        let (old, new) = (format!("{old:?}"), format!("{new:?}"));
        if old == new { Ok(()) } else { Err(format!("its {what} is {old}, and here {new}")) }
    };
    differs("mix", &old.mix, &new.mix)?;
    differs("rate", &old.rate, &new.rate)?;
    differs("process", &old.process, &new.process)?;
    differs("number of connections", &old.connections, &new.connections)?;
    differs("data set", &old.population, &new.population)
}

impl Run {
    /// What is compared of a run: its whole seconds after the first ones.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let end = report.plan.length_s.floor();
        let mut run = Self::default();
        for second in &report.seconds {
            if second.second < WARM_UP_S || second.second as f64 >= end {
                continue;
            }
            for (name, of) in &second.operations {
                let window = Window {
                    count: of.count,
                    mean_us: of.mean_us,
                    p50_us: of.p50_us as f64,
                    p99_us: of.p99_us as f64,
                };
                run.series.entry(name.clone()).or_default().push(window);
            }
        }
        run
    }
}

impl Runs {
    /// What runs came to, beside those of a baseline if there is one.
    #[must_use]
    pub fn new(runs: Vec<Report>, baseline: Option<&[Report]>) -> Self {
        let of = |reports: &[Report]| reports.iter().map(Run::of).collect::<Vec<_>>();
        let comparison = baseline.map(|old| compare(&of(old), &of(&runs), &Rules::default()));
        let slower = comparison.as_ref().is_some_and(Comparison::slower);
        let ended = |exit: u8| runs.iter().any(|run| run.verdict.exit == exit);
        let exit = match () {
            () if ended(VIOLATED) => VIOLATED,
            () if ended(INVALID) => INVALID,
            () if ended(MISSED) || slower => MISSED,
            () => 0,
        };
        Self { schema: SCHEMA.to_owned(), exit, runs, comparison }
    }
}

/// How runs compare with a baseline, a line each.
#[must_use]
pub fn summary(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![format!(
        "beside the baseline, {}:",
        match comparison.scope {
            Scope::Windows => "second by second, which tells these runs apart, not their builds",
            Scope::Runs => "run by run",
            Scope::Pairs => "pair by pair",
        }
    )];
    for of in &comparison.compared {
        let statistic = match of.statistic {
            Statistic::P50 => "p50",
            Statistic::P99 => "p99",
            Statistic::Mean => "mean",
        };
        let verdict = match of.verdict {
            Verdict::Same => "same",
            Verdict::Slower => "SLOWER",
            Verdict::Faster => "faster",
            Verdict::TooFew => "too few requests or runs to tell",
            Verdict::TooNoisy => "too noisy to tell",
        };
        let name = format!("{}.{statistic}", of.series);
        let change = of.change.as_ref().map_or_else(String::new, told);
        lines.push(format!("  {name:<16} {change:<44} {verdict}"));
    }
    lines
}

fn told(change: &Change) -> String {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    format!(
        "{:.2} ms {:+.1} % (from {:+.1} to {:+.1} %)",
        change.baseline_us / 1e3,
        percent(change.ratio),
        percent(change.low),
        percent(change.high)
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::{Second, SecondOf, tests::empty},
        *,
    };

    fn report(us: u64) -> Report {
        let mut report = empty();
        report.plan.length_s = 20.5;
        report.seconds = (0..21)
            .map(|second| {
                let us = us + second % 3 * 10;
                let of = SecondOf {
                    count: 200,
                    mean_us: us as f64,
                    p50_us: us,
                    p99_us: 3 * us,
                    max_us: us,
                };
                let operations = [("timeline".to_owned(), of)].into();
                Second { second, operations, ..Second::default() }
            })
            .collect();
        report
    }

    #[test]
    fn whole_seconds_after_the_first_ones_are_compared() {
        assert_eq!(Run::of(&report(900)).series["timeline"].len(), 18);
    }

    #[test]
    fn slower_runs_are_an_alarm_and_equal_ones_are_none() {
        let five = |from: u64| (0..5).map(|n| report(from + n * 10)).collect::<Vec<_>>();
        let same = Runs::new(five(5_000), Some(&five(5_010)));
        assert_eq!(same.exit, 0);
        let slow = Runs::new(five(5_600), Some(&five(5_000)));
        assert_eq!(slow.exit, MISSED);
        let lines = summary(slow.comparison.as_ref().unwrap());
        assert!(lines[0].contains("run by run"), "{lines:?}");
        assert!(lines[1].contains("SLOWER") && lines[1].contains("+1"), "{lines:?}");
    }

    #[test]
    fn a_file_has_one_run_or_several() {
        let one = serde_json::to_string(&report(1)).unwrap();
        assert_eq!(read(&one).unwrap().len(), 1);
        let more = Runs::new(vec![report(1), report(2)], None);
        assert_eq!(read(&serde_json::to_string(&more).unwrap()).unwrap(), more.runs);
        let none = Runs::new(Vec::new(), None);
        for (text, wanted) in [
            ("{}".to_owned(), "neither"),
            (one.replace("load/1", "load/9"), "its schema is `chirp.load/9`"),
            (serde_json::to_string(&none).unwrap(), "no run"),
            (
                one.replacen("\"took_s\"", "\"cut_short\":\"interrupted\",\"took_s\"", 1),
                "cut short",
            ),
        ] {
            assert!(read(&text).unwrap_err().contains(wanted), "{text}");
        }
    }

    #[test]
    fn runs_of_different_plans_are_not_compared() {
        let plan = report(1).plan;
        assert_eq!(alike(&plan, &plan), Ok(()));
        let other = Plan { rate: vec![(0.0, 5.0), (1.0, 5.0)], ..plan.clone() };
        assert!(alike(&plan, &other).unwrap_err().contains("its rate is"));
        let other = Plan { population: "10k".to_owned(), ..plan.clone() };
        assert!(alike(&plan, &other).unwrap_err().contains("its data set is"));
    }
}
