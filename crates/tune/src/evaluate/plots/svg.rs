//! A small SVG writer: shapes and text with classes, all content escaped, colours in one style sheet.

use std::fmt::Write;

/// Replaces the characters that mean something in XML and HTML, and drops those that XML forbids.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            // Marks that turn the reading direction could make a label rewrite the text around it.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with at most one decimal.
pub fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".into(),
        Some(whole) => whole.into(),
        None => text,
    }
}

/// The width of `text` at `size` px, estimated: fonts differ from machine to machine.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(|c| if c < '\u{1100}' { 0.56 } else { 1.0 }).sum::<f64>() * size
}

/// Shortens `text` with an ellipsis to about `width` px at `size` px.
pub fn fit(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut out = String::new();
    for c in text.chars() {
        if text_width(&out, size) + 2.0 * size > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Where a text's given x lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A finished picture: what it is, how large, and its shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    /// One line, for those who cannot see it and for the window's title.
    pub title: String,
    /// What can be read off it, in a sentence.
    pub description: String,
    /// Width in px.
    pub width: f64,
    /// Height in px.
    pub height: f64,
    body: String,
}

impl Drawing {
    /// An empty picture.
    pub fn new(title: &str, description: &str, width: f64, height: f64) -> Drawing {
        Drawing { title: title.into(), description: description.into(), width, height, body: String::new() }
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        self.body.write_fmt(arguments).expect("writing to a String cannot fail");
        self.body.push('\n');
    }

    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(coordinate);
        self.push(format_args!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"));
    }

    /// A line through points; a point that is not finite leaves a gap. `tip` is what a pointer resting on it shows.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)], tip: &str) {
        let mut d = String::new();
        let mut pen_down = false;
        for (x, y) in points {
            if !(x.is_finite() && y.is_finite()) {
                pen_down = false;
                continue;
            }
            d.push_str(if pen_down { " L" } else { " M" });
            d.push_str(&coordinate(*x));
            d.push(' ');
            d.push_str(&coordinate(*y));
            pen_down = true;
        }
        if !d.is_empty() {
            self.push(format_args!(
                "<path class=\"{class}\" d=\"{}\">{}</path>",
                d.trim_start(),
                tip_of(tip)
            ));
        }
    }

    /// A rectangle; `opacity` 0 to 1.
    pub fn rect(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        opacity: f64,
        tip: &str,
    ) {
        let [x, y, w, h] = [x, y, width, height].map(coordinate);
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity:.3}\"") } else { String::new() };
        self.push(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"{opacity}>{}</rect>",
            tip_of(tip)
        ));
    }

    /// A disc.
    pub fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64, tip: &str) {
        let [x, y, r] = [x, y, radius].map(coordinate);
        self.push(format_args!(
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\">{}</circle>",
            tip_of(tip)
        ));
    }

    /// A text on the base line `y`, turned by `angle` degrees around its point.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, angle: f64, text: &str) {
        let [x, y] = [x, y].map(coordinate);
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let turn = if angle == 0.0 {
            String::new()
        } else {
            format!(" transform=\"rotate({} {x} {y})\"", coordinate(angle))
        };
        let text = escape(text);
        self.push(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}{turn}>{text}</text>"));
    }

    /// Another picture with its corner at a point.
    pub fn place(&mut self, other: &Drawing, (x, y): (f64, f64)) {
        let [x, y] = [x, y].map(coordinate);
        self.push(format_args!("<g transform=\"translate({x} {y})\">\n{}</g>", other.body));
    }

    /// A file of its own, on a light background.
    pub fn standalone(&self) -> String {
        let [w, h] = [self.width, self.height].map(coordinate);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" role=\"img\" width=\"{w}\" height=\"{h}\" \
             viewBox=\"0 0 {w} {h}\">\n<title>{}</title>\n<desc>{}</desc>\n<style>{}</style>\n\
             <rect class=\"ground\" width=\"{w}\" height=\"{h}\"/>\n{}</svg>\n",
            escape(&self.title),
            escape(&self.description),
            super::theme::LIGHT.style(),
            self.body
        )
    }

    /// A part of a page that holds the style sheets of [`super::theme`]; as wide as its place allows.
    pub fn inline(&self) -> String {
        let [w, h] = [self.width, self.height].map(coordinate);
        format!(
            "<svg class=\"plot\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {w} {h}\" style=\"max-width:{}px\">\n{}</svg>",
            escape(&format!("{}. {}", self.title, self.description)),
            coordinate(self.width * 1.35),
            self.body
        )
    }
}

fn tip_of(tip: &str) -> String {
    if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_leave_their_text() {
        let mut drawing = Drawing::new("</title><script>", "a & b", 10.0, 10.0);
        drawing.text("t", (1.0, 2.0), Anchor::Middle, 0.0, "<img src=x onerror='1'>\u{202e}\u{0}");
        drawing.circle("c", (0.0, 0.0), 1.0, "\"</circle>");
        for svg in [drawing.standalone(), drawing.inline()] {
            assert!(
                !svg.contains("<script") && !svg.contains("<img") && !svg.contains("\"</circle"),
                "{svg}"
            );
            assert!(svg.contains("&lt;img src=x onerror=&#39;1&#39;&gt;\u{fffd}\u{fffd}"), "{svg}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, -0.02, 12.0, 1.25, -3.46].map(coordinate), ["0", "0", "12", "1.2", "-3.5"]);
    }

    #[test]
    fn a_gap_in_the_data_is_a_gap_in_the_line() {
        let mut drawing = Drawing::new("", "", 10.0, 10.0);
        drawing.path("p", &[(0.0, 0.0), (1.0, 1.0), (2.0, f64::NAN), (3.0, 3.0)], "");
        assert!(drawing.inline().contains("d=\"M0 0 L1 1 M3 3\""), "{}", drawing.inline());
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(fit("short", 12.0, 100.0), "short");
        let cut = fit("a very long class name indeed", 12.0, 80.0);
        assert!(cut.ends_with('…') && text_width(&cut, 12.0) <= 80.0, "{cut}");
    }
}
