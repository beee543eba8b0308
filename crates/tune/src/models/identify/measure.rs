//! Architectures read off the names and shapes of tensors.

use crate::models::architecture::{Architecture, Model};
use crate::models::error::ModelError;
use crate::models::registry::{Family, Task};
use crate::models::scaling::{Scale, Scaling};
use crate::models::weights::Names;

/// Takes classes, class width and image channels from the tensors, where they are there.
pub(super) fn read_sizes(architecture: &mut Architecture, names: &Names) {
    if let Some(&[_, channels, _, _]) = names.shape(architecture.first_weight()) {
        architecture.image_channels = channels;
    }
    if architecture.task == Task::Classify {
        let layer = &architecture.class_layers()[0];
        if let Some(&[classes, _]) = names.shape(&format!("{layer}.weight")) {
            architecture.classes = classes;
        }
        return;
    }
    let head = architecture.head_index();
    if let Some(&[classes, width, 1, 1]) = names.shape(&format!("model.{head}.cv3.0.2.weight")) {
        architecture.classes = classes;
        architecture.class_width = Some(width);
    }
    architecture.read_branches(names);
}

pub(super) fn from_names(names: &Names) -> Result<Architecture, ModelError> {
    if let Some(classifier) = classifier_from_names(names) {
        return Ok(classifier);
    }
    let has_head = |family: &Family| {
        let head = Architecture::published(*family, Scale::N, 1).head_index();
        names.shape(&format!("model.{head}.cv2.0.0.conv.weight")).is_some()
    };
    let mut families: Vec<Family> = Family::DETECTORS.into_iter().filter(has_head).collect();
    if families.is_empty() {
        families = Family::DETECTORS.to_vec();
    }
    let mut best: Option<(f64, Architecture)> = None;
    for family in families {
        let published = Scale::ALL.map(|scale| Some(Architecture::published(family, scale, 80)));
        for mut candidate in published.into_iter().chain([measured(family, names)]).flatten() {
            read_sizes(&mut candidate, names);
            let fit = fit(&candidate, names);
            if best.as_ref().is_none_or(|(most, _)| fit > *most) {
                best = Some((fit, candidate));
            }
        }
    }
    match best {
        Some((fit, architecture)) if fit >= 0.5 => Ok(architecture),
        best => Err(ModelError::Unidentified(match best {
            Some((fit, nearest)) if fit > 0.0 => format!(
                "the nearest is {}, of whose convolutions {:.0} % are there; supported are yolov8, yolo11 and yolo12 for detection, yolov8, yolo11, efficientnet_lite, resnet and mobilenet_v3 for classification",
                nearest.name(),
                fit * 100.0
            ),
            _ => "none of its names is a convolution of yolov8, yolo11 or yolo12 (such as `model.0.conv.weight`)".into(),
        })),
    }
}

/// The classification network whose logits layer is there and whose convolutions all fit: of several (ResNet-18 is a
/// part of ResNet-34) the largest.
fn classifier_from_names(names: &Names) -> Option<Architecture> {
    let published = Family::CLASSIFIERS.into_iter().flat_map(|family| {
        family.scales().iter().map(move |&scale| Architecture::published_classifier(family, scale, 1))
    });
    let of_yolo = [Family::Yolov8, Family::Yolo11].into_iter().filter_map(|family| {
        let Architecture { scaling, all_c3k, .. } = measured(family, names)?;
        Some(Architecture { all_c3k, ..Architecture::custom_classifier(family, scaling, None, 1) })
    });
    let fitting = published.chain(of_yolo).filter_map(|mut candidate| {
        let layer = &candidate.class_layers()[0];
        names.shape(&format!("{layer}.weight"))?;
        read_sizes(&mut candidate, names);
        (fit(&candidate, names) == 1.0).then_some(candidate)
    });
    // Of equal ones the first: a published size before a measured one.
    let size = |a: &Architecture| Model::build(a, [1, 32, 32]).map_or(0, |model| model.parameter_count());
    let fitting: Vec<(usize, Architecture)> = fitting.map(|a| (size(&a), a)).collect();
    let largest = fitting.iter().map(|(size, _)| *size).max()?;
    fitting.into_iter().find(|(size, _)| *size == largest).map(|(_, a)| a)
}

/// Share of an architecture's convolution weights that are there, in the right shape.
fn fit(architecture: &Architecture, names: &Names) -> f64 {
    let Ok(model) = Model::build(architecture, [1, 32, 32]) else { return 0.0 };
    let weights = model.graph.params().iter().filter(|p| p.shape.len() == 4);
    let (mut all, mut there) = (0, 0);
    for weight in weights {
        all += 1;
        there += usize::from(names.shape(&weight.name) == Some(&weight.shape));
    }
    f64::from(there as u32) / f64::from(all.max(1) as u32)
}

/// Multiples of another than the published sizes, measured off the tensors.
fn measured(family: Family, names: &Names) -> Option<Architecture> {
    let out =
        |name: &str| names.shape(&format!("{name}.conv.weight")).and_then(|shape| shape.first().copied());
    // Rounding to eights hides the width in thin layers and the cap in wide ones: take the widest layer below the cap.
    let (at256, at512, at1024) = (out("model.3")?, out("model.5")?, out("model.7")?);
    let width = match (at512 == 2 * at256, at1024 == 2 * at512) {
        (true, true) => at1024 as f64 / 1024.0,
        (true, false) => at512 as f64 / 512.0,
        (false, _) => at256 as f64 / 256.0,
    };
    let uncapped = Scaling { depth: 1.0, width, max_channels: 1024 };
    let max_channels = if at1024 < uncapped.channels(1024) { (at1024 as f64 / width) as usize } else { 1024 };
    // The block with the most repeats tells the depth best.
    let (block, listed) = match family {
        Family::Yolov8 => ("model.4", 6),
        Family::Yolo11 => ("model.2", 2),
        _ => ("model.6", 4),
    };
    let marker = if family == Family::Yolo12 { "0.attn.qkv.conv.weight" } else { "cv1.conv.weight" };
    let repeats = (0..).take_while(|j| names.shape(&format!("{block}.m.{j}.{marker}")).is_some()).count();
    let depth = repeats as f64 / listed as f64;
    let mut architecture = Architecture::custom(family, Scaling { depth, width, max_channels }, None, 80);
    architecture.all_c3k = family != Family::Yolov8 && names.shape("model.2.m.0.cv3.conv.weight").is_some();
    architecture.residual = family == Family::Yolo12 && names.shape("model.6.gamma").is_some();
    Some(architecture)
}
