//! Definitions of custom resources as stock servers store them.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("stored_definition"), |data: &[u8]| kedge_fuzz::bodies::stored_definition(data));
