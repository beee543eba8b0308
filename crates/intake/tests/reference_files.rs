//! Files written by pinned versions of PyTorch and Ultralytics (fixtures/pt), against what PyTorch itself reads from them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use onsa_intake::checkpoint::{Checkpoint, read};
use serde_json::Value as Json;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt")
}

/// The fixtures whose names end in `ending`; none is a failure: they are committed.
fn files(ending: &str) -> Vec<String> {
    let listed = std::fs::read_dir(folder()).expect("fixtures/pt is part of the repository");
    let mut names: Vec<_> = listed
        .filter_map(|f| f.ok()?.file_name().into_string().ok())
        .filter(|n| n.ends_with(ending))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no fixture ends in {ending}");
    names
}

fn load(name: &str) -> Checkpoint {
    read(&folder().join(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn json(name: &str) -> Json {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

#[test]
fn ultralytics_checkpoints_of_each_version_read_wholly() {
    let described: Vec<_> = files(".json").into_iter().filter(|f| f.starts_with('v')).collect();
    assert!(described.len() >= 3, "fixtures/pt should hold files of three versions, not {described:?}");
    for file in &described {
        let stem = file.strip_suffix(".json").unwrap();
        let expected = json(file);
        let c = load(&format!("{stem}.pt"));
        let shapes: Vec<_> = c.tensors.iter().map(|t| (t.name.as_str(), t.shape.clone())).collect();
        let wanted = expected["tensors"].as_object().unwrap();
        assert_eq!(shapes.len(), wanted.len(), "{stem}");
        for (name, shape) in shapes {
            let dims: Vec<_> = wanted[name]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| usize::try_from(d.as_u64().unwrap()).unwrap())
                .collect();
            assert_eq!(shape, dims, "{stem}: {name}");
        }
        let m = &c.meta;
        assert_eq!(m.source.as_deref(), expected["uses"].as_str(), "{stem}");
        assert_eq!(serde_json::json!(m.names), expected["names"], "{stem}");
        assert_eq!(m.nc.map(u64::from), expected["nc"].as_u64(), "{stem}");
        assert_eq!(m.epoch, expected["epoch"].as_i64(), "{stem}");
        assert_eq!(m.version.as_deref(), expected["ultralytics"].as_str(), "{stem}");
        assert_eq!(m.task.as_deref(), Some("detect"), "{stem}");
        let strides: Vec<_> = m.stride.as_ref().unwrap().iter().map(|&s| f64::from(s)).collect();
        let wanted: Vec<_> =
            expected["strides"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        assert_eq!(strides, wanted, "{stem}");
        let (found, wanted) = (m.yaml.as_ref().unwrap(), &expected["yaml"]);
        for key in ["nc", "backbone", "head", "scales"] {
            assert_eq!(found.get(key), wanted.get(key), "{stem}: {key}");
        }
        assert!(!m.norm_folded && m.train_args.is_some(), "{stem}");
        let keys = expected["keys"].as_array().unwrap();
        assert_eq!(m.licence.is_some(), keys.iter().any(|k| k == "license"), "{stem}");
    }
}

#[test]
fn values_equal_those_that_pytorch_reads() {
    for file in files(".expected.safetensors") {
        let stem = file.strip_suffix(".expected.safetensors").unwrap();
        let expected = load(&file);
        let variants = ["", "_zip", "_legacy"].map(|v| [".pt", ".pth"].map(|e| format!("{stem}{v}{e}")));
        let present: Vec<_> = variants.into_iter().flatten().filter(|f| folder().join(f).is_file()).collect();
        assert!(!present.is_empty(), "{stem} has no .pt or .pth");
        for name in present {
            let c = load(&name);
            let mut compared = 0;
            for wanted in &expected.tensors {
                if wanted.name == "decoded" {
                    continue;
                }
                let key = wanted.name.strip_prefix("tensor/").unwrap_or(&wanted.name);
                let found = c.tensor(key).unwrap_or_else(|| panic!("{name} lacks {key}"));
                assert_eq!(found.shape, wanted.shape, "{name}: {key}");
                assert_eq!(found.to_f32(), wanted.to_f32(), "{name}: {key}");
                compared += 1;
            }
            assert!(compared > 1, "{name}");
        }
    }
}

#[test]
fn state_dicts_keep_order_types_and_shapes() {
    let expected = json("state_dict.json");
    for name in ["state_dict_zip.pt", "state_dict_legacy.pth"] {
        let c = load(name);
        let order: Vec<_> = c.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(serde_json::json!(order), expected["order"], "{name}");
        for t in &c.tensors {
            assert_eq!(expected["dtypes"][&t.name], format!("torch.{}", t.dtype), "{name}: {}", t.name);
            assert_eq!(expected["shapes"][&t.name], serde_json::json!(t.shape), "{name}: {}", t.name);
        }
        let count = c.tensor("num_batches_tracked").unwrap();
        let exact = i64::from_le_bytes(count.data.clone().try_into().unwrap());
        assert_eq!(Some(exact), expected["num_batches_tracked"].as_i64(), "{name}");
    }
}
