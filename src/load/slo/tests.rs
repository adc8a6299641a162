//! Objectives are read, refused and judged.

use std::time::Duration;

use super::*;

const OPS: [Op; 3] = [Op::Timeline, Op::Author, Op::Post];

/// A thousand pages of 1 to 1,000 ms, ten posts, one error.
fn totals() -> Totals {
    let mut totals = Totals::default();
    let pages = totals.operations.entry(Op::Timeline).or_default();
    for ms in 1..=1_000 {
        crate::load::stats::record(&mut pages.corrected, Duration::from_millis(ms));
    }
    let posts = totals.operations.entry(Op::Post).or_default();
    for _ in 0..10 {
        crate::load::stats::record(&mut posts.corrected, Duration::from_millis(5));
    }
    posts.errors.insert("timeout".to_owned(), 1);
    totals
}

fn judged(text: &str, unseen: u64) -> Objective {
    let mut poll = crate::load::stats::times();
    for ms in 1..=99 {
        crate::load::stats::record(&mut poll, Duration::from_millis(ms));
    }
    let (totals, stream) = (totals(), crate::load::stats::times());
    let of =
        Measured { totals: &totals, poll, stream, unseen, length_s: 10.0, violations: Some(2) };
    Slo::parse(text, &OPS).unwrap().judge(&of)
}

#[test]
fn an_objective_is_met_or_not_and_says_what_it_used() {
    for (text, met, used) in [
        ("timeline.p99 < 1s", true, Some(0.0)),
        ("timeline.p99 < 980ms", false, Some(2.0)),
        ("timeline.p50 <= 510ms", true, Some(0.98)),
        ("timeline.mean < 600ms", true, None),
        ("timeline.max < 900ms", false, None),
        ("post.p999<=6ms", true, Some(0.0)),
        ("errors < 0.1%", true, Some(0.989)),
        ("errors < 0.05%", false, Some(1.98)),
        ("post.errors < 1%", false, Some(9.09)),
        ("rate >= 101/s", true, None),
        ("post.rate > 1/s", false, None),
        ("audit.violations == 0", false, None),
        ("audit.violations <= 4", true, Some(0.5)),
    ] {
        let Objective { met: found, budget_used, measured, .. } = judged(text, 0);
        assert_eq!(found, met, "{text}: {measured:?}");
        match (budget_used, used) {
            (Some(found), Some(used)) => {
                assert!((found - used).abs() < 0.02, "{text}: {found}");
            }
            other => assert_eq!(other.0, other.1, "{text}"),
        }
    }
}

#[test]
fn what_was_not_measured_is_not_met_and_what_was_not_seen_was_slow() {
    let stream = judged("freshness.stream.p99 < 10s", 0);
    assert_eq!((stream.met, stream.measured), (false, None));
    assert!(judged("freshness.p99 < 100ms", 0).met);
    let unseen = judged("freshness.p99 < 100ms", 3);
    assert_eq!((unseen.met, unseen.measured.as_deref()), (false, Some("not seen")));
    assert!(judged("freshness.p50 < 60ms", 3).met);
    for figure in ["mean", "max"] {
        let text = format!("freshness.{figure} < 1s");
        assert!(judged(&text, 0).met && !judged(&text, 1).met, "{figure}");
    }
}

#[test]
fn what_cannot_be_understood_is_said() {
    for (text, why) in [
        ("timeline.p99", "compares nothing"),
        ("timeline.p99 < 50", "needs a unit: us, ms or s"),
        ("timeline.p99 < fast", "does not begin with a number"),
        ("timeline.p99 > 50ms", "with < or <="),
        ("timeline.p9x < 50ms", "there is no `p9x`"),
        ("timeline.p00 < 50ms", "there is no `p00`"),
        ("timeline < 50ms", "needs a figure"),
        ("timelime.p99 < 50ms", "there is no `timelime`; did you mean `timeline`?"),
        ("error < 1%", "did you mean `errors`?"),
        ("walrus.p99 < 50ms", "there is no `walrus`; of this mix are timeline, author, post"),
        ("audit.violation == 0", "there is `audit.violations`"),
        ("freshness.errors < 1%", "has times only"),
        ("timeline.p5.0 < 50ms", "of this mix are"),
        ("timeline.p99. < 50ms", "of this mix are"),
        ("timeline.p99 < .ms", "does not begin with a number"),
        ("timeline.p99 < 1.2.3ms", "does not begin with a number"),
        ("timeline.p99 < 99999999999999999999s", "is too large"),
        ("audit.violations == 0.5", "is no count"),
        ("timeline.p99 < 0ms", "no run can meet it"),
        ("errors < 0%", "no run can meet it"),
        ("audit.violations < 0", "no run can meet it"),
        ("errors <= 100%", "no run can miss it"),
        ("errors < 100.1%", "no run can miss it"),
        ("rate >= 0/s", "no run can miss it"),
        ("delete.p99 < 50ms", "`delete` is not in the mix"),
        ("errors < 1", "needs a unit: %"),
        ("rate >= 5", "needs a unit: /s"),
        ("rate < 5/s", "with > or >="),
        ("audit.violations == 0%", "is no count"),
        ("freshness.poll.p99 < 1s", "there is no `freshness.poll`"),
        ("a.b.c.d < 1s", "of this mix are timeline"),
    ] {
        let error = Slo::parse(text, &OPS).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_bound_is_the_number_that_is_written() {
    // Each is what a product of floating-point numbers misses.
    let metric = Metric::Errors(None);
    for (text, bad, all) in [("0.7%", 7.0, 1_000.0), ("2.9%", 29.0, 1_000.0), ("35%", 7.0, 20.0)] {
        assert!(Sign::AtMost.holds(bad / all, bound(text, metric).unwrap()), "{text}");
        assert!(!Sign::Below.holds(bad / all, bound(text, metric).unwrap()), "{text}");
    }
    let metric = Metric::Time(Series::Poll, Figure::Mean);
    for us in (1..=2_000_u32).map(|ms| ms * 1_000) {
        let text = format!("{}ms", us / 1_000);
        assert!(!Sign::Below.holds(f64::from(us) / 1e6, bound(&text, metric).unwrap()), "{text}");
        assert!(Sign::AtMost.holds(f64::from(us) / 1e6, bound(&text, metric).unwrap()), "{text}");
    }
}

#[test]
fn a_percentile_may_have_a_point() {
    for (pointed, plain) in [("p99.9", "p999"), ("p99.99", "p9999")] {
        for series in ["timeline", "freshness", "freshness.stream"] {
            let metric = |figure: &str| metric(&format!("{series}.{figure}"), &OPS).unwrap();
            assert_eq!(metric(pointed), metric(plain));
        }
    }
}
