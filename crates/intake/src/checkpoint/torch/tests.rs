//! Files as PyTorch and Ultralytics write them, put together by hand.

use zip::CompressionMethod;

use super::super::pickle::assemble::{
    Item, call, container, container_with, dict, legacy, module, ordered, pickle, tensor, text,
};
use super::super::{CheckpointError, Dtype, read_bytes};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ramp(n: u8) -> Vec<u8> {
    floats(&(0..n).map(f32::from).collect::<Vec<_>>())
}

fn one(item: Item) -> Vec<u8> {
    pickle(&ordered(&[("w", item)]))
}

#[test]
fn views_become_contiguous() {
    // A 2x3 matrix in a storage of 8, from its second element: as it is, transposed, every second column, expanded.
    let state = ordered(&[
        ("plain", tensor("FloatStorage", "0", 8, 1, &[2, 3], &[3, 1])),
        ("transposed", tensor("FloatStorage", "0", 8, 1, &[3, 2], &[1, 3])),
        ("columns", tensor("FloatStorage", "0", 8, 1, &[2, 2], &[3, 2])),
        ("expanded", tensor("FloatStorage", "0", 8, 7, &[2, 2], &[0, 0])),
        ("scalar", tensor("FloatStorage", "0", 8, 3, &[], &[])),
        ("empty", tensor("FloatStorage", "0", 8, 8, &[0, 4], &[4, 1])),
        ("empty_and_wide", tensor("FloatStorage", "0", 8, 0, &[0, i64::MAX, i64::MAX], &[1, 1, 1])),
    ]);
    let bytes = ramp(8);
    for file in [
        container(&pickle(&state), &[("0", &bytes)], "little"),
        container_with(&pickle(&state), &[("0", &bytes)], "little", CompressionMethod::Deflated),
        legacy(&pickle(&state), &[("0", 8, &bytes)]),
    ] {
        let c = read_bytes(&file).unwrap();
        let of = |name: &str| c.tensor(name).unwrap().to_f32();
        assert_eq!(of("plain"), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(of("transposed"), [1., 4., 2., 5., 3., 6.]);
        assert_eq!(of("columns"), [1., 3., 4., 6.]);
        assert_eq!(of("expanded"), [7.; 4]);
        assert_eq!(of("scalar"), [3.]);
        assert_eq!(of("empty"), [0f32; 0]);
        assert_eq!(of("empty_and_wide"), [0f32; 0]);
        assert_eq!(c.tensor("empty").unwrap().shape, [0, 4]);
        assert_eq!(c.meta.source.as_deref(), Some("root"));
    }
}

#[test]
fn big_endian_containers_are_swapped() {
    let bytes: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
    let file = container(&one(tensor("FloatStorage", "0", 2, 0, &[2], &[1])), &[("0", &bytes)], "big");
    assert_eq!(read_bytes(&file).unwrap().tensors[0].to_f32(), [1.5, -2.0]);
    let file = container(&one(tensor("FloatStorage", "0", 2, 0, &[2], &[1])), &[("0", &bytes)], "middle");
    assert!(matches!(read_bytes(&file), Err(CheckpointError::Corrupt { .. })));
}

#[test]
fn every_storage_type_reads() {
    for (class, dtype, bytes) in [
        ("DoubleStorage", Dtype::Float64, 8),
        ("FloatStorage", Dtype::Float32, 4),
        ("HalfStorage", Dtype::Float16, 2),
        ("BFloat16Storage", Dtype::Bfloat16, 2),
        ("LongStorage", Dtype::Int64, 8),
        ("IntStorage", Dtype::Int32, 4),
        ("ShortStorage", Dtype::Int16, 2),
        ("CharStorage", Dtype::Int8, 1),
        ("ByteStorage", Dtype::Uint8, 1),
        ("BoolStorage", Dtype::Bool, 1),
    ] {
        let file = container(&one(tensor(class, "0", 1, 0, &[1], &[1])), &[("0", &vec![1; bytes])], "little");
        let c = read_bytes(&file).unwrap();
        assert_eq!((c.tensors[0].dtype, c.tensors[0].data.len()), (dtype, bytes));
    }
    let file =
        container(&one(tensor("ComplexFloatStorage", "0", 1, 0, &[1], &[1])), &[("0", &[0; 8])], "little");
    let message = read_bytes(&file).unwrap_err().to_string();
    assert!(message.contains("tensor w") && message.contains("ComplexFloatStorage"), "{message}");
}

#[test]
fn untyped_storages_take_the_type_from_the_tensor() {
    let id = Item::Tuple(vec![
        text("storage"),
        Item::Global("torch.storage", "UntypedStorage"),
        text("0"),
        text("cpu"),
        Item::Int(4),
    ]);
    let shape = Item::Tuple(vec![Item::Int(2)]);
    let stride = Item::Tuple(vec![Item::Int(1)]);
    let args = vec![
        Item::Persistent(Box::new(id)),
        Item::Int(0),
        shape,
        stride,
        Item::Bool(false),
        Item::None,
        Item::Global("torch", "uint16"),
        Item::None,
    ];
    let file = container(
        &one(call("torch._utils", "_rebuild_tensor_v3", args)),
        &[("0", &[1, 0, 255, 255])],
        "little",
    );
    assert_eq!(read_bytes(&file).unwrap().tensors[0].to_f32(), [1.0, 65535.0]);
}

#[test]
fn wrappers_of_tensors_open() {
    let inner = tensor("FloatStorage", "0", 2, 0, &[2], &[1]);
    let parameter =
        call("torch._utils", "_rebuild_parameter", vec![inner.clone(), Item::Bool(true), Item::None]);
    let Item::Call(function, args) = inner else { panic!("a tensor is a call") };
    let subclass = call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        vec![*function, Item::Global("torch.nn.parameter", "Parameter"), Item::Tuple(args), dict(&[])],
    );
    for item in [parameter, subclass] {
        let file = container(&one(item), &[("0", &ramp(2))], "little");
        assert_eq!(read_bytes(&file).unwrap().tensors[0].to_f32(), [0.0, 1.0]);
    }
}

