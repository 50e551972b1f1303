//! End-to-end tests: the real binary, the real kubectl, the real containerd and runc.
//!
//! They need root and the tools that `cargo xtask test` brings; it says where they are in `KEDGE_TEST_BINARY`,
//! `KEDGE_TEST_KUBECTL`, `KEDGE_TEST_ETCD_DIR` and `KEDGE_TEST_OPERATOR`. Tests wait on states, never on time; what a test made is gone after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod admission;
mod aggregation;
mod attacks;
mod audit;
mod authorization;
mod bad_input;
mod certificates;
mod clients_answers;
mod clients_identity;
mod clients_patches;
mod clients_queries;
mod clients_writes;
mod controllers;
mod custom_resources;
mod encryption;
mod etcd_cluster;
mod flow_control;
mod host_ports;
mod hung_volumes;
mod image_policy;
mod issuers;
mod kubectl;
mod kubelet_api;
mod letter;
mod memory;
mod mounts;
mod node_pressure;
mod operator;
mod pages;
mod pod;
mod policies;
mod policies_mutating;
mod port_forward;
mod proxy;
mod renewal;
mod resize;
mod resource_metrics;
mod restart;
mod rights;
mod roles;
mod rotated_authorities;
mod runtime;
mod server_side_apply;
mod servers;
mod service_addresses;
mod services;
mod shared_encryption;
mod start;
mod static_pods;
mod storage_migration;
mod store;
mod streams;
mod support;
mod terminal;
mod tokens;
mod unreadable;
mod webhook_access;
mod webhooks;
mod webhooks_custom;
mod webhooks_failing;
mod workload;
