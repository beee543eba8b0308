//! The sections of a report, in the order in which a reader asks: how good, how did it get there, where does it fail, from what.

use super::page::Page;
use super::{Fact, ReportInput, ReportPicture};
use crate::evaluate::plots::svg::escape;
use crate::evaluate::plots::{ResultsTable, confusion_plot, curve_plots, results_charts};
use crate::evaluate::{DetectMetrics, EvaluateError, draw};

/// The longer side of a picture in the report, in pixels.
const PICTURE: u32 = 512;
/// Above this many boxes the texts would hide the picture.
const MOST_TEXTS: usize = 30;
const QUALITY: u8 = 82;

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Title, links, the four figures, the result in words, and the notes.
pub fn headline(page: &mut Page, input: &ReportInput, samples: bool) {
    let after = &input.after;
    page.raw(format_args!(
        "<header>\n<p class=\"eyebrow\">onsa report</p>\n<h1>{}</h1>",
        escape(&input.title)
    ));
    let words = match after.boxes {
        0 => "The validation images hold no labelled object, so nothing can be said about accuracy."
            .to_string(),
        _ => format!(
            "At confidence {:.2}, its best setting, the model finds {} of the objects in {} validation images, and {} of \
             what it marks is right.",
            after.best_confidence,
            percent(after.recall),
            after.images,
            percent(after.precision)
        ),
    };
    page.paragraph("lead", &words);
    page.paragraph("muted", &format!("Fine-tuned from {}.", input.model));
    page.raw(format_args!("<nav aria-label=\"Sections\">"));
    let links = [
        ("kept", "Old and new classes", input.kept.is_some()),
        ("learning", "Training", input.results.as_ref().is_some_and(|r| !r.rows.is_empty())),
        ("accuracy", "Right and wrong", true),
        ("classes", "Classes", true),
        ("samples", "Pictures", samples),
        ("settings", "Settings", !input.settings.is_empty()),
        ("data", "Data", !input.data.is_empty()),
        ("licence", "Licence", true),
    ];
    for (id, name, _) in links.iter().filter(|l| l.2) {
        page.raw(format_args!("<a href=\"#{id}\">{name}</a>"));
    }
    page.raw(format_args!("</nav>\n</header>\n<main>"));
    page.raw(format_args!("<div class=\"cards\">"));
    type Of = fn(&DetectMetrics) -> f64;
    let cards: [(&str, Of); 4] = [
        ("mAP50", |m| m.map50),
        ("mAP50-95", |m| m.map50_95),
        ("Precision", |m| m.precision),
        ("Recall", |m| m.recall),
    ];
    for (name, of) in cards {
        card(page, name, of(after), input.before.as_ref().map(of));
    }
    page.raw(format_args!("</div>"));
    for note in &input.notes {
        page.paragraph("note", note);
    }
    let coco = after.coco_ap.map_or(String::new(), |ap| format!(" COCO's own tool would say AP {ap:.3}."));
    page.paragraph(
        "muted",
        &format!(
            "All figures lie between 0 and 1; more is better. mAP50 asks whether objects are found, mAP50-95 also how exactly \
             they are outlined.{coco}"
        ),
    );
}

fn card(page: &mut Page, name: &str, value: f64, before: Option<f64>) {
    let (change, tick) = match before {
        None => (String::new(), String::new()),
        Some(before) => {
            let difference = value - before;
            let class = if difference >= 0.0005 {
                "up"
            } else if difference <= -0.0005 {
                "down"
            } else {
                "muted"
            };
            (
                format!("from {before:.3} <span class=\"{class}\">{difference:+.3}</span>"),
                format!("<b style=\"left:{:.1}%\"></b>", before.clamp(0.0, 1.0) * 100.0),
            )
        }
    };
    page.raw(format_args!(
        "<div class=\"card\"><h3>{name}</h3><div class=\"value\">{value:.3}</div><div class=\"change\">{change}</div>\
         <div class=\"track\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i>{tick}</div></div>",
        value.clamp(0.0, 1.0) * 100.0
    ));
}

/// Average precision, losses and learning rate by epoch.
pub fn learning(page: &mut Page, results: Option<&ResultsTable>) {
    let Some(results) = results.filter(|r| !r.rows.is_empty()) else { return };
    page.heading("learning", "Training");
    page.paragraph(
        "muted",
        "Where the validation loss rises while the training loss falls, the model learns the training images by heart: more \
         or more varied images help then, further epochs do not.",
    );
    page.raw(format_args!("<div class=\"grid\">"));
    for chart in results_charts(results) {
        page.plot(&chart);
    }
    page.raw(format_args!("</div>"));
}

