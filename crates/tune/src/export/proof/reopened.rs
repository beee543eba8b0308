//! A file of weights, read back and run on the engine: it proves the file, not the engine.

use std::sync::Arc;

use onsa_intake::checkpoint::Checkpoint;

use super::{Classifying, Exported, ProofError, detect, model_scores};
use crate::boxes::Detection;
use crate::engine::Inference;
use crate::evaluate::Postprocess;
use crate::models::open::Opened;
use crate::models::{ClassMap, WeightSource, identify, load};
use crate::predict::View;

/// The model that was read back.
pub struct Reopened {
    network: Inference,
    names: Vec<String>,
    canvas: [usize; 2],
    rules: Postprocess,
}

impl Reopened {
    /// Finds out what the file holds as for any foreign file, and loads it.
    ///
    /// # Errors
    /// It is another model than the one that was written.
    pub fn new(
        checkpoint: &Checkpoint,
        opened: &Opened,
        rules: &Postprocess,
        pool: &Arc<rayon::ThreadPool>,
    ) -> Result<Reopened, ProofError> {
        let found = identify::identify(checkpoint.meta.yaml.as_ref(), &checkpoint.tensors())?;
        let [_, height, width, _] = opened.model.input;
        let model = crate::models::Model::build(&found, [1, height, width])?;
        let params = load(&model, checkpoint, &ClassMap::identity(found.classes), 0)?;
        Ok(Reopened {
            network: Inference::new(&model, params, Arc::clone(pool)),
            names: checkpoint.meta.names.clone().unwrap_or_else(|| opened.names.clone()),
            canvas: [height, width],
            rules: rules.clone(),
        })
    }
}

impl Exported for Reopened {
    fn runtime(&self) -> &'static str {
        "onsa, from the file"
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn detect(&mut self, image: &View) -> Result<Vec<Detection>, ProofError> {
        detect(&mut self.network, image, self.canvas, &self.rules)
    }
}

impl Classifying for Reopened {
    fn runtime(&self) -> &'static str {
        "onsa, from the file"
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn scores(&mut self, image: &View) -> Result<Vec<f32>, ProofError> {
        model_scores(&mut self.network, image, self.canvas[0])
    }
}
