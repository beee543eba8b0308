//! An ONNX file as its user runs it: by rten, a runtime that shares no code with this program.

use rten::{Model, ModelOptions, Value, ValueOrView};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

use super::dense::{choose, probabilities};
use super::{Classifying, Exported, ProofError};
use crate::boxes::{Detection, Xyxy};
use crate::data::letterbox::Letterbox;
use crate::evaluate::Postprocess;
use crate::predict::View;

/// A loaded file.
pub struct OnnxFile {
    model: Model,
    names: Vec<String>,
    /// Height and width of the network's input.
    canvas: [usize; 2],
    rules: Postprocess,
    /// The graph takes pictures of bytes.
    takes_pictures: bool,
    /// The graph gives boxes, not all anchors.
    gives_boxes: bool,
}

impl OnnxFile {
    /// Loads a file; class names and size come from its metadata. `rules` choose the boxes where the graph does not.
    ///
    /// # Errors
    /// The runtime refuses it, or its metadata lack names or size.
    pub fn load(bytes: Vec<u8>, rules: &Postprocess) -> Result<OnnxFile, ProofError> {
        let refused = |e: &dyn std::fmt::Display| ProofError::Runtime(e.to_string());
        let meta = onsa_intake::checkpoint::read_bytes(&bytes).map_err(|e| refused(&e))?.meta;
        // As written, without fusion: values within the graph are looked at by their names.
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(false);
        let model = options.load(bytes).map_err(|e| refused(&e))?;
        let (Some(names), Some([height, width])) = (meta.names, meta.imgsz) else {
            return Err(ProofError::Output("its metadata name no classes or no image size".into()));
        };
        let named = |name: &str| model.find_node(name).is_some();
        Ok(OnnxFile {
            takes_pictures: named("image"),
            gives_boxes: named("boxes"),
            names,
            canvas: [height as usize, width as usize],
            rules: rules.clone(),
            model,
        })
    }

    /// Runs the graph on its one input and gives the named outputs.
    ///
    /// # Errors
    /// The runtime refuses.
    pub fn run(&self, input: ValueOrView<'_>, outputs: &[&str]) -> Result<Vec<Value>, ProofError> {
        let refused = |e: rten::RunError| ProofError::Runtime(e.to_string());
        let ids = outputs.iter().map(|name| self.model.node_id(name)).collect::<Result<Vec<_>, _>>();
        self.model
            .run(vec![(self.model.input_ids()[0], input)], &ids.map_err(refused)?, None)
            .map_err(refused)
    }

    fn input(&self, image: &View) -> (Value, Option<Letterbox>) {
        if self.takes_pictures {
            return (bytes(image), None);
        }
        let (letterbox, canvas) = image.fitted(self.canvas);
        (planes(&canvas, self.canvas), Some(letterbox))
    }
}

/// A picture's bytes, `[height, width, 3]`.
fn bytes(image: &View) -> Value {
    let image = image.shown();
    NdTensor::from_data([image.height, image.width, 3], image.data.clone()).into()
}

/// `[1, channels, height, width]` of `[height, width, channels]`.
fn planes(pixels: &[f32], [height, width]: [usize; 2]) -> Value {
    let channels = pixels.len() / (height * width);
    let plane = |channel| pixels.iter().skip(channel).step_by(channels).copied();
    let planes: Vec<f32> = (0..channels).flat_map(plane).collect();
    NdTensor::from_data([1, channels, height, width], planes).into()
}

impl Classifying for OnnxFile {
    fn runtime(&self) -> &'static str {
        "rten"
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn scores(&mut self, image: &View) -> Result<Vec<f32>, ProofError> {
        let input = if self.takes_pictures {
            bytes(image)
        } else {
            planes(&image.centre(self.canvas[0] as u32), self.canvas)
        };
        let mut outputs = self.run((&input).into(), &["output0"])?;
        let scores: Tensor<f32> = outputs
            .pop()
            .and_then(|v| v.try_into().ok())
            .ok_or_else(|| ProofError::Output("output0 is not float32".into()))?;
        probabilities(scores.shape(), scores.to_vec(), self.names.len())
    }
}

