//! Formats told apart, safetensors there and back, and arbitrary bytes.

use proptest::prelude::*;

use super::pickle::assemble::{container, legacy, ordered, pickle, tensor};
use super::*;

fn sample() -> (Vec<Tensor>, Meta) {
    let tensors = vec![
        Tensor::from_f32("model.0.conv.weight", &[2, 1, 1, 1], &[1.0, -2.5]),
        Tensor { name: "flag".into(), dtype: Dtype::Bool, shape: vec![3], data: vec![1, 0, 1] },
        Tensor {
            name: "model.0.bn.num_batches_tracked".into(),
            dtype: Dtype::Int64,
            shape: vec![],
            data: vec![7, 0, 0, 0, 0, 0, 0, 0],
        },
    ];
    let meta = Meta {
        yaml: Some(serde_json::json!({"nc": 2, "backbone": [[-1, 1, "Conv", [64, 3, 2]]]})),
        names: Some(vec!["leaf \"x\"".into(), "石".into()]),
        nc: Some(2),
        task: Some("detect".into()),
        stride: Some(vec![8.0, 16.0, 32.0]),
        licence: Some("AGPL-3.0".into()),
        epoch: Some(-1),
        imgsz: Some([640, 480]),
        source: Some("ema".into()),
        extra: [("format".to_owned(), "pt".to_owned())].into(),
        ..Meta::default()
    };
    (tensors, meta)
}

#[test]
fn safetensors_written_read_back_and_never_vary() {
    let (tensors, meta) = sample();
    let bytes = write_safetensors(&tensors, &meta).unwrap();
    assert_eq!(bytes, write_safetensors(&tensors, &meta).unwrap());
    let c = read_bytes(&bytes).unwrap();
    assert_eq!(c.format, Format::Safetensors);
    assert_eq!(c.meta, meta);
    for t in &tensors {
        assert_eq!(c.tensor(&t.name), Some(t));
    }
    assert_eq!(c.tensors.len(), 3);
    assert_eq!(c.sha256.len(), 64);
    // The format's own crate agrees on every byte.
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("flag").unwrap().data(), [1, 0, 1]);
}

#[test]
fn every_meta_field_has_its_key() {
    let full = serde_json::json!({
        "yaml": {}, "names": [], "nc": 1, "task": "", "stride": [], "licence": "", "version": "", "date": "", "epoch": 1,
        "train_args": {}, "producer": "", "model_class": "", "imgsz": [1, 1], "norm_folded": true, "source": "",
        "skipped": ["x"], "convs": [{"name": "", "weight": "", "bias": null, "kernel": [], "strides": [], "pads": [],
        "dilations": [], "group": 1, "auto_pad": null}],
    });
    let meta: Meta = serde_json::from_value(full.clone()).unwrap();
    assert_eq!(
        serde_json::to_value(&meta).unwrap(),
        full,
        "a field that is missing above is missing in FIELDS"
    );
    let mut fields: Vec<_> = full.as_object().unwrap().keys().map(String::as_str).collect();
    let mut known = Meta::FIELDS.to_vec();
    fields.sort_unstable();
    known.sort_unstable();
    assert_eq!(fields, known);
}

#[test]
fn tensors_that_contradict_themselves_are_not_written() {
    let (mut tensors, meta) = sample();
    tensors[0].shape = vec![3];
    assert!(matches!(write_safetensors(&tensors, &meta), Err(CheckpointError::BadTensor { .. })));
    let (mut tensors, meta) = sample();
    tensors[1].name = tensors[0].name.clone();
    assert!(matches!(write_safetensors(&tensors, &meta), Err(CheckpointError::DuplicateTensor(_))));
}

