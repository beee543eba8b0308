//! Labels that a trained model confidently contradicts: often it is the label that is wrong.

use super::Truth;
use crate::boxes::Detection;

/// Confidence from which a detection counts against a label.
pub const CONFIDENT: f32 = 0.6;
/// Overlap (intersection over union) from which detection and label mean the same object.
const SAME: f32 = 0.5;
/// Overlap below which they have nothing to do with one another; between the two the outlines differ, no more.
const APART: f32 = 0.1;

/// What a confident detection says against the labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspect {
    /// The detection.
    pub detection: Detection,
    /// The class that the object is labelled as; `None`: it is not labelled.
    pub labelled: Option<u32>,
}

impl Suspect {
    /// The doubt in a sentence; `names`: the class list.
    pub fn words(&self, names: &[String]) -> String {
        let name = |class: u32| names.get(class as usize).map_or("?", String::as_str);
        let (seen, score) = (name(self.detection.class), self.detection.score);
        match self.labelled {
            Some(labelled) => format!("labelled {}, seen as {seen} ({score:.2})", name(labelled)),
            None => format!("{seen} ({score:.2}) without a label"),
        }
    }
}

/// The confident detections of an image that its labels contradict, most confident first.
pub fn suspects(detections: &[Detection], truths: &[Truth]) -> Vec<Suspect> {
    let mut found: Vec<Suspect> = detections
        .iter()
        .filter(|d| d.score >= CONFIDENT)
        .filter_map(|&detection| {
            let overlap = |truth: &&Truth| truth.bbox.iou(&detection.bbox);
            let best = truths.iter().max_by(|a, b| overlap(a).total_cmp(&overlap(b)));
            let labelled = match best {
                None => None,
                Some(truth) if overlap(&truth) < APART => None,
                Some(truth) if overlap(&truth) < SAME || truth.crowd || truth.class == detection.class => {
                    return None;
                }
                // The model may see both classes: then it agrees with the label where that one is the surer.
                Some(truth) if is_confirmed(truth, detection.score, detections) => return None,
                Some(truth) => Some(truth.class),
            };
            Some(Suspect { detection, labelled })
        })
        .collect();
    found.sort_by(|a, b| b.detection.score.total_cmp(&a.detection.score));
    found
}

fn is_confirmed(truth: &Truth, score: f32, detections: &[Detection]) -> bool {
    let same = |d: &&Detection| d.class == truth.class && d.score >= score;
    detections.iter().filter(same).any(|d| truth.bbox.iou(&d.bbox) >= SAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Xyxy;

    fn bbox(x: f32) -> Xyxy {
        Xyxy { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 }
    }

    fn seen(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: bbox(x) }
    }

    fn truth(class: u32, x: f32) -> Truth {
        Truth { class, bbox: bbox(x), crowd: false }
    }

    #[test]
    fn confident_disagreement_is_listed_and_nothing_else() {
        let truths = [truth(0, 0.0), truth(0, 100.0), truth(1, 200.0)];
        let detections = [
            seen(0, 0.9, 0.5),    // agrees
            seen(1, 0.8, 100.5),  // another class
            seen(0, 0.95, 300.0), // no label there
            seen(0, 0.59, 400.0), // not sure enough
            seen(1, 0.9, 205.0),  // the outline differs
            seen(0, 0.7, 200.0),  // a second opinion on what it sees rightly
            seen(1, 0.75, 200.0),
        ];
        let found = suspects(&detections, &truths);
        let got: Vec<_> = found.iter().map(|s| (s.detection.bbox.x1, s.labelled)).collect();
        assert_eq!(got, [(300.0, None), (100.5, Some(0))]);
        let names = ["ash".to_owned(), "birch".to_owned()];
        assert_eq!(found[0].words(&names), "ash (0.95) without a label");
        assert_eq!(found[1].words(&names), "labelled ash, seen as birch (0.80)");
    }

    #[test]
    fn an_image_without_labels_is_suspect_only_where_something_is_seen() {
        assert_eq!(suspects(&[], &[truth(0, 0.0)]), []);
        assert_eq!(suspects(&[seen(0, 0.7, 0.0)], &[]).len(), 1);
    }
}
