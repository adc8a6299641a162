//! Faults on a timetable, while a run drives: local containers and processes are stopped, frozen or
//! started again. Whatever was done is undone before the run ends, however it ends.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::profile::{Invalid, time};
use crate::stack::containers::{Container, Engine, docker::Act};

/// The most faults of a timetable.
const FAULTS_MAX: usize = 100;
/// How often a fault looks whether the run has ended early.
const LOOK: Duration = Duration::from_millis(50);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// A container is killed, and started again after its time. It keeps its files.
    Stop,
    /// A container or a process stands still for its time.
    Freeze,
    /// A container is killed and started again; a process is killed, and whoever started it starts it again.
    Restart,
}

impl Deed {
    const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Restart => "restart",
        }
    }
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    fault: Vec<WrittenFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFault {
    at: String,
    #[serde(rename = "do")]
    deed: Deed,
    what: String,
    lasts: Option<String>,
}

/// A fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Since the first request was due.
    pub at: Duration,
    /// What is done.
    pub deed: Deed,
    /// To which part, by name.
    pub what: String,
    /// For how long; nothing for [`Deed::Restart`].
    pub lasts: Duration,
}

/// A part of a target that something can be done to.
#[derive(Clone, Debug)]
pub enum Part {
    /// A container of a server.
    Container(Box<Container>),
    /// A process, and whether somebody starts it again.
    Process(u32, bool),
}

/// Parts by name: of containers what runs in them, of processes their role, or `chirp`.
pub type Parts = BTreeMap<String, Part>;

/// What was done, as it stands in the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Such as `freeze redis`.
    pub what: String,
    /// When it began, in seconds since the first request was due.
    pub from_s: f64,
    /// When it was undone.
    pub until_s: f64,
    /// Why it could not be done or undone; absent if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<String>,
}

/// Reads a timetable for a run of `length` against a target with `parts`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str, length: Duration, parts: &Parts) -> Result<Vec<Fault>, Invalid> {
    let written: Written =
        toml::from_str(text).map_err(|error| Invalid(error.to_string().trim().to_owned()))?;
    if written.fault.len() > FAULTS_MAX {
        return Err(Invalid(format!("it has more than {FAULTS_MAX} faults")));
    }
    let mut faults = Vec::new();
    for WrittenFault { at, deed, what, lasts } in written.fault {
        let lasts = match (deed, lasts) {
            (Deed::Restart, None) => Duration::ZERO,
            (Deed::Restart, Some(_)) => {
                return Err(Invalid("a restart has no `lasts`".to_owned()));
            }
            (_, Some(lasts)) => time(&lasts)?,
            (_, None) => {
                return Err(Invalid(format!("`{} {what}` needs `lasts`", deed.name())));
            }
        };
        faults.push(Fault { at: time(&at)?, deed, what, lasts });
    }
    faults.sort_by_key(|fault| fault.at);
    for (number, fault) in faults.iter().enumerate() {
        fits(fault, length, parts)?;
        let before = faults[..number].iter().rfind(|before| before.what == fault.what);
        if before.is_some_and(|before| before.at + before.lasts >= fault.at) {
            let what = &fault.what;
            return Err(Invalid(format!("two faults of `{what}` happen at the same time")));
        }
    }
    Ok(faults)
}

fn fits(fault: &Fault, length: Duration, parts: &Parts) -> Result<(), Invalid> {
    let Fault { at, deed, what, lasts } = fault;
    if *at + *lasts > length {
        return Err(Invalid(format!("`{} {what}` ends after the run", deed.name())));
    }
    match (parts.get(what), deed) {
        (None, _) => {
            let names: Vec<&str> = parts.keys().map(String::as_str).collect();
            Err(Invalid(format!("there is no part `{what}`; there are {}", names.join(", "))))
        }
        (Some(Part::Process(..)), Deed::Stop) => {
            Err(Invalid(format!("the process `{what}` can be frozen or restarted, not stopped")))
        }
        (Some(Part::Process(_, false)), Deed::Restart) => {
            Err(Invalid(format!("nobody starts `{what}` again; `up --processes` would")))
        }
        _ => Ok(()),
    }
}

/// Makes the faults as they are due; ends once all are undone. `over` undoes at once what is not, and
/// leaves the others out.
pub async fn play(
    faults: Vec<Fault>,
    parts: Parts,
    began: Instant,
    over: Arc<AtomicBool>,
) -> Vec<Mark> {
    let marks = Arc::new(Mutex::new(Vec::new()));
    let mut all = tokio::task::JoinSet::new();
    for fault in faults {
        let Some(part) = parts.get(&fault.what).cloned() else { continue };
        all.spawn(make(fault, part, began, Arc::clone(&over), Arc::clone(&marks)));
    }
    all.join_all().await;
    let mut marks = std::mem::take(&mut *marks.lock());
    marks.sort_by(|a: &Mark, b| a.from_s.total_cmp(&b.from_s));
    marks
}

async fn make(
    fault: Fault,
    part: Part,
    began: Instant,
    over: Arc<AtomicBool>,
    marks: Arc<Mutex<Vec<Mark>>>,
) {
    let Fault { at, deed, what, lasts } = fault;
    if !until(began + at, &over).await {
        return;
    }
    let from_s = began.elapsed().as_secs_f64();
    let done = part.begin(deed).await;
    if done.is_ok() {
        until(Instant::now() + lasts, &over).await;
    }
    // Also after a beginning that failed: it may have been done all the same.
    let undone = part.undo(deed).await;
    let failed = done.and(undone).err();
    let until_s = began.elapsed().as_secs_f64();
    let what = format!("{} {what}", deed.name());
    marks.lock().push(Mark { what, from_s, until_s, failed });
}

