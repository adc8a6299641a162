//! Wrong caches of timelines.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults, tweets::widened};
use crate::{
    domain::{Entry, Relations, Token, TweetId, UserId, Window, ring::Slice},
    ports::{
        HomeRead, HomeSlice, Kind, ListKey, Outcome, Push, PushReport, Read, RelationCache,
        StoreError, TimelineCache, contract::timeline_cache::Context,
    },
};

faults! {
    /// Absent is read as empty.
    AbsentIsEmpty: [absent_is_a_miss_and_never_empty],
    /// Entries come in the order of their arrival.
    ShowsInOrderOfArrival: [a_fill_is_read_newest_first, a_push_comes_once_and_in_order],
    /// Each entry is shown twice.
    Doubles: [a_fill_is_read_newest_first],
    /// Pulled authors are not told.
    TellsNoPulled: [a_fill_is_read_newest_first],
    /// An empty timeline is read as absent.
    EmptyIsAbsent: [an_empty_fill_is_a_hit],
    /// The relations see everybody.
    IgnoresRelations: [a_page_is_filtered_by_the_relations],
    /// A page is filtered after its limit.
    FiltersAfterTheLimit: [a_page_is_filtered_by_the_relations],
    /// A timeline without relations is read as if nothing was hidden.
    NeedsNoRelations: [a_page_needs_the_relations],
    /// The bounds of a window are inside.
    IncludesBounds: [a_window_shows_its_part],
    /// After an id come the newest, not the nearest.
    SkipsTheNearest: [a_window_shows_its_part],
    /// A page is always the last.
    IsAlwaysExhausted: [a_page_tells_whether_there_is_more],
    /// A fill is ready at once.
    ShowsUnfinished: [an_unfinished_fill_shows_nothing],
    /// A fill writes over what was pushed while it ran.
    FillOverwrites: [a_push_while_the_fill_runs_is_united_with_it],
    /// A push makes a list where there is none.
    PushCreates: [a_push_goes_only_where_a_list_is],
    /// One delivery in three is reported and not made.
    DropsOneInThree: [a_push_comes_once_and_in_order, several_pushes_share_one_call],
    /// The floor of a fill is not kept.
    ForgetsTheFloor: [nothing_comes_below_the_floor],
    /// A full list drops its oldest and goes on saying that it is complete.
    TrimsInSilence: [a_full_list_raises_its_floor],
    /// Only the first of a backfill is written.
    BackfillsTheFirst: [a_backfill_goes_into_one_list],
    /// A backfill goes into a list that reaches below it.
    LeavesGaps: [a_backfill_that_would_leave_a_gap_is_refused],
    /// A backfill that reaches exactly down to the list's floor is refused.
    RefusesWhatFits: [a_backfill_that_would_leave_a_gap_is_refused],
    /// What is refused is written all the same.
    WritesWhatItRefuses: [a_backfill_that_would_leave_a_gap_is_refused],
    /// Every list is reported as delivered to.
    ReportsAllDelivered: [a_report_counts_every_list],
    /// The author's list is left out.
    ForgetsAuthorLists: [the_authors_list_is_pushed_to_if_asked_for],
    /// Only the first push of a call is made.
    PushesTheFirst: [several_pushes_share_one_call],
    /// A user's home and author list are one.
    MixesKeys: [homes_and_author_lists_are_apart],
    /// Lists of authors come in the order of their ids.
    SortsAuthors: [lists_of_several_authors_come_in_order],
    /// What is ready is filled again.
    FillsAgain: [what_is_ready_is_not_filled_again],
    /// Any token stands.
    IgnoresTokens: [
        a_later_fill_overrules_an_earlier,
        a_fill_ends_once,
        a_fill_that_was_invalidated_is_void,
        a_fill_that_was_invalidated_stays_void_when_another_begins
    ],
    /// Invalidating does nothing.
    ForgetsInvalidations: [what_was_invalidated_is_gone],
    /// Invalidating what is not there is an error.
    RefusesAbsent: [invalidating_what_is_not_there_is_done],
    /// One delivery in forty is reported and not made.
    DropsOneInForty: [pushes_at_once_all_arrive],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

#[derive(Default)]
struct Memory {
    arrivals: BTreeMap<ListKey, Vec<Entry>>,
    filling: BTreeSet<ListKey>,
    known: BTreeSet<ListKey>,
}

struct Wrong {
    inner: Arc<dyn TimelineCache>,
    relations: Arc<dyn RelationCache>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

/// The caches of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let wrong = Arc::new(Wrong {
        inner: context.timelines,
        relations: context.relations,
        fault,
        every: Every::default(),
        hushed,
        memory: Mutex::default(),
    });
    Context { timelines: wrong.clone(), relations: wrong, outage, ..context }
}

