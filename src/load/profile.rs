//! The profile of a run: a file of TOML, or one that is built in.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{
    mix::{Actors, Mix, NAMED, Op},
    rates::{Process, Rates},
};

/// The longest run.
const LENGTH_MAX: Duration = Duration::from_hours(24);
/// The highest rate, in requests per second.
const RATE_MAX: f64 = 1_000_000.0;
/// The most connections.
const CONNECTIONS_MAX: usize = 20_000;
/// The most points, steps or lines that a rate is made of.
const POINTS_MAX: usize = 1_000;
/// Lines that a day is drawn with.
const DAY_LINES: u32 = 96;

/// Profiles that are built in, by name.
pub const BUILT_IN: [(&str, &str); 1] =
    [("steady", include_str!("../../fixtures/load/steady.toml"))];

/// What is wrong with a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Everything random of the schedule follows from it.
    pub seed: u64,
    /// What is asked for.
    pub mix: Mix,
    /// How often.
    pub rates: Rates,
    /// How arrivals are spread.
    pub process: Process,
    /// Connections, each a virtual client.
    pub connections: usize,
    /// Posts a second that are followed to a reader.
    pub probes_per_s: f64,
    /// Streams that are listened to.
    pub streams: usize,
    /// Readers whose timelines are audited.
    pub audit_readers: usize,
    /// Objectives, as they are written.
    pub slo: Vec<String>,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(default = "one")]
    seed: u64,
    mix: WrittenMix,
    arrivals: WrittenArrivals,
    #[serde(default = "connections")]
    connections: usize,
    #[serde(default)]
    freshness: WrittenFreshness,
    #[serde(default)]
    audit: WrittenAudit,
    #[serde(default)]
    slo: Vec<String>,
}

const fn one() -> u64 {
    1
}

const fn connections() -> usize {
    64
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenMix {
    Name(String),
    Weights(BTreeMap<String, f64>),
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFreshness {
    probes_per_s: f64,
    streams: usize,
}

impl Default for WrittenFreshness {
    fn default() -> Self {
        Self { probes_per_s: 10.0, streams: 16 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAudit {
    readers: usize,
}

impl Default for WrittenAudit {
    fn default() -> Self {
        Self { readers: 1_000 }
    }
}

/// Times are texts such as `500ms`, `30s`, `10m`, `2h`.
#[derive(Debug, Deserialize)]
#[serde(tag = "shape", rename_all = "lowercase", deny_unknown_fields)]
enum WrittenArrivals {
    Constant {
        #[serde(default)]
        process: Process,
        rate: f64,
        length: String,
    },
    Soak {
        #[serde(default)]
        process: Process,
        rate: f64,
        length: String,
    },
    Ramp {
        #[serde(default)]
        process: Process,
        from: f64,
        to: f64,
        length: String,
    },
    Steps {
        #[serde(default)]
        process: Process,
        rates: Vec<f64>,
        each: String,
    },
    Spike {
        #[serde(default)]
        process: Process,
        rate: f64,
        peak: f64,
        at: String,
        lasts: String,
        length: String,
    },
    Diurnal {
        #[serde(default)]
        process: Process,
        low: f64,
        high: f64,
        day: String,
        length: String,
    },
}

impl Profile {
    /// The profile that is built in under a name.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text, name).expect("a test reads every profile that is built in"))
    }

    /// The profile of a file's `text`, called `name` unless it says otherwise.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str, name: &str) -> Result<Self, Invalid> {
        let written: Written =
            toml::from_str(text).map_err(|error| Invalid(error.to_string().trim().to_owned()))?;
        let mix = mix(&written.mix)?;
        let (process, rates) = arrivals(&written.arrivals)?;
        let profile = Self {
            name: written.name.unwrap_or_else(|| name.to_owned()),
            seed: written.seed,
            mix,
            rates,
            process,
            connections: written.connections,
            probes_per_s: written.freshness.probes_per_s,
            streams: written.freshness.streams,
            audit_readers: written.audit.readers,
            slo: written.slo,
        };
        profile.check()?;
        Ok(profile)
    }

    /// Holds every number to its bounds.
    ///
    /// # Errors
    /// The first that is outside.
    pub fn check(&self) -> Result<(), Invalid> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Invalid(format!("`{name}` is {value}; allowed are {low} to {high}")))
        };
        #[expect(clippy::cast_precision_loss, reason = "bounds are small")]
        let of = |count: usize| count as f64;
        within("connections", of(self.connections), 1.0, of(CONNECTIONS_MAX))?;
        within("freshness.probes_per_s", self.probes_per_s, 0.0, 1_000.0)?;
        within("freshness.streams", of(self.streams), 0.0, 1_000.0)?;
        within("audit.readers", of(self.audit_readers), 0.0, 10_000_000.0)?;
        within("the length in seconds", self.rates.length_s(), 1.0, LENGTH_MAX.as_secs_f64())?;
        for &(_, rate) in self.rates.points() {
            within("a rate", rate, 0.0, RATE_MAX)?;
        }
        if self.rates.total() < 1.0 {
            return Err(Invalid("the schedule has no request".to_owned()));
        }
        Ok(())
    }
}

