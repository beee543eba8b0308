use image::{Rgb, RgbImage};

use super::*;
use crate::boxes::Xyxy;
use crate::evaluate::Evaluator;

fn bbox(x: f32) -> Xyxy {
    Xyxy { x1: x, y1: 10.0, x2: x + 30.0, y2: 50.0 }
}

fn metrics(classes: &[String], score: f32) -> DetectMetrics {
    let mut evaluator = Evaluator::new(classes.to_vec());
    let truth = |class, x| Truth { class, bbox: bbox(x), crowd: false };
    let found = |class, score, x| Detection { class, score, bbox: bbox(x) };
    evaluator
        .add(&[found(0, score, 1.0), found(1, 0.4, 60.0)], &[truth(0, 0.0), truth(1, 61.0), truth(1, 120.0)])
        .unwrap();
    evaluator.finish()
}

fn input() -> ReportInput {
    let classes = ["ash <i>", "birch", "\"cedar\""].map(String::from).to_vec();
    ReportInput {
        title: "Trees & <script>alert(1)</script>".into(),
        model: "YOLO12n".into(),
        before: Some(metrics(&classes, 0.05)),
        after: metrics(&classes, 0.9),
        classes,
        kept: None,
        results: Some(
            ResultsTable::parse("epoch,metrics/mAP50(B),metrics/mAP50-95(B)\n1,0.2,0.1\n2,0.6,0.3\n")
                .unwrap(),
        ),
        notes: vec!["2 images were left out.".into()],
        settings: vec![Fact::new("epochs", 2), Fact::new("name", "</dd><b>")],
        data: vec![Fact::new("train", "35 images")],
        licence: "AGPL-3.0, from the starting weights.".into(),
    }
}

fn picture() -> ReportPicture {
    ReportPicture {
        name: "tile_<1>.jpg".into(),
        image: RgbImage::from_pixel(160, 80, Rgb([90, 120, 90])),
        truths: vec![Truth { class: 0, bbox: bbox(20.0), crowd: false }],
        detections: vec![Detection { class: 7, score: 0.8, bbox: bbox(100.0) }],
        score: ImageScore { found: 0, missed: 1, wrong: 1 },
        caption: None,
    }
}

fn shown() -> Pictures {
    Pictures { samples: vec![picture()], worst: vec![picture()], ..Pictures::default() }
}

/// The text between two marks replaced by `…`, wherever it occurs.
fn elide(html: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(start) = rest.find(from) {
        let inner = start + from.len();
        let Some(length) = rest[inner..].find(to) else { break };
        out.push_str(&rest[..inner]);
        out.push('…');
        rest = &rest[inner + length..];
    }
    out + rest
}

#[test]
fn the_page_of_a_small_run() {
    let html = render(&input(), &shown()).unwrap();
    let html = elide(&html, "base64,", "\"");
    let html = elide(&html, "<style>", "</style>");
    let html = elide(&html, "px\">\n", "</svg>");
    insta::assert_snapshot!(html);
}

#[test]
fn suspicious_labels_are_shown_with_their_number_and_what_speaks_against_them() {
    let caption = Some("labelled <b>, seen as birch (0.93)".to_owned());
    let suspects = vec![ReportPicture { caption, ..picture() }];
    let html = render(
        &input(),
        &Pictures { suspects, suspect_labels: 17, looked_at: "9 validation images".into(), ..shown() },
    )
    .unwrap();
    let section = &html[html.find("id=\"suspects\"").unwrap()..];
    assert!(section.contains("Labels of 9 validation images") && section.contains("17 in all"), "{section}");
    assert!(section.contains("<figcaption>labelled &lt;b&gt;, seen as birch (0.93)</figcaption>"));
    assert!(section.contains("src=\"data:image/jpeg;base64,"));
}

#[test]
fn nothing_is_fetched_and_nothing_runs() {
    let html = render(&input(), &shown()).unwrap();
    for forbidden in
        ["http://", "https://", "<script", "<link", "@import", "url(", "<i>\"", "</dd><b>", "tile_<1>"]
    {
        let rest = html.replace("Content-Security-Policy", "");
        assert!(!rest.contains(forbidden), "{forbidden}");
    }
    assert_eq!(html.matches("<img ").count(), html.matches("src=\"data:image/jpeg;base64,").count());
}

#[test]
fn a_bare_run_has_no_empty_sections() {
    let mut input = input();
    input.before = None;
    input.results = None;
    input.settings.clear();
    input.data.clear();
    input.after = Evaluator::new(input.classes.clone()).finish();
    let html = render(&input, &Pictures::default()).unwrap();
    for id in ["learning", "samples", "worst", "suspects", "settings", "data"] {
        assert!(!html.contains(&format!("\"{id}\"")) && !html.contains(&format!("#{id}\"")), "{id}");
    }
    assert!(html.contains("hold no labelled object"));
}

#[test]
fn links_lead_somewhere_and_tags_are_closed() {
    let html = render(&input(), &shown()).unwrap();
    for link in html.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for tag in [
        "div", "figure", "section", "h2", "h3", "p", "svg", "table", "tr", "td", "th", "dl", "main", "header",
    ] {
        let open = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn the_input_reads_back_from_json() {
    let input = input();
    let back: ReportInput = serde_json::from_value(serde_json::to_value(&input).unwrap()).unwrap();
    assert!(back == input, "a report's input does not read back as it was written");
}
