//! The report as one page that needs nothing else: no network, no script, light and dark, printable.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    super::chaos::Mark,
    Audit, Operation, Report, Sample,
    chart::{Chart, Line},
    text::time,
};

/// Violations that are listed.
const VIOLATIONS_MAX: usize = 200;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#667;--line:#d7dbe0;--bg:#fff;--bad:#b3261e;--good:#1a6e3c}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ea;--dim:#99a;--line:#363b42;--bg:#14171a;--bad:#ff8a80;--good:#7bd88f}}\
body{margin:2rem auto;max-width:820px;padding:0 1rem;font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--bg)}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:.15rem .5rem;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left}th{font-weight:500;color:var(--dim)}td.text{text-align:left}\
.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}small,.dim{color:var(--dim)}\
figure{margin:1rem 0}svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--line)}\
polyline,.key line{fill:none;stroke-width:1.6}.key{width:28px;height:8px}.legend span{margin-right:1rem;white-space:nowrap}\
.l0{stroke:#0072b2}.l1{stroke:#d55e00}.l2{stroke:#009e73}.l3{stroke:#cc79a7}.l4{stroke:#999900}.l5{stroke:#56b4e9}\
rect.band{fill:#d55e00;fill-opacity:.15}svg text.band{fill:#d55e00}\
pre{white-space:pre-wrap;overflow-wrap:anywhere}meter{width:8rem}";

/// `text` without what HTML understands.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>chirp load: {}</title><style>{STYLE}</style></head><body>",
        escaped(&report.verdict.outcome)
    );
    banner(report, &mut page);
    objectives(report, &mut page);
    page.push_str("<h2>Operations</h2>");
    operations(&report.operations, &mut page);
    seconds(report, &mut page);
    percentiles(&report.operations, &mut page);
    freshness(report, &mut page);
    server(&report.server, &report.marks, &mut page);
    audit(report.audit.as_ref(), &mut page);
    about(report, &mut page);
    page.push_str("</body></html>\n");
    page
}

/// A table of rows of cells, which are HTML already.
fn table(head: &[&str], rows: &[Vec<String>], page: &mut String) {
    page.push_str("<table><tr>");
    for cell in head {
        let _ = write!(page, "<th>{}</th>", escaped(cell));
    }
    page.push_str("</tr>");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{cell}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
}

fn banner(report: &Report, page: &mut String) {
    let verdict = &report.verdict;
    let class = if verdict.exit == 0 { "good" } else { "bad" };
    let answered: u64 = report.operations.iter().map(|of| of.ok).sum();
    let errors: u64 = report.operations.iter().flat_map(|of| of.errors.values()).sum();
    let violations = report.audit.as_ref().map_or_else(
        || "not audited".to_owned(),
        |audit| format!("{} violations", audit.kinds.values().sum::<u64>()),
    );
    let rate = answered as f64 / report.plan.length_s.max(1.0);
    let _ = write!(
        page,
        "<h1>chirp load: <span class=\"{class}\">{}</span></h1><p>{} &middot; {} &middot; {rate:.1} answers/s, \
         {errors} errors, {violations}, in {:.0} s</p>",
        escaped(&verdict.outcome),
        escaped(&report.plan.profile),
        escaped(&report.environment.target),
        report.took_s
    );
    for why in &verdict.invalid {
        let _ = write!(page, "<p class=\"bad\">Invalid: {}</p>", escaped(why));
    }
}

fn objectives(report: &Report, page: &mut String) {
    page.push_str("<h2>Objectives</h2>");
    if report.verdict.objectives.is_empty() {
        return page.push_str("<p>The profile has none.</p>");
    }
    let row = |of: &super::Objective| {
        let met = if of.met {
            "<span class=\"good\">met</span>"
        } else {
            "<span class=\"bad\">missed</span>"
        };
        let used = of.budget_used.map_or_else(String::new, |used| {
            format!(
                "<meter max=\"1\" value=\"{:.3}\"></meter> {:.0} %",
                used.min(1.0),
                used * 100.0
            )
        });
        let measured = of.measured.as_deref().unwrap_or("nothing was measured");
        vec![escaped(&of.objective), escaped(measured), met.to_owned(), used]
    };
    let rows: Vec<_> = report.verdict.objectives.iter().map(row).collect();
    table(&["objective", "measured", "", "error budget used"], &rows, page);
}

