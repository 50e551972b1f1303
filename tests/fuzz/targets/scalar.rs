//! Quantities, durations and times.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("scalar"), |data: &[u8]| kedge_fuzz::scalars::scalar(data));
