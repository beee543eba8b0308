//! What `source=` names: files, folders, patterns, lists, and the standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::PredictError;
use super::video::is_video_name;

/// Largest list of paths that is read, in bytes.
const LIST_BYTES: u64 = onsa_intake::limits::LIST_FILE_BYTES;
/// Largest picture that the standard input may bring, in bytes.
const PICTURE_BYTES: u64 = onsa_intake::limits::PICTURE_FILE_BYTES;

/// A picture to predict on.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// A file's bytes, from the standard input.
    Bytes(Vec<u8>),
    /// A video's file.
    Video(PathBuf),
}

impl Input {
    /// A file, by its name a picture or a video.
    fn of(path: PathBuf) -> Input {
        if is_video_name(&path) { Input::Video(path) } else { Input::File(path) }
    }

    /// What results call it.
    pub fn name(&self) -> PathBuf {
        match self {
            Input::File(path) | Input::Video(path) => path.clone(),
            Input::Bytes(_) => PathBuf::from("stdin"),
        }
    }
}

/// The pictures and videos that a source names, in a fixed order: a file; a folder's files; a pattern with `*`, `?` or `[…]` (`**` for
/// folders within folders); a `.txt` list, one path a line, relative to the list; `-` for the standard input, which brings one
/// picture or a list.
///
/// # Errors
/// See [`PredictError`].
pub fn inputs(source: &Path, stdin: &mut dyn Read) -> Result<Vec<Input>, PredictError> {
    if source == Path::new("-") {
        return from_stdin(stdin);
    }
    let is_list = source.extension().is_some_and(|e| e.eq_ignore_ascii_case("txt"));
    if source.is_file() && is_list {
        let failed = |error| PredictError::Folder { path: source.to_owned(), source: error };
        let file = std::fs::File::open(source).map_err(failed)?;
        let bytes = limited(file, LIST_BYTES).map_err(failed)?;
        return list(&bytes, source.parent().unwrap_or(Path::new("")), source);
    }
    let text = source.to_string_lossy();
    if !source.exists() && text.contains(['*', '?', '[']) {
        return pattern(&text, source);
    }
    if source.is_file() {
        return Ok(vec![Input::of(source.to_owned())]);
    }
    let failed = |error| PredictError::Folder { path: source.to_owned(), source: error };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(source).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && is_input(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(PredictError::NoImages(source.to_owned()));
    }
    Ok(paths.into_iter().map(Input::of).collect())
}

fn is_input(path: &Path) -> bool {
    onsa_intake::picture::is_picture_name(path) == Some(true) || is_video_name(path)
}

fn limited(reader: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn from_stdin(stdin: &mut dyn Read) -> Result<Vec<Input>, PredictError> {
    let name = PathBuf::from("the standard input");
    let bytes = limited(stdin, PICTURE_BYTES)
        .map_err(|source| PredictError::Folder { path: name.clone(), source })?;
    if onsa_intake::picture::header_of(&bytes, &name).is_ok() {
        return Ok(vec![Input::Bytes(bytes)]);
    }
    list(&bytes, Path::new(""), &name)
}

/// One path a line; empty lines and those that start with `#` say nothing.
fn list(bytes: &[u8], folder: &Path, name: &Path) -> Result<Vec<Input>, PredictError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PredictError::List {
        path: name.to_owned(),
        reason: "it is neither a picture nor a list of paths in UTF-8".to_owned(),
    })?;
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let path = folder.join(line);
        if !path.is_file() {
            return Err(PredictError::List {
                path: name.to_owned(),
                reason: format!("line {}: there is no file {}", number + 1, path.display()),
            });
        }
        out.push(Input::of(path));
    }
    if out.is_empty() { Err(PredictError::NoImages(name.to_owned())) } else { Ok(out) }
}

fn pattern(text: &str, source: &Path) -> Result<Vec<Input>, PredictError> {
    let wrong = |reason: String| PredictError::List { path: source.to_owned(), reason };
    let mut out = Vec::new();
    for entry in glob::glob(text).map_err(|e| wrong(e.to_string()))? {
        let path = entry.map_err(|e| wrong(e.to_string()))?;
        if path.is_file() && is_input(&path) {
            out.push(Input::of(path));
        }
    }
    if out.is_empty() { Err(PredictError::NoImages(source.to_owned())) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: &[Input], folder: &Path) -> Vec<String> {
        inputs
            .iter()
            .map(|input| {
                let name = input.name();
                name.strip_prefix(folder).unwrap_or(&name).to_string_lossy().into_owned()
            })
            .collect()
    }

    #[test]
    fn folders_patterns_lists_and_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("deep")).unwrap();
        for (i, name) in ["b.png", "a.png", "deep/c.png"].iter().enumerate() {
            image::RgbImage::from_pixel(8, 8, image::Rgb([i as u8; 3])).save(at(name)).unwrap();
        }
        std::fs::write(at("deep/d.MP4"), "").unwrap();
        std::fs::write(at("note.txt"), "# two\n\nb.png\ndeep/c.png\n").unwrap();
        let mut none = std::io::empty();
        let mut all = |source: PathBuf| names(&inputs(&source, &mut none).unwrap(), folder.path());
        assert_eq!(all(folder.path().to_owned()), ["a.png", "b.png"]);
        assert_eq!(all(at("*.png")), ["a.png", "b.png"]);
        assert_eq!(all(at("**/*.png")), ["a.png", "b.png", "deep/c.png"]);
        assert_eq!(all(at("deep")), ["deep/c.png", "deep/d.MP4"]);
        assert_eq!(
            inputs(&at("deep/d.MP4"), &mut std::io::empty()).unwrap(),
            [Input::Video(at("deep/d.MP4"))]
        );
        assert_eq!(all(at("note.txt")), ["b.png", "deep/c.png"]);
        let bytes = std::fs::read(at("a.png")).unwrap();
        let read = inputs(Path::new("-"), &mut &bytes[..]).unwrap();
        assert_eq!(read, [Input::Bytes(bytes)]);
        let lines = format!("{}\n", at("b.png").display());
        let read = inputs(Path::new("-"), &mut lines.as_bytes()).unwrap();
        assert_eq!(names(&read, folder.path()), ["b.png"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("l.txt");
        std::fs::write(&list, "\nabsent.png\n").unwrap();
        let error = inputs(&list, &mut std::io::empty()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("absent.png"), "{error}");
        let error = inputs(&folder.path().join("*.png"), &mut std::io::empty()).unwrap_err().to_string();
        assert!(error.contains("no image"), "{error}");
    }
}
