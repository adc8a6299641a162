//! The one table of exit codes, and what turns an error into sentence, hint and code.

use std::path::Path;

use crate::{
    config::ConfigError,
    stack::{
        StackError,
        containers::Trouble,
        data_dir::{KEYS, TOKEN},
        offline,
    },
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked.
    Ok = 0,
    /// Something failed, or a check found a violation.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// The configuration file or the environment is refused.
    Config = 3,
    /// A port is in use or may not be listened on.
    Port = 10,
    /// The data folder cannot be written, or not be read by this user.
    Unwritable = 11,
    /// A file of the data folder is damaged.
    Corrupt = 12,
    /// The data folder was written by another version.
    Version = 13,
    /// Another process uses the data folder.
    Locked = 14,
    /// Nothing runs on the data folder.
    NotRunning = 15,
    /// It did not become ready, or did not stop, in time.
    Timeout = 16,
    /// The system gives too few open files or threads.
    Resources = 17,
    /// A server that keeps data cannot be used.
    Store = 18,
    /// The schema of a store is behind, or not this program's.
    Schema = 19,
    /// Docker does not answer, or is too old.
    Docker = 20,
    /// An image is neither here nor to be had.
    Image = 21,
    /// A container does not start, or has ended.
    Container = 22,
    /// The data folder was used with other backends.
    Backends = 23,
    /// The data set is not empty, or holds another seed or a part of one.
    Seed = 24,
    /// The data set has another fan-out strategy.
    Strategy = 25,
    /// The figures of a load say nothing of the target: the driver was late, or the run was cut short.
    Invalid = 97,
    /// A load found a broken promise.
    Audit = 98,
    /// A load missed an objective.
    Slo = 99,
}

impl Exit {
    /// Every code, in order.
    pub(crate) const ALL: [Self; 23] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Config,
        Self::Port,
        Self::Unwritable,
        Self::Corrupt,
        Self::Version,
        Self::Locked,
        Self::NotRunning,
        Self::Timeout,
        Self::Resources,
        Self::Store,
        Self::Schema,
        Self::Docker,
        Self::Image,
        Self::Container,
        Self::Backends,
        Self::Seed,
        Self::Strategy,
        Self::Invalid,
        Self::Audit,
        Self::Slo,
    ];

    /// The number.
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// What a verdict of a load says.
    #[must_use]
    pub(crate) fn of_load(code: u8) -> Self {
        let found =
            [Self::Invalid, Self::Audit, Self::Slo].into_iter().find(|exit| exit.code() == code);
        found.unwrap_or(Self::Ok)
    }

    /// What it means, as in `docs/exit-codes.md`.
    #[must_use]
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "it did what it was asked",
            Self::Failure => "something failed, or a check found a violation",
            Self::Usage => "the command line cannot be understood",
            Self::Config => "the configuration file or the environment is refused",
            Self::Port => "a port is in use or may not be listened on",
            Self::Unwritable => {
                "the data folder or a report cannot be written, or not be read by this user"
            }
            Self::Corrupt => "a file of the data folder is damaged",
            Self::Version => "the data folder was written by another version",
            Self::Locked => "another process uses the data folder",
            Self::NotRunning => "nothing runs on the data folder, or at the target of a load",
            Self::Timeout => "it did not become ready, or did not stop, in time",
            Self::Resources => "the system gives too few open files or threads",
            Self::Store => "a server that keeps data cannot be used",
            Self::Schema => "the schema of a store is behind, or not this program's",
            Self::Docker => "Docker does not answer, or is too old",
            Self::Image => "an image is neither here nor to be had",
            Self::Container => "a container does not start, or has ended",
            Self::Backends => "the data folder was used with other backends",
            Self::Seed => "the data set is not empty, or holds another seed or a part of one",
            Self::Strategy => "the data set has another fan-out strategy",
            Self::Invalid => {
                "the figures of a load say nothing: the driver was late, or it was cut short"
            }
            Self::Audit => "a load found a broken promise",
            Self::Slo => "a load missed an objective",
        }
    }
}

/// The table, for `--help`.
#[must_use]
pub(super) fn table() -> String {
    let rows = Exit::ALL.map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}\n  130  it was told twice to stop", rows.join("\n"))
}

/// Why a verb failed, as the user is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// One sentence: what failed, for what input.
    pub(crate) sentence: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl Failure {
    /// A failure of the kind `exit`.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into(), hint: hint.into() }
    }
}

/// Whose files they are.
const AS_ANOTHER: &str =
    "run it as the user who started chirp there, or choose another folder with `--data-dir`";
