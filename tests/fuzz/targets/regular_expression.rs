//! Regular expressions.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("regular_expression"), |data: &[u8]| kedge_fuzz::scalars::regular_expression(data));
