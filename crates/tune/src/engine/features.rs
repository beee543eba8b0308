//! What the frozen part of a network makes of every image, computed once: then only the rest of the network runs.

use std::sync::Arc;

use onsa_compute::cuda::DeviceBuffer;
use onsa_compute::graph::{Op, Split};
use onsa_compute::{Executor, Graph, Mode, Params, Plan, Trainable};

use super::Place;
use super::passes::Passes;
use crate::data::batch::Target;
use crate::data::loader::LoaderError;
use crate::data::val_loader::ValLoader;
use crate::models::{Model, ModelError};

/// Features that could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    /// An image or the loader.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// They would not fit into memory.
    #[error(
        "the features of {images} images take {needed} MiB, and {budget} MiB of memory may be used for them"
    )]
    Memory {
        /// Number of images.
        images: usize,
        /// What they take.
        needed: u64,
        /// What is there.
        budget: u64,
    },
    /// Something trained reads the image itself, or nothing is trained.
    #[error("no part of the network is frozen from the image on, so there are no features to keep")]
    NothingFrozen,
}

/// The features of a list of items, in its order, and the items' targets.
#[derive(Clone, Debug)]
pub struct Features {
    /// For each tensor that the trained part reads: the items' values one after the other.
    taps: Vec<Vec<f32>>,
    /// Values of one item in each.
    lens: Vec<usize>,
    /// The boxes of each item on the network's input.
    targets: Vec<Vec<Target>>,
}

/// Where the trained part of `graph` begins.
pub(crate) fn cut(graph: &Graph, trainable: &Trainable) -> Result<Split, FeaturesError> {
    let trained = |id: onsa_compute::graph::ParamId| trainable.params[id.index()];
    let changes = |op: &Op| match op {
        Op::Conv2d { weight, bias, .. } => trained(*weight) || bias.is_some_and(trained),
        Op::BatchNorm { name, .. } => !trainable.frozen_norms.contains(name),
        Op::ScaleChannels { scale } => trained(*scale),
        _ => false,
    };
    graph.split(changes).ok_or(FeaturesError::NothingFrozen)
}

impl Features {
    /// Runs the frozen part of the network over `loader`'s images (all items in their order, of one size), if the result
    /// fits into `budget` bytes. `progress(done)` after each batch.
    ///
    /// # Errors
    /// See [`FeaturesError`].
    pub fn compute(
        model: &Model,
        params: &Params,
        trainable: &Trainable,
        (mut loader, items): (ValLoader, usize),
        budget: u64,
        place: &Place,
        mut progress: impl FnMut(usize),
    ) -> Result<Features, FeaturesError> {
        let mut features = Features { taps: Vec::new(), lens: Vec::new(), targets: vec![Vec::new(); items] };
        let mut run: Option<([usize; 3], Passes)> = None;
        let on_device = match place {
            Place::Cpu(..) => None,
            Place::Gpu(device, ..) => {
                Some(DeviceBuffer::from_slice(device, &params.values).map_err(ModelError::from)?)
            }
        };
        let mut done = 0;
        while let Some(next) = loader.next() {
            let batch = next?.batch;
            let size = [batch.n, batch.h, batch.w];
            if run.as_ref().is_none_or(|(made, _)| *made != size) {
                let trunk = cut(&model.resized(size)?.graph, trainable)?.trunk;
                let plan = Plan::new(&trunk, Mode::Inference, &Trainable::nothing(&trunk));
                if features.taps.is_empty() {
                    features.lens = plan.outputs.iter().map(|(_, view)| view.len() / batch.n).collect();
                }
                let mut passes = Passes::new(place, plan)?;
                if let Passes::Cpu(executor) = &mut passes {
                    executor.prepare(params);
                }
                run = Some((size, passes));
            }
            let (_, passes) = run.as_mut().expect("made above");
            if features.taps.is_empty() {
                let needed = (items * features.lens.iter().sum::<usize>() * size_of::<f32>()) as u64;
                if needed > budget {
                    let mebi = |bytes: u64| bytes >> 20;
                    return Err(FeaturesError::Memory {
                        images: items,
                        needed: mebi(needed),
                        budget: mebi(budget),
                    });
                }
                features.taps = features.lens.iter().map(|len| Vec::with_capacity(items * len)).collect();
            }
            let (normalise, channels) = (model.architecture.normalise(), model.architecture.image_channels);
            match passes {
                Passes::Cpu(executor) => {
                    normalise.apply(&batch.images, channels, executor.input_mut(0));
                    executor.forward();
                    for (i, tap) in features.taps.iter_mut().enumerate() {
                        tap.extend_from_slice(executor.output(i));
                    }
                }
                Passes::Gpu(passes) => {
                    let mut normalised = vec![0.0; batch.images.len()];
                    normalise.apply(&batch.images, channels, &mut normalised);
                    let params = on_device.as_ref().expect("brought above");
                    passes.run(params, &normalised).map_err(ModelError::from)?;
                    for (tap, output) in features.taps.iter_mut().zip(&passes.outputs) {
                        tap.extend_from_slice(output);
                    }
                }
            }
            for target in &batch.targets {
                features.targets[batch.items[target.image as usize]].push(*target);
            }
            done += batch.n;
            loader.recycle(batch);
            progress(done);
        }
        Ok(features)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.taps.iter().map(|tap| tap.len() * size_of::<f32>()).sum()
    }