/// What is said of a full disk.
const MAKE_ROOM: &str =
    "make room on the disk and run it again, or choose another folder with `--data-dir`";
/// Where there is room for a seed.
const ELSEWHERE: &str = "choose another folder with `--data-dir`, or remove this data with `chirp down --purge` of this one";

fn rest_of(seed: &str) -> String {
    format!("`chirp seed {seed}` adds the rest")
}

fn switch_to(strategy: &str) -> String {
    format!("leave `fanout.strategy` empty, or stop it and run `chirp migrate strategy {strategy}`")
}

impl From<StackError> for Failure {
    fn from(error: StackError) -> Self {
        let sentence = with_causes(&error);
        let (exit, hint) = match &error {
            StackError::PortInUse(_) => (
                Exit::Port,
                "choose another with `--port` or `--admin-port` (0 takes any free one), or stop \
                 what listens there"
                    .to_owned(),
            ),
            StackError::Listen { .. } => {
                (Exit::Port, "choose an address of this machine and a port above 1023".to_owned())
            }
            StackError::Unwritable { .. } => {
                (Exit::Unwritable, "choose another folder with `--data-dir`".to_owned())
            }
            StackError::Full { .. } => (Exit::Unwritable, MAKE_ROOM.to_owned()),
            StackError::Denied(_) => (Exit::Unwritable, AS_ANOTHER.to_owned()),
            StackError::Absent(_) => {
                (Exit::NotRunning, "name the folder with `--data-dir`".to_owned())
            }
            StackError::Corrupt { path, .. } => (Exit::Corrupt, mend(path)),
            StackError::Lost { path, .. } => (Exit::Corrupt, bring_back(path).to_owned()),
            StackError::Version { .. } => (
                Exit::Version,
                "use the newer program that wrote it, or another folder with `--data-dir`"
                    .to_owned(),
            ),
            StackError::Store(_) => (
                Exit::Store,
                "`chirp config show` says where it is looked for, and as whom".to_owned(),
            ),
            StackError::Schema(_) => (
                Exit::Schema,
                "`chirp migrate` takes the steps that are missing, `chirp migrate --check` lists them"
                    .to_owned(),
            ),
            StackError::Token(_) => (
                Exit::Config,
                "set `serve.service_token` or `serve.service_token_file`, the same for all roles"
                    .to_owned(),
            ),
            StackError::OtherKind { path, found, .. } => (Exit::Backends, other_kind(path, found)),
            StackError::NotEmpty | StackError::OtherSeed { .. } => {
                (Exit::Seed, ELSEWHERE.to_owned())
            }
            StackError::HalfSeeded(what) => (Exit::Seed, rest_of(what)),
            StackError::OtherStrategy { wanted, .. } => (Exit::Strategy, switch_to(wanted)),
            StackError::Containers(trouble) => in_containers(trouble),
            StackError::Locked { .. } => (
                Exit::Locked,
                "`chirp status` shows what runs, `chirp down` stops it; or choose another folder \
                 with `--data-dir`"
                    .to_owned(),
            ),
            StackError::NotReady { .. } => (
                Exit::Timeout,
                "`chirp logs` may say why; a role of its own process needs its peers running"
                    .to_owned(),
            ),
            StackError::Process { name, code, hint, .. } => {
                let exit = Exit::ALL.into_iter().find(|exit| Some(i32::from(exit.code())) == *code);
                let hint = hint.clone();
                let hint = hint.unwrap_or_else(|| format!("`chirp logs {name}` may say why"));
                (exit.filter(|exit| *exit != Exit::Ok).unwrap_or(Exit::Failure), hint)
            }
            StackError::Stopped => (Exit::Ok, "start it again when it is wanted".to_owned()),
            StackError::Other { .. } => {
                (Exit::Failure, "`chirp doctor` checks the surroundings".to_owned())
            }
        };
        Self { exit, sentence, hint }
    }
}

/// What to do about a folder that was used with the backends `found`.
fn other_kind(path: &Path, found: &str) -> String {
    let data = match found {
        "external" => "it, and leaves what the servers keep",
        _ => "its data",
    };
    format!(
        "`chirp up --backends {found}` uses it; choose another folder with `--data-dir`, or begin anew: \
         `chirp down --purge --data-dir {}` removes {data}",
        quoted(path)
    )
}

