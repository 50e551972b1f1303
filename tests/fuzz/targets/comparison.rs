//! What differs between two objects.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("comparison"), |data: &[u8]| kedge_fuzz::ownership::comparison(data));
