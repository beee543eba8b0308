use serde_json::json;

use super::*;
use crate::models::{Family, Model, Scale, Scaling};

fn tensors(architecture: &Architecture) -> Vec<TensorInfo> {
    let model = Model::build(architecture, [1, 32, 32]).unwrap();
    let infos = model.graph.params().iter();
    infos.map(|p| TensorInfo { name: p.name.clone(), shape: p.shape.clone() }).collect()
}

fn yolo11n() -> Json {
    Architecture::published(Family::Yolo11, Scale::N, 80).description()
}

#[test]
fn a_description_with_custom_multiples_keeps_its_letters_blocks() {
    let mut description = yolo11n();
    description["scale"] = json!("m");
    description["scales"] = json!({"n": [0.5, 0.25, 1024], "m": [0.5, 0.25, 512]});
    description["nc"] = json!(5);
    let found = from_description(&description).unwrap();
    assert_eq!((found.family, found.scale, found.classes), (Family::Yolo11, None, 5));
    assert_eq!(found.scaling, Scaling { depth: 0.5, width: 0.25, max_channels: 512 });
    assert!(found.all_c3k && !found.residual);
    assert_eq!(from_description(&found.description()).unwrap(), found);
}

#[test]
fn an_old_description_carries_multiples_and_capped_channels() {
    let mut description = Architecture::published(Family::Yolov8, Scale::M, 80).description();
    let map = description.as_object_mut().unwrap();
    map.remove("scale");
    map.remove("scales");
    map.insert("depth_multiple".into(), json!(0.67));
    map.insert("width_multiple".into(), json!(0.75));
    map.insert("yaml_file".into(), json!("/somewhere/yolov8m.yaml"));
    for (part, layers) in [("backbone", vec![7, 8, 9]), ("head", vec![11])] {
        for layer in layers {
            map[part][layer][3][0] = json!(768);
        }
    }
    map["head"][12][3][0] = json!(80);
    let found = from_description(&description).unwrap();
    assert_eq!(found, Architecture::published(Family::Yolov8, Scale::M, 80));
}

#[test]
fn an_open_scale_is_read_off_the_tensors() {
    let mut description = yolo11n();
    description["scales"] = json!({"n": [0.5, 0.25, 1024], "s": [0.5, 0.5, 1024]});
    description.as_object_mut().unwrap().remove("scale");
    assert!(from_description(&description).unwrap_err().to_string().contains("names none"));
    let small = Architecture::published(Family::Yolo11, Scale::S, 80).with_classes(6);
    assert_eq!(identify(Some(&description), &tensors(&small)).unwrap(), small);
}

#[test]
fn the_tensors_decide_classes_widths_and_channels() {
    let mut tuned = Architecture::published(Family::Yolo11, Scale::N, 80).with_classes(2);
    tuned.image_channels = 4;
    assert_eq!(identify(Some(&yolo11n()), &tensors(&tuned)).unwrap(), tuned);
    assert_eq!(identify(None, &tensors(&tuned)).unwrap(), tuned);
}

#[test]
fn other_networks_are_refused_with_the_layer_that_differs() {
    let mut description = yolo11n();
    description["backbone"][9][3] = json!([1024, 5, 3, true]);
    let message = from_description(&description).unwrap_err().to_string();
    assert!(message.contains("nearest is yolo11") && message.contains("layer 9"), "{message}");
    assert!(message.contains("`-1 1 SPPF 1024 5 3 True`"), "{message}");
    let mut shorter = yolo11n();
    shorter["head"].as_array_mut().unwrap().pop();
    assert!(from_description(&shorter).unwrap_err().to_string().contains("layer 23 is missing"));
    let mut odd = yolo11n();
    odd["activation"] = json!("nn.ReLU()");
    assert!(from_description(&odd).unwrap_err().to_string().contains("`activation`"));
    for broken in
        [json!(3), json!({}), json!({"backbone": [1], "head": []}), json!({"backbone": [], "head": []})]
    {
        assert!(from_description(&broken).is_err(), "{broken}");
    }
}

#[test]
fn tensors_of_other_multiples_are_measured() {
    for (family, scaling) in [
        (Family::Yolov8, Scaling { depth: 0.33, width: 0.125, max_channels: 1024 }),
        (Family::Yolo11, Scaling { depth: 1.0, width: 0.25, max_channels: 512 }),
        (Family::Yolo12, Scaling { depth: 0.5, width: 0.25, max_channels: 256 }),
    ] {
        let custom = Architecture::custom(family, scaling, None, 5).with_classes(5);
        let found = from_tensors(&tensors(&custom)).unwrap();
        assert_eq!(found.scale, None, "{found:?}");
        assert_eq!(tensors(&found), tensors(&custom));
    }
}

#[test]
fn foreign_tensors_are_refused() {
    let foreign = [TensorInfo { name: "layer1.0.conv1.weight".into(), shape: vec![64, 3, 7, 7] }];
    assert!(from_tensors(&foreign).unwrap_err().to_string().contains("model.0.conv.weight"));
    assert!(from_tensors(&[]).is_err());
    let all = tensors(&Architecture::published(Family::Yolov8, Scale::N, 80));
    let message = from_tensors(&all[..20]).unwrap_err().to_string();
    assert!(message.contains("%"), "{message}");
}
