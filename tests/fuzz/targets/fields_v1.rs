//! Sets of fields.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("fields_v1"), |data: &[u8]| kedge_fuzz::ownership::fields_v1(data));
