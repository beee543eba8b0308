//! A version as one file to take away: a zip in the form of YOLO or COCO.
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use onsa_tune::data::classify;
use onsa_tune::data::dataset::{Item, Split};
use onsa_tune::data::index::{self, DataError, LoadOptions};
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::versions::Version;
use crate::{App, Problem, problem};

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// data.yaml, images and label files.
    Yolo,
    /// COCO detection JSON and images.
    Coco,
    /// A folder a class, for pictures with one class each.
    Folders,
}

impl Form {
    /// By name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Form, Problem> {
        match name {
            "yolo" => Ok(Form::Yolo),
            "coco" => Ok(Form::Coco),
            "folders" => Ok(Form::Folders),
            _ => Err(Problem::invalid("the form is yolo, coco or folders")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Form::Yolo => "yolo",
            Form::Coco => "coco",
            Form::Folders => "folders",
        }
    }
}

/// Writes the zip, on this thread, or finds it: versions do not change.
///
/// # Errors
/// The disk refuses.
pub fn zip(app: &App, version: &Version, form: Form) -> Result<PathBuf, Problem> {
    let path = app.config.dir.join("cache").join(format!("version-{}-{}.zip", version.id, form.name()));
    if path.is_file() {
        return Ok(path);
    }
    let scratch = path.with_extension(format!("{}.new", std::process::id()));
    let failed = |e: &dyn std::error::Error| Problem::path("cannot write", &scratch, e);
    let boxes = version.root.join("data.yaml");
    if boxes.is_file() == (form == Form::Folders) {
        return Err(Problem::invalid(
            "pictures with boxes leave as yolo or coco, pictures with one class as folders",
        ));
    }
    let unreadable = |e: DataError| Problem::internal("the version cannot be read", &e);
    let dataset = if form == Form::Folders {
        classify::load(&version.root, &LoadOptions::default()).map_err(unreadable)?.dataset
    } else {
        index::load(&boxes, &LoadOptions::default()).map_err(unreadable)?.dataset
    };
    let mut out = ZipWriter::new(io::BufWriter::new(File::create(&scratch).map_err(|e| failed(&e))?));
    // Pictures are compressed already.
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let mut text = |name: String, text: &[u8]| -> Result<(), Problem> {
        out.start_file(name, packed).map_err(|e| failed(&e))?;
        out.write_all(text).map_err(|e| failed(&e))
    };
    let present = Split::ALL.into_iter().filter(|split| !dataset.split(*split).is_empty());
    match form {
        Form::Folders => {}
        Form::Yolo => {
            let yaml = std::fs::read(version.root.join("data.yaml")).map_err(|e| failed(&e))?;
            text("data.yaml".into(), &yaml)?;
            for item in present.clone().flat_map(|split| dataset.split(split)) {
                let Some(label) = &item.label_path else { continue };
                let bytes = std::fs::read(label).map_err(|e| failed(&e))?;
                text(relative(label, &version.root), &bytes)?;
            }
        }
        Form::Coco => {
            for split in present.clone() {
                let items = dataset.split(split);
                let document = coco(items, &dataset.classes, &version.root);
                let name = format!("annotations/instances_{}.json", split.name());
                text(name, &serde_json::to_vec(&document)?)?;
            }
        }
    }
    for item in present.flat_map(|split| dataset.split(split)) {
        out.start_file(relative(&item.path, &version.root), stored).map_err(|e| failed(&e))?;
        let mut file = File::open(&item.path).map_err(|e| failed(&e))?;
        io::copy(&mut file, &mut out).map_err(|e| failed(&e))?;
    }
    let finished = out.finish().map_err(|e| failed(&e))?;
    finished.into_inner().map_err(|e| Problem::invalid(problem::causes(e.error())))?;
    std::fs::rename(&scratch, &path).map_err(|e| failed(&e))?;
    Ok(path)
}

/// The name inside the zip: always with `/`.
fn relative(path: &Path, root: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn coco(items: &[Item], classes: &[String], root: &Path) -> serde_json::Value {
    let images: Vec<_> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            json!({"id": i + 1, "file_name": relative(&item.path, root), "width": item.width, "height": item.height})
        })
        .collect();
    let mut annotations = Vec::new();
    for (i, item) in items.iter().enumerate() {
        for label in &item.labels {
            let b = label.to_xyxy(item.width as f32, item.height as f32);
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": i + 1, "category_id": label.class + 1,
                "bbox": [b.x1, b.y1, b.width(), b.height()], "area": b.area(), "iscrowd": 0,
            }));
        }
    }
    let categories: Vec<_> =
        classes.iter().enumerate().map(|(i, name)| json!({"id": i + 1, "name": name})).collect();
    json!({"images": images, "annotations": annotations, "categories": categories})
}
