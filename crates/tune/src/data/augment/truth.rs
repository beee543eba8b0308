//! A labelled box in pixels, as the augmentation moves it.

use crate::boxes::{Label, Xyxy};

/// One labelled object in pixels of the image at hand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Index into the data set's class names.
    pub class: u32,
    /// Where.
    pub bbox: Xyxy,
}

impl Truth {
    /// The labels of an image that is drawn `width` x `height` pixels large at (`left`, `top`).
    pub fn place(labels: &[Label], width: f32, height: f32, left: f32, top: f32) -> Vec<Truth> {
        let place = |label: &Label| {
            let b = label.to_xyxy(width, height);
            let bbox = Xyxy { x1: b.x1 + left, y1: b.y1 + top, x2: b.x2 + left, y2: b.y2 + top };
            Truth { class: label.class, bbox }
        };
        labels.iter().map(place).collect()
    }
}

/// The part of the box within 0..width, 0..height.
pub fn clip(bbox: &Xyxy, width: f32, height: f32) -> Xyxy {
    Xyxy {
        x1: bbox.x1.clamp(0.0, width),
        y1: bbox.y1.clamp(0.0, height),
        x2: bbox.x2.clamp(0.0, width),
        y2: bbox.y2.clamp(0.0, height),
    }
}

/// Cuts every box off at the edges of a `width` x `height` image and drops those of which nothing is left.
pub fn clip_all(truths: &mut Vec<Truth>, width: f32, height: f32) {
    truths.retain_mut(|truth| {
        truth.bbox = clip(&truth.bbox, width, height);
        truth.bbox.area() > 0.0
    });
}
