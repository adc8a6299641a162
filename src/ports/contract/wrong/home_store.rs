//! Wrong stores of home timelines.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults};
use crate::{
    domain::{Entry, TweetId, UserId, Window, ring::Slice, snowflake::first_at},
    ports::{
        Chosen, HomeStore, Outcome, Read, contract::home_store::Context, home_store::HOMES_MAX,
    },
};

faults! {
    /// Where nothing was chosen, something was.
    ChoosesByItself: [there_is_nothing_at_first],
    /// Everybody has one timeline.
    MixesUsers: [a_delivery_is_its_users_only],
    /// A delivery that comes again is shown again.
    DoublesRepeats: [a_delivery_that_comes_again_is_there_once],
    /// One delivery in three is acknowledged and not written.
    DropsOneInThree: [deliveries_in_any_order_are_newest_first],
    /// Entries are oldest first.
    Reorders: [deliveries_in_any_order_are_newest_first],
    /// The bounds of a window are inside.
    IncludesBounds: [a_window_shows_its_part],
    /// After an id come the newest, not the nearest.
    SkipsTheNearest: [a_window_shows_its_part],
    /// Every part is the last.
    AlwaysExhausted: [it_is_known_whether_there_is_more],
    /// Only the newest year is read.
    ForgetsOldYears: [years_are_one_timeline],
    /// Entries under the floor are shown.
    IgnoresFloors: [nothing_is_shown_at_or_below_the_floor],
    /// The last floor that came counts.
    LowersFloors: [a_floor_is_never_lowered],
    /// A floor is everybody's.
    SharesFloors: [a_floor_is_its_users_only],
    /// Too many rows are cut.
    CutsRows: [more_rows_than_a_call_may_have_are_refused],
    /// The last choice to come counts.
    LastChoiceToComeCounts: [the_highest_version_is_chosen],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

/// The only user of a store that mixes.
const ANYBODY: UserId = UserId(1);
/// 2026 begins.
const NEW_YEAR: TweetId = TweetId(first_at(1_767_225_600_000));

#[derive(Default)]
struct Memory {
    told: BTreeMap<(UserId, Entry), usize>,
    floors: BTreeMap<UserId, TweetId>,
    last: Option<Chosen>,
}

struct Wrong {
    inner: Arc<dyn HomeStore>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let (inner, every) = (context.homes, Every::default());
    let homes = Arc::new(Wrong { inner, fault, every, hushed, memory: Mutex::default() });
    Context { homes, outage, ..context }
}

impl Wrong {
    /// What was told of `user`, whatever the floor is.
    fn told(&self, user: UserId, window: Window, limit: usize) -> Slice {
        let memory = self.memory.lock();
        let mut entries: Vec<Entry> = Vec::new();
        for ((own, entry), times) in &memory.told {
            if *own == user && window.holds(entry.tweet) {
                let times = if self.fault == Fault::DoublesRepeats { *times } else { 1 };
                entries.extend(std::iter::repeat_n(*entry, times));
            }
        }
        entries.sort_by(|a, b| b.cmp(a));
        let exhausted = entries.len() <= limit;
        if matches!(window, Window::After(_)) && self.fault != Fault::SkipsTheNearest {
            entries.drain(..entries.len().saturating_sub(limit));
        } else {
            entries.truncate(limit);
        }
        let floor = memory.floors.get(&user).copied().unwrap_or_default();
        Slice { entries, floor, exhausted }
    }
}

#[async_trait]
impl HomeStore for Wrong {
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()> {
        if self.hushed.is_down() || (self.fault == Fault::DropsOneInThree && self.every.nth(3)) {
            return Outcome::Done(());
        }
        for row in rows {
            *self.memory.lock().told.entry(*row).or_default() += 1;
        }
        match self.fault {
            Fault::CutsRows => self.inner.put_homes(&rows[..rows.len().min(HOMES_MAX)]).await,
            Fault::MixesUsers => {
                let rows: Vec<_> = rows.iter().map(|&(_, entry)| (ANYBODY, entry)).collect();
                self.inner.put_homes(&rows).await
            }
            _ => self.inner.put_homes(rows).await,
        }
    }

    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        self.memory.lock().floors.insert(user, floor);
        let user = if self.fault == Fault::SharesFloors { ANYBODY } else { user };
        self.inner.raise_floor(user, floor).await
    }

    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice> {
        if self.hushed.is_down() {
            return Ok(Slice { exhausted: true, ..Slice::default() });
        }
        let right = self.inner.home(user, window, limit).await?;
        Ok(match self.fault {
            Fault::MixesUsers => self.inner.home(ANYBODY, window, limit).await?,
            Fault::SharesFloors => {
                let floor = self.inner.home(ANYBODY, window, limit).await?.floor;
                let mut shared = right;
                shared.floor = floor;
                shared.entries.retain(|entry| entry.tweet > floor);
                shared
            }
            Fault::DoublesRepeats | Fault::SkipsTheNearest | Fault::IgnoresFloors => {
                self.told(user, window, limit)
            }
            Fault::LowersFloors => {
                let mut lowered = self.told(user, window, limit);
                lowered.entries.retain(|entry| entry.tweet > lowered.floor);
                lowered
            }
            Fault::Reorders => {
                let mut turned = right;
                turned.entries.reverse();
                turned
            }
            Fault::IncludesBounds => {
                let window = match window {
                    Window::Latest => Window::Latest,
                    Window::Before(id) => Window::Before(TweetId(id.0.saturating_add(1))),
                    Window::After(id) => Window::After(TweetId(id.0.saturating_sub(1))),
                };
                self.inner.home(user, window, limit).await?
            }
            Fault::AlwaysExhausted => Slice { exhausted: true, ..right },
            Fault::ForgetsOldYears => {
                let mut young = right;
                let newest = young.entries.first().map_or(TweetId(0), |entry| entry.tweet);
                young.entries.retain(|entry| newest < NEW_YEAR || entry.tweet >= NEW_YEAR);
                young
            }
            _ => right,
        })
    }

    async fn chosen(&self) -> Read<Chosen> {
        if self.hushed.is_down() {
            return Ok(Chosen::default());
        }
        let chosen = self.inner.chosen().await?;
        Ok(match self.fault {
            Fault::ChoosesByItself if chosen.version == 0 => Chosen { version: 1, ..chosen },
            Fault::LastChoiceToComeCounts => self.memory.lock().last.unwrap_or(chosen),
            _ => chosen,
        })
    }

    async fn choose(&self, chosen: Chosen) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        self.memory.lock().last = Some(chosen);
        self.inner.choose(chosen).await
    }
}
