//! Where a window meets its input.

use crate::export::tflite::schema::Padding;

/// One axis of a convolution or pooling.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// The input's length.
    pub input: usize,
    /// The output's.
    pub output: usize,
    kernel: usize,
    stride: usize,
    before: usize,
}

impl Axis {
    /// TensorFlow's rules: SAME gives `ceil(input / stride)` places and puts the odd padding at the end, VALID pads nothing.
    pub fn new(input: usize, kernel: usize, stride: usize, padding: Padding) -> Axis {
        match padding {
            Padding::Same => {
                let output = input.div_ceil(stride);
                let needed = (output.saturating_sub(1) * stride + kernel).saturating_sub(input);
                Axis { input, output, kernel, stride, before: needed / 2 }
            }
            Padding::Valid => {
                let output = (input + stride).saturating_sub(kernel) / stride;
                Axis { input, output, kernel, stride, before: 0 }
            }
        }
    }

    /// The taps of an output place that lie within the input: tap and input place.
    pub fn taps(self, place: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = place * self.stride;
        (0..self.kernel).filter_map(move |tap| {
            let at = (first + tap).checked_sub(self.before)?;
            (at < self.input).then_some((tap, at))
        })
    }
}
