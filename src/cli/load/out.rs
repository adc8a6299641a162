//! Where reports go.

use std::path::Path;

use super::{
    super::{
        exit::{Exit, Failure},
        printer::Printer,
    },
    Args,
};
use crate::load::{
    calibrate::{self, Calibration},
    find_max::{self, Found},
    report::{Report, html, text},
    runs::{self, Runs},
    verdict::{INVALID, VIOLATED},
};

/// Refuses a report that could not be written after a run of hours.
pub(super) fn may_be_written(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() || path.is_dir() {
        let sentence = format!("the report cannot be written to `{}`", path.display());
        return Err(Failure::new(Exit::Usage, sentence, "name a file in a folder that is there"));
    }
    Ok(())
}

/// Writes the report out.
pub(super) fn told(printer: Printer, args: &Args, report: &Report) -> Result<Exit, Failure> {
    let json = serde_json::to_string_pretty(report).expect("a report has only string keys");
    write_out(printer, args, &json, Some(&html::page(report)), &text::summary(report))?;
    Ok(Exit::of_load(report.verdict.exit))
}

/// Writes out which rate was found.
pub(super) fn told_found(printer: Printer, args: &Args, found: &Found) -> Result<Exit, Failure> {
    let json = serde_json::to_string_pretty(found).expect("it has only string keys");
    let page = found.report.as_ref().map(html::page);
    let mut lines = found.report.as_ref().map(text::summary).unwrap_or_default();
    lines.extend(find_max::summary(found));
    write_out(printer, args, &json, page.as_deref(), &lines)?;
    Ok(Exit::of_load(found.exit))
}

/// Writes out what operations cost.
pub(super) fn told_calibration(
    printer: Printer,
    path: &Path,
    calibration: &Calibration,
) -> Result<Exit, Failure> {
    let json = serde_json::to_string_pretty(calibration).expect("it has only string keys");
    if path == Path::new("-") {
        printer.data(&json)?;
    } else {
        for line in calibrate::summary(calibration) {
            printer.data(&line)?;
        }
        written(path, &json)?;
    }
    Ok(Exit::of_load(calibration.exit))
}

/// Writes out several runs, and how they compare.
pub(super) fn told_runs(
    printer: Printer,
    args: &Args,
    reports: Vec<Report>,
    baseline: Option<&[Report]>,
) -> Result<Exit, Failure> {
    let mut lines = Vec::new();
    for report in &reports {
        lines.extend(text::summary(report));
    }
    let mut old = None;
    if let (Some(baseline), Some(last)) = (baseline, reports.last()) {
        match runs::alike(&baseline[0].plan, &last.plan) {
            Ok(()) => old = Some(baseline),
            Err(why) => lines.push(format!("not compared with the baseline: {why}")),
        }
    }
    let page = reports.last().map(html::page);
    let mut all = Runs::new(reports, old);
    lines.extend(all.comparison.iter().flat_map(runs::summary));
    if baseline.is_some() && all.comparison.is_none() && all.exit != VIOLATED {
        all.exit = INVALID;
    }
    let json = serde_json::to_string_pretty(&all).expect("it has only string keys");
    write_out(printer, args, &json, page.as_deref(), &lines)?;
    Ok(Exit::of_load(all.exit))
}

/// Writes files, and lines to stdout unless the JSON goes there; what can be is written even if something
/// else cannot.
pub(super) fn write_out(
    printer: Printer,
    args: &Args,
    json: &str,
    page: Option<&str>,
    lines: &[String],
) -> Result<(), Failure> {
    let mut failed = None;
    if let (Some(path), Some(page)) = (&args.html, page) {
        failed = written(path, page).err();
    }
    match &args.json {
        Some(path) if path == Path::new("-") => printer.data(json)?,
        Some(path) => failed = written(path, json).err().or(failed),
        None => {}
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        for line in lines {
            printer.data(line)?;
        }
    }
    failed.map_or(Ok(()), Err)
}

fn written(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        let sentence = format!("the report cannot be written to `{}`: {error}", path.display());
        Failure::new(Exit::Unwritable, sentence, "make room; the figures are on stdout")
    })
}
