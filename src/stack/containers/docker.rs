//! The engine: whether it answers, which of its containers are ours, and their removal.
//!
//! | label | what |
//! |---|---|
//! | `chirp.stack` | the data folder's name; see [`super::kind`](crate::stack::kind) |
//! | `chirp.folder` | where the data folder is |
//! | `chirp.pid` | the process that made it, with when that began: `PID-START` |
//! | `chirp.server` | what runs in it |
//! | `chirp.port` | its port on 127.0.0.1 |
//! | `chirp.recipe` | hash of how it was made |
//! | `chirp.kept` | `true` if it outlives its process |

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use futures_util::StreamExt;
use serde::Serialize;
use testcontainers::{
    bollard::{
        Docker,
        models::ContainerSummary,
        query_parameters::{
            ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StatsOptionsBuilder,
        },
    },
    core::client::docker_client_instance,
};

use super::Trouble;
use crate::stack::DataDir;

/// The data folder's name.
pub const STACK: &str = "chirp.stack";
/// Where the data folder is.
pub const FOLDER: &str = "chirp.folder";
/// The process that made it.
pub const PID: &str = "chirp.pid";
pub(super) const SERVER: &str = "chirp.server";
pub(super) const PORT: &str = "chirp.port";
pub(super) const RECIPE: &str = "chirp.recipe";
pub(super) const KEPT: &str = "chirp.kept";

/// The least version of the engine's interface: that of Docker 19.03, the oldest that is tried.
const API_MIN: (u32, u32) = (1, 40);
/// How long the engine may take to say that it is there; a busy one took 0.3 s.
const PING_MAX: Duration = Duration::from_secs(5);

/// An engine that answers.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Docker,
    /// Its version, such as `20.10.24`.
    pub version: String,
}

/// What can be done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// End its processes at once; it stays, with its files.
    Kill,
    /// Start it again.
    Start,
    /// Freeze its processes.
    Pause,
    /// Let them go on.
    Unpause,
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// The engine's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What runs in it.
    pub server: String,
    /// Its image.
    pub image: String,
    /// Where it is reached.
    pub address: String,
    /// What the engine says of it: `running`, `paused`, `exited`, ...
    pub state: String,
    /// Whether it outlives its process.
    pub kept: bool,
    #[serde(skip)]
    pub(super) port: Option<u16>,
    #[serde(skip)]
    pub(super) recipe: String,
    #[serde(skip)]
    stack: String,
    /// Where the folder was that it was made for.
    #[serde(skip)]
    folder: String,
    /// The process that made it, as [`own_pid`] gives it.
    #[serde(skip)]
    pid: String,
}

impl Container {
    /// Whether the process that made it runs.
    fn is_used(&self) -> bool {
        self.pid.split_once('-').is_some_and(|(pid, since)| born(pid).as_deref() == Some(since))
    }
}

