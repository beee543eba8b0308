//! What a model that was given new classes still knows of its old ones.

use serde::{Deserialize, Serialize};

use super::classify::ClassifyMetrics;
use super::metrics::DetectMetrics;

/// Classes named as the largest losses.
const NAMED: usize = 5;
/// A difference of average precision that is worth a name.
const LOSS: f64 = 0.005;

/// What old classes were measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Labels of old data.
    Labels,
    /// What the starting model itself finds, with a confidence of [`AGREED`] or more.
    Agreement,
}

/// What the figures count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// A detector's objects: figures are average precision at an IoU of .5.
    #[default]
    Objects,
    /// A classifier's images: figures are the share of a class's images that are taken for it.
    Images,
}

/// Confidence from which what the starting model says counts: a detection as an object, a guess as an image of that class.
pub const AGREED: f32 = 0.25;

/// A class of the starting model. The figures, 0 to 1, are those of [`Counted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassKept {
    /// Its name.
    pub name: String,
    /// Its objects on the images; a classifier's images of it.
    pub count: u64,
    /// Of the starting model; none where a classifier's is what was measured against.
    pub before: Option<f64>,
    /// Of the new model.
    pub after: f64,
}

/// A class that was added, on the new data's validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassNew {
    /// Its name.
    pub name: String,
    /// Its objects, or images of it; 0: nothing is known of it.
    pub count: u64,
    /// A detector's average precision at an IoU of .5.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ap50: Option<f64>,
    /// Its mean over IoU .5 to .95.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ap: Option<f64>,
    /// A classifier's share of the class's images that are taken for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recall: Option<f64>,
}

/// Old classes before and after, and new ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What is counted.
    #[serde(default)]
    pub counted: Counted,
    /// What the old classes' figures stand against.
    pub basis: Basis,
    /// Which images: an argument of the recipe, or the new data's validation images.
    pub source: String,
    /// How many.
    pub images: u64,
    /// Number of old classes, those without an object on the images too.
    pub old_classes: usize,
    /// Old classes with an object on the images.
    pub old: Vec<ClassKept>,
    /// Mean over `old` of the starting model.
    pub before: Option<f64>,
    /// Mean over `old` of the new model; none where there is no object.
    pub after: Option<f64>,
    /// The added classes.
    pub new: Vec<ClassNew>,
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / count as f64)
}

impl Kept {
    /// From the figures on the old classes' images and on the new data.
    pub fn new(
        (basis, source): (Basis, String),
        names: &[String],
        old: usize,
        (before, after): (&DetectMetrics, &DetectMetrics),
        on_new: &DetectMetrics,
    ) -> Kept {
        let ap50 = |metrics: &DetectMetrics, name: &str| {
            metrics.per_class.iter().find(|c| c.name == name).map_or(0.0, |c| c.ap50)
        };
        let kept: Vec<ClassKept> = after
            .per_class
            .iter()
            .filter(|class| (class.class as usize) < old)
            .map(|class| ClassKept {
                name: class.name.clone(),
                count: class.boxes,
                before: Some(ap50(before, &class.name)),
                after: class.ap50,
            })
            .collect();
        let new = names[old..].iter().map(|name| {
            let found = on_new.per_class.iter().find(|c| c.name == *name);
            ClassNew {
                name: name.clone(),
                count: found.map_or(0, |c| c.boxes),
                ap50: Some(found.map_or(0.0, |c| c.ap50)),
                ap: Some(found.map_or(0.0, |c| c.ap)),
                recall: None,
            }
        });
        let new = new.collect();
        Kept::of(Counted::Objects, (basis, source, after.images), old, kept, new)
    }

    /// A classifier's, from the old classes that are on the images (of which there are `images`) and the figures on the new data.
    pub fn of_images(
        (basis, source, images): (Basis, String, u64),
        names: &[String],
        old: usize,
        kept: Vec<ClassKept>,
        on_new: &ClassifyMetrics,
    ) -> Kept {
        let new = names.iter().enumerate().skip(old).map(|(class, name)| {
            let found = on_new.per_class.get(class);
            ClassNew {
                name: name.clone(),
                count: found.map_or(0, |c| c.images),
                ap50: None,
                ap: None,
                recall: Some(found.map_or(0.0, |c| c.recall)),
            }
        });
        let new = new.collect();
        Kept::of(Counted::Images, (basis, source, images), old, kept, new)
    }

    fn of(
        counted: Counted,
        (basis, source, images): (Basis, String, u64),
        old_classes: usize,
        old: Vec<ClassKept>,
        new: Vec<ClassNew>,
    ) -> Kept {
        let before = mean(old.iter().filter_map(|c| c.before));
        let after = mean(old.iter().map(|c| c.after));
        Kept { counted, basis, source, images, old_classes, before, after, new, old }
    }

    /// The old classes that lost most, largest loss first.
    fn losses(&self) -> Vec<(&ClassKept, f64)> {
        let full = |class: &ClassKept| class.before.unwrap_or(1.0);
        let mut losses: Vec<_> =
            self.old.iter().map(|c| (c, full(c) - c.after)).filter(|(_, l)| *l >= LOSS).collect();
        losses.sort_by(|a, b| b.1.total_cmp(&a.1));
        losses
    }

