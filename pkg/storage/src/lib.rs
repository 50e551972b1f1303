//! Layer 2: objects over the key-value store, with the watch cache in front.
//!
//! Invariants:
//! - An object is kept once, as the bytes that the store holds; cache, ring and watchers share them.
//! - The cache has taken in a write before the writer is answered, so reads from it are consistent without waiting.
//! - Every resource has one bounded ring of events. Watchers read it at their own pace; one that falls behind the ring is
//!   told so and must list again. There are no queues a watcher.

mod cache;
mod error;
mod object;
mod store;
mod watch;

pub use cache::{Attributes, Listing, Matcher};
pub use error::Error;
pub use object::Object;
pub use store::{ResourceConfig, ResourceStore, Storage};
pub use watch::{EventKind, Next, WatchEvent, Watcher};
