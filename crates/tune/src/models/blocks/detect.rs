//! The detection head: a box branch and a class branch a level, decoupled and without anchors (Ge et al., 2021,
//! arXiv:2107.08430); a box side is a distribution over [`BOX_BINS`] distances (Li et al., 2020, arXiv:2006.04388).

use onsa_compute::graph::{Conv, Graph, Value};

use super::{conv, depthwise};

/// Bins of each box side's distance distribution: distances of 0 to 15 strides.
pub const BOX_BINS: usize = 16;

/// How the class branch is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassBranch {
    /// Two 3x3 convolutions (YOLOv8).
    Dense,
    /// Two pairs of a 3x3 depthwise and a 1x1 convolution (YOLO11, YOLO12).
    Separable,
}

/// A head's sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The module's dotted name.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Hidden channels of the class branch.
    pub class_width: usize,
    /// The class branch's form.
    pub branch: ClassBranch,
}

impl Head {
    /// Hidden channels of the box branch, given the channels of the first level.
    pub fn box_width(first_level_channels: usize) -> usize {
        (first_level_channels / 4).max(4 * BOX_BINS)
    }

    /// Hidden channels of a fresh class branch, given the channels of the first level.
    pub fn fresh_class_width(first_level_channels: usize, classes: usize) -> usize {
        first_level_channels.max(classes.min(100))
    }
}

/// Raw results a level: `[n, h, w, 4 * BOX_BINS + classes]`, box logits (left, top, right, bottom) before class logits.
pub fn detect(g: &mut Graph, levels: &[Value], head: &Head) -> Vec<Value> {
    let box_width = Head::box_width(g.shape(levels[0])[3]);
    let mut results = Vec::with_capacity(levels.len());
    for (l, &x) in levels.iter().enumerate() {
        let boxes = format!("{}.cv2.{l}", head.name);
        let b = conv(g, x, &format!("{boxes}.0"), box_width, 3, 1);
        let b = conv(g, b, &format!("{boxes}.1"), box_width, 3, 1);
        let b = logits(g, b, &format!("{boxes}.2"), 4 * BOX_BINS);

        let classes = format!("{}.cv3.{l}", head.name);
        let width = head.class_width;
        let c = match head.branch {
            ClassBranch::Dense => {
                let c = conv(g, x, &format!("{classes}.0"), width, 3, 1);
                conv(g, c, &format!("{classes}.1"), width, 3, 1)
            }
            ClassBranch::Separable => {
                let c = depthwise(g, x, &format!("{classes}.0.0"), 3);
                let c = conv(g, c, &format!("{classes}.0.1"), width, 1, 1);
                let c = depthwise(g, c, &format!("{classes}.1.0"), 3);
                conv(g, c, &format!("{classes}.1.1"), width, 1, 1)
            }
        };
        let c = logits(g, c, &format!("{classes}.2"), head.classes);
        results.push(g.concat(&[b, c]));
    }
    results
}

/// A 1x1 convolution with bias and without norm.
fn logits(g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
    let conv = Conv {
        name: name.to_owned(),
        out,
        kernel: (1, 1),
        stride: (1, 1),
        pad: [0; 4],
        groups: 1,
        bias: true,
    };
    g.conv2d(x, conv)
}