fn operations(all: &[Operation], page: &mut String) {
    let mut rows = Vec::new();
    for of in all {
        let errors: u64 = of.errors.values().sum();
        for (name, latency) in [("due", &of.corrected), ("sent", &of.raw)] {
            let figures =
                [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
            let name = format!("{} <small>from {name}</small>", escaped(&of.operation));
            let mut row = vec![name, latency.count.to_string(), format!("{:.1}", of.rate)];
            row.push(errors.to_string());
            row.extend(figures.map(time));
            rows.push(row);
        }
    }
    table(&["", "count", "per s", "errors", "p50", "p90", "p99", "p99.9", "max"], &rows, page);
    let kinds: Vec<String> = all
        .iter()
        .flat_map(|of| {
            of.errors.iter().map(move |(kind, n)| format!("{n} {kind} of {}", of.operation))
        })
        .collect();
    if !kinds.is_empty() {
        let _ = write!(page, "<p>Errors: {}.</p>", escaped(&kinds.join(", ")));
    }
}

fn seconds(report: &Report, page: &mut String) {
    page.push_str("<h2>Over time</h2>");
    let bands = &bands(&report.marks);
    let line = |name: &str, of: &dyn Fn(&super::Second) -> f64| Line {
        name: name.to_owned(),
        points: report.seconds.iter().map(|s| (s.second as f64, of(s))).collect(),
    };
    let lines = vec![
        line("due", &|s| s.due as f64),
        line("answered", &|s| s.ok as f64),
        line("errors", &|s| s.errors as f64),
    ];
    let chart =
        Chart { title: "Requests", unit: "per second", below: "seconds", log: false, bands, lines };
    page.push_str(&chart.drawn());
    let names: Vec<&str> = report.operations.iter().map(|of| of.operation.as_str()).collect();
    for (title, figure) in [("Median", 0), ("99th percentile", 1), ("Longest", 2)] {
        let lines = names.iter().map(|name| {
            let of = |s: &super::Second| {
                let of = s.operations.get(*name)?;
                Some((s.second as f64, [of.p50_us, of.p99_us, of.max_us][figure] as f64 / 1e3))
            };
            Line {
                name: (*name).to_owned(),
                points: report.seconds.iter().filter_map(of).collect(),
            }
        });
        let lines = lines.collect();
        let chart = Chart {
            title,
            unit: "ms from when a request was due",
            below: "seconds",
            log: true,
            bands,
            lines,
        };
        page.push_str(&chart.drawn());
    }
}

/// What was broken, for charts over time.
fn bands(marks: &[Mark]) -> Vec<(f64, f64, String)> {
    marks.iter().map(|mark| (mark.from_s, mark.until_s, mark.what.clone())).collect()
}

/// Along the axis each step is one nine more: 90 %, 99 %, 99.9 %.
fn percentiles(all: &[Operation], page: &mut String) {
    page.push_str("<h2>Percentiles</h2>");
    let mut lines = Vec::new();
    for of in all {
        for (name, latency) in [("from due", &of.corrected), ("from sent", &of.raw)] {
            let points = latency.curve.iter().filter(|(q, _)| *q < 1.0);
            let points = points.map(|&(q, us)| (-libm::log10(1.0 - q), us as f64 / 1e3)).collect();
            lines.push(Line { name: format!("{} {name}", of.operation), points });
        }
    }
    let below = "nines: 1 is 90 %, 2 is 99 %, 3 is 99.9 %";
    page.push_str(
        &Chart { title: "Latency by percentile", unit: "ms", below, log: true, bands: &[], lines }
            .drawn(),
    );
}

fn freshness(report: &Report, page: &mut String) {
    page.push_str("<h2>Freshness: from 201 to seen</h2>");
    if report.freshness.is_empty() {
        return page.push_str("<p>Nothing was measured.</p>");
    }
    let row = |of: &super::Freshness| {
        let latency = &of.latency;
        let name =
            format!("{} <small>{} followers and more</small>", escaped(&of.way), of.followers_from);
        let mut row = vec![name, latency.count.to_string(), of.unseen.to_string()];
        row.extend([latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us].map(time));
        row
    };
    let rows: Vec<_> = report.freshness.iter().map(row).collect();
    table(&["", "count", "unseen", "p50", "p90", "p99", "max"], &rows, page);
}

fn server(samples: &[Sample], marks: &[Mark], page: &mut String) {
    page.push_str("<h2>The system meanwhile</h2>");
    if samples.is_empty() {
        return page.push_str("<p>No admin listener was asked.</p>");
    }
    let bands = &bands(marks);
    let mut waits: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples {
        for (lane, &depth) in &sample.lanes {
            waits.entry(lane).or_default().push((sample.at_s, depth as f64));
        }
        waits.entry("unsent").or_default().push((sample.at_s, sample.unsent as f64));
    }
    let lines =
        waits.into_iter().map(|(name, points)| Line { name: name.to_owned(), points }).collect();
    let chart =
        Chart { title: "Waiting messages", unit: "", below: "seconds", log: false, bands, lines };
    page.push_str(&chart.drawn());
    let change = |name: &str| -> Vec<(f64, f64)> {
        let of = |sample: &Sample| sample.counters.get(name).copied().unwrap_or(0.0);
        samples.windows(2).map(|two| (two[1].at_s, of(&two[1]) - of(&two[0]))).collect()
    };
    let (hits, misses) =
        (change("chirp_cache_reads_total.hit"), change("chirp_cache_reads_total.miss"));
    let share = hits.iter().zip(&misses).filter(|(hit, miss)| hit.1 + miss.1 > 0.0);
    let points = share.map(|(hit, miss)| (hit.0, 100.0 * hit.1 / (hit.1 + miss.1))).collect();
    let lines = vec![Line { name: "hits".to_owned(), points }];
    page.push_str(
        &Chart { title: "Cache hits", unit: "%", below: "seconds", log: false, bands, lines }
            .drawn(),
    );
    let lines = [("pushed", "chirp_deliveries_total"), ("spared", "chirp_writes_saved_total")];
    let lines =
        lines.map(|(name, counter)| Line { name: name.to_owned(), points: change(counter) });
    let chart = Chart {
        title: "Deliveries",
        unit: "per second",
        below: "seconds",
        log: false,
        bands,
        lines: lines.into(),
    };
    page.push_str(&chart.drawn());
}

fn audit(audit: Option<&Audit>, page: &mut String) {
    page.push_str("<h2>Audit</h2>");
    let Some(audit) = audit else {
        return page.push_str("<p>Nothing was audited.</p>");
    };
    let drained = audit.drained_s.map_or_else(
        || "it could not be asked when nothing was on its way".to_owned(),
        |s| format!("nothing was on its way after {s:.1} s"),
    );
    let _ = write!(
        page,
        "<p>On record: {} posts ({} of unknown end), {} deletes, {} changes of edges. Judged: {} pages as they \
         came; then, as {drained}, {} home and {} author timelines with {} deliveries, and the counts of {} \
         users. What one read showed may be missing in another for {} ms. The record takes at most {:.1} MB.</p>",
        audit.posts,
        audit.unknown,
        audit.deletes,
        audit.edges,
        audit.pages_live,
        audit.readers,
        audit.authors,
        audit.deliveries,
        audit.counted,
        audit.near_ms,
        audit.memory_max_bytes as f64 / 1e6
    );
    if audit.kinds.is_empty() {
        return page.push_str("<p class=\"good\">No violation.</p>");
    }
    let rows: Vec<_> =
        audit.kinds.iter().map(|(kind, n)| vec![escaped(kind), n.to_string()]).collect();
    table(&["kind", "count"], &rows, page);
    let or = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), escaped);
    let row = |of: &super::Violation| {
        let acknowledged = of.acknowledged_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
        let seen = of.seen_ms.to_string();
        let names = [or(&of.tweet), or(&of.author), or(&of.reader)];
        let mut row = vec![escaped(&of.kind)];
        row.extend(names);
        row.extend([acknowledged, seen, escaped(&of.about)]);
        row
    };
    let rows: Vec<_> = audit.violations.iter().take(VIOLATIONS_MAX).map(row).collect();
    table(
        &["kind", "tweet", "author", "reader", "acknowledged ms", "seen ms", "about"],
        &rows,
        page,
    );
}

