//! How to train: arguments as a person gives them ([`TrainArgs`]), then every value resolved and checked ([`Recipe`]).
//!
//! Names, meanings and defaults are those that Ultralytics' users know. Numbers are `f64`: the schedule is exact in
//! double precision and rounded once, where it meets the weights.
pub mod run_dir;
pub mod table;
pub mod values;
pub mod yaml;

pub mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::data::dataset::PixelOptions;
use crate::data::division::{Splitting, VAL_FRACTION};
use crate::data::groups::GroupBy;
use crate::data::index::LoadOptions;

use table::{ArgumentError, any};
use values::{
    AddClasses, Amp, AutoAugment, Bits, Cache, Faulty, Freeze, Optimizer, Pretrained, SaveEvery, Strategy,
    Task,
};

crate::arguments! {
    /// The arguments of `train` that a person gave, each `None` where it was not given.
    TrainArgs,
    /// Everything that decides a training run.
    Recipe {
        "Run" {
            /// The model: a checkpoint file (.pt, .pth, .safetensors, .onnx) or a registered name such as yolo11n. Required.
            model: String = String::new(), any;
            /// The data set: a data.yaml; to classify, a folder with train/ and val/ that hold one folder a class, a .csv with
            /// the columns image and label, or a folder of IDX files. Required.
            data: PathBuf = PathBuf::new(), any;
            /// The task.
            task: Task = Task::Detect, any;
            /// Start from the model's weights (true), from scratch (false), or from another file's weights.
            pretrained: Pretrained = Pretrained::Yes, any;
            /// The folder in which runs are collected.
            project: PathBuf = PathBuf::from("runs/detect"), any;
            /// The run's name: its folder inside the project, numbered if taken.
            name: String = "train".to_owned(), run_name;
            /// Write into the run's folder even if it exists.
            exist_ok: bool = false, any;
            /// Seed of every random number.
            seed: u64 = 0, any;
            /// Where to compute: auto (a GPU where there is one), cpu, cuda, or the number of a GPU.
            device: Option<String> = None, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
            /// Mixed precision: true is bfloat16, on a GPU and on processors with instructions for it; tf32 is float32 whose
            /// convolutions a GPU multiplies in TF32; false is float32.
            amp: Amp = Amp::Mixed, any;
            /// Show progress.
            verbose: bool = true, any;
            /// Validate after every epoch.
            val: bool = true, any;
            /// Draw curves, batches and the report's pictures.
            plots: bool = true, any;
            /// At the end, look for training labels that the trained detector contradicts (10,000 images at most); with plots.
            suspects: bool = true, any;
            /// Also keep a checkpoint of every N-th epoch; -1 keeps none.
            save_period: i32 = -1, any;
            /// When `onsa resume` can go on from within an epoch: after so many steps (100) or seconds (60s), or at its end only (epoch). auto saves so that it costs less than 1 % of the time.
            save_every: SaveEvery = SaveEvery::Auto, any;
        }
        "Schedule" {
            /// Passes over the training images.
            epochs: u32 = 100, table::at_least_one;
            /// Hours after which training ends, whatever `epochs` says.
            time: Option<f64> = None, table::positive_or_none;
            /// Epochs without a better validation after which training ends; 0 never ends it.
            patience: u32 = 100, any;
            /// Images in a batch.
            batch: i32 = 16, batch_size;
            /// The square input's side in pixels, a multiple of 32.
            imgsz: u32 = 640, table::image_size;
            /// Optimiser steps gather the gradients of about this many images; where a starting model teaches (add_classes) those of
            /// a batch, unless given.
            nbs: u32 = 64, table::at_least_one;
            /// How to fine-tune: head trains the last layers alone on features that are computed once, freeze all but the
            /// backbone, full everything with a small learning rate, gradual the head first and then more from the top, lora
            /// low-rank adapters beside the frozen layers, which the saved weights take in; auto chooses and says why; default
            /// does what the other arguments say.
            strategy: Strategy = Strategy::Default, any;
            /// Modules that stay as they are, norm statistics included: the first N, `backbone`, or a list of indices, names
            /// and patterns with *.
            freeze: Freeze = Freeze::Nothing, any;
            /// strategy=gradual: epochs until the next third of the network learns too; 0 for an eighth of all epochs.
            unfreeze: u32 = 0, any;
            /// strategy=lora: channels of the adapters; more can learn more.
            lora_rank: u32 = LORA_RANK, table::at_least_one;
            /// strategy=lora: what the adapters give is multiplied by this over lora_rank.
            lora_alpha: f64 = LORA_ALPHA, table::positive;
            /// The learning rate of each module as a fraction of that of the module above it.
            layer_decay: f64 = 1.0, table::positive_unit;
            /// The last N epochs run without mosaic, mixup, cutmix and copy-paste; 0 never turns them off.
            close_mosaic: u32 = 10, any;
            /// Range of random input sizes, as a fraction of imgsz.
            multi_scale: f64 = 0.0, table::below_one;
        }
        "New classes" {
            /// Keep the model's own classes and add those of the data that it does not have, matched by name. true: a detector
            /// keeps its network to the last bit and gets a branch for the new classes, which shares its first layers (`freeze`,
            /// by default 2); a classifier's old classes are taught by the frozen starting model. distil teaches a detector in
            /// that way too: as fast as before, but it forgets more. plain adds classes without either, to compare.
            add_classes: AddClasses = AddClasses::Off, any;
            /// add_classes, where the starting model teaches: weight of what it says beside the labels.
            distill: f64 = DISTILL, table::not_negative;
            /// add_classes, where the starting model teaches: old data that is mixed in, a data set with labels or a folder of
            /// images without.
            replay: Option<PathBuf> = None, any;
            /// add_classes: images of `replay` for each image of the data.
            replay_ratio: f64 = REPLAY_RATIO, table::positive;
            /// add_classes: a data set (its validation images) or a folder of images that tells what of the old classes was
            /// kept; by default that of `replay`, else agreement with the starting model on the data's validation images.
            old_data: Option<PathBuf> = None, any;
        }
        "Optimiser" {
            /// The optimiser; auto chooses it, its rate and its momentum.
            optimizer: Optimizer = Optimizer::Auto, any;
            /// The learning rate after warm-up. Given together with optimizer=auto, it is used.
            lr0: f64 = 0.01, table::positive;
            /// The last learning rate as a fraction of lr0.
            lrf: f64 = 0.01, table::unit;
            /// Momentum of SGD and MuSGD, beta1 of AdamW.
            momentum: f64 = 0.937, table::below_one;
            /// Weight decay (not applied to norms and biases).
            weight_decay: f64 = 0.0005, table::not_negative;
            /// Epochs of warm-up; fractions allowed.
            warmup_epochs: f64 = 3.0, table::not_negative;
            /// Momentum at the start of the warm-up.
            warmup_momentum: f64 = 0.8, table::below_one;
            /// Learning rate of the biases at the start of the warm-up.
            warmup_bias_lr: f64 = 0.1, table::not_negative;
            /// Let the rate fall along a cosine, not a line.
            cos_lr: bool = false, any;
        }
        "Loss" {
            /// Gain of the box loss.
            r#box: f64 = 7.5, table::not_negative;
            /// Gain of the class loss.
            cls: f64 = 0.5, table::not_negative;
            /// Gain of the distribution focal loss.
            dfl: f64 = 1.5, table::not_negative;
            /// Weigh classes by their rarity, to this power; 0 weighs all alike.
            cls_pw: f64 = 0.0, table::unit;
            /// Dropout before a classifier's last layer.
            dropout: f64 = 0.0, table::below_one;
        }
        "Data" {
            /// Keep decoded images between epochs: in memory (ram), in the GPU's memory (gpu) or beside the images (disk). Without
            /// it a GPU keeps a small set itself, and copies a larger one's batches from the host's memory where that has room.
            cache: Cache = Cache::Off, any;
            /// Threads that load and augment.
            workers: u32 = 8, any;
            /// Use this share of the training images.
            fraction: f64 = 1.0, table::positive_unit;
            /// Images that belong together (a patient, a field) and stay on one side of every split: a pattern of their names
            /// with {group} and * ({group}_*, {group}/*), a .csv file with the columns image and group, or a column of the
            /// data set's own table.
            group: Option<GroupBy> = None, any;
            /// The share of the training images that validation gets where the data have no validation images.
            val_fraction: f64 = VAL_FRACTION, table::share;
            /// Divide the training and validation images anew, by group and val_fraction.
            resplit: bool = false, any;
            /// Channels of the images: by default what data.yaml says, or three. The first convolution is adapted. Pages of a
            /// TIFF file are channels.
            channels: Option<u32> = None, table::channels_or_none;
            /// What becomes of images of 16 bits: auto keeps all bits (on the processor, without changes of colour), 8 cuts
            /// them to 8.
            bits: Bits = Bits::Auto, any;
            /// Treat every object as of one class.
            single_cls: bool = false, any;
            /// Batches of one shape each instead of squares.
            rect: bool = false, any;
            /// What to do about items with errors: refuse to train, or leave them out and say which.
            faulty: Faulty = Faulty::Refuse, any;
        }
        "Augmentation" {
            /// Hue shift, as a fraction of the colour circle.
            hsv_h: f64 = 0.015, table::unit;
            /// Saturation gain, plus or minus.
            hsv_s: f64 = 0.7, table::unit;
            /// Brightness gain, plus or minus.
            hsv_v: f64 = 0.4, table::unit;
            /// Rotation in degrees, plus or minus.
            degrees: f64 = 0.0, table::half_turn;
            /// Shift as a fraction of the side, plus or minus.
            translate: f64 = 0.1, table::unit;
            /// Zoom gain, plus or minus.
            scale: f64 = 0.5, table::below_one;
            /// Shear in degrees, plus or minus.
            shear: f64 = 0.0, table::shear_angle;
            /// Perspective, a fraction per pixel.
            perspective: f64 = 0.0, table::perspective_term;
            /// Probability of an upside-down flip.
            flipud: f64 = 0.0, table::unit;
            /// Probability of a left-right flip.
            fliplr: f64 = 0.5, table::unit;
            /// Probability of a mosaic of four images.
            mosaic: f64 = 1.0, table::unit;
            /// Probability of blending with another image.
            mixup: f64 = 0.0, table::unit;
            /// Probability of pasting a region of another image.
            cutmix: f64 = 0.0, table::unit;
            /// Fraction of outlined objects to copy.
            copy_paste: f64 = 0.0, table::unit;
            /// Classification: random operations on every training image, in place of the colour jitter.
            auto_augment: AutoAugment = AutoAugment::RandAugment, any;
            /// Classification: probability of blackening a random rectangle.
            erasing: f64 = 0.4, table::unit;
        }
    }
}

