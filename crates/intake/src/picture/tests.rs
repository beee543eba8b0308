use super::*;
use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba};
use proptest::prelude::*;
use std::io::Cursor;
use std::path::Path;

const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff];

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    image.into().write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn noise(width: u32, height: u32) -> RgbImage {
    let mut state = 1u32;
    RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, r, g, b] = state.to_be_bytes();
        Rgb([r, g, b])
    })
}

fn decoded(bytes: &[u8]) -> Picture {
    decode(bytes, Path::new("test")).unwrap()
}

/// A JPEG with an EXIF segment behind its start marker; the TIFF within holds the one tag, in either byte order.
fn with_exif(jpeg: &[u8], orientation: u16, big_endian: bool) -> Vec<u8> {
    let two = |v: u16| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let four = |v: u32| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() };
    let mut payload = b"Exif\0\0".to_vec();
    payload.extend(if big_endian { b"MM" } else { b"II" });
    payload.extend(two(42));
    payload.extend(four(8));
    payload.extend(two(1)); // one entry: tag 0x112, type 3 (short), one value
    payload.extend(two(0x112));
    payload.extend(two(3));
    payload.extend(four(1));
    payload.extend(two(orientation));
    payload.extend([0, 0]);
    payload.extend(four(0));
    let mut out = jpeg[..2].to_vec();
    out.extend([0xFF, 0xE1]);
    out.extend((payload.len() as u16 + 2).to_be_bytes());
    out.extend(payload);
    out.extend(&jpeg[2..]);
    out
}

#[test]
fn each_exif_orientation_shows_the_picture_upright() {
    let (r, g, b, w) = ([255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]);
    // Stored: red, green above blue, white; 48 wide, 32 high.
    let stored = RgbImage::from_fn(48, 32, |x, y| {
        Rgb(match (x < 24, y < 16) {
            (true, true) => r,
            (false, true) => g,
            (true, false) => b,
            (false, false) => w,
        })
    });
    let jpeg = encode(stored, ImageFormat::Jpeg);
    // What a person must see: top left, top right, bottom left, bottom right.
    let upright = [
        [r, g, b, w],
        [g, r, w, b],
        [w, b, g, r],
        [b, w, r, g],
        [r, b, g, w],
        [b, r, w, g],
        [w, g, b, r],
        [g, w, r, b],
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    for (i, quarters) in upright.iter().enumerate() {
        for big_endian in [false, true] {
            let file = with_exif(&jpeg, i as u16 + 1, big_endian);
            let picture = decoded(&file);
            let size = if i < 4 { (48, 32) } else { (32, 48) };
            assert_eq!((picture.width, picture.height), size, "orientation {}", i + 1);
            std::fs::write(&path, &file).unwrap();
            assert_eq!(dimensions(&path).unwrap(), size);
            let rgb = picture.to_rgb8();
            for (quarter, expected) in quarters.iter().enumerate() {
                let x = size.0 as usize * (1 + 2 * (quarter % 2)) / 4;
                let y = size.1 as usize * (1 + 2 * (quarter / 2)) / 4;
                let at = (y * size.0 as usize + x) * 3;
                for c in 0..3 {
                    let off = rgb[at + c].abs_diff(expected[c]);
                    assert!(off < 12, "orientation {} quarter {quarter}: {:?}", i + 1, &rgb[at..at + 3]);
                }
            }
        }
    }
}

#[test]
fn an_impossible_orientation_is_none() {
    let jpeg = encode(noise(20, 10), ImageFormat::Jpeg);
    assert_eq!(decoded(&with_exif(&jpeg, 9, true)), decoded(&jpeg));
}

#[test]
fn lossless_formats_return_the_pixels() {
    let image = noise(13, 7);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
        let picture = decoded(&encode(image.clone(), format));
        assert_eq!((picture.width, picture.height, picture.channels), (13, 7, 3), "{format:?}");
        assert_eq!(picture.to_rgb8(), image.as_raw().as_slice(), "{format:?}");
    }
}

