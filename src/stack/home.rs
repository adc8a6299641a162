//! What a process of `chirp serve` shares with the others: a data folder, or nothing but
//! configuration.

use super::{
    DataDir, StackError,
    data_dir::{Found, Lock, RunFile, Seat},
    token,
};
use crate::{config::Config, rt::Rt, services::kit::Secret, wire::routes::Role};

/// Node numbers of candidate ids: ten bits.
const NODES: u64 = 1 << 10;

/// Where a process lives.
pub(super) struct Home {
    pub(super) dir: DataDir,
    /// `None` if the process touches no folder.
    held: Option<Held>,
}

struct Held {
    found: Found,
    seats: Vec<Seat>,
    lock: Lock,
}

impl Home {
    /// Takes the roles of the data folder: alone over embedded stores, which have one owner each; over
    /// servers beside others. Processes over servers that are told where their peers are take none.
    pub(super) fn take(config: &Config, roles: &[Role]) -> Result<Self, StackError> {
        let dir = DataDir::at(&config.up.data_dir);
        let external = config.backends.external();
        if external && config.peers.any() {
            return Ok(Self { dir, held: None });
        }
        let found = dir.create()?;
        dir.check_shared_kind(external).inspect_err(|_| dir.undo_shared(found))?;
        let locked = if external {
            dir.lock_seats(roles)
        } else {
            let seats = roles.iter().map(|role| Seat::from(*role)).collect();
            dir.lock_roles(roles).map(|lock| (lock, seats))
        };
        let (lock, seats) = locked.inspect_err(|_| dir.undo_shared(found))?;
        Ok(Self { dir, held: Some(Held { found, seats, lock }) })
    }

    /// The folder in which the other processes are found, if any.
    pub(super) fn folder(&self) -> Option<DataDir> {
        self.held.as_ref().map(|_| self.dir.clone())
    }

    /// Refuses a token that is damaged, before anything is made.
    pub(super) fn check_token(&self, config: &Config) -> Result<(), StackError> {
        if token::configured(&config.serve)?.is_some() {
            return Ok(());
        }
        if self.held.is_some() {
            return self.dir.read_token().map(drop);
        }
        let why = "is not configured, and with `[peers]` there is no data folder to find it in";
        Err(StackError::Token(why.to_owned()))
    }

    /// The token by which roles know each other.
    pub(super) fn token(&self, config: &Config, rt: &Rt) -> Result<Secret, StackError> {
        match token::configured(&config.serve)? {
            Some(token) => Ok(token),
            None => self.dir.service_token(rt),
        }
    }

    /// A number for the replicas of this process: another than that of any other here, and without a
    /// folder one that is hardly another's. Ids that two replicas give to the same instant differ by
    /// it, and the stores refuse those that do not.
    pub(super) fn replica(&self, rt: &Rt, role: Role) -> usize {
        let seat = self.held.iter().flat_map(|held| &held.seats).find(|seat| seat.role == role);
        seat.map_or_else(
            || usize::try_from(rt.random_below(NODES)).unwrap_or(0),
            |seat| seat.number,
        )
    }

    /// Says where the roles are reached.
    pub(super) fn announce(&self, runs: &[(Role, RunFile)]) -> Result<(), StackError> {
        self.each(runs).try_for_each(|(seat, run)| self.dir.write_run(Some(seat), run))
    }

    /// Takes that back.
    pub(super) fn withdraw(&self) {
        for seat in self.held.iter().flat_map(|held| &held.seats) {
            self.dir.remove_run(Some(*seat));
        }
    }

    /// Takes back what a start made that failed.
    pub(super) fn undo(self) {
        let Self { dir, held } = self;
        if let Some(Held { found, lock, .. }) = held {
            drop(lock);
            dir.undo_shared(found);
        }
    }

    fn each<'a>(
        &'a self,
        runs: &'a [(Role, RunFile)],
    ) -> impl Iterator<Item = (Seat, &'a RunFile)> + 'a {
        let seats = self.held.iter().flat_map(|held| &held.seats);
        seats.zip(runs).map(|(seat, (_, run))| (*seat, run))
    }
}
