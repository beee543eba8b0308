//! A pattern of file names that says which part of them is the group.

use std::collections::HashSet;
use std::path::Path;

/// The part that is the group.
const GROUP: &str = "{group}";

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Text(String),
    /// Anything within a name, as short as possible.
    Any,
    Group,
}

/// `{group}_*`: the group is what stands before the first `_`. `*` stands for anything and `{group}` for one character or
/// more, each as short as possible and within one name. A pattern is held against the file's name without its extension, or
/// with it where it fits only so; a pattern with `/` against as many of the last folders too: `{group}/*` takes the name of
/// the folder that the file lies in.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
    /// Names that it covers: one more than it has `/`.
    depth: usize,
}

impl Pattern {
    /// Reads a pattern. The error says what is allowed, to follow "must be".
    pub fn parse(text: &str) -> Result<Pattern, String> {
        let wrong = || {
            "a pattern of the images' names with {group} once, such as {group}_* or {group}/*, where * stands for anything"
                .to_owned()
        };
        let (before, after) = text.split_once(GROUP).ok_or_else(wrong)?;
        if [before, after].iter().any(|part| part.contains(['{', '}'])) || text.starts_with('/') {
            return Err(wrong());
        }
        let mut tokens = Vec::new();
        for (i, part) in [before, after].into_iter().enumerate() {
            if i == 1 {
                tokens.push(Token::Group);
            }
            for (k, text) in part.split('*').enumerate() {
                if k > 0 {
                    tokens.push(Token::Any);
                }
                if !text.is_empty() {
                    tokens.push(Token::Text(text.into()));
                }
            }
        }
        Ok(Pattern { text: text.into(), tokens, depth: text.matches('/').count() + 1 })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The group that a file's path tells; `None` where the pattern does not fit it.
    pub fn group_of(&self, path: &Path) -> Option<String> {
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let whole = parts.get(parts.len().checked_sub(self.depth)?..)?.join("/");
        let extension = path.extension().map_or(0, |e| e.to_string_lossy().len() + 1);
        let bare = &whole[..whole.len() - extension];
        [bare, &whole].into_iter().find_map(|name| {
            let mut group = None;
            self.fits(name, 0, 0, &mut HashSet::new(), &mut group).then_some(group).flatten()
        })
    }

    /// Whether the tokens from `token` on make up `name` from byte `at` on. `dead` holds what is known not to.
    fn fits(
        &self,
        name: &str,
        token: usize,
        at: usize,
        dead: &mut HashSet<(usize, usize)>,
        group: &mut Option<String>,
    ) -> bool {
        let rest = &name[at..];
        let Some(next) = self.tokens.get(token) else { return rest.is_empty() };
        if dead.contains(&(token, at)) {
            return false;
        }
        let found = match next {
            Token::Text(text) => {
                rest.starts_with(text.as_str()) && self.fits(name, token + 1, at + text.len(), dead, group)
            }
            Token::Any | Token::Group => {
                let within = rest.find('/').unwrap_or(rest.len());
                let ends =
                    rest.char_indices().map(|(i, _)| i).chain([rest.len()]).take_while(|&i| i <= within);
                let least = usize::from(*next == Token::Group);
                let end =
                    ends.filter(|&i| i >= least).find(|&i| self.fits(name, token + 1, at + i, dead, group));
                if let (Token::Group, Some(end)) = (next, end) {
                    *group = Some(rest[..end].into());
                }
                end.is_some()
            }
        };
        if !found {
            dead.insert((token, at));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(pattern: &str, path: &str) -> Option<String> {
        Pattern::parse(pattern).unwrap().group_of(Path::new(path))
    }

    #[test]
    fn the_group_is_as_short_as_the_rest_allows() {
        for (pattern, path, expected) in [
            ("{group}_*", "train/p12_slice_3.png", Some("p12")),
            ("{group}-*_*", "a-b-c_1.png", Some("a")),
            ("*_{group}", "scan_p7.tif", Some("p7")),
            ("*_{group}_*", "x_p_1_2.png", Some("p")),
            ("{group}/*", "data/train/patient 9/0.dcm", Some("patient 9")),
            ("{group}/*/*", "data/p1/left/0.png", Some("p1")),
            ("scan{group}.*.png", "scan5.b.png", Some("5")),
            ("{group}_*.png", "é_1.png", Some("é")),
            ("{group}", "whole.name.png", Some("whole.name")),
            ("{group}_*", "nothing.png", None),
            ("{group}_*", "_1.png", None),
            ("{group}/*", "alone.png", None),
            ("{group}_*", "a/b", None),
        ] {
            assert_eq!(group(pattern, path).as_deref(), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let name = format!("{}.png", "a".repeat(200));
        assert_eq!(group(&format!("{{group}}{}b", "*a".repeat(20)), &name), None);
    }
}
