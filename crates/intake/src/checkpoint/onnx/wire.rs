//! The protobuf wire format, read in place.
//!
//! Generated decoders build the whole message before anyone can count it: two bytes of an empty node become a struct of
//! hundreds, so a small hostile file could take many times its size. Here a message is a slice whose fields are visited one
//! by one, and nothing is allocated.
//!
//! Format: <https://protobuf.dev/programming-guides/encoding/>.

use super::super::error::CheckpointError;

/// One field's payload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, in order.
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Visits the fields of `message`.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

fn corrupt(reason: &str) -> CheckpointError {
    CheckpointError::corrupt("the ONNX message", reason)
}

/// Takes a varint off the front.
pub fn varint(rest: &mut &[u8]) -> Result<u64, CheckpointError> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    if rest.len() < 10 {
        Err(CheckpointError::Truncated { part: "an ONNX message".to_owned() })
    } else {
        Err(corrupt("an integer is too long"))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Field<'a>), CheckpointError> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| corrupt("a field has no valid number"))?;
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut self.rest)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = varint(&mut self.rest)?;
                let split = usize::try_from(length).ok().and_then(|n| self.rest.split_at_checked(n));
                let (bytes, rest) =
                    split.ok_or_else(|| CheckpointError::Truncated { part: "an ONNX message".to_owned() })?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(corrupt("a field has an unknown wire type")),
        };
        Ok((number, field))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| CheckpointError::Truncated { part: "an ONNX message".to_owned() })?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), CheckpointError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    /// A message, text or byte string.
    pub fn bytes(self) -> Result<&'a [u8], CheckpointError> {
        match self {
            Field::Bytes(b) => Ok(b),
            _ => Err(corrupt("a message or text stands where none should")),
        }
    }

    /// A text.
    pub fn text(self) -> Result<&'a str, CheckpointError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| corrupt("a text is not UTF-8"))
    }

    /// An int64, int32 or enumeration.
    #[allow(
        clippy::cast_possible_wrap,
        reason = "negative numbers are written as two's complement of 64 bits"
    )]
    pub fn int(self) -> Result<i64, CheckpointError> {
        match self {
            Field::Varint(v) => Ok(v as i64),
            _ => Err(corrupt("an integer is expected where there is none")),
        }
    }

    /// Repeated integers, packed or not: calls `push` for each.
    #[allow(
        clippy::cast_possible_wrap,
        reason = "negative numbers are written as two's complement of 64 bits"
    )]
    pub fn ints(
        self,
        mut push: impl FnMut(i64) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        match self {
            Field::Varint(v) => push(v as i64),
            Field::Bytes(mut packed) => {
                while !packed.is_empty() {
                    push(varint(&mut packed)? as i64)?;
                }
                Ok(())
            }
            _ => Err(corrupt("integers are expected where there are none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wire_type_reads() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64 1
            0x1a, 2, b'h', b'i', // 3: "hi"
            0x25, 7, 0, 0, 0, // 4: fixed32 7
        ];
        let all: Vec<_> = fields(&message).map(Result::unwrap).collect();
        assert_eq!(
            all,
            [
                (1, Field::Varint(150)),
                (2, Field::Fixed64(1)),
                (3, Field::Bytes(b"hi")),
                (4, Field::Fixed32(7))
            ]
        );
    }

    #[test]
    fn lengths_beyond_the_message_are_truncation() {
        for bad in [
            &[0x0a, 5, 1][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x08],
            &[0x25, 1],
        ] {
            let error = fields(bad).next().unwrap().unwrap_err();
            assert!(matches!(error, CheckpointError::Truncated { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn groups_field_zero_and_long_varints_are_corrupt() {
        for bad in
            [&[0x0b][..], &[0x00, 1], &[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]]
        {
            let error = fields(bad).next().unwrap().unwrap_err();
            assert!(matches!(error, CheckpointError::Corrupt { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn negative_integers_are_twos_complement() {
        let message = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(fields(&message).next().unwrap().unwrap().1.int().unwrap(), -1);
    }
}
