//! Model descriptions, read and written: Ultralytics' lists of layers with multiples, and for the families that have
//! no such list their name with its multiples.

use serde_json::{Map, Value as Json, json};

use crate::models::architecture::Architecture;
use crate::models::error::ModelError;
use crate::models::registry::{Family, Task};
use crate::models::scaling::{Scale, Scaling};
use crate::models::{yolo11, yolo12, yolov8};

/// The networks that are described by a list of layers.
const LISTED: [(Family, Task); 5] = [
    (Family::Yolov8, Task::Detect),
    (Family::Yolo11, Task::Detect),
    (Family::Yolo12, Task::Detect),
    (Family::Yolov8, Task::Classify),
    (Family::Yolo11, Task::Classify),
];

/// A network's layers as its description lists them.
fn layers((family, task): (Family, Task)) -> Vec<&'static str> {
    match (family, task) {
        (Family::Yolov8, Task::Classify) => with_head(&yolov8::LAYERS[..9], None),
        (Family::Yolo11, Task::Classify) => with_head(&yolo11::LAYERS[..9], Some("-1 2 C2PSA 1024")),
        (Family::Yolov8, _) => yolov8::LAYERS.to_vec(),
        (Family::Yolo11, _) => yolo11::LAYERS.to_vec(),
        _ => yolo12::LAYERS.to_vec(),
    }
}

/// A classifier's layers: the detector's backbone, what stands between, and the head.
fn with_head(backbone: &[&'static str], between: Option<&'static str>) -> Vec<&'static str> {
    backbone.iter().copied().chain(between).chain(["-1 1 Classify nc"]).collect()
}

/// A description of a family that has no list of layers, as [`Architecture::description`] writes it.
fn described_by_name(map: &Map<String, Json>) -> Result<Architecture, ModelError> {
    let bad = |reason: String| ModelError::Description(reason);
    let named = map.get("family").and_then(Json::as_str).unwrap_or_default();
    let family = Family::CLASSIFIERS
        .into_iter()
        .find(|family| family.name() == named)
        .ok_or_else(|| bad(format!("its family `{named}` is not known")))?;
    let number =
        |key: &str| map.get(key).and_then(Json::as_f64).ok_or_else(|| bad(format!("it has no `{key}`")));
    let (depth, width) = (number("depth")?, number("width")?);
    let classes = map.get("nc").and_then(Json::as_u64).unwrap_or(1000) as usize;
    let published =
        family.scales().iter().map(|&scale| Architecture::published_classifier(family, scale, classes));
    let same = |a: &Architecture| a.scaling.depth == depth && a.scaling.width == width;
    let mut architecture = published.into_iter().find(same).unwrap_or_else(|| {
        let scaling = Scaling { depth, width, ..family.scaling(Scale::N) };
        Architecture::custom_classifier(family, scaling, None, classes)
    });
    if let Some(channels) = map.get("channels").and_then(Json::as_u64) {
        architecture.image_channels = channels as usize;
    }
    Ok(architecture)
}

/// What a description says.
pub(super) enum Described {
    Full(Architecture),
    FamilyAlone(Family),
}

/// What a description without `family` may say beside its layers.
const FIXED: [(&str, &str); 3] = [("activation", "SiLU"), ("end2end", "false"), ("reg_max", "16")];

pub(super) fn described(description: &Json) -> Result<Described, ModelError> {
    let bad = |reason: String| ModelError::Description(reason);
    let map = description.as_object().ok_or_else(|| bad("it is no mapping".into()))?;
    if map.contains_key("family") {
        return described_by_name(map).map(Described::Full);
    }
    for (key, supported) in FIXED {
        let value = map.get(key).map(text).unwrap_or_default();
        let fits = match key {
            "activation" => value.contains(supported),
            _ => value.eq_ignore_ascii_case(supported),
        };
        if !value.is_empty() && value != "None" && !fits {
            return Err(bad(format!("`{key}` is {value}; only {supported} is supported")));
        }
    }

    let mut rows = Vec::new();
    for part in ["backbone", "head"] {
        let list =
            map.get(part).and_then(Json::as_array).ok_or_else(|| bad(format!("it has no list `{part}`")))?;
        for row in list {
            rows.push(Row::read(row).ok_or_else(|| {
                bad(format!("a layer of `{part}` is not [from, repeats, module, arguments]"))
            })?);
        }
    }
    let ((family, task), max_channels) = match_family(&rows)?;

    let letter = map.get("scale").and_then(Json::as_str).and_then(single_letter).or_else(|| {
        let file = map.get("yaml_file").and_then(Json::as_str)?;
        let stem = file.rsplit(['/', '\\']).next()?.split('.').next()?;
        let digits = stem.trim_start_matches(|c: char| !c.is_ascii_digit());
        single_letter(digits.trim_start_matches(|c: char| c.is_ascii_digit()))
    });
    let Some((mut scaling, letter)) = multiples(map, letter)? else {
        return Ok(Described::FamilyAlone(family));
    };
    scaling.max_channels = scaling.max_channels.min(max_channels);

    let classes = map.get("nc").and_then(Json::as_u64).unwrap_or(80) as usize;
    let scale = letter.and_then(Scale::from_letter);
    let (mut architecture, published): (_, fn(Family, Scale) -> Scaling) = match task {
        Task::Detect => (Architecture::custom(family, scaling, scale, classes), Family::scaling),
        Task::Classify => {
            (Architecture::custom_classifier(family, scaling, scale, classes), Family::classifier_scaling)
        }
    };
    architecture.scale = scale.filter(|&s| same_network(published(family, s), scaling));
    if let Some(channels) = map.get("channels").or(map.get("ch")).and_then(Json::as_u64) {
        architecture.image_channels = channels as usize;
    }
    Ok(Described::Full(architecture))
}

