//! End-to-end tests: the real binary, the real kubectl, the real containerd and runc.
//!
//! They need root and the tools that `cargo xtask test` brings; it says where they are in `KEDGE_TEST_BINARY` and
//! `KEDGE_TEST_KUBECTL`. Tests wait on states, never on time; what a test made is gone after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod bad_input;
mod kubectl;
mod mounts;
mod pod;
mod port_forward;
mod restart;
mod rights;
mod runtime;
mod services;
mod start;
mod streams;
mod support;
mod terminal;
mod workload;