/// Relations that see every author of the suite.
fn everybody() -> Relations {
    let visible: Vec<UserId> = (0..100).map(UserId).collect();
    Relations { visible: visible.into(), ..Relations::default() }
}

impl Wrong {
    fn key(&self, key: ListKey) -> ListKey {
        match key {
            ListKey::Author(user) if self.fault == Fault::MixesKeys => ListKey::Home(user),
            key => key,
        }
    }

    fn arrive(&self, key: ListKey, entries: &[Entry]) {
        self.memory.lock().arrivals.entry(key).or_default().extend(entries);
    }

    fn bend_slice(&self, key: ListKey, slice: &mut Slice) {
        match self.fault {
            Fault::ShowsInOrderOfArrival => {
                let memory = self.memory.lock();
                let order = memory.arrivals.get(&key).cloned().unwrap_or_default();
                let place = |entry: &Entry| order.iter().position(|other| other == entry);
                slice.entries.sort_by_key(|entry| std::cmp::Reverse(place(entry)));
            }
            Fault::Doubles => {
                slice.entries = slice.entries.iter().flat_map(|entry| [*entry; 2]).collect();
            }
            Fault::IsAlwaysExhausted => slice.exhausted = true,
            Fault::TrimsInSilence => slice.floor = TweetId(0),
            _ => {}
        }
    }

    async fn fill_at_once(&self, user: UserId, relations: Relations) {
        if let Outcome::Done(token) = self.relations.begin_fill(user).await {
            drop(self.relations.finish_fill(user, token, Arc::new(relations)).await);
        }
    }

    /// Makes whatever list is not there.
    async fn create(&self, homes: &[UserId]) {
        for &user in homes {
            let key = ListKey::Home(user);
            if let Outcome::Done(Some(token)) = self.inner.begin_fill(key).await {
                drop(self.inner.finish_fill(key, token, &[], TweetId(0)).await);
            }
        }
    }

    /// The homes that one push really goes to.
    fn bend_homes(&self, push: &Push<'_>) -> Vec<UserId> {
        let memory = self.memory.lock();
        let keeps = |user: &&UserId| match self.fault {
            Fault::DropsOneInThree => !self.every.nth(3),
            Fault::DropsOneInForty => !self.every.nth(40),
            Fault::FillOverwrites => !memory.filling.contains(&ListKey::Home(**user)),
            _ => true,
        };
        push.homes.iter().filter(keeps).copied().collect()
    }
}

