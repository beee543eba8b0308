//! The report of a classifier: how good, how sure that is, how it got there, what is taken for what.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::page::Page;
use super::{Fact, kept, sections};
use crate::evaluate::classify::{ClassifyMetrics, Interval};
use crate::evaluate::kept::Kept;
use crate::evaluate::plots::svg::escape;
use crate::evaluate::plots::{ResultsTable, class_confusion_plot};
use crate::evaluate::{EvaluateError, draw};

/// The longer side of a picture in the report, in pixels.
const PICTURE: u32 = 320;
const QUALITY: u8 = 82;

/// What a classifier's report tells, without its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifyReport {
    /// The headline, for example the run's name.
    pub title: String,
    /// The starting model's name.
    pub model: String,
    /// The class list.
    pub classes: Vec<String>,
    /// The starting model's figures on the same images, where it knows the classes.
    pub before: Option<ClassifyMetrics>,
    /// The trained model's figures.
    pub after: ClassifyMetrics,
    /// What the old classes lost, where some were added.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// results.csv of the run.
    pub results: Option<ResultsTable>,
    /// What deserves attention. A sentence each.
    pub notes: Vec<String>,
    /// How it was trained.
    pub settings: Vec<Fact>,
    /// What it was trained on.
    pub data: Vec<Fact>,
    /// The licence that the starting weights put on the result, in a sentence.
    pub licence: String,
}

/// A validation image with its class and what the model took it for.
#[derive(Clone, Debug)]
pub struct ClassifyPicture {
    /// The file's name.
    pub name: String,
    /// RGB pixels.
    pub image: RgbImage,
    /// The true class's name.
    pub truth: String,
    /// The likeliest class's name and its probability.
    pub guess: String,
    /// Whether both are one.
    pub right: bool,
}

/// The report as HTML. `samples`: any images; `worst`: those that the model was surest and wrong about.
///
/// # Errors
/// If a picture cannot be encoded.
pub fn render_classifier(
    input: &ClassifyReport,
    samples: &[ClassifyPicture],
    worst: &[ClassifyPicture],
) -> Result<String, EvaluateError> {
    let mut page = Page::new(&input.title);
    headline(&mut page, input);
    sections::learning(&mut page, input.results.as_ref());
    page.heading("accuracy", "Right and wrong");
    page.paragraph("muted", "Rows are what the model said, columns the truth: the diagonal is right.");
    page.raw(format_args!("<div class=\"grid\">"));
    for normalised in [false, true] {
        page.plot(&class_confusion_plot(&input.after.confusion, &input.classes, normalised));
    }
    page.raw(format_args!("</div>"));
    classes(&mut page, &input.after);
    kept::kept(&mut page, input.kept.as_ref());
    pictures(
        &mut page,
        "samples",
        "Sample predictions",
        "Validation images, which the training did not see.",
        samples,
    )?;
    let words = "Where the model gave the true class least: often it is the label that is wrong.";
    pictures(&mut page, "worst", "Worst images", words, worst)?;
    sections::facts(&mut page, "settings", "Settings", &input.settings);
    sections::facts(&mut page, "data", "Data", &input.data);
    sections::licence(&mut page, &input.licence);
    Ok(page.finish())
}

fn headline(page: &mut Page, input: &ClassifyReport) {
    let m = &input.after;
    page.raw(format_args!(
        "<header>\n<p class=\"eyebrow\">onsa report</p>\n<h1>{}</h1>",
        escape(&input.title)
    ));
    let sure = m.intervals.top1.map_or(String::new(), |i| {
        format!(
            " On other images like these it would be right in {:.0} to {:.0} % (95 % interval).",
            i.low * 100.0,
            i.high * 100.0
        )
    });
    let words =
        format!("The model is right about {:.1} % of {} validation images.{sure}", m.top1 * 100.0, m.images);
    page.paragraph("lead", &words);
    page.paragraph("muted", &format!("Fine-tuned from {}.", input.model));
    page.raw(format_args!("</header>\n<main>\n<div class=\"cards\">"));
    let before = |of: fn(&ClassifyMetrics) -> f64| input.before.as_ref().map(of);
    card(page, "Top-1", m.top1, m.intervals.top1, before(|m| m.top1));
    card(page, "Top-5", m.top5, m.intervals.top5, before(|m| m.top5));
    let balanced = before(|m| m.balanced_accuracy);
    card(page, "Balanced accuracy", m.balanced_accuracy, m.intervals.balanced_accuracy, balanced);
    if let Some(auc) = m.auc {
        card(page, "AUC", auc, m.intervals.auc, input.before.as_ref().and_then(|m| m.auc));
    }
    page.raw(format_args!("</div>"));
    for note in &input.notes {
        page.paragraph("note", note);
    }
    page.paragraph(
        "muted",
        "All figures lie between 0 and 1; more is better. Top-5 counts an image as right if its class is among the five \
         likeliest. Balanced accuracy gives every class the same weight, however few its images. The ranges are 95 % \
         bootstrap intervals.",
    );
}