/// The mix of a name.
///
/// # Errors
/// There is none.
pub fn named_mix(name: &str) -> Result<Mix, Invalid> {
    Mix::named(name).ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|named| named.name).collect();
        Invalid(format!("there is no mix `{name}`; there are {}", names.join(", ")))
    })
}

fn mix(written: &WrittenMix) -> Result<Mix, Invalid> {
    let weights = match written {
        WrittenMix::Name(name) => return named_mix(name),
        WrittenMix::Weights(weights) => weights,
    };
    let mut known = Vec::new();
    for (name, weight) in weights {
        let op = Op::parse(name).ok_or_else(|| {
            let names = Op::ALL.map(Op::name).join(", ");
            Invalid(format!("`mix.{name}` is no operation; there are {names}"))
        })?;
        known.push((op, *weight));
    }
    Mix::of(known, Actors::Skewed).ok_or_else(|| {
        Invalid("the weights of `mix` must be above 0, and one must be there".to_owned())
    })
}

/// A time such as `500ms`, `30s`, `10m`, `2h`.
///
/// # Errors
/// It is none.
pub fn time(text: &str) -> Result<Duration, Invalid> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: Option<f64> = text[..text.len() - unit.len()].parse().ok();
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => f64::NAN,
    };
    let seconds = number.unwrap_or(f64::NAN) * factor;
    if seconds.is_finite() && seconds <= LENGTH_MAX.as_secs_f64() {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Invalid(format!("`{text}` is no time such as `500ms`, `30s`, `10m`, up to `24h`")))
}

fn arrivals(written: &WrittenArrivals) -> Result<(Process, Rates), Invalid> {
    let seconds = |text: &str| time(text).map(|time| time.as_secs_f64());
    let (process, points) = match written {
        WrittenArrivals::Constant { process, rate, length }
        | WrittenArrivals::Soak { process, rate, length } => {
            (process, vec![(0.0, *rate), (seconds(length)?, *rate)])
        }
        WrittenArrivals::Ramp { process, from, to, length } => {
            (process, vec![(0.0, *from), (seconds(length)?, *to)])
        }
        WrittenArrivals::Steps { process, rates, each } => {
            let each = seconds(each)?;
            let mut points = Vec::new();
            for rate in rates {
                let from = points.last().map_or(0.0, |&(at, _)| at);
                points.extend([(from, *rate), (from + each, *rate)]);
            }
            (process, points)
        }
        WrittenArrivals::Spike { process, rate, peak, at, lasts, length } => {
            let (at, length) = (seconds(at)?, seconds(length)?);
            let end = at + seconds(lasts)?;
            if end > length {
                return Err(Invalid("the spike ends after the run".to_owned()));
            }
            let calm = [(0.0, *rate), (at, *rate)];
            let spike = [(at, *peak), (end, *peak)];
            (
                process,
                calm.into_iter().chain(spike).chain([(end, *rate), (length, *rate)]).collect(),
            )
        }
        WrittenArrivals::Diurnal { process, low, high, day, length } => {
            let (day, length) = (seconds(day)?, seconds(length)?);
            (process, diurnal(*low, *high, day, length))
        }
    };
    if points.len() < 2 || points.len() > POINTS_MAX {
        return Err(Invalid(format!("a rate has one to {} lines", POINTS_MAX / 2)));
    }
    if points.iter().any(|&(_, rate)| !(0.0..=RATE_MAX).contains(&rate)) {
        return Err(Invalid(format!("a rate lies between 0 and {RATE_MAX} requests a second")));
    }
    Ok((*process, Rates::new(points)))
}

