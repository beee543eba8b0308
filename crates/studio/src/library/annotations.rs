//! Boxes on images: checked, kept at once, counted by class.
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::datasets;
use crate::Problem;

/// Most boxes on one image.
const MOST_BOXES: usize = 10_000;
/// Most classes of a data set.
const MOST_CLASSES: usize = 10_000;
/// Boxes may reach this far beyond the image, for rounding.
const SLACK: f32 = 1e-4;

/// A box: class number, centre x, centre y, width, height; the last four as fractions of the image's sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Boxed(pub u32, pub f32, pub f32, pub f32, pub f32);

/// The boxes of an image, as a person leaves them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct NewBoxes {
    /// The image's revision that the change starts from.
    pub revision: i64,
    /// All its boxes.
    pub boxes: Vec<Boxed>,
}

/// What a change of boxes gave.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Saved {
    /// The image's new revision.
    pub revision: i64,
}

/// Replaces an image's boxes. Answered only once they are on the disk.
///
/// # Errors
/// A box makes no sense, or the image has changed since.
pub fn save(t: &Connection, image: i64, new: &NewBoxes) -> Result<Saved, Problem> {
    let sql = "SELECT dataset, position, revision, split FROM images WHERE id = ?1";
    let found = t.query_row(sql, [image], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, String>(3)?))
    });
    let (dataset, position, revision, split) =
        found.optional()?.ok_or_else(|| Problem::missing(format!("there is no image {image}")))?;
    if revision != new.revision {
        return Err(Problem::conflict("the boxes of this image were changed elsewhere")
            .hint("load the image again and repeat the last change"));
    }
    let set = datasets::get(t, dataset)?;
    check(&new.boxes, set.classes.len())?;
    if set.classifies() && !matches!(new.boxes[..], [] | [Boxed(_, 0.5, 0.5, 1.0, 1.0)]) {
        return Err(Problem::invalid("a picture of this data set has one class, or none yet"));
    }
    let boxes = serde_json::to_string(&new.boxes)?;
    let sql = "UPDATE images SET boxes = ?2, box_count = ?3, revision = revision + 1,
               usable = CASE usable WHEN 2 THEN 1 ELSE usable END, suggested = 0 WHERE id = ?1";
    t.execute(sql, rusqlite::params![image, boxes, new.boxes.len()])?;
    t.execute("DELETE FROM image_classes WHERE dataset = ?1 AND position = ?2", (dataset, position))?;
    count_classes(t, dataset, position, &split, &new.boxes)?;
    t.execute("UPDATE datasets SET revision = revision + 1 WHERE id = ?1", [dataset])?;
    Ok(Saved { revision: revision + 1 })
}

/// The boxes of a prediction (`onsa predict --json`, one image) with the class numbers of the data set, and how many were of
/// classes that it does not have. `size`: width and height in pixels.
pub fn of_prediction(found: &serde_json::Value, classes: &[String], size: (u32, u32)) -> (Vec<Boxed>, usize) {
    let (mut boxes, mut left_out) = (Vec::new(), 0);
    for object in found["boxes"].as_array().into_iter().flatten() {
        let number = |i: usize, side: u32| {
            (object["xyxy"][i].as_f64().unwrap_or(0.0) as f32 / side as f32).clamp(0.0, 1.0)
        };
        let class = classes.iter().position(|name| object["name"].as_str() == Some(name));
        let (x1, y1, x2, y2) = (number(0, size.0), number(1, size.1), number(2, size.0), number(3, size.1));
        match class {
            Some(class) if x2 > x1 && y2 > y1 => {
                boxes.push(Boxed(class as u32, (x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1));
            }
            _ => left_out += 1,
        }
    }
    (boxes, left_out)
}

fn check(boxes: &[Boxed], classes: usize) -> Result<(), Problem> {
    if boxes.len() > MOST_BOXES {
        return Err(Problem::invalid(format!("{} boxes are too many: at most {MOST_BOXES}", boxes.len())));
    }
    for (i, Boxed(class, cx, cy, w, h)) in boxes.iter().enumerate() {
        if *class as usize >= classes {
            return Err(Problem::invalid(format!("box {}: class {class} does not exist", i + 1)));
        }
        let inside = |centre: f32, side: f32| {
            side > 0.0 && centre - side / 2.0 >= -SLACK && centre + side / 2.0 <= 1.0 + SLACK
        };
        // NaN compares false: it is refused too.
        if !inside(*cx, *w) || !inside(*cy, *h) {
            return Err(Problem::invalid(format!("box {}: it has no area or lies outside the image", i + 1)));
        }
    }
    Ok(())
}

/// Writes which classes an image shows.
pub(super) fn count_classes(
    t: &Connection,
    dataset: i64,
    position: i64,
    split: &str,
    boxes: &[Boxed],
) -> Result<(), Problem> {
    let mut counts = std::collections::BTreeMap::new();
    for Boxed(class, ..) in boxes {
        *counts.entry(*class).or_insert(0_i64) += 1;
    }
    let sql = "INSERT OR REPLACE INTO image_classes (dataset, class, position, split, boxes) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut statement = t.prepare_cached(sql)?;
    for (class, boxes) in counts {
        statement.execute((dataset, class, position, split, boxes))?;
    }
    Ok(())
}

/// Adds a class at the end, or renames one: the classes' numbers never change.
///
/// # Errors
/// The name is taken, or there are too many.
pub fn set_class(t: &Connection, dataset: i64, number: Option<usize>, name: &str) -> Result<(), Problem> {
    let name = datasets::checked_name(name)?.to_owned();
    let set = datasets::ready(t, dataset)?;
    if set.classifies()
        && (name.starts_with('.') || name.len() > 120 || name.contains(['/', '\\', ':', '\0']))
    {
        return Err(Problem::invalid(format!(
            "a class cannot be called `{name}`: in versions its name is a folder's"
        ))
        .hint("use letters, digits, spaces, - and _"));
    }
    let mut classes = set.classes;
    if classes.iter().enumerate().any(|(i, class)| *class == name && Some(i) != number) {
        return Err(Problem::invalid(format!("there is a class `{name}` already")));
    }
    match number {
        Some(number) => {
            let missing = || Problem::missing(format!("there is no class {number}"));
            *classes.get_mut(number).ok_or_else(missing)? = name;
        }
        None if classes.len() < MOST_CLASSES => classes.push(name),
        None => return Err(Problem::invalid(format!("at most {MOST_CLASSES} classes"))),
    }
    let text = serde_json::to_string(&classes)?;
    t.execute("UPDATE datasets SET classes = ?2, revision = revision + 1 WHERE id = ?1", (dataset, text))?;
    Ok(())
}

/// How a data set is to be divided.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct NewSplit {
    /// Share of the images that becomes the validation split, above 0 and below 1.
    pub val: f64,
    /// Share that becomes the test split, 0 or more.
    #[serde(default)]
    pub test: f64,
    /// Images whose names agree up to the last `_`, `-` or space stay together, such as tiles of one photograph.
    #[serde(default)]
    pub groups: bool,
}

