//! Ultralytics' model descriptions: lists of layers with multiples, read and written.

use serde_json::{Map, Value as Json, json};

use crate::models::architecture::Architecture;
use crate::models::error::ModelError;
use crate::models::registry::Family;
use crate::models::scaling::{Scale, Scaling};
use crate::models::{yolo11, yolo12, yolov8};

/// A family's layers as its description lists them.
fn layers(family: Family) -> &'static [&'static str] {
    match family {
        Family::Yolov8 => yolov8::LAYERS,
        Family::Yolo11 => yolo11::LAYERS,
        Family::Yolo12 => yolo12::LAYERS,
    }
}

/// What a description says.
pub(super) enum Described {
    Full(Architecture),
    FamilyAlone(Family),
}

pub(super) fn described(description: &Json) -> Result<Described, ModelError> {
    let bad = |reason: String| ModelError::Description(reason);
    let map = description.as_object().ok_or_else(|| bad("it is no mapping".into()))?;
    for (key, supported) in [("activation", "SiLU"), ("end2end", "false"), ("reg_max", "16")] {
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
    let (family, max_channels) = match_family(&rows)?;

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
    let mut architecture = Architecture::custom(family, scaling, scale, classes);
    architecture.scale = scale.filter(|&s| same_network(family.scaling(s), scaling));
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
        let number_for_nc = self.module == "Detect";
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

/// The family with these layers, and the channels that its description stops at (older descriptions of the larger scales
/// carry the cap in the layers).
fn match_family(rows: &[Row]) -> Result<(Family, usize), ModelError> {
    let cap = rows.iter().filter_map(Row::channels).max().unwrap_or(0);
    let fitting = |family: Family| {
        let listed = layers(family);
        listed.iter().zip(rows).take_while(|(l, row)| row.matches(l, cap)).count()
    };
    let nearest =
        Family::ALL.into_iter().max_by_key(|&family| fitting(family)).expect("there is more than one family");
    let (listed, fit) = (layers(nearest), fitting(nearest));
    if fit == listed.len() && rows.len() == listed.len() {
        return Ok((nearest, cap));
    }
    let found = rows.get(fit).map_or("missing".to_owned(), |row| format!("`{}`", row.line()));
    let needed = listed.get(fit).map_or("nothing".to_owned(), |l| format!("`{l}`"));
    Err(ModelError::Description(format!(
        "supported are yolov8, yolo11 and yolo12 for detection; the nearest is {}, but layer {fit} is {found} where that has {needed}",
        nearest.name()
    )))
}

impl Architecture {
    /// A description that [`from_description`] reads, in the form of Ultralytics' model files; what saved checkpoints
    /// carry.
    pub fn description(&self) -> Json {
        // The letter decides the blocks that differ by scale; custom multiples take the smallest one with theirs.
        let letter = self.scale.unwrap_or(match (self.all_c3k, self.residual) {
            (_, true) => Scale::L,
            (true, false) => Scale::M,
            (false, false) => Scale::N,
        });
        let Scaling { depth, width, max_channels } = self.scaling;
        let rows: Vec<Json> = layers(self.family).iter().map(|row| row_json(row)).collect();
        let (backbone, head) = rows.split_at(rows.len().min(match self.family {
            Family::Yolov8 => 10,
            Family::Yolo11 => 11,
            Family::Yolo12 => 9,
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
