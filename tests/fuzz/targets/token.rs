//! Tokens of service accounts.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("token"), |data: &[u8]| kedge_fuzz::access::token(data));
