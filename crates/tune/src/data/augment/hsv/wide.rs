//! The conversion for many pixels at a time, by arithmetic alone, so that it runs on vector registers.
//!
//! What the tables hold is worked out again for each pixel, to the same bits: a reciprocal by one division and one rounding,
//! a hue by adding a whole number of steps, and a gain, which is the whole part of a product in float64, by a factor in
//! float32 that has the same whole part for each of the 256 levels. Levels up to 255 whose products have given whole parts
//! leave the factor an interval at least 1 / (255 * 254) wide (distinct fractions with denominators up to 255 are that far
//! apart), and float32 is finer than that. Only where float64 itself rounds a product across a whole number may the interval
//! be empty (a gain of exactly -0.3, say); then the tables are used.

use super::{HUES, HsvGains, Tables};

/// Pixels that are worked on together.
const WIDE: usize = 64;

/// One sample's conversion as arithmetic; equal to its tables in every entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arithmetic {
    /// Steps that every hue turns by, 0 to 179.
    turn: f32,
    /// What saturations are multiplied by.
    saturation: f32,
    /// What values are multiplied by.
    value: f32,
}

impl Arithmetic {
    /// `None` where no arithmetic gives every entry of `tables`, which are those of `gains`.
    pub(super) fn of(gains: &HsvGains, tables: &Tables) -> Option<Arithmetic> {
        let first = usize::from(gains.turned(0));
        if (0..HUES).any(|hue| usize::from(gains.turned(hue)) != (first + hue) % HUES) {
            return None;
        }
        Some(Arithmetic {
            turn: first as f32,
            saturation: factor(&tables.saturation)?,
            value: factor(&tables.value)?,
        })
    }

    /// Changes the pixels in place.
    pub(super) fn apply(self, pixels: &mut [[u8; 3]], arch: pulp::Arch) {
        arch.dispatch(Pass { pixels, by: self });
    }
}

/// The factor that gives a table of gained levels, from the middle of those that do.
fn factor(table: &[f32; 256]) -> Option<f32> {
    let (mut low, mut high) = (0.0f64, f64::INFINITY);
    for (level, &entry) in table.iter().enumerate().skip(1) {
        let whole = f64::from((entry * 255.0).round());
        low = low.max(whole / level as f64);
        if whole < 255.0 {
            high = high.min((whole + 1.0) / level as f64);
        }
    }
    let factor = ((low + high) / 2.0) as f32;
    table.iter().enumerate().all(|(level, &entry)| gained(level as f32, factor) == entry).then_some(factor)
}

#[inline(always)]
fn gained(level: f32, factor: f32) -> f32 {
    let product = (level * factor).trunc();
    (if product < 255.0 { product } else { 255.0 }) * (1.0 / 255.0f32)
}

struct Pass<'a> {
    pixels: &'a mut [[u8; 3]],
    by: Arithmetic,
}

