//! `chirp sim graph`: makes a graph, or reads one, and says what it is like.

use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::{
    exit::{Exit, Failure},
    printer::Printer,
};
use crate::graph::{
    Graph, PRESETS, Shape,
    edges::{self, Read},
    generate,
    stats::{Degrees, Stats},
};

/// Version of what `--json` prints.
const SCHEMA: &str = "chirp.sim.graph/1";

/// Flags of `sim graph`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A named size
    #[arg(long, value_name = "NAME", default_value = "100k",
          value_parser = PossibleValuesParser::new(PRESETS.map(|(name, ..)| name)))]
    preset: String,
    /// So many users instead, 2 to 134,217,728
    #[arg(long, value_name = "N")]
    users: Option<u32>,
    /// So many edges instead, at most about a sixth of the square of the users
    #[arg(long, value_name = "M")]
    edges: Option<u32>,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How wide the distribution of followees is, 0 to 3 [default: 1.0]
    #[arg(long, value_name = "X")]
    sigma: Option<f64>,
    /// The power by which the share of users with k followers falls, 1.5 to 4 [default: 2.276]
    #[arg(long, value_name = "X")]
    exponent: Option<f64>,
    /// The share of edges that are returned, 0 to 0.9 [default: 0.221]
    #[arg(long, value_name = "X")]
    reciprocity: Option<f64>,
    /// The share of users who follow the largest account, 0 to 0.9 [default: 0.3]
    #[arg(long, value_name = "X")]
    largest: Option<f64>,
    /// Read a list of edges (two numbers a line, as SNAP gives them) instead of making one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "users", "edges", "seed",
          "sigma", "exponent", "reciprocity", "largest"])]
    file: Option<PathBuf>,
    /// Write the edges to this file, as such a list
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    version: &'static str,
    #[serde(flatten)]
    stats: &'a Stats,
    /// Seconds that making or reading it took.
    wall_s: f64,
}

/// Runs the verb.
pub(super) fn run(printer: Printer, args: &Args) -> Result<Exit, Failure> {
    let began = Instant::now();
    let graph = match &args.file {
        Some(path) => read(printer, path)?,
        None => generate(&args.shape()).map_err(|invalid| {
            let hint = "`chirp sim graph --help` has the bounds";
            Failure::new(Exit::Usage, format!("there is no such graph: {invalid}"), hint)
        })?,
    };
    let wall_s = began.elapsed().as_secs_f64();
    if let Some(path) = &args.out {
        write(&graph, path)?;
    }
    let stats = Stats::of(&graph);
    if args.json {
        let report =
            Report { schema: SCHEMA, version: env!("CARGO_PKG_VERSION"), stats: &stats, wall_s };
        printer.data(&serde_json::to_string(&report).expect("a report has only string keys"))?;
    } else {
        printer.talk(&format!("{} edges in {wall_s:.2} s", stats.edges));
        for line in lines(&stats) {
            printer.data(&line)?;
        }
    }
    Ok(Exit::Ok)
}

impl Args {
    fn shape(&self) -> Shape {
        let known = Shape::preset(&self.preset, self.seed).expect("one of the possible values");
        Shape {
            users: self.users.unwrap_or(known.users),
            edges: self.edges.unwrap_or(known.edges),
            out_sigma: self.sigma.unwrap_or(known.out_sigma),
            in_exponent: self.exponent.unwrap_or(known.in_exponent),
            reciprocity: self.reciprocity.unwrap_or(known.reciprocity),
            largest: self.largest.unwrap_or(known.largest),
            ..known
        }
    }
}

fn read(printer: Printer, path: &Path) -> Result<Graph, Failure> {
    let hint = "a line has two numbers, who follows and who is followed; `#` begins a comment";
    let failed = |why: String| {
        let sentence = format!("`{}` is not a list of edges: {why}", path.display());
        Failure::new(Exit::Failure, sentence, hint)
    };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let read = edges::read(BufReader::new(file)).map_err(|error| failed(error.to_string()))?;
    let Read { graph, repeated, loops, .. } = read;
    if repeated + loops > 0 {
        let text = format!("{repeated} lines repeat an edge, in {loops} somebody follows themself");
        printer.talk(&text);
    }
    Ok(graph)
}

fn write(graph: &Graph, path: &Path) -> Result<(), Failure> {
    let written = File::create(path).and_then(|file| edges::write(graph, BufWriter::new(file)));
    written.map_err(|error| {
        let sentence = format!("`{}` cannot be written: {error}", path.display());
        Failure::new(Exit::Failure, sentence, "name a file in a folder with room")
    })
}

fn lines(stats: &Stats) -> Vec<String> {
    let degrees = |name: &str, of: Degrees| {
        let Degrees { p50, p90, p99, max } = of;
        format!("{name:<14} p50 {p50}, p90 {p90}, p99 {p99}, most {max}")
    };
    let line = |name: &str, value: String| format!("{name:<14} {value}");
    let share = stats.largest_share * 100.0;
    vec![
        line("users", stats.users.to_string()),
        line("edges", format!("{} ({:.1} a user)", stats.edges, stats.mean)),
        degrees("following", stats.following),
        degrees("followers", stats.followers),
        line("exponent", stats.exponent.map_or_else(|| "none".to_owned(), |x| format!("{x:.3}"))),
        line("reciprocity", format!("{:.1} %", stats.reciprocity * 100.0)),
        line("largest", format!("user {}, followed by {share:.1} % of the others", stats.largest)),
        line("memory", format!("{:.1} bytes an edge", stats.bytes_per_edge)),
        line("sha256", stats.sha256.clone()),
    ]
}
