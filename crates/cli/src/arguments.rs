//! The command line: `key=value`, `--key value` and `--key=value` mean the same; `-` and `_` in a flag's name, too.
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use onsa_tune::train::recipe::table::{Argument, ArgumentError, nearest};

use crate::failure::Failure;
use crate::verbs::Verb;

/// What a command line asks for.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    /// The verb's help.
    Help,
    /// The verb itself.
    Run(Invocation),
}

/// A verb's arguments as given, in their order; each name at most once.
#[derive(Debug, Default, PartialEq)]
pub struct Invocation {
    /// The argument without a name, such as the file of `inspect`.
    pub positional: Option<PathBuf>,
    /// Names (with `_`) and texts.
    pub given: Vec<(String, String)>,
    /// True for `--json`.
    pub json: bool,
}

impl Invocation {
    /// Hands each argument to `set`.
    ///
    /// # Errors
    /// The first that `set` refuses.
    pub fn each(
        &self,
        mut set: impl FnMut(&str, &str) -> Result<(), ArgumentError>,
    ) -> Result<(), ArgumentError> {
        self.given.iter().try_for_each(|(name, text)| set(name, text))
    }
}

/// The command line as text.
///
/// # Errors
/// An argument that is not Unicode.
pub fn as_text(tokens: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    tokens
        .map(|token| {
            token.into_string().map_err(|token| {
                Failure::usage(format!("the argument {token:?} is not valid Unicode"))
                    .hint("rename the file or folder")
            })
        })
        .collect()
}

/// Splits a verb's command line into names and texts, and refuses names that the verb does not know.
///
/// # Errors
/// An unknown argument, one given twice, one without its value, or a second positional one.
pub fn parse(verb: &Verb, tokens: Vec<String>) -> Result<Parsed, Failure> {
    let mut parsed = Invocation::default();
    let mut tokens = tokens.into_iter().peekable();
    let mut only_positional = false;
    while let Some(token) = tokens.next() {
        if only_positional {
            take_positional(verb, &mut parsed, token)?;
        } else if token == "--" {
            only_positional = true;
        } else if token == "-h" || token == "--help" {
            return Ok(Parsed::Help);
        } else if let Some(flag) = token.strip_prefix("--") {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.replace('-', "_"), Some(value.to_owned())),
                None => (flag.replace('-', "_"), None),
            };
            let argument = find(verb, &name)?;
            let text = match value {
                Some(text) => text,
                None if is_flag(argument) => {
                    let says = |next: &String| is_truth_value(next);
                    tokens.next_if(says).unwrap_or_else(|| "true".into())
                }
                None => tokens.next().ok_or_else(|| {
                    Failure::usage(format!("`--{flag}` needs a value"))
                        .hint(format!("write --{flag} VALUE or {name}=VALUE"))
                })?,
            };
            take_named(&mut parsed, name, text)?;
        } else if let Some((name, text)) = named(verb, &token) {
            find(verb, name)?;
            take_named(&mut parsed, name.to_owned(), text.to_owned())?;
        } else if token.starts_with('-') && token.len() > 1 {
            return Err(unknown(verb, token.trim_start_matches('-')));
        } else {
            take_positional(verb, &mut parsed, token)?;
        }
    }
    Ok(Parsed::Run(parsed))
}

/// `key=value`, unless the verb takes a file, does not know the key, and a file of just that name exists.
fn named<'a>(verb: &Verb, token: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, text) = token.split_once('=')?;
    let identifier = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_a_file = verb.positional.is_some() && find(verb, name).is_err() && Path::new(token).exists();
    (identifier && !is_a_file).then_some((name, text))
}

fn is_truth_value(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// What stands behind a name: an argument of the verb's tables, or one that only has a name.
type Found = Option<&'static Argument>;

fn is_flag(found: Found) -> bool {
    found.is_none_or(|argument| argument.flag)
}

fn find(verb: &Verb, name: &str) -> Result<Found, Failure> {
    if name == "json" {
        return Ok(None);
    }
    if let Some(argument) = verb.arguments().find(|argument| argument.name == name) {
        return Ok(Some(argument));
    }
    // The reference's other arguments: the verb's own check says what holds for them.
    if (verb.also_known)(name) { Ok(None) } else { Err(unknown(verb, name)) }
}

fn unknown(verb: &Verb, name: &str) -> Failure {
    let known = verb.arguments().map(|argument| argument.name).chain(["json", "help"]);
    let failure = Failure::usage(format!("`{}` has no argument `{name}`", verb.name));
    failure.hint(match nearest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`onsa help {}` lists them", verb.name),
    })
}

fn take_named(parsed: &mut Invocation, name: String, text: String) -> Result<(), Failure> {
    if name == "json" {
        parsed.json = match text.as_str() {
            "true" | "True" | "TRUE" | "1" => true,
            "false" | "False" | "FALSE" | "0" => false,
            _ => {
                return Err(Failure::usage(format!(
                    "json={text} is not allowed: json must be true or false"
                )));
            }
        };
        return Ok(());
    }
    if parsed.given.iter().any(|(given, _)| *given == name) {
        return Err(Failure::usage(format!("`{name}` is given twice")).hint("give it once"));
    }
    parsed.given.push((name, text));
    Ok(())
}

fn take_positional(verb: &Verb, parsed: &mut Invocation, token: String) -> Result<(), Failure> {
    let Some(positional) = &verb.positional else {
        let known = verb.arguments().map(|argument| argument.name);
        return Err(Failure::usage(format!("`{token}` is not of the form key=value")).hint(
            match nearest(&token, known) {
                Some(near) => format!("did you mean `{near}=...`?"),
                None => format!("`onsa help {}` lists the arguments", verb.name),
            },
        ));
    };
    if let Some(first) = &parsed.positional {
        return Err(Failure::usage(format!(
            "`{}` takes one {}, and both `{}` and `{token}` are given",
            verb.name,
            positional.name,
            first.display()
        )));
    }
    parsed.positional = Some(token.into());
    Ok(())
}

#[cfg(test)]
mod tests;
