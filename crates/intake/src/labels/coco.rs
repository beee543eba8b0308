//! COCO detection JSON: images, categories and annotations of a whole split in one file, boxes as
//! `[x, y, width, height]` in pixels.
//!
//! The three lists are first cut into their elements without being read, then each element is read on its own: a
//! faulty one costs itself only, and its place in the text gives its line.

use super::{LabelFault, LabelFaultKind, Labels, Lines, pixels, utf8};
use crate::limits::CLASSES;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// An image of the file, with its boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoImage {
    /// Path below the image folder.
    pub file_name: String,
    /// Width and height in pixels, where given.
    pub size: Option<(u32, u32)>,
    /// The line of its entry, from 1.
    pub line: usize,
    /// Its boxes in the file's order.
    pub boxes: Vec<CocoBox>,
    /// Faults of its annotations.
    pub faults: Vec<LabelFault>,
}

/// A box as the file states it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CocoBox {
    /// Index into [`CocoFile::classes`].
    pub class: u32,
    /// x, y (top left corner), width, height in pixels.
    pub xywh: [f64; 4],
    /// The line of its annotation, from 1.
    pub line: usize,
}

/// What a file states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CocoFile {
    /// Class names, ordered by category id.
    pub classes: Vec<String>,
    /// The images in the file's order.
    pub images: Vec<CocoImage>,
    /// Faults that concern no listed image.
    pub faults: Vec<LabelFault>,
}

/// A file that cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct CocoError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what helps.
    pub message: String,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    images: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    annotations: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    categories: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct RawImage {
    id: u64,
    file_name: String,
    width: Option<f64>,
    height: Option<f64>,
}

#[derive(Deserialize)]
struct RawCategory {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct RawAnnotation {
    image_id: u64,
    category_id: u64,
    bbox: Option<Vec<f64>>,
    #[serde(default)]
    iscrowd: serde_json::Value,
}

/// Reads a file's bytes.
///
/// # Errors
/// The text is not JSON, or lacks one of the three lists, or names no category.
pub fn parse(bytes: &[u8]) -> Result<CocoFile, CocoError> {
    let fail = |line, message: String| CocoError { line, message };
    let text = utf8(bytes).map_err(|line| fail(line, "the file is not UTF-8: write it anew".into()))?;
    let outer: Outer = serde_json::from_str(text)
        .map_err(|e| fail(e.line().max(1), format!("this is not COCO JSON ({e}): write the file anew")))?;
    let list = |list: Option<Vec<_>>, key| {
        list.ok_or_else(|| fail(1, format!("the file has no list `{key}`: is it a COCO detection file?")))
    };
    let (images, annotations) = (list(outer.images, "images")?, list(outer.annotations, "annotations")?);
    let categories = list(outer.categories, "categories")?;
    let mut reader = Reader { text, lines: Lines::new(text), file: CocoFile::default() };
    let classes = reader.categories(&categories);
    if reader.file.classes.is_empty() {
        return Err(fail(1, "the file names no category: add the classes to `categories`".into()));
    }
    if reader.file.classes.len() > CLASSES {
        return Err(fail(1, format!("the file names more than {CLASSES} categories, the most that is read")));
    }
    let by_id = reader.images(&images);
    reader.annotations(&annotations, &by_id, &classes);
    Ok(reader.file)
}

struct Reader<'a> {
    text: &'a str,
    lines: Lines,
    file: CocoFile,
}

impl<'a> Reader<'a> {
    /// The line where an element starts: elements are borrowed from the text, so their addresses tell the place.
    fn line(&self, element: &RawValue) -> usize {
        self.lines.of(element.get().as_ptr() as usize - self.text.as_ptr() as usize)
    }

    fn fault(&mut self, line: usize, kind: LabelFaultKind, message: String) {
        self.file.faults.push(LabelFault { line: Some(line), kind, message });
    }

