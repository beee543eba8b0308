//! What a PyTorch file says about its model: Ultralytics' attributes and the keys of its checkpoints.

use serde_json::Value as Json;

use super::super::error::CheckpointError;
use super::super::meta::Meta;
use super::super::pickle::{Graph, Value};
use super::contents::Model;
use super::tensors::{Entry, View, entry};

/// Gathers what stands beside the weights, all but the strides: see [`stride`].
pub fn meta(
    graph: &Graph,
    root: Value,
    model: &Model,
    skipped: Vec<String>,
) -> Result<Meta, CheckpointError> {
    let beside = |key: &str| if model.source == "root" { None } else { graph.item(root, key) };
    let own = |name: &str| graph.attribute(model.module?, name);
    let text = |v: Option<Value>| v.and_then(|v| graph.str(v)).map(str::to_owned);
    let json = |v: Option<Value>| match v {
        None | Some(Value::None) => Ok(None),
        Some(v) => graph.json(v).map(Some),
    };

    let class = model.module.and_then(|m| graph.class(m)).map(ToString::to_string);
    let yaml = json(own("yaml"))?.filter(Json::is_object);
    let train_args = match json(beside("train_args"))? {
        Some(args) => Some(args),
        None => json(own("args"))?.or(json(beside("args"))?),
    };
    let train_args = train_args.filter(Json::is_object);
    let names = match json(own("names"))? {
        Some(names) => Some(names),
        None => json(beside("names"))?,
    };
    let names = names.and_then(|n| class_names(&n));
    let nc = own("nc").and_then(|v| graph.integer(v)).and_then(|n| u32::try_from(n).ok());
    let nc = nc.or_else(|| u32::try_from(yaml.as_ref()?.get("nc")?.as_u64()?).ok());
    let nc = nc.or_else(|| names.as_ref().and_then(|n| u32::try_from(n.len()).ok()));
    let argument =
        |key: &str| train_args.as_ref().and_then(|a| a.get(key)).and_then(Json::as_str).map(str::to_owned);
    Ok(Meta {
        task: text(own("task")).or_else(|| argument("task")).or_else(|| task_of(class.as_deref()?)),
        imgsz: train_args.as_ref().and_then(|a| image_size(a.get("imgsz")?)),
        producer: producer(class.as_deref()),
        licence: text(beside("license")),
        version: text(beside("version")),
        date: text(beside("date")),
        epoch: beside("epoch").and_then(|v| graph.integer(v)),
        model_class: class,
        source: Some(model.source.clone()),
        yaml,
        names,
        nc,
        train_args,
        skipped,
        ..Meta::default()
    })
}

/// The module's attribute `stride`: a tensor (pixels a cell, by level), or plain numbers.
pub fn stride(graph: &Graph, model: &Model) -> Result<Stride, CheckpointError> {
    let Some(v) = model.module.and_then(|m| graph.attribute(m, "stride")) else { return Ok(Stride::Absent) };
    if let Entry::Tensor(view) = entry(graph, v, "stride")? {
        return Ok(Stride::Tensor(view));
    }
    #[allow(clippy::cast_possible_truncation, reason = "strides are small powers of two")]
    let numbers = |items: &[Value]| {
        items.iter().map(|&i| graph.number(i).map(|n| n as f32)).collect::<Option<Vec<_>>>()
    };
    Ok(match graph.sequence(v) {
        Some(items) => numbers(items).map_or(Stride::Absent, Stride::Plain),
        None => numbers(&[v]).map_or(Stride::Absent, Stride::Plain),
    })
}

/// Where a module's strides are.
pub enum Stride {
    Absent,
    Plain(Vec<f32>),
    Tensor(View),
}

/// A list of names, or a dictionary from the index to the name; indices must run from 0 without a gap.
pub fn class_names(names: &Json) -> Option<Vec<String>> {
    match names {
        Json::Array(list) => list.iter().map(|n| n.as_str().map(str::to_owned)).collect(),
        Json::Object(map) => {
            let mut out = vec![None; map.len()];
            for (index, name) in map {
                *out.get_mut(index.parse::<usize>().ok()?)? = Some(name.as_str()?.to_owned());
            }
            out.into_iter().collect()
        }
        _ => None,
    }
}

/// One number for both sides, or [height, width].
pub fn image_size(v: &Json) -> Option<[u32; 2]> {
    let side = |v: &Json| u32::try_from(v.as_u64()?).ok().filter(|&s| s > 0);
    match v {
        Json::Array(sides) => match &sides[..] {
            [one] => side(one).map(|s| [s, s]),
            [h, w] => Some([side(h)?, side(w)?]),
            _ => None,
        },
        one => side(one).map(|s| [s, s]),
    }
}

fn task_of(class: &str) -> Option<String> {
    let task = match class.rsplit('.').next()? {
        "DetectionModel" | "RTDETRDetectionModel" | "WorldModel" | "YOLOEModel" => "detect",
        "SegmentationModel" | "YOLOESegModel" => "segment",
        "ClassificationModel" => "classify",
        "PoseModel" => "pose",
        "OBBModel" => "obb",
        "Model" if class.starts_with("models.yolo") => "detect",
        _ => return None,
    };
    Some(task.to_owned())
}

fn producer(class: Option<&str>) -> Option<String> {
    match class?.split('.').next()? {
        "ultralytics" => Some("Ultralytics".to_owned()),
        "models" => Some("YOLOv5".to_owned()),
        "torchvision" => Some("torchvision".to_owned()),
        _ => None,
    }
}
