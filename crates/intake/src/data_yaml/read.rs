//! The tree -> [`DataYaml`].

use super::tree::{Fault, Node, Value};
use super::{DataYaml, Placed, Problem};
use crate::limits::{CLASSES, PICTURE_CHANNELS};

/// The keys that mean something.
pub(super) const KEYS: [&str; 8] = ["path", "train", "val", "test", "names", "nc", "channels", "kpt_shape"];

/// Keys that data sets in circulation carry and that change nothing here, with what to say of each.
const EXTRAS: [(&str, &str); 18] = [
    ("download", "`download` is never run: fetch the data yourself if it is not there yet"),
    ("flip_idx", "`flip_idx` has no effect: keypoints are not trained, only boxes"),
    ("kpt_names", "`kpt_names` has no effect: keypoints are not trained, only boxes"),
    ("masks_dir", "`masks_dir` has no effect: masks are not trained, only boxes"),
    ("minival", "`minival` has no effect: only train, val and test are read"),
    ("roboflow", "`roboflow` has no effect"),
    ("yaml_file", "`yaml_file` has no effect"),
    ("author", "`author` has no effect"),
    ("contributor", "`contributor` has no effect"),
    ("date", "`date` has no effect"),
    ("description", "`description` has no effect"),
    ("info", "`info` has no effect"),
    ("licence", "`licence` has no effect"),
    ("license", "`license` has no effect"),
    ("task", "`task` has no effect"),
    ("url", "`url` has no effect: nothing is downloaded"),
    ("version", "`version` has no effect"),
    ("year", "`year` has no effect"),
];

pub(super) fn interpret(root: &Node) -> Result<DataYaml, Fault> {
    let Value::Map(entries) = &root.value else {
        let expected = "a mapping of keys to values, such as `train: images/train`";
        return Err((Some(root.line), Problem::Type { key: "data.yaml".into(), expected }));
    };
    let mut out = DataYaml { channels: 3, ..DataYaml::default() };
    let mut nc: Option<(usize, usize)> = None;
    for (key, line, node) in entries {
        match key.as_str() {
            _ if matches!(node.value, Value::Null) && KEYS.contains(&key.as_str()) => {}
            "path" => out.path = Some(text("path", node)?),
            "train" => out.train = texts("train", node)?,
            "val" => out.val = texts("val", node)?,
            "test" => out.test = texts("test", node)?,
            "names" => (out.names, out.name_lines) = names(node)?,
            "nc" => nc = Some((count("nc", node)?, *line)),
            "channels" => match count("channels", node)? {
                number if (1..=PICTURE_CHANNELS as usize).contains(&number) => out.channels = number as u32,
                _ => {
                    let expected = "the number of channels of the pictures, 1 to 1024";
                    return Err((Some(*line), Problem::Type { key: "channels".into(), expected }));
                }
            },
            "kpt_shape" => {
                out.keypoint_numbers = Some(keypoint_numbers(node)?);
                let text = "`kpt_shape`: keypoints are not trained, only boxes".into();
                out.warnings.push(Placed { text, line: *line });
            }
            other => match EXTRAS.iter().find(|(name, _)| *name == other) {
                Some((_, note)) => out.warnings.push(Placed { text: (*note).into(), line: *line }),
                None => {
                    let problem = Problem::UnknownKey { key: key.clone(), nearest: nearest(key) };
                    return Err((Some(*line), problem));
                }
            },
        }
    }
    if out.train.is_empty() {
        let remedy = "the folder of the training images, such as `train: images/train`";
        return Err((None, Problem::Missing { key: "train", remedy }));
    }
    match nc {
        Some((nc, line)) if nc > CLASSES => {
            return Err((Some(line), Problem::TooManyClasses { limit: CLASSES }));
        }
        Some((0, line)) => {
            return Err((Some(line), Problem::Type { key: "nc".into(), expected: "at least 1" }));
        }
        Some((nc, line)) if out.names.is_empty() => {
            out.names = (0..nc).map(|i| format!("class_{i}")).collect();
            out.name_lines = vec![line; nc];
            let text = "there is no `names`: the classes are called class_0, class_1 …".into();
            out.warnings.push(Placed { text, line });
        }
        Some((nc, line)) if nc != out.names.len() => {
            return Err((Some(line), Problem::Count { nc, names: out.names.len() }));
        }
        _ => {}
    }
    if out.names.is_empty() {
        let remedy = "the class names in the order of their numbers, such as `names: [cat, dog]`";
        return Err((None, Problem::Missing { key: "names", remedy }));
    }
    warn_of_doubles(&mut out);
    Ok(out)
}

