//! `chirp replay --since T`: publishes again everything that was committed since a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    context::{Context, block_on, no_answer},
    exit::{Exit, Failure},
};
use crate::stack::{DataDir, StackError, admin::Moved, client, data_dir::Running, offline};

/// A number below this, other than 0, is meant as seconds: as milliseconds it would be before 1974.
const SECONDS_MAX: u64 = 1_u64 << 37;

/// Flags of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long ago (`90s`, `30m`, `2h`, `7d`), or when (RFC 3339, or milliseconds since the epoch)
    #[arg(long, value_name = "T", value_parser = since)]
    since: Since,
    /// `timeline.db` was lost: begin it anew, to be filled by this replay (nothing may run)
    #[arg(long)]
    rebuild: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    AgoMs(u64),
    AtMs(u64),
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let config = context.load(Vec::new())?.config;
    let dir = DataDir::at(&config.up.data_dir);
    let since_ms = match args.since {
        Since::AtMs(at) => at,
        Since::AgoMs(ago) => now_ms().saturating_sub(ago),
    };
    if since_ms > now_ms() {
        let sentence = "`--since` names a time that has not come yet";
        return Err(Failure::new(Exit::Usage, sentence, "`--since 2h` is two hours ago"));
    }
    let moved = match dir.running() {
        // Whatever runs over the servers, and wherever: it finds the events in its outbox.
        _ if config.backends.external() => {
            if args.rebuild {
                let sentence = "`--rebuild` begins the file `timeline.db` anew, and with external backends there is none";
                let hint = "leave it out: what Cassandra lacks is written again by the replay";
                return Err(Failure::new(Exit::Usage, sentence, hint));
            }
            block_on(offline::replay_servers(&config, since_ms))??
        }
        Running::Starting => {
            let (path, holder) = (dir.root().to_owned(), "a process that starts".to_owned());
            return Err(StackError::Locked { path, holder }.into());
        }
        Running::Nothing => block_on(offline::replay(&dir, since_ms, args.rebuild))??,
        Running::Up(_) | Running::Roles(_) if args.rebuild => {
            let (path, holder) = (dir.root().to_owned(), "what runs".to_owned());
            return Err(StackError::Locked { path, holder }.into());
        }
        Running::Up(run) => block_on(ask(&dir, BTreeSet::from([run.admin]), since_ms))??,
        Running::Roles(runs) => {
            // Replicas of a role have one outbox, and a process may run several roles.
            let mut one_of_each = BTreeMap::new();
            for (role, run) in runs {
                one_of_each.entry(role).or_insert(run.admin);
            }
            let admins = one_of_each.into_values().collect();
            block_on(ask(&dir, admins, since_ms))??
        }
    };
    context.printer.talk("events that are on their way again:");
    context.printer.data(&moved.to_string())?;
    Ok(Exit::Ok)
}

async fn ask(
    dir: &DataDir,
    admins: BTreeSet<std::net::SocketAddr>,
    since_ms: u64,
) -> Result<u64, Failure> {
    let token = dir.read_token()?;
    let token = token.ok_or_else(|| StackError::other("read the service token", "it is gone"))?;
    let mut moved = 0;
    for admin in admins {
        let path = format!("/replay?since_ms={since_ms}");
        let answer = client::post(admin, &path, &token).await.map_err(|e| no_answer(admin, &e))?;
        let Some(Moved { moved: some }) = answer.json() else {
            let sentence = format!("the admin listener {admin} answered {}", answer.status);
            let hint = "a replay may be repeated; `chirp logs` may say what failed";
            return Err(Failure::new(Exit::Failure, sentence, hint));
        };
        moved += some;
    }
    Ok(moved)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        if (1..SECONDS_MAX).contains(&at) {
            return Err("it is in seconds: milliseconds since the epoch have 13 digits".to_owned());
        }
        return Ok(Since::AtMs(at));
    }
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    for (unit, ms) in units {
        if let Some(Ok(count)) = text.strip_suffix(unit).map(str::parse::<u64>) {
            return Ok(Since::AgoMs(count.saturating_mul(ms)));
        }
    }
    rfc3339_ms(text).map(Since::AtMs).ok_or_else(|| {
        "it is neither like `2h` nor like `2026-11-24T13:00:00Z` nor a number of milliseconds"
            .to_owned()
    })
}

/// Milliseconds since the Unix epoch of an RFC 3339 time; `None` if it is none, or before 1970.
fn rfc3339_ms(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let fields = |text: &str, by: char| -> Option<[i64; 3]> {
        let numbers: Option<Vec<i64>> = text.split(by).map(digits).collect();
        numbers?.try_into().ok()
    };
    let [year, month, day] = fields(date, '-')?;
    let (clock, offset_min) = if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        (clock, 0)
    } else {
        let at = time.rfind(['+', '-'])?;
        let (hours, minutes) = time[at + 1..].split_once(':')?;
        let (hours, minutes) = (digits(hours)?, digits(minutes)?);
        if hours > 23 || minutes > 59 {
            return None;
        }
        let minutes = hours * 60 + minutes;
        (&time[..at], if time[at..].starts_with('-') { -minutes } else { minutes })
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = fields(clock, ':')?;
    let ms: i64 = digits(fraction).and(format!("{fraction:0<3}").get(..3)?.parse().ok())?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && day >= 1
        // The day exists if the next month's first is behind it.
        && days(year, month, day) < days(year + month / 12, month % 12 + 1, 1)
        && hour < 24
        && minute < 60
        && second <= 60;
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset_min;
    let ms = (minutes * 60 + second) * 1000 + ms;
    if valid { u64::try_from(ms).ok() } else { None }
}

fn digits(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_documented_form() {
        for (text, wanted) in [
            ("2h", Since::AgoMs(7_200_000)),
            ("90s", Since::AgoMs(90_000)),
            ("250ms", Since::AgoMs(250)),
            ("7d", Since::AgoMs(604_800_000)),
            ("1795526400000", Since::AtMs(1_795_526_400_000)),
            ("1970-01-01T00:00:00Z", Since::AtMs(0)),
            ("2000-02-29T12:30:15.25Z", Since::AtMs(951_827_415_250)),
            ("2000-02-29T14:30:15.250+02:00", Since::AtMs(951_827_415_250)),
            ("2026-11-24 13:00:00Z", Since::AtMs(1_795_525_200_000)),
        ] {
            assert_eq!(since(text), Ok(wanted), "{text}");
        }
        for bad in [
            "",
            "h",
            "2x",
            "-2h",
            "2026-11-24",
            "2026-13-01T00:00:00Z",
            "1969-01-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-11-30T23:00:00+24:00",
            "1795526400",
        ] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
