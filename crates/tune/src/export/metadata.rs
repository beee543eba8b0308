//! What an exported file says about itself, under the keys that readers of the reference's exports know, and where it comes
//! from under keys of our own.

use crate::models::open::Opened;

/// A list of Python literals' text.
fn python_list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A string as Python writes it.
fn python_text(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\\' | '\'' => out.extend(['\\', c]),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// Class names as Python writes a dictionary by number.
pub fn python_names(names: &[String]) -> String {
    let entries: Vec<String> =
        names.iter().enumerate().map(|(i, name)| format!("{i}: {}", python_text(name))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// The entries, in a fixed order.
pub fn entries(opened: &Opened, [height, width]: [usize; 2], batch: usize) -> Vec<(String, String)> {
    let model = &opened.model;
    let stride = model.levels.iter().map(|l| l.stride).max().unwrap_or(1);
    let mut out = vec![
        ("description".to_owned(), format!("{} exported by onsa", model.architecture.name())),
        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("task".to_owned(), model.task().name().to_owned()),
        ("stride".to_owned(), stride.to_string()),
        ("batch".to_owned(), batch.to_string()),
        ("imgsz".to_owned(), python_list([height, width].iter().map(usize::to_string))),
        ("channels".to_owned(), model.input[3].to_string()),
        ("names".to_owned(), python_names(&opened.names)),
    ];
    if let Some(from) = &opened.weights {
        out.push(("license".to_owned(), from.licence.clone()));
        out.push((
            "onsa.weights".to_owned(),
            from.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ));
        out.push(("onsa.weights_sha256".to_owned(), from.sha256.clone()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_quotes_stay_one_literal() {
        let names = ["person".to_owned(), "driver's \\ seat\n".to_owned()];
        assert_eq!(python_names(&names), r"{0: 'person', 1: 'driver\'s \\ seat\x0a'}");
    }
}
