//! The data elements of a DICOM file (PS3.5, section 7; PS3.10, section 7): those that say what the pixels are are kept, all
//! others, the patient's above all, are stepped over unread.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Seek, SeekFrom};

use crate::limits::{DICOM_DEPTH, DICOM_ELEMENTS, DICOM_VALUE_BYTES};

/// Group and element number.
pub(super) type Tag = (u16, u16);

pub(super) const TRANSFER_SYNTAX: Tag = (0x0002, 0x0010);
pub(super) const PIXEL_DATA: Tag = (0x7FE0, 0x0010);
const ITEM: Tag = (0xFFFE, 0xE000);
const ITEM_END: Tag = (0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = (0xFFFE, 0xE0DD);
/// A length that is not told.
const UNDEFINED: u32 = u32::MAX;

/// Where pixels begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum PixelPlace {
    /// So many bytes from there on.
    Native { at: u64, bytes: u32 },
    /// Items from there on.
    Encapsulated { at: u64 },
}

/// What was kept of a file.
#[derive(Debug)]
pub(super) struct Elements {
    /// UID of the transfer syntax.
    pub syntax: String,
    /// The image's description: group 0028, as texts or numbers in bytes.
    pub values: BTreeMap<Tag, Vec<u8>>,
    /// Sequences of group 0028 that are there.
    pub sequences: Vec<Tag>,
    pub pixels: Option<PixelPlace>,
}

/// Why elements cannot be read.
#[derive(Debug)]
pub(super) enum ElementFault {
    Io(io::Error),
    /// The file ends within an element.
    Truncated,
    Corrupt(&'static str),
    Unsupported(String),
}

impl From<io::Error> for ElementFault {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => ElementFault::Truncated,
            _ => ElementFault::Io(e),
        }
    }
}

type Result<T> = std::result::Result<T, ElementFault>;

/// A place in the file, and how much of it there is.
struct Reader<'a, R> {
    inner: &'a mut R,
    at: u64,
    total: u64,
    elements: u32,
}

/// The head of an element.
struct Head {
    tag: Tag,
    vr: [u8; 2],
    length: u32,
}

impl<R: BufRead + Seek> Reader<'_, R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.inner.read_exact(&mut out)?;
        self.at += N as u64;
        Ok(out)
    }

    fn skip(&mut self, bytes: u32) -> Result<()> {
        self.within(bytes)?;
        self.inner.seek_relative(i64::from(bytes))?;
        self.at += u64::from(bytes);
        Ok(())
    }

    fn within(&self, bytes: u32) -> Result<()> {
        if self.at + u64::from(bytes) > self.total { Err(ElementFault::Truncated) } else { Ok(()) }
    }

    fn value(&mut self, bytes: u32) -> Result<Vec<u8>> {
        self.within(bytes)?;
        let mut out = vec![0; bytes as usize];
        self.inner.read_exact(&mut out)?;
        self.at += u64::from(bytes);
        Ok(out)
    }

    fn tag(&mut self) -> Result<Tag> {
        let [a, b, c, d] = self.bytes()?;
        Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
    }

    fn head(&mut self, explicit: bool) -> Result<Head> {
        self.elements += 1;
        if self.elements > DICOM_ELEMENTS {
            return Err(ElementFault::Corrupt("it has too many elements"));
        }
        let tag = self.tag()?;
        // Items and their ends have a length alone.
        if !explicit || tag.0 == 0xFFFE {
            let length = u32::from_le_bytes(self.bytes()?);
            return Ok(Head { tag, vr: [0; 2], length });
        }
        let vr: [u8; 2] = self.bytes()?;
        if !vr.iter().all(u8::is_ascii_uppercase) {
            return Err(ElementFault::Corrupt("an element has no type"));
        }
        let long =
            [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
        let length = if long.contains(&&vr) {
            self.bytes::<2>()?;
            u32::from_le_bytes(self.bytes()?)
        } else {
            u16::from_le_bytes(self.bytes()?).into()
        };
        Ok(Head { tag, vr, length })
    }

    /// Steps over a sequence whose length is not told.
    fn skip_sequence(&mut self, explicit: bool, depth: u32) -> Result<()> {
        if depth > DICOM_DEPTH {
            return Err(ElementFault::Corrupt("its sequences are nested too deeply"));
        }
        loop {
            let item = self.head(explicit)?;
            match (item.tag, item.length) {
                (SEQUENCE_END, _) => return Ok(()),
                (ITEM, UNDEFINED) => loop {
                    let head = self.head(explicit)?;
                    if head.tag == ITEM_END {
                        break;
                    }
                    self.skip_value(&head, explicit, depth)?;
                },
                (ITEM, length) => self.skip(length)?,
                _ => return Err(ElementFault::Corrupt("a sequence holds something that is no item")),
            }
        }
    }

    fn skip_value(&mut self, head: &Head, explicit: bool, depth: u32) -> Result<()> {
        if head.length != UNDEFINED {
            return self.skip(head.length);
        }
        // A sequence of unknown type is written without types (PS3.5, 6.2.2).
        self.skip_sequence(explicit && head.vr != *b"UN", depth + 1)
    }
}