/// The default of `lora_rank`.
const LORA_RANK: u32 = 8;
/// The default of `lora_alpha`.
const LORA_ALPHA: f64 = 16.0;
/// The default of `distill`.
const DISTILL: f64 = 1.0;
/// The default of `replay_ratio`.
const REPLAY_RATIO: f64 = 0.5;

/// The side of a classifier's input where none is given, in pixels.
pub const CLASSIFY_IMGSZ: u32 = 224;

fn batch_size(value: &i32) -> table::Check {
    if *value >= 1 || *value == -1 { Ok(()) } else { Err("1 or more") }
}

fn run_name(value: &String) -> table::Check {
    let folder = Path::new(value);
    let plain = folder.components().count() == 1 && folder.file_name().is_some_and(|f| f == value.as_str());
    if plain { Ok(()) } else { Err("a folder's name, not a path (project=DIR says where)") }
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// An argument is wrong.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The configuration file is no flat YAML mapping.
    #[error("{}: {source}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: yaml::YamlError,
    },
    /// An argument in the configuration file is wrong.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        source: ArgumentError,
    },
    /// The configuration file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl RecipeError {
    /// What to do about it, where the message does not already say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Argument(error) | Self::Line { source: error, .. } => error.hint(),
            Self::Yaml { .. } | Self::Read { .. } => None,
        }
    }
}

