//! Part 3: deliveries per second, from envelopes on the bus to their acknowledgement.
//!
//! The real workers over the real stores, in a process of their own without HTTP ([`child`]): warm and
//! full timelines, authors with 403 followers on average, the first followed by a third of all. A
//! round enqueues tweets while no worker runs, and then lets the workers do them all. Beside it as
//! many bare pushes, with the followers in memory: what is left if store, bus and everything else
//! cost nothing ([`sides`] has both). At the end every list is compared with what it should hold.

mod child;
mod sides;

use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

pub(crate) use self::child::child;
use crate::{
    report::{Part, Ratio, Series},
    stack::{Side, Stack},
};

const GOAL_EMBEDDED: f64 = 1e6;
/// Of the deliveries of a bare client.
const GOAL_CONTAINERS: f64 = 0.7;
/// Of Redis' memory.
const GOAL_BYTES: f64 = 20.0;
/// Rama, "How we reduced the cost of building Twitter at Twitter-scale by 100x", 2023.
const PUBLISHED: f64 = 31_000.0;

/// What some deliveries took.
#[derive(Clone, Serialize, Deserialize)]
struct Spent {
    deliveries: f64,
    wall_s: f64,
    /// Processor seconds, by process; who delivers is the first.
    cpu_s: Vec<(String, f64)>,
}

/// What the process of the part found.
#[derive(Serialize, Deserialize)]
struct Found {
    chirp: Vec<Spent>,
    bare: Vec<Spent>,
    /// Bytes of Redis' memory per entry, of some full lists.
    bytes_per_entry: Vec<f64>,
    /// What was compared at the end, or what is wrong.
    checked: Result<String, String>,
}

/// Over files.
pub(crate) fn embedded() -> Part {
    let found = measure(&[]);
    let per_core = |all: &[Spent]| -> Vec<f64> {
        all.iter().map(|spent| spent.deliveries / spent.cpu_s[0].1).collect()
    };
    let mut part = Part::new("fanout");
    part.chirp.push(Series::new("deliveries per core", "1/s", per_core(&found.chirp)));
    part.chirp.push(per_second(&found.chirp));
    part.reference.push(Series::new("bare pushes per core", "1/s", per_core(&found.bare)));
    let (ours, bare) = (part.chirp[0].median(), part.reference[0].median());
    part.ratios = vec![
        at_least("deliveries per second and core", ours, Some(GOAL_EMBEDDED)),
        at_least("of bare pushes", ours / bare, None),
        at_least("of Rama's 31,000 per vCPU", ours / PUBLISHED, None),
    ];
    part.note(
        "Rama's figure is of a cluster with a replicated durable store and a network between;",
    );
    part.note("here one process pushes into lists in memory over a durable source");
    part.checked(found.checked)
}

/// Over the servers of a stack, which is held still meanwhile and afterwards.
pub(crate) fn containers(stack: &Stack) -> Part {
    stack.chirp.hold();
    let Side::Servers(_) = stack.side else { unreachable!("a stack over servers") };
    let found = measure(&[stack.folder.path().to_str().unwrap()]);
    let mut part = Part::new("fanout");
    for (side, all) in [(&mut part.chirp, &found.chirp), (&mut part.reference, &found.bare)] {
        side.push(per_second(all));
        for (at, (name, _)) in all[0].cpu_s.iter().enumerate() {
            let us = all.iter().map(|spent| spent.cpu_s[at].1 * 1e6 / spent.deliveries).collect();
            side.push(Series::new(&format!("{name} cpu per delivery"), "us", us));
        }
    }
    let bytes = Series::new("bytes per warm entry", "byte", found.bytes_per_entry);
    let (_, bytes_median, _) = bytes.spread();
    part.chirp.push(bytes);
    let (ours, bare) = (part.chirp[0].median(), part.reference[0].median());
    let per_core = |counted: &dyn Fn(&str) -> bool| {
        let each = found.chirp.iter().map(|spent| {
            let own = spent.cpu_s.iter().filter(|(name, _)| counted(name));
            spent.deliveries / own.map(|(_, cpu_s)| cpu_s).sum::<f64>()
        });
        Series::new("", "", each.collect()).median()
    };
    part.ratios = vec![
        at_least("deliveries/s, of the bare client's", ours / bare, Some(GOAL_CONTAINERS)),
        at_least("deliveries per cpu-second of chirp", per_core(&|name| name == "chirp"), None),
        at_least("deliveries per cpu-second of redis", per_core(&|name| name == "redis"), None),
        at_least("of Rama's 31,000 per vCPU, all processes", per_core(&|_| true) / PUBLISHED, None),
        Ratio {
            name: "bytes per warm entry",
            value: bytes_median,
            goal: Some(GOAL_BYTES),
            at_most: true,
        },
    ];
    part.note(
        "the bare client sends the same script for as many deliveries to the same full lists, in \
         pipelines of 512 over as many connections, packed before the clock starts and each list's in \
         order",
    );
    part.note(
        "Rama's figure is of a cluster that also stores every timeline durably and in copies; here \
         one Redis holds them and can be rebuilt from Cassandra, which has one node",
    );
    part.checked(found.checked)
}

/// Runs the part in a process of its own, so that its memory and processor time are its own.
fn measure(args: &[&str]) -> Found {
    let own = std::env::current_exe().unwrap();
    let child = Command::new(own).arg("fan-out").args(args).stdout(Stdio::piped()).spawn();
    let output = child.unwrap().wait_with_output().unwrap();
    assert!(output.status.success(), "the fan-out process failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn per_second(all: &[Spent]) -> Series {
    let each = all.iter().map(|spent| spent.deliveries / spent.wall_s).collect();
    Series::new("deliveries", "1/s", each)
}

fn at_least(name: &'static str, value: f64, goal: Option<f64>) -> Ratio {
    Ratio { name, value, goal, at_most: false }
}

impl Part {
    /// With what was compared at the end.
    fn checked(mut self, checked: Result<String, String>) -> Self {
        match checked {
            Ok(note) => self.note(note),
            Err(why) => self.broken = Some(why),
        }
        self
    }
}