/// The precision-recall and F1 curves and the confusion matrix.
pub fn accuracy(page: &mut Page, input: &ReportInput) {
    page.heading("accuracy", "Right and wrong");
    page.paragraph(
        "muted",
        "A low confidence threshold finds more and errs more. The curves show what each choice costs; the matrix shows what is \
         taken for what.",
    );
    page.raw(format_args!("<div class=\"grid\">"));
    for (name, plot) in curve_plots(&input.after) {
        if matches!(name, "BoxPR_curve" | "BoxF1_curve") {
            page.plot(&plot);
        }
    }
    page.plot(&confusion_plot(&input.after.confusion, &input.classes, false));
    if input.classes.len() > 1 {
        page.plot(&confusion_plot(&input.after.confusion, &input.classes, true));
    }
    page.raw(format_args!("</div>"));
}

/// A row for each class.
pub fn classes(page: &mut Page, input: &ReportInput) {
    page.heading("classes", "Classes");
    let before = |name: &str| {
        input.before.as_ref().and_then(|m| m.per_class.iter().find(|c| c.name == name)).map(|c| c.ap50)
    };
    page.raw(format_args!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Figures of each class\"><table>\n<thead><tr>\
         <th scope=\"col\">Class</th><th scope=\"col\">Images</th><th scope=\"col\">Boxes</th><th scope=\"col\">Precision</th>\
         <th scope=\"col\">Recall</th>{}<th scope=\"col\">AP50</th><th scope=\"col\">AP50-95</th><td></td></tr></thead>\n<tbody>",
        if input.before.is_some() { "<th scope=\"col\">AP50 before</th>" } else { "" }
    ));
    for class in &input.after.per_class {
        let earlier = match (&input.before, before(&class.name)) {
            (None, _) => String::new(),
            (Some(_), None) => "<td>-</td>".into(),
            (Some(_), Some(ap)) => format!("<td>{ap:.3}</td>"),
        };
        page.raw(format_args!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td>{earlier}<td>{:.3}</td><td>{:.3}</td>\
             <td class=\"bar\"><div class=\"track\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></div></td></tr>",
            escape(&class.name),
            class.images,
            class.boxes,
            class.precision,
            class.recall,
            class.ap50,
            class.ap,
            class.ap50.clamp(0.0, 1.0) * 100.0
        ));
    }
    page.raw(format_args!("</tbody>\n</table></div>"));
    if !input.after.unseen_classes.is_empty() {
        let (shown, more) = input.after.unseen_classes.split_at(input.after.unseen_classes.len().min(20));
        let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        page.paragraph(
            "muted",
            &format!(
                "Without a box in the validation images, so nothing is known of: {}{more}.",
                shown.join(", ")
            ),
        );
    }
}

/// Truth and prediction side by side.
pub fn pictures(
    page: &mut Page,
    classes: &[String],
    (id, title, words): (&str, &str, &str),
    pictures: &[ReportPicture],
) -> Result<(), EvaluateError> {
    if pictures.is_empty() {
        return Ok(());
    }
    page.heading(id, title);
    page.paragraph("muted", words);
    page.raw(format_args!("<div class=\"grid pictures\">"));
    for picture in pictures {
        let (small, factor) = draw::shrink(&picture.image, PICTURE);
        page.raw(format_args!("<figure><h3>{}</h3><div class=\"pair\">", escape(&picture.name)));
        let sides = [
            ("Truth", "labelled", draw::truth_marks(&picture.truths, classes)),
            ("Prediction", "predicted", draw::detection_marks(&picture.detections, classes)),
        ];
        for (label, verb, mut marks) in sides {
            let many = marks.len() > MOST_TEXTS;
            for mark in &mut marks {
                if many {
                    mark.text.clear();
                } else if let [only] = classes {
                    // Of one class the name says nothing; of a prediction the score is left.
                    mark.text = mark.text.strip_prefix(only.as_str()).unwrap_or_default().trim().into();
                }
            }
            let mut image = small.clone();
            draw::draw_marks_with(&mut image, &draw::scale_marks(&marks, factor), 2);
            let jpeg = draw::encode_jpeg(&image, QUALITY)?;
            let alt = format!("{}: {} {verb} boxes", picture.name, marks.len());
            page.picture(&jpeg, image.dimensions(), label, &alt);
        }
        let s = picture.score;
        let counted = || format!("{} found, {} missed, {} wrong", s.found, s.missed, s.wrong);
        let caption = picture.caption.clone().unwrap_or_else(counted);
        page.raw(format_args!("</div><figcaption>{}</figcaption></figure>", escape(&caption)));
    }
    page.raw(format_args!("</div>"));
    Ok(())
}

/// Names and values.
pub fn facts(page: &mut Page, id: &str, title: &str, facts: &[Fact]) {
    if facts.is_empty() {
        return;
    }
    page.heading(id, title);
    page.raw(format_args!("<dl>"));
    for fact in facts {
        page.raw(format_args!("<dt>{}</dt><dd>{}</dd>", escape(&fact.name), escape(&fact.value)));
    }
    page.raw(format_args!("</dl>"));
}

/// What the starting weights ask of whoever passes the result on.
pub fn licence(page: &mut Page, licence: &str) {
    page.heading("licence", "Licence");
    page.paragraph("", licence);
}
