//! Selectors of labels.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("label_selector"), |data: &[u8]| kedge_fuzz::selectors::label_selector(data));