/// The key of `args.yaml` that lists what the person gave.
const GIVEN: &str = "given";

impl TrainArgs {
    /// Sets one argument from its text; also accepts the reference's other arguments at their defaults.
    ///
    /// # Errors
    /// An unknown name, a value of the wrong type or range, an argument of the reference at a value that has no
    /// effect here.
    pub fn set_any(&mut self, name: &str, text: &str) -> Result<(), ArgumentError> {
        if let Some(verdict) = reference::accept(name, text) {
            return verdict;
        }
        match self.set(name, text) {
            Err(ArgumentError::Unknown { name, .. }) => {
                let others: Vec<&str> = reference::names().collect();
                Err(table::unknown(&name, Self::TABLE, &others))
            }
            result => result,
        }
    }

    /// Takes the arguments of a configuration file: an `args.yaml` of ours or of the reference.
    ///
    /// Both write all arguments, so those at our defaults count as not given, unless the file's key `given` (which only
    /// ours has) lists them.
    ///
    /// # Errors
    /// See [`RecipeError`]; each names the file, and the line where there is one.
    pub fn from_file(path: &Path) -> Result<TrainArgs, RecipeError> {
        let (args, given) = Self::parse_file(path)?;
        let changed = args.clone().without_defaults();
        Ok(args.only(&given.unwrap_or_default()).over(changed))
    }

