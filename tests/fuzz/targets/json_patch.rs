//! JSON patches.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("json_patch"), |data: &[u8]| kedge_fuzz::patches::json_patch(data));
