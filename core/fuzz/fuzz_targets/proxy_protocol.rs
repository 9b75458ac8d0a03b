#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    osmia_core::fuzzing::proxy_protocol(data);
});
