//! Strategic merge patches.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("strategic_merge_patch"), |data: &[u8]| kedge_fuzz::patches::strategic_merge_patch(data));
