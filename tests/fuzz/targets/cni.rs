//! What a container runtime tells the network plug-in.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("cni"), |data: &[u8]| kedge_fuzz::network::cni(data));