fn card(page: &mut Page, name: &str, value: f64, interval: Option<Interval>, before: Option<f64>) {
    let range = interval.map_or(String::new(), |i| format!("{:.3} to {:.3}", i.low, i.high));
    let from = before.map_or(String::new(), |b| format!(" from {b:.3} ({:+.3})", value - b));
    page.raw(format_args!(
        "<div class=\"card\"><h3>{name}</h3><div class=\"value\">{value:.3}</div><div class=\"change\">{range}{from}</div>\
         <div class=\"track\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></div></div>",
        value.clamp(0.0, 1.0) * 100.0
    ));
}

fn classes(page: &mut Page, metrics: &ClassifyMetrics) {
    page.heading("classes", "Classes");
    page.raw(format_args!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of each class\"><table>\n<thead><tr>\
         <th scope=\"col\">Class</th><th scope=\"col\">Images</th><th scope=\"col\">Precision</th>\
         <th scope=\"col\">Recall</th><th scope=\"col\">F1</th><td></td></tr></thead>\n<tbody>"
    ));
    for class in &metrics.per_class {
        page.raw(format_args!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{:.3}</td>\
             <td class=\"bar\"><div class=\"track\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></div></td></tr>",
            escape(&class.name),
            class.images,
            class.precision,
            class.recall,
            class.f1,
            class.f1.clamp(0.0, 1.0) * 100.0
        ));
    }
    page.raw(format_args!("</tbody>\n</table></div>"));
}

fn pictures(
    page: &mut Page,
    id: &str,
    title: &str,
    words: &str,
    pictures: &[ClassifyPicture],
) -> Result<(), EvaluateError> {
    if pictures.is_empty() {
        return Ok(());
    }
    page.heading(id, title);
    page.paragraph("muted", words);
    page.raw(format_args!("<div class=\"grid pictures\">"));
    for picture in pictures {
        let (small, _) = draw::shrink(&picture.image, PICTURE);
        let jpeg = draw::encode_jpeg(&small, QUALITY)?;
        page.raw(format_args!("<figure><h3>{}</h3><div class=\"pair\">", escape(&picture.name)));
        let label = format!("{}: {}", if picture.right { "right" } else { "wrong" }, picture.guess);
        page.picture(&jpeg, small.dimensions(), &label, &format!("An image of class {}", picture.truth));
        page.raw(format_args!("</div><figcaption>Truth: {}</figcaption></figure>", escape(&picture.truth)));
    }
    page.raw(format_args!("</div>"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::classify::Guess;

    #[test]
    fn the_page_tells_figures_intervals_and_mistakes_and_escapes_names() {
        let classes = vec!["oak <b>".to_owned(), "elm".to_owned()];
        let guess = |truth, p: f64| Guess { item: 0, truth, scores: vec![1.0 - p, p] };
        let after =
            ClassifyMetrics::new(&classes, &[guess(0, 0.1), guess(1, 0.9), guess(1, 0.3), guess(0, 0.2)]);
        let report = ClassifyReport {
            title: "run".into(),
            model: "resnet18".into(),
            classes,
            before: None,
            after,
            kept: None,
            results: None,
            notes: vec!["a note".into()],
            settings: vec![Fact::new("epochs", 3)],
            data: vec![],
            licence: "Apache-2.0".into(),
        };
        let wrong = ClassifyPicture {
            name: "a.png".into(),
            image: RgbImage::new(8, 8),
            truth: "elm".into(),
            guess: "oak <b> 0.70".into(),
            right: false,
        };
        let html = render_classifier(&report, &[], &[wrong]).unwrap();
        assert!(html.contains("right about 75.0 % of 4 validation images"), "{html}");
        assert!(html.contains("95 % interval") && html.contains("Balanced accuracy") && html.contains("AUC"));
        assert!(html.contains("wrong: oak &lt;b&gt; 0.70") && !html.contains("oak <b>"));
        assert!(html.contains("Truth: elm") && html.contains("a note") && html.contains("Apache-2.0"));
    }
}
