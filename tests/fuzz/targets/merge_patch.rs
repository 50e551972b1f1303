//! Merge patches.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("merge_patch"), |data: &[u8]| kedge_fuzz::patches::merge_patch(data));