#[async_trait]
impl TimelineCache for Wrong {
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead> {
        if self.hushed.is_down() {
            return Ok(HomeRead::NoTimeline);
        }
        let asked = if self.fault == Fault::IncludesBounds { widened(window) } else { window };
        let nothing = || HomeRead::Hit(HomeSlice { slice: Slice::default(), pulled: Vec::new() });
        let read = match (self.fault, window) {
            (Fault::NeedsNoRelations, _) => {
                let read = self.inner.page(user, window, limit).await?;
                if read == HomeRead::NoRelations {
                    self.fill_at_once(user, everybody()).await;
                }
                self.inner.page(user, window, limit).await?
            }
            (Fault::FiltersAfterTheLimit, _) => {
                let relations = self.relations.get(user).await?.unwrap_or_default();
                self.fill_at_once(user, everybody()).await;
                let mut read = self.inner.page(user, window, limit).await?;
                if let HomeRead::Hit(home) = &mut read {
                    home.slice.entries.retain(|entry| relations.sees(entry.author));
                }
                self.fill_at_once(user, (*relations).clone()).await;
                read
            }
            (Fault::SkipsTheNearest, Window::After(_)) => {
                let mut read = self.inner.page(user, Window::Latest, limit).await?;
                if let HomeRead::Hit(home) = &mut read {
                    home.slice.entries.retain(|entry| window.holds(entry.tweet));
                }
                read
            }
            _ => self.inner.page(user, asked, limit).await?,
        };
        Ok(match (self.fault, read) {
            (Fault::AbsentIsEmpty, HomeRead::NoTimeline | HomeRead::NoRelations) => nothing(),
            (Fault::EmptyIsAbsent, HomeRead::Hit(home)) if home.slice.entries.is_empty() => {
                HomeRead::NoTimeline
            }
            (_, HomeRead::Hit(mut home)) => {
                self.bend_slice(ListKey::Home(user), &mut home.slice);
                if self.fault == Fault::TellsNoPulled {
                    home.pulled.clear();
                }
                HomeRead::Hit(home)
            }
            (_, read) => read,
        })
    }

    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>> {
        if self.hushed.is_down() {
            return Ok(vec![None; authors.len()]);
        }
        if self.fault == Fault::MixesKeys {
            let mut lists = Vec::new();
            for &author in authors {
                self.fill_at_once(author, everybody()).await;
                lists.push(match self.inner.page(author, window, limit).await? {
                    HomeRead::Hit(home) => Some(home.slice),
                    _ => None,
                });
            }
            return Ok(lists);
        }
        let mut authors = authors.to_vec();
        if self.fault == Fault::SortsAuthors {
            authors.sort_unstable();
        }
        self.inner.author_lists(&authors, window, limit).await
    }

    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport> {
        if self.hushed.is_down() {
            return Outcome::Done(PushReport::default());
        }
        let made = match self.fault {
            Fault::PushesTheFirst => &pushes[..pushes.len().min(1)],
            _ => pushes,
        };
        let (mut done, mut lost, mut all) = (PushReport::default(), 0, 0);
        for push in made {
            if self.fault == Fault::PushCreates {
                self.create(push.homes).await;
            }
            let homes = self.bend_homes(push);
            lost += (push.homes.len() - homes.len()) as u64;
            all += push.homes.len() as u64;
            for user in &homes {
                self.arrive(ListKey::Home(*user), &[push.entry]);
            }
            let author_list = push.author_list && self.fault != Fault::ForgetsAuthorLists;
            let bent = [Push { entry: push.entry, homes: &homes, author_list }];
            match self.inner.push(&bent).await {
                Outcome::Done(report) => {
                    done.delivered += report.delivered;
                    done.repeated += report.repeated;
                    done.absent += report.absent;
                }
                other => return other,
            }
        }
        done.delivered += lost;
        if self.fault == Fault::ReportsAllDelivered {
            done = PushReport { delivered: all, ..PushReport::default() };
        }
        Outcome::Done(done)
    }

    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>> {
        if self.hushed.is_down() {
            return Outcome::Done(Some(PushReport::default()));
        }
        let key = self.key(key);
        let kept = if self.fault == Fault::BackfillsTheFirst { &entries[..1] } else { entries };
        match self.fault {
            Fault::LeavesGaps => self.inner.push_many(key, kept, TweetId(0)).await,
            Fault::RefusesWhatFits => self.inner.push_many(key, kept, TweetId(above.0 + 1)).await,
            Fault::WritesWhatItRefuses => {
                let refused = self.inner.push_many(key, &[], above).await == Outcome::Done(None);
                let done = self.inner.push_many(key, kept, TweetId(0)).await;
                if refused { Outcome::Done(None) } else { done }
            }
            _ => self.inner.push_many(key, kept, above).await,
        }
    }

    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>> {
        if self.hushed.is_down() {
            return Outcome::Done(None);
        }
        let key = self.key(key);
        let mut begun = self.inner.begin_fill(key).await;
        if self.fault == Fault::FillsAgain && begun == Outcome::Done(None) {
            drop(self.inner.invalidate(&[key]).await);
            begun = self.inner.begin_fill(key).await;
        }
        self.memory.lock().filling.insert(key);
        self.memory.lock().known.insert(key);
        if let (Fault::ShowsUnfinished, Outcome::Done(Some(token))) = (self.fault, &begun) {
            drop(self.inner.finish_fill(key, *token, &[], TweetId(0)).await);
        }
        begun
    }

    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool> {
        if self.hushed.is_down() {
            return Outcome::Done(false);
        }
        let key = self.key(key);
        self.memory.lock().filling.remove(&key);
        self.arrive(key, entries);
        let mut token = token;
        if self.fault == Fault::IgnoresTokens {
            drop(self.inner.invalidate(&[key]).await);
            if let Outcome::Done(Some(fresh)) = self.inner.begin_fill(key).await {
                token = fresh;
            }
        }
        let floor = if self.fault == Fault::ForgetsTheFloor { TweetId(0) } else { floor };
        self.inner.finish_fill(key, token, entries, floor).await
    }

    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()> {
        let bent: Vec<ListKey> = keys.iter().map(|key| self.key(*key)).collect();
        let strange = bent.iter().any(|key| !self.memory.lock().known.contains(key));
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(()),
            Fault::ForgetsInvalidations => Outcome::Done(()),
            Fault::RefusesAbsent if strange => {
                let why = "there is nothing to invalidate";
                Outcome::Failed(StoreError::new(Kind::Unavailable, "timeline_cache", why))
            }
            _ => self.inner.invalidate(&bent).await,
        }
    }
}

#[async_trait]
impl RelationCache for Wrong {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        self.relations.get(user).await
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        self.relations.begin_fill(user).await
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        let ignores = self.fault == Fault::IgnoresRelations;
        let relations = if ignores { Arc::new(everybody()) } else { relations };
        self.relations.finish_fill(user, token, relations).await
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        self.relations.invalidate(users).await
    }
}
