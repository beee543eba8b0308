//! Forward passes for images of any size.

use std::sync::Arc;

use onsa_compute::cuda::{self, DeviceBuffer};
use onsa_compute::{Executor, Mode, Params, Plan, Trainable};

use super::Place;
use super::passes::Passes;

use crate::evaluate::{EvaluateError, HeadMaps, Level};
use crate::models::blocks::BOX_BINS;
use crate::models::{self, Model, ModelError};

/// Shapes whose plans are kept. Validation's rectangular batches have a few.
const KEPT: usize = 6;

/// A model with its parameters, ready for batches of any size that its strides divide.
pub struct Inference {
    model: Model,
    params: Params,
    mode: Mode,
    place: Place,
    /// The parameters on the GPU, where that computes.
    on_device: Option<DeviceBuffer<f32>>,
    /// Whether those are older than `params`.
    stale: bool,
    /// Most recently used last.
    runs: Vec<Run>,
}

struct Run {
    size: [usize; 3],
    levels: Vec<models::Level>,
    passes: Passes,
}

impl Inference {
    /// Takes a model and its parameters; threads alone mean the processor.
    pub fn new(model: &Model, params: Params, place: impl Into<Place>) -> Inference {
        Inference {
            model: model.clone(),
            params,
            mode: Mode::Inference,
            place: place.into(),
            on_device: None,
            stale: false,
            runs: Vec::new(),
        }
    }

    /// The same, collecting the statistics of each norm's input ([`Inference::norm_statistics`]).
    pub fn calibrating(model: &Model, params: Params, place: impl Into<Place>) -> Inference {
        Inference { mode: Mode::Calibration, ..Inference::new(model, params, place) }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The parameters.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Takes other parameters of the same model; the plans are kept.
    pub fn set_params(&mut self, params: &Params) {
        self.params.clone_from(params);
        self.stale = true;
        for run in &mut self.runs {
            match &mut run.passes {
                Passes::Cpu(executor) => executor.prepare(&self.params),
                Passes::Gpu(passes) => passes.prepared = false,
            }
        }
    }

    /// Runs a batch of a classifier (see [`Inference::run`]) and gives the logits, `[n, classes]`.
    ///
    /// # Errors
    /// A size below 32 pixels.
    pub fn logits(&mut self, size: [usize; 3], images: &[f32]) -> Result<&[f32], ModelError> {
        Ok(self.run(size, images)?.outputs[0])
    }

    /// Runs a batch: `images` are `[n, h, w, channels]`, RGB, 0 to 1.
    ///
    /// # Errors
    /// A size that the strides do not divide.
    pub fn run(&mut self, size: [usize; 3], images: &[f32]) -> Result<Maps<'_>, ModelError> {
        let at = match self.runs.iter().position(|run| run.size == size) {
            Some(at) => at,
            None => {
                let model = self.model.resized(size)?;
                let plan = Plan::new(&model.graph, self.mode, &Trainable::nothing(&model.graph));
                let mut passes = Passes::new(&self.place, plan)?;
                if let Passes::Cpu(executor) = &mut passes {
                    executor.prepare(&self.params);
                }
                let levels = model.levels;
                if self.runs.len() == KEPT {
                    self.runs.remove(0);
                }
                self.runs.push(Run { size, levels, passes });
                self.runs.len() - 1
            }
        };
        let run = self.runs.remove(at);
        self.runs.push(run);
        if let Place::Gpu(device, ..) = &self.place {
            match &mut self.on_device {
                None => self.on_device = Some(DeviceBuffer::from_slice(device, &self.params.values)?),
                Some(values) if self.stale => values.upload(&self.params.values)?,
                Some(_) => {}
            }
            self.stale = false;
        }
        let run = self.runs.last_mut().expect("just pushed");
        // A classifier has no levels, and one output.
        let count = run.levels.len().max(1);
        let architecture = &self.model.architecture;
        let (normalise, channels) = (architecture.normalise(), architecture.image_channels);
        let outputs = match &mut run.passes {
            Passes::Cpu(executor) => {
                normalise.apply(images, channels, executor.input_mut(0));
                executor.forward();
                (0..count).map(|i| executor.output(i)).collect()
            }
            Passes::Gpu(passes) => {
                let mut normalised = vec![0.0; images.len()];
                normalise.apply(images, channels, &mut normalised);
                passes.run(self.on_device.as_ref().expect("brought above"), &normalised)?;
                passes.outputs.iter().map(Vec::as_slice).collect()
            }
        };
        Ok(Maps { outputs, levels: &run.levels, batch: size[0] })
    }

    /// Channels of the network's input.
    pub fn channels(&self) -> usize {
        self.model.architecture.image_channels
    }

    /// The threads that the network runs on; what is computed beside it uses them too.
    pub fn pool(&self) -> Arc<rayon::ThreadPool> {
        Arc::clone(self.place.pool())
    }

    /// The processor's executor of the last run, for its profile.
    pub fn last_executor(&mut self) -> Option<&mut Executor> {
        match &mut self.runs.last_mut()?.passes {
            Passes::Cpu(executor) => Some(executor),
            Passes::Gpu(_) => None,
        }
    }

    /// Of the last run in calibration: each norm's name, and mean and variance of its input.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn norm_statistics(&self) -> Result<Vec<cuda::NormStatistics>, ModelError> {
        let Some(run) = self.runs.last() else { return Ok(Vec::new()) };
        Ok(match &run.passes {
            Passes::Cpu(executor) => executor
                .norm_statistics()
                .map(|(name, mean, var)| (name.to_owned(), mean.to_vec(), var.to_vec()))
                .collect(),
            Passes::Gpu(passes) => passes.executor.norm_statistics()?,
        })
    }
}

/// The head's raw maps of one batch.
pub struct Maps<'a> {
    outputs: Vec<&'a [f32]>,
    levels: &'a [models::Level],
    batch: usize,
}

impl Maps<'_> {
    /// Each level's values `[n, h, w, 4 * 16 + classes.len()]`.
    pub fn values(&self) -> Vec<&[f32]> {
        self.outputs.clone()
    }

    /// Each level's rows and columns.
    pub fn shapes(&self) -> Vec<(usize, usize)> {
        self.levels.iter().map(|level| (level.height, level.width)).collect()
    }

    /// The maps as the decoder takes them.
    ///
    /// # Errors
    /// None with a model of the zoo: sizes that do not fit.
    pub fn head(&self) -> Result<HeadMaps<'_>, EvaluateError> {
        let levels = self
            .levels
            .iter()
            .enumerate()
            .map(|(i, level)| Level {
                values: self.outputs[i],
                height: level.height,
                width: level.width,
                stride: level.stride as f32,
                classes: level.classes.clone(),
            })
            .collect();
        HeadMaps::new(self.batch, BOX_BINS, levels)
    }
}
