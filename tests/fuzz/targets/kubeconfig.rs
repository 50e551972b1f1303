//! Kubeconfig files.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("kubeconfig"), |data: &[u8]| kedge_fuzz::access::kubeconfig(data));
