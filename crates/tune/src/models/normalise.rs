//! How pixel values enter a network: as fractions of 1, or shifted and scaled as the published weights expect them.

/// `(value - mean) / std` of each channel, values from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    /// Means of red, green and blue.
    pub mean: [f32; 3],
    /// What they are divided by.
    pub std: [f32; 3],
}

impl Normalise {
    /// Values enter as they are.
    pub const NONE: Normalise = Normalise { mean: [0.0; 3], std: [1.0; 3] };

    /// ImageNet's channel means and deviations, which torchvision's weights expect.
    pub const IMAGENET: Normalise = Normalise { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// `(byte - 127) / 128`, which EfficientNet-Lite's weights expect.
    pub const LITE: Normalise = Normalise { mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] };

    /// What each channel is lessened by and then multiplied with. With another number of channels than three, all take the
    /// mean of the three.
    pub fn factors(&self, channels: usize) -> Vec<(f32, f32)> {
        let third = |v: &[f32; 3]| v.iter().sum::<f32>() / 3.0;
        let of = |v: &[f32; 3], c: usize| if channels == 3 { v[c] } else { third(v) };
        (0..channels).map(|c| (of(&self.mean, c), 1.0 / of(&self.std, c))).collect()
    }

    /// Writes the normalised `images` (`[…, channels]`) to `out`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply(&self, images: &[f32], channels: usize, out: &mut [f32]) {
        assert_eq!(images.len(), out.len(), "as many values in as out");
        out.copy_from_slice(images);
        self.change(channels, out);
    }

    /// Normalises `images` (`[…, channels]`) in place.
    pub fn change(&self, channels: usize, images: &mut [f32]) {
        if *self == Normalise::NONE {
            return;
        }
        let factors = self.factors(channels);
        for pixel in images.chunks_exact_mut(channels) {
            for (value, (mean, factor)) in pixel.iter_mut().zip(&factors) {
                *value = (*value - mean) * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lite_maps_bytes_as_published() {
        let mut out = [0.0; 3];
        Normalise::LITE.apply(&[0.0, 127.0 / 255.0, 1.0], 3, &mut out);
        for (got, want) in out.iter().zip([-127.0 / 128.0, 0.0, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }

    #[test]
    fn nothing_changes_nothing_and_grey_takes_the_mean() {
        let mut out = [9.0; 2];
        Normalise::NONE.apply(&[0.25, 0.1], 1, &mut out);
        assert_eq!(out, [0.25, 0.1]);
        Normalise::IMAGENET.apply(&[0.449, 1.0], 1, &mut out);
        assert!(out[0].abs() < 1e-6 && (out[1] - 0.551 / 0.226).abs() < 1e-5, "{out:?}");
    }
}
