//! Frames of SPDY.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("spdy"), |data: &[u8]| kedge_fuzz::frames::spdy(data));
