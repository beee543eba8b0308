//! What a search writes into its folder: `tune.csv`, plots, `report.html`.

use std::path::Path;

use super::SearchError;
use super::outcome::{Comparison, Outcome, Verdict};
use super::race::{Raced, Record};
use crate::durable;
use crate::evaluate::plots::chart::{Axis, Chart, Look, Series};
use crate::evaluate::plots::svg::escape;
use crate::evaluate::plots::{Drawing, write_plot};
use crate::evaluate::report::Fact;
use crate::evaluate::report::page::Page;
use crate::evaluate::report::sections;

/// Writes everything.
///
/// # Errors
/// The disk refuses.
pub fn write(
    folder: &Path,
    raced: &Raced,
    outcome: &Outcome,
    names: &[String],
    settings: &[Fact],
) -> Result<(), SearchError> {
    durable::write(&folder.join("tune.csv"), csv(raced, names).as_bytes())?;
    let document = serde_json::to_string_pretty(outcome).expect("plain values are JSON");
    durable::write(&folder.join("tune.json"), document.as_bytes())?;
    durable::write(&folder.join("best.txt"), format!("{}\n", outcome.command).as_bytes())?;
    let race = race_plot(raced, outcome, names);
    write_plot(folder, "race", &race)?;
    let comparison = outcome.comparison.as_ref().map(|c| comparison_plot(c, outcome));
    if let Some(plot) = &comparison {
        write_plot(folder, "comparison", plot)?;
    }
    let title = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let html = render(&title, outcome, &race, comparison.as_ref(), settings);
    durable::write(&folder.join("report.html"), html.as_bytes())?;
    Ok(())
}

