//! Frames of WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(init: kedge_fuzz::begin("websocket"), |data: &[u8]| kedge_fuzz::frames::websocket(data));
