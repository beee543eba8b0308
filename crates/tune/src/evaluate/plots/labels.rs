//! How a data set's boxes are distributed: over the classes, over the image, over sizes.

use super::svg::{Anchor, Drawing, fit, text_width};
use crate::boxes::Label;

/// Cells a side of the two maps.
const CELLS: usize = 40;
/// Classes with a bar of their own; the rest share one.
const BARS: usize = 40;
const MAP: f64 = 300.0;

/// Bars of boxes per class, a map of where box centres lie and a map of box widths and heights. A label whose class lies outside
/// `names` counts as "other".
pub fn labels_plot(names: &[String], labels: impl IntoIterator<Item = Label>) -> Drawing {
    let mut counts = vec![0u64; names.len()];
    let mut other = 0u64;
    let mut centres = vec![0u64; CELLS * CELLS];
    let mut sizes = vec![0u64; CELLS * CELLS];
    let cell = |v: f32| ((v.clamp(0.0, 1.0) * CELLS as f32) as usize).min(CELLS - 1);
    for label in labels {
        match counts.get_mut(label.class as usize) {
            Some(count) => *count += 1,
            None => other += 1,
        }
        centres[cell(label.cy) * CELLS + cell(label.cx)] += 1;
        // Height grows upwards, as in any chart.
        sizes[(CELLS - 1 - cell(label.h)) * CELLS + cell(label.w)] += 1;
    }
    let total = counts.iter().sum::<u64>() + other;

    let mut bars: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(counts).collect();
    if bars.len() > BARS {
        bars.sort_by_key(|b| std::cmp::Reverse(b.1));
        other += bars.drain(BARS - 1..).map(|b| b.1).sum::<u64>();
    }
    if other > 0 {
        bars.push(("other", other));
    }
    let row = if bars.len() > 14 { 15.0 } else { 22.0 };
    let height = (bars.len() as f64 * row + 64.0).max(MAP + 110.0);
    let (bars_width, gap) = (400.0, 60.0);
    let mut drawing = Drawing::new(
        "Labels",
        &format!(
            "{total} boxes of {} classes: how many of each, where they lie and how large they are.",
            names.len()
        ),
        bars_width + 2.0 * (MAP + gap) + 20.0,
        height,
    );
    draw_bars(&mut drawing, &bars, bars_width, row);
    let left = bars_width + gap;
    draw_map(&mut drawing, left, ("Where box centres lie", "x", "y"), &centres, true);
    draw_map(&mut drawing, left + MAP + gap, ("How large boxes are", "Width", "Height"), &sizes, false);
    drawing
}

fn draw_bars(drawing: &mut Drawing, bars: &[(&str, u64)], width: f64, row: f64) {
    drawing.text("title", (12.0, 22.0), Anchor::Start, 0.0, "Boxes per class");
    let most = bars.iter().map(|b| b.1).max().unwrap_or(0).max(1) as f64;
    let names = bars.iter().map(|b| text_width(b.0, 12.0)).fold(0.0, f64::max).clamp(30.0, 130.0);
    let left = 12.0 + names + 8.0;
    let room = width - left - text_width(&format!("{most}"), 12.0) - 12.0;
    for (index, (name, count)) in bars.iter().enumerate() {
        let y = 44.0 + index as f64 * row;
        let middle = y + row / 2.0 + 3.0;
        drawing.text("", (left - 8.0, middle), Anchor::End, 0.0, &fit(name, 12.0, names));
        let length = *count as f64 / most * room;
        drawing.rect(
            "cell",
            (left, y + 1.0),
            (length.max(0.5), row - 4.0),
            0.85,
            &format!("{name}: {count}"),
        );
        drawing.text("tick", (left + length + 6.0, middle), Anchor::Start, 0.0, &count.to_string());
    }
}

/// A map of counts; `down`: the vertical axis grows downwards, as in an image.
fn draw_map(drawing: &mut Drawing, left: f64, (title, x, y): (&str, &str, &str), counts: &[u64], down: bool) {
    let top = 44.0;
    drawing.text("title", (left, 22.0), Anchor::Start, 0.0, title);
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let cell = MAP / CELLS as f64;
    for (index, count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
        let at = (left + (index % CELLS) as f64 * cell, top + (index / CELLS) as f64 * cell);
        drawing.rect(
            "cell",
            at,
            (cell, cell),
            0.08 + 0.92 * (*count as f64 / most).sqrt(),
            &count.to_string(),
        );
    }
    drawing.rect("frame", (left, top), (MAP, MAP), 1.0, "");
    for i in 0..=4 {
        let share = f64::from(i) / 4.0;
        let text = format!("{share}");
        let across = (left + share * MAP, top + MAP + 16.0);
        drawing.text("tick", across, Anchor::Middle, 0.0, &text);
        let along = if down { share } else { 1.0 - share };
        drawing.text("tick", (left - 6.0, top + along * MAP + 4.0), Anchor::End, 0.0, &text);
    }
    let below = (left + MAP / 2.0, top + MAP + 36.0);
    drawing.text("label", below, Anchor::Middle, 0.0, &format!("{x}, share of the image"));
    drawing.text("label", (left - 36.0, top + MAP / 2.0), Anchor::Middle, -90.0, y);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(class: u32, cx: f32, w: f32) -> Label {
        Label { class, cx, cy: 0.5, w, h: 0.1 }
    }

    #[test]
    fn classes_are_counted_and_named() {
        let names = ["cat".to_string(), "dog & co".to_string()];
        let drawing = labels_plot(&names, [label(0, 0.5, 0.2), label(1, 0.1, 0.2), label(1, 1.0, 1.0)]);
        let svg = drawing.inline();
        assert!(
            svg.contains("<title>cat: 1</title>") && svg.contains("<title>dog &amp; co: 2</title>"),
            "{svg}"
        );
        assert!(drawing.description.starts_with("3 boxes of 2 classes"));
    }

    #[test]
    fn rare_classes_share_a_bar() {
        let names: Vec<_> = (0..100).map(|i| format!("c{i}")).collect();
        let labels = (0..100).flat_map(|c| vec![label(c, 0.5, 0.5); if c == 77 { 5 } else { 1 }]);
        let svg = labels_plot(&names, labels).inline();
        assert!(svg.contains("<title>c77: 5</title>") && svg.contains("<title>other: 61</title>"), "{svg}");
    }

    #[test]
    fn an_empty_set_is_drawn_too() {
        assert!(labels_plot(&[], []).standalone().contains("0 boxes of 0 classes"));
    }
}
