//! Decoded pixels as the input pipeline holds them.

/// The grey of everything that no image covers: padding, and what lies outside a warped image.
pub const FILL: u8 = 114;

/// An RGB image of 8 bits a channel, row by row, no padding between rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` bytes, R G B.
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// An image of one grey.
    pub fn filled(width: usize, height: usize, grey: u8) -> Rgb8 {
        Rgb8 { width, height, data: vec![grey; width * height * 3] }
    }

    /// The image over these bytes; `None` where their number is not `width * height * 3`, or a side is 0.
    pub fn new(width: usize, height: usize, data: Vec<u8>) -> Option<Rgb8> {
        let expected = width.checked_mul(height)?.checked_mul(3)?;
        (expected > 0 && data.len() == expected).then_some(Rgb8 { width, height, data })
    }

    /// The bytes of row `y`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..(y + 1) * self.width * 3]
    }
}