fn about(report: &Report, page: &mut String) {
    let (driver, plan, place) = (&report.driver, &report.plan, &report.environment);
    page.push_str("<h2>The driver, the plan and the place</h2>");
    let mix: Vec<String> =
        plan.mix.iter().map(|(name, share)| format!("{name} {:.1} %", share * 100.0)).collect();
    let facts: Vec<String> =
        place.facts.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let exempt = if plan.exempt {
        "exempt from rate limits by their tokens"
    } else {
        "counted by rate limits"
    };
    let rows = [
        (
            "sent, skipped, dropped",
            format!("{}, {}, {}", driver.sent, driver.skipped, driver.dropped),
        ),
        (
            "late, p99 and worst",
            format!("{}, {}", time(driver.late_p99_us), time(driver.late_max_us)),
        ),
        ("waited for a connection at once", driver.backlog_max.to_string()),
        (
            "processor, host's share, memory",
            format!(
                "{:.1} s, {:.2} %, {:.0} MB",
                driver.cpu_s,
                driver.steal * 100.0,
                driver.resident_bytes as f64 / 1e6
            ),
        ),
        ("profile, seed", format!("{}, {}", plan.profile, plan.seed)),
        ("arrivals", format!("{} ({}) in {:.0} s", plan.arrivals, plan.process, plan.length_s)),
        ("mix", mix.join(", ")),
        ("connections, threads", format!("{}, {}", plan.connections, plan.workers)),
        ("population", format!("{}: {} users who act, {exempt}", plan.population, plan.users)),
        (
            "machine",
            format!(
                "{}, {} cores, load {:.2} before",
                place.system, place.cores, place.load_before
            ),
        ),
        ("target", facts.join(", ")),
        ("chirp", report.version.clone()),
    ];
    let rows: Vec<_> =
        rows.iter().map(|(name, value)| vec![escaped(name), escaped(value)]).collect();
    table(&["", ""], &rows, page);
    let _ = write!(page, "<pre>{}</pre>", escaped(&report.command));
}