    /// What there is to say, a sentence or two each for old and new classes.
    pub fn sentences(&self) -> [String; 2] {
        let objects: u64 = self.old.iter().map(|c| c.count).sum();
        let (seen, of) = (self.old.len(), self.old_classes);
        let on = format!("{} images of {}", self.images, self.source);
        let images = self.counted == Counted::Images;
        let mut old = match (self.after, self.basis) {
            (Some(after), Basis::Labels) if images => format!(
                "old classes: accuracy {after:.3} after, {:.3} before (mean over classes), on {on} ({objects} images of {seen} of \
                 {of} classes)",
                self.before.unwrap_or(0.0)
            ),
            (Some(after), Basis::Agreement) if images => format!(
                "old classes: agreement with the starting model {after:.3} (mean over classes; 1: nothing is lost), on {on}, of \
                 which that takes {objects} for {seen} of {of} classes; labelled images (old_data=) would tell more"
            ),
            (None, Basis::Labels) => format!("old classes: nothing can be said of them, for {on} show none"),
            (None, Basis::Agreement) => format!(
                "old classes: nothing can be said of them, for the starting model finds none on {on}; old_data= names \
                 images that tell"
            ),
            (Some(after), Basis::Labels) => format!(
                "old classes: mAP50 {after:.3} after, {:.3} before, on {on} ({objects} objects of {seen} of {of} classes)",
                self.before.unwrap_or(0.0)
            ),
            (Some(after), Basis::Agreement) => format!(
                "old classes: agreement with the starting model mAP50 {after:.3} (its own with itself {:.3}), on {on}, where that \
                 finds {objects} objects of {seen} of {of} classes; labelled images (old_data=) would tell more",
                self.before.unwrap_or(1.0)
            ),
        };
        let losses = self.losses();
        let named: Vec<String> = losses
            .iter()
            .take(NAMED)
            .map(|(c, _)| format!("{} {:.3} -> {:.3}", c.name, c.before.unwrap_or(1.0), c.after))
            .collect();
        match (named.is_empty(), seen) {
            (false, _) => old.push_str(&format!(". Most lost: {}", named.join(", "))),
            (true, 1..) => old.push_str(". None has lost anything"),
            (true, 0) => {}
        }
        let new = self.new.iter().map(|c| match (c.count, c.ap50, c.recall) {
            (0, ..) => format!("{} unknown (no validation image shows one)", c.name),
            (_, _, Some(recall)) => format!("{} accuracy {recall:.3}", c.name),
            (_, ap50, _) => format!("{} mAP50 {:.3}", c.name, ap50.unwrap_or(0.0)),
        });
        [old, format!("new classes: {}", new.collect::<Vec<_>>().join(", "))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::{Detection, Xyxy};
    use crate::evaluate::{Evaluator, Truth};

    fn metrics(names: &[String], found: &[u32], there: &[u32]) -> DetectMetrics {
        let mut evaluator = Evaluator::new(names.to_vec());
        let bbox =
            |class: u32| Xyxy { x1: 20.0 * class as f32, y1: 0.0, x2: 20.0 * class as f32 + 10.0, y2: 10.0 };
        let detections: Vec<_> =
            found.iter().map(|&class| Detection { class, score: 0.9, bbox: bbox(class) }).collect();
        let truths: Vec<_> =
            there.iter().map(|&class| Truth { class, bbox: bbox(class), crowd: false }).collect();
        evaluator.add(&detections, &truths).unwrap();
        evaluator.finish()
    }

    fn names() -> Vec<String> {
        ["person", "car", "dog", "tree"].map(String::from).to_vec()
    }

    #[test]
    fn losses_are_named_and_means_are_over_the_classes_that_are_there() {
        let names = names();
        let before = metrics(&names[..3], &[0, 1], &[0, 1]);
        let after = metrics(&names, &[0, 3], &[0, 1]);
        let on_new = metrics(&names, &[3], &[3]);
        let source = || "old_data=coco.yaml".to_owned();
        let kept = Kept::new((Basis::Labels, source()), &names, 3, (&before, &after), &on_new);
        assert_eq!(kept.old.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["person", "car"]);
        assert!(kept.before.unwrap() > 0.99 && (kept.after.unwrap() - 0.5).abs() < 0.01, "{kept:?}");
        let [old, new] = kept.sentences();
        assert!(
            old.contains("2 objects of 2 of 3 classes") && old.contains("Most lost: car 0.995 -> 0.000"),
            "{old}"
        );
        assert!(new.starts_with("new classes: tree mAP50 0.99"), "{new}");
        let back: Kept = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        assert_eq!((back.sentences(), back.basis), (kept.sentences(), kept.basis));

        let alike = metrics(&names, &[0], &[0]);
        let same = Kept::new((Basis::Agreement, source()), &names, 3, (&alike, &alike), &after);
        let [old, new] = same.sentences();
        assert!(old.contains("agreement") && old.contains("1 objects of 1 of 3"), "{old}");
        assert!(old.contains("0.995 (its own with itself 0.995)") && old.contains("None has lost"), "{old}");
        assert!(new.contains("tree unknown"), "{new}");
        let none = metrics(&names, &[], &[]);
        let nothing = Kept::new((Basis::Agreement, source()), &names, 3, (&none, &none), &on_new);
        assert_eq!(nothing.after, None);
        assert!(nothing.sentences()[0].contains("nothing can be said"));
    }
}