    /// One element, or a fault in its place. A number or text of the wrong kind is told by serde, whose own line
    /// counts within the element.
    fn element<T: Deserialize<'a>>(&mut self, element: &'a RawValue, what: &str) -> Option<(T, usize)> {
        let line = self.line(element);
        match serde_json::from_str(element.get()) {
            Ok(value) => Some((value, line)),
            Err(e) => {
                let line = line + e.line().saturating_sub(1);
                self.fault(
                    line,
                    LabelFaultKind::Malformed,
                    format!("this {what} cannot be read ({e}): correct it"),
                );
                None
            }
        }
    }

    /// Fills the class names; returns the class number of each category id.
    fn categories(&mut self, elements: &[&'a RawValue]) -> HashMap<u64, u32> {
        let mut found: Vec<(RawCategory, usize)> =
            elements.iter().filter_map(|e| self.element(e, "category")).collect();
        found.sort_by_key(|(c, _)| c.id);
        let mut classes = HashMap::new();
        for (category, line) in found {
            if classes.contains_key(&category.id) {
                let message = format!("category id {} is given twice: renumber one", category.id);
                self.fault(line, LabelFaultKind::Malformed, message);
                continue;
            }
            classes.insert(category.id, self.file.classes.len() as u32);
            self.file.classes.push(category.name);
        }
        classes
    }

    /// Fills the images; returns the index of each image id.
    fn images(&mut self, elements: &[&'a RawValue]) -> HashMap<u64, usize> {
        let mut by_id = HashMap::with_capacity(elements.len());
        for element in elements {
            let Some((raw, line)) = self.element::<RawImage>(element, "image") else { continue };
            if by_id.contains_key(&raw.id) {
                let message = format!("image id {} is given twice: renumber one", raw.id);
                self.fault(line, LabelFaultKind::Malformed, message);
                continue;
            }
            let side = |v: Option<f64>| v.filter(|v| (1.0..=1e9).contains(v)).map(|v| v as u32);
            let size = side(raw.width).zip(side(raw.height));
            by_id.insert(raw.id, self.file.images.len());
            let (boxes, faults) = (Vec::new(), Vec::new());
            self.file.images.push(CocoImage { file_name: raw.file_name, size, line, boxes, faults });
        }
        by_id
    }

    fn annotations(
        &mut self,
        all: &[&'a RawValue],
        images: &HashMap<u64, usize>,
        classes: &HashMap<u64, u32>,
    ) {
        use LabelFaultKind::*;
        for element in all {
            let Some((raw, line)) = self.element::<RawAnnotation>(element, "annotation") else { continue };
            let Some(&image) = images.get(&raw.image_id) else {
                let message =
                    format!("the annotation belongs to image id {}, which is not listed", raw.image_id);
                self.fault(line, UnknownImage, message);
                continue;
            };
            let image = &mut self.file.images[image];
            let mut fault = |kind, message| image.faults.push(LabelFault { line: Some(line), kind, message });
            let Some(&class) = classes.get(&raw.category_id) else {
                let message =
                    format!("category id {} is not listed: correct it or add the category", raw.category_id);
                fault(ClassOutOfRange, message);
                continue;
            };
            if raw.iscrowd == 1 || raw.iscrowd == true {
                fault(Crowd, "a crowd region; it is left out".into());
                continue;
            }
            match raw.bbox.as_deref() {
                Some(&[x, y, w, h]) => image.boxes.push(CocoBox { class, xywh: [x, y, w, h], line }),
                other => {
                    let n = other.map_or(0, <[f64]>::len);
                    fault(
                        WrongCount,
                        format!("`bbox` has {n} numbers, but a box has 4 (x, y, width, height)"),
                    );
                }
            }
        }
    }
}

impl CocoImage {
    /// The boxes as fractions of the image, whose real width and height in pixels is `size`. `classes` gives each
    /// of the file's classes its number in the data set.
    ///
    /// # Panics
    /// `classes` must be as long as the file's [`CocoFile::classes`].
    pub fn to_labels(&self, classes: &[u32], size: (u32, u32)) -> Labels {
        let mut labels = Labels { boxes: Vec::new(), faults: self.faults.clone() };
        if let Some((w, h)) = self.size
            && (w, h) != size
        {
            let message = format!(
                "the file says {w} x {h} pixels for {}, but the image has {} x {}: the boxes may be of another \
                 version of the image",
                self.file_name, size.0, size.1
            );
            labels.fault(self.line, LabelFaultKind::SizeMismatch, message);
        }
        for b in &self.boxes {
            let [x, y, w, h] = b.xywh;
            pixels::add(&mut labels, classes[b.class as usize], [x, y, x + w, y + h], size, b.line);
        }
        labels.drop_duplicates();
        labels.faults.sort_by_key(|f| f.line);
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::LabelFaultKind::*;
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = r#"{"info": {"year": 2024},
"categories": [{"id": 7, "name": "fir"},
 {"id": 3, "name": "pine", "supercategory": "tree"}],
"images": [
 {"id": 1, "file_name": "a.jpg", "width": 100, "height": 50},
 {"id": 2, "file_name": "sub/b.jpg"}],
"annotations": [
 {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 20.0, 10], "area": 200, "iscrowd": 0},
 {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 100, 50]}
]}"#;

    #[test]
    fn ids_become_classes_in_their_order() {
        let file = parse(GOOD.as_bytes()).unwrap();
        assert_eq!(file.classes, ["pine", "fir"]);
        assert_eq!(file.faults, []);
        assert_eq!(file.images.iter().map(|i| i.line).collect::<Vec<_>>(), [5, 6]);
        let labels = file.images[0].to_labels(&[0, 1], (100, 50));
        assert_eq!(labels.faults, []);
        let b = labels.boxes[0];
        assert_eq!((b.class, b.cx, b.cy, b.w, b.h, b.line), (1, 0.2, 0.3, 0.2, 0.2, 8));
        assert_eq!(labels.boxes[1].class, 0);
    }

    #[test]
    fn each_fault_with_its_line() {
        let rows = [
            r#"{"image_id": 9, "category_id": 3, "bbox": [0, 0, 9, 9]}"#,
            r#"{"image_id": 1, "category_id": 4, "bbox": [0, 0, 9, 9]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9]}"#,
            r#"{"image_id": 1, "category_id": 3}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [0, 0, 9, "x"]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [0, 0, 0, 9]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [90, 0, 20, 9]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [1, 1, 2, 2], "iscrowd": 1}"#,
            r#"{"image_id": 1, "category_id": 7, "bbox": [10, 10, 20.0, 10]}"#,
            r#"{"image_id": 1, "category_id": 3, "bbox": [1, 1, 1e400, 2]}"#,
        ];
        let text = GOOD.replace("\n]}", &format!(",\n{}]}}", rows.join(",\n")));
        let file = parse(text.as_bytes()).unwrap();
        let kinds =
            |faults: &[LabelFault]| faults.iter().map(|f| (f.line.unwrap(), f.kind)).collect::<Vec<_>>();
        // 1e400 is no finite number, which the JSON reader itself refuses.
        assert_eq!(kinds(&file.faults), [(10, UnknownImage), (14, Malformed), (19, Malformed)]);
        let labels = file.images[0].to_labels(&[0, 1], (100, 50));
        let expected = [
            (11, ClassOutOfRange),
            (12, WrongCount),
            (13, WrongCount),
            (15, ZeroSize),
            (16, CoordinatesOutOfRange),
            (17, Crowd),
            (18, Duplicate),
        ];
        assert_eq!(kinds(&labels.faults), expected);
        assert_eq!(labels.boxes.len(), 2);
        let mismatch = file.images[0].to_labels(&[0, 1], (50, 100));
        assert!(kinds(&mismatch.faults).contains(&(5, SizeMismatch)));
    }

    #[test]
    fn a_file_that_is_not_coco_is_an_error_with_its_line() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("{\n\"images\": [\nNaN]}").line, 3);
        assert!(error("{\"images\": []}").message.contains("`annotations`"));
        assert!(error("[1]").message.contains("not COCO JSON"));
        assert!(
            error("{\"images\":[],\"annotations\":[],\"categories\":[]}")
                .message
                .contains("names no category")
        );
        assert!(error(&"[".repeat(100_000)).message.contains("not COCO JSON"));
        let nested = format!("{{\"images\": {}", "[".repeat(100_000));
        assert!(error(&nested).message.contains("not COCO JSON"));
    }

    #[test]
    fn doubled_ids_are_faults() {
        let text = GOOD.replace("\"id\": 2, \"file", "\"id\": 1, \"file").replace("\"id\": 3", "\"id\": 7");
        let file = parse(text.as_bytes()).unwrap();
        assert_eq!(file.faults.iter().map(|f| f.line.unwrap()).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(file.images.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "([\\[\\]{},:0-9]|\"images\"|\"annotations\"|\"categories\"|\"id\"|null|\n){0,50}") {
            let _ = parse(text.as_bytes());
            let _ = parse(format!("{{\"images\":[{text}],\"annotations\":[{text}],\"categories\":[{text}]}}").as_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(
            names in prop::collection::vec(".{1,8}", 1..5),
            images in prop::collection::vec((".{1,12}", 1u32..5000, 1u32..5000), 1..5),
            boxes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u32..40_000), 0..9),
        ) {
            // Quarters and eighths have short decimals, which the JSON reader returns exactly.
            let pick = |(i, c, v): &(prop::sample::Index, prop::sample::Index, u32)| {
                let v = f64::from(*v) / 4.0;
                (i.index(images.len()), c.index(names.len()), [v, v * 0.5, 1.5, 2.0])
            };
            let boxes: Vec<_> = boxes.iter().map(pick).collect();
            let json = serde_json::json!({
                "categories": names.iter().enumerate()
                    .map(|(i, n)| serde_json::json!({"id": i * 3 + 1, "name": n})).collect::<Vec<_>>(),
                "images": images.iter().enumerate()
                    .map(|(i, (n, w, h))| serde_json::json!({"id": i, "file_name": n, "width": w, "height": h}))
                    .collect::<Vec<_>>(),
                "annotations": boxes.iter()
                    .map(|(i, c, b)| serde_json::json!({"image_id": i, "category_id": c * 3 + 1, "bbox": b}))
                    .collect::<Vec<_>>(),
            });
            let file = parse(serde_json::to_string_pretty(&json).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(&file.classes, &names);
            prop_assert!(file.faults.is_empty());
            for (i, image) in file.images.iter().enumerate() {
                prop_assert_eq!((&image.file_name, image.size), (&images[i].0, Some((images[i].1, images[i].2))));
                let read: Vec<_> = image.boxes.iter().map(|b| (i, b.class as usize, b.xywh)).collect();
                let written: Vec<_> = boxes.iter().filter(|b| b.0 == i).copied().collect();
                prop_assert_eq!(read, written);
            }
        }
    }
}
