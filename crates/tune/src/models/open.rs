//! From what a person names to a model with weights.

use std::path::{Path, PathBuf};

use onsa_compute::Params;
use onsa_intake::checkpoint::{self, Checkpoint, CheckpointError};

use super::{
    Architecture, ClassMap, HeadTransfer, Model, ModelError, ModelSpec, PartOf, Task, TensorInfo,
    WeightSource, identify::identify, init_fresh, load, norm, registry,
};

/// A file or a registered name, resolved.
#[derive(Debug)]
pub enum Source {
    /// A model file, read whole.
    File {
        /// Where it lies.
        path: PathBuf,
        /// Its contents.
        checkpoint: Box<Checkpoint>,
    },
    /// A registered architecture without weights.
    Name(ModelSpec),
}

impl Source {
    /// What the model predicts; `None` where the file's contents fit no model of the zoo.
    pub fn task(&self) -> Option<Task> {
        match self {
            Source::Name(spec) => Some(spec.task),
            Source::File { checkpoint, .. } => {
                let architecture = identify(checkpoint.meta.yaml.as_ref(), &checkpoint.tensors());
                architecture.ok().map(|architecture| architecture.task)
            }
        }
    }

    /// The side of the input that the model was made for, in pixels, where that is known.
    pub fn imgsz(&self) -> Option<u32> {
        match self {
            Source::Name(spec) => Some(spec.preprocessing.image_size as u32),
            Source::File { checkpoint, .. } => checkpoint.meta.imgsz.map(|[height, _]| height),
        }
    }
}

/// A model that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The file holds no model of the zoo, or the name is unknown.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file's contents fit no model of the zoo.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ModelError,
    },
    /// A path that does not exist.
    #[error("there is no model file {}", .0.display())]
    NoFile(PathBuf),
    /// A registered name, and no weights of it at hand.
    #[error("no weights of {name} were found here (looked for {})", looked.join(", "))]
    NoWeights {
        /// The model's name.
        name: String,
        /// Where.
        looked: Vec<String>,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            OpenError::NoWeights { name, .. } => Some(format!(
                "give the path of a checkpoint (model=path/to/{name}.pt), or train from scratch with model={name} pretrained=false"
            )),
            OpenError::NoFile(_) => {
                Some("check the path; `onsa inspect FILE` shows what a model file holds".into())
            }
            _ => None,
        }
    }
}

impl WeightSource for Checkpoint {
    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors.iter().map(|t| TensorInfo { name: t.name.clone(), shape: t.shape.clone() }).collect()
    }

    fn read(&self, index: usize) -> Result<Vec<f32>, String> {
        let values = self.tensors[index].to_f32();
        match values.iter().filter(|v| !v.is_finite()).count() {
            0 => Ok(values),
            bad => Err(format!(
                "{bad} of its {} values are not finite numbers: the file is damaged, or its own training went wrong",
                values.len()
            )),
        }
    }
}

/// Extensions that a registered name's weights are looked for with.
const EXTENSIONS: [&str; 4] = ["safetensors", "pt", "pth", "onnx"];

/// Finds what `model` names. A path (or a name whose weights lie in one of `folders`) is read; with `weights` false a
/// registered name, also one ending in .yaml, stands for the bare architecture.
///
/// # Errors
/// See [`OpenError`].
pub fn find(model: &str, folders: &[PathBuf], weights: bool) -> Result<Source, OpenError> {
    let path = Path::new(model);
    if path.is_file() {
        return Ok(Source::File { path: path.to_owned(), checkpoint: Box::new(checkpoint::read(path)?) });
    }
    let looks_like_a_path =
        path.components().count() > 1 || model.ends_with(".safetensors") || model.ends_with(".onnx");
    if looks_like_a_path {
        return Err(OpenError::NoFile(path.to_owned()));
    }
    let spec = registry::find(model)?;
    if !weights || model.ends_with(".yaml") {
        return Ok(Source::Name(spec));
    }
    let mut looked = Vec::new();
    for folder in folders {
        for name in spec.file_stems() {
            for extension in EXTENSIONS {
                let path = folder.join(format!("{name}.{extension}"));
                if path.is_file() {
                    let checkpoint = Box::new(checkpoint::read(&path)?);
                    return Ok(Source::File { path, checkpoint });
                }
            }
        }
        looked.push(folder.join(&spec.name).display().to_string());
    }
    Err(OpenError::NoWeights { name: spec.name, looked })
}

/// The folders that registered names' weights are looked for in: the current one, and the assets' cache.
pub fn default_folders() -> Vec<PathBuf> {
    let cache = std::env::var_os("ONSA_ASSETS")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/onsa/assets")));
    [Some(PathBuf::from(".")), cache].into_iter().flatten().collect()
}

