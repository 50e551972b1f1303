//! Schemas of custom resources.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("structural_schema"), |data: &[u8]| kedge_fuzz::schemas::structural_schema(data));
