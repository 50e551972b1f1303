//! The API with the real etcdctl, and beside a real etcd.
//!
//! `KEDGE_TEST_ETCD_DIR` names the directory of the programs `etcd` and `etcdctl`; without it the tests say that they are
//! left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod differential;
mod etcdctl;
mod served;
mod tls;
mod watches;