    /// Each tap's values, and how many of them an item has.
    pub(crate) fn taps(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.taps.iter().map(Vec::as_slice).zip(self.lens.iter().copied())
    }

    /// What is left where the values lie elsewhere: the targets.
    pub(crate) fn without_values(self) -> Features {
        Features { taps: Vec::new(), ..self }
    }

    /// Copies the items' values into the inputs of the trained part.
    pub(super) fn gather(&self, items: &[usize], executor: &mut Executor) {
        for (i, (tap, &len)) in self.taps.iter().zip(&self.lens).enumerate() {
            let input = executor.input_mut(i);
            for (to, &item) in input.chunks_exact_mut(len).zip(items) {
                to.copy_from_slice(&tap[item * len..][..len]);
            }
        }
    }

    /// The targets of a batch of these items.
    pub(crate) fn targets(&self, items: &[usize]) -> Vec<Target> {
        let of = |(image, &item): (usize, &usize)| {
            self.targets[item].iter().map(move |target| Target { image: image as u32, ..*target })
        };
        items.iter().enumerate().flat_map(of).collect()
    }

    /// The true class of each item, of a classifier.
    pub fn classes(&self) -> Vec<usize> {
        self.targets.iter().map(|t| t.first().map_or(0, |t| t.label.class as usize)).collect()
    }

    /// The first tensor's values of each item.
    pub fn vectors(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.taps[0].chunks_exact(self.lens[0])
    }
}

/// The trained part of a classifier, run on kept features.
pub struct HeadNetwork {
    model: Model,
    trainable: Trainable,
    pool: Arc<rayon::ThreadPool>,
}

impl HeadNetwork {
    /// Takes the model and what of it is trained.
    pub fn new(model: &Model, trainable: Trainable, pool: Arc<rayon::ThreadPool>) -> HeadNetwork {
        HeadNetwork { model: model.clone(), trainable, pool }
    }

    /// Logits of all items, `[items, classes]`.
    ///
    /// # Errors
    /// See [`FeaturesError`].
    pub fn logits(&self, params: &Params, features: &Features) -> Result<Vec<f32>, FeaturesError> {
        const BATCH: usize = 64;
        let [_, h, w, _] = self.model.input;
        let items: Vec<usize> = (0..features.targets.len()).collect();
        let mut logits = Vec::new();
        let mut run: Option<(usize, Executor)> = None;
        for batch in items.chunks(BATCH) {
            if run.as_ref().is_none_or(|(made, _)| *made != batch.len()) {
                let head = cut(&self.model.resized([batch.len(), h, w])?.graph, &self.trainable)?.head;
                let plan = Plan::new(&head, Mode::Inference, &Trainable::nothing(&head));
                let mut executor = Executor::new(Arc::new(plan), Arc::clone(&self.pool));
                executor.prepare(params);
                run = Some((batch.len(), executor));
            }
            let (_, executor) = run.as_mut().expect("made above");
            features.gather(batch, executor);
            executor.forward();
            logits.extend_from_slice(executor.output(0));
        }
        Ok(logits)
    }
}