#[test]
fn missing_and_short_storages_are_errors() {
    let state = one(tensor("FloatStorage", "7", 4, 0, &[4], &[1]));
    let error = read_bytes(&container(&state, &[("0", &ramp(4))], "little")).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::MissingStorage { tensor, key } if tensor == "w" && key == "7"),
        "{error}"
    );
    let error = read_bytes(&legacy(&state, &[])).unwrap_err();
    assert!(matches!(&error, CheckpointError::MissingStorage { .. }), "{error}");
    for n in [0, 3, 5] {
        let error = read_bytes(&container(&state, &[("7", &ramp(n))], "little")).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::StorageSize { expected: 16, found, .. } if *found == u64::from(n) * 4),
            "{error}"
        );
        let error = read_bytes(&legacy(&state, &[("7", u64::from(n), &ramp(n))])).unwrap_err();
        assert!(matches!(&error, CheckpointError::Corrupt { .. }), "{error}");
    }
    let error = read_bytes(&legacy(&state, &[("7", 4, &ramp(3))])).unwrap_err();
    assert!(matches!(&error, CheckpointError::Truncated { part } if part == "storage 7"), "{error}");
    let error = read_bytes(&legacy(&state, &[("7", 4, &ramp(5))])).unwrap_err();
    assert!(matches!(&error, CheckpointError::Corrupt { .. }), "{error}");
}

#[test]
fn shapes_and_strides_that_leave_the_storage_are_errors() {
    const BIG: i64 = i64::MAX;
    for (offset, shape, stride) in [
        (1, &[4][..], &[1][..]),
        (0, &[2, 2], &[3, 1]),
        (4, &[1], &[1]),
        (0, &[5], &[1]),
        (0, &[2], &[BIG]),
        (BIG, &[2], &[1]),
        (BIG, &[2, 2], &[BIG, BIG]),
        (0, &[BIG, BIG], &[0, 0]),
        (0, &[BIG], &[0]),
        (-1, &[1], &[1]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[1]),
        (0, &[1; 9], &[1; 9]),
    ] {
        let state = one(tensor("FloatStorage", "0", 4, offset, shape, stride));
        let error = read_bytes(&container(&state, &[("0", &ramp(4))], "little")).unwrap_err();
        assert!(matches!(error, CheckpointError::BadTensor { .. }), "{offset} {shape:?} {stride:?}: {error}");
    }
    // Within bounds, but a gigabyte out of four bytes.
    let state = one(tensor("FloatStorage", "0", 1, 0, &[1 << 28], &[0]));
    let error = read_bytes(&container(&state, &[("0", &ramp(1))], "little")).unwrap_err();
    assert!(matches!(error, CheckpointError::Limit { .. }), "{error}");
}

