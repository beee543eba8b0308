//! The report's section on old and new classes, for a run that added some.

use super::page::Page;
use crate::evaluate::kept::{Basis, Counted, Kept};
use crate::evaluate::plots::svg::escape;

/// Old classes before and after, a row each; the new ones' figures stand in the section on classes.
pub fn kept(page: &mut Page, kept: Option<&Kept>) {
    let Some(kept) = kept else { return };
    page.heading("kept", "Old and new classes");
    for sentence in kept.sentences() {
        page.paragraph("", &sentence);
    }
    if kept.old.is_empty() {
        return;
    }
    let words = match (kept.basis, kept.counted) {
        (Basis::Labels, Counted::Images) => {
            "Share of a class's images that are taken for it, by the starting model and by the new one."
        }
        (Basis::Agreement, Counted::Images) => {
            "Of the images that the starting model takes for a class, the share that the new model takes for it too: where that \
             errs, agreeing is no merit."
        }
        (Basis::Labels, Counted::Objects) => {
            "Average precision at an IoU of .5 against the labels, of the starting model and of the new one."
        }
        (Basis::Agreement, Counted::Objects) => {
            "Average precision at an IoU of .5 of the starting model and of the new one, with the starting model's own confident \
             detections taken for the truth: where that errs, agreeing is no merit."
        }
    };
    page.paragraph("muted", words);
    let count = match kept.counted {
        Counted::Objects => "Objects",
        Counted::Images => "Images",
    };
    page.raw(format_args!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Old classes before and after\"><table>\n<thead><tr>\
         <th scope=\"col\">Old class</th><th scope=\"col\">{count}</th><th scope=\"col\">Before</th><th scope=\"col\">After</th>\
         <th scope=\"col\">Change</th><td></td></tr></thead>\n<tbody>"
    ));
    for class in &kept.old {
        let before = class.before.map_or("-".to_owned(), |b| format!("{b:.3}"));
        let change = class.after - class.before.unwrap_or(1.0);
        page.raw(format_args!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{before}</td><td>{:.3}</td><td>{change:+.3}</td>\
             <td class=\"bar\"><div class=\"track\" aria-hidden=\"true\"><i style=\"width:{:.1}%\"></i></div></td></tr>",
            escape(&class.name),
            class.count,
            class.after,
            class.after.clamp(0.0, 1.0) * 100.0
        ));
    }
    page.raw(format_args!("</tbody>\n</table></div>"));
}
