//! Pascal VOC XML: one file an image, boxes as pixel corners.
//!
//! Corners are taken as they stand, without the shift by one of the original VOC tools: what writes this format today
//! counts from 0. No DTD and no entities are read.

use super::{LabelFaultKind, Labels, Lines, pixels, utf8};
use crate::limits::VOC_NODES;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::HashMap;

/// One object as the file states it.
#[derive(Clone, Debug, PartialEq)]
pub struct VocObject {
    /// Class name.
    pub name: String,
    /// xmin, ymin, xmax, ymax in pixels.
    pub corners: [f64; 4],
    /// Marked as difficult to recognise. Such objects are kept.
    pub difficult: bool,
    /// The line of its `<object>`, from 1.
    pub line: usize,
}

/// What a file states; sizes are not yet held against the image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VocFile {
    /// The image's file name, where given.
    pub filename: Option<String>,
    /// Width, height in pixels and the line, where given and above 0.
    pub size: Option<(u32, u32, usize)>,
    /// The objects that have a name and four numbers.
    pub objects: Vec<VocObject>,
    /// What is wrong so far.
    pub labels: Labels,
}

/// Reads a file's bytes.
pub fn parse(bytes: &[u8]) -> VocFile {
    use LabelFaultKind::Malformed;
    let mut file = VocFile::default();
    let text = match utf8(bytes) {
        Ok(text) => text,
        Err(line) => {
            file.labels.fault(line, Malformed, "the file is not UTF-8: write it anew as UTF-8");
            return file;
        }
    };
    let options = ParsingOptions { allow_dtd: false, nodes_limit: VOC_NODES, ..ParsingOptions::default() };
    let document = match Document::parse_with_options(text, options) {
        Ok(document) => document,
        Err(e) => {
            let line = e.pos().row as usize;
            file.labels.fault(line, Malformed, format!("this is not valid XML ({e}): write the file anew"));
            return file;
        }
    };
    let lines = Lines::new(text);
    let root = document.root_element();
    if root.tag_name().name() != "annotation" {
        let message = format!(
            "the outermost element is <{}>, but Pascal VOC has <annotation>: is this a label file?",
            root.tag_name().name()
        );
        file.labels.fault(line_of(root, &lines), Malformed, message);
        return file;
    }
    file.filename = value(root, "filename").filter(|name| !name.is_empty()).map(str::to_string);
    if let Some(size) = child(root, "size") {
        let side =
            |name| value(size, name).and_then(|v| v.parse::<f64>().ok()).filter(|v| *v >= 1.0 && *v <= 1e9);
        if let (Some(w), Some(h)) = (side("width"), side("height")) {
            file.size = Some((w as u32, h as u32, line_of(size, &lines)));
        }
    }
    for node in root.children().filter(|n| n.has_tag_name("object")) {
        if let Some(object) = object(node, &lines, &mut file.labels) {
            file.objects.push(object);
        }
    }
    file
}

fn object(node: Node, lines: &Lines, labels: &mut Labels) -> Option<VocObject> {
    use LabelFaultKind::*;
    let line = line_of(node, lines);
    let Some(name) = value(node, "name").filter(|name| !name.is_empty()) else {
        labels.fault(line, Malformed, "the object has no <name>: add its class");
        return None;
    };
    let Some(bounds) = child(node, "bndbox") else {
        labels.fault(
            line,
            WrongCount,
            format!("the object `{name}` has no <bndbox>: draw its box or delete it"),
        );
        return None;
    };
    let mut corners = [0.0; 4];
    for (corner, tag) in corners.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
        let Some(text) = value(bounds, tag) else {
            labels.fault(line_of(bounds, lines), WrongCount, format!("the box has no <{tag}>: draw it anew"));
            return None;
        };
        let at = child(bounds, tag).map_or(line, |n| line_of(n, lines));
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => *corner = number,
            Ok(_) => {
                labels.fault(
                    at,
                    NonFinite,
                    format!("<{tag}> is `{text}`, not a finite number: draw the box anew"),
                );
                return None;
            }
            Err(_) => {
                let text: String = text.chars().take(40).collect();
                labels.fault(at, NotANumber, format!("<{tag}> is `{text}`, not a number: draw the box anew"));
                return None;
            }
        }
    }
    let difficult = value(node, "difficult") == Some("1");
    Some(VocObject { name: name.to_string(), corners, difficult, line })
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|n| n.has_tag_name(name))
}

fn value<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name).map(|n| n.text().unwrap_or("").trim())
}

fn line_of(node: Node, lines: &Lines) -> usize {
    lines.of(node.range().start)
}

