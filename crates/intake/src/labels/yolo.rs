//! YOLO label text: one object a row, `class cx cy w h`, as fractions of the image.
//!
//! A row of 7 or more numbers, an odd count, is a polygon `class x1 y1 x2 y2 …` (segmentation, oriented boxes): its
//! enclosing box is used, and a warning says so. Pose rows (a box and its keypoints) need the keypoint count of
//! `data.yaml`; without it they cannot be told from polygons.

use super::{LabelFaultKind, Labels, RawBox, utf8};

/// How far below 0 or above 1 a coordinate may lie. The reference allows the same.
const TOLERANCE: f64 = 0.01;

/// What a row is held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct YoloOptions {
    /// Number of classes that `data.yaml` names; `None`: any class number is right.
    pub classes: Option<u32>,
    /// Numbers that follow the box in a pose row.
    pub keypoint_numbers: Option<usize>,
}

/// Reads a label file's bytes.
pub fn parse(bytes: &[u8], options: &YoloOptions) -> Labels {
    let mut labels = Labels::default();
    let text = match utf8(bytes) {
        Ok(text) => text,
        Err(line) => {
            labels.fault(
                line,
                LabelFaultKind::Malformed,
                "the file is not UTF-8 text: write it anew as plain text",
            );
            return labels;
        }
    };
    let mut polygons: Option<(usize, usize)> = None;
    for (i, row) in text.lines().enumerate() {
        let line = i + 1;
        let Some(row) = numbers(row, line, options, &mut labels) else { continue };
        let Some(class) = class_of(row[0], line, options, &mut labels) else { continue };
        let is_box = row.len() == 5 || options.keypoint_numbers.is_some_and(|k| row.len() == 5 + k);
        if !is_box {
            polygons.get_or_insert((line, 0)).1 += 1;
        }
        let corners = if is_box { &row[1..5] } else { &row[1..] };
        if !within(corners, line, &mut labels) {
            continue;
        }
        let [cx, cy, w, h] = if is_box { [row[1], row[2], row[3], row[4]] } else { enclosing(corners) };
        push(RawBox { class, cx: cx as f32, cy: cy as f32, w: w as f32, h: h as f32, line }, &mut labels);
    }
    if let Some((line, count)) = polygons {
        let message = format!("{count} polygon(s) from here on; each counts as the box that encloses it");
        labels.fault(line, LabelFaultKind::PolygonAsBox, message);
    }
    labels.drop_duplicates();
    labels.faults.sort_by_key(|f| f.line);
    labels
}

/// The row's numbers, finite and of a sensible count; `None` for an empty or faulty row.
fn numbers(row: &str, line: usize, options: &YoloOptions, labels: &mut Labels) -> Option<Vec<f64>> {
    use LabelFaultKind::*;
    let words: Vec<&str> = row.split_whitespace().collect();
    if words.is_empty() {
        return None;
    }
    let mut values = Vec::with_capacity(words.len());
    for word in &words {
        match word.parse::<f64>() {
            Ok(value) if value.is_finite() => values.push(value),
            Ok(_) => {
                labels.fault(
                    line,
                    NonFinite,
                    format!("`{}` is not a finite number: correct the row", clip(word)),
                );
                return None;
            }
            Err(_) => {
                let hint =
                    if word.contains(',') { ": separate numbers by spaces" } else { ": correct the row" };
                labels.fault(line, NotANumber, format!("`{}` is not a number{hint}", clip(word)));
                return None;
            }
        }
    }
    let n = values.len();
    let pose = options.keypoint_numbers.map(|k| 5 + k);
    if n == 5 || pose == Some(n) || (pose.is_none() && n >= 7 && n % 2 == 1) {
        return Some(values);
    }
    let expected = match pose {
        Some(pose) => format!("a box has 5 (class cx cy w h), one with its keypoints {pose}"),
        None => "a box has 5 (class cx cy w h), a polygon 7 or a greater odd count".into(),
    };
    let hint = if n == 6 { "; a sixth number, such as a score, does not belong here" } else { "" };
    labels.fault(line, WrongCount, format!("the row has {n} number(s), but {expected}{hint}"));
    None
}

fn clip(word: &str) -> String {
    word.chars().take(40).collect()
}