/// One line a run.
fn csv(raced: &Raced, names: &[String]) -> String {
    let mut figures: Vec<&str> = Vec::new();
    for (name, _) in raced.records.iter().filter_map(|r| r.figures.as_ref()).flat_map(|f| &f.metrics) {
        if !figures.contains(&name.as_str()) {
            figures.push(name);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let fixed = ["rung", "candidate", "pair", "epochs", "seconds", "failed", "loss"];
    let mut line = |fields: Vec<String>| writer.write_record(fields).expect("memory takes every line");
    line(fixed.iter().chain(&figures).map(|&f| f.to_owned()).collect());
    for Record { run, figures: found, failed, cost } in &raced.records {
        let loss = found.as_ref().map_or(String::new(), |f| format!("{:.5}", f.loss));
        let last = run.rung == raced.plan.rungs.len();
        let mut fields = vec![
            if last { "last".to_owned() } else { (run.rung + 1).to_string() },
            names[run.candidate].clone(),
            (run.pair + 1).to_string(),
            run.epochs.to_string(),
            format!("{:.1}", cost.of(run.epochs)),
            failed.clone().unwrap_or_default(),
            loss,
        ];
        for name in &figures {
            let own = found.as_ref().and_then(|f| f.metrics.iter().find(|(n, _)| n == name));
            fields.push(own.map_or(String::new(), |(_, value)| format!("{value:.5}")));
        }
        line(fields);
    }
    let bytes = writer.into_inner().expect("memory takes every line");
    String::from_utf8(bytes).expect("fields are text")
}

/// How each candidate's figure went from rung to rung.
fn race_plot(raced: &Raced, outcome: &Outcome, names: &[String]) -> Drawing {
    let rungs = raced.plan.rungs.len();
    let mean = |rung: usize, candidate: usize| {
        let of = |r: &&Record| r.run.rung == rung && r.run.candidate == candidate;
        let found: Vec<f64> =
            raced.records.iter().filter(of).filter_map(|r| r.figures.as_ref().map(|f| f.value)).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    let mut series = Vec::new();
    for (candidate, name) in names.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            (0..rungs).filter_map(|rung| Some(((rung + 1) as f64, mean(rung, candidate)?))).collect();
        if points.is_empty() {
            continue;
        }
        let look = match candidate {
            0 => Look::Colour(1),
            c if Some(c) == raced.challenger => Look::Strong,
            _ => Look::Faint,
        };
        series.push(Series { name: name.clone(), points, look });
    }
    // What matters is drawn over the rest.
    series.sort_by_key(|s| match s.look {
        Look::Faint => 0,
        Look::Colour(_) => 1,
        Look::Strong => 2,
    });
    let chart = Chart {
        title: "The race".into(),
        description: format!(
            "{} of each candidate by rung; runs grow longer from rung to rung, so lines rise. {} candidates began.",
            outcome.metric,
            series.len()
        ),
        x: Axis { label: "Rung".into(), low: 1.0, high: (rungs.max(2)) as f64 },
        y: Axis::around(outcome.metric, series.iter().flat_map(|s| s.points.iter().map(|p| p.1))),
        series,
        mark: None,
    };
    chart.draw(1)
}

/// The two that were compared, fold by fold or seed by seed.
fn comparison_plot(comparison: &Comparison, outcome: &Outcome) -> Drawing {
    let pairs = &comparison.pairs;
    let name = outcome.candidates.iter().find(|r| r.compared && r.name != "default").map_or("", |r| &r.name);
    let line = |name: &str, look, of: fn(&(f64, f64)) -> f64| Series {
        name: name.to_owned(),
        points: pairs.iter().enumerate().map(|(i, p)| ((i + 1) as f64, of(p))).collect(),
        look,
    };
    let ahead = pairs.iter().filter(|(default, candidate)| candidate > default).count();
    let chart = Chart {
        title: "The best candidate and the default".into(),
        description: format!(
            "{} of both in each of {} pairs of runs; the candidate is ahead in {ahead} of them.",
            outcome.metric,
            pairs.len()
        ),
        x: Axis { label: "Pair of runs".into(), low: 1.0, high: pairs.len().max(2) as f64 },
        y: Axis::around(outcome.metric, pairs.iter().flat_map(|p| [p.0, p.1])),
        series: vec![line("default", Look::Colour(1), |p| p.0), line(name, Look::Strong, |p| p.1)],
        mark: None,
    };
    chart.draw(1)
}

fn render(
    title: &str,
    outcome: &Outcome,
    race: &Drawing,
    comparison: Option<&Drawing>,
    settings: &[Fact],
) -> String {
    let mut page = Page::new(title);
    page.raw(format_args!("<header>\n<p class=\"eyebrow\">onsa search</p>\n<h1>{}</h1>", escape(title)));
    page.paragraph("lead", &outcome.sentence());
    page.paragraph(
        "muted",
        &format!(
            "Measured {}. {:.1} of {} minutes were spent. Figures are those of each run's last epoch, never of the epoch \
             or the seed that happened to be best.",
            outcome.measured,
            outcome.seconds / 60.0,
            outcome.minutes
        ),
    );
    page.raw(format_args!("</header>\n<main>"));
    for note in &outcome.notes {
        page.paragraph("note", note);
    }
    page.heading("command", "The command");
    if outcome.verdict == Verdict::NotCompared {
        page.paragraph("muted", "Nothing was compared, so this is the recipe as it stands.");
    }
    page.raw(format_args!("<p><code>{}</code></p>", escape(&outcome.command)));
    page.heading("plots", "How it went");
    page.raw(format_args!("<div class=\"grid\">"));
    page.plot(race);
    if let Some(plot) = comparison {
        page.plot(plot);
    }
    page.raw(format_args!("</div>"));
    candidates(&mut page, outcome);
    sections::facts(&mut page, "settings", "Settings", settings);
    page.finish()
}

fn candidates(page: &mut Page, outcome: &Outcome) {
    page.heading("candidates", "Candidates");
    page.paragraph(
        "muted",
        "Of each the rung that it reached and its mean figure there. Figures of different rungs do not compare: runs differ in \
         length.",
    );
    page.raw(format_args!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Candidates\"><table>\n<thead><tr>\
         <th scope=\"col\">Candidate</th><th scope=\"col\">Rung</th><th scope=\"col\">Epochs</th><th scope=\"col\">Runs</th>\
         <th scope=\"col\">{}</th><th scope=\"col\">95 % interval</th><th scope=\"col\">Seconds</th></tr></thead>\n<tbody>",
        escape(outcome.metric)
    ));
    for row in &outcome.candidates {
        let rung = if row.compared { "last".to_owned() } else { row.rung.to_string() };
        let (mean, range, runs) = match (&row.figure, &row.failed) {
            (Some(f), _) => {
                let range = f.interval.map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
                (format!("{:.3}", f.mean), range, f.values)
            }
            (None, failed) => ("failed".to_owned(), failed.clone().unwrap_or_default(), 0),
        };
        page.raw(format_args!(
            "<tr><th scope=\"row\">{}</th><td>{rung}</td><td>{}</td><td>{runs}</td><td>{mean}</td><td>{}</td><td>{:.0}</td></tr>",
            escape(&row.name),
            row.epochs,
            escape(&range),
            row.seconds
        ));
    }
    page.raw(format_args!("</tbody>\n</table></div>"));
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::{outcome, raced};
    use super::super::splits::Measure;
    use super::*;

    #[test]
    fn a_folder_gets_table_document_plots_and_a_page_that_needs_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let differences = [0.04, 0.05, 0.06, 0.05, 0.05];
        let found = outcome(&differences, Measure::Folds(5));
        let names = ["default", "head", "full, lr x3", "<b>", "freeze"].map(String::from);
        let settings = [Fact::new("data", "<script>")];
        write(folder.path(), &raced(&differences), &found, &names, &settings).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let csv = read("tune.csv");
        assert_eq!(csv.lines().count(), 1 + 14, "{csv}");
        assert_eq!(csv.lines().next(), Some("rung,candidate,pair,epochs,seconds,failed,loss,mAP50"));
        assert!(csv.contains("1,\"full, lr x3\",1,10,18.0,,1.00000,0.75000"), "{csv}");
        assert!(csv.contains("last,default,5,30,48.0,,"), "{csv}");
        assert_eq!(read("best.txt").trim(), found.command);
        for plot in ["race.svg", "comparison.svg"] {
            assert!(read(plot).contains("default"), "{plot}");
        }
        let html = read("report.html");
        assert!(html.contains("is better than the default by +0.050") && html.contains("Rung"), "{html}");
        for outside in ["http://", "https://", "<script", "<b>"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("its weights are no longer finite"));
    }
}
