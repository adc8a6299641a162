//! What services need of the world, as small object-safe traits in domain words.
//!
//! Every adapter passes the contract suite of its port, in [`contract`]. Three rules hold for all:
//!
//! - a **read** gives its value or a [`StoreError`];
//! - a **write** gives an [`Outcome`]: done, failed (it did not happen) or *unknown* (it may have
//!   happened), and every write may be repeated without harm;
//! - absence is `None` or a variant, never an error.

pub mod blobs;
pub mod bus;
pub mod cache;
pub mod contract;
pub mod home_store;
pub mod keys;
pub mod limit;
pub mod media;
pub mod outbox;
pub mod outcome;
pub mod rpc;
pub mod seeds;
pub mod timeline_store;
pub mod tokens;
pub mod tweets;
pub mod users;

pub use blobs::{BlobStore, Presigned, Seen};
pub use bus::{Bus, Queue, QueueStats, Receipt, Received, Target, Topic};
pub use cache::{
    BodyCache, BodyRead, CachedBody, HomeRead, HomeSlice, ListKey, Push, PushReport, RelationCache,
    TimelineCache,
};
pub use home_store::{Chosen, HomeStore};
pub use keys::{KeyStore, StoredKey};
pub use limit::{Counted, Hint, HintStream, Hints, Limit, RateLimiter, Verdict};
pub use media::{Begun, Due, MediaStore, NewUpload, Unfit, UploadRow};
pub use outbox::{Outbox, OutboxRow, OutboxStats};
pub use outcome::{Kind, Outcome, Read, StoreError};
pub use rpc::Rpc;
pub use seeds::{SeedMark, SeedStore, SeedUser};
pub use timeline_store::{AuthorRow, FollowerPage, StoredBody, TimelineStore};
pub use tokens::TokenProvider;
pub use tweets::{Created, Deleted, IdempotencyKey, NewTweet, TweetStore};
pub use users::{
    Account, Changed, Counts, CreateUser, EdgeChange, GraphStore, NewUser, PasswordHash, Refresh,
    RefreshHash, Revoked, SessionRow, UserStore,
};
