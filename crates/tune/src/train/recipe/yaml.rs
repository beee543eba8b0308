//! `args.yaml`: one flat mapping, `name: value`. Written by us, read from us and from the reference.
use saphyr_parser::{Event, Parser};

/// A configuration file that cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct YamlError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// One `name: value` of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub name: String,
    /// A scalar's text, or a list as `[a, b]`.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
}

/// A YAML scalar that reads back as this very string: plain where that is unmistakable, else double-quoted.
pub(crate) fn quote(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !["null", "true", "false", "yes", "no", "on", "off", "y", "n", "none", ".nan", ".inf"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Reads the file's entries in their order.
///
/// # Errors
/// No valid YAML, no flat mapping, or a name that stands twice.
pub(super) fn read(text: &str) -> Result<Vec<Entry>, YamlError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut name: Option<String> = None;
    let mut list: Option<Vec<String>> = None;
    let mut inside = false;
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| YamlError { line: error.marker().line(), what: error.info().to_owned() })?;
        let line = span.start.line();
        let wrong = |what: &str| Err(YamlError { line, what: what.to_owned() });
        match event {
            Event::MappingStart(..) if !inside && entries.is_empty() => inside = true,
            Event::MappingEnd if list.is_none() && name.is_none() => inside = false,
            Event::Scalar(value, ..) if inside => match (&mut list, name.take()) {
                (Some(items), taken) => {
                    items.push(value.into_owned());
                    name = taken;
                }
                (None, None) => {
                    if entries.iter().any(|entry| entry.name == value) {
                        return wrong(&format!("`{value}` stands twice"));
                    }
                    name = Some(value.into_owned());
                }
                (None, Some(name)) => entries.push(Entry { name, text: value.into_owned(), line }),
            },
            Event::SequenceStart(..) if inside && name.is_some() && list.is_none() => list = Some(Vec::new()),
            Event::SequenceEnd => {
                if let (Some(items), Some(name)) = (list.take(), name.take()) {
                    entries.push(Entry { name, text: format!("[{}]", items.join(", ")), line });
                }
            }
            Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Nothing => {}
            _ => return wrong("expected lines of the form `name: value`, without nesting"),
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        read(text).unwrap().into_iter().map(|entry| (entry.name, entry.text)).collect()
    }

    #[test]
    fn the_reference_style_is_read() {
        let text = "task: detect\nfreeze:\n- 0\n- 1\ntime: null\nproject:\nname: \"a b\"\nlist: [1, 2]\n";
        let expected = [
            ("task", "detect"),
            ("freeze", "[0, 1]"),
            ("time", "null"),
            ("project", ""),
            ("name", "a b"),
            ("list", "[1, 2]"),
        ];
        assert_eq!(pairs(text).iter().map(|(n, t)| (n.as_str(), t.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nesting_doubles_and_broken_files_name_their_line() {
        assert_eq!(read("a: 1\nb:\n  c: 2\n").unwrap_err().line, 3);
        assert_eq!(read("a: 1\na: 2\n").unwrap_err(), YamlError { line: 2, what: "`a` stands twice".into() });
        assert!(read("- 1\n- 2\n").is_err());
        assert!(read("a: [1\nb: 2\n").is_err());
    }

    proptest! {
        #[test]
        fn any_string_survives_writing_and_reading(text in "\\PC{0,40}") {
            prop_assert_eq!(pairs(&format!("name: {}\n", quote(&text))), vec![("name".to_string(), text)]);
        }

        #[test]
        fn no_input_panics(text in "[-:\\[\\]{}&*a-c \n\"']{0,60}") {
            if let Ok(entries) = read(&text) {
                prop_assert!(entries.iter().all(|entry| entry.line >= 1));
            }
        }
    }
}
