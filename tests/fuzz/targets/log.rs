//! The store's log.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("log"), |data: &[u8]| kedge_fuzz::stored::log(data));