#[cfg(test)]
mod tests {
    use super::{super::tests::report, *};

    /// The names of tags that are opened and not closed, or the other way.
    fn open_tags(html: &str) -> Vec<String> {
        let mut open = Vec::new();
        for tag in html.split('<').skip(1) {
            let (inner, _) = tag.split_once('>').unwrap_or_else(|| panic!("`<{tag}` has no end"));
            let name = inner.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
            if inner.starts_with('/') {
                assert_eq!(open.pop().as_ref(), Some(&name), "`<{inner}>`");
            } else if !inner.ends_with('/') && !["!doctype", "meta"].contains(&name.as_str()) {
                open.push(name);
            }
        }
        open
    }

    #[test]
    fn a_page_is_whole_and_says_nothing_of_its_own() {
        let page = page(&report());
        assert!(open_tags(&page).is_empty());
        assert!(!page.contains("<b>ada</b>") && page.contains("&lt;b&gt;ada&lt;/b&gt;"));
        assert!(!page.contains("http://evil") || !page.contains("src="), "nothing is loaded");
        for wanted in
            ["audit violated", "timeline.p99 &lt; 5ms", "Invalid: the driver was late", "300 %"]
        {
            assert!(page.contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn a_run_without_anything_is_a_page_too() {
        let empty = super::super::tests::empty();
        let page = page(&empty);
        assert!(open_tags(&page).is_empty());
        for wanted in ["The profile has none.", "No admin listener", "Nothing was audited."] {
            assert!(page.contains(wanted), "{wanted}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