/// A model ready to run or to train.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The network, for one image of `imgsz` pixels.
    pub model: Model,
    /// Its values.
    pub params: Params,
    /// Class names.
    pub names: Vec<String>,
    /// What became of the head's classes.
    pub transfer: HeadTransfer,
    /// Whether the file's norms were folded into its convolutions: to be calibrated before training.
    pub folded: bool,
    /// Where the weights come from; none for a fresh start.
    pub weights: Option<Provenance>,
}

/// Where starting weights come from.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its format.
    pub format: String,
    /// Whether it is an ONNX file: made for one square input size.
    pub is_onnx: bool,
    /// The licence that the file names, or that weights of its family have.
    pub licence: String,
}

/// Placeholder names "0", "1", …
fn numbered(classes: usize) -> Vec<String> {
    (0..classes).map(|i| i.to_string()).collect()
}

/// Builds the network of `source` with a head for the classes `names` (None: the file's own), and fills it: from the file
/// where `weights` is true, else from `seed`. Of a model with branches all is opened for its own classes, for others the part
/// that knows most of them.
///
/// # Errors
/// See [`OpenError`].
pub fn open(
    source: &Source,
    names: Option<&[String]>,
    imgsz: [usize; 2],
    weights: bool,
    seed: u64,
) -> Result<Opened, OpenError> {
    open_for(source, (names, None), imgsz, weights, seed)
}

/// As [`open`], with an input of so many channels (none: the file's own, or three): the filters of the first convolution are
/// adapted, see [`load`].
///
/// # Errors
/// See [`OpenError`].
pub fn open_for(
    source: &Source,
    (names, channels): (Option<&[String]>, Option<usize>),
    imgsz: [usize; 2],
    weights: bool,
    seed: u64,
) -> Result<Opened, OpenError> {
    let size = [1, imgsz[0], imgsz[1]];
    match source {
        Source::Name(spec) => {
            let published = if spec.task == Task::Detect { 80 } else { 1000 };
            let names = names.map_or_else(|| numbered(published), <[String]>::to_vec);
            let architecture = spec.architecture(names.len());
            let image_channels = channels.unwrap_or(architecture.image_channels);
            let model = Model::build(&Architecture { image_channels, ..architecture }, size)?;
            let params = init_fresh(&model, seed);
            let transfer = HeadTransfer { kept: Vec::new(), fresh: names.clone() };
            Ok(Opened { model, params, names, transfer, folded: false, weights: None })
        }
        Source::File { path, checkpoint } => {
            let in_file = |source| OpenError::InFile { path: path.clone(), source };
            let tensors = checkpoint.tensors();
            let found = identify(checkpoint.meta.yaml.as_ref(), &tensors).map_err(in_file)?;
            let all = checkpoint.meta.names.as_deref();
            let image_channels = channels.unwrap_or(found.image_channels);
            let (architecture, map, target, part) = match names {
                None => {
                    let target = all.map_or_else(|| numbered(found.class_count()), <[String]>::to_vec);
                    let class_width = Some(found.resolved_class_width());
                    let map = ClassMap::identity(found.classes);
                    (Architecture { class_width, ..found.clone() }, map, target, None)
                }
                Some(names) => {
                    let part = found.part_for(all, names);
                    let own = all.and_then(|all| all.get(found.part_classes(part)));
                    let part_alone = found.part(part);
                    let map = ClassMap::by_name(own, part_alone.classes, names);
                    let view = PartOf::new(checkpoint.as_ref(), &found, part);
                    (part_alone.with_classes(names.len()), map, names.to_vec(), Some(view))
                }
            };
            let architecture = Architecture { image_channels, ..architecture };
            let model = Model::build(&architecture, size).map_err(in_file)?;
            if !weights {
                let params = init_fresh(&model, seed);
                let transfer = HeadTransfer { kept: Vec::new(), fresh: target.clone() };
                return Ok(Opened { model, params, names: target, transfer, folded: false, weights: None });
            }
            let tensors: &dyn WeightSource = match &part {
                Some(part) => part,
                None => checkpoint.as_ref(),
            };
            let params = load(&model, tensors, &map, seed).map_err(in_file)?;
            let licence = checkpoint.meta.licence.clone().unwrap_or_else(|| {
                let spec = match architecture.task {
                    Task::Detect => ModelSpec::detector(architecture.family, super::Scale::N),
                    Task::Classify => ModelSpec::classifier(architecture.family, super::Scale::N),
                };
                spec.weights_licence.to_owned()
            });
            let weights = Provenance {
                path: path.clone(),
                sha256: checkpoint.sha256.clone(),
                format: checkpoint.format.to_string(),
                is_onnx: checkpoint.format == checkpoint::Format::Onnx,
                licence,
            };
            Ok(Opened {
                transfer: map.summary(&target),
                model,
                names: target,
                // A model that was joined with a branch keeps its own layers as the export had them.
                folded: checkpoint.meta.norm_folded || norm::is_folded(&params),
                params,
                weights: Some(weights),
            })
        }
    }
}