/// What to do about a damaged file of the data folder.
fn mend(path: &Path) -> String {
    if path.ends_with(KEYS) {
        return "remove the file: a new one is made (access tokens end, clients get new ones)"
            .to_owned();
    }
    if path.ends_with(TOKEN) {
        return "remove the file: a new one is made by the next start".to_owned();
    }
    let folder = quoted(path.parent().unwrap_or(path));
    format!(
        "restore the file from a copy, or begin anew: `chirp down --purge --data-dir {folder}` \
         removes everything in the folder"
    )
}

/// What to do about a file of the data folder that is not there.
fn bring_back(path: &Path) -> &'static str {
    if path.ends_with(offline::COPY) {
        return "put the file back from a copy; or, with nothing in its place, `chirp replay --since \
                15d --rebuild` begins it anew, with what the other files still know to have happened \
                since";
    }
    "put the file back, or the whole folder from a copy; nothing in it was changed"
}

/// Exit code and hint of what stands in the way of containers.
fn in_containers(trouble: &Trouble) -> (Exit, String) {
    let (exit, hint) = match trouble {
        Trouble::Absent(_) => (
            Exit::Docker,
            "install Docker, or set DOCKER_HOST to where it is; `--backends embedded` needs none",
        ),
        Trouble::Silent(_) => (
            Exit::Docker,
            "start it (`systemctl start docker`), or see whether DOCKER_HOST is right; `--backends \
             embedded` needs none",
        ),
        Trouble::Denied => (
            Exit::Docker,
            "add the user to the group of Docker (`usermod -aG docker USER`) and log in again; \
             `--backends embedded` needs none",
        ),
        Trouble::Old { .. } => {
            (Exit::Docker, "install Docker 19.03 or later; `--backends embedded` needs none")
        }
        Trouble::NoImage { server, .. } => {
            let hint = format!(
                "set CHIRP_IMAGE_{} to an image that can be had; or build images where none can be \
                 pulled: `infra/local-images/build` in a checkout of the source",
                server.to_uppercase()
            );
            return (Exit::Image, hint);
        }
        Trouble::NoSpace { .. } => (
            Exit::Container,
            "make room: `docker system df` shows what takes it, `docker system prune` frees it",
        ),
        Trouble::Start { .. } => {
            (Exit::Container, "`chirp doctor` checks Docker, `docker events` may say why")
        }
        Trouble::Ended { .. } => (
            Exit::Container,
            "give Docker more memory, as the four servers take 2 GB; or, if CHIRP_IMAGE_* names an \
             image, see that it has the server",
        ),
        Trouble::Gone { .. } => (
            Exit::Container,
            "see whether DOCKER_HOST is that of the last start; or begin anew: `chirp down --purge` \
             removes containers and data",
        ),
        Trouble::Changed { .. } => (
            Exit::Container,
            "use the chirp and the image that made it, or begin anew: `chirp down --purge` removes \
             containers and data",
        ),
        Trouble::Copy { .. } => (
            Exit::Container,
            "data in containers is not copied with their folder: choose another with `--data-dir`, or \
             remove the copy",
        ),
        Trouble::Late { .. } => (
            Exit::Timeout,
            "allow more with `up.containers_timeout_ms`; the first start also pulls the images",
        ),
    };
    (exit, hint.to_owned())
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        // Its text is a sentence, perhaps with a list, then tips, then the usage, each a paragraph.
        let text = error.render().to_string();
        let mut paragraphs = text.trim().split("\n\n");
        let sentence = paragraphs.next().unwrap_or_default();
        let sentence: Vec<&str> = sentence.lines().map(str::trim).collect();
        let sentence = sentence.join(" ");
        let sentence = sentence.strip_prefix("error: ").unwrap_or(&sentence).to_owned();
        let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
        let tips: Vec<&str> = tips.collect();
        let hint = if tips.is_empty() { "try `--help`".to_owned() } else { tips.join("; ") };
        Self::new(Exit::Usage, sentence, hint)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::UnknownKey { near: Some(near), .. } => format!("did you mean `{near}`?"),
            _ => "`chirp config show --default` lists every key with its default".to_owned(),
        };
        Self::new(Exit::Config, error.to_string(), hint)
    }
}

/// `path` as it can be pasted into a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        for (path, shown) in [
            (".chirp", ".chirp"),
            ("/home/ada/my data", "'/home/ada/my data'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(Path::new(path)), shown);
        }
    }

    #[test]
    fn codes_are_distinct_and_the_document_has_the_same_table() {
        let document = include_str!("../../docs/exit-codes.md");
        let mut codes = std::collections::BTreeSet::new();
        for exit in Exit::ALL {
            assert!(codes.insert(exit.code()));
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(document.contains(&row), "docs/exit-codes.md lacks: {row}");
        }
    }
}