fn conv(key: &str) -> Item {
    let weight = call(
        "torch._utils",
        "_rebuild_parameter",
        vec![tensor("FloatStorage", key, 2, 0, &[2, 1, 1, 1], &[1, 1, 1, 1]), Item::Bool(true), Item::None],
    );
    module(("torch.nn.modules.conv", "Conv2d"), &[("weight", weight), ("bias", Item::None)], &[], &[], &[])
}

fn detector(key: &str) -> Item {
    let count = tensor("LongStorage", "n", 1, 0, &[], &[]);
    let scratch = tensor("FloatStorage", "gone", 9, 0, &[9], &[1]);
    let norm = module(
        ("torch.nn.modules.batchnorm", "BatchNorm2d"),
        &[],
        &[("num_batches_tracked", count), ("scratch", scratch)],
        &[],
        &[],
    );
    let block =
        module(("ultralytics.nn.modules.conv", "Conv"), &[], &[], &[("conv", conv(key)), ("bn", norm)], &[]);
    let body = module(("torch.nn.modules.container", "Sequential"), &[], &[], &[("0", block)], &[]);
    let names = Item::Dict(vec![(Item::Int(1), text("stone")), (Item::Int(0), text("leaf"))]);
    let loss =
        Item::New(Box::new(Item::Global("ultralytics.utils.loss", "v8DetectionLoss")), Box::new(dict(&[])));
    module(
        ("ultralytics.nn.tasks", "DetectionModel"),
        &[],
        &[],
        &[("model", body)],
        &[
            ("names", names),
            ("yaml", dict(&[("nc", Item::Int(2)), ("scale", text("n")), ("depth", Item::Float(0.5))])),
            ("stride", tensor("FloatStorage", "s", 3, 0, &[3], &[1])),
            ("criterion", loss),
        ],
    )
}

#[test]
fn an_ultralytics_checkpoint_gives_its_ema_and_metadata() {
    let args = dict(&[
        ("imgsz", Item::Int(416)),
        ("task", text("detect")),
        ("save_dir", call("pathlib", "PosixPath", vec![text("runs"), text("a")])),
    ]);
    let root = dict(&[
        ("epoch", Item::Int(-1)),
        ("model", detector("m")),
        ("ema", detector("e")),
        ("optimizer", Item::None),
        ("train_args", args),
        ("date", text("2026-01-01")),
        ("version", text("8.4.190")),
        ("license", text("AGPL-3.0")),
    ]);
    let stride = floats(&[8., 16., 32.]);
    let storages: [(&str, &[u8]); 4] =
        [("m", &floats(&[1., 2.])), ("e", &floats(&[3., 4.])), ("n", &7i64.to_le_bytes()), ("s", &stride)];
    let c = read_bytes(&container(&pickle(&root), &storages, "little")).unwrap();
    let names: Vec<_> = c.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["model.0.conv.weight", "model.0.bn.num_batches_tracked"]);
    assert_eq!(c.tensors[0].to_f32(), [3.0, 4.0]);
    let m = c.meta;
    assert_eq!(m.source.as_deref(), Some("ema"));
    assert_eq!(m.names, Some(vec!["leaf".to_owned(), "stone".to_owned()]));
    assert_eq!(m.yaml, Some(serde_json::json!({"nc": 2, "scale": "n", "depth": 0.5})));
    assert_eq!(m.stride, Some(vec![8., 16., 32.]));
    assert_eq!(
        (m.nc, m.task.as_deref(), m.imgsz, m.epoch),
        (Some(2), Some("detect"), Some([416, 416]), Some(-1))
    );
    assert_eq!(
        (m.version.as_deref(), m.licence.as_deref(), m.date.as_deref()),
        (Some("8.4.190"), Some("AGPL-3.0"), Some("2026-01-01"))
    );
    assert_eq!(m.train_args.unwrap()["save_dir"], "runs/a");
    assert_eq!(m.model_class.as_deref(), Some("ultralytics.nn.tasks.DetectionModel"));
    assert_eq!(m.producer.as_deref(), Some("Ultralytics"));
    assert!(!m.norm_folded);
}

#[test]
fn without_an_ema_the_model_is_taken() {
    let root = dict(&[("model", detector("m")), ("ema", Item::None)]);
    let storages: [(&str, &[u8]); 3] = [("m", &ramp(2)), ("n", &[0; 8]), ("s", &ramp(3))];
    let c = read_bytes(&container(&pickle(&root), &storages, "little")).unwrap();
    assert_eq!(c.meta.source.as_deref(), Some("model"));
    assert_eq!(c.meta.task.as_deref(), Some("detect"));
}