/// Depth, width and channel cap that the description chooses, with the scale's letter where there is one. None: several
/// scales, none chosen.
fn multiples(
    map: &Map<String, Json>,
    letter: Option<char>,
) -> Result<Option<(Scaling, Option<char>)>, ModelError> {
    let bad = |reason: String| ModelError::Description(reason);
    if let Some(scales) = map.get("scales").and_then(Json::as_object) {
        let named = letter.and_then(|l| Some((Some(l), scales.get(l.encode_utf8(&mut [0; 4]) as &str)?)));
        let chosen = named.or_else(|| {
            let (name, only) = scales.iter().next().filter(|_| scales.len() == 1)?;
            Some((single_letter(name), only))
        });
        let Some((letter, values)) = chosen else { return Ok(None) };
        let numbers: Option<Vec<f64>> =
            values.as_array().map(|list| list.iter().filter_map(Json::as_f64).collect());
        let Some([depth, width, rest @ ..]) = numbers.as_deref() else {
            return Err(bad("an entry of `scales` is not [depth, width, max_channels]".into()));
        };
        let max_channels = rest.first().map_or(1024, |&c| c as usize);
        return Ok(Some((Scaling { depth: *depth, width: *width, max_channels }, letter)));
    }
    let number = |key: &str| map.get(key).and_then(Json::as_f64);
    match (number("depth_multiple"), number("width_multiple")) {
        (Some(depth), Some(width)) => {
            let max_channels = number("max_channels").map_or(1024, |c| c as usize);
            Ok(Some((Scaling { depth, width, max_channels }, letter)))
        }
        _ => Err(bad("it has neither `scales` nor `depth_multiple` and `width_multiple`".into())),
    }
}

fn single_letter(text: &str) -> Option<char> {
    let mut letters = text.chars();
    letters.next().filter(|_| letters.next().is_none())
}

/// Whether both give the same sizes for what the families list.
fn same_network(a: Scaling, b: Scaling) -> bool {
    [64, 128, 256, 512, 1024].iter().all(|&c| a.channels(c) == b.channels(c))
        && [2, 3, 4, 6].iter().all(|&r| a.repeats(r) == b.repeats(r))
}

/// One layer of a description.
struct Row {
    from: String,
    repeats: String,
    module: String,
    arguments: Vec<String>,
}

impl Row {
    fn read(row: &Json) -> Option<Row> {
        let [from, repeats, module, arguments] = row.as_array()?.as_slice() else { return None };
        let from = match from {
            Json::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
            one => text(one),
        };
        let module = module.as_str()?.to_owned();
        let arguments = arguments.as_array()?.iter().map(text).collect();
        Some(Row { from, repeats: text(repeats), module, arguments })
    }

    /// Whether the module's first argument is its number of channels.
    fn channels(&self) -> Option<usize> {
        matches!(self.module.as_str(), "Conv" | "C2f" | "C3k2" | "SPPF" | "C2PSA" | "A2C2f")
            .then(|| self.arguments.first()?.parse().ok())
            .flatten()
    }

    fn line(&self) -> String {
        format!("{} {} {} {}", self.from, self.repeats, self.module, self.arguments.join(" "))
            .trim_end()
            .to_owned()
    }

