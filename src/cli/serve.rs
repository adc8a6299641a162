//! `chirp serve`: single roles, one process each.

use std::{net::SocketAddr, sync::Arc};

use super::{
    context::{Context, block_on_all_cores, enough_files},
    exit::{Exit, Failure},
    up::{LastLines, log_through, log_to_file, stopped_early},
};
use crate::{
    config::{Config, Override, env},
    rt::{Shutdown, tokio_rt::TokioRuntime},
    services::timeline::Halves,
    stack::{
        DataDir, StackError,
        crash_marks::CrashMarks,
        serve::{Peer, Process, Told},
        signals::Signals,
    },
    telemetry::logs,
    wire::routes::Role,
};

/// Flags of `serve`.
///
/// Processes over one data folder find each other through it; or `[peers]` of the configuration says
/// where the others are. Over embedded stores, whose caches live in the process of the timeline role,
/// each role runs in one process per data folder, and `Prefer: wait` is answered by its time-out
/// unless the tweet and the timeline role share a process. Over servers (`[backends] kind =
/// "external"`) a role may run in any number of processes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which roles: `gateway`, `user`, `tweet`, `timeline`, with commas; or `all`
    #[arg(long, value_name = "ROLE", value_delimiter = ',', required = true, value_parser = roles)]
    role: Vec<Roles>,
    /// Port of the role's routes; 0 takes any free one [default: 8080 for the gateway, else 0]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Port of the role's admin listener; 0 takes any free one [default: 0]
    #[arg(long, value_name = "N")]
    admin_port: Option<u16>,
    /// The queue workers of the timeline role: `with` its routes, `only` them, or `off`. The embedded
    /// caches are one process's, so the halves cannot run side by side over one data folder: `off`
    /// leaves deliveries waiting, `only` carries out what waits
    #[arg(long, value_enum, value_name = "HALF", default_value = "with")]
    worker: Worker,
    /// Where another role is, instead of what the data folder says:
    /// `user=127.0.0.1:9001,internal=127.0.0.1:9002`; may be repeated
    #[arg(long, value_name = "PEER", value_parser = peer)]
    peer: Vec<Peer>,
    /// The name of a process of `up --processes`: it logs to a file of this name, and stops when its
    /// standard input ends
    #[arg(long, value_name = "NAME", hide = true)]
    supervised: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Worker {
    With,
    Only,
    Off,
}

impl Worker {
    const fn halves(self) -> Halves {
        Halves { http: !matches!(self, Self::Only), worker: !matches!(self, Self::Off) }
    }
}

#[derive(Clone, Copy, Debug)]
enum Roles {
    All,
    One(Role),
}

fn roles(word: &str) -> Result<Roles, String> {
    if word == "all" {
        return Ok(Roles::All);
    }
    let names = Role::ALL.map(Role::as_str).join(", ");
    Role::parse(word).map(Roles::One).ok_or_else(|| format!("the roles are {names}, and `all`"))
}

