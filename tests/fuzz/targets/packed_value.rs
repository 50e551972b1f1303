//! Packed values.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("packed_value"), |data: &[u8]| kedge_fuzz::stored::packed_value(data));