fn class_of(value: f64, line: usize, options: &YoloOptions, labels: &mut Labels) -> Option<u32> {
    let message = match options.classes {
        _ if value.fract() != 0.0 => format!("class {value} is not a whole number: correct it"),
        _ if value < 0.0 => format!("class {value} is negative: classes count from 0"),
        Some(n) if value >= f64::from(n) => {
            format!(
                "class {value}, but the data set names {n} class(es), 0 to {}: correct it or add the name",
                n - 1
            )
        }
        _ if value > f64::from(u32::MAX) => format!("class {value} is too large a number: correct it"),
        _ => return Some(value as u32),
    };
    labels.fault(line, LabelFaultKind::ClassOutOfRange, message);
    None
}

fn within(values: &[f64], line: usize, labels: &mut Labels) -> bool {
    let Some(&bad) = values.iter().find(|v| !(-TOLERANCE..=1.0 + TOLERANCE).contains(*v)) else {
        return true;
    };
    let hint = if values.iter().any(|&v| v > 2.0) {
        "these look like pixels: divide by the image's width and height"
    } else {
        "coordinates are fractions of the image, 0 to 1"
    };
    labels.fault(
        line,
        LabelFaultKind::CoordinatesOutOfRange,
        format!("coordinate {bad} is out of range: {hint}"),
    );
    false
}

/// The box around a polygon's points.
fn enclosing(points: &[f64]) -> [f64; 4] {
    let span = |first: usize| {
        let along = points.iter().skip(first).step_by(2);
        along.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
    };
    let ((x1, x2), (y1, y2)) = (span(0), span(1));
    [(x1 + x2) / 2.0, (y1 + y2) / 2.0, x2 - x1, y2 - y1]
}

fn push(b: RawBox, labels: &mut Labels) {
    use LabelFaultKind::*;
    if b.w < 0.0 || b.h < 0.0 {
        let message = format!("the box's size {} x {} is negative: correct it", b.w, b.h);
        return labels.fault(b.line, CoordinatesOutOfRange, message);
    }
    if b.w == 0.0 || b.h == 0.0 {
        let message = format!("the box's size is {} x {}: draw it anew or delete the row", b.w, b.h);
        return labels.fault(b.line, ZeroSize, message);
    }
    let beyond = |c: f32, s: f32| c - s / 2.0 < -TOLERANCE as f32 || c + s / 2.0 > 1.0 + TOLERANCE as f32;
    if beyond(b.cx, b.w) || beyond(b.cy, b.h) {
        labels.fault(b.line, OutsideImage, "the box reaches beyond the image's edge; it is kept as it is");
    }
    labels.boxes.push(b);
}

/// Writes boxes as label text, one row each, with as many digits as reading back exactly takes.
pub fn write(boxes: &[RawBox]) -> String {
    boxes.iter().map(|b| format!("{} {} {} {} {}\n", b.class, b.cx, b.cy, b.w, b.h)).collect()
}

#[cfg(test)]
mod tests {
    use super::LabelFaultKind::*;
    use super::*;
    use proptest::prelude::*;

    fn faults(text: &str, classes: u32) -> Vec<(usize, LabelFaultKind)> {
        let labels = parse(text.as_bytes(), &YoloOptions { classes: Some(classes), ..Default::default() });
        labels.faults.iter().map(|f| (f.line.unwrap(), f.kind)).collect()
    }

    #[test]
    fn boxes_and_blank_lines() {
        let labels =
            parse(b"\xef\xbb\xbf0 0.5 0.25 0.5 .125\r\n\n  2.0\t1 1 1e-3 0.5  \n", &YoloOptions::default());
        let b = |class, cx, cy, w, h, line| RawBox { class, cx, cy, w, h, line };
        assert_eq!(labels.boxes, [b(0, 0.5, 0.25, 0.5, 0.125, 1), b(2, 1.0, 1.0, 1e-3, 0.5, 3)]);
        assert_eq!(labels.faults.iter().map(|f| f.kind).collect::<Vec<_>>(), [OutsideImage]);
    }

