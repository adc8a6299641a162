//! Places of replicas on a data folder: their locks and run files in `run/`.

use std::{
    collections::BTreeSet,
    fmt, fs,
    fs::File,
    path::{Path, PathBuf},
};

use super::{DataDir, Lock, RunFile, StackError, held, sign};
use crate::wire::routes::Role;

/// The most replicas of a role on one data folder: as many as anybody calls.
pub const SEATS_MAX: usize = 64;

/// The place of one replica of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// Which role.
    pub role: Role,
    /// Which of its replicas, from 0.
    pub number: usize,
}

impl From<Role> for Seat {
    fn from(role: Role) -> Self {
        Self { role, number: 0 }
    }
}

/// As its files are named: `user`, `user-1`.
impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            0 => write!(f, "{}", self.role),
            number => write!(f, "{}-{number}", self.role),
        }
    }
}

impl Seat {
    /// The seat whose files are named `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (role, number) = name.split_once('-').map_or((name, None), |(r, n)| (r, Some(n)));
        let number = number.map_or(Some(0), |number| number.parse().ok())?;
        let seat = Self { role: Role::parse(role)?, number };
        (number < SEATS_MAX && seat.to_string() == name).then_some(seat)
    }
}

impl DataDir {
    /// Takes the first free seat of each role, for processes that share their stores.
    ///
    /// # Errors
    /// [`StackError::Locked`] if `chirp up` has the folder, or a role has no free seat.
    pub fn lock_seats(&self, roles: &[Role]) -> Result<(Lock, Vec<Seat>), StackError> {
        let mut files = vec![self.claim(&self.root.join("chirp.lock"), File::try_lock_shared)?];
        let mut seats = Vec::new();
        for &role in roles {
            let free = (0..SEATS_MAX).map(|number| Seat { role, number });
            let mut free = free.filter(|seat| !held(&self.seat_lock(*seat)));
            loop {
                let Some(seat) = free.next() else {
                    let holder = format!("{SEATS_MAX} processes of {role}");
                    return Err(StackError::Locked { path: self.root.clone(), holder });
                };
                match self.lock_seat(seat) {
                    Ok(file) => {
                        files.push(file);
                        seats.push(seat);
                        break;
                    }
                    // Another process was faster.
                    Err(StackError::Locked { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((Lock { _files: files }, seats))
    }

    pub(super) fn lock_seat(&self, seat: Seat) -> Result<File, StackError> {
        let path = self.seat_lock(seat);
        let file = self.claim(&path, File::try_lock)?;
        sign(&file, &path)?;
        drop(fs::remove_file(self.run_file(Some(seat))));
        Ok(file)
    }

    /// Every seat that has ever been taken, in order.
    pub(super) fn seats(&self) -> BTreeSet<Seat> {
        let files = fs::read_dir(self.root.join("run")).into_iter().flatten().flatten();
        let seat = |path: PathBuf| {
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            is_lock.then(|| Seat::parse(path.file_stem()?.to_str()?)).flatten()
        };
        files.filter_map(|file| seat(file.path())).collect()
    }

    /// Where the replicas of a role are reached whose processes hold their locks: without that the
    /// addresses may be anybody's by now.
    #[must_use]
    pub fn running_seats(&self, role: Role) -> Vec<RunFile> {
        let own = self.seats().into_iter().filter(|seat| seat.role == role);
        let held = own.filter(|seat| held(&self.seat_lock(*seat)));
        held.filter_map(|seat| self.read_run(Some(seat))).collect()
    }

    pub(super) fn seat_lock(&self, seat: Seat) -> PathBuf {
        self.root.join("run").join(format!("{seat}.lock"))
    }
}

/// Whether `name`, in the folder `run`, is a file of a seat.
pub(in crate::stack) fn is_run_file(name: &str) -> bool {
    let is_ours = |(stem, rest): (&str, &str)| {
        matches!(rest, "json" | "json.new" | "lock") && Seat::parse(stem).is_some()
    };
    Path::new(name).components().count() == 1 && name.split_once('.').is_some_and(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_share_stores_take_seats_side_by_side_and_free_them_with_their_end() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(&parent.path().join("data"));
        dir.create().unwrap();
        let names = |seats: &[Seat]| seats.iter().map(Seat::to_string).collect::<Vec<_>>();
        let (first, seats) = dir.lock_seats(&[Role::User, Role::Tweet]).unwrap();
        assert_eq!(names(&seats), ["user", "tweet"]);
        let (second, seats) = dir.lock_seats(&[Role::User]).unwrap();
        assert_eq!(names(&seats), ["user-1"]);
        assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
        assert!(matches!(dir.lock_roles(&[Role::User]), Err(StackError::Locked { .. })));
        assert!(dir.running_seats(Role::User).is_empty(), "nobody has said where it is");
        assert_eq!(dir.holders(), BTreeSet::from([std::process::id()]));
        drop(first);
        let (_third, seats) = dir.lock_seats(&[Role::User]).unwrap();
        assert_eq!(names(&seats), ["user"], "the seat of who has ended");
        drop(second);
    }

    #[test]
    fn only_names_that_seats_have_are_theirs() {
        for name in ["user.json", "user-1.lock", "tweet-63.json.new"] {
            assert!(is_run_file(name), "{name}");
        }
        for name in ["user", "user.txt", "user-0.lock", "user-64.lock", "user-01.lock", "a.lock"] {
            assert!(!is_run_file(name), "{name}");
        }
    }
}
