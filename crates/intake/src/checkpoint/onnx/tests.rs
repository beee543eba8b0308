//! Models put together field by field.

use super::super::{CheckpointError, Dtype, Format, read_bytes};

pub fn varint(mut v: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (v & 0x7f) as u8;
        v >>= 7;
        if v == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

fn message(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn int(number: u64, v: i64) -> Vec<u8> {
    [varint(number << 3), varint(v.cast_unsigned())].concat()
}

fn tensor(name: &str, dtype: i64, dims: &[i64], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| int(1, d)).collect();
    [dims, int(2, dtype), message(8, name.as_bytes()), data.to_vec()].concat()
}

fn raw(values: &[f32]) -> Vec<u8> {
    message(9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

fn node(op: &str, name: &str, inputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|i| message(1, i.as_bytes())).collect();
    out.extend(message(2, b"out"));
    out.extend(message(3, name.as_bytes()));
    out.extend(message(4, op.as_bytes()));
    out.extend(attributes.iter().flat_map(|a| message(5, a)));
    out
}

fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    [message(1, name.as_bytes()), values.iter().flat_map(|&v| int(8, v)).collect()].concat()
}

fn model(nodes: &[Vec<u8>], initialisers: &[Vec<u8>], metadata: &[(&str, &str)]) -> Vec<u8> {
    let mut graph: Vec<u8> = nodes.iter().flat_map(|n| message(1, n)).collect();
    graph.extend(initialisers.iter().flat_map(|i| message(5, i)));
    let mut out = [int(1, 8), message(2, b"pytorch"), message(3, b"2.5.1"), message(7, &graph)].concat();
    for (k, v) in metadata {
        out.extend(message(14, &[message(1, k.as_bytes()), message(2, v.as_bytes())].concat()));
    }
    out
}

#[test]
fn ultralytics_metadata_and_folded_convolutions_read() {
    let weight = tensor("model.0.conv.weight", 1, &[2, 1, 1, 1], &raw(&[1.0, 2.0]));
    let bias = tensor("model.0.conv.bias", 1, &[2], &raw(&[3.0, 4.0]));
    let conv = node(
        "Conv",
        "/model.0/conv/Conv",
        &["images", "model.0.conv.weight", "model.0.conv.bias"],
        &[ints("strides", &[2, 2]), ints("pads", &[1, 0, 1, 0])],
    );
    let file = model(
        &[conv],
        &[weight, bias],
        &[
            ("names", "{0: 'leaf', 1: \"it's\"}"),
            ("stride", "32"),
            ("imgsz", "[640, 480]"),
            ("task", "detect"),
            ("license", "AGPL-3.0"),
            ("batch", "1"),
        ],
    );
    let c = read_bytes(&file).unwrap();
    assert_eq!(c.format, Format::Onnx);
    assert_eq!(c.tensor("model.0.conv.weight").unwrap().to_f32(), [1.0, 2.0]);
    let m = c.meta;
    assert!(m.norm_folded);
    assert_eq!(m.names, Some(vec!["leaf".to_owned(), "it's".to_owned()]));
    assert_eq!((m.nc, m.stride, m.imgsz), (Some(2), Some(vec![32.0]), Some([640, 480])));
    assert_eq!(
        (m.task.as_deref(), m.licence.as_deref(), m.producer.as_deref()),
        (Some("detect"), Some("AGPL-3.0"), Some("pytorch 2.5.1"))
    );
    assert_eq!(m.extra["batch"], "1");
    let conv = &m.convs[0];
    assert_eq!((conv.name.as_str(), conv.bias.as_deref()), ("model.0.conv", Some("model.0.conv.bias")));
    assert_eq!(
        (&conv.strides[..], &conv.pads[..], &conv.kernel[..], conv.group),
        (&[2, 2][..], &[1, 0, 1, 0][..], &[1, 1][..], 1)
    );
}

#[test]
fn anonymous_weights_take_the_names_of_their_nodes() {
    let constant = node(
        "Constant",
        "",
        &[],
        &[[message(1, b"value"), message(5, &tensor("", 1, &[2], &raw(&[5.0, 6.0])))].concat()],
    );
    let constant = [constant, message(2, b"unused second output")].concat();
    let nodes = [
        constant,
        node("Conv", "/model.0/conv/Conv", &["x", "onnx::Conv_12", "onnx::Conv_13"], &[]),
        node("Conv", "/model.22/cv2.0/cv2.0.1/conv/Conv", &["x", "841", "out"], &[]),
    ];
    let initialisers = [
        tensor("onnx::Conv_12", 1, &[1, 1, 1, 1], &raw(&[1.0])),
        tensor("onnx::Conv_13", 1, &[1], &raw(&[2.0])),
        tensor("841", 1, &[2, 1, 1, 1], &raw(&[3.0, 4.0])),
        tensor("/model.22/Constant", 7, &[2], &message(7, &[1, 2])),
    ];
    let c = read_bytes(&model(&nodes, &initialisers, &[])).unwrap();
    assert_eq!(c.tensor("model.0.conv.weight").unwrap().to_f32(), [1.0]);
    assert_eq!(c.tensor("model.0.conv.bias").unwrap().to_f32(), [2.0]);
    assert_eq!(c.tensor("model.22.cv2.0.1.conv.weight").unwrap().to_f32(), [3.0, 4.0]);
    assert_eq!(c.tensor("model.22.cv2.0.1.conv.bias").unwrap().to_f32(), [5.0, 6.0]);
    assert_eq!(c.tensor("/model.22/Constant").unwrap().to_f32(), [1.0, 2.0]);
}

#[test]
fn graphs_with_norms_are_not_folded() {
    let weight = tensor("a.weight", 1, &[1, 1, 1, 1], &raw(&[1.0]));
    let bias = tensor("a.bias", 1, &[1], &raw(&[1.0]));
    let conv = node("Conv", "c", &["x", "a.weight", "a.bias"], &[]);
    let norm = node("BatchNormalization", "n", &["x", "s", "b", "m", "v"], &[]);
    assert!(
        read_bytes(&model(std::slice::from_ref(&conv), &[weight.clone(), bias.clone()], &[]))
            .unwrap()
            .meta
            .norm_folded
    );
    assert!(!read_bytes(&model(&[conv, norm], &[weight, bias], &[])).unwrap().meta.norm_folded);
}

#[test]
fn typed_fields_read_as_raw_data_does() {
    let packed: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let single = [
        varint(4 << 3 | 5),
        1.5f32.to_le_bytes().to_vec(),
        varint(4 << 3 | 5),
        (-2.0f32).to_le_bytes().to_vec(),
    ]
    .concat();
    let halves = message(5, &[varint(0x3e00), varint(0xc000)].concat());
    let doubles = message(10, &[1.5f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
    for (dtype, known, data) in [
        (1, Dtype::Float32, message(4, &packed)),
        (1, Dtype::Float32, single),
        (10, Dtype::Float16, halves),
        (11, Dtype::Float64, doubles),
    ] {
        let c = read_bytes(&model(&[], &[tensor("w.weight", dtype, &[2], &data)], &[])).unwrap();
        assert_eq!((c.tensors[0].dtype, c.tensors[0].to_f32()), (known, vec![1.5, -2.0]));
    }
    for (dtype, known, number) in [(3, Dtype::Int8, 5), (6, Dtype::Int32, 5), (7, Dtype::Int64, 7)] {
        let data = message(number, &[varint(5), varint((-3i64).cast_unsigned())].concat());
        let c = read_bytes(&model(&[], &[tensor("w.weight", dtype, &[2], &data)], &[])).unwrap();
        assert_eq!((c.tensors[0].dtype, c.tensors[0].to_f32()), (known, vec![5.0, -3.0]));
    }
}

#[test]
fn data_that_does_not_fit_its_shape_is_an_error() {
    let raw_of = |n: usize| message(9, &vec![0; n]);
    for (what, dtype, dims, data) in [
        ("too short", 1, &[2][..], raw_of(4)),
        ("too long", 1, &[2], raw_of(12)),
        ("no data", 1, &[2], vec![]),
        ("negative", 1, &[-1], raw_of(4)),
        ("overflow", 1, &[i64::MAX, 8], raw_of(4)),
        ("too many dimensions", 1, &[1; 9], raw_of(4)),
        ("unknown type", 14, &[1], raw_of(8)),
        ("typed, too many", 7, &[1], message(7, &[1, 2])),
        ("typed, too few", 7, &[3], message(7, &[1, 2])),
        ("field of another type", 1, &[1], message(7, &[1])),
        ("out of range", 3, &[1], message(5, &varint(300))),
        ("segments", 1, &[1], [message(3, &[]), raw_of(4)].concat()),
        ("huge and empty", 7, &[1 << 40], vec![]),
    ] {
        let error = read_bytes(&model(&[], &[tensor("w", dtype, dims, &data)], &[])).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::BadTensor { tensor, .. } if tensor == "w"),
            "{what}: {error}"
        );
    }
}

#[test]
fn external_data_is_refused() {
    let entry = [message(1, b"location"), message(2, b"../../etc/passwd")].concat();
    for data in [[int(14, 1), message(13, &entry)].concat(), message(13, &entry), int(14, 1)] {
        let error = read_bytes(&model(&[], &[tensor("w", 1, &[1], &data)], &[])).unwrap_err();
        assert!(matches!(error, CheckpointError::ExternalData { .. }), "{error}");
    }
}

#[test]
fn metadata_that_is_no_literal_is_an_error() {
    let w = tensor("w", 1, &[1], &raw(&[1.0]));
    for (key, value) in [
        ("names", "__import__('os').system('id')"),
        ("names", "{0: 'a', 2: 'b'}"),
        ("names", "{0: 1}"),
        ("imgsz", "[0, 0]"),
        ("imgsz", "640 px"),
        ("stride", "'big'"),
    ] {
        let error = read_bytes(&model(&[], std::slice::from_ref(&w), &[(key, value)])).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Metadata { key: k, .. } if k == key),
            "{key} {value}: {error}"
        );
    }
}

#[test]
fn duplicates_and_empty_graphs_are_errors() {
    let w = tensor("w", 1, &[1], &raw(&[1.0]));
    assert!(
        matches!(read_bytes(&model(&[], &[w.clone(), w], &[])), Err(CheckpointError::DuplicateTensor(name)) if name == "w")
    );
    assert!(matches!(
        read_bytes(&model(&[node("Relu", "r", &["x"], &[])], &[], &[])),
        Err(CheckpointError::NoWeights(_))
    ));
}

#[test]
fn every_truncation_is_an_error() {
    let w = tensor("w", 1, &[2], &raw(&[1.0, 2.0]));
    let file = model(&[], &[w], &[]);
    assert!(read_bytes(&file).is_ok());
    for n in 0..file.len() {
        assert!(read_bytes(&file[..n]).is_err(), "{n} of {} bytes", file.len());
    }
}
