//! Bodies in JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("json_body"), |data: &[u8]| kedge_fuzz::bodies::json(data));
