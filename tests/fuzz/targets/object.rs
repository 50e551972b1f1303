//! Objects of all kinds, created, updated and deleted.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("object"), |data: &[u8]| kedge_fuzz::objects::object(data));
