//! The report as lines for a terminal.

use super::{Latency, Report};

/// Violations that are listed; the others are in the JSON.
const VIOLATIONS_MAX: usize = 10;

/// A time in the unit that suits it.
#[must_use]
pub fn time(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    let us = us as f64;
    match us {
        0.0..1e3 => format!("{us:.0} us"),
        1e3..1e6 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

fn quantiles(latency: &Latency) -> String {
    if latency.count == 0 {
        return format!("{:>10}{:>10}{:>10}{:>10}", "-", "-", "-", "-");
    }
    let Latency { p50_us, p90_us, p99_us, max_us, .. } = latency;
    [p50_us, p90_us, p99_us, max_us].map(|&us| format!("{:>10}", time(us))).concat()
}

/// The report, a line each, without colours.
#[must_use]
pub fn summary(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<18}{:>9}{:>9}{:>10}{:>10}{:>10}{:>10}{:>11}",
        "", "per s", "errors", "p50", "p90", "p99", "max", "raw p99"
    )];
    for of in &report.operations {
        let errors: u64 = of.errors.values().sum();
        let raw = if of.raw.count == 0 { "-".to_owned() } else { time(of.raw.p99_us) };
        let figures = quantiles(&of.corrected);
        lines.push(format!("{:<18}{:>9.1}{errors:>9}{figures}{raw:>11}", of.operation, of.rate));
        for (kind, count) in &of.errors {
            lines.push(format!("  {count} {kind}"));
        }
    }
    for of in &report.freshness {
        let name = format!("{} from {}", of.way, of.followers_from);
        let figures = quantiles(&of.latency);
        lines.push(format!("{name:<18}{:>9}{:>9}{figures}", of.latency.count, of.unseen));
    }
    if !report.freshness.is_empty() {
        lines.push(
            "  (poll, stream: 201 to seen, by the author's followers; count and unseen)".to_owned(),
        );
    }
    for mark in &report.marks {
        let failed = mark.failed.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        lines.push(format!(
            "{} from {:.1} to {:.1} s{failed}",
            mark.what, mark.from_s, mark.until_s
        ));
    }
    audit(report, &mut lines);
    for objective in &report.verdict.objectives {
        let met = if objective.met { "met   " } else { "MISSED" };
        let measured = objective.measured.as_deref().unwrap_or("nothing was measured");
        let used = objective.budget_used.map_or_else(String::new, |used| {
            format!(", {:.0} % of its error budget", used * 100.0)
        });
        lines.push(format!("{met} {}  ({measured}{used})", objective.objective));
    }
    for why in &report.verdict.invalid {
        lines.push(format!("invalid: {why}"));
    }
    lines.push(format!("verdict: {}", report.verdict.outcome));
    lines
}

fn audit(report: &Report, lines: &mut Vec<String>) {
    let Some(audit) = &report.audit else {
        return lines.push("audit: none".to_owned());
    };
    let found: u64 = audit.kinds.values().sum();
    lines.push(format!(
        "audit: {} posts, {} deletes and {} changes of edges on record; {} pages as they came,",
        audit.posts, audit.deletes, audit.edges, audit.pages_live
    ));
    lines.push(format!(
        "  then {} home and {} author timelines, {} deliveries, {} counts: {found} violations",
        audit.readers, audit.authors, audit.deliveries, audit.counted
    ));
    for (kind, count) in &audit.kinds {
        lines.push(format!("  {count} {kind}"));
    }
    for violation in audit.violations.iter().take(VIOLATIONS_MAX) {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        lines.push(format!(
            "  {}: tweet {} of {}, read by {} at {} ms: {}",
            violation.kind,
            or(&violation.tweet),
            or(&violation.author),
            or(&violation.reader),
            violation.seen_ms,
            violation.about
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::report, *};

    #[test]
    fn the_lines_say_what_was_found() {
        let text = summary(&report()).join("\n");
        for wanted in [
            "timeline               60.0        2",
            "  2 timeout",
            "poll from 10",
            "freeze <redis> from 0.5 to 1.5 s",
            "  1 missing",
            "missing: tweet 17 of <b>ada</b>, read by bob at 9 ms: home timeline",
            "MISSED timeline.p99 < 5ms  (10.00 ms, 300 % of its error budget)",
            "invalid: the driver was late",
            "verdict: audit violated",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
        assert!(summary(&report()).iter().all(|line| line.len() <= 100));
    }

    #[test]
    fn a_time_has_the_unit_that_suits_it() {
        let told = [0, 999, 1_000, 999_999, 1_500_000].map(time);
        assert_eq!(told, ["0 us", "999 us", "1.0 ms", "1000.0 ms", "1.50 s"]);
    }
}
