//! The help, made from the verbs' definitions.
use crate::output::{self, Sink, Style};
use crate::verbs::{VERBS, Verb};

/// Text starts here in lists of names.
const INDENT: usize = 28;
const WIDTH: usize = 110;

/// What `onsa help` shows.
pub fn overview(sink: Sink) {
    let bold = |text: &str| output::styled_for(text, Style::Bold, sink);
    let mut text = format!(
        "onsa {}: fine-tunes pretrained vision models.\n\n{} onsa VERB key=value ...\n\n{}\n",
        env!("CARGO_PKG_VERSION"),
        bold("Usage:"),
        bold("Verbs:")
    );
    for verb in VERBS {
        text.push_str(&format!("  {:<12}{}\n", verb.name, verb.about));
    }
    text.push_str("\n`key=value`, `--key value` and `--key=value` mean the same. `onsa help VERB` shows a verb's arguments.");
    output::to(sink, &text);
}

/// What `onsa help VERB` shows.
pub fn verb(verb: &Verb) {
    let bold = |text: &str| output::styled_for(text, Style::Bold, Sink::Out);
    let positional = verb.positional.as_ref().map_or(String::new(), |p| format!(" {}", p.name));
    let mut text =
        format!("{}\n\n{} onsa {}{positional} [key=value ...]\n", verb.about, bold("Usage:"), verb.name);
    if let Some(positional) = &verb.positional {
        text.push('\n');
        entry(&mut text, positional.name, positional.help);
    }
    let mut heading = "";
    for argument in verb.arguments() {
        if argument.heading != heading {
            heading = argument.heading;
            text.push_str(&format!("\n{}\n", bold(&format!("{heading}:"))));
        }
        let default = (argument.default)();
        let default = match default.as_str() {
            "null" | "\"\"" | "[]" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let name = format!("{}={}", argument.name, argument.value);
        entry(&mut text, &name, &format!("{}{default}", argument.help.trim()));
    }
    text.push_str(&format!("\n{}\n", bold("Output:")));
    entry(&mut text, "--json", "Print one JSON document on stdout and nothing else there.");
    if !verb.examples.is_empty() {
        text.push_str(&format!("\n{}\n", bold("Examples:")));
        for example in verb.examples {
            text.push_str(&format!("  {example}\n"));
        }
    }
    output::line(text.trim_end());
}

/// One name with its wrapped text.
fn entry(text: &mut String, name: &str, help: &str) {
    let mut line = format!("  {name}");
    let fits = line.len() + 2 <= INDENT;
    if !fits {
        text.push_str(&line);
        text.push('\n');
        line.clear();
    }
    let mut column = line.len();
    line.push_str(&" ".repeat(INDENT - column));
    column = INDENT;
    for word in help.split_whitespace() {
        let long = column + 1 + word.len() > WIDTH;
        if long {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(INDENT);
            column = INDENT;
        } else if column > INDENT {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += word.len();
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
