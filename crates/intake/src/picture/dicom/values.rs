//! From stored values to what they mean (PS3.3, C.7.6.3, C.11.1 and C.11.2).

use super::elements::Elements;
use crate::picture::Pixels;

/// What samples are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    Grey(Grey),
    Rgb,
    /// Luminance and two differences of colour, full range.
    YbrFull,
}

/// The way of grey values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Grey {
    /// Bits that count, 1 to 16, and the highest of them.
    stored: u32,
    high: u32,
    signed: bool,
    slope: f64,
    intercept: f64,
    window: Option<Window>,
    /// Small values are bright.
    inverted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    centre: f64,
    width: f64,
    function: Function,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// A number of two bytes (US) of group 0028.
pub(super) fn number(elements: &Elements, element: u16) -> Option<u32> {
    let value = elements.values.get(&(0x0028, element))?;
    value.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes).into())
}

/// A text of group 0028.
pub(super) fn text(elements: &Elements, element: u16) -> Option<String> {
    let value = elements.values.get(&(0x0028, element))?;
    Some(String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned())
}

/// The first of the numbers that a text (DS) holds.
fn decimal(elements: &Elements, element: u16) -> Result<Option<f64>, &'static str> {
    let Some(text) = text(elements, element).filter(|text| !text.is_empty()) else { return Ok(None) };
    let first = text.split('\\').next().unwrap_or_default().trim();
    let number: f64 = first.parse().map_err(|_| "a window or rescale value is no number")?;
    if number.is_finite() { Ok(Some(number)) } else { Err("a window or rescale value is no number") }
}

impl Grey {
    /// Reads what the elements say.
    pub fn of(elements: &Elements, allocated: u32, inverted: bool) -> Result<Grey, &'static str> {
        let stored = number(elements, 0x0101).unwrap_or(allocated);
        let high = number(elements, 0x0102).unwrap_or(stored.saturating_sub(1));
        if stored == 0 || stored > allocated || high >= allocated || high + 1 < stored {
            return Err("its bits do not fit into its samples");
        }
        let signed = number(elements, 0x0103) == Some(1);
        let slope = decimal(elements, 0x1053)?.filter(|&slope| slope != 0.0).unwrap_or(1.0);
        let intercept = decimal(elements, 0x1052)?.unwrap_or(0.0);
        let function = match text(elements, 0x1056).unwrap_or_default().as_str() {
            "LINEAR_EXACT" => Function::LinearExact,
            "SIGMOID" => Function::Sigmoid,
            _ => Function::Linear,
        };
        // The linear function needs a width of 1 at least, the others one above 0 (C.11.2.1.2 and .3).
        let least = |width: &f64| if function == Function::Linear { *width >= 1.0 } else { *width > 0.0 };
        let window = decimal(elements, 0x1050)?
            .zip(decimal(elements, 0x1051)?.filter(least))
            .map(|(centre, width)| Window { centre, width, function });
        Ok(Grey { stored, high, signed, slope, intercept, window, inverted })
    }

    /// Whether 8 bits hold what comes out: eight stored bits without a window.
    pub fn is_plain(&self) -> bool {
        self.stored <= 8 && self.window.is_none()
    }

    /// The stored value of a sample.
    fn value(&self, sample: u16) -> i32 {
        let shifted = u32::from(sample) >> (self.high + 1 - self.stored);
        let value = (shifted & ((1 << self.stored) - 1)) as i32;
        if self.signed && value >> (self.stored - 1) == 1 { value - (1 << self.stored) } else { value }
    }

    /// A stored value as a fraction, 0 dark to 1 bright.
    fn fraction(&self, value: i32) -> f64 {
        let y = match self.window {
            None => {
                let low = if self.signed { -(1 << (self.stored - 1)) } else { 0 };
                let share = f64::from(value - low) / f64::from((1u32 << self.stored) - 1);
                // Over the whole range slope and intercept cancel, but for the slope's direction.
                if self.slope < 0.0 { 1.0 - share } else { share }
            }
            Some(Window { centre, width, function }) => {
                let x = f64::from(value) * self.slope + self.intercept;
                match function {
                    Function::Linear if width == 1.0 => f64::from(u8::from(x > centre - 0.5)),
                    Function::Linear => (x - (centre - 0.5)) / (width - 1.0) + 0.5,
                    Function::LinearExact => (x - centre) / width + 0.5,
                    Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - centre) / width).exp()),
                }
            }
        };
        let y = y.clamp(0.0, 1.0);
        if self.inverted { 1.0 - y } else { y }
    }

    /// All samples of a frame. Each of the at most 65,536 stored values is worked out once.
    pub fn apply(&self, samples: &[u16]) -> Pixels {
        let largest = samples.iter().copied().max().unwrap_or(0);
        let fractions = (0..=largest).map(|sample| self.fraction(self.value(sample)));
        if self.is_plain() {
            let table: Vec<u8> = fractions.map(|y| (y * 255.0).round() as u8).collect();
            return Pixels::U8(samples.iter().map(|&v| table[usize::from(v)]).collect());
        }
        let table: Vec<u16> = fractions.map(|y| (y * 65535.0).round() as u16).collect();
        Pixels::U16(samples.iter().map(|&v| table[usize::from(v)]).collect())
    }
}

/// YBR_FULL to RGB (PS3.3, C.7.6.3.1.2).
pub(super) fn rgb_of([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb]
        .map(|v| v.round().clamp(0.0, 255.0) as u8)
}
