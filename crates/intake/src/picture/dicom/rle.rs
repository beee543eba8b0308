//! DICOM's run lengths (PS3.5, annex G): a segment for each byte of a sample, most significant first, each packed as in
//! Apple's PackBits.

/// The bytes of one frame of `pixels` pixels, `segments` segments one after the other; `None` where it is damaged.
pub(super) fn unpack(frame: &[u8], segments: usize, pixels: usize) -> Option<Vec<u8>> {
    let header = frame.get(..64)?;
    let word = |i: usize| header[4 * i..4 * i + 4].try_into().ok().map(|b| u32::from_le_bytes(b) as usize);
    if word(0)? != segments || segments == 0 || segments > 15 {
        return None;
    }
    let mut out = Vec::with_capacity(segments * pixels);
    for s in 0..segments {
        let start = word(1 + s)?;
        let end = if s + 1 < segments { word(2 + s)? } else { frame.len() };
        segment(frame.get(start..end)?, pixels, &mut out)?;
    }
    Some(out)
}

/// Appends exactly `pixels` bytes.
fn segment(mut packed: &[u8], pixels: usize, out: &mut Vec<u8>) -> Option<()> {
    let end = out.len() + pixels;
    while out.len() < end {
        let (&control, rest) = packed.split_first()?;
        packed = rest;
        match control {
            0..=127 => {
                let count = usize::from(control) + 1;
                let literal = packed.get(..count)?;
                out.extend_from_slice(&literal[..count.min(end - out.len())]);
                packed = &packed[count..];
            }
            128 => {}
            129.. => {
                let (&value, rest) = packed.split_first()?;
                let count = 257 - usize::from(control);
                out.resize((out.len() + count).min(end), value);
                packed = rest;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0; 64];
        out[..4].copy_from_slice(&(segments.len() as u32).to_le_bytes());
        for (i, segment) in segments.iter().enumerate() {
            let at = out.len() as u32;
            out[4 + 4 * i..8 + 4 * i].copy_from_slice(&at.to_le_bytes());
            out.extend_from_slice(segment);
        }
        out
    }

    #[test]
    fn runs_and_literals_unpack_and_damage_is_refused() {
        let packed = frame(&[&[2, 7, 8, 9, 254, 5, 128], &[251, 1]]);
        assert_eq!(unpack(&packed, 2, 6).unwrap(), [7, 8, 9, 5, 5, 5, 1, 1, 1, 1, 1, 1]);
        assert_eq!(unpack(&packed, 1, 6), None, "another number of segments");
        assert_eq!(unpack(&packed, 2, 7), None, "too few bytes");
        assert_eq!(unpack(&packed[..60], 2, 6), None);
        let mut wild = packed;
        wild[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(unpack(&wild, 2, 6), None);
    }
}
