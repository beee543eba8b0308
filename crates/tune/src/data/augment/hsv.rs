//! Colour jitter in 8-bit HSV: hue additive, saturation and value multiplicative.
//!
//! The conversion is OpenCV's for 8 bits (H 0-179, S and V 0-255; Smith, "Color gamut transform pairs", 1978), with
//! its fixed-point tables on the way in and its truncation on the way out, since one step of an 8-bit hue or
//! saturation is several grey levels of a channel.

use crate::data::rng::Draw;

use super::config::AugmentConfig;

mod wide;

/// The gains of one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HsvGains {
    /// Added to the hue, in fractions of 180 hue steps; -1 to 1.
    pub hue: f64,
    /// The saturation is multiplied by 1 + this; -1 to 1.
    pub saturation: f64,
    /// The value is multiplied by 1 + this; -1 to 1.
    pub value: f64,
}

/// What one hue becomes: the sector of the colour circle and the place within it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hue {
    /// For R, G and B: which of v, p, q, t the channel takes.
    pub(crate) order: [u8; 3],
    pub(crate) fraction: f32,
}

/// Per sector of 60 degrees, which of (v, p = lowest, q = falling, t = rising) R, G and B take.
const SECTORS: [[u8; 3]; 6] = [[0, 3, 1], [2, 0, 1], [1, 0, 3], [1, 2, 0], [3, 1, 0], [0, 1, 2]];

/// The largest hue index before wrapping, exclusive: (r - g + 4 diff) / diff * 30 reaches 150, the others less; adding
/// 180 to a negative one stays under 180.
pub(crate) const HUES: usize = 180;

/// One sample's conversion, value by value.
pub(crate) struct Tables {
    /// 2^12 * 255 / v, rounded.
    pub(crate) saturation_of: [i32; 256],
    /// 2^12 * 30 / diff, rounded.
    pub(crate) hue_of: [i32; 256],
    pub(crate) hue: [Hue; HUES],
    /// New saturation, as a fraction of 1.
    pub(crate) saturation: [f32; 256],
    /// New value, as a fraction of 1.
    pub(crate) value: [f32; 256],
}

impl HsvGains {
    /// Draws uniformly within the ranges of `config`.
    pub fn draw(config: &AugmentConfig, draw: &mut Draw) -> HsvGains {
        HsvGains {
            hue: draw.uniform(-1.0, 1.0) * config.hsv_h,
            saturation: draw.uniform(-1.0, 1.0) * config.hsv_s,
            value: draw.uniform(-1.0, 1.0) * config.hsv_v,
        }
    }

    pub(crate) fn tables(&self) -> Tables {
        let reciprocal = |scale: f64| {
            std::array::from_fn(
                |i| if i == 0 { 0 } else { (scale * 4096.0 / i as f64).round_ties_even() as i32 },
            )
        };
        let hue = |i: usize| {
            let (sector, fraction) = place(f32::from(self.turned(i)));
            Hue { order: SECTORS[sector as usize % 6], fraction }
        };
        let gain = |gain: f64| move |i: usize| f32::from((i as f64 * (1.0 + gain)) as u8) * (1.0 / 255.0f32);
        Tables {
            saturation_of: reciprocal(255.0),
            hue_of: reciprocal(30.0),
            hue: std::array::from_fn(hue),
            saturation: std::array::from_fn(gain(self.saturation)),
            value: std::array::from_fn(gain(self.value)),
        }
    }

    /// What a hue becomes, both in steps of 2 degrees.
    fn turned(&self, hue: usize) -> u8 {
        (hue as f64 + self.hue * 180.0).rem_euclid(180.0) as u8 % 180
    }

    /// Changes the pixels in place; RGB, 3 bytes a pixel.
    pub fn apply(&self, pixels: &mut [u8]) {
        let tables = self.tables();
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        let arch = pulp::Arch::new();
        // Without vector instructions that round, the tables are faster.
        let arithmetic = wide::Arithmetic::of(self, &tables).filter(|_| !matches!(arch, pulp::Arch::Scalar));
        match arithmetic {
            Some(arithmetic) => arithmetic.apply(pixels, arch),
            None => pixels.iter_mut().for_each(|pixel| *pixel = convert(&tables, *pixel)),
        }
    }
}

/// The sector of a hue in steps of 2 degrees, and the place within it.
#[inline(always)]
fn place(hue: f32) -> (f32, f32) {
    let place = hue * (6.0 / 180.0f32);
    let sector = place.floor();
    (sector, place - sector)
}

fn convert(tables: &Tables, pixel: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = pixel.map(i32::from);
    let v = r.max(g).max(b);
    let diff = v - r.min(g).min(b);
    let s = (diff * tables.saturation_of[v as usize & 255] + 2048) >> 12;
    let toward = if v == r {
        g - b
    } else if v == g {
        b - r + 2 * diff
    } else {
        r - g + 4 * diff
    };
    let h = (toward * tables.hue_of[diff as usize & 255] + 2048) >> 12;
    let h = if h < 0 { h + 180 } else { h };
    let hue = tables.hue[h as usize];
    let s = tables.saturation[s as usize & 255];
    let v = tables.value[v as usize & 255];
    let mix = [v, v * (1.0 - s), v * (1.0 - s * hue.fraction), v * (1.0 - s * (1.0 - hue.fraction))]
        .map(|channel| (channel * 255.0) as u8);
    hue.order.map(|which| mix[which as usize & 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(gains: HsvGains, pixel: [u8; 3]) -> [u8; 3] {
        let mut pixels = pixel;
        gains.apply(&mut pixels);
        pixels
    }

    const NONE: HsvGains = HsvGains { hue: 0.0, saturation: 0.0, value: 0.0 };

    #[test]
    fn primaries_turn_round_the_circle() {
        let third = HsvGains { hue: 1.0 / 3.0, ..NONE };
        assert_eq!(one(third, [255, 0, 0]), [0, 255, 0]);
        assert_eq!(one(third, [0, 255, 0]), [0, 0, 255]);
        assert_eq!(one(third, [0, 0, 255]), [255, 0, 0]);
        assert_eq!(one(HsvGains { hue: -1.0 / 3.0, ..NONE }, [255, 0, 0]), [0, 0, 255]);
    }

    #[test]
    fn gains_saturate_and_grey_stays_grey() {
        // What OpenCV 5.0 gives; the last channel is 254.99… before it is cut off.
        assert_eq!(one(HsvGains { value: 1.0, ..NONE }, [200, 100, 200]), [255, 127, 254]);
        assert_eq!(one(HsvGains { saturation: -1.0, ..NONE }, [200, 100, 50]), [200, 200, 200]);
        let strong = HsvGains { hue: 0.4, saturation: 1.0, value: 0.0 };
        assert_eq!(one(strong, [255, 255, 255]), [255, 255, 255]);
        assert_eq!(one(strong, [0, 0, 0]), [0, 0, 0]);
    }

    #[test]
    fn every_colour_has_its_table_entries() {
        // The hue table's size is a claim about all colours: walk a dense grid with the extremes in it.
        let grid: Vec<u8> = (0..=255).step_by(3).collect();
        let mut colours = Vec::new();
        for &r in &grid {
            for &g in &grid {
                colours.extend(grid.iter().flat_map(|&b| [r, g, b]));
            }
        }
        let mut out = colours.clone();
        NONE.apply(&mut out);
        let worst = out.iter().zip(&colours).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // A step of hue is 1/30 of the difference between the channels, 255 at most.
        assert!((1..=6).contains(&worst), "{worst}");
    }
}
