//! Small data sets for tests, written into temporary folders.

use image::{DynamicImage, Rgb, RgbImage};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A picture of 8 x 8 coloured fields that no other seed gives, 64 x 48 pixels.
pub(crate) fn picture(seed: u64) -> RgbImage {
    fields(seed, 8, 6)
}

/// 8 x 8 coloured fields of `w` x `h` pixels each.
pub(crate) fn fields(seed: u64, w: u32, h: u32) -> RgbImage {
    let field = |x: u32, y: u32| {
        let mut v = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ u64::from(y * 8 + x).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        v = (v ^ (v >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        v = (v ^ (v >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let [r, g, b, ..] = (v ^ (v >> 32)).to_le_bytes();
        Rgb([r, g, b])
    };
    RgbImage::from_fn(8 * w, 8 * h, |x, y| field(x / w, y / h))
}

/// A data set's folder, deleted in the end.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file and the folders on its way.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a picture in the format of its name.
    pub fn image(&self, name: &str, image: impl Into<DynamicImage>) -> PathBuf {
        let path = self.write(name, "");
        image.into().save(&path).unwrap();
        path
    }

    /// Writes `images/SPLIT/NAME.png` with its label file.
    pub fn pair(&self, split: &str, name: &str, seed: u64, labels: &str) {
        self.image(&format!("images/{split}/{name}.png"), picture(seed));
        self.write(&format!("labels/{split}/{name}.txt"), labels);
    }
}

/// The usual data.yaml: images/train, images/val, classes a and b.
pub(crate) const YAML: &str = "train: images/train\nval: images/val\nnames:\n  0: a\n  1: b\n";

/// Four training and two validation images with a box of each class.
pub(crate) fn sound() -> Folder {
    let folder = Folder::new();
    folder.write("data.yaml", YAML);
    for i in 0..4 {
        folder.pair("train", &format!("t{i}"), i, "0 .5 .5 .25 .25\n1 .25 .25 .125 .125\n");
    }
    for i in 0..2 {
        folder.pair("val", &format!("v{i}"), 100 + i, "1 .5 .5 .5 .5\n");
    }
    folder
}
