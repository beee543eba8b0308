//! The augmentation arguments, under the names that users of this field know.

use thiserror::Error;

/// How strongly training samples are varied. [`Default`] gives the usual recipe; [`AugmentConfig::none`] nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct AugmentConfig {
    /// Hue shift, at most this fraction of the colour circle; 0 to 1.
    pub hsv_h: f64,
    /// Saturation gain, 1 +- this; 0 to 1.
    pub hsv_s: f64,
    /// Value gain, 1 +- this; 0 to 1.
    pub hsv_v: f64,
    /// Rotation, +- degrees; 0 to 180.
    pub degrees: f64,
    /// Shift, +- this fraction of the image; 0 to 1.
    pub translate: f64,
    /// Zoom, 1 +- this; 0 to below 1.
    pub scale: f64,
    /// Shear along each axis, +- degrees; 0 to below 90.
    pub shear: f64,
    /// Perspective, +- this per pixel; 0 to 0.001.
    pub perspective: f64,
    /// Probability of turning upside down.
    pub flipud: f64,
    /// Probability of mirroring left and right.
    pub fliplr: f64,
    /// Probability of a mosaic of four images.
    pub mosaic: f64,
    /// Probability of blending with a second sample.
    pub mixup: f64,
    /// Probability of pasting an area of a second sample.
    pub cutmix: f64,
    /// Probability of copying objects by their masks. Must be 0: boxes have no masks.
    pub copy_paste: f64,
}

impl Default for AugmentConfig {
    fn default() -> AugmentConfig {
        AugmentConfig {
            hsv_h: 0.015,
            hsv_s: 0.7,
            hsv_v: 0.4,
            degrees: 0.0,
            translate: 0.1,
            scale: 0.5,
            shear: 0.0,
            perspective: 0.0,
            flipud: 0.0,
            fliplr: 0.5,
            mosaic: 1.0,
            mixup: 0.0,
            cutmix: 0.0,
            copy_paste: 0.0,
        }
    }
}

/// An augmentation argument that cannot be honoured.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum AugmentError {
    /// Out of the argument's range, or not a number.
    #[error("{name}={value}: must be a number from {low} to {high}; the default is {default}")]
    Range {
        /// The argument's name.
        name: &'static str,
        /// What was given.
        value: f64,
        /// Least allowed value.
        low: f64,
        /// Greatest allowed value.
        high: f64,
        /// What holds when the argument is left out.
        default: f64,
    },
    /// Copy-paste needs masks.
    #[error(
        "copy_paste={0}: copying objects needs segmentation masks, and detection labels hold boxes only; leave \
         copy_paste out (or set it to 0), and consider mixup or cutmix"
    )]
    CopyPaste(f64),
}

impl AugmentConfig {
    /// No variation at all: images are centred and nothing else.
    pub fn none() -> AugmentConfig {
        AugmentConfig {
            hsv_h: 0.0,
            hsv_s: 0.0,
            hsv_v: 0.0,
            degrees: 0.0,
            translate: 0.0,
            scale: 0.0,
            shear: 0.0,
            perspective: 0.0,
            flipud: 0.0,
            fliplr: 0.0,
            mosaic: 0.0,
            mixup: 0.0,
            cutmix: 0.0,
            copy_paste: 0.0,
        }
    }

    /// The same without mosaic, mix-up, cut-mix and copy-paste: what the last `close_mosaic` epochs run with.
    pub fn closed(&self) -> AugmentConfig {
        AugmentConfig { mosaic: 0.0, mixup: 0.0, cutmix: 0.0, copy_paste: 0.0, ..self.clone() }
    }

    /// Checks every argument's range. The error names the first argument that is out of it.
    pub fn check(&self) -> Result<(), AugmentError> {
        let usual = AugmentConfig::default();
        let ranges = [
            ("hsv_h", self.hsv_h, 1.0, usual.hsv_h),
            ("hsv_s", self.hsv_s, 1.0, usual.hsv_s),
            ("hsv_v", self.hsv_v, 1.0, usual.hsv_v),
            ("degrees", self.degrees, 180.0, usual.degrees),
            ("translate", self.translate, 1.0, usual.translate),
            ("scale", self.scale, 0.99, usual.scale),
            ("shear", self.shear, 89.0, usual.shear),
            ("perspective", self.perspective, 0.001, usual.perspective),
            ("flipud", self.flipud, 1.0, usual.flipud),
            ("fliplr", self.fliplr, 1.0, usual.fliplr),
            ("mosaic", self.mosaic, 1.0, usual.mosaic),
            ("mixup", self.mixup, 1.0, usual.mixup),
            ("cutmix", self.cutmix, 1.0, usual.cutmix),
            ("copy_paste", self.copy_paste, 1.0, usual.copy_paste),
        ];
        for (name, value, high, default) in ranges {
            if !(0.0..=high).contains(&value) {
                return Err(AugmentError::Range { name, value, low: 0.0, high, default });
            }
        }
        if self.copy_paste > 0.0 {
            return Err(AugmentError::CopyPaste(self.copy_paste));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_out_of_range() {
        assert_eq!(AugmentConfig::default().check(), Ok(()));
        assert_eq!(AugmentConfig::none().check(), Ok(()));
        let bad = AugmentConfig { scale: 1.5, ..AugmentConfig::default() };
        let message = bad.check().unwrap_err().to_string();
        assert_eq!(message, "scale=1.5: must be a number from 0 to 0.99; the default is 0.5");
        assert!(AugmentConfig { fliplr: f64::NAN, ..AugmentConfig::none() }.check().is_err());
        let masks = AugmentConfig { copy_paste: 0.3, ..AugmentConfig::default() };
        assert_eq!(masks.check(), Err(AugmentError::CopyPaste(0.3)));
        assert_eq!(masks.closed().check(), Ok(()));
    }
}
