//! Two models on the same validation pictures: their figures side by side, and the pictures on which they disagree.
use std::collections::HashMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::evaluations::{self, Marked, Measured, Named, Picture, State};
use super::{models, versions};
use crate::protocol::ErrorText;
use crate::store::blocking;
use crate::{App, Problem};

/// Two boxes of a class that overlap at least so much (intersection over union) mean the same object.
const SAME: f32 = 0.5;
/// Most pictures that are given, those with the most differences first.
const PICTURES: usize = 60;

/// Models on the validation pictures of a version.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Comparison {
    /// The models, in the order asked for.
    pub sides: Vec<Side>,
    /// Pictures of which the first two say different things; the most different first.
    pub pictures: Vec<Disputed>,
    /// How many there are in all.
    pub disputed: usize,
}

/// A model in a comparison.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Side {
    /// Its id.
    pub model: i64,
    /// Its name.
    pub name: String,
    /// Where its measuring stands.
    pub state: State,
    /// Why it failed.
    pub error: Option<ErrorText>,
    /// Its figures (`onsa val --json`).
    pub metrics: Option<Value>,
    /// Class names by number.
    pub classes: Vec<String>,
}

/// A picture on which two models disagree.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Disputed {
    /// Its file's name in the version's validation part; with its class's folder before it, where pictures have one class.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Boxes that only one of the models has; 1 for a picture that is named differently.
    pub differences: usize,
    /// The boxes that are labelled.
    pub labels: Vec<Marked>,
    /// The class that is labelled.
    pub label: Option<Named>,
    /// What the first says, and the second.
    pub said: [Said; 2],
}

/// What a model says of a picture.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Said {
    /// Boxes that the other model has too.
    pub shared: Vec<Marked>,
    /// Boxes that it alone has.
    pub alone: Vec<Marked>,
    /// A classifier's likeliest classes.
    pub top: Vec<Named>,
}

/// How the models compare, as far as they are measured.
///
/// # Errors
/// There is no such model or version, or what was measured cannot be read.
pub async fn compare(app: &App, models: Vec<i64>, version: i64) -> Result<Comparison, Problem> {
    let (models, _) = app
        .store
        .read(move |c| {
            let models = models.into_iter().map(|id| models::get(c, id)).collect::<Result<Vec<_>, _>>()?;
            Ok((models, versions::get(c, version)?))
        })
        .await?;
    let app = app.clone();
    blocking(move || {
        let (mut sides, mut measured) = (Vec::new(), Vec::new());
        for model in models {
            let (state, found, error) = evaluations::look(&app, &model, version)?;
            sides.push(Side {
                model: model.id,
                state,
                error,
                metrics: found.as_ref().map(|found| found.metrics.clone()),
                classes: model.about.classes.clone().unwrap_or_default(),
                name: model.name,
            });
            measured.push(found);
        }
        let mut pictures = match &measured[..] {
            [Some(first), Some(second), ..] => disputes(first, second),
            _ => Vec::new(),
        };
        let disputed = pictures.len();
        pictures.truncate(PICTURES);
        Ok(Comparison { sides, pictures, disputed })
    })
    .await
}

fn disputes(first: &Measured, second: &Measured) -> Vec<Disputed> {
    let others: HashMap<&Path, &Picture> =
        second.pictures.iter().map(|picture| (picture.image.as_path(), picture)).collect();
    let pairs = first.pictures.iter().filter_map(|one| Some((one, *others.get(one.image.as_path())?)));
    let mut disputed: Vec<Disputed> = pairs.filter_map(|(one, other)| dispute(one, other)).collect();
    disputed.sort_by(|a, b| b.differences.cmp(&a.differences).then(a.name.cmp(&b.name)));
    disputed
}

