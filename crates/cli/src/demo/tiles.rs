//! The tree data set: four aerial pictures cut into tiles of 400 x 400 pixels, with YOLO labels.
use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GenericImageView, ImageReader};
use onsa_intake::labels::voc;
use onsa_tune::boxes::Xyxy;

/// A tile's side in pixels.
const SIDE: u32 = 400;
/// A box stays with a tile if more than this share of its area lies inside.
const KEPT_AREA: f32 = 0.4;
/// The tiles' JPEG quality.
const QUALITY: u8 = 95;

const TRAIN: &[&str] = &["2019_YELL_2_528000_4978000_image_crop2", "OSBS_029"];
const VAL: &[&str] = &["2019_YELL_2_541000_4977000_image_crop"];

/// Why there are no tiles.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image cannot be decoded or encoded.
    #[error("{}: {source}", path.display())]
    Image {
        /// Which.
        path: PathBuf,
        /// Why.
        source: image::ImageError,
    },
    /// An annotation file is not what it should be.
    #[error("{}: {what}", path.display())]
    Annotation {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// How many tiles and boxes a set has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tiles with at least one box.
    pub tiles: usize,
    /// Boxes on them.
    pub boxes: usize,
}

/// A data set on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laid {
    /// Its data.yaml.
    pub data: PathBuf,
    /// The training set.
    pub train: Count,
    /// The validation set.
    pub val: Count,
}

/// Cuts the pictures under `assets` into `folder`, replacing what stood there: images/, labels/ and data.yaml.
/// The folder appears whole or not at all.
///
/// # Errors
/// A picture or annotation that cannot be read, a tile that cannot be written.
pub fn lay(assets: &Path, folder: &Path) -> Result<Laid, TileError> {
    replace(folder, |partial| {
        let train = lay_set(assets, partial, "train", TRAIN)?;
        let val = lay_set(assets, partial, "val", VAL)?;
        write(
            &partial.join("data.yaml"),
            b"# Tree crowns from above; pictures of the Python package deepforest 2.1.0.\n\
              train: images/train\nval: images/val\nnames:\n  0: Tree\n",
        )?;
        Ok(Laid { data: folder.join("data.yaml"), train, val })
    })
}

/// Fills a sibling of `folder` and puts it in its place once it is whole.
pub(super) fn replace<T>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<T, TileError>,
) -> Result<T, TileError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| TileError::Io { path, source }
    };
    let partial = folder.with_extension(format!("partial-{}", std::process::id()));
    fs::create_dir_all(&partial).map_err(at(&partial))?;
    let placed = fill(&partial).and_then(|filled| {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(at(folder))?;
        }
        fs::rename(&partial, folder).map_err(at(folder))?;
        Ok(filled)
    });
    if placed.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    placed
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), TileError> {
    let at = |source| TileError::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(at)?;
    }
    fs::write(path, bytes).map_err(at)
}

fn lay_set(assets: &Path, folder: &Path, set: &str, pictures: &[&str]) -> Result<Count, TileError> {
    let mut count = Count::default();
    for name in pictures {
        let path = assets.join("deepforest").join(name);
        let picture_path = path.with_extension("png");
        let io = |source| TileError::Io { path: picture_path.clone(), source };
        let picture = ImageReader::open(&picture_path)
            .map_err(io)?
            .decode()
            .map_err(|source| TileError::Image { path: picture_path.clone(), source })?;
        let boxes = read_boxes(&path.with_extension("xml"))?;
        let (width, height) = picture.dimensions();
        for (x, y) in origins(width, height) {
            let kept: Vec<Xyxy> = boxes.iter().filter_map(|b| on_tile(b, x, y)).collect();
            if kept.is_empty() {
                continue;
            }
            let tile_name = format!("{name}_{x}_{y}");
            let image_path = folder.join("images").join(set).join(format!("{tile_name}.jpg"));
            let tile = picture.crop_imm(x, y, SIDE, SIDE);
            write(&image_path, &encode(&tile, &image_path)?)?;
            let label_path = folder.join("labels").join(set).join(format!("{tile_name}.txt"));
            write(&label_path, yolo_lines(&kept).as_bytes())?;
            count.tiles += 1;
            count.boxes += kept.len();
        }
    }
    Ok(count)
}

