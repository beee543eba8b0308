//! results.csv, and the curves of a training run.

use serde::{Deserialize, Serialize};

use super::chart::{Axis, Chart, Look, Series, WIDTH};
use super::svg::Drawing;
use crate::evaluate::EvaluateError;

/// results.csv as a table of numbers. A field that is empty or `nan` is NaN.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResultsTable {
    /// The column names of the first line.
    pub columns: Vec<String>,
    /// The further lines, one number a column.
    pub rows: Vec<Vec<f64>>,
}

impl ResultsTable {
    /// Reads the text of results.csv.
    ///
    /// # Errors
    /// If there is no header, a line has another number of fields than it, or a field is not a number.
    pub fn parse(text: &str) -> Result<ResultsTable, EvaluateError> {
        let wrong = |line: usize, problem: String| EvaluateError::Results { line: line + 1, problem };
        let mut lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
        let (_, header) = lines.next().ok_or_else(|| wrong(0, "the file is empty".into()))?;
        let columns: Vec<String> = header.split(',').map(|c| c.trim().to_string()).collect();
        let mut rows = Vec::new();
        for (index, line) in lines {
            let row = line
                .split(',')
                .map(|field| match field.trim() {
                    "" => Ok(f64::NAN),
                    f => f.parse().map_err(|_| wrong(index, format!("{f:?} is not a number"))),
                })
                .collect::<Result<Vec<f64>, _>>()?;
            if row.len() != columns.len() {
                let problem = format!("{} fields, but the header has {}", row.len(), columns.len());
                return Err(wrong(index, problem));
            }
            rows.push(row);
        }
        Ok(ResultsTable { columns, rows })
    }

    /// A column's values in order of the rows.
    pub fn column(&self, name: &str) -> Option<Vec<f64>> {
        let index = self.columns.iter().position(|c| c == name)?;
        Some(self.rows.iter().map(|r| r[index]).collect())
    }
}

/// Title, what it says, y label, (column, name in the legend).
type Panel = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The titles of the panels whose best epoch is marked.
const MARKED: [&str; 2] = ["Average precision", "Accuracy"];

const PANELS: [Panel; 9] = [
    (
        "Average precision",
        "The figure that training tries to raise, epoch by epoch",
        "",
        &[("metrics/mAP50(B)", "mAP50"), ("metrics/mAP50-95(B)", "mAP50-95")],
    ),
    (
        "Accuracy",
        "The share of validation images that the model is right about",
        "",
        &[("metrics/accuracy_top5", "top-5"), ("metrics/accuracy_top1", "top-1")],
    ),
    (
        "Loss",
        "How wrong the class probabilities are",
        "Loss",
        &[("train/loss", "training"), ("val/loss", "validation")],
    ),
    (
        "Precision and recall by epoch",
        "At the confidence with the best F1",
        "",
        &[("metrics/precision(B)", "precision"), ("metrics/recall(B)", "recall")],
    ),
    (
        "Class loss",
        "How wrong the class scores are",
        "Loss",
        &[("train/cls_loss", "training"), ("val/cls_loss", "validation")],
    ),
    (
        "Box loss",
        "How far the boxes are off",
        "Loss",
        &[("train/box_loss", "training"), ("val/box_loss", "validation")],
    ),
    (
        "Edge loss (DFL)",
        "How sharply the edges are placed",
        "Loss",
        &[("train/dfl_loss", "training"), ("val/dfl_loss", "validation")],
    ),
    (
        "Distillation loss",
        "How far the model is from the starting model on the old classes",
        "Loss",
        &[("train/distill_loss", "training")],
    ),
    (
        "Learning rate",
        "The size of the steps",
        "",
        &[("lr/pg0", "group 0"), ("lr/pg1", "group 1"), ("lr/pg2", "group 2")],
    ),
];