#[test]
fn damaged_safetensors_are_errors() {
    let (tensors, meta) = sample();
    let bytes = write_safetensors(&tensors, &meta).unwrap();
    for n in 0..bytes.len() {
        assert!(read_bytes(&bytes[..n]).is_err(), "{n} of {} bytes", bytes.len());
    }
    let with = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    for (what, file) in [
        (
            "overlap",
            with(
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
                &[0; 3],
            ),
        ),
        ("gap", with(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, &[0; 2])),
        ("shape", with(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4])),
        (
            "overflow",
            with(r#"{"a":{"dtype":"F32","shape":[18446744073709551615,4],"data_offsets":[0,4]}}"#, &[0; 4]),
        ),
        ("type", with(r#"{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}"#, &[0])),
        (
            "dimensions",
            with(r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, &[0]),
        ),
        ("no tensors", with("{}", &[])),
        (
            "names",
            with(
                r#"{"__metadata__":{"onsa.names":"[1]"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                &[0],
            ),
        ),
        (
            "not JSON",
            with(
                r#"{"__metadata__":{"onsa.names":"leaf"},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
                &[0],
            ),
        ),
        ("header too long", with(&format!("{{{}}}", " ".repeat(3 << 20)), &[])),
    ] {
        assert!(read_bytes(&file).is_err(), "{what}");
    }
}

#[test]
fn other_files_are_named() {
    for (bytes, hint) in [
        (&b""[..], "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\n<!DOCTYPE html><html>not found</html>", "web page"),
        (b"GGUF\x03\x00\x00\x00 and so on and so on", "GGUF"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.and so on", "torch.save"),
        (b"an ordinary text file, longer than most", "neither"),
        (b"PK", "short"),
    ] {
        match read_bytes(bytes) {
            Err(CheckpointError::UnknownFormat { hint: found }) => assert!(found.contains(hint), "{found}"),
            other => panic!("{hint}: {other:?}"),
        }
    }
}

#[test]
fn errors_of_files_carry_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let error = read(&path).unwrap_err();
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    assert!(matches!(error.kind(), CheckpointError::Io(_)));
    assert!(matches!(read(folder.path()).unwrap_err().kind(), CheckpointError::NotAFile));
    std::fs::write(&path, b"PK\x03\x04 not a container at all").unwrap();
    let error = read(&path).unwrap_err();
    assert!(matches!(error.kind(), CheckpointError::Truncated { .. }), "{error}");
}

#[test]
fn the_format_comes_from_the_bytes_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really-safetensors.pt");
    let (tensors, meta) = sample();
    std::fs::write(&path, write_safetensors(&tensors, &meta).unwrap()).unwrap();
    assert_eq!(read(&path).unwrap().format, Format::Safetensors);
}

#[test]
fn directory_headers_are_counted_across_blocks() {
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(3).min(out.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }
    let bytes = b"PK\x01\x02aPK\x01\x02PK\x01PK\x01\x02".repeat(50);
    assert_eq!(scan(&mut &bytes[..], true).unwrap().directory_entries, 150);
    let slow = scan(&mut Slow(&bytes), true).unwrap();
    assert_eq!((slow.directory_entries, slow.length), (150, bytes.len() as u64));
    assert_eq!(slow.sha256, scan(&mut &bytes[..], true).unwrap().sha256);
    // SHA-256 of "abc", FIPS 180-2, appendix B.1.
    assert_eq!(
        scan(&mut &b"abc"[..], false).unwrap().sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

/// One valid file of each container, to damage.
fn valid() -> Vec<Vec<u8>> {
    let state = pickle(&ordered(&[
        ("w", tensor("FloatStorage", "0", 4, 0, &[2, 2], &[2, 1])),
        ("t", tensor("FloatStorage", "0", 4, 0, &[2, 2], &[1, 2])),
    ]));
    let data: Vec<u8> = (0..16).collect();
    let (tensors, meta) = sample();
    // ModelProto { ir_version: 8, graph: { initializer: { dims: 1, data_type: FLOAT, name: "w", raw_data } } }
    let onnx = b"\x08\x08\x3a\x0f\x2a\x0d\x08\x01\x10\x01\x42\x01w\x4a\x04\x00\x00\x80\x3f".to_vec();
    vec![
        container(&state, &[("0", &data)], "little"),
        legacy(&state, &[("0", 4, &data)]),
        write_safetensors(&tensors, &meta).unwrap(),
        onnx,
    ]
}

#[test]
fn the_files_that_the_property_tests_damage_are_valid() {
    for file in valid() {
        assert!(read_bytes(&file).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        for head in [&b""[..], b"PK\x03\x04", &torch::MAGIC, b"\x08\x08", b"\x20\x00\x00\x00\x00\x00\x00\x00{"] {
            let _ = read_bytes(&[head, &tail].concat());
        }
    }

    #[test]
    fn arbitrary_pickles_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = super::pickle::load(&mut &tail[..]);
        let _ = read_bytes(&legacy(&tail, &[]));
        let _ = read_bytes(&container(&tail, &[("0", &[0; 16])], "little"));
    }

    #[test]
    fn arbitrary_opcodes_never_panic(ops in proptest::collection::vec(
        proptest::sample::select(&b"(.012NaelstduQRb])}q\x00h\x00K\x01\x85\x86\x87\x88\x8f\x90\x91\x93\x94U\x01a"[..]), 0..200)) {
        if let Ok((graph, value)) = super::pickle::load(&mut &ops[..]) {
            let _ = graph.json(value);
        }
    }

    #[test]
    fn damaged_files_never_panic(which in 0usize..4, at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<proptest::sample::Index>()) {
        let mut file = valid().swap_remove(which);
        let i = at.index(file.len());
        file[i] = byte;
        let _ = read_bytes(&file);
        let n = cut.index(file.len());
        let _ = read_bytes(&file[..n]);
    }

    #[test]
    fn safetensors_come_back_whole(
        tensors in proptest::collection::btree_map("[a-z0-9.\"\\\\é]{1,12}", (proptest::collection::vec(0usize..4, 0..4), any::<u32>()), 1..8),
        names in proptest::option::of(proptest::collection::vec(".{0,8}", 0..4)),
        stride in proptest::option::of(proptest::collection::vec(-1e6f32..1e6, 0..4)),
        extra in proptest::collection::btree_map("[a-z]{1,5}", ".{0,8}", 0..3),
    ) {
        let tensors: Vec<_> = tensors.into_iter().map(|(name, (shape, seed))| {
            let n = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..n).map(|i| f32::from_bits(seed.wrapping_mul(i as u32 + 1))).collect();
            Tensor::from_f32(name, &shape, &values)
        }).collect();
        let meta = Meta { names, stride, extra, ..Meta::default() };
        let c = read_bytes(&write_safetensors(&tensors, &meta).unwrap()).unwrap();
        prop_assert_eq!(&c.meta, &meta);
        prop_assert_eq!(c.tensors.len(), tensors.len());
        for t in &tensors {
            prop_assert_eq!(c.tensor(&t.name), Some(t));
        }
    }
}
