//! Real pretrained files, read wholly. They lie in the folder that ONSA_ASSETS names, else ~/.cache/onsa/assets; where they are
//! absent the tests say so, and fail in CI.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use onsa_intake::checkpoint::{Dtype, Format, read};

fn asset(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("ONSA_ASSETS")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/onsa/assets")));
    let path = folder.unwrap_or_default().join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing; CI needs it (ONSA_ASSETS names its folder)",
        path.display()
    );
    eprintln!("skipped: {} is missing (ONSA_ASSETS names its folder)", path.display());
    None
}

#[test]
fn yolo12n_onnx_reads_wholly() {
    let Some(path) = asset("yolov12n.onnx") else { return };
    let c = read(&path).unwrap();
    assert_eq!(c.sha256, "e548ab3a406227202334bf5a6623c9814ac6286ff04e68aeb4dc2357732d1a4f");
    assert_eq!((c.format, c.tensors.len(), c.meta.convs.len()), (Format::Onnx, 264, 120));
    assert!(c.meta.norm_folded);
    let names = c.meta.names.as_ref().unwrap();
    assert_eq!((names.len(), names[5].as_str()), (80, "bus"));
    assert_eq!(
        (c.meta.nc, c.meta.imgsz, c.meta.task.as_deref()),
        (Some(80), Some([640, 640]), Some("detect"))
    );
    assert_eq!(c.meta.stride, Some(vec![32.0]));
    assert!(c.meta.licence.as_ref().unwrap().starts_with("AGPL-3.0"));
    assert_eq!(c.tensor("model.0.conv.weight").unwrap().shape, [16, 3, 3, 3]);
    let stem = &c.meta.convs[0];
    assert_eq!(
        (stem.name.as_str(), &stem.strides[..], &stem.pads[..]),
        ("model.0.conv", &[2, 2][..], &[1, 1, 1, 1][..])
    );
    // Every convolution's weight is there under its module's name.
    for conv in &c.meta.convs {
        assert_eq!(conv.weight, format!("{}.weight", conv.name));
        assert!(c.tensor(&conv.weight).is_some(), "{}", conv.weight);
    }
}

#[test]
fn efficientnet_lite0_legacy_reads_wholly() {
    let Some(path) = asset("efficientnet-lite0-57934424.pth") else { return };
    let c = read(&path).unwrap();
    assert_eq!(c.sha256, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db");
    assert_eq!((c.format, c.tensors.len()), (Format::TorchLegacy, 296));
    assert_eq!(c.meta.source.as_deref(), Some("root"));
    let stem = c.tensor("_conv_stem.weight").unwrap();
    assert_eq!((&stem.shape[..], stem.dtype), (&[32, 3, 3, 3][..], Dtype::Float32));
    assert_eq!(c.tensor("_fc.bias").unwrap().shape, [1000]);
    assert!(
        c.tensors
            .iter()
            .filter(|t| t.dtype == Dtype::Float32)
            .all(|t| t.to_f32().iter().all(|v| v.is_finite()))
    );
}