#[test]
fn sixteen_bits_are_kept_and_narrowed_over_the_full_range() {
    let values = vec![0u16, 128, 129, 257, 32_767, 32_896, 65_406, 65_407, 65_535];
    let grey = ImageBuffer::<Luma<u16>, _>::from_raw(9, 1, values.clone()).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let picture = decoded(&encode(DynamicImage::ImageLuma16(grey.clone()), format));
        assert_eq!(picture.pixels, Pixels::U16(values.clone()), "{format:?}");
        assert_eq!(picture.channels, 1);
        // round(v / 257); 128 / 257 = .498, 129 / 257 = .502.
        let expected: Vec<u8> =
            [0u8, 0, 1, 1, 127, 128, 254, 255, 255].iter().flat_map(|&v| [v; 3]).collect();
        assert_eq!(picture.to_rgb8(), expected);
    }
}

#[test]
fn alpha_is_dropped_and_grey_repeated() {
    let rgba = ImageBuffer::<Rgba<u8>, _>::from_raw(2, 1, vec![9, 8, 7, 0, 1, 2, 3, 255]).unwrap();
    let picture = decoded(&encode(rgba, ImageFormat::Png));
    assert_eq!(picture.channels, 4);
    assert_eq!(picture.into_rgb8(), [9, 8, 7, 1, 2, 3]);
    let grey_alpha = ImageBuffer::<LumaA<u8>, _>::from_raw(2, 1, vec![5, 0, 6, 255]).unwrap();
    let picture = decoded(&encode(grey_alpha, ImageFormat::Png));
    assert_eq!(picture.pixels, Pixels::U8(vec![5, 5, 5, 0, 6, 6, 6, 255]));
    let grey = ImageBuffer::<Luma<u8>, _>::from_raw(2, 1, vec![5, 6]).unwrap();
    assert_eq!(decoded(&encode(grey, ImageFormat::Bmp)).to_rgb8(), [5, 5, 5, 6, 6, 6]);
}

#[test]
fn every_cut_of_every_format_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let file = encode(noise(24, 17), format);
        for cut in 1..file.len() {
            let result = decode(&file[..cut], Path::new("cut"));
            assert!(result.is_err(), "{format:?} cut to {cut} of {} bytes was read", file.len());
        }
        let path = folder.path().join("cut");
        std::fs::write(&path, &file[..file.len() - 9]).unwrap();
        assert!(matches!(read(&path), Err(PictureError::Truncated { .. })), "{format:?}: {:?}", read(&path));
    }
}

#[test]
fn probe_sees_a_cut_off_file_without_decoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let mut file = encode(noise(24, 17), format);
        std::fs::write(&path, &file[..file.len() - 40]).unwrap();
        assert!(matches!(probe(&path), Err(PictureError::Truncated { .. })), "{format:?}");
        // Bytes behind the picture's end are harmless.
        file.extend(b"trailing");
        std::fs::write(&path, &file).unwrap();
        let header = probe(&path).unwrap();
        assert_eq!((header.width, header.height, header.bytes), (24, 17, file.len() as u64));
        assert_eq!(read(&path).unwrap().width, 24);
    }
}

