//! Queries of DNS.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("dns_query"), |data: &[u8]| kedge_fuzz::dns::query(data));