impl Exported for OnnxFile {
    fn runtime(&self) -> &'static str {
        "rten"
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn detect(&mut self, image: &View) -> Result<Vec<Detection>, ProofError> {
        let (input, letterbox) = self.input(image);
        let mut found = if self.gives_boxes {
            chosen(self.suppressed(&input)?)?
        } else {
            let mut outputs = self.run((&input).into(), &["output0"])?;
            let all: Tensor<f32> = outputs
                .pop()
                .and_then(|v| v.try_into().ok())
                .ok_or_else(|| ProofError::Output("output0 is not float32".into()))?;
            choose(all.shape(), &all.to_vec(), self.names.len(), &self.rules)?
        };
        let (width, height) = image.size();
        let (width, height) = (width as f32, height as f32);
        for Detection { bbox, .. } in &mut found {
            *bbox = match &letterbox {
                Some(letterbox) => letterbox.box_to_source(bbox),
                // Already in the picture; a graph that gives all anchors does not cut them off at its borders.
                None => Xyxy {
                    x1: bbox.x1.clamp(0.0, width),
                    y1: bbox.y1.clamp(0.0, height),
                    x2: bbox.x2.clamp(0.0, width),
                    y2: bbox.y2.clamp(0.0, height),
                },
            };
        }
        Ok(found)
    }
}

impl OnnxFile {
    /// The outputs of a graph with suppression. rten's own operator takes the enclosing box for the union and does not tell
    /// classes apart (0.27), so this one operator is computed here, as the specification has it, between what comes before
    /// it and what comes after.
    fn suppressed(&self, input: &Value) -> Result<Vec<Value>, ProofError> {
        let refused = |e: rten::RunError| ProofError::Runtime(e.to_string());
        let wrong = || ProofError::Output("the suppression's inputs are not float32".into());
        let mut inputs = self.run(input.into(), &["corners.out", "candidates.out"])?.into_iter();
        let mut next = || inputs.next().and_then(|v| Tensor::<f32>::try_from(v).ok()).ok_or_else(wrong);
        let (corners, candidates) = (next()?, next()?);
        let selected = select(&corners.to_vec(), &candidates.to_vec(), &self.rules);
        let selected: Value = NdTensor::from_data([selected.len() / 3, 3], selected).into();
        let at = self.model.node_id("suppression.out").map_err(refused)?;
        let names = ["boxes", "scores", "classes", "count"];
        let outputs = names.iter().map(|name| self.model.node_id(name)).collect::<Result<Vec<_>, _>>();
        let given = vec![(self.model.input_ids()[0], input.into()), (at, (&selected).into())];
        self.model.run(given, &outputs.map_err(refused)?, None).map_err(refused)
    }
}

/// ONNX's NonMaxSuppression on one image: rows (0, class, anchor), class by class. `corners` are `[anchors, 4]`, `candidates`
/// `[classes, anchors]`.
fn select(corners: &[f32], candidates: &[f32], rules: &Postprocess) -> Vec<i32> {
    let anchors = corners.len() / 4;
    let bbox = |anchor: usize| {
        let c = &corners[anchor * 4..][..4];
        Xyxy { x1: c[0], y1: c[1], x2: c[2], y2: c[3] }
    };
    let mut out = Vec::new();
    for (class, scores) in candidates.chunks_exact(anchors.max(1)).enumerate() {
        let mut order: Vec<usize> = (0..anchors).filter(|&a| scores[a] > rules.conf).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let mut kept: Vec<usize> = Vec::new();
        for anchor in order {
            if kept.len() < rules.max_det && kept.iter().all(|&k| bbox(k).iou(&bbox(anchor)) <= rules.iou) {
                kept.push(anchor);
                out.extend([0, class as i32, anchor as i32]);
            }
        }
    }
    out
}

/// The detections of a graph that chooses them itself.
fn chosen(outputs: Vec<Value>) -> Result<Vec<Detection>, ProofError> {
    let wrong = || ProofError::Output("boxes, scores, classes and count have unexpected types".into());
    let [boxes, scores, classes, count] = <[Value; 4]>::try_from(outputs).map_err(|_| wrong())?;
    let floats = |value: Value| Tensor::<f32>::try_from(value).map(|t| t.to_vec()).map_err(|_| wrong());
    let whole = |value: Value| Tensor::<i32>::try_from(value).map(|t| t.to_vec()).map_err(|_| wrong());
    let (boxes, scores, classes, count) = (floats(boxes)?, floats(scores)?, whole(classes)?, whole(count)?);
    let count = count.first().map_or(0, |&c| c.max(0) as usize);
    if boxes.len() != 4 * scores.len() || classes.len() != scores.len() || count > scores.len() {
        return Err(ProofError::Output(format!(
            "{count} boxes are announced, there are {} edges, {} scores and {} classes",
            boxes.len(),
            scores.len(),
            classes.len()
        )));
    }
    let found = boxes.chunks_exact(4).zip(&scores).zip(&classes).take(count);
    Ok(found
        .map(|((b, &score), &class)| Detection {
            class: class as u32,
            score,
            bbox: Xyxy { x1: b[0], y1: b[1], x2: b[2], y2: b[3] },
        })
        .collect())
}
