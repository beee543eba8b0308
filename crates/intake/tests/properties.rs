//! Pictures and archives come back as they were written, whatever is in them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Cursor, Write};
use std::path::Path;

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, Rgb};
use onsa_intake::archive::{self, Caps};
use onsa_intake::picture::{self, Picture, Pixels};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;

fn through_a_file(image: DynamicImage, format: ImageFormat) -> Picture {
    let mut out = Cursor::new(Vec::new());
    image.write_to(&mut out, format).unwrap();
    picture::decode(&out.into_inner(), Path::new("x")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pixels_of_formats_without_loss(w in 1u32..20, h in 1u32..20, seed: u64) {
        let value =
            |x: u32, y: u32, c: u32| (seed.wrapping_mul(u64::from(x * 97 + y * 31 + c * 7 + 1)) >> 40) as u16;
        let rgb = ImageBuffer::from_fn(w, h, |x, y| Rgb([0, 1, 2].map(|c| value(x, y, c) as u8)));
        let deep = ImageBuffer::from_fn(w, h, |x, y| Luma([value(x, y, 3)]));
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            let read = through_a_file(rgb.clone().into(), format);
            prop_assert_eq!((read.width, read.height), (w, h));
            prop_assert_eq!(&read.into_rgb8(), rgb.as_raw());
        }
        for format in [ImageFormat::Png, ImageFormat::Tiff] {
            prop_assert_eq!(through_a_file(deep.clone().into(), format).pixels, Pixels::U16(deep.as_raw().clone()));
        }
    }

    #[test]
    fn files_of_an_archive(
        files in prop::collection::btree_map(
            "[a-m]{1,4}(/[n-z]{1,4}){0,2}\\.txt", prop::collection::vec(any::<u8>(), 0..300), 1..6,
        ),
    ) {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in &files {
            out.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
            out.write_all(bytes).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let unpacked = archive::unpack_from(out.finish().unwrap(), &root, &Caps::default()).unwrap();
        prop_assert_eq!(unpacked.files, files.len());
        for (name, bytes) in &files {
            prop_assert_eq!(&std::fs::read(root.join(name)).unwrap(), bytes);
        }
    }
}
