//! Rules that hold for every route: over all resources of the table, through the whole chain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod admission;
mod catalogue;
mod certificates;
mod conversion;
mod deletions;
mod dry_run;
mod eviction;
mod followers;
mod forms;
mod heads;
mod http2;
mod http2_client;
mod kinds;
mod legacy_tokens;
mod limits;
mod nodes;
mod ownership;
mod pages;
mod proxy;
mod proxy_backend;
mod reviews;
mod selectors;
mod support;
mod tokens;
