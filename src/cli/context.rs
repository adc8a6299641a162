//! What every verb needs: configuration, data folder, printer, a runtime to wait on.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Resource, getrlimit};

use super::{
    Global,
    exit::{Exit, Failure, quoted},
    printer::Printer,
};
use crate::{
    config::{self, Loaded, Override, Sources, env},
    stack::{
        DataDir,
        client::{self, Answer},
    },
};

/// Open files without which no stack is started: stores, listeners and logs take some 50, and each
/// connection one.
const FILES_MIN: u64 = 128;
/// How long work on threads of its own that nobody waits for may hold up the end of the process.
const LEFT_OVER_MAX: Duration = Duration::from_secs(1);
const MORE_FILES: &str = "raise the limit of open files: `ulimit -n 1024`";

/// What every verb needs.
pub(crate) struct Context {
    /// Writes to the terminal.
    pub(crate) printer: Printer,
    global: Global,
    env: Vec<(String, String)>,
    /// Variables of chirp's whose value is not text.
    no_text: Vec<String>,
}

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let (mut env, mut no_text) = (Vec::<(String, String)>::new(), Vec::new());
        for (name, value) in std::env::vars_os() {
            // A name that is not text cannot be ours.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => env.push((name, value)),
                Err(_) if name.starts_with(config::env::PREFIX) => no_text.push(name),
                Err(_) => {}
            }
        }
        let no_color = env.iter().any(|(name, value)| name == env::NO_COLOR && !value.is_empty());
        Self { printer: Printer::new(no_color), global, env, no_text }
    }

    /// A variable of the environment.
    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The variables of the environment that are chirp's.
    pub(crate) fn own_variables(&self) -> Vec<String> {
        let names = self.env.iter().map(|(name, _)| name.clone());
        names.filter(|name| name.starts_with(env::PREFIX)).collect()
    }

    /// The configuration, with what `flags` say.
    pub(crate) fn load(&self, flags: Vec<Override>) -> Result<Loaded, Failure> {
        if let Some(name) = self.no_text.first() {
            let sentence = format!("the value of the variable `{name}` is not text");
            return Err(Failure::new(Exit::Config, sentence, "values are UTF-8"));
        }
        let named = self.global.config.clone().or_else(|| self.env(env::CONFIG).map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| PathBuf::from("chirp.toml"));
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => Some((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => None,
            Err(error) => {
                let sentence = format!("cannot read `{}`: {error}", path.display());
                let hint = "name a file that can be read with `--config`, or none";
                return Err(Failure::new(Exit::Config, sentence, hint));
            }
        };
        let mut all = flags;
        if let Some(dir) = &self.global.data_dir {
            let value = dir.to_string_lossy().into_owned();
            all.push(Override { flag: "--data-dir", key: "up.data_dir", value });
        }
        Ok(config::load(&Sources { file, env: self.env.clone(), flags: all })?)
    }

    /// The data folder.
    pub(crate) fn data_dir(&self) -> Result<DataDir, Failure> {
        Ok(DataDir::at(&self.load(Vec::new())?.config.up.data_dir))
    }
}

/// How this program is called from the same shell, with what finds `dir` again.
pub(crate) fn call_me(verb: &str, dir: &DataDir) -> String {
    let own = std::env::args().next().filter(|own| own.contains('/'));
    let own = own.map_or_else(|| "chirp".to_owned(), |own| quoted(Path::new(&own)));
    if dir.root() == Path::new(".chirp") {
        format!("{own} {verb}")
    } else {
        format!("{own} {verb} --data-dir {}", quoted(dir.root()))
    }
}

/// Asks an admin listener.
pub(crate) async fn ask(at: SocketAddr, path: &str) -> Result<Answer, Failure> {
    client::get(at, path).await.map_err(|error| no_answer(at, &error))
}

/// The failure of an admin listener that does not answer.
pub(crate) fn no_answer(at: SocketAddr, error: &client::ClientError) -> Failure {
    let sentence = format!("the admin listener {at} does not answer: {error}");
    Failure::new(Exit::Failure, sentence, "`chirp logs` may say why, `chirp down` stops it")
}

/// The failure of a verb that needs something running.
pub(crate) fn not_running(dir: &DataDir) -> Failure {
    let sentence = format!("nothing runs on the data folder `{}`", dir.root().display());
    let hint = format!("`{}` starts it", call_me("up", dir));
    Failure::new(Exit::NotRunning, sentence, hint)
}

/// Refuses to run a stack with so few open files that it would fail in the middle of something.
pub(crate) fn enough_files() -> Result<(), Failure> {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES_MIN => {
            let sentence =
                format!("at most {limit} files may be open, and chirp needs {FILES_MIN}");
            Err(Failure::new(Exit::Resources, sentence, MORE_FILES))
        }
        _ => Ok(()),
    }
}

/// Runs `work` to its end on one thread.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    block_on_with(tokio::runtime::Builder::new_current_thread(), work)
}

/// Runs `work` to its end on all cores.
pub(crate) fn block_on_all_cores<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    block_on_with(tokio::runtime::Builder::new_multi_thread(), work)
}

fn block_on_with<T>(
    mut builder: tokio::runtime::Builder,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let runtime = builder.enable_all().build().map_err(|error| no_runtime(&error))?;
    let out = runtime.block_on(work);
    // A name that is being looked up on a thread of its own must not keep the process.
    runtime.shutdown_timeout(LEFT_OVER_MAX);
    Ok(out)
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Resources, format!("cannot begin: {error}"), MORE_FILES)
}
