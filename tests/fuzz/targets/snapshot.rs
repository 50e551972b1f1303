//! Snapshots in etcd's format.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("snapshot"), |data: &[u8]| kedge_fuzz::stored::snapshot(data));
