//! Answers of other DNS servers.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("dns_answer"), |data: &[u8]| kedge_fuzz::dns::answer(data));
