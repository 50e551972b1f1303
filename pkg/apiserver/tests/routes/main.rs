//! Rules that hold for every route: over all resources of the table, through the whole chain.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod catalogue;
mod dry_run;
mod eviction;
mod heads;
mod kinds;
mod ownership;
mod support;
mod tokens;