impl Engine {
    /// Asks the engine that the environment names (`DOCKER_HOST`), or the local one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn ask() -> Result<Self, Trouble> {
        let docker = docker_client_instance().await.map_err(|error| Trouble::of_client(&error))?;
        let version = tokio::time::timeout(PING_MAX, docker.version()).await;
        let late = |_| Trouble::Silent(format!("it took more than {} s", PING_MAX.as_secs()));
        let version = version.map_err(late)?.map_err(|error| Trouble::of_docker(&error))?;
        let api = version.api_version.unwrap_or_default();
        if parse(&api).is_none_or(|api| api < API_MIN) {
            let needed = format!("{}.{}", API_MIN.0, API_MIN.1);
            return Err(Trouble::Old { found: api, needed });
        }
        Ok(Self { docker, version: version.version.unwrap_or_default() })
    }

    /// The client.
    #[must_use]
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// The containers that carry all of `labels`, sorted by what runs in them.
    ///
    /// # Errors
    /// [`Trouble`] if the engine does not tell.
    pub async fn find(&self, labels: &[(&str, &str)]) -> Result<Vec<Container>, Trouble> {
        let labels = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let filters = [("label".to_owned(), labels)].into();
        let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(all)).await;
        let found = found.map_err(|error| Trouble::of_docker(&error))?;
        let mut found: Vec<Container> = found.into_iter().filter_map(described).collect();
        found.sort_by(|a, b| (&a.server, &a.id).cmp(&(&b.server, &b.id)));
        Ok(found)
    }

    /// What a container has used: processor time since it began, in seconds, and the memory of its
    /// processes now, without what the system keeps of files, in bytes.
    ///
    /// # Errors
    /// [`Trouble`] if the engine does not tell.
    pub async fn usage(&self, container: &Container) -> Result<(f64, u64), Trouble> {
        let once = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let told = self.docker.stats(&container.id, Some(once)).next().await.transpose();
        let told = told.map_err(|error| Trouble::of_docker(&error))?.unwrap_or_default();
        let cpu = told.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|cpu| cpu.total_usage);
        let memory = told.memory_stats.unwrap_or_default();
        // The names of the second and of the first version of control groups.
        let of = |name| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
        let bytes = of("anon").or_else(|| of("total_rss")).or(memory.usage).unwrap_or(0);
        Ok((Duration::from_nanos(cpu.unwrap_or(0)).as_secs_f64(), bytes))
    }

    /// Does something to a container.
    ///
    /// # Errors
    /// [`Trouble`] if the engine does not do it.
    pub async fn act(&self, container: &Container, act: Act) -> Result<(), Trouble> {
        let id = &container.id;
        let done = match act {
            Act::Kill => self.docker.kill_container(id, None).await,
            Act::Start => self.docker.start_container(id, None).await,
            Act::Pause => self.docker.pause_container(id).await,
            Act::Unpause => self.docker.unpause_container(id).await,
        };
        done.map_err(|error| Trouble::of_docker(&error))
    }

    /// Removes `containers` with their volumes, all at once. Gives how many there were.
    ///
    /// # Errors
    /// The first [`Trouble`]; the others were tried nonetheless.
    pub async fn remove(&self, containers: &[Container]) -> Result<usize, Trouble> {
        let removals = containers.iter().map(|container| self.remove_one(&container.id));
        let removed = futures_util::future::join_all(removals).await;
        removed.into_iter().collect::<Result<(), _>>()?;
        Ok(containers.len())
    }

    async fn remove_one(&self, id: &str) -> Result<(), Trouble> {
        use testcontainers::bollard::errors::Error::DockerResponseServerError as Answer;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.docker.remove_container(id, Some(options)).await {
            // Gone, or going because somebody else removes it.
            Ok(()) | Err(Answer { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(Trouble::of_docker(&error)),
        }
    }

    /// Refuses a folder, `folder`, that was copied: it has the name of another, `stack`, which still
    /// lies where its containers say.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn refuse_copy(&self, stack: &str, folder: &str) -> Result<(), Trouble> {
        let found = self.find(&[(STACK, stack)]).await?;
        let others = found.into_iter().map(|container| container.folder);
        let original = others.filter(|other| other != folder).find(|other| {
            let known = DataDir::at(Path::new(other)).known();
            known.is_ok_and(|known| known.is_some_and(|known| known.stack == stack))
        });
        original.map_or(Ok(()), |original| Err(Trouble::Copy { original }))
    }

    /// Removes what an earlier start on the folder `folder`, which is called `stack`, left: all but
    /// what was kept on purpose; and what carries the folder's place under another name, because the
    /// folder was removed by hand. Nobody else may be using the folder.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn sweep(&self, stack: &str, folder: &str) -> Result<usize, Trouble> {
        let mut left = self.find(&[(STACK, stack)]).await?;
        left.retain(|container| !container.kept);
        let mut strangers = self.find(&[(FOLDER, folder)]).await?;
        // Not those of a folder that lay here and was moved: they are kept, or still used.
        strangers.retain(|c| c.stack != stack && !c.kept && !c.is_used());
        left.append(&mut strangers);
        self.remove(&left).await
    }
}

fn described(summary: ContainerSummary) -> Option<Container> {
    let labels: BTreeMap<String, String> = summary.labels?.into_iter().collect();
    let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
    let port: Option<u16> = label(PORT).parse().ok();
    let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Some(Container {
        id: summary.id?,
        name: name.trim_start_matches('/').to_owned(),
        server: label(SERVER),
        image: summary.image.unwrap_or_default(),
        address: port.map(|port| format!("127.0.0.1:{port}")).unwrap_or_default(),
        state: summary.state.map(|state| state.to_string()).unwrap_or_default(),
        kept: label(KEPT) == "true",
        port,
        recipe: label(RECIPE),
        stack: label(STACK),
        folder: label(FOLDER),
        pid: label(PID),
    })
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// This process, as no later one with the same number is called.
pub(super) fn own_pid() -> String {
    format!("{}-{}", std::process::id(), born("self").unwrap_or_default())
}

/// When the process `pid` started, in clock ticks: tells it from a later one with the same number.
/// `None` if there is no such process, or the system does not tell.
#[must_use]
pub fn born(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything. The start is the 20th field behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}
