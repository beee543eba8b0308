//! The frame of a report page, and the pieces that its sections are made of.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::evaluate::plots::svg::escape;
use crate::evaluate::plots::{Drawing, theme};

/// A page under construction.
pub struct Page {
    html: String,
}

impl Page {
    /// The head of a page. The security policy forbids scripts and requests: should an escape ever be missed, nothing can follow.
    pub fn new(title: &str) -> Page {
        let mut page = Page { html: String::new() };
        page.raw(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
             <title>{} - onsa report</title>\n\
             <style>\n{}{}\n.plot .ground{{fill:none}}\n@media (prefers-color-scheme: dark){{{}}}\n</style>\n</head>\n<body>\n",
            escape(title),
            include_str!("style.css"),
            theme::LIGHT.style(),
            theme::DARK.style(),
        ));
        page
    }

    /// Adds markup. Every text in it must have gone through [`escape`].
    pub fn raw(&mut self, markup: std::fmt::Arguments<'_>) {
        self.html.write_fmt(markup).expect("writing to a String cannot fail");
        self.html.push('\n');
    }

    /// A section's heading, with the id that links point at.
    pub fn heading(&mut self, id: &str, text: &str) {
        self.raw(format_args!("<h2 id=\"{id}\">{}</h2>", escape(text)));
    }

    /// A paragraph.
    pub fn paragraph(&mut self, class: &str, text: &str) {
        self.raw(format_args!("<p class=\"{class}\">{}</p>", escape(text)));
    }

    /// A plot with what it says below.
    pub fn plot(&mut self, drawing: &Drawing) {
        self.raw(format_args!(
            "<figure>{}\n<figcaption>{}</figcaption></figure>",
            drawing.inline(),
            escape(&drawing.description)
        ));
    }

    /// A JPEG file as a picture in the page.
    pub fn picture(&mut self, jpeg: &[u8], (width, height): (u32, u32), label: &str, alt: &str) {
        self.raw(format_args!(
            "<div><span>{}</span><img width=\"{width}\" height=\"{height}\" alt=\"{}\" src=\"data:image/jpeg;base64,{}\"></div>",
            escape(label),
            escape(alt),
            STANDARD.encode(jpeg)
        ));
    }

    /// The whole page.
    pub fn finish(mut self) -> String {
        self.raw(format_args!(
            "</main>\n<footer>Written by onsa {}. This page holds all that it shows and asks for nothing over the network.</footer>\n</body>\n</html>",
            env!("CARGO_PKG_VERSION")
        ));
        self.html
    }
}
