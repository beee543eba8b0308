//! Reads the reference's figures (fixtures/) for tests of whole networks.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub mod classifiers;

use std::path::PathBuf;
use std::sync::Arc;

use onsa_compute::{ParamInfo, Params};
use onsa_tune::boxes::Label;
use onsa_tune::data::batch::{Batch, Target};
use onsa_tune::models::{Architecture, ClassMap, Family, Model, TensorInfo, WeightSource, identify};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value as Json;

pub const FAMILIES: [Family; 3] = Family::DETECTORS;

/// A file of fixtures/.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

/// A json document of fixtures/.
pub fn json(name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// A real file that `onsa demo --fetch-only` brings; `None`, with a line, on a person's machine that has none. In CI that is a failure.
pub fn asset(name: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/onsa/assets"));
    let folder = std::env::var_os("ONSA_ASSETS").map(PathBuf::from).or_else(home);
    let path = folder.unwrap_or_default().join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing; `onsa demo --fetch-only` brings it",
        path.display()
    );
    eprintln!("skipped: {} is missing; `onsa demo --fetch-only` brings it", path.display());
    None
}

/// A pool of `count` threads.
pub fn threads(count: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap())
}

/// Tensors with values, as a checkpoint has them; bytes and integers become floats.
pub struct Tensors(pub Vec<(TensorInfo, Vec<f32>)>);

impl WeightSource for Tensors {
    fn tensors(&self) -> Vec<TensorInfo> {
        self.0.iter().map(|(info, _)| info.clone()).collect()
    }

    fn read(&self, index: usize) -> Result<Vec<f32>, String> {
        Ok(self.0[index].1.clone())
    }
}

impl Tensors {
    pub fn read_file(name: &str) -> Tensors {
        let bytes = std::fs::read(path(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |dtype, data: &[u8]| -> Option<Vec<f32>> {
            Some(match dtype {
                Dtype::F32 => data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
                Dtype::F16 => {
                    data.as_chunks().0.iter().map(|&b| half::f16::from_le_bytes(b).to_f32()).collect()
                }
                Dtype::I32 => data.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b) as f32).collect(),
                Dtype::U8 => data.iter().map(|&b| f32::from(b)).collect(),
                _ => return None,
            })
        };
        let read = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
            let values = values(view.dtype(), view.data())?;
            Some((TensorInfo { name: name.to_owned(), shape: view.shape().to_vec() }, values))
        };
        Tensors(file.iter().filter_map(read).collect())
    }

    pub fn find(&self, name: &str) -> Option<&(TensorInfo, Vec<f32>)> {
        self.0.iter().find(|(info, _)| info.name == name)
    }

    pub fn get(&self, name: &str) -> &(TensorInfo, Vec<f32>) {
        self.find(name).unwrap_or_else(|| panic!("the fixture has no {name}"))
    }
}

/// One family's tiny model: description, weights, pictures, outputs.
pub struct Fixture {
    pub json: Json,
    pub weights: Tensors,
    pub values: Tensors,
}

impl Fixture {
    pub fn read(family: Family) -> Fixture {
        let name = format!("models/{}n_tiny", family.name());
        Fixture {
            json: json(&format!("{name}.json")),
            weights: Tensors::read_file(&format!("{name}.weights.safetensors")),
            values: Tensors::read_file(&format!("{name}.safetensors")),
        }
    }

    pub fn architecture(&self) -> Architecture {
        identify::identify(Some(&self.json["yaml"]), &self.weights.tensors()).unwrap()
    }

    /// Height and width of the pictures.
    pub fn size(&self) -> [usize; 2] {
        ["height", "width"].map(|key| self.json[key].as_u64().unwrap() as usize)
    }

    pub fn model(&self) -> Model {
        let [h, w] = self.size();
        Model::build(&self.architecture(), [2, h, w]).unwrap()
    }

    pub fn classes(&self) -> ClassMap {
        ClassMap::identity(self.json["nc"].as_u64().unwrap() as usize)
    }

    /// `[n, h, w, 3]`.
    pub fn images(&self) -> Vec<f32> {
        let (info, values) = self.values.get("images");
        to_nhwc(&info.shape, values)
    }
}

/// A batch of pictures `[n, 3, h, w]` and of target rows: image, class, centre x, centre y, width, height.
pub fn batch(shape: &[usize], images: &[f32], rows: &[f32]) -> Batch {
    let target = |row: &[f32]| Target {
        image: row[0] as u32,
        label: Label { class: row[1] as u32, cx: row[2], cy: row[3], w: row[4], h: row[5] },
    };
    Batch {
        n: shape[0],
        h: shape[2],
        w: shape[3],
        images: to_nhwc(shape, images),
        targets: rows.chunks(6).map(target).collect(),
        items: (0..shape[0]).collect(),
        ..Batch::default()
    }
}

pub fn to_nhwc(nchw: &[usize], values: &[f32]) -> Vec<f32> {
    let [n, c, h, w] = nchw[..] else { panic!("{nchw:?} is no feature map") };
    let mut out = Vec::with_capacity(values.len());
    for i in 0..n {
        for place in 0..h * w {
            out.extend((0..c).map(|channel| values[(i * c + channel) * h * w + place]));
        }
    }
    out
}

/// The values of one parameter in torch's order, each `step`th of them: as the fixtures sample long tensors.
pub fn sampled(info: &ParamInfo, values: &[f32], step: usize) -> Vec<f32> {
    info.to_torch(&values[info.range()]).into_iter().step_by(step).collect()
}

/// Values of the parameter `name`, sampled likewise.
pub fn parameter(params: &Params, name: &str, step: usize) -> Vec<f32> {
    let info = params.infos.iter().find(|info| info.name == name).unwrap();
    sampled(info, &params.values, step)
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // A NaN must not hide behind `max`.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

/// Euclidean length.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// Euclidean length of the difference; NaN stays NaN.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}
