//! Keeps looking for the roles that a process does not run, and for their health.
//!
//! Where a role is said to be on the command line it stays. Where configuration names places, their
//! names are looked up again and again, and every address is a replica. Else the data folder tells.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{DataDir, admin::PEERS, client, serve::Peer};
use crate::{
    adapters::rpc::{Peers, Remote},
    config::{self, Place},
    ports::Rpc as _,
    rt::{Rt, Shutdown},
    wire::routes::Role,
};

/// How often the data folder is searched for other processes.
const LOOK: Duration = Duration::from_millis(200);
/// How often names are looked up: with the health checks a replica that comes or goes is known after
/// two seconds.
const RESOLVE: Duration = Duration::from_secs(1);

/// Looks for other roles.
pub(super) struct Search {
    pub(super) rt: Rt,
    pub(super) list: Arc<Peers>,
    /// What this process runs itself.
    pub(super) own: Vec<Role>,
    /// What the command line says.
    pub(super) fixed: Vec<Peer>,
    /// What configuration says.
    pub(super) places: config::Peers,
    /// Where all others are found.
    pub(super) folder: Option<DataDir>,
}

impl Search {
    /// Starts looking. `true` once every role can be called, from here and from one replica of each.
    pub(super) fn start(self, stop: &Shutdown) -> watch::Receiver<bool> {
        for peer in &self.fixed {
            self.list.set_remote(peer.role, peer.public, peer.internal);
        }
        let (found, seen) = watch::channel(false);
        let (rt, health) = (self.rt.clone(), Arc::clone(&self.list).watch_health(stop.clone()));
        let ends = stop.clone();
        rt.spawn("search", async move {
            ends.run_until_cancelled(self.run(found)).await;
        });
        rt.spawn("health", health);
        seen
    }

    async fn run(self, found: watch::Sender<bool>) {
        let mut roles = Vec::new();
        for role in PEERS {
            if self.own.contains(&role) || self.fixed.iter().any(|peer| peer.role == role) {
                continue;
            }
            let places = self.places.places(role);
            let pause = if places.is_empty() { LOOK } else { RESOLVE };
            roles.push((role, places, pause));
        }
        let looks = roles.iter().map(|(role, places, pause)| self.follow(*role, places, *pause));
        let looks = futures_util::future::join_all(looks);
        let all = async {
            while !self.all_found().await {
                self.rt.sleep(LOOK).await;
            }
            found.send_replace(true);
            // The sender lives as long as somebody may ask.
            found.closed().await;
        };
        tokio::join!(looks, all);
    }

    /// Keeps the list's entries of one role up to date.
    async fn follow(&self, role: Role, places: &[Place], pause: Duration) {
        let mut here: Vec<Remote> = Vec::new();
        loop {
            let now =
                if places.is_empty() { self.in_folder(role) } else { resolve(places, &here).await };
            if now != here {
                let addresses: Vec<SocketAddr> = now.iter().map(|replica| replica.public).collect();
                if addresses.is_empty() {
                    tracing::warn!(%role, "a role has gone");
                } else {
                    tracing::info!(%role, ?addresses, "found a role");
                }
                // Whoever gets the port of one that is gone is not asked in vain, again and again.
                self.list.set_remotes(role, &now);
                self.list.check_health().await;
                here = now;
            }
            self.rt.sleep(pause).await;
        }
    }

    fn in_folder(&self, role: Role) -> Vec<Remote> {
        let runs = self.folder.iter().flat_map(|dir| dir.running_seats(role));
        runs.map(|run| Remote { public: run.address, internal: run.admin, host: None }).collect()
    }

    /// Whether every role can be called from here, and one replica of each says the same of itself.
    async fn all_found(&self) -> bool {
        self.list.check_health().await;
        let callable = |role: Role| {
            let replicas = self.list.replicas(role);
            (0..replicas).any(|replica| self.list.healthy(role, replica))
        };
        if !PEERS.into_iter().all(callable) {
            return false;
        }
        for role in PEERS {
            if self.own.contains(&role) {
                continue;
            }
            let mut any = false;
            for admin in self.list.internal_addresses(role) {
                let answer = client::get(admin, "/peers").await;
                any = any || answer.is_ok_and(|answer| answer.status == 200);
            }
            if !any {
                return false;
            }
        }
        true
    }
}

/// The addresses of `places`, in order; of a name that cannot be looked up now, those that it had.
async fn resolve(places: &[Place], before: &[Remote]) -> Vec<Remote> {
    let mut all = Vec::new();
    for place in places {
        match tokio::net::lookup_host((place.host.as_str(), place.public)).await {
            Ok(found) => all.extend(found.map(|public| Remote {
                public,
                internal: SocketAddr::new(public.ip(), place.admin),
                host: Some(place.host.clone()),
            })),
            Err(error) => {
                tracing::warn!(host = place.host, %error, "a peer's name cannot be looked up");
                let of_place = |remote: &&Remote| remote.host.as_deref() == Some(&place.host);
                all.extend(before.iter().filter(of_place).cloned());
            }
        }
    }
    all.sort_by_key(|remote| (remote.public, remote.internal));
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_gives_every_address_it_has_and_keeps_them_while_it_cannot_be_looked_up() {
        let place = |host: &str| Place { host: host.to_owned(), public: 1, admin: 2 };
        let found = resolve(&[place("localhost"), place("127.0.0.1")], &[]).await;
        let near = Remote {
            public: "127.0.0.1:1".parse().unwrap(),
            internal: "127.0.0.1:2".parse().unwrap(),
            host: Some("localhost".to_owned()),
        };
        assert!(found.contains(&near), "{found:?}");
        assert!(found.contains(&Remote { host: Some("127.0.0.1".to_owned()), ..near.clone() }));
        let lost = Remote { host: Some("nobody.invalid".to_owned()), ..near.clone() };
        let kept = resolve(&[place("nobody.invalid")], &[lost.clone(), near]).await;
        assert_eq!(kept, [lost]);
    }
}