/// A day begins at its lowest, and is highest in its middle.
fn diurnal(low: f64, high: f64, day: f64, length: f64) -> Vec<(f64, f64)> {
    let step = (day / f64::from(DAY_LINES)).max(length / (POINTS_MAX as f64 - 2.0));
    let rate = |at: f64| {
        let turn = std::f64::consts::TAU * at / day;
        low + (high - low) * (1.0 - libm::cos(turn)) / 2.0
    };
    let mut points = Vec::new();
    let mut at = 0.0;
    while at < length {
        points.push((at, rate(at)));
        at += step;
    }
    points.push((length, rate(length)));
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Profile, String> {
        Profile::parse(text, "test").map_err(|error| error.0)
    }

    fn with(arrivals: &str) -> String {
        format!("mix = \"deathstar\"\n[arrivals]\n{arrivals}\n")
    }

    #[test]
    fn every_profile_that_is_built_in_can_be_read() {
        for (name, _) in BUILT_IN {
            assert_eq!(Profile::built_in(name).unwrap().name, name);
        }
        assert!(Profile::built_in("nothing").is_none());
    }

    #[test]
    fn every_shape_has_its_area() {
        for (shape, total) in [
            ("shape = \"constant\"\nrate = 10\nlength = \"2s\"", 20.0),
            ("shape = \"soak\"\nrate = 10\nlength = \"1m\"", 600.0),
            ("shape = \"ramp\"\nfrom = 0\nto = 10\nlength = \"2s\"", 10.0),
            ("shape = \"steps\"\nrates = [1, 2, 3]\neach = \"2s\"", 12.0),
            (
                "shape = \"spike\"\nrate = 1\npeak = 9\nat = \"2s\"\nlasts = \"1s\"\nlength = \"10s\"",
                18.0,
            ),
            ("shape = \"diurnal\"\nlow = 1\nhigh = 3\nday = \"10s\"\nlength = \"20s\"", 40.0),
        ] {
            let profile = parse(&with(shape)).unwrap();
            let found = profile.rates.total();
            assert!((found - total).abs() < 0.1, "{shape}: {found}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let steady = "shape = \"constant\"\nrate = 10\nlength = \"2s\"";
        for (text, wanted) in [
            (with("shape = \"constant\"\nrate = 10\nlength = \"2\""), "no time"),
            (with("shape = \"constant\"\nrate = -1\nlength = \"2s\""), "a rate lies between"),
            (with("shape = \"constant\"\nrate = 0\nlength = \"2s\""), "no request"),
            (with("shape = \"round\"\nrate = 1\nlength = \"2s\""), "unknown variant `round`"),
            (with("shape = \"steps\"\nrates = []\neach = \"2s\""), "one to"),
            (
                with("shape = \"spike\"\nrate=1\npeak=2\nat=\"9s\"\nlasts=\"2s\"\nlength=\"10s\""),
                "ends after",
            ),
            (with(steady).replace("deathstar", "darkstar"), "there is no mix `darkstar`"),
            (with(steady).replace("\"deathstar\"", "{ read = 1 }"), "`mix.read` is no operation"),
            (with(steady).replace("\"deathstar\"", "{ post = 0 }"), "must be above 0"),
            (format!("connections = 0\n{}", with(steady)), "`connections` is 0"),
            (format!("speed = 3\n{}", with(steady)), "unknown field `speed`"),
            ("mix = ".to_owned(), "TOML parse error"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
