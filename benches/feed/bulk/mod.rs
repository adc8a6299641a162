//! Part "bulk": rows per second of `chirp seed 10k`, beside bare writers of the same rows into the same
//! tables: [`files`] one transaction per file, [`servers`] `COPY` and a pipelining client of Cassandra.
//!
//! Each slice fills a data set of its own, chirp and the bare writers in turns. Counted are all rows of
//! users, counts, pairs, tweets and both copies; not the hashes of passwords, which are written last.

mod files;
mod servers;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use chirp::stack::seed::{Order, Plan};
use serde::Deserialize;

use crate::{
    containers::Servers,
    report::{Part, Ratio, Series},
    server::Server,
    stack::Backends,
};

const PROFILE: &str = "10k";
/// Slices of each side.
const SLICES: usize = 3;

/// What `chirp seed --json` says.
#[derive(Deserialize)]
struct Report {
    sha256: String,
    /// Seconds that filling took, without the plan, tokens and the end.
    wall_s: f64,
}

/// Measures it.
pub(crate) async fn run(backends: Backends) -> Part {
    let plan = Plan::new(&Order::of(PROFILE)).unwrap();
    match backends {
        Backends::Embedded => embedded(&plan),
        Backends::Containers => containers(&plan).await,
    }
}

fn embedded(plan: &Plan) -> Part {
    let mut part = Part::new("bulk");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..SLICES {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let took = files::fill(folders[1].path(), plan);
        let report = seed(folders[0].path(), &[]);
        assert_eq!(report.sha256, plan.sha256());
        let rows = folders.each_ref().map(|folder| files::rows(folder.path()));
        if rows[0] != rows[1] {
            part.broken = Some(format!("chirp has {} rows, the bare writer {}", rows[0], rows[1]));
        }
        ours.push(rows[0] as f64 / report.wall_s);
        bare.push(rows[1] as f64 / took);
        part.notes = vec![format!("{} rows in each data set of `chirp seed {PROFILE}`", rows[0])];
    }
    part.chirp.push(Series::new("rows", "1/s", ours));
    part.reference.push(Series::new("rows of a bare writer", "1/s", bare));
    compare(&mut part, "rows/s, of a bare writer's");
    part.note(
        "the bare writer has a transaction per file, plain inserts in the order of the tables and no \
         look at what is there; chirp commits every batch, first in the copy, then in the truth",
    );
    part
}

async fn containers(plan: &Plan) -> Part {
    let mut part = Part::new("bulk");
    let folder = tempfile::tempdir().unwrap();
    let chirp = Server::chirp(folder.path(), Backends::Containers).await;
    let servers = Servers::of(folder.path());
    chirp.hold();
    let rows = servers::Rows::of(plan);
    let (mut ours, mut copy, mut cql, mut both) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for slice in 0..SLICES {
        let bare = servers::Bare::make(&servers, slice).await;
        let took = bare.copy(&servers, plan);
        let written = bare.write(&rows);
        let found = bare.rows(&servers);
        copy.push(found as f64 / took);
        cql.push(rows.len() as f64 / written);
        both.push((found + rows.len()) as f64 / (took + written));

        let own = tempfile::tempdir().unwrap();
        let config = servers::configured(&servers, slice, own.path());
        let report = seed(own.path(), &["--config", &config]);
        assert_eq!(report.sha256, plan.sha256());
        let ends = servers::rows(&servers, &servers::names(slice, servers::OURS));
        if ends != found {
            part.broken = Some(format!("chirp has {ends} rows, the bare writer {found}"));
        }
        ours.push((ends + rows.len()) as f64 / report.wall_s);
    }
    part.chirp.push(Series::new("rows", "1/s", ours));
    let name = "rows, COPY then CQL";
    part.reference.push(Series::new(name, "1/s", both));
    part.reference.push(Series::new("rows into PostgreSQL by COPY", "1/s", copy));
    part.reference.push(Series::new("rows into Cassandra, batches", "1/s", cql));
    compare(&mut part, "rows/s, of COPY and CQL one after the other");
    part.note(format!(
        "{} rows go to Cassandra in each data set; the bare client has {} batches of {} rows of one \
         partition in work at once, and chirp as many as `cassandra.in_flight_max` says by default; the \
         stack that started the containers is held still",
        rows.len(),
        servers::AT_ONCE,
        servers::BATCH_ROWS,
    ));
    part
}

fn compare(part: &mut Part, name: &'static str) {
    let value = part.chirp[0].median() / part.reference[0].median();
    part.ratios = vec![Ratio { name, value, goal: None, at_most: false }];
}

/// Fills a folder, as anybody would, or the servers that more words lead to.
fn seed(dir: &Path, words: &[&str]) -> Report {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHIRP_") {
            command.env_remove(name);
        }
    }
    command.args(["seed", PROFILE, "--json", "--data-dir"]).arg(dir).args(words);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "chirp seed failed");
    serde_json::from_slice(&output.stdout).unwrap()
}