    #[test]
    fn each_fault_with_its_line() {
        let text = "0 .5 .5 .1\n0 .5 .5 .1 .1 .9\n0 x .5 .1 .1\n0 nan .5 .1 .1\n0 .5 inf .1 .1\n3 .5 .5 .1 .1\n\
                    -1 .5 .5 .1 .1\n0.5 .5 .5 .1 .1\n0 1.2 .5 .1 .1\n0 .5 .5 -.1 .1\n0 .5 .5 0 .1\n\
                    1 .5 .5 .1 .1\n1 .5 .5 .1 .1\n0 320 240 50 50\n0 .99 .5 .1 .1\n0,.5,.5,.1,.1\n";
        let expected = [
            (1, WrongCount),
            (2, WrongCount),
            (3, NotANumber),
            (4, NonFinite),
            (5, NonFinite),
            (6, ClassOutOfRange),
            (7, ClassOutOfRange),
            (8, ClassOutOfRange),
            (9, CoordinatesOutOfRange),
            (10, CoordinatesOutOfRange),
            (11, ZeroSize),
            (13, Duplicate),
            (14, CoordinatesOutOfRange),
            (15, OutsideImage),
            (16, NotANumber),
        ];
        assert_eq!(faults(text, 3), expected);
        let labels = parse(text.as_bytes(), &YoloOptions { classes: Some(3), ..Default::default() });
        assert_eq!(labels.boxes.iter().map(|b| b.line).collect::<Vec<_>>(), [12, 15]);
        assert_eq!(
            labels.faults[5].message.split(':').next().unwrap(),
            "class 3, but the data set names 3 class(es), 0 to 2"
        );
    }

    #[test]
    fn a_slight_excess_is_tolerated() {
        assert_eq!(faults("0 1.009 -0.009 .001 .001\n0 .5 .5 1.005 1", 1), []);
        assert_eq!(faults("0 1.011 .5 .001 .001", 1), [(1, CoordinatesOutOfRange)]);
    }

    #[test]
    fn a_polygon_becomes_its_box_aloud() {
        let labels = parse(b"0 .5 .5 .2 .2\n1 .1 .2 .5 .2 .5 .6 .1 .6\n", &YoloOptions::default());
        let b = labels.boxes[1];
        assert!((b.cx - 0.3).abs() < 1e-6 && (b.cy - 0.4).abs() < 1e-6);
        assert!((b.w - 0.4).abs() < 1e-6 && (b.h - 0.4).abs() < 1e-6);
        assert_eq!((labels.faults[0].line, labels.faults[0].kind), (Some(2), PolygonAsBox));
    }

    #[test]
    fn pose_rows_need_the_keypoint_count() {
        let row = b"0 .5 .5 .2 .2 .4 .4 2 .6 .6 1";
        let with = |keypoint_numbers| parse(row, &YoloOptions { classes: None, keypoint_numbers });
        assert_eq!(with(Some(6)).boxes.len(), 1);
        assert_eq!(with(Some(6)).faults, []);
        assert_eq!(with(Some(4)).faults[0].kind, WrongCount);
    }

    #[test]
    fn binary_is_one_fault() {
        let labels = parse(b"0 .5 .5 .1 .1\n\xff\xfe\x00", &YoloOptions::default());
        assert_eq!((labels.boxes.len(), labels.faults.len()), (0, 1));
        assert_eq!((labels.faults[0].line, labels.faults[0].kind), (Some(2), Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes, &YoloOptions::default());
        }

        #[test]
        fn any_rows_keep_only_sound_boxes(text in "([0-3.e\\-+ ]|nan|inf|\n){0,80}") {
            for b in parse(text.as_bytes(), &YoloOptions { classes: Some(2), keypoint_numbers: None }).boxes {
                prop_assert!(b.class < 2 && b.w > 0.0 && b.h > 0.0);
                prop_assert!([b.cx, b.cy, b.w, b.h].iter().all(|v| (-0.011..=1.011).contains(v)));
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            rows in prop::collection::vec((0u32..80, 0f32..=1.0, 0f32..=1.0, 1e-6f32..=1.0, 1e-6f32..=1.0), 0..20)
        ) {
            let boxes: Vec<RawBox> = rows
                .iter()
                .enumerate()
                .map(|(i, &(class, cx, cy, w, h))| RawBox { class, cx, cy, w, h, line: i + 1 })
                .collect();
            let labels = parse(write(&boxes).as_bytes(), &YoloOptions { classes: Some(80), keypoint_numbers: None });
            prop_assert!(labels.faults.iter().all(|f| matches!(f.kind, OutsideImage | Duplicate)));
            if labels.faults.iter().all(|f| f.kind != Duplicate) {
                prop_assert_eq!(labels.boxes, boxes);
            }
        }
    }
}
