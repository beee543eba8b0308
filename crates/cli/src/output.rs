//! What the person sees. Answers go to stdout, prose and progress to stderr; with `--json`, stdout carries one JSON
//! document and nothing else. Colours only on a terminal and without NO_COLOR.
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// How a piece of text looks on a terminal.
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// The word before an error.
    Error,
    /// The word before a hint.
    Hint,
    /// The word before a warning.
    Warning,
    /// A heading.
    Bold,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Style::Error => "1;31",
            Style::Hint => "1;36",
            Style::Warning => "1;33",
            Style::Bold => "1",
        }
    }
}

/// `text` in `style` for stderr, if stderr shows styles.
pub fn styled(text: &str, style: Style) -> String {
    styled_for(text, style, Sink::Error)
}

/// `text` in `style`, if `sink` shows styles.
pub fn styled_for(text: &str, style: Style, sink: Sink) -> String {
    if shows_styles(sink) { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.to_owned() }
}

fn shows_styles(sink: Sink) -> bool {
    let plain = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminal = match sink {
        Sink::Out => io::stdout().is_terminal(),
        Sink::Error => io::stderr().is_terminal(),
    };
    terminal && !plain("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a line to stdout.
pub fn line(text: &str) {
    to(Sink::Out, text);
}

/// Writes a line of prose to stderr.
pub fn note(text: &str) {
    to(Sink::Error, text);
}

/// Writes a warning to stderr.
pub fn warning(text: &str) {
    note(&format!("{} {text}", styled("warning:", Style::Warning)));
}

/// Writes a line to `sink`. A reader that has gone away (`| head`) is no failure of ours.
pub fn to(sink: Sink, text: &str) {
    let _ = match sink {
        Sink::Out => writeln!(io::stdout().lock(), "{text}"),
        Sink::Error => writeln!(io::stderr().lock(), "{text}"),
    };
}

/// Writes the one JSON document of `--json` to stdout.
pub fn document(value: &impl Serialize) {
    let text =
        serde_json::to_string_pretty(value).expect("our documents have string keys and no failing field");
    line(&text);
}

/// `1.2 MB`, as people read sizes.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 1000.0 {
            return if unit == "bytes" { format!("{count} bytes") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_read_well() {
        assert_eq!(super::bytes(0), "0 bytes");
        assert_eq!(super::bytes(1_200_000), "1.2 MB");
        assert_eq!(super::bytes(5_000_000_000_000), "5.0 TB");
    }
}