fn warn_of_doubles(out: &mut DataYaml) {
    let mut first = std::collections::HashMap::new();
    for (i, name) in out.names.iter().enumerate() {
        if let Some(earlier) = first.insert(name.as_str(), i) {
            let text = format!("classes {earlier} and {i} are both called `{name}`");
            out.warnings.push(Placed { text, line: out.name_lines[i] });
        }
    }
}

fn nearest(key: &str) -> Option<&'static str> {
    let lower = key.to_lowercase();
    let near = |known: &str| strsim::damerau_levenshtein(&lower, known);
    let best = KEYS.into_iter().chain(EXTRAS.iter().map(|e| e.0)).min_by_key(|known| near(known))?;
    if near(best) <= 1 + best.len() / 4 {
        return Some(best);
    }
    // Words in use for the splits that no typing error leads to.
    match lower.as_str() {
        "valid" | "validation" | "val_path" | "eval" => Some("val"),
        "training" | "train_path" | "trainset" => Some("train"),
        "testing" => Some("test"),
        "classes" | "class_names" | "labels" => Some("names"),
        "num_classes" | "n_classes" | "number_of_classes" => Some("nc"),
        "root" | "dir" | "data_path" => Some("path"),
        _ => None,
    }
}

fn text(key: &str, node: &Node) -> Result<Placed, Fault> {
    match &node.value {
        Value::Scalar(text) if !text.is_empty() => Ok(Placed { text: text.clone(), line: node.line }),
        _ => Err((Some(node.line), Problem::Type { key: key.into(), expected: "one path" })),
    }
}

fn texts(key: &str, node: &Node) -> Result<Vec<Placed>, Fault> {
    let wrong = |line| {
        let expected = "a folder, a list file (.txt), or a list of those";
        (Some(line), Problem::Type { key: key.into(), expected })
    };
    match &node.value {
        Value::List(items) if !items.is_empty() => {
            items.iter().map(|item| text(key, item).map_err(|_| wrong(item.line))).collect()
        }
        _ => Ok(vec![text(key, node).map_err(|_| wrong(node.line))?]),
    }
}

fn count(key: &str, node: &Node) -> Result<usize, Fault> {
    match &node.value {
        Value::Scalar(text) => text.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| (Some(node.line), Problem::Type { key: key.into(), expected: "a whole number" }))
}

fn keypoint_numbers(node: &Node) -> Result<usize, Fault> {
    let sizes: Option<Vec<usize>> = match &node.value {
        Value::List(items) => items.iter().map(|item| count("kpt_shape", item).ok()).collect(),
        _ => None,
    };
    match sizes.as_deref() {
        Some(&[points, numbers @ (2 | 3)]) if (1..=1024).contains(&points) => Ok(points * numbers),
        _ => {
            let expected = "[number of keypoints, 2 or 3], such as [17, 3]";
            Err((Some(node.line), Problem::Type { key: "kpt_shape".into(), expected }))
        }
    }
}

/// Names by class number, and the line of each.
fn names(node: &Node) -> Result<(Vec<String>, Vec<usize>), Fault> {
    let name = |node: &Node| match &node.value {
        Value::Scalar(text) if !text.trim().is_empty() => Ok((text.trim().to_string(), node.line)),
        _ => Err((
            Some(node.line),
            Problem::Type { key: "names".into(), expected: "texts that are not empty" },
        )),
    };
    let too_many = (Some(node.line), Problem::TooManyClasses { limit: CLASSES });
    match &node.value {
        Value::List(items) if items.len() > CLASSES => Err(too_many),
        Value::List(items) if !items.is_empty() => {
            Ok(items.iter().map(name).collect::<Result<Vec<_>, _>>()?.into_iter().unzip())
        }
        Value::Map(entries) if entries.len() > CLASSES => Err(too_many),
        Value::Map(entries) if !entries.is_empty() => {
            let mut slots: Vec<Option<(String, usize)>> = vec![None; entries.len()];
            for (key, line, node) in entries {
                let class: usize = key.parse().map_err(|_| {
                    let expected = "keyed by class numbers 0, 1, 2 …";
                    (Some(*line), Problem::Type { key: "names".into(), expected })
                })?;
                // A number beyond the entries leaves a smaller one out; the gap is named below.
                if let Some(slot) = slots.get_mut(class)
                    && slot.replace(name(node)?).is_some()
                {
                    return Err((Some(*line), Problem::Twice(key.clone())));
                }
            }
            if let Some(missing) = slots.iter().position(Option::is_none) {
                return Err((Some(node.line), Problem::Gap { missing }));
            }
            Ok(slots.into_iter().flatten().unzip())
        }
        _ => {
            let expected = "a list of class names, or a mapping from 0, 1, 2 … to them";
            Err((Some(node.line), Problem::Type { key: "names".into(), expected }))
        }
    }
}
