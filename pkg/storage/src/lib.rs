//! Layer 2: objects over the key-value store, with the watch cache in front.
//!
//! Invariants:
//! - An object is kept once, as the bytes that the store holds; cache, ring and watchers share them.
//! - The cache has taken in a write before the writer is answered. What others wrote through another server is seen by
//!   reads after [`ResourceStore::fresh`], which costs nothing on the embedded store.
//! - A value that cannot be read (of an unknown key, no object) is never taken for nothing: it is kept with the cause, and
//!   reading it, a list that covers it and writing over it fail. A stock server fails likewise, and for all of the resource
//!   at that, since its cache cannot be filled; here only what covers the value does. To leave it out of lists would be
//!   worse: who lists takes what is missing for gone, and kills the pod or gives out the address again.
//! - Every resource has one ring of recent events, and all of them one budget of bytes. Watchers read it at their own pace; one that falls behind the ring is
//!   told so and must list again. There are no queues a watcher.
//! - Resources come and go while others are written and watched ([`Storage::add`], [`Storage::remove`]). A cache that is added
//!   misses nothing and is found by nobody before it says what there is; one that is removed takes no more writes, answers
//!   nothing, and its watchers get what had happened before they are told of the end.

mod add;
mod attributes;
mod cache;
mod check;
mod codec;
pub mod encryption;
mod error;
mod form;
mod frames;
mod gate;
mod hub;
#[cfg(test)]
mod model_tests;
mod object;
mod phase;
mod recent;
mod store;
mod watch;
mod write;

pub use attributes::{Field, Fields};
pub use cache::{Keyed, Listing, Matcher};
pub use check::Difference;
pub use codec::Source;
pub use encryption::Encryption;
pub use error::Error;
pub use form::{OtherVersion, StoredForm};
pub use object::Object;
pub use store::{ResourceConfig, ResourceStore, Storage};
pub use watch::{EventKind, Next, WatchEvent, Watcher};
pub use write::{Amend, Taken, With};

pub use kedge_kv::Durability;
