//! Line charts: axes with round ticks, lines, a legend below.

use super::svg::{Anchor, Drawing, text_width};
use super::theme::SERIES;

/// A chart's width in px.
pub const WIDTH: f64 = 460.0;
const PLOT_HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 40.0;
const BELOW: f64 = 48.0;
const LEGEND_ROW: f64 = 20.0;

/// A range of values along one side of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured, with its unit.
    pub label: String,
    /// Least value shown.
    pub low: f64,
    /// Greatest value shown; above `low`.
    pub high: f64,
}

impl Axis {
    /// From 0 to 1.
    pub fn unit(label: &str) -> Axis {
        Axis { label: label.into(), low: 0.0, high: 1.0 }
    }

    /// Around all finite values, widened to round numbers. From 0 on, if that is not far away.
    pub fn around(label: &str, values: impl Iterator<Item = f64>) -> Axis {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| v.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            return Axis::unit(label);
        }
        if low >= 0.0 && low < 0.4 * high {
            low = 0.0;
        }
        if high - low < 1e-12 * high.abs().max(1e-9) {
            let pad = if high == 0.0 { 1.0 } else { high.abs() / 2.0 };
            (low, high) = (low - pad, high + pad);
        }
        let step = round_step((high - low) / 4.0);
        Axis { label: label.into(), low: (low / step).floor() * step, high: (high / step).ceil() * step }
    }

    /// Round values along the axis, and how many decimals they need.
    fn ticks(&self, about: f64) -> (Vec<f64>, usize) {
        let step = round_step((self.high - self.low) / about);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        ((first..=last).map(|i| i as f64 * step).collect(), decimals)
    }
}

/// The least of 1, 2, 5 times a power of ten that is at least about `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= step * 0.999).unwrap_or(10.0 * power)
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In the colour of this index, repeated from the start after the last.
    Colour(usize),
    /// The line that matters most.
    Strong,
    /// One of very many; not in the legend.
    Faint,
}

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the axes' units. Not finite: a gap.
    pub points: Vec<(f64, f64)>,
    /// How it looks.
    pub look: Look,
}

/// A chart of lines over one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// What it says, in a sentence.
    pub description: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// Drawn in this order.
    pub series: Vec<Series>,
    /// A point to mark, and what to say of it.
    pub mark: Option<((f64, f64), String)>,
}

impl Chart {
    /// The chart as a picture, `WIDTH` px wide, with a place of `legend_rows` rows at least for the legend.
    pub fn draw(&self, legend_rows: usize) -> Drawing {
        let legend = self.legend();
        let rows = legend.last().map_or(0, |l| l.1 + 1).max(legend_rows);
        let height = TOP + PLOT_HEIGHT + BELOW + rows as f64 * LEGEND_ROW;
        let mut drawing = Drawing::new(&self.title, &self.description, WIDTH, height);
        drawing.text("title", (LEFT, 22.0), Anchor::Start, 0.0, &self.title);
        self.draw_axes(&mut drawing);
        let place = |(x, y): (f64, f64)| (self.place_x(x), self.place_y(y));
        for series in &self.series {
            let points: Vec<_> = series.points.iter().copied().map(place).collect();
            if let [only] = points[..] {
                drawing.circle("dot", only, 3.0, &series.name);
            }
            drawing.path(&class_of(series.look), &simplify(&points), &series.name);
        }
        if let Some((point, words)) = &self.mark {
            let (x, y) = place(*point);
            drawing.line("mark", (x, y), (x, TOP + PLOT_HEIGHT));
            drawing.circle("dot", (x, y), 4.0, words);
            let half = text_width(words, 11.0) / 2.0;
            let middle = x.clamp(LEFT + half + 4.0, (WIDTH - RIGHT - half).max(LEFT + half + 4.0));
            let above = if y - 10.0 < TOP + 8.0 { y + 18.0 } else { y - 10.0 };
            drawing.text("remark", (middle, above), Anchor::Middle, 0.0, words);
        }
        for (series, row, x) in legend {
            let y = TOP + PLOT_HEIGHT + BELOW + row as f64 * LEGEND_ROW + 8.0;
            drawing.path(&class_of(series.look), &[(x, y - 4.0), (x + 18.0, y - 4.0)], "");
            drawing.text("", (x + 24.0, y), Anchor::Start, 0.0, &super::svg::fit(&series.name, 12.0, 340.0));
        }
        drawing
    }