/// Divides the images anew, by a hash of their names: the same names always give the same division.
///
/// # Errors
/// The shares make no sense, or a split would be empty.
pub fn divide(t: &Connection, dataset: i64, new: &NewSplit) -> Result<(), Problem> {
    use sha2::{Digest, Sha256};
    if !(new.val > 0.0 && new.test >= 0.0 && new.val + new.test < 1.0) {
        return Err(Problem::invalid("the shares of validation and test are above 0 and together below 1"));
    }
    datasets::ready(t, dataset)?;
    let mut statement = t.prepare("SELECT id, name FROM images WHERE dataset = ?1")?;
    let rows = statement.query_map([dataset], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let images = rows.collect::<Result<Vec<_>, _>>()?;
    let mut groups: std::collections::BTreeMap<([u8; 8], String), Vec<i64>> = Default::default();
    for (id, name) in images.iter() {
        let key = if new.groups { group(name) } else { name };
        let digest = Sha256::digest(key);
        let mut order = [0; 8];
        order.copy_from_slice(&digest[..8]);
        groups.entry((order, key.to_owned())).or_default().push(*id);
    }
    let total = images.len() as f64;
    let (mut val, mut test) =
        ((total * new.val).round().max(1.0) as usize, (total * new.test).round() as usize);
    let mut update = t.prepare("UPDATE images SET split = ?2 WHERE id = ?1")?;
    let mut train = 0;
    for ids in groups.values() {
        let split = if val > 0 {
            val = val.saturating_sub(ids.len());
            "val"
        } else if test > 0 {
            test = test.saturating_sub(ids.len());
            "test"
        } else {
            train += ids.len();
            "train"
        };
        ids.iter().try_for_each(|id| update.execute((id, split)).map(|_| ()))?;
    }
    if train == 0 {
        return Err(Problem::invalid("no image would be left to train on").hint(if new.groups {
            "all names seem to belong to few groups: divide without groups"
        } else {
            "choose a smaller share"
        }));
    }
    let sql = "UPDATE image_classes AS c SET split =
               (SELECT split FROM images i WHERE i.dataset = c.dataset AND i.position = c.position) WHERE dataset = ?1";
    t.execute(sql, [dataset])?;
    t.execute("UPDATE datasets SET revision = revision + 1 WHERE id = ?1", [dataset])?;
    Ok(())
}

/// What a name shares with those of its group: all before the last separator.
fn group(name: &str) -> &str {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.rfind(['_', '-', ' ']).map_or(stem, |at| &stem[..at])
}

/// Whether a file's name ends so.
pub(super) fn has_ending(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_that_make_no_sense_are_refused() {
        let sound = Boxed(0, 0.5, 0.5, 1.0, 0.2);
        assert!(check(&[sound], 1).is_ok());
        for wrong in [
            Boxed(1, 0.5, 0.5, 0.1, 0.1),
            Boxed(0, 0.5, 0.5, 0.0, 0.1),
            Boxed(0, 0.9, 0.5, 0.3, 0.1),
            Boxed(0, f32::NAN, 0.5, 0.1, 0.1),
            Boxed(0, 0.5, 0.5, f32::INFINITY, 0.1),
        ] {
            assert!(check(&[sound, wrong], 1).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tiles_of_one_photograph_are_one_group() {
        assert_eq!(group("OSBS_029_0_400.jpg"), group("OSBS_029_0_800.jpg"));
        assert_ne!(group("a_1.jpg"), group("b_1.jpg"));
    }
}
