#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = onsa_fuzz::targets::dicom(data);
});