    fn place_x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.low) / (self.x.high - self.x.low) * (WIDTH - LEFT - RIGHT)
    }

    fn place_y(&self, y: f64) -> f64 {
        TOP + (1.0 - (y - self.y.low) / (self.y.high - self.y.low)) * PLOT_HEIGHT
    }

    fn draw_axes(&self, drawing: &mut Drawing) {
        let bottom = TOP + PLOT_HEIGHT;
        let (ticks, decimals) = self.y.ticks(5.0);
        for tick in ticks {
            let y = self.place_y(tick);
            drawing.line("grid", (LEFT, y), (WIDTH - RIGHT, y));
            let text = number(tick, decimals, self.y.high);
            drawing.text("tick", (LEFT - 7.0, y + 4.0), Anchor::End, 0.0, &text);
        }
        let (ticks, decimals) = self.x.ticks(5.0);
        for tick in ticks {
            let x = self.place_x(tick);
            drawing.line("axis", (x, bottom), (x, bottom + 4.0));
            let text = number(tick, decimals, self.x.high);
            drawing.text("tick", (x, bottom + 17.0), Anchor::Middle, 0.0, &text);
        }
        drawing.line("axis", (LEFT, bottom), (WIDTH - RIGHT, bottom));
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        drawing.text("label", (middle, bottom + 36.0), Anchor::Middle, 0.0, &self.x.label);
        if !self.y.label.is_empty() {
            drawing.text("label", (13.0, TOP + PLOT_HEIGHT / 2.0), Anchor::Middle, -90.0, &self.y.label);
        }
    }

    /// The series of the legend with row and x.
    fn legend(&self) -> Vec<(&Series, usize, f64)> {
        let named = self.series.iter().filter(|s| s.look != Look::Faint);
        if named.clone().count() + usize::from(self.series.iter().any(|s| s.look == Look::Faint)) < 2 {
            return Vec::new();
        }
        let (mut row, mut x) = (0, LEFT);
        let mut out = Vec::new();
        for series in named {
            let width = 24.0 + text_width(&series.name, 12.0).min(340.0) + 18.0;
            if x + width > WIDTH && x > LEFT {
                (row, x) = (row + 1, LEFT);
            }
            out.push((series, row, x));
            x += width;
        }
        out
    }
}

fn class_of(look: Look) -> String {
    match look {
        Look::Colour(index) => format!("s{}", index % SERIES),
        Look::Strong => "strong".into(),
        Look::Faint => "faint".into(),
    }
}

/// A tick's text; very small ranges in powers of ten.
fn number(value: f64, decimals: usize, high: f64) -> String {
    if decimals > 3 || high >= 1e6 {
        return if value == 0.0 { "0".into() } else { format!("{value:.1e}").replace(".0e", "e") };
    }
    format!("{value:.decimals$}")
}

/// Leaves out the points that lie within a tenth of a pixel of the line between their neighbours (Douglas and Peucker 1973).
fn simplify(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for run in points.chunk_by(|a, b| a.1.is_finite() == b.1.is_finite()) {
        if !run[0].1.is_finite() || run.len() < 3 {
            out.extend(run);
            continue;
        }
        let mut keep = vec![false; run.len()];
        keep[0] = true;
        keep[run.len() - 1] = true;
        let mut spans = vec![(0, run.len() - 1)];
        while let Some((from, to)) = spans.pop() {
            let (a, b) = (run[from], run[to]);
            let length = (b.0 - a.0).hypot(b.1 - a.1).max(1e-9);
            let distance =
                |p: (f64, f64)| ((b.0 - a.0) * (a.1 - p.1) - (a.0 - p.0) * (b.1 - a.1)).abs() / length;
            let farthest = (from + 1..to).max_by(|i, j| distance(run[*i]).total_cmp(&distance(run[*j])));
            if let Some(farthest) = farthest.filter(|i| distance(run[*i]) > 0.1) {
                keep[farthest] = true;
                spans.extend([(from, farthest), (farthest, to)]);
            }
        }
        out.extend(run.iter().zip(keep).filter(|(_, k)| *k).map(|(p, _)| *p));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(Axis::unit("").ticks(5.0), (vec![0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0], 1));
        let axis = Axis::around("", [3.1, 17.0, f64::NAN].into_iter());
        assert_eq!((axis.low, axis.high), (0.0, 20.0));
        assert_eq!(axis.ticks(5.0), (vec![0.0, 5.0, 10.0, 15.0, 20.0], 0));
        let axis = Axis::around("", [0.91, 0.96].into_iter());
        assert!(axis.low > 0.8 && axis.low <= 0.91 && axis.high >= 0.96 && axis.high < 1.0, "{axis:?}");
    }

    #[test]
    fn constant_and_empty_data_still_have_an_axis() {
        for values in [vec![], vec![0.0, 0.0], vec![5.0], vec![f64::NAN]] {
            let axis = Axis::around("", values.iter().copied());
            assert!(axis.high > axis.low && axis.ticks(5.0).0.len() < 30, "{values:?} {axis:?}");
        }
    }

    #[test]
    fn straight_runs_lose_their_inner_points() {
        let line: Vec<_> =
            (0..1000).map(|i| (i as f64, if i < 500 { 0.0 } else { (i - 500) as f64 })).collect();
        let kept = simplify(&line);
        assert_eq!(kept.first(), line.first());
        assert_eq!(kept.last(), line.last());
        assert!(kept.len() <= 4, "{kept:?}");
        let gap = [(0.0, 0.0), (1.0, f64::NAN), (2.0, 2.0)];
        assert_eq!(simplify(&gap).len(), 3);
    }

    #[test]
    fn many_series_wrap_in_the_legend() {
        let series = |i: usize| Series {
            name: format!("class name {i}"),
            points: vec![(0.0, 0.0), (1.0, 1.0)],
            look: Look::Colour(i),
        };
        let chart = Chart {
            title: "t".into(),
            description: "d".into(),
            x: Axis::unit("x"),
            y: Axis::unit("y"),
            series: (0..5).map(series).collect(),
            mark: None,
        };
        assert_eq!(chart.legend().last().map(|l| l.1), Some(1));
        assert_eq!(chart.draw(0).height - chart.draw(5).height, -60.0);
    }
}
