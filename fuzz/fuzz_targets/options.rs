#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fsnap_fuzz::options(data));
