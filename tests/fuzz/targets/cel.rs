//! Expressions in CEL.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("cel"), |data: &[u8]| kedge_fuzz::expressions::cel(data));
