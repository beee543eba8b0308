use std::path::Path;

use serde_json::Value;

use crate::picture::{self, Picture, PictureError, PictureFormat};

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/dicom")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(fixtures().join(format!("{name}.dcm"))).unwrap()
}

fn read(bytes: &[u8]) -> Result<Picture, PictureError> {
    picture::decode_all(bytes, Path::new("a.dcm"))
}

#[test]
fn pixels_are_those_that_pydicom_gives() {
    let text = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let files = expected.as_object().unwrap();
    assert_eq!(files.len(), 16);
    for (name, want) in files {
        let bytes = file(name);
        let header = picture::header_of(&bytes, Path::new(name)).unwrap();
        let got = read(&bytes).unwrap();
        assert_eq!(got.format, PictureFormat::Dicom);
        assert_eq!((got.width, got.height), (header.width, header.height), "{name}");
        assert_eq!(Value::from(got.channels), want["channels"], "{name}");
        assert_eq!(header.all_channels(), got.channels, "{name}");
        let deep = matches!(got.pixels, picture::Pixels::U16(_));
        assert_eq!(header.bits, if deep { 16 } else { 8 }, "{name}");
        let samples = got.to_channels(got.channels).unwrap();
        let pixels = want["pixels"].as_array().unwrap();
        assert_eq!(samples.len(), pixels.len(), "{name}");
        // One for the rounding of the two programs; the JPEG's decoders differ by more.
        let most = want["tolerance"].as_i64().unwrap_or(1);
        for (i, (&got, want)) in samples.iter().zip(pixels).enumerate() {
            let apart = (i64::from(got) - want.as_i64().unwrap()).abs();
            assert!(apart <= most, "{name}, sample {i}: {got} {want}");
        }
    }
}

#[test]
fn the_first_frame_alone_is_read_where_no_channels_are_made_of_frames() {
    let frames = file("frames");
    let all = read(&frames).unwrap();
    let first = picture::decode(&frames, Path::new("a")).unwrap();
    assert_eq!((all.channels, first.channels), (3, 1));
    let every_third: Vec<u16> = all.to_channels(3).unwrap().into_iter().step_by(3).collect();
    assert_eq!(first.to_channels(1).unwrap(), every_third);
    assert_eq!(picture::decode_as(&frames, 1, Path::new("a")).unwrap(), first);
    assert_eq!(picture::decode_as(&frames, 3, Path::new("a")).unwrap(), all);
}

#[test]
fn a_file_cut_off_anywhere_is_refused_and_says_nothing_of_the_patient() {
    for name in
        ["twelve_bits_explicit", "sixteen_bits_implicit", "rle_sixteen", "rle_frames", "jpeg", "rgb_planes"]
    {
        let whole = file(name);
        assert!(whole.windows(7).any(|w| w == b"Planted"), "else nothing is tested");
        for end in 0..whole.len() - 1 {
            // Behind the pixels an item end and, in a file of odd length, a byte may be missing.
            if let Err(e) = read(&whole[..end]) {
                let text = format!("{e} {e:?}");
                assert!(!text.contains("Planted"), "{name} cut at {end}: {text}");
            } else {
                assert!(end + 9 > whole.len(), "{name} cut at {end} of {} is read", whole.len());
            }
        }
    }
}

/// Replaces what follows the element `tag` (its four bytes) by eight bytes or fewer.
fn changed(name: &str, tag: [u8; 4], skip: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = file(name);
    let at = bytes.windows(4).position(|w| w == tag).unwrap() + 4 + skip;
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn what_is_not_read_says_what_it_is() {
    let refuse = |bytes: Vec<u8>| read(&bytes).unwrap_err().to_string();
    // Rows of 65,535 with as many columns, in the header alone.
    let rows = changed("twelve_bits_explicit", [0x28, 0, 0x10, 0], 4, &[0xFF, 0xFF]);
    assert!(refuse(rows).contains("cut off"));
    let bits = changed("twelve_bits_explicit", [0x28, 0, 0x00, 0x01], 4, &[32, 0]);
    assert!(refuse(bits).contains("32 bits"));
    let stored = changed("twelve_bits_explicit", [0x28, 0, 0x01, 0x01], 4, &[17, 0]);
    assert!(refuse(stored).contains("do not fit"));
    let colours = changed("twelve_bits_explicit", [0x28, 0, 0x04, 0], 4, b"PALETTE COL");
    assert!(refuse(colours).contains("PALETTE COL"));
    let secret = changed("twelve_bits_explicit", [0x28, 0, 0x04, 0], 4, b"Planted^Nam");
    let text = refuse(secret);
    assert!(text.contains("unknown") && !text.contains("Planted"), "{text}");
    // Another transfer syntax of the same length.
    let mut deflated = file("rle_sixteen");
    let uid = b"1.2.840.10008.1.2.5";
    let at = deflated.windows(uid.len()).position(|w| w == uid).unwrap();
    deflated[at..at + uid.len()].copy_from_slice(b"1.2.840.10008.1.2.2");
    assert!(refuse(deflated).contains("big-endian"));
}