/// The tiles' top left corners. The last of a row or column is moved inwards, and a rest of less than half a tile
/// has no tile of its own.
fn origins(width: u32, height: u32) -> Vec<(u32, u32)> {
    let along = |length: u32| {
        let end = length.saturating_sub(SIDE / 2).max(1);
        (0..end).step_by(SIDE as usize).map(move |start| start.min(length.saturating_sub(SIDE)))
    };
    along(height).flat_map(|y| along(width).map(move |x| (x, y))).collect()
}

/// The box in the tile's own pixels, clipped, if enough of it lies inside.
fn on_tile(bbox: &Xyxy, x: u32, y: u32) -> Option<Xyxy> {
    let (x, y, side) = (x as f32, y as f32, SIDE as f32);
    let clipped = Xyxy {
        x1: (bbox.x1 - x).clamp(0.0, side),
        y1: (bbox.y1 - y).clamp(0.0, side),
        x2: (bbox.x2 - x).clamp(0.0, side),
        y2: (bbox.y2 - y).clamp(0.0, side),
    };
    (clipped.area() > KEPT_AREA * bbox.area()).then_some(clipped)
}

fn yolo_lines(boxes: &[Xyxy]) -> String {
    let side = SIDE as f32;
    let line = |b: &Xyxy| {
        let label = b.to_label(0, side, side);
        format!("{} {:.6} {:.6} {:.6} {:.6}\n", label.class, label.cx, label.cy, label.w, label.h)
    };
    boxes.iter().map(line).collect()
}

pub(super) fn encode(image: &DynamicImage, path: &Path) -> Result<Vec<u8>, TileError> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode_image(&image.to_rgb8())
        .map_err(|source| TileError::Image { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// The boxes of a Pascal VOC file, in pixels. These files are known by their sha256: any fault in one is an error.
fn read_boxes(path: &Path) -> Result<Vec<Xyxy>, TileError> {
    let bytes = fs::read(path).map_err(|source| TileError::Io { path: path.to_owned(), source })?;
    let file = voc::parse(&bytes);
    if let Some(fault) = file.labels.faults.first() {
        let line = fault.line.map_or(String::new(), |line| format!("line {line}: "));
        return Err(TileError::Annotation {
            path: path.to_owned(),
            what: format!("{line}{}", fault.message),
        });
    }
    let corners = file.objects.into_iter().map(|object| object.corners.map(|edge| edge as f32));
    Ok(corners.map(|[x1, y1, x2, y2]| Xyxy { x1, y1, x2, y2 }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_picture_and_the_last_one_moves_inwards() {
        let columns = |width| origins(width, 400).into_iter().map(|(x, _)| x).collect::<Vec<_>>();
        assert_eq!(columns(400), [0]);
        assert_eq!(columns(599), [0]);
        assert_eq!(columns(601), [0, 201]);
        assert_eq!(columns(1000), [0, 400]);
        assert_eq!(columns(1001), [0, 400, 601]);
        assert_eq!(columns(150), [0]);
    }

    #[test]
    fn a_box_stays_with_more_than_four_tenths_inside_and_is_clipped() {
        let bbox = |x1: f32| Xyxy { x1, y1: 10.0, x2: x1 + 100.0, y2: 20.0 };
        let kept = on_tile(&bbox(359.0), 0, 0).unwrap();
        assert_eq!(kept, Xyxy { x1: 359.0, y1: 10.0, x2: 400.0, y2: 20.0 });
        assert_eq!(on_tile(&bbox(360.0), 0, 0), None);
        assert_eq!(on_tile(&bbox(360.0), 400, 0), Some(Xyxy { x1: 0.0, y1: 10.0, x2: 60.0, y2: 20.0 }));
    }

    #[test]
    fn a_box_without_an_edge_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.xml");
        let text =
            "<annotation>\n<object><name>Tree</name>\n<bndbox><xmin>1</xmin></bndbox></object></annotation>";
        fs::write(&path, text).unwrap();
        let error = read_boxes(&path).unwrap_err().to_string();
        assert!(error.contains("a.xml: line 3: "), "{error}");
    }

    #[test]
    fn a_failed_laying_leaves_nothing_and_keeps_the_old_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("trees");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data.yaml"), "old").unwrap();
        assert!(lay(&root.path().join("absent"), &folder).is_err());
        assert_eq!(fs::read(folder.join("data.yaml")).unwrap(), b"old");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
