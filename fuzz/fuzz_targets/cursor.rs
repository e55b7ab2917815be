#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| keyledger_fuzz_targets::cursor::cursor(data));
