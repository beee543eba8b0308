//! Python literals as exporters write them into metadata: `{0: 'person', 1: 'bicycle'}`, `[640, 640]`, `True`.
//!
//! Grammar: None, True, False, decimal numbers, quoted text with escapes, and lists, tuples and dictionaries of these.
//! Nothing else is understood, and nothing is evaluated.

use serde_json::Value as Json;

use crate::limits::{MAX_JSON_DEPTH, MAX_JSON_VALUES};

/// Parses a literal; tuples become arrays and dictionary keys text. `None` where the text is no literal.
pub fn parse(text: &str) -> Option<Json> {
    let mut parser = Parser { rest: text, left: MAX_JSON_VALUES };
    let value = parser.value(0)?;
    parser.space();
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
    left: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, token: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_JSON_DEPTH {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.space();
        match self.rest.chars().next()? {
            '{' => self.dictionary(depth),
            '[' => self.sequence("[", "]", depth),
            '(' => self.sequence("(", ")", depth),
            quote @ ('\'' | '"') => self.text(quote).map(Json::String),
            _ => self.word(),
        }
    }

    fn sequence(&mut self, open: &str, close: &str, depth: usize) -> Option<Json> {
        self.eat(open);
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(self.value(depth + 1)?);
            if !self.eat(",") {
                return self.eat(close).then_some(Json::Array(items));
            }
        }
        Some(Json::Array(items))
    }

    fn dictionary(&mut self, depth: usize) -> Option<Json> {
        self.eat("{");
        let mut map = serde_json::Map::new();
        while !self.eat("}") {
            let key = match self.value(depth + 1)? {
                Json::String(s) => s,
                Json::Number(n) => n.to_string(),
                _ => return None,
            };
            if !self.eat(":") || map.contains_key(&key) {
                return None;
            }
            let value = self.value(depth + 1)?;
            map.insert(key, value);
            if !self.eat(",") {
                return self.eat("}").then_some(Json::Object(map));
            }
        }
        Some(Json::Object(map))
    }

    fn text(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.rest = &self.rest[i + 1..];
                return Some(out);
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let (_, escape) = chars.next()?;
            let digits = match escape {
                'n' => {
                    out.push('\n');
                    continue;
                }
                't' => {
                    out.push('\t');
                    continue;
                }
                'r' => {
                    out.push('\r');
                    continue;
                }
                '\\' | '\'' | '"' => {
                    out.push(escape);
                    continue;
                }
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => return None,
            };
            let mut code = 0u32;
            for _ in 0..digits {
                code = code.checked_mul(16)?.checked_add(chars.next()?.1.to_digit(16)?)?;
            }
            out.push(char::from_u32(code)?);
        }
        None
    }

    fn word(&mut self) -> Option<Json> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "None" => Some(Json::Null),
            "True" => Some(Json::Bool(true)),
            "False" => Some(Json::Bool(false)),
            _ => match word.parse::<i64>() {
                Ok(i) => Some(Json::from(i)),
                // Rust's parser would also take "inf" and "nan", which Python writes as calls, not literals.
                Err(_) if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    word.parse().ok().and_then(serde_json::Number::from_f64).map(Json::Number)
                }
                Err(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_of_exporters_parse() {
        assert_eq!(
            parse("{0: 'person', 1: \"it's\", 2: 'a\\'b'}"),
            Some(json!({"0": "person", "1": "it's", "2": "a'b"}))
        );
        assert_eq!(parse("[640, 640]"), Some(json!([640, 640])));
        assert_eq!(parse("(8.0, -1.5e3,)"), Some(json!([8.0, -1500.0])));
        assert_eq!(
            parse(" {'batch': 1, 'half': False, 'x': None, 'y': [] , } "),
            Some(json!({"batch":1,"half":false,"x":null,"y":[]}))
        );
        assert_eq!(parse("'\\xe9\\u00e9\\n'"), Some(json!("éé\n")));
        assert_eq!(parse("{}"), Some(json!({})));
    }

    #[test]
    fn anything_else_is_no_literal() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "__import__('os').system('id')",
            "{0: 'a'",
            "{0 'a'}",
            "[1 2]",
            "'open",
            "nan",
            "1 + 1",
            "{[1]: 2}",
            "{0: 'a', 0: 'b'}",
            "'\\q'",
            "'\\ud800'",
            &deep,
            "[1],",
        ] {
            assert_eq!(parse(bad), None, "{}", &bad[..bad.len().min(20)]);
        }
    }
}
