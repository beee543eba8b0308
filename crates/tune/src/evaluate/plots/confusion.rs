//! The confusion matrix as a picture: rows predicted, columns true.

use super::svg::{Anchor, Drawing, fit, text_width};
use crate::evaluate::Confusion;

/// The matrix of `confusion`; `normalised`: shares of each column in place of counts. `names`: the class list.
pub fn confusion_plot(confusion: &Confusion, names: &[String], normalised: bool) -> Drawing {
    let total: u64 = confusion.counts.iter().sum();
    let right: u64 = (0..confusion.classes).map(|i| confusion.get(i, i)).sum();
    let description = format!(
        "Rows are what the model said, columns the truth, at confidence {} and IoU {}. {right} of {total} entries lie on \
         the diagonal.",
        Confusion::CONFIDENCE,
        Confusion::IOU
    );
    let side = confusion.classes + 1;
    matrix_plot(side, &confusion.counts, &confusion.normalised(), names, &description, normalised)
}

/// The confusion matrix of a classifier, `[predicted][true]`; `normalised`: shares of each column in place of counts.
pub fn class_confusion_plot(confusion: &[Vec<u64>], names: &[String], normalised: bool) -> Drawing {
    let side = confusion.len();
    let counts: Vec<u64> = confusion.concat();
    let of_truth: Vec<u64> = (0..side).map(|t| confusion.iter().map(|row| row[t]).sum()).collect();
    let share = |(i, &count): (usize, &u64)| count as f64 / of_truth[i % side].max(1) as f64;
    let shares: Vec<f64> = counts.iter().enumerate().map(share).collect();
    let right: u64 = (0..side).map(|i| confusion[i][i]).sum();
    let description = format!(
        "Rows are what the model said, columns the truth. {right} of {} images lie on the diagonal.",
        of_truth.iter().sum::<u64>()
    );
    matrix_plot(side, &counts, &shares, names, &description, normalised)
}

/// A square matrix of counts with the share of its column that each is. An index beyond `names` is the background.
fn matrix_plot(
    side: usize,
    counts: &[u64],
    shares: &[f64],
    names: &[String],
    description: &str,
    normalised: bool,
) -> Drawing {
    let name = |i: usize| names.get(i).map_or("background", String::as_str);
    let cell = (400.0 / side as f64).clamp(5.0, 56.0);
    // Names of thin rows would overlap: only every so many of them is written.
    let every = (11.0 / cell).ceil() as usize;
    let size = (cell * 0.8).clamp(9.0, 12.0);
    let widest = (0..side).map(|i| text_width(name(i), size)).fold(0.0, f64::max);
    let margin = widest.clamp(40.0, 110.0) + 12.0;
    let (left, top) = (margin + 22.0, 40.0);
    let extent = cell * side as f64;
    let (width, height) = ((left + extent + 20.0).max(300.0), top + extent + margin + 26.0);

    let title = if normalised { "Confusion, share of each true class" } else { "Confusion, counts" };
    let mut drawing = Drawing::new(title, description, width, height);
    drawing.text("title", (12.0, 22.0), Anchor::Start, 0.0, title);
    drawing.rect("frame", (left, top), (extent, extent), 1.0, "");

    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    for (predicted, row) in shares.chunks_exact(side).enumerate() {
        for (truth, share) in row.iter().enumerate() {
            let count = counts[predicted * side + truth];
            if count == 0 {
                continue;
            }
            let depth = if normalised { *share } else { (count as f64 / most).sqrt() };
            let (x, y) = (left + truth as f64 * cell, top + predicted as f64 * cell);
            let tip = format!(
                "{} taken for {}: {count} ({:.0} % of the true)",
                name(truth),
                name(predicted),
                share * 100.0
            );
            drawing.rect("cell", (x, y), (cell - 1.0, cell - 1.0), 0.06 + 0.94 * depth, &tip);
            let text = if normalised { format!("{share:.2}") } else { count.to_string() };
            let text_size = if cell < 34.0 { 10.0 } else { 12.0 };
            if text_width(&text, text_size) < cell - 3.0 {
                let class = match (cell < 34.0, depth > 0.5) {
                    (true, true) => "small on",
                    (true, false) => "small",
                    (false, true) => "on",
                    (false, false) => "",
                };
                let middle = (x + cell / 2.0 - 0.5, y + cell / 2.0 + text_size * 0.35);
                drawing.text(class, middle, Anchor::Middle, 0.0, &text);
            }
        }
    }
    let class = if size < 11.0 { "small" } else { "" };
    for i in (0..side).filter(|i| i % every == 0 || *i == names.len()) {
        let text = fit(name(i), size, margin - 12.0);
        let at = (i as f64 + 0.5) * cell + size * 0.35;
        drawing.text(class, (left - 6.0, top + at), Anchor::End, 0.0, &text);
        drawing.text(class, (left + at, top + extent + 8.0), Anchor::End, -90.0, &text);
    }
    drawing.text("label", (13.0, top + extent / 2.0), Anchor::Middle, -90.0, "Predicted");
    drawing.text("label", (left + extent / 2.0, height - 8.0), Anchor::Middle, 0.0, "True");
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_written_and_named() {
        let mut confusion = Confusion::new(2);
        confusion.counts = vec![7, 0, 1, 2, 5, 0, 3, 0, 0];
        let names = ["oak <b>".to_string(), "elm".to_string()];
        let svg = confusion_plot(&confusion, &names, false).inline();
        assert!(svg.contains("elm") && svg.contains("oak &lt;b&gt;") && svg.contains("background"));
        assert!(
            svg.contains("<title>oak &lt;b&gt; taken for background: 3 (25 % of the true)</title>"),
            "{svg}"
        );
        assert!(svg.contains("12 of 18 entries lie on the diagonal"), "{svg}");
        assert_eq!(svg.matches("class=\"cell\"").count(), 5);
        let svg = confusion_plot(&confusion, &names, true).inline();
        assert!(svg.contains(">0.58</text>"), "{svg}");
    }

    #[test]
    fn eighty_classes_stay_readable_in_size() {
        let confusion = Confusion::new(80);
        let names: Vec<_> = (0..80).map(|i| format!("class number {i} with a long name")).collect();
        let drawing = confusion_plot(&confusion, &names, true);
        assert!(drawing.width < 600.0 && drawing.height < 640.0);
    }
}
