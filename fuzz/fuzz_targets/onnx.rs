#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    layerjoule_fuzz::Reader::Onnx.check(bytes);
});