    /// Whether this is the listed layer, where channels above `cap` may be written as `cap`, and `nc` as a number.
    fn matches(&self, listed: &str, cap: usize) -> bool {
        let line = self.line();
        if line == listed {
            return true;
        }
        let (mut ours, mut theirs) = (line.split(' '), listed.split(' '));
        let number_for_nc = matches!(self.module.as_str(), "Detect" | "Classify");
        let same = ours.by_ref().zip(theirs.by_ref()).enumerate().all(|(i, (a, b))| {
            a == b
                || (i == 3 && self.channels() == Some(cap) && b.parse::<usize>().is_ok_and(|b| b > cap))
                || (number_for_nc && b == "nc" && a.parse::<usize>().is_ok())
        });
        same && line.split(' ').count() == listed.split(' ').count()
    }
}

/// A value as Python prints it.
fn text(value: &Json) -> String {
    match value {
        Json::Null => "None".into(),
        Json::Bool(true) => "True".into(),
        Json::Bool(false) => "False".into(),
        Json::String(s) => s.clone(),
        Json::Number(n) => match n.as_f64() {
            Some(f) if f.fract() == 0.0 && f.abs() < 1e9 => format!("{}", f as i64),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

/// The network with these layers, and the channels that its description stops at (older descriptions of the larger
/// scales carry the cap in the layers).
fn match_family(rows: &[Row]) -> Result<((Family, Task), usize), ModelError> {
    let cap = rows.iter().filter_map(Row::channels).max().unwrap_or(0);
    let fitting =
        |listed: &[&str]| listed.iter().zip(rows).take_while(|(l, row)| row.matches(l, cap)).count();
    if let Some(found) = LISTED.into_iter().find(|&network| {
        let listed = layers(network);
        fitting(&listed) == listed.len() && rows.len() == listed.len()
    }) {
        return Ok((found, cap));
    }
    let (family, task) = LISTED
        .into_iter()
        .max_by_key(|&network| fitting(&layers(network)))
        .expect("there is more than one network");
    let listed = layers((family, task));
    let fit = fitting(&listed);
    let found = rows.get(fit).map_or("missing".to_owned(), |row| format!("`{}`", row.line()));
    let needed = listed.get(fit).map_or("nothing".to_owned(), |l| format!("`{l}`"));
    Err(ModelError::Description(format!(
        "supported are yolov8, yolo11 and yolo12 for detection and yolov8 and yolo11 for classification; the nearest is {}, but layer {fit} is {found} where that has {needed}",
        family.name()
    )))
}

impl Architecture {
    /// A description that [`from_description`] reads, in the form of Ultralytics' model files; what saved checkpoints
    /// carry.
    pub fn description(&self) -> Json {
        if !LISTED.contains(&(self.family, self.task)) {
            return json!({
                "family": self.family.name(),
                "depth": self.scaling.depth,
                "width": self.scaling.width,
                "nc": self.classes,
                "channels": self.image_channels,
            });
        }
        // The letter decides the blocks that differ by scale; custom multiples take the smallest one with theirs.
        let letter = self.scale.unwrap_or(match (self.all_c3k, self.residual) {
            (_, true) => Scale::L,
            (true, false) => Scale::M,
            (false, false) => Scale::N,
        });
        let Scaling { depth, width, max_channels } = self.scaling;
        let rows: Vec<Json> = layers((self.family, self.task)).iter().map(|row| row_json(row)).collect();
        let (backbone, head) = rows.split_at(rows.len().min(match (self.task, self.family) {
            (Task::Classify, _) => self.head_index(),
            (_, Family::Yolov8) => 10,
            (_, Family::Yolo11) => 11,
            _ => 9,
        }));
        json!({
            "nc": self.classes,
            "channels": self.image_channels,
            "scale": letter.letter().to_string(),
            "scales": { letter.letter().to_string(): [depth, width, max_channels] },
            "backbone": backbone,
            "head": head,
        })
    }
}

/// A line of a layer list as the description has it.
fn row_json(line: &str) -> Json {
    let value = |word: &str| match word {
        "True" => json!(true),
        "False" => json!(false),
        number if number.parse::<i64>().is_ok() => json!(number.parse::<i64>().unwrap_or_default()),
        number if number.parse::<f64>().is_ok() => json!(number.parse::<f64>().unwrap_or_default()),
        word => json!(word),
    };
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default();
    let from = next();
    let from = if from.contains(',') { from.split(',').map(value).collect() } else { value(from) };
    let (repeats, module) = (value(next()), next().to_owned());
    let arguments: Vec<Json> = words.map(value).collect();
    json!([from, repeats, module, arguments])
}