#[test]
fn a_thumbnails_end_is_not_the_pictures_end() {
    let jpeg = encode(noise(24, 17), ImageFormat::Jpeg);
    let thumbnail = [&[0xFF, 0xE2, 0, 8][..], b"mini", &[0xFF, 0xD9]].concat();
    let whole = [&jpeg[..2], &thumbnail, &jpeg[2..]].concat();
    assert_eq!(decoded(&whole), decoded(&jpeg));
    let cut = &whole[..whole.len() - 60];
    assert!(matches!(decode(cut, Path::new("cut")), Err(PictureError::Truncated { .. })));
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[test]
fn a_giant_is_refused_from_its_header() {
    let mut png = encode(noise(8, 8), ImageFormat::Png);
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let mut jpeg = encode(noise(8, 8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    jpeg[frame + 5..frame + 7].copy_from_slice(&60_000u16.to_be_bytes());
    jpeg[frame + 7..frame + 9].copy_from_slice(&60_000u16.to_be_bytes());
    let mut bmp = encode(noise(8, 8), ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    for file in [png, jpeg, bmp] {
        let error = decode(&file, Path::new("giant.png")).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
        assert!(error.to_string().starts_with("giant.png is too large: 60000 x 60000 pixels"), "{error}");
    }
}

#[test]
fn what_is_no_picture_is_named() {
    let error = |bytes: &[u8]| decode(bytes, Path::new("x")).unwrap_err();
    assert!(matches!(error(b""), PictureError::Empty { .. }));
    assert!(matches!(error(b"hello world, no picture"), PictureError::NotAPicture { .. }));
    assert!(error(b"GIF89a.............").to_string().contains("it is a GIF"));
    assert!(matches!(read(Path::new("no/such/file.png")), Err(PictureError::Read { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_never_panic(
        format in 0..FORMATS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut file = encode(noise(9, 9), FORMATS[format]);
        for (at, value) in damage {
            let at = at.index(file.len());
            file[at] = value;
        }
        if shorten {
            file.truncate(cut.index(file.len()));
        }
        if let Ok(picture) = decode(&file, Path::new("damaged")) {
            let samples = picture.width as usize * picture.height as usize * 3;
            prop_assert_eq!(picture.to_rgb8().len(), samples);
        }
    }
}

/// A TIFF file with one page for each of `pages`, each `channels` samples a pixel of 16 bits, chunky or in planes.
fn tiff_pages(width: u32, height: u32, pages: &[Vec<u16>], channels: u16, planar: bool) -> Vec<u8> {
    let mut out = b"II*\0".to_vec();
    let mut patch = out.len();
    out.extend([0; 4]);
    for page in pages {
        let data = out.len() as u32;
        let plane = page.len() / usize::from(channels);
        let order: Vec<usize> = match planar {
            true => (0..usize::from(channels))
                .flat_map(|c| (0..plane).map(move |i| i * usize::from(channels) + c))
                .collect(),
            false => (0..page.len()).collect(),
        };
        order.iter().for_each(|&i| out.extend(page[i].to_le_bytes()));
        let strips = if planar { u32::from(channels) } else { 1 };
        // Lists that do not fit into an entry.
        let list = |out: &mut Vec<u8>, values: &[u32]| {
            let at = out.len() as u32;
            values.iter().for_each(|v| out.extend(v.to_le_bytes()));
            at
        };
        let bytes = page.len() as u32 * 2 / strips;
        let bits = list(&mut out, &vec![16 | 16 << 16; usize::from(channels).div_ceil(2)]);
        let offsets = list(&mut out, &(0..strips).map(|s| data + s * bytes).collect::<Vec<_>>());
        let counts = list(&mut out, &vec![bytes; strips as usize]);
        let at = out.len() as u32;
        out[patch..patch + 4].copy_from_slice(&at.to_le_bytes());
        let few = |count: u32, value: u32, list: u32| if count == 1 { value } else { list };
        let entries = [
            (256u16, 4u16, 1u32, width),
            (257, 4, 1, height),
            (258, 3, channels.into(), if channels <= 2 { 16 | 16 << 16 } else { bits }),
            (259, 3, 1, 1),
            (262, 3, 1, 1),
            (273, 4, strips, few(strips, data, offsets)),
            (277, 3, 1, channels.into()),
            (278, 4, 1, height),
            (279, 4, strips, few(strips, bytes, counts)),
            (284, 3, 1, if planar { 2 } else { 1 }),
        ];
        out.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, count, value) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend(count.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        patch = out.len();
        out.extend([0; 4]);
    }
    out
}

#[test]
fn pages_and_channels_of_a_tiff_are_all_read() {
    let page = |from: u16, channels: u16| (0..12 * channels).map(|i| from + i * 1001).collect::<Vec<u16>>();
    // Three grey pages: three channels, the pages' samples side by side.
    let pages = [page(1, 1), page(2, 1), page(3, 1)];
    let file = tiff_pages(4, 3, &pages, 1, false);
    let header = header_of(&file, Path::new("t")).unwrap();
    assert_eq!((header.channels, header.bits, header.pages, header.all_channels()), (1, 16, 3, 3));
    let all = decode_all(&file, Path::new("t")).unwrap();
    assert_eq!((all.width, all.height, all.channels), (4, 3, 3));
    let expected: Vec<u16> = (0..12).flat_map(|i| [pages[0][i], pages[1][i], pages[2][i]]).collect();
    assert_eq!(all.pixels, Pixels::U16(expected.clone()));
    assert_eq!(all.to_channels(3).unwrap(), expected);
    assert_eq!(all.to_channels(2), None);
    // The first page alone, as ever.
    assert_eq!(decoded(&file).pixels, Pixels::U16(pages[0].clone()));
    // Five channels on one page, chunky and in planes, and on two pages.
    for planar in [false, true] {
        let file = tiff_pages(4, 3, &[page(7, 5)], 5, planar);
        let header = header_of(&file, Path::new("t")).unwrap();
        assert_eq!((header.width, header.height, header.all_channels()), (4, 3, 5));
        assert_eq!(decode_all(&file, Path::new("t")).unwrap().pixels, Pixels::U16(page(7, 5)), "{planar}");
        assert!(matches!(decode(&file, Path::new("t")), Err(PictureError::Unsupported { .. })));
    }
    let two = decode_all(&tiff_pages(4, 3, &[page(7, 2), page(9, 2)], 2, false), Path::new("t")).unwrap();
    let Pixels::U16(samples) = two.pixels else { panic!("16 bits") };
    assert_eq!((two.channels, &samples[..8]), (4, &[7, 1008, 9, 1010, 2009, 3010, 2011, 3012][..]));
    // A file that ends amid the second page.
    let file = tiff_pages(4, 3, &[page(1, 1), page(2, 1)], 1, false);
    assert!(decode_all(&file[..file.len() - 20], Path::new("t")).is_err());
}

#[test]
fn sixteen_bits_stay_and_channels_are_made_as_said() {
    let grey = ImageBuffer::<Luma<u16>, _>::from_fn(3, 2, |x, y| Luma([(x * 20_000 + y * 7) as u16]));
    let picture =
        decode_all(&encode(DynamicImage::ImageLuma16(grey.clone()), ImageFormat::Png), Path::new("t"))
            .unwrap();
    assert_eq!(picture.to_channels(1).unwrap(), grey.clone().into_raw());
    let three: Vec<u16> = grey.into_raw().into_iter().flat_map(|v| [v; 3]).collect();
    assert_eq!(picture.to_channels(3).unwrap(), three);
    let alpha = ImageBuffer::<LumaA<u8>, _>::from_pixel(2, 1, LumaA([200, 9]));
    let picture =
        decode_all(&encode(DynamicImage::ImageLumaA8(alpha), ImageFormat::Png), Path::new("t")).unwrap();
    assert_eq!(picture.to_channels(2).unwrap(), [200 * 257, 9 * 257, 200 * 257, 9 * 257]);
    assert_eq!(picture.to_channels(1).unwrap(), [200 * 257; 2]);
    let colour = ImageBuffer::<Rgba<u8>, _>::from_pixel(1, 1, Rgba([255, 255, 255, 3]));
    let picture =
        decode_all(&encode(DynamicImage::ImageRgba8(colour), ImageFormat::Png), Path::new("t")).unwrap();
    assert_eq!(picture.to_channels(1).unwrap(), [65535]);
    assert_eq!(picture.to_channels(4).unwrap(), [65535, 65535, 65535, 771]);
    assert_eq!(picture.to_channels(5), None);
}

#[test]
fn samples_are_turned_as_the_general_decoder_turns_them() {
    let image = noise(5, 3);
    for exif in 1..=8 {
        let orientation = image::metadata::Orientation::from_exif(exif).unwrap();
        let mut expected = DynamicImage::from(image.clone());
        expected.apply_orientation(orientation);
        let (w, h, samples) = super::pages::upright(image.clone().into_raw(), (5, 3), 3, orientation);
        assert_eq!((w, h), (expected.width(), expected.height()), "{exif}");
        assert_eq!(samples, expected.into_rgb8().into_raw(), "{exif}");
    }
}