/// Waits until `then`; `false` if all is over before.
async fn until(then: Instant, over: &AtomicBool) -> bool {
    while !over.load(Ordering::Relaxed) {
        let left = then.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
    false
}

impl Part {
    async fn begin(&self, deed: Deed) -> Result<(), String> {
        match (self, deed) {
            (Self::Container(container), Deed::Stop | Deed::Restart) => {
                act(container, Act::Kill).await
            }
            (Self::Container(container), Deed::Freeze) => act(container, Act::Pause).await,
            (Self::Process(pid, _), Deed::Freeze) => signal(*pid, Signal::STOP),
            (Self::Process(pid, _), Deed::Stop | Deed::Restart) => signal(*pid, Signal::KILL),
        }
    }

    async fn undo(&self, deed: Deed) -> Result<(), String> {
        match (self, deed) {
            (Self::Container(container), Deed::Stop | Deed::Restart) => {
                act(container, Act::Start).await
            }
            (Self::Container(container), Deed::Freeze) => act(container, Act::Unpause).await,
            (Self::Process(pid, _), Deed::Freeze) => signal(*pid, Signal::CONT),
            // Whoever started it starts it again.
            (Self::Process(..), Deed::Stop | Deed::Restart) => Ok(()),
        }
    }
}

async fn act(container: &Container, act: Act) -> Result<(), String> {
    let engine = Engine::ask().await.map_err(|error| error.to_string())?;
    engine.act(container, act).await.map_err(|error| error.to_string())
}

fn signal(pid: u32, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or("it has no process")?;
    kill_process(pid, signal).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        let process = |restarted| Part::Process(u32::MAX, restarted);
        [("chirp".to_owned(), process(false)), ("user".to_owned(), process(true))].into()
    }

    fn fault(what: &str, deed: &str, at: &str, lasts: &str) -> String {
        let lasts = if lasts.is_empty() { String::new() } else { format!("lasts = \"{lasts}\"\n") };
        format!("[[fault]]\nat = \"{at}\"\ndo = \"{deed}\"\nwhat = \"{what}\"\n{lasts}")
    }

    #[test]
    fn a_timetable_is_read_in_its_order() {
        let text = fault("user", "restart", "9s", "") + &fault("chirp", "freeze", "1s", "500ms");
        let faults = parse(&text, Duration::from_secs(10), &parts()).unwrap();
        assert_eq!(faults[0].lasts, Duration::from_millis(500));
        assert_eq!((faults[1].deed, faults[1].at), (Deed::Restart, Duration::from_secs(9)));
    }

    #[test]
    fn what_is_wrong_with_a_timetable_is_said() {
        for (text, wanted) in [
            (
                fault("redis", "freeze", "1s", "1s"),
                "there is no part `redis`; there are chirp, user",
            ),
            (fault("user", "freeze", "1s", ""), "`freeze user` needs `lasts`"),
            (fault("user", "restart", "1s", "1s"), "a restart has no `lasts`"),
            (fault("user", "stop", "1s", "1s"), "not stopped"),
            (fault("chirp", "restart", "1s", ""), "nobody starts `chirp` again"),
            (fault("user", "freeze", "9s", "2s"), "ends after the run"),
            (fault("user", "burn", "1s", "1s"), "unknown variant `burn`"),
            (fault("user", "freeze", "soon", "1s"), "is no time"),
            (
                fault("user", "freeze", "1s", "3s") + &fault("user", "freeze", "2s", "1s"),
                "two faults of `user` happen at the same time",
            ),
            ("fault = 1".to_owned(), "invalid type"),
        ] {
            let error = parse(&text, Duration::from_secs(10), &parts()).unwrap_err();
            assert!(error.0.contains(wanted), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_frozen_process_goes_on_however_the_run_ends() {
        let state = |pid: u32| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            text.rsplit_once(") ").unwrap().1.chars().next().unwrap()
        };
        for early in [false, true] {
            let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let (pid, over) = (child.id(), Arc::new(AtomicBool::new(false)));
            let lasts = Duration::from_millis(if early { 60_000 } else { 300 });
            let what = "sleep".to_owned();
            let fault = Fault { at: Duration::ZERO, deed: Deed::Freeze, what, lasts };
            let parts = [("sleep".to_owned(), Part::Process(pid, false))].into();
            let playing = tokio::spawn(play(vec![fault], parts, Instant::now(), Arc::clone(&over)));
            while state(pid) != 'T' {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            over.store(early, Ordering::Relaxed);
            let marks = playing.await.unwrap();
            assert_ne!(state(pid), 'T');
            assert_eq!((marks.len(), &marks[0].failed), (1, &None));
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[tokio::test]
    async fn a_fault_that_cannot_be_made_is_told() {
        let fault = Fault {
            at: Duration::ZERO,
            deed: Deed::Freeze,
            what: "gone".to_owned(),
            lasts: Duration::ZERO,
        };
        let parts = [("gone".to_owned(), Part::Process(u32::MAX, false))].into();
        let marks = play(vec![fault], parts, Instant::now(), Arc::default()).await;
        assert!(marks[0].failed.is_some(), "{marks:?}");
    }
}