impl VocFile {
    /// The boxes as fractions of the image. `classes` gives each name its number, `size` is the real width and height
    /// in pixels.
    ///
    /// A name that `classes` lacks and a size that contradicts the file's are faults.
    pub fn to_labels(&self, classes: &HashMap<String, u32>, size: (u32, u32)) -> Labels {
        let mut labels = self.labels.clone();
        if let Some((w, h, line)) = self.size
            && (w, h) != size
        {
            let message = format!(
                "the label file says {w} x {h} pixels, but the image has {} x {}: the boxes may be of another \
                 version of the image",
                size.0, size.1
            );
            labels.fault(line, LabelFaultKind::SizeMismatch, message);
        }
        for object in &self.objects {
            match classes.get(&object.name) {
                Some(&class) => pixels::add(&mut labels, class, object.corners, size, object.line),
                None => {
                    let message =
                        format!("the data set has no class `{}`: correct or add the name", object.name);
                    labels.fault(object.line, LabelFaultKind::ClassOutOfRange, message);
                }
            }
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

    fn write(size: (u32, u32), objects: &[(String, [f64; 4])]) -> String {
        let escape = |s: &str| s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut out =
            format!("<annotation>\n<size><width>{}</width><height>{}</height></size>\n", size.0, size.1);
        for (name, [x1, y1, x2, y2]) in objects {
            out += &format!(
                "<object><name>{}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>\
                 <ymax>{y2}</ymax></bndbox></object>\n",
                escape(name)
            );
        }
        out + "</annotation>\n"
    }

    fn classes(names: &[&str]) -> HashMap<String, u32> {
        names.iter().enumerate().map(|(i, n)| (n.to_string(), i as u32)).collect()
    }

    fn kinds(labels: &Labels) -> Vec<(usize, LabelFaultKind)> {
        labels.faults.iter().map(|f| (f.line.unwrap(), f.kind)).collect()
    }

    #[test]
    fn a_file_of_labelimg() {
        let text = "<annotation>\n  <folder>a</folder>\n  <filename>b.jpg</filename>\n  <size>\n    <width>200</width>\n    <height>100</height>\n    <depth>3</depth>\n  </size>\n  <object>\n    <name>Tree</name>\n    <difficult>1</difficult>\n    <bndbox>\n      <xmin>20</xmin><ymin>10</ymin><xmax>60.0</xmax><ymax>30</ymax>\n    </bndbox>\n  </object>\n</annotation>";
        let file = parse(text.as_bytes());
        assert_eq!(file.filename.as_deref(), Some("b.jpg"));
        assert_eq!(file.size, Some((200, 100, 4)));
        assert!(file.objects[0].difficult);
        let labels = file.to_labels(&classes(&["Shrub", "Tree"]), (200, 100));
        assert_eq!(labels.faults, []);
        let b = labels.boxes[0];
        assert_eq!((b.class, b.cx, b.cy, b.w, b.h, b.line), (1, 0.2, 0.2, 0.2, 0.2, 9));
    }

    #[test]
    fn each_fault_with_its_line() {
        let good = [10.0, 10.0, 20.0, 20.0];
        let o = |name: &str, corners| (name.to_string(), corners);
        let text = write(
            (100, 80),
            &[
                o("Tree", good),
                o("Bush", good),
                o("Tree", [10.0, 10.0, 10.0, 20.0]),
                o("Tree", [-5.0, 10.0, 20.0, 20.0]),
                o("Tree", [90.0, 10.0, 101.0, 20.0]), // one pixel beyond: clipped
                o("Tree", good),
                o("Tree", [f64::NAN, 10.0, 20.0, 20.0]),
            ],
        );
        let text = text.replace(
            "</annotation>",
            "<object><name>Tree</name></object>\n<object/>\n\
             <object><name>Tree</name><bndbox><xmin>a</xmin></bndbox></object></annotation>",
        );
        let file = parse(text.as_bytes());
        let labels = file.to_labels(&classes(&["Tree"]), (100, 80));
        let expected = [
            (4, ClassOutOfRange),
            (5, ZeroSize),
            (6, CoordinatesOutOfRange),
            (8, Duplicate),
            (9, NonFinite),
            (10, WrongCount),
            (11, Malformed),
            (12, NotANumber),
        ];
        assert_eq!(kinds(&labels), expected);
        assert_eq!(labels.boxes.iter().map(|b| b.line).collect::<Vec<_>>(), [3, 7]);
        assert!((labels.boxes[1].cx + labels.boxes[1].w / 2.0 - 1.0).abs() < 1e-6);
        assert_eq!(kinds(&file.to_labels(&classes(&["Tree"]), (100, 100)))[0], (2, SizeMismatch));
    }

    #[test]
    fn what_is_not_voc_is_one_fault() {
        for text in
            ["", "<annotation>", "<svg/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>&b;</annotation>"]
        {
            let file = parse(text.as_bytes());
            assert_eq!(file.labels.faults.len(), 1, "{text}");
            assert_eq!(file.labels.faults[0].kind, Malformed);
        }
        assert_eq!(parse(b"<annotation>\n\xff</annotation>").labels.faults[0].line, Some(2));
    }

    #[test]
    fn deep_nesting_does_no_harm() {
        let deep = format!("<annotation>{}{}</annotation>", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(parse(deep.as_bytes()).objects.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_never_panics(text in "(<|>|/|annotation|object|name|bndbox|xmin|size|width|[0-9a ]|&|\n){0,60}") {
            parse(text.as_bytes());
            parse(format!("<annotation>{text}</annotation>").as_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(
            (w, h) in (10u32..4000, 10u32..4000),
            rows in prop::collection::vec(("[!-~]([ -~]{0,6}[!-~])?", 0f64..0.8, 0f64..0.8), 0..12),
        ) {
            let objects: Vec<(String, [f64; 4])> = rows
                .iter()
                .map(|(name, x, y)| {
                    let (x, y) = (x * f64::from(w), y * f64::from(h));
                    (name.clone(), [x, y, x + 0.1 * f64::from(w), y + 0.2 * f64::from(h)])
                })
                .collect();
            let file = parse(write((w, h), &objects).as_bytes());
            prop_assert_eq!(&file.labels.faults, &[]);
            prop_assert_eq!(file.size, Some((w, h, 2)));
            let read: Vec<_> = file.objects.iter().map(|o| (o.name.clone(), o.corners)).collect();
            prop_assert_eq!(read, objects);
        }
    }
}
