#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fsnap_fuzz::volume_info(data));