#[test]
fn state_dicts_are_found_within_checkpoints() {
    let state = ordered(&[("w", tensor("FloatStorage", "0", 2, 0, &[2], &[1])), ("steps", Item::Int(3))]);
    for (root, source) in [
        (dict(&[("state_dict", state.clone()), ("epoch", Item::Int(3))]), "state_dict"),
        (dict(&[("model", state.clone())]), "model"),
        (dict(&[("model", state.clone()), ("ema", dict(&[("module", state.clone())]))]), "ema.module"),
        (state.clone(), "root"),
    ] {
        for file in [
            container(&pickle(&root), &[("0", &ramp(2))], "little"),
            legacy(&pickle(&root), &[("0", 2, &ramp(2))]),
        ] {
            let c = read_bytes(&file).unwrap();
            assert_eq!(c.meta.source.as_deref(), Some(source));
            assert_eq!(c.tensors[0].to_f32(), [0.0, 1.0]);
            assert_eq!(c.meta.skipped, ["steps"]);
        }
    }
}

#[test]
fn a_state_dict_with_an_object_among_its_tensors_is_refused() {
    let odd = Item::New(Box::new(Item::Global("torchvision.models", "Packed")), Box::new(dict(&[])));
    let state = ordered(&[("w", tensor("FloatStorage", "0", 1, 0, &[1], &[1])), ("packed", odd)]);
    let error = read_bytes(&container(&pickle(&state), &[("0", &ramp(1))], "little")).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::NotATensor { entry, class } if entry == "packed" && class == "torchvision.models.Packed"),
        "{error}"
    );
}

#[test]
fn files_without_weights_say_so() {
    for root in [dict(&[("epoch", Item::Int(1)), ("ema", Item::None)]), Item::None, dict(&[])] {
        let error = read_bytes(&container(&pickle(&root), &[], "little")).unwrap_err();
        assert!(matches!(error, CheckpointError::NoWeights(_)), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let state = one(tensor("FloatStorage", "0", 8, 0, &[8], &[1]));
    for file in [container(&state, &[("0", &ramp(8))], "little"), legacy(&state, &[("0", 8, &ramp(8))])] {
        assert!(read_bytes(&file).is_ok());
        for n in 0..file.len() {
            assert!(read_bytes(&file[..n]).is_err(), "{n} of {} bytes", file.len());
        }
    }
}

#[test]
fn a_changed_weight_fails_its_checksum() {
    let state = one(tensor("FloatStorage", "0", 8, 0, &[8], &[1]));
    let mut file = container(&state, &[("0", &ramp(8))], "little");
    let at = file.windows(4).position(|w| w == 7f32.to_le_bytes()).unwrap();
    file[at] ^= 1;
    let error = read_bytes(&file).unwrap_err();
    assert!(matches!(&error, CheckpointError::Corrupt { part, .. } if part.contains("data/0")), "{error}");
}

#[test]
fn headers_that_disagree_are_an_error() {
    let state = one(tensor("FloatStorage", "0", 2, 0, &[2], &[1]));
    let file = container(&state, &[("0", &ramp(2))], "little");
    let name = b"archive/data/0";
    let places: Vec<_> =
        file.windows(name.len()).enumerate().filter(|(_, w)| w == name).map(|(i, _)| i).collect();
    assert_eq!(places.len(), 2, "one local, one central header");
    let mut renamed = file.clone();
    renamed[places[0] + name.len() - 1] = b'1';
    let error = read_bytes(&renamed).unwrap_err();
    assert!(matches!(&error, CheckpointError::Corrupt { .. }), "{error}");
    // The local header's uncompressed size lies 22 bytes into it, and 8 before the name's end of the fixed part.
    let mut resized = file;
    resized[places[0] - 8] ^= 1;
    let error = read_bytes(&resized).unwrap_err();
    assert!(matches!(&error, CheckpointError::Corrupt { .. }), "{error}");
}

#[test]
fn other_zip_archives_are_named_as_such() {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("weights.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(b"x").unwrap();
    let error = read_bytes(&zip.finish().unwrap().into_inner()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::UnknownFormat { hint } if hint.contains("data.pkl")),
        "{error}"
    );

    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["a/data.pkl", "a/constants.pkl"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&pickle(&Item::None)).unwrap();
    }
    let error = read_bytes(&zip.finish().unwrap().into_inner()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Unsupported { what, .. } if what.contains("TorchScript")),
        "{error}"
    );
}