/// Reads the elements up to the pixels.
pub(super) fn read<R: BufRead + Seek>(inner: &mut R, total: u64) -> Result<Elements> {
    inner.seek(SeekFrom::Start(128))?;
    let mut r = Reader { inner, at: 128, total, elements: 0 };
    if r.bytes()? != *b"DICM" {
        return Err(ElementFault::Corrupt("it has no mark of a DICOM file"));
    }
    let mut syntax = None;
    // The first group is always written with types; the next begins where its number changes.
    let mut explicit = true;
    let mut out =
        Elements { syntax: String::new(), values: BTreeMap::new(), sequences: Vec::new(), pixels: None };
    while r.at < total {
        if explicit && syntax.is_some() {
            // Whether the next element belongs to the first group still shows in its number.
            let group = peek_group(&mut r)?;
            if group != 0x0002 {
                break;
            }
        }
        let head = r.head(true)?;
        if head.tag == TRANSFER_SYNTAX {
            let text = r.value(head.length.min(DICOM_VALUE_BYTES))?;
            let text = String::from_utf8_lossy(&text);
            syntax = Some(text.trim_end_matches(['\0', ' ']).to_owned());
        } else {
            r.skip_value(&head, true, 0)?;
        }
    }
    let Some(syntax) = syntax else { return Err(ElementFault::Corrupt("it does not say how it is written")) };
    explicit = match syntax.as_str() {
        "1.2.840.10008.1.2" => false,
        "1.2.840.10008.1.2.1" | "1.2.840.10008.1.2.5" | "1.2.840.10008.1.2.4.50" => true,
        other => {
            return Err(ElementFault::Unsupported(format!("its pixels are written as {}", named(other))));
        }
    };
    out.syntax = syntax;
    while r.at < total {
        let head = r.head(explicit)?;
        if head.tag == PIXEL_DATA {
            out.pixels = Some(match head.length {
                UNDEFINED => PixelPlace::Encapsulated { at: r.at },
                bytes => {
                    r.within(bytes)?;
                    PixelPlace::Native { at: r.at, bytes }
                }
            });
            break;
        }
        let described = head.tag.0 == 0x0028;
        if described
            && (head.vr == *b"SQ" || head.length == UNDEFINED || [0x3000, 0x3010].contains(&head.tag.1))
        {
            out.sequences.push(head.tag);
        }
        if described && head.length <= DICOM_VALUE_BYTES && head.vr != *b"SQ" {
            let value = r.value(head.length)?;
            out.values.insert(head.tag, value);
        } else {
            r.skip_value(&head, explicit, 0)?;
        }
    }
    Ok(out)
}

fn peek_group<R: BufRead + Seek>(r: &mut Reader<'_, R>) -> Result<u16> {
    let [a, b] = r.bytes()?;
    r.inner.seek_relative(-2)?;
    r.at -= 2;
    Ok(u16::from_le_bytes([a, b]))
}

/// The fragments of encapsulated pixels within `file`, from `at` on: the table of offsets, then the others.
pub(super) fn fragments(file: &[u8], at: u64) -> Result<Vec<&[u8]>> {
    let mut rest = file.get(at as usize..).ok_or(ElementFault::Truncated)?;
    let mut out = Vec::new();
    loop {
        let Some((head, after)) = rest.split_first_chunk::<8>() else { return Err(ElementFault::Truncated) };
        let [a, b, c, d, l0, l1, l2, l3] = *head;
        let tag = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        match tag {
            SEQUENCE_END => return Ok(out),
            ITEM if length <= after.len() => {
                out.push(&after[..length]);
                rest = &after[length..];
            }
            ITEM => return Err(ElementFault::Truncated),
            _ => return Err(ElementFault::Corrupt("its pixels hold something that is no item")),
        }
        if out.len() as u32 > DICOM_ELEMENTS {
            return Err(ElementFault::Corrupt("its pixels are in too many pieces"));
        }
    }
}

/// A transfer syntax in words, as far as it is known.
fn named(uid: &str) -> String {
    let name = match uid {
        "1.2.840.10008.1.2.1.99" => "deflated data",
        "1.2.840.10008.1.2.2" => "big-endian data",
        "1.2.840.10008.1.2.4.51" => "JPEG of 12 bits",
        "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70" => "lossless JPEG",
        "1.2.840.10008.1.2.4.80" | "1.2.840.10008.1.2.4.81" => "JPEG-LS",
        "1.2.840.10008.1.2.4.90" | "1.2.840.10008.1.2.4.91" => "JPEG 2000",
        _ => {
            // A UID is digits and points; anything else is not repeated.
            let plain = uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            return if plain {
                format!("transfer syntax {uid}")
            } else {
                "an unknown transfer syntax".into()
            };
        }
    };
    name.into()
}