    /// Every value of the file, and the names that its key `given` lists.
    fn parse_file(path: &Path) -> Result<(TrainArgs, Option<BTreeSet<&'static str>>), RecipeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let entries =
            yaml::read(&text).map_err(|source| RecipeError::Yaml { path: path.to_owned(), source })?;
        let mut args = TrainArgs::default();
        let mut given = None;
        for entry in entries {
            if entry.name == GIVEN {
                let listed: Vec<&str> = table::items(&entry.text).collect();
                let names = Self::TABLE.iter().map(|argument| argument.name);
                given = Some(names.filter(|name| listed.contains(name)).collect());
            } else {
                args.set_any(&entry.name, &entry.text).map_err(|source| RecipeError::Line {
                    path: path.to_owned(),
                    line: entry.line,
                    source,
                })?;
            }
        }
        Ok((args, given))
    }

    /// Fills in the defaults and checks what arguments say together.
    ///
    /// # Errors
    /// A missing `model` or `data`, arguments that contradict one another, and values that the reference honours and
    /// this version does not.
    pub fn resolve(&self) -> Result<Recipe, ArgumentError> {
        let mut recipe = self.fill();
        if recipe.task == Task::Classify {
            if !recipe.is_given("imgsz") {
                recipe.imgsz = CLASSIFY_IMGSZ;
            }
            if !recipe.is_given("project") {
                recipe.project = PathBuf::from("runs/classify");
            }
        }
        if recipe.teaches() && !recipe.is_given("nbs") && recipe.batch > 0 {
            // Many small steps, each held to the starting model, lead further than few large ones.
            recipe.nbs = recipe.batch as u32;
        }
        if recipe.model.is_empty() {
            return Err(ArgumentError::Missing { name: "model", example: "model=yolo11n.pt" });
        }
        if recipe.data.as_os_str().is_empty() {
            return Err(ArgumentError::Missing { name: "data", example: "data=my-data/data.yaml" });
        }
        recipe.refuse_what_has_no_effect()?;
        Ok(recipe)
    }
}

impl Recipe {
    /// How data sets are read.
    pub fn load_options(&self) -> LoadOptions {
        LoadOptions {
            single_cls: self.single_cls,
            fraction: self.fraction,
            splitting: self.splitting(),
            pixels: PixelOptions { channels: self.channels, eight_bits: self.bits == Bits::Eight },
            ..LoadOptions::default()
        }
    }

    /// How the images are divided.
    pub fn splitting(&self) -> Splitting {
        let (group, val_fraction, resplit) = (self.group.clone(), self.val_fraction, self.resplit);
        Splitting { group, val_fraction, resplit }
    }

    /// Values that parse but would have no effect in this version.
    fn refuse_what_has_no_effect(&self) -> Result<(), ArgumentError> {
        let detects = self.task == Task::Detect;
        let gradual = self.strategy == Strategy::Gradual;
        self.refuse_what_adds_no_classes()?;
        let lora = self.strategy == Strategy::Lora;
        let cases: [(&str, bool, String, &str); 16] = [
            (
                "cache",
                !detects && self.cache == Cache::Disk,
                "disk".into(),
                "a classifier's images are kept in memory only",
            ),
            (
                "freeze",
                matches!(self.strategy, Strategy::Head | Strategy::Auto) && self.freeze != Freeze::Nothing,
                table::Field::emit(&self.freeze),
                "the strategies head and auto settle themselves what stays as it is",
            ),
            (
                "unfreeze",
                self.unfreeze > 0 && !gradual,
                self.unfreeze.to_string(),
                "it belongs to strategy=gradual",
            ),
            (
                "lora_rank",
                self.lora_rank != LORA_RANK && !lora,
                self.lora_rank.to_string(),
                "it belongs to strategy=lora",
            ),
            (
                "lora_alpha",
                self.lora_alpha != LORA_ALPHA && !lora,
                self.lora_alpha.to_string(),
                "it belongs to strategy=lora",
            ),
            (
                "auto_augment",
                detects && self.is_given("auto_augment") && self.auto_augment != AutoAugment::RandAugment,
                "none".into(),
                "it acts on classification only",
            ),
            (
                "erasing",
                detects && self.erasing != 0.4,
                self.erasing.to_string(),
                "it acts on classification only",
            ),
            (
                "single_cls",
                !detects && self.single_cls,
                "true".into(),
                "one class leaves nothing to tell apart",
            ),
            ("rect", !detects && self.rect, "true".into(), "a classifier sees squares"),
            (
                "multi_scale",
                !detects && self.multi_scale > 0.0,
                self.multi_scale.to_string(),
                "the crops vary already",
            ),
            ("mixup", !detects && self.mixup > 0.0, self.mixup.to_string(), "an image has one class here"),
            ("cutmix", !detects && self.cutmix > 0.0, self.cutmix.to_string(), "an image has one class here"),
            (
                "degrees",
                !detects && self.degrees > 0.0,
                self.degrees.to_string(),
                "auto_augment turns images",
            ),
            ("shear", !detects && self.shear > 0.0, self.shear.to_string(), "auto_augment shears images"),
            ("dropout", self.dropout > 0.0, self.dropout.to_string(), "no model here has dropout"),
            (
                "copy_paste",
                self.copy_paste > 0.0,
                self.copy_paste.to_string(),
                "it needs outlines, and detection data has boxes only",
            ),
        ];
        for (name, refused, value, why) in cases {
            if refused {
                return Err(ArgumentError::NotHonoured { name: name.into(), value, why: why.into() });
            }
        }
        Ok(())
    }

