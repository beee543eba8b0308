//! Precision and recall along confidence, and against each other.

use super::chart::{Axis, Chart, Look, Series};
use super::svg::Drawing;
use super::theme::SERIES;
use crate::evaluate::{Curves, DetectMetrics};

/// The four curve plots under their file names (without ending): `BoxPR_curve`, `BoxF1_curve`, `BoxP_curve`, `BoxR_curve`.
/// None where the metrics were stripped of their curves or no class has a truth box.
pub fn curve_plots(metrics: &DetectMetrics) -> Vec<(&'static str, Drawing)> {
    let Some(curves) = metrics.curves.as_ref().filter(|c| !c.recall.is_empty()) else {
        return Vec::new();
    };
    let at_best = |mean: Vec<f64>, what: &str| {
        let x = metrics.best_confidence;
        let y = mean[(x * (mean.len() - 1) as f64).round() as usize];
        ((x, y), format!("{what} {y:.2} at confidence {x:.2}"))
    };
    let confidence = |title: &str, what: &str, of: fn(&Curves) -> &Vec<Vec<f32>>| {
        let mean = mean_of(of(curves));
        let mark = at_best(mean, what);
        chart(
            metrics,
            title,
            &format!(
                "{what} from 0 to 1 over the confidence threshold. At threshold {:.2}, where F1 is best, it is {:.2}.",
                metrics.best_confidence, mark.0.1
            ),
            ("Confidence threshold", what),
            of(curves),
            Some(mark),
            |_| String::new(),
        )
    };
    let pr = chart(
        metrics,
        "Precision and recall",
        &format!(
            "Precision over recall at IoU 0.5. The area under the mean curve is mAP50 = {:.3}.",
            metrics.map50
        ),
        ("Recall: objects that are found", "Precision: marks that are right"),
        &curves.precision_at_recall,
        None,
        |class| format!(" {:.2}", metrics.per_class[class].ap50),
    );
    vec![
        ("BoxPR_curve", pr),
        ("BoxF1_curve", confidence("F1 by confidence", "F1", |c| &c.f1)),
        ("BoxP_curve", confidence("Precision by confidence", "Precision", |c| &c.precision)),
        ("BoxR_curve", confidence("Recall by confidence", "Recall", |c| &c.recall)),
    ]
}

fn mean_of(curves: &[Vec<f32>]) -> Vec<f64> {
    let points = curves.first().map_or(0, Vec::len);
    (0..points).map(|i| curves.iter().map(|c| f64::from(c[i])).sum::<f64>() / curves.len() as f64).collect()
}

fn over_unit(values: impl ExactSizeIterator<Item = f64>) -> Vec<(f64, f64)> {
    let last = values.len().saturating_sub(1).max(1) as f64;
    values.enumerate().map(|(i, y)| (i as f64 / last, y)).collect()
}

/// A line for each class (in grey where there are more classes than colours) and their mean.
fn chart(
    metrics: &DetectMetrics,
    title: &str,
    description: &str,
    (x, y): (&str, &str),
    curves: &[Vec<f32>],
    mark: Option<((f64, f64), String)>,
    after_name: impl Fn(usize) -> String,
) -> Drawing {
    let coloured = curves.len() <= SERIES;
    let mut series: Vec<Series> = Vec::new();
    if curves.len() > 1 {
        series.extend(curves.iter().enumerate().map(|(index, curve)| Series {
            name: format!("{}{}", metrics.per_class[index].name, after_name(index)),
            points: over_unit(curve.iter().map(|v| f64::from(*v))),
            look: if coloured { Look::Colour(index) } else { Look::Faint },
        }));
    }
    let all = match curves.len() {
        1 => metrics.per_class[0].name.clone(),
        n => format!("mean of {n} classes"),
    };
    series.push(Series { name: all, points: over_unit(mean_of(curves).into_iter()), look: Look::Strong });
    Chart {
        title: title.into(),
        description: description.into(),
        x: Axis::unit(x),
        y: Axis::unit(y),
        series,
        mark,
    }
    .draw(0)
}