fn peer(text: &str) -> Result<Peer, String> {
    let form = "it must look like `user=127.0.0.1:9001,internal=127.0.0.1:9002`";
    let (public, internal) = text.split_once(",internal=").ok_or(form)?;
    let (role, public) = public.split_once('=').ok_or(form)?;
    let role = Role::parse(role).filter(|role| *role != Role::Gateway);
    let role = role.ok_or("a peer is `user`, `tweet` or `timeline`")?;
    let address = |text: &str| {
        text.parse::<SocketAddr>().map_err(|_| format!("`{text}` is not an address with a port"))
    };
    Ok(Peer { role, public: address(public)?, internal: address(internal)? })
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut chosen: Vec<Role> = Vec::new();
    for roles in &args.role {
        match roles {
            Roles::All => chosen.extend(Role::ALL),
            Roles::One(role) => chosen.push(*role),
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    let flags =
        args.port.map(|port| Override { flag: "--port", key: "up.port", value: port.to_string() });
    // `up.admin_port` is the one port of a whole stack; processes of single roles each need theirs.
    let admin = args.admin_port.unwrap_or(0);
    let flags = flags.into_iter().chain([Override {
        flag: "--admin-port",
        key: "up.admin_port",
        value: admin.to_string(),
    }]);
    if args.worker != Worker::With && !chosen.contains(&Role::Timeline) {
        let sentence = "`--worker` is for the timeline role, which is not among the roles";
        let hint = "leave it out, or add `--role timeline`";
        return Err(Failure::new(Exit::Usage, sentence, hint));
    }
    enough_files()?;
    let mut config = context.load(flags.collect())?.config;
    if args.port.is_none() && !chosen.contains(&Role::Gateway) {
        config.up.port = 0;
    }
    check_backends(&config)?;
    block_on_all_cores(until_told(context, config, &chosen, args))?
}

/// Refuses backends that a role cannot open, and a folder whose data is elsewhere.
fn check_backends(config: &Config) -> Result<(), Failure> {
    let dir = DataDir::at(&config.up.data_dir);
    let kind = &*config.backends.kind;
    match (kind, dir.kind()?.as_deref()) {
        ("containers" | "auto", _) => {
            let sentence = format!("`backends.kind` is `{kind}`, which only `chirp up` starts");
            let hint = "set it to `embedded`, or to `external` with the servers' addresses";
            Err(Failure::new(Exit::Config, sentence, hint))
        }
        ("embedded", _) | ("external", Some("embedded")) => Ok(dir.check_kind(kind)?),
        _ => Ok(()),
    }
}

async fn until_told(
    context: &Context,
    config: Config,
    roles: &[Role],
    args: &Args,
) -> Result<Exit, Failure> {
    let mut signals =
        Signals::catch().map_err(|error| StackError::other("catch signals", error))?;
    let marks = context.env(env::CRASH_MARKS).map(|path| CrashMarks::open(path.as_ref()));
    let marks = marks.transpose().map_err(|error| StackError::other("write marks", error))?;
    let lines = match &args.supervised {
        None => log_through(logs::stderr(), &config)?,
        Some(name) => {
            let followed = signals.follow_parent();
            followed.map_err(|error| StackError::other("start a thread", error))?;
            log_to_file(&DataDir::at(&config.up.data_dir).log_file_of(name), &config)?
        }
    };
    let _last_lines = LastLines(lines);
    let rt = TokioRuntime::with_points(marks.as_ref().map(CrashMarks::hook));
    let names = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",");
    let told =
        Told { roles: roles.to_vec(), halves: args.worker.halves(), peers: args.peer.clone() };
    let stop = Shutdown::new();
    let mut start = std::pin::pin!(Process::start(Arc::new(config), rt, told, &stop));
    let started = tokio::select! {
        biased;
        () = signals.next() => None,
        started = &mut start => Some(started),
    };
    let Some(started) = started else {
        signals.next_one_kills();
        stop.cancel();
        // It is not dropped: a thread may be making files, which are closed once they are open.
        match start.await {
            Ok(process) => process.stop().await,
            Err(StackError::Stopped) => {}
            Err(error) => return Err(error.into()),
        }
        return Ok(stopped_early(context));
    };
    let mut process = started?;
    for (role, run) in process.run_files() {
        let line = format!("{role} listens on {}, admin on {}", run.address, run.admin);
        context.printer.talk(&line);
    }
    let told = tokio::select! {
        biased;
        () = signals.next() => true,
        () = process.until_ready() => false,
    };
    if !told {
        if let Some(marks) = &marks {
            marks.write("idle");
        }
        tracing::info!(roles = names, "ready");
        context.printer.talk(&format!("{names} ready"));
        signals.next().await;
    }
    signals.next_one_kills();
    tracing::info!(roles = names, "stopping");
    process.stop().await;
    tracing::info!(roles = names, "stopped");
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_a_role_and_both_addresses() {
        let good = peer("user=127.0.0.1:9001,internal=127.0.0.1:9002").unwrap();
        assert_eq!((good.role, good.public.port(), good.internal.port()), (Role::User, 9001, 9002));
        for bad in [
            "user",
            "user=127.0.0.1:9001",
            "gateway=127.0.0.1:1,internal=127.0.0.1:2",
            "user=localhost,internal=127.0.0.1:2",
        ] {
            assert!(peer(bad).is_err(), "{bad}");
        }
    }
}
