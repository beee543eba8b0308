//! Which names an archive may give to files. A name is refused where any usual file system would put it elsewhere than
//! another does: so what is accepted means the same on Linux, macOS and Windows.

use std::collections::HashMap;
use std::path::PathBuf;

use super::ArchiveError;
use crate::limits::{ARCHIVE_COMPONENT_BYTES, ARCHIVE_DEPTH, ARCHIVE_NAME_BYTES};

/// The names of one archive so far.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each file and folder in lower case: how it was spelled, and whether it is a folder.
    seen: HashMap<String, (String, bool)>,
}

impl Names {
    /// Checks the next name; a folder's ends with a slash. Returns its path below the root.
    pub fn take(&mut self, name: &str) -> Result<PathBuf, ArchiveError> {
        let refuse = |why| Err(ArchiveError::Name { name: name.to_owned(), why });
        let is_folder = name.ends_with('/');
        let plain = name.strip_suffix('/').unwrap_or(name);
        if let Err(why) = check(plain) {
            return refuse(why);
        }
        let mut path = PathBuf::new();
        let mut spelled = String::new();
        let mut parts = plain.split('/').peekable();
        while let Some(part) = parts.next() {
            if !spelled.is_empty() {
                spelled.push('/');
            }
            spelled.push_str(part);
            path.push(part);
            let folder = is_folder || parts.peek().is_some();
            match self.seen.get(&spelled.to_lowercase()) {
                None => {
                    self.seen.insert(spelled.to_lowercase(), (spelled.clone(), folder));
                }
                Some((before, _)) if *before != spelled => {
                    return refuse("another name differs from it in upper and lower case only");
                }
                Some((_, was_folder)) if *was_folder != folder => {
                    return refuse("it stands for a file and for a folder");
                }
                Some((_, false)) => return refuse("it comes twice"),
                Some(_) => {}
            }
        }
        Ok(path)
    }
}

fn check(plain: &str) -> Result<(), &'static str> {
    if plain.len() > ARCHIVE_NAME_BYTES {
        return Err("it is too long");
    }
    if plain.starts_with('/') {
        return Err("it is absolute");
    }
    if plain.contains('\\') {
        return Err("it contains a backslash, which Windows takes for a folder's end");
    }
    if plain.chars().any(char::is_control) {
        return Err("it contains a control character");
    }
    if plain.as_bytes().get(1) == Some(&b':') {
        return Err("it begins with a drive letter");
    }
    if cfg!(windows) && plain.contains([':', '<', '>', '"', '|', '?', '*']) {
        return Err("it contains a character that Windows allows in no name");
    }
    let mut depth = 0;
    for part in plain.split('/') {
        depth += 1;
        match part {
            "" => return Err("a part of it is empty"),
            "." | ".." => return Err("it contains . or .. as a folder"),
            _ if part.len() > ARCHIVE_COMPONENT_BYTES => return Err("a part of it is too long"),
            _ if part.ends_with(['.', ' ']) => {
                return Err("a part of it ends with a dot or a space, which Windows drops");
            }
            _ if is_device(part) => return Err("a part of it names a device on Windows"),
            _ => {}
        }
    }
    if depth > ARCHIVE_DEPTH { Err("it has too many folders within one another") } else { Ok(()) }
}

/// `con`, `nul`, `com1` …, with any extension.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or(part).trim_end().to_ascii_lowercase();
    match stem.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        _ => {
            let number = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
            number.is_some_and(|n| matches!(n.as_bytes(), [b'1'..=b'9']))
        }
    }
}

/// Files that file managers put beside a person's own.
pub(super) fn is_clutter(path: &std::path::Path) -> bool {
    path.starts_with("__MACOSX")
        || path.file_name().is_some_and(|name| {
            [".DS_Store", "Thumbs.db", "desktop.ini"].iter().any(|clutter| name.eq_ignore_ascii_case(clutter))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn takes(names: &[&str]) -> bool {
        let mut seen = Names::default();
        names.iter().all(|name| seen.take(name).is_ok())
    }

    #[test]
    fn usual_names_are_taken() {
        assert!(takes(&[
            "data.yaml",
            "images/",
            "images/train/",
            "images/train/a b (1).JPG",
            "labels/ü.txt"
        ]));
        assert!(takes(&["2020-01-01T10:00.jpg", "console.txt", "com10.txt", "..a", "a..b", ".hidden"]));
    }

    #[test]
    fn names_that_would_leave_the_root_or_differ_by_system_are_refused() {
        let long = "a".repeat(300);
        let deep = "a/".repeat(40) + "b";
        for name in [
            "../a",
            "a/../../b",
            "..",
            "a/..",
            "/etc/passwd",
            "//host/share",
            "C:/a",
            "c:a",
            "a\\b",
            "..\\a",
            "a//b",
            "",
            "/",
            "./a",
            "a\0b",
            "a\nb",
            "a.",
            "a ",
            "a. /b",
            "nul",
            "NUL.txt",
            "images/com1.jpg",
            &long,
            &deep,
        ] {
            assert!(!takes(&[name]), "{name:?}");
        }
    }

    #[test]
    fn names_that_fall_together_are_refused() {
        for pair in [
            ["a.jpg", "A.jpg"],
            ["Images/a.jpg", "images/b.jpg"],
            ["ä.jpg", "Ä.jpg"],
            ["a", "a/b"],
            ["a/b", "a"],
            ["a", "a"],
            ["a", "a/"],
        ] {
            assert!(!takes(&pair), "{pair:?}");
        }
        assert!(takes(&["a/b", "a/c", "a/", "d/", "d/"]));
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_below_the_root(name in "[./\\\\a-zA-Z:\\x00 ~]{0,24}") {
            if let Ok(path) = Names::default().take(&name) {
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))), "{path:?}");
                let text = path.to_string_lossy().replace('\\', "/");
                prop_assert_eq!(text, name.strip_suffix('/').unwrap_or(&name));
            }
        }
    }
}
