//! Paths of columns.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("json_path"), |data: &[u8]| kedge_fuzz::selectors::json_path(data));
