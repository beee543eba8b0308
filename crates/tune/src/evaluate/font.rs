//! Text on pixels with an 8 x 8 bitmap font, enlarged by whole factors.

use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};

/// Side of a character in pixels before enlargement.
pub const GLYPH: u32 = 8;

/// The rows of a character, top to bottom, bit 0 leftmost; `?` for a character that the font lacks.
fn glyph(c: char) -> [u8; 8] {
    [BASIC_FONTS.get(c), LATIN_FONTS.get(c), GREEK_FONTS.get(c), HIRAGANA_FONTS.get(c), BASIC_FONTS.get('?')]
        .into_iter()
        .flatten()
        .next()
        .unwrap_or_default()
}

/// Width of a text in pixels.
pub fn width(text: &str, scale: u32) -> u32 {
    (text.chars().count() as u32).saturating_mul(GLYPH * scale)
}

/// Writes a line with its top left corner at (`x`, `y`); what lies outside the image is cut off.
pub fn write(image: &mut RgbImage, text: &str, (x, y): (i64, i64), scale: u32, colour: Rgb<u8>) {
    let (columns, rows) = (i64::from(image.width()), i64::from(image.height()));
    let step = i64::from(scale);
    for (index, c) in text.chars().enumerate() {
        let left = x + index as i64 * i64::from(GLYPH) * step;
        if left >= columns {
            break;
        }
        for (row, bits) in glyph(c).into_iter().enumerate() {
            for column in (0..8).filter(|b| bits >> b & 1 == 1) {
                let (px, py) = (left + column * step, y + row as i64 * step);
                for (dx, dy) in (0..step * step).map(|i| (i % step, i / step)) {
                    let (px, py) = (px + dx, py + dy);
                    if (0..columns).contains(&px) && (0..rows).contains(&py) {
                        image.put_pixel(px as u32, py as u32, colour);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INK: Rgb<u8> = Rgb([255, 255, 255]);

    fn inked(text: &str, scale: u32) -> usize {
        let mut image = RgbImage::new(40, 40);
        write(&mut image, text, (0, 0), scale, INK);
        image.pixels().filter(|p| **p == INK).count()
    }

    #[test]
    fn enlarging_by_two_gives_four_times_the_ink() {
        assert!(inked("A", 1) > 10);
        assert_eq!(inked("A", 2), 4 * inked("A", 1));
    }

    #[test]
    fn letters_beyond_ascii_have_shapes_and_the_rest_is_a_question_mark() {
        let marks = ["é", "Ω", "あ"].map(|t| inked(t, 1));
        assert!(marks.iter().all(|m| *m > 5) && marks[0] != inked("?", 1), "{marks:?}");
        assert_eq!(inked("漢", 1), inked("?", 1));
    }

    #[test]
    fn text_outside_the_image_is_cut_off() {
        let mut image = RgbImage::new(10, 10);
        write(&mut image, "MMMM", (-4, -4), 1, INK);
        write(&mut image, "MMMM", (i64::from(i32::MAX), 3), 3, INK);
        assert!(image.pixels().any(|p| *p == INK));
    }
}
