//! Bodies in protobuf.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("protobuf_body"), |data: &[u8]| kedge_fuzz::bodies::protobuf(data));
