//! YAML events -> a tree that knows its lines. No aliases (they can expand without end), bounded depth (a deep tree
//! overflows the stack when it is dropped), no doubled keys (a loader would keep one silently).

use super::Problem;
use crate::limits::DATA_YAML_DEPTH;
use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::HashSet;

pub(super) struct Node {
    pub line: usize,
    pub value: Value,
}

pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    /// Key, its line, value.
    Map(Vec<(String, usize, Node)>),
}

pub(super) type Fault = (Option<usize>, Problem);

/// A list or mapping that is still open.
enum Open {
    List(Vec<Node>),
    Map { entries: Vec<(String, usize, Node)>, seen: HashSet<String>, key: Option<(String, usize)> },
}

/// The tree of the one document in `text`; an empty text is [`Value::Null`].
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    let mut stack: Vec<(Open, usize)> = Vec::new();
    let mut root: Option<Node> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            (Some(e.marker().line()), Problem::Syntax(e.info().trim_end_matches('.').to_string()))
        })?;
        let line = span.start.line();
        let unwanted = |what| Err((Some(line), Problem::Unwanted(what)));
        if let Event::Scalar(.., Some(tag))
        | Event::SequenceStart(.., Some(tag))
        | Event::MappingStart(.., Some(tag)) = &event
            && !is_plain(tag)
        {
            return unwanted("a tag (!name) of another program is not read: leave it out");
        }
        let done = match event {
            Event::Alias(_) => return unwanted("an alias (*name) is not read: write the value out"),
            Event::DocumentStart(_) if root.is_some() => {
                return unwanted(
                    "holds a second YAML document: keep one and remove the `---` before the other",
                );
            }
            Event::Scalar(text, style, _, _) => {
                let plain = style == ScalarStyle::Plain;
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                Node { line, value }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if stack.len() == DATA_YAML_DEPTH {
                    return unwanted("lists and mappings are nested too deeply for a data.yaml");
                }
                if let Some((Open::Map { key: None, .. }, _)) = stack.last() {
                    return unwanted("a list or mapping cannot be a key here");
                }
                let open = match event {
                    Event::SequenceStart(..) => Open::List(Vec::new()),
                    _ => Open::Map { entries: Vec::new(), seen: HashSet::new(), key: None },
                };
                stack.push((open, line));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some((Open::List(items), line)) => Node { line, value: Value::List(items) },
                Some((Open::Map { entries, .. }, line)) => Node { line, value: Value::Map(entries) },
                None => return unwanted("a list or mapping ends that never began"),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {
                continue;
            }
        };
        match stack.last_mut() {
            None => root = Some(done),
            Some((Open::List(items), _)) => items.push(done),
            Some((Open::Map { entries, seen, key }, _)) => match key.take() {
                Some((name, at)) => entries.push((name, at, done)),
                None => {
                    let name = match done.value {
                        Value::Scalar(text) => text,
                        _ => return unwanted("a key is empty"),
                    };
                    if !seen.insert(name.clone()) {
                        return Err((Some(done.line), Problem::Twice(name)));
                    }
                    *key = Some((name, done.line));
                }
            },
        }
    }
    Ok(root.unwrap_or(Node { line: 1, value: Value::Null }))
}

/// A tag of YAML's own, such as `!!str`, or the lone `!`.
fn is_plain(tag: &Tag) -> bool {
    let plain = ["str", "int", "float", "bool", "null", "seq", "map"].contains(&tag.suffix.as_str());
    tag.is_yaml_core_schema() && plain || tag.handle.is_empty() && tag.suffix == "!"
}
