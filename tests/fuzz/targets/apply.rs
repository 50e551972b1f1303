//! Server-side apply, between other writes.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("apply"), |data: &[u8]| kedge_fuzz::ownership::apply(data));