impl pulp::NullaryFnOnce for Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (blocks, rest) = self.pixels.as_chunks_mut::<WIDE>();
        for block in blocks {
            convert(self.by, block);
        }
        let mut last = [[0; 3]; WIDE];
        last[..rest.len()].copy_from_slice(rest);
        convert(self.by, &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Three loops, each over numbers of one size: bytes, then float32, then bytes.
#[inline(always)]
fn convert(by: Arithmetic, pixels: &mut [[u8; 3]; WIDE]) {
    let (mut value, mut diff, mut toward) = ([0u8; WIDE], [0u8; WIDE], [0i16; WIDE]);
    for i in 0..WIDE {
        let [r, g, b] = pixels[i];
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        (value[i], diff[i]) = (high, high - low);
        let [r16, g16, b16] = [r, g, b].map(i16::from);
        let diff = i16::from(high - low);
        let (green, blue) = (b16 - r16 + 2 * diff, r16 - g16 + 4 * diff);
        let other = if high == g { green } else { blue };
        toward[i] = if high == r { g16 - b16 } else { other };
    }
    let (mut full, mut lowest) = ([0u8; WIDE], [0u8; WIDE]);
    let (mut between, mut sectors) = ([0u8; WIDE], [0u8; WIDE]);
    for i in 0..WIDE {
        let (v, diff) = (f32::from(value[i]), f32::from(diff[i]));
        // Products of whole numbers below 2^24: exact.
        let s = ((diff * reciprocal(255.0, v) + 2048.0) * (1.0 / 4096.0)).trunc();
        let h = ((f32::from(toward[i]) * reciprocal(30.0, diff) + 2048.0) * (1.0 / 4096.0)).floor();
        let turned = h + by.turn;
        let turned = if turned < 0.0 { turned + 180.0 } else { turned };
        let turned = if turned >= 180.0 { turned - 180.0 } else { turned };
        let (sector, fraction) = super::place(turned);
        let (s, v) = (gained(s, by.saturation), gained(v, by.value));
        // A channel falls in the odd sectors and rises in the even ones; no sector has both.
        let half = sector * 0.5;
        let along = if half.floor() == half { 1.0 - fraction } else { fraction };
        full[i] = byte(v * 255.0);
        lowest[i] = byte(v * (1.0 - s) * 255.0);
        between[i] = byte(v * (1.0 - s * along) * 255.0);
        sectors[i] = byte(sector);
    }
    for i in 0..WIDE {
        let sector = sectors[i];
        // In which two sectors a channel is the highest, and in which two it lies between.
        let channel = |highest: [u8; 2], among: [u8; 2]| {
            let other = if (sector == among[0]) | (sector == among[1]) { between[i] } else { lowest[i] };
            if (sector == highest[0]) | (sector == highest[1]) { full[i] } else { other }
        };
        pixels[i] = [channel([0, 5], [1, 4]), channel([1, 2], [0, 3]), channel([3, 4], [2, 5])];
    }
}

/// 2^12 * `scale` / `x`, rounded, as the tables have it; of 0, what is multiplied by 0.
#[inline(always)]
fn reciprocal(scale: f32, x: f32) -> f32 {
    (scale * 4096.0 / if x > 1.0 { x } else { 1.0 }).round_ties_even()
}

/// The whole part of 0 to 255: added to 2^23 it stands in the low bits.
#[inline(always)]
fn byte(x: f32) -> u8 {
    (x.trunc() + 8_388_608.0).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::super::convert as by_tables;
    use super::*;
    use crate::data::rng::{Draw, Purpose};

    /// Whether the arithmetic gives the same as the tables for all `colours`; `None` where there is no arithmetic.
    fn equal(gains: HsvGains, colours: &[[u8; 3]]) -> Option<bool> {
        let tables = gains.tables();
        let by = Arithmetic::of(&gains, &tables)?;
        let mut out = colours.to_vec();
        by.apply(&mut out, pulp::Arch::new());
        Some(out.iter().zip(colours).all(|(&got, &colour)| got == by_tables(&tables, colour)))
    }

    #[test]
    fn every_colour_becomes_what_the_tables_say() {
        let colours: Vec<[u8; 3]> =
            (0..1u32 << 24).map(|i| [i as u8, (i >> 8) as u8, (i >> 16) as u8]).collect();
        let gains = |hue, saturation, value| HsvGains { hue, saturation, value };
        assert_eq!(equal(gains(0.0, 0.0, 0.0), &colours), Some(true));
        assert_eq!(equal(gains(0.0123, 0.6123, -0.3123), &colours), Some(true));
    }

    #[test]
    fn every_draw_of_gains_has_its_arithmetic_and_extremes_too() {
        let mut draw = Draw::new(1, 0, 0, Purpose::Hsv);
        let colours: Vec<[u8; 3]> = (0..2011).map(|_| std::array::from_fn(|_| draw.bits() as u8)).collect();
        for _ in 0..500 {
            let mut gain = || draw.uniform(-1.0, 1.0);
            let gains = HsvGains { hue: gain(), saturation: gain(), value: gain() };
            assert_eq!(equal(gains, &colours), Some(true), "{gains:?}");
        }
        for extreme in [-1.0, 1.0] {
            let gains = HsvGains { hue: extreme, saturation: extreme, value: extreme };
            assert_eq!(equal(gains, &colours), Some(true), "{gains:?}");
        }
    }

    #[test]
    fn gains_that_float64_rounds_unevenly_are_left_to_the_tables() {
        // Hue 0.7 * 180 is a hair under 126: some hues turn by 125 steps, others by 126.
        let gains = HsvGains { hue: 0.7, saturation: 0.0, value: 0.0 };
        assert_eq!(equal(gains, &[]), None);
        let (mut pixels, before) = ([200, 100, 50].repeat(99), [200, 100, 50]);
        gains.apply(&mut pixels);
        assert_eq!(pixels, by_tables(&gains.tables(), before).repeat(99));
    }
}
