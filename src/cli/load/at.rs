//! What is driven: where it is, as whom, and what of it can be broken.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use http::HeaderValue;

use super::{
    super::{
        context::not_running,
        exit::{Exit, Failure, quoted},
    },
    Args,
};
use crate::{
    load::{
        chaos::{self, Fault, Part, Parts},
        connection::Target,
        population::Population,
        profile::Profile,
        run::Order,
        slo::Slo,
        usage::CHIRP,
    },
    rt::tokio_rt::TokioRuntime,
    stack::{DataDir, containers::Container, data_dir::Running},
    wire::routes::Role,
};

/// What is driven, and as whom.
pub(super) struct At {
    pub(super) named: String,
    pub(super) target: Target,
    pub(super) admins: Vec<SocketAddr>,
    pub(super) containers: Vec<Container>,
    pub(super) population: Arc<Population>,
}

pub(super) fn order(args: &Args, (profile, slo): (Profile, Vec<Slo>), at: At) -> Order {
    let At { named, target, admins, containers, population } = at;
    let words = std::env::args().map(|word| quoted(Path::new(&word)));
    Order {
        profile,
        target,
        named,
        admins,
        containers,
        faults: Vec::new(),
        parts: Parts::new(),
        population,
        slo,
        workers: args.workers,
        audit: !args.no_audit,
        command: words.collect::<Vec<_>>().join(" "),
        tag: TokioRuntime::handle().random_u64(),
    }
}

/// Who acts, with tokens for a run of `length` that begins now.
pub(super) fn population(credentials: &Path, length: Duration) -> Result<Population, Failure> {
    let population = Population::load(credentials)?;
    population.lasts(credentials, TokioRuntime::handle().wall_ms(), length)?;
    Ok(population)
}

/// What can be broken of a data folder: its containers, and its processes by role.
pub(super) fn parts(dir: &DataDir, containers: &[Container]) -> Parts {
    let mut parts = Parts::new();
    for container in containers {
        parts.insert(container.server.clone(), Part::Container(Box::new(container.clone())));
    }
    match dir.running() {
        Running::Up(run) => drop(parts.insert(CHIRP.to_owned(), Part::Process(run.pid, false))),
        Running::Roles(roles) => {
            // The first of each role; who runs roles by hand starts them again.
            for (role, run) in roles.into_iter().rev() {
                parts.insert(role.as_str().to_owned(), Part::Process(run.pid, true));
            }
        }
        Running::Nothing | Running::Starting => {}
    }
    parts
}

pub(super) fn faults(path: &Path, length: Duration, parts: &Parts) -> Result<Vec<Fault>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let faults = text.and_then(|text| chaos::parse(&text, length, parts).map_err(|error| error.0));
    faults.map_err(|error| {
        let sentence = format!("the timetable `{}` cannot be used: {error}", path.display());
        Failure::new(Exit::Usage, sentence, "docs/load.md says what stands in it")
    })
}

/// What is driven, as it is named and as it is reached, with its admin listeners.
pub(super) fn target(
    args: &Args,
    dir: &DataDir,
) -> Result<(String, Target, Vec<SocketAddr>), Failure> {
    let Some(url) = &args.target else {
        let (address, admins) = running(dir)?;
        let target = Target::of(address);
        let admins = if args.admin.is_empty() { admins } else { args.admin.clone() };
        return Ok((format!("http://{address}"), target, admins));
    };
    let wrong = |why: &str| {
        let hint = "such as `--target http://127.0.0.1:8080`, or with a path before the routes";
        Failure::new(Exit::Usage, format!("`{url}` cannot be driven: {why}"), hint)
    };
    let parsed: http::Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    match parsed.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("TLS is not spoken by the driver; end it before")),
        _ => return Err(wrong("it does not begin with `http://`")),
    }
    let authority = parsed.authority().ok_or_else(|| wrong("it names no host"))?;
    if parsed.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong("only a host, a port and a path may stand in it"));
    }
    let port = authority.port_u16().unwrap_or(80);
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let mut addresses = std::net::ToSocketAddrs::to_socket_addrs(&(name, port))
        .map_err(|error| wrong(&format!("its host cannot be looked up: {error}")))?;
    let address = addresses.next().ok_or_else(|| wrong("its host has no address"))?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| wrong("its host is odd"))?;
    let base = parsed.path().trim_end_matches('/').to_owned();
    Ok((url.clone(), Target { address, host, base }, args.admin.clone()))
}

/// The public listener of what runs on the folder, and all admin listeners.
pub(super) fn running(dir: &DataDir) -> Result<(SocketAddr, Vec<SocketAddr>), Failure> {
    match dir.running() {
        Running::Up(run) => Ok((run.address, vec![run.admin])),
        Running::Roles(roles) => {
            let gateway = roles.iter().find(|(role, _)| *role == Role::Gateway);
            let address = gateway.map(|(_, run)| run.address).ok_or_else(|| not_running(dir))?;
            Ok((address, roles.iter().map(|(_, run)| run.admin).collect()))
        }
        Running::Nothing | Running::Starting => Err(not_running(dir)),
    }
}
