//! Selectors of fields.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("field_selector"), |data: &[u8]| kedge_fuzz::selectors::field_selector(data));
