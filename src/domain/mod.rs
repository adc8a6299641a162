//! The rules of a feed system, as pure functions and types: no async, no I/O, no clock.
//!
//! Everything here is decided from its arguments alone, so it is tested exhaustively and by
//! property. Start with [`ring`] (the home timeline) and [`fanout`] (who is pushed to).

pub mod body;
pub mod edge;
pub mod fanout;
pub mod handle;
pub mod ids;
pub mod media;
pub mod merge;
pub mod relations;
pub mod ring;
pub mod snowflake;
pub mod text;
pub mod window;

pub use body::Body;
pub use edge::{Change, Pair, PairChange, PairState};
pub use handle::{DisplayName, Handle};
pub use ids::{SessionId, TweetId, UserId};
pub use media::{MediaId, MediaKind, MediaList, MediaRef, MediaShape};
pub use relations::Relations;
pub use ring::{Entry, Ring, Token};
pub use text::TweetText;
pub use window::Window;
