//! Which weights a run validates, and how.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onsa_compute::Params;

use super::{Run, TrainError, start};
use crate::data::cache::ImageCache;
use crate::data::val_loader::ValConfig;
use crate::engine::StepError;
use crate::evaluate::classify::{validate_classifier, validate_logits};
use crate::evaluate::validate::{ValidateOptions, validate};
use crate::evaluate::{Postprocess, Validated};
use crate::models::Task;
use crate::train::observer::Observer;

impl Run<'_> {
    /// The averaged weights as they are saved.
    pub(super) fn averaged(&self) -> Params {
        self.deployed(self.ema.values())
    }

    /// The plain network's parameters, of those of the network that is trained.
    pub(super) fn deployed(&self, values: &[f32]) -> Params {
        let values = self.prepared.network.merged(values).into_owned();
        Params { infos: self.prepared.opened.params.infos.clone(), values }
    }

    /// How validation images are loaded.
    pub(super) fn val_config(&self) -> ValConfig {
        ValConfig {
            imgsz: self.recipe.imgsz,
            batch: 2 * self.recipe.batch as usize,
            workers: start::workers(self.recipe),
            single_cls: self.recipe.single_cls,
            ..ValConfig::default()
        }
    }

    /// These weights' figures on the validation images; `keep`: with what is found on each.
    pub(super) fn validation(
        &mut self,
        params: &Params,
        keep: bool,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Validated, TrainError> {
        let images = Arc::clone(&self.val_cache);
        self.validation_on(&images, params, keep, observer, stop)
    }

    /// The same on any images of the run, without augmentation.
    pub(super) fn validation_on(
        &mut self,
        images: &Arc<ImageCache>,
        params: &Params,
        keep: bool,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Validated, TrainError> {
        let loader = self.val_config();
        let names = &self.prepared.opened.names;
        if let Some((features, head)) = &self.val_features {
            let logits = head.logits(params, features).map_err(StepError::Features)?;
            return Ok(Validated::Classify(validate_logits(&logits, &features.classes(), names)?));
        }
        let progress = |done, all| {
            observer.validating(done, all);
            !stop.load(Ordering::Relaxed)
        };
        // Of classes that the labels do not cover, nothing can be right or wrong.
        let classes = self.prepared.added.as_ref().map(|added| added.labelled_classes());
        let postprocess = Postprocess { classes, ..Postprocess::validation() };
        let options = ValidateOptions { loader, postprocess, keep };
        if let Some(gpu) = &mut self.gpu {
            return Ok(gpu.validate(&params.values, images, names, &options, progress)?);
        }
        Ok(match self.step.task() {
            Task::Detect => {
                self.network.set_params(params);
                let loss = Some(&mut self.val_loss);
                let found = validate(&mut self.network, images, names, &options, loss, progress)?;
                Validated::Detect(found)
            }
            Task::Classify => {
                self.network.set_params(params);
                let loader = options.loader;
                let found = validate_classifier(&mut self.network, images, names, loader, progress)?;
                Validated::Classify(found)
            }
        })
    }
}