/// What two models say of a picture, if that differs.
fn dispute(one: &Picture, other: &Picture) -> Option<Disputed> {
    let (shared, alone, partners, other_alone) = pair(&one.boxes, &other.boxes);
    let named = |picture: &Picture| picture.top5.first().map(|top| top.class);
    let file = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = match one.image.parent() {
        Some(class) if one.label.is_some() => format!("{}/{}", file(class), file(&one.image)),
        _ => file(&one.image),
    };
    let differences = alone.len() + other_alone.len() + usize::from(named(one) != named(other));
    (differences > 0).then(|| Disputed {
        name,
        width: one.width,
        height: one.height,
        differences,
        labels: one.labels.clone(),
        label: one.label.clone(),
        said: [
            Said { shared, alone, top: one.top5.clone() },
            Said { shared: partners, alone: other_alone, top: other.top5.clone() },
        ],
    })
}

/// Boxes of both that mean the same object, pair by pair, and those that each has alone. The surest box of the first
/// chooses first; of several partners it takes the one that it overlaps most.
fn pair(one: &[Marked], other: &[Marked]) -> (Vec<Marked>, Vec<Marked>, Vec<Marked>, Vec<Marked>) {
    let mut free: Vec<&Marked> = other.iter().collect();
    let (mut shared, mut alone, mut partners) = (Vec::new(), Vec::new(), Vec::new());
    let mut order: Vec<&Marked> = one.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    for mark in order {
        let best = free
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.class == mark.class)
            .map(|(i, candidate)| (i, overlap(&mark.xyxy, &candidate.xyxy)))
            .filter(|(_, iou)| *iou >= SAME)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((i, _)) => {
                partners.push(free.remove(i).clone());
                shared.push(mark.clone());
            }
            None => alone.push(mark.clone()),
        }
    }
    (shared, alone, partners, free.into_iter().cloned().collect())
}

/// Intersection over union, 0 to 1.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |r: &[f32; 4]| (r[2] - r[0]).max(0.0) * (r[3] - r[1]).max(0.0);
    let shared = side(0, 2) * side(1, 3);
    let all = area(a) + area(b) - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(class: u32, score: f32, x: f32) -> Marked {
        Marked { class, name: String::new(), score, xyxy: [x, 0.0, x + 10.0, 10.0] }
    }

    fn picture(boxes: Vec<Marked>) -> Picture {
        Picture {
            image: "/v/a.jpg".into(),
            width: 100,
            height: 10,
            boxes,
            labels: vec![],
            top5: vec![],
            label: None,
        }
    }

    #[test]
    fn boxes_of_one_model_alone_make_a_dispute_and_small_shifts_do_not() {
        let one = picture(vec![mark(0, 0.9, 0.0), mark(0, 0.8, 20.0), mark(1, 0.7, 40.0)]);
        let same = picture(vec![mark(1, 0.5, 41.0), mark(0, 0.6, 21.0), mark(0, 0.4, 1.0)]);
        assert!(dispute(&one, &same).is_none());
        let other = picture(vec![mark(0, 0.6, 1.0), mark(1, 0.6, 20.0)]);
        let found = dispute(&one, &other).unwrap();
        // The box at 20 has another class, the one at 40 is missing.
        assert_eq!(found.differences, 3);
        let x = |marks: &[Marked]| marks.iter().map(|m| m.xyxy[0]).collect::<Vec<_>>();
        assert_eq!((x(&found.said[0].shared), x(&found.said[0].alone)), (vec![0.0], vec![20.0, 40.0]));
        assert_eq!((x(&found.said[1].shared), x(&found.said[1].alone)), (vec![1.0], vec![20.0]));
    }

    #[test]
    fn classifiers_disagree_where_their_likeliest_classes_differ() {
        let named = |class| vec![Named { class, name: String::new(), score: 0.6 }];
        let says = |class| Picture { top5: named(class), ..picture(vec![]) };
        assert!(dispute(&says(1), &says(1)).is_none());
        assert_eq!(dispute(&says(1), &says(2)).unwrap().differences, 1);
    }
}
