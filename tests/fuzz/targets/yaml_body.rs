//! Bodies in YAML.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("yaml_body"), |data: &[u8]| kedge_fuzz::bodies::yaml(data));
