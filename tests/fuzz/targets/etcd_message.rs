//! Requests of etcd's clients.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("etcd_message"), |data: &[u8]| kedge_fuzz::etcd::message(data));
