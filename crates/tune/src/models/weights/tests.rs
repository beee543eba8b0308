use super::*;
use crate::models::{Architecture, Family, Scaling};

struct Held(Vec<(TensorInfo, Vec<f32>)>);

impl WeightSource for Held {
    fn tensors(&self) -> Vec<TensorInfo> {
        self.0.iter().map(|(info, _)| info.clone()).collect()
    }

    fn read(&self, index: usize) -> Result<Vec<f32>, String> {
        Ok(self.0[index].1.clone())
    }
}

impl Held {
    fn of(params: &Params) -> Held {
        let infos = params.infos.iter().enumerate();
        Held(infos.map(|(i, info)| (named(&info.name, &info.shape), params.get_torch(i))).collect())
    }

    fn renamed(mut self, f: impl Fn(&str) -> String) -> Held {
        self.0.iter_mut().for_each(|(info, _)| info.name = f(&info.name));
        self
    }

    fn entry(&mut self, name: &str) -> &mut (TensorInfo, Vec<f32>) {
        self.0.iter_mut().find(|(info, _)| info.name == name).unwrap()
    }
}

fn named(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo { name: name.into(), shape: shape.to_vec() }
}

fn model(classes: usize) -> Model {
    let thin = Scaling { depth: 0.33, width: 0.125, max_channels: 512 };
    Model::build(&Architecture::custom(Family::Yolov8, thin, None, classes), [1, 32, 32]).unwrap()
}

fn values(params: &Params, name: &str) -> Vec<f32> {
    params.get_torch(params.find(name).unwrap())
}

fn mismatch(result: Result<Params, ModelError>) -> Mismatch {
    match result {
        Err(ModelError::Mismatch(mismatch)) => *mismatch,
        other => panic!("{:?}", other.map(|_| "loaded")),
    }
}

#[test]
fn every_wrapping_and_the_tensors_that_are_no_parameters_load() {
    let model = model(3);
    let saved = init_fresh(&model, 5);
    let identity = ClassMap::identity(3);
    type Rename = fn(&str) -> String;
    let wrappings: [Rename; 4] = [
        str::to_owned,
        |name| format!("model.{name}"),
        |name| format!("module.model.{name}"),
        |name| name.strip_prefix("model.").unwrap().to_owned(),
    ];
    for wrapping in wrappings {
        let mut source = Held::of(&saved).renamed(wrapping);
        for extra in ["model.0.bn.num_batches_tracked", "model.22.dfl.conv.weight", "model.22.anchors"] {
            source.0.push((named(&wrapping(extra), &[]), vec![0.0]));
        }
        source.0.push((named("/model.22/Constant_output_0", &[1]), vec![0.0]));
        assert_eq!(load(&model, &source, &identity, 9).unwrap(), saved);
    }
}