    /// What does not go with adding classes, and what goes with nothing else.
    fn refuse_what_adds_no_classes(&self) -> Result<(), ArgumentError> {
        let refuse = |name: &str, value: String, why: &str| {
            Err(ArgumentError::NotHonoured { name: name.into(), value, why: why.into() })
        };
        if self.add_classes == AddClasses::Off {
            let given = [("replay", &self.replay), ("old_data", &self.old_data)];
            if let Some((name, path)) = given.into_iter().find(|(_, path)| path.is_some()) {
                return refuse(name, table::Field::emit(path), "it belongs to add_classes=true");
            }
            // Compared by value: a run's own file gives every argument.
            for (name, value, default) in
                [("distill", self.distill, DISTILL), ("replay_ratio", self.replay_ratio, REPLAY_RATIO)]
            {
                if value != default {
                    return refuse(name, value.to_string(), "it belongs to add_classes=true");
                }
            }
            return Ok(());
        }
        if self.pretrained == Pretrained::No {
            return Err(ArgumentError::Contradiction(
                "add_classes keeps what a pretrained model knows, and pretrained=false starts from nothing"
                    .into(),
            ));
        }
        if matches!(self.strategy, Strategy::Head | Strategy::Auto) {
            let strategy = self.strategy.name();
            return refuse("strategy", strategy, "with add_classes the whole network sees every image");
        }
        if self.branches() {
            let named = matches!(&self.freeze, Freeze::Modules(parts) if *parts != ["backbone"]);
            if named {
                let why = "with add_classes=true it is how many layers old and new classes share: a number, or backbone";
                return refuse("freeze", table::Field::emit(&self.freeze), why);
            }
            let why = "add_classes=true leaves the old layers of a detector as they are: nothing has to teach them (add_classes=distil)";
            if let Some(path) = &self.replay {
                return refuse("replay", table::Field::emit(path), why);
            }
            if self.distill != DISTILL {
                return refuse("distill", self.distill.to_string(), why);
            }
        }
        if self.single_cls {
            return refuse("single_cls", "true".into(), "with add_classes classes are told apart by name");
        }
        if self.replay.is_none() && self.replay_ratio != REPLAY_RATIO {
            return refuse("replay_ratio", self.replay_ratio.to_string(), "it belongs to replay=");
        }
        Ok(())
    }

    /// Whether classes are added in a branch of their own, which shares the model's first layers.
    pub fn branches(&self) -> bool {
        self.add_classes == AddClasses::On && self.task == Task::Detect
    }

    /// Whether the frozen starting model teaches the old classes.
    pub fn teaches(&self) -> bool {
        self.add_classes == AddClasses::Distil
            || self.add_classes == AddClasses::On && self.task == Task::Classify
    }

    /// True if the person gave this argument, rather than leaving it at its default.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// Reads the `args.yaml` of a run back: the same recipe, value for value.
    ///
    /// # Errors
    /// See [`RecipeError`]; each names the file, and the line where there is one.
    pub fn from_file(path: &Path) -> Result<Recipe, RecipeError> {
        let (args, given) = TrainArgs::parse_file(path)?;
        let mut recipe = args.resolve()?;
        if let Some(given) = given {
            recipe.given = given;
        }
        Ok(recipe)
    }

    /// The text of `args.yaml`: every value, and under `given` the names of those that the person gave.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.entries() {
            text.push_str(&format!("{name}: {value}\n"));
        }
        let given: Vec<&str> = self.given.iter().copied().collect();
        text.push_str(&format!("{GIVEN}: [{}]\n", given.join(", ")));
        text
    }
}

#[cfg(test)]
mod tests;