/// One chart for each kind of figure that the table has: average precision first, then the losses and the learning rate.
pub fn results_charts(table: &ResultsTable) -> Vec<Drawing> {
    let epochs = table.column("epoch").unwrap_or_else(|| (1..=table.rows.len()).map(|e| e as f64).collect());
    let mut out = Vec::new();
    for (title, what, label, columns) in PANELS {
        let series: Vec<Series> = columns
            .iter()
            .enumerate()
            .filter_map(|(index, (column, name))| {
                let values = table.column(column)?;
                let points: Vec<_> = epochs.iter().copied().zip(values).collect();
                let look = Look::Colour(index);
                points.iter().any(|p| p.1.is_finite()).then(|| Series { name: (*name).into(), points, look })
            })
            .collect();
        if series.is_empty() {
            continue;
        }
        // Equal lines hide each other, as the learning rates of most runs do.
        let mut distinct: Vec<Series> = Vec::new();
        for one in series {
            match distinct.iter_mut().find(|d| same(&d.points, &one.points)) {
                Some(twin) => twin.name = format!("{}, {}", twin.name, one.name),
                None => distinct.push(one),
            }
        }
        let series = distinct;
        let y = Axis::around(label, series.iter().flat_map(|s| s.points.iter().map(|p| p.1)));
        let best = |s: &Series| {
            let finite = s.points.iter().filter(|p| p.1.is_finite());
            finite.copied().reduce(|a, b| if b.1 > a.1 { b } else { a })
        };
        let mark = MARKED
            .contains(&title)
            .then(|| series.last().and_then(best))
            .flatten()
            .map(|p| (p, format!("best {:.3}, epoch {}", p.1, p.0)));
        let last: Vec<String> = series
            .iter()
            .map(|s| format!("{} ends at {}", s.name, short(s.points.last().map_or(f64::NAN, |p| p.1))))
            .collect();
        let (low, high) = (epochs.first().copied().unwrap_or(0.0), epochs.last().copied().unwrap_or(1.0));
        let chart = Chart {
            title: title.into(),
            description: format!("{what}, over {} epochs: {}.", table.rows.len(), last.join(", ")),
            x: Axis { label: "Epoch".into(), low, high: if high > low { high } else { low + 1.0 } },
            y,
            series,
            mark,
        };
        out.push(chart.draw(1));
    }
    out
}

fn same(a: &[(f64, f64)], b: &[(f64, f64)]) -> bool {
    a.iter().zip(b).all(|(a, b)| a.1 == b.1 || a.1.is_nan() && b.1.is_nan())
}

/// Three decimals, or three digits where those would be noughts.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:.2e}") } else { format!("{value:.3}") }
}

/// All charts of [`results_charts`] on one sheet, three a row.
pub fn results_plot(table: &ResultsTable) -> Drawing {
    let charts = results_charts(table);
    let columns = charts.len().clamp(1, 3);
    let height = charts.iter().map(|c| c.height).fold(60.0, f64::max);
    let rows = charts.len().div_ceil(columns);
    let mut sheet = Drawing::new(
        "Training results",
        &format!("Metrics, losses and learning rate over {} epochs.", table.rows.len()),
        columns as f64 * WIDTH,
        rows.max(1) as f64 * height,
    );
    for (index, chart) in charts.iter().enumerate() {
        sheet.place(chart, ((index % columns) as f64 * WIDTH, (index / columns) as f64 * height));
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "epoch,time,train/box_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss\n\
                       1,2.5,1.5,0.2,0.1,1.4\n2,5.0,1.2,0.5,0.3,nan\n3,7.5,1.1,0.4,0.25,1.2\n";

    #[test]
    fn the_table_is_read_and_drawn() {
        let table = ResultsTable::parse(CSV).unwrap();
        assert_eq!(table.column("train/box_loss"), Some(vec![1.5, 1.2, 1.1]));
        assert_eq!(table.column("nothing"), None);
        let charts = results_charts(&table);
        let titles: Vec<_> = charts.iter().map(|c| c.title.as_str()).collect();
        assert_eq!(titles, ["Average precision", "Box loss"]);
        assert!(charts[0].inline().contains("best 0.300, epoch 2"));
        assert!(charts[1].description.contains("over 3 epochs: training ends at 1.100"));
        assert_eq!(results_plot(&table).width, 2.0 * WIDTH);
    }

    #[test]
    fn a_damaged_table_names_the_line() {
        let message = |text: &str| ResultsTable::parse(text).unwrap_err().to_string();
        assert!(
            message("epoch,a\n1,2\n2\n").starts_with("results.csv, line 3: 1 fields, but the header has 2")
        );
        assert!(message("epoch,a\n1,x\n").starts_with("results.csv, line 2: \"x\" is not a number"));
        assert!(message("\n").starts_with("results.csv, line 1: the file is empty"));
    }

    #[test]
    fn a_run_without_epochs_has_no_chart() {
        let table = ResultsTable::parse("epoch,train/box_loss\n").unwrap();
        assert!(results_charts(&table).is_empty());
        assert!(results_plot(&table).standalone().starts_with("<svg"));
    }
}