#[test]
fn what_is_missing_unexpected_and_misshapen_is_listed_by_name() {
    let model = model(3);
    let mut source = Held::of(&init_fresh(&model, 5));
    source.0.retain(|(info, _)| info.name != "model.4.cv1.conv.weight");
    source.0.push((named("model.22.cv4.0.0.conv.weight", &[1]), vec![0.0]));
    source.0.push((named("optimizer_step", &[1]), vec![0.0]));
    source.entry("model.1.bn.bias").0.shape = vec![15];
    let found = mismatch(load(&model, &source, &ClassMap::identity(3), 9));
    assert_eq!(found.missing, ["model.4.cv1.conv.weight"]);
    assert_eq!(found.unexpected, ["model.22.cv4.0.0.conv.weight", "optimizer_step"]);
    let misshapen = Misshapen { name: "model.1.bn.bias".into(), found: vec![15], needed: vec![16] };
    assert_eq!(found.misshapen, [misshapen]);
    let message = found.to_string();
    for part in ["yolov8 (depth 0.33", "1 missing", "2 unexpected", "model.1.bn.bias [15] instead of [16]"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn damaged_values_are_refused() {
    let model = model(3);
    let mut source = Held::of(&init_fresh(&model, 5));
    source.entry("model.0.conv.weight").1[7] = f32::NAN;
    let message = load(&model, &source, &ClassMap::identity(3), 9).unwrap_err().to_string();
    assert!(message.contains("model.0.conv.weight") && message.contains("value 7 is NaN"), "{message}");
    source.entry("model.0.conv.weight").1.pop();
    assert!(load(&model, &source, &ClassMap::identity(3), 9).is_err());
}

#[test]
fn a_new_head_keeps_matching_rows_and_everything_before_them() {
    let old = model(4);
    let saved = init_fresh(&old, 5);
    let mut source = Held::of(&saved);
    for level in 0..3 {
        source.entry(&format!("model.22.cv3.{level}.2.bias")).1.copy_from_slice(&[10.0, 11.0, 12.0, 13.0]);
    }
    let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let target = names(&["d", "new", "a"]);
    let map = ClassMap::by_name(Some(&names(&["a", "b", "c", "d"])), 4, &target);
    let new = Model::build(&old.architecture.with_classes(3), [1, 32, 32]).unwrap();
    let loaded = load(&new, &source, &map, 9).unwrap();

    let name = "model.22.cv3.1.2.weight";
    let (before, after) = (values(&saved, name), values(&loaded, name));
    let width = after.len() / 3;
    assert_eq!(after[..width], before[3 * width..]);
    assert_eq!(after[2 * width..], before[..width]);
    let fresh = values(&init_fresh(&new, 9), name);
    assert_eq!(after[width..2 * width], fresh[width..2 * width]);
    let bias = values(&loaded, "model.22.cv3.0.2.bias");
    assert_eq!((bias[0], bias[2]), (13.0, 10.0));
    assert!((bias[1] - (5.0f32 / 3.0 / 6400.0).ln()).abs() < 1e-6, "{}", bias[1]);
    for info in loaded.infos.iter().filter(|i| !i.name.contains(".cv3.") || !i.name.contains(".2.")) {
        assert_eq!(values(&loaded, &info.name), values(&saved, &info.name), "{}", info.name);
    }
    assert!(load(&new, &source, &ClassMap::identity(3), 9).is_err(), "the checkpoint has four rows");
    assert!(load(&new, &source, &ClassMap::identity(4), 9).is_err(), "the model has three classes");
}

#[test]
fn folded_norms_become_norms_that_change_nothing() {
    let model = model(3);
    let mut source = Held::of(&init_fresh(&model, 5));
    source.0.retain(|(info, _)| !info.name.contains(".bn.") || info.name.ends_with(".bn.bias"));
    let mut source = source.renamed(|name| name.replace(".bn.bias", ".conv.bias"));
    source.entry("model.0.conv.bias").1[2] = 0.75;
    let loaded = load(&model, &source, &ClassMap::identity(3), 9).unwrap();
    assert_eq!(values(&loaded, "model.0.bn.bias")[2], 0.75);
    assert_eq!(values(&loaded, "model.0.bn.running_mean"), vec![0.0; 8]);
    let divisor = (values(&loaded, "model.0.bn.running_var")[2] + 1e-3).sqrt();
    assert!((values(&loaded, "model.0.bn.weight")[2] / divisor - 1.0).abs() < 1e-7);

    source.0.retain(|(info, _)| info.name != "model.1.conv.bias");
    assert_eq!(mismatch(load(&model, &source, &ClassMap::identity(3), 9)).missing, ["model.1.conv.bias"]);
}

#[test]
fn the_first_convolution_adapts_to_other_image_channels() {
    let rgb = model(3);
    let saved = init_fresh(&rgb, 5);
    let source = Held::of(&saved);
    let with_channels = |image_channels| {
        let architecture = Architecture { image_channels, ..rgb.architecture.clone() };
        let model = Model::build(&architecture, [1, 32, 32]).unwrap();
        values(&load(&model, &source, &ClassMap::identity(3), 9).unwrap(), "model.0.conv.weight")
    };
    let colour = values(&saved, "model.0.conv.weight"); // [16, 3, 3, 3]
    let grey = with_channels(1); // [16, 1, 3, 3]
    assert_eq!(grey[9], colour[27] + colour[36] + colour[45]);
    let four = with_channels(4); // [16, 4, 3, 3]
    let scaled = |values: &[f32], factor: f32| values.iter().map(|v| v * factor).collect::<Vec<_>>();
    assert_eq!(four[36..63], scaled(&colour[27..54], 0.75));
    assert_eq!(four[63..72], scaled(&colour[27..36], 0.75), "red again");
    let two = with_channels(2); // [16, 2, 3, 3]
    assert_eq!(two[18..36], scaled(&colour[27..45], 1.5));
}
