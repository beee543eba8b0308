//! The marker segments of a JPEG file (ITU-T T.81, annex B): its size and orientation without its pixels, and
//! whether it reaches its end. Decoders fill the rest of a cut-off picture with grey and report success.

use image::metadata::Orientation;
use std::io::{self, BufRead, Seek, SeekFrom};

/// What stands before the first scan.
pub(super) struct JpegHeader {
    /// As stored, before the orientation is applied.
    pub width: u32,
    pub height: u32,
    pub components: u8,
    pub progressive: bool,
    pub orientation: Orientation,
}

pub(super) enum JpegFault {
    Io(io::Error),
    /// What contradicts the format.
    Corrupt(&'static str),
}

impl From<io::Error> for JpegFault {
    fn from(e: io::Error) -> Self {
        JpegFault::Io(e)
    }
}

const START: u8 = 0xD8;
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const APP1: u8 = 0xE1;

/// Markers that stand alone, without a length: TEM and the restart markers.
fn is_bare(marker: u8) -> bool {
    marker == 0x01 || (0xD0..=START).contains(&marker)
}

/// SOF0 to SOF15; C4, C8 and CC are tables and an extension.
fn is_frame(marker: u8) -> bool {
    (0xC0..=0xCF).contains(&marker) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// Reads up to the first scan. An `UnexpectedEof` means that the file ends within the header.
pub(super) fn header<R: BufRead + Seek>(r: &mut R) -> Result<JpegHeader, JpegFault> {
    let mut frame = None;
    let mut orientation = None;
    loop {
        let marker = next_marker(r)?;
        if is_bare(marker) {
            continue;
        }
        if marker == END {
            return Err(JpegFault::Corrupt("it ends without a picture"));
        }
        if marker == SCAN {
            let (width, height, components, progressive) =
                frame.ok_or(JpegFault::Corrupt("its scan comes before its frame header"))?;
            let orientation = orientation.unwrap_or(Orientation::NoTransforms);
            return Ok(JpegHeader { width, height, components, progressive, orientation });
        }
        let len = u16::from_be_bytes(bytes(r)?);
        if len < 2 {
            return Err(JpegFault::Corrupt("a segment has an impossible length"));
        }
        let len = i64::from(len) - 2;
        if is_frame(marker) {
            // Which of two a decoder goes by is not known, so neither is the memory that it takes.
            if frame.is_some() {
                return Err(JpegFault::Corrupt("it has two frame headers"));
            }
            if len < 6 {
                return Err(JpegFault::Corrupt("its frame header is too short"));
            }
            let [_precision, h1, h0, w1, w0, components] = bytes(r)?;
            let (w, h) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
            if w == 0 || h == 0 {
                return Err(JpegFault::Corrupt("its header gives a width or height of 0"));
            }
            // SOF2, 6, 10 and 14 are the progressive ones.
            frame = Some((u32::from(w), u32::from(h), components, marker & 3 == 2));
            r.seek(SeekFrom::Current(len - 6))?;
        } else if marker == APP1 && orientation.is_none() && len > 6 {
            let mut payload = vec![0; len as usize]; // at most 65,533 bytes
            r.read_exact(&mut payload)?;
            if let Some(exif) = payload.strip_prefix(b"Exif\0\0") {
                orientation = Orientation::from_exif_chunk(exif);
            }
        } else {
            r.seek(SeekFrom::Current(len))?;
        }
    }
}

fn bytes<const N: usize>(r: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    r.read_exact(&mut out)?;
    Ok(out)
}

/// The next marker, past fill bytes and past stray bytes, which readers tolerate.
fn next_marker(r: &mut impl BufRead) -> io::Result<u8> {
    loop {
        while bytes::<1>(r)? != [0xFF] {}
        let mut marker = 0xFF;
        while marker == 0xFF {
            [marker] = bytes(r)?;
        }
        if marker != 0 {
            return Ok(marker);
        }
    }
}

/// Whether the file reaches its end-of-image marker, the one of the main picture: a thumbnail's lies inside a
/// segment and is stepped over.
pub(super) fn is_complete(file: &[u8]) -> bool {
    let mut at = 0;
    // Entropy-coded data needs no case of its own: in it FF stands only before 00 and restart markers.
    while let Some(step) = file[at..].iter().position(|&b| b == 0xFF) {
        at += step + 1;
        let Some(&marker) = file.get(at) else { return false };
        match marker {
            0xFF => continue,
            0 => at += 1,
            END => return true,
            m if is_bare(m) => at += 1,
            _ => {
                let Some(&[hi, lo]) = file.get(at + 1..at + 3) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([hi, lo])).max(2);
                if at > file.len() {
                    return false;
                }
            }
        }
    }
    false
}
