//! A LiteRT file in the interpreter of this program.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dense::{choose, probabilities};
use super::litert::Interpreter;
use super::{Classifying, Exported, ProofError};
use crate::boxes::Detection;
use crate::evaluate::Postprocess;
use crate::predict::View;

/// What `export.json` says ran it.
const RUNTIME: &str = "onsa's interpreter of LiteRT";

/// A loaded file.
pub struct LiteRtFile {
    interpreter: Interpreter,
    names: Vec<String>,
    /// Height and width of the input.
    canvas: [usize; 2],
    rules: Postprocess,
}

impl LiteRtFile {
    /// Loads a file; class names come from its metadata. `rules` choose a detector's boxes.
    ///
    /// # Errors
    /// It is damaged, or its metadata lack the names.
    pub fn load(
        bytes: &[u8],
        rules: &Postprocess,
        pool: &Arc<rayon::ThreadPool>,
    ) -> Result<LiteRtFile, ProofError> {
        let interpreter = Interpreter::load(bytes, pool)?;
        let nameless = || ProofError::Output("its metadata name no classes".into());
        let text = interpreter.model().metadata.iter().find(|(name, _)| name == "metadata.json");
        let (_, text) = text.ok_or_else(nameless)?;
        let entries: BTreeMap<String, String> =
            serde_json::from_str(text).map_err(|e| ProofError::Output(format!("its metadata: {e}")))?;
        let meta = onsa_intake::checkpoint::export_meta(entries)
            .map_err(|e| ProofError::Output(format!("its metadata: {e}")))?;
        let &[_, height, width, _] = interpreter.input_shape()? else {
            return Err(ProofError::Output(format!("its input is {:?}", interpreter.input_shape()?)));
        };
        let names = meta.names.ok_or_else(nameless)?;
        Ok(LiteRtFile { interpreter, names, canvas: [height, width], rules: rules.clone() })
    }
}

impl Exported for LiteRtFile {
    fn runtime(&self) -> &'static str {
        RUNTIME
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn detect(&mut self, image: &View) -> Result<Vec<Detection>, ProofError> {
        let [height, width] = self.canvas;
        let (letterbox, pixels) = image.fitted(self.canvas);
        let (shape, mut values) = self.interpreter.run(pixels)?;
        // Boxes come as fractions of the input.
        if let &[_, rows, anchors] = shape
            && rows > 4
        {
            for (row, values) in values.chunks_exact_mut(anchors.max(1)).enumerate().take(4) {
                let side = if row % 2 == 0 { width } else { height } as f32;
                values.iter_mut().for_each(|v| *v *= side);
            }
        }
        let mut found = choose(shape, &values, self.names.len(), &self.rules)?;
        for detection in &mut found {
            detection.bbox = letterbox.box_to_source(&detection.bbox);
        }
        Ok(found)
    }
}

impl Classifying for LiteRtFile {
    fn runtime(&self) -> &'static str {
        RUNTIME
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn scores(&mut self, image: &View) -> Result<Vec<f32>, ProofError> {
        let (shape, values) = self.interpreter.run(image.centre(self.canvas[0] as u32))?;
        probabilities(shape, values, self.names.len())
    }
}
