//! What can be done about the faults that the check finds: the same as `onsa check --fix` does, here without a copy, for the
//! person's files stay as they are and versions are written anew.
use onsa_tune::data::audit::FaultKind;
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::datasets;
use crate::Problem;

/// Why a version was made that a remedy led to.
pub const NOTE: &str = "faults mended";

/// A remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The sound boxes of the image are used, the faulty rows are not. An image without a sound box stays left out.
    KeepSound,
    /// The image is left out of its part.
    LeaveOut,
    /// Nothing is to be done: the file was left out when the data set was read.
    IsOut,
    /// Nothing is to be done: the studio uses what the file means (a polygon's box, a box once, background without a box).
    IsMended,
    /// Only a person can tell.
    Look,
}

/// A fault's name in JSON.
///
/// # Errors
/// Never: a kind is a plain word.
pub(super) fn name(kind: FaultKind) -> Result<String, Problem> {
    Ok(serde_json::from_value(serde_json::to_value(kind)?)?)
}

/// What helps against a kind of fault; `error`: it stops training.
pub(super) fn of(kind: &str, error: bool) -> Remedy {
    match kind {
        "train_image_in_val" | "train_image_in_test" => Remedy::LeaveOut,
        "near_train_image_in_val" | "near_train_image_in_test" => Remedy::LeaveOut,
        "malformed_label"
        | "wrong_number_count"
        | "not_a_number"
        | "non_finite"
        | "class_out_of_range"
        | "coordinates_out_of_range"
        | "zero_size_box"
        | "box_outside_image"
        | "size_mismatch" => {
            if error {
                Remedy::KeepSound
            } else {
                Remedy::Look
            }
        }
        "duplicate_box" | "polygon_as_box" | "crowd_region" | "extension_mismatch" | "missing_label"
        | "empty_label" | "listed_twice" | "split_made" => {
            if error {
                Remedy::Look
            } else {
                Remedy::IsMended
            }
        }
        "missing_image"
        | "unreadable_image"
        | "empty_image"
        | "truncated_image"
        | "corrupt_image"
        | "unsupported_image"
        | "image_too_large"
        | "image_too_small"
        | "label_without_image"
        | "unreadable_label"
        | "ambiguous_label"
        | "unknown_image"
        | "outside_folder"
        | "ignored_key"
        | "ignored_file"
        | "image_not_listed" => Remedy::IsOut,
        _ => Remedy::Look,
    }
}

/// What a remedy changed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Mended {
    /// Images that are used from now on, or no longer.
    pub images: usize,
    /// Images with this fault that stay as they are: other faults, or no sound box.
    pub left: usize,
    /// The number of the version that was made of it; none where nothing changed.
    pub version: Option<i64>,
}

/// Applies the remedy of a kind of fault to all images that have it.
///
/// # Errors
/// There is no remedy for it, or no image has it.
pub fn apply(t: &Connection, dataset: i64, kind: &str) -> Result<Mended, Problem> {
    datasets::ready(t, dataset)?;
    let remedy = of(kind, true);
    let ids = "SELECT f.image FROM image_faults f JOIN images i ON i.id = f.image WHERE i.dataset = ?1 AND f.kind = ?2";
    let all: usize =
        t.query_row(&format!("SELECT count(*) FROM ({ids})"), (dataset, kind), |row| row.get(0))?;
    if all == 0 {
        return Err(Problem::missing("no image has this fault").hint(
            "data sets of an earlier onsa are to be imported again, for remedies to know their faults",
        ));
    }
    t.execute(
        &format!("UPDATE image_faults SET mended = 1 WHERE kind = ?2 AND image IN ({ids})"),
        (dataset, kind),
    )?;
    let images = match remedy {
        Remedy::LeaveOut => t.execute(
            &format!("UPDATE images SET usable = 0 WHERE usable <> 0 AND split <> 'train' AND id IN ({ids})"),
            (dataset, kind),
        )?,
        // Only once nothing else is wrong with the image.
        Remedy::KeepSound => t.execute(
            &format!(
                "UPDATE images SET usable = 1 WHERE usable = 2 AND box_count > 0 AND id IN ({ids})
                 AND NOT EXISTS (SELECT 1 FROM image_faults o WHERE o.image = images.id AND o.error = 1 AND o.mended = 0)"
            ),
            (dataset, kind),
        )?,
        Remedy::IsOut | Remedy::IsMended | Remedy::Look => {
            return Err(Problem::invalid("there is nothing to do about this fault with one click"));
        }
    };
    t.execute("UPDATE datasets SET revision = revision + 1 WHERE id = ?1", [dataset])?;
    Ok(Mended { images, left: all - images, version: None })
}

/// The kinds of faults of a data set whose remedy was applied.
///
/// # Errors
/// Those of the database.
pub fn applied(connection: &Connection, dataset: i64) -> Result<Vec<String>, Problem> {
    let sql = "SELECT DISTINCT f.kind FROM image_faults f JOIN images i ON i.id = f.image
               WHERE i.dataset = ?1 AND f.mended = 1 ORDER BY f.kind";
    let mut statement = connection.prepare_cached(sql)?;
    let kinds = statement.query_map([dataset], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(kinds)
}
