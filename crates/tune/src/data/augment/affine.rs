//! The random map of the plane: perspective, rotation with zoom, shear and shift, and what it does to boxes.

use crate::boxes::Xyxy;
use crate::data::rng::Draw;

use super::config::AugmentConfig;
use super::truth::{Truth, clip};

/// The numbers that make one map. Drawn by [`AffineParams::draw`], turned into a matrix by [`AffineParams::matrix`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineParams {
    /// Perspective along x, per pixel; 0 for none.
    pub perspective_x: f64,
    /// Perspective along y, per pixel; 0 for none.
    pub perspective_y: f64,
    /// Rotation in degrees, counter-clockwise as seen.
    pub angle: f64,
    /// Zoom; 1 keeps the size.
    pub scale: f64,
    /// Shear along x in degrees.
    pub shear_x: f64,
    /// Shear along y in degrees.
    pub shear_y: f64,
    /// Where the canvas' centre comes to lie, as a fraction of the output's width; 0.5 is the middle.
    pub translate_x: f64,
    /// Where the canvas' centre comes to lie, as a fraction of the output's height.
    pub translate_y: f64,
}

impl AffineParams {
    /// Keeps size and direction and centres the canvas in the output.
    pub const CENTRED: AffineParams = AffineParams {
        perspective_x: 0.0,
        perspective_y: 0.0,
        angle: 0.0,
        scale: 1.0,
        shear_x: 0.0,
        shear_y: 0.0,
        translate_x: 0.5,
        translate_y: 0.5,
    };

    /// Draws uniformly within the ranges of `config`.
    pub fn draw(config: &AugmentConfig, draw: &mut Draw) -> AffineParams {
        let mut around = |middle: f64, reach: f64| draw.uniform(middle - reach, middle + reach);
        AffineParams {
            perspective_x: around(0.0, config.perspective),
            perspective_y: around(0.0, config.perspective),
            angle: around(0.0, config.degrees),
            scale: around(1.0, config.scale),
            shear_x: around(0.0, config.shear),
            shear_y: around(0.0, config.shear),
            translate_x: around(0.5, config.translate),
            translate_y: around(0.5, config.translate),
        }
    }

    /// The map from canvas pixels to output pixels: T * S * R * P * C, where C puts the canvas' centre at the origin,
    /// P is the perspective, R the rotation with zoom, S the shear and T the shift into the output.
    pub fn matrix(&self, canvas: (usize, usize), output: (usize, usize)) -> Homography {
        let centre = Homography([
            1.0,
            0.0,
            -(canvas.0 as f64) / 2.0,
            0.0,
            1.0,
            -(canvas.1 as f64) / 2.0,
            0.0,
            0.0,
            1.0,
        ]);
        let perspective =
            Homography([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, self.perspective_x, self.perspective_y, 1.0]);
        let (sin, cos) = self.angle.to_radians().sin_cos();
        let (sin, cos) = (sin * self.scale, cos * self.scale);
        let rotation = Homography([cos, sin, 0.0, -sin, cos, 0.0, 0.0, 0.0, 1.0]);
        let shear_x = self.shear_x.to_radians().tan();
        let shear_y = self.shear_y.to_radians().tan();
        let shear = Homography([1.0, shear_x, 0.0, shear_y, 1.0, 0.0, 0.0, 0.0, 1.0]);
        let shift_x = self.translate_x * output.0 as f64;
        let shift_y = self.translate_y * output.1 as f64;
        let shift = Homography([1.0, 0.0, shift_x, 0.0, 1.0, shift_y, 0.0, 0.0, 1.0]);
        shift.times(&shear).times(&rotation).times(&perspective).times(&centre)
    }
}

/// A map of the plane, row by row: (x, y, 1) -> (m0 x + m1 y + m2, m3 x + m4 y + m5) / (m6 x + m7 y + m8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub [f64; 9]);

impl Homography {
    /// The map that does nothing.
    pub const IDENTITY: Homography = Homography([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);

    /// The matrix product: first `right`, then `self`.
    pub fn times(&self, right: &Homography) -> Homography {
        let (a, b) = (&self.0, &right.0);
        let cell = |row: usize, column: usize| (0..3).map(|k| a[row * 3 + k] * b[k * 3 + column]).sum();
        Homography(std::array::from_fn(|i| cell(i / 3, i % 3)))
    }

    /// True where the last row is 0 0 1.
    pub fn is_affine(&self) -> bool {
        self.0[6] == 0.0 && self.0[7] == 0.0 && self.0[8] == 1.0
    }

    /// The inverse map; `None` where the map flattens the plane (its determinant is 0 or not finite).
    pub fn inverse(&self) -> Option<Homography> {
        let m = &self.0;
        let minor = |a: usize, b: usize, c: usize, d: usize| m[a] * m[d] - m[b] * m[c];
        let adjugate = [
            minor(4, 5, 7, 8),
            -minor(1, 2, 7, 8),
            minor(1, 2, 4, 5),
            -minor(3, 5, 6, 8),
            minor(0, 2, 6, 8),
            -minor(0, 2, 3, 5),
            minor(3, 4, 6, 7),
            -minor(0, 1, 6, 7),
            minor(0, 1, 3, 4),
        ];
        let determinant = m[0] * adjugate[0] + m[1] * adjugate[3] + m[2] * adjugate[6];
        let scale = 1.0 / determinant;
        (determinant != 0.0 && scale.is_finite()).then(|| {
            let mut inverse = adjugate.map(|v| v * scale);
            if self.is_affine() {
                // Exactly, not up to rounding: the affine warp depends on it.
                inverse[6] = 0.0;
                inverse[7] = 0.0;
                inverse[8] = 1.0;
            }
            Homography(inverse)
        })
    }

    /// Where a point goes.
    pub fn point(&self, x: f64, y: f64) -> (f64, f64) {
        let m = &self.0;
        let w = m[6] * x + m[7] * y + m[8];
        ((m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w)
    }

    /// The upright box around where the four corners go.
    pub fn bounds(&self, bbox: &Xyxy) -> Xyxy {
        let corners = [(bbox.x1, bbox.y1), (bbox.x2, bbox.y2), (bbox.x1, bbox.y2), (bbox.x2, bbox.y1)];
        let mut out =
            Xyxy { x1: f32::INFINITY, y1: f32::INFINITY, x2: f32::NEG_INFINITY, y2: f32::NEG_INFINITY };
        for (x, y) in corners {
            let (x, y) = self.point(f64::from(x), f64::from(y));
            out.x1 = out.x1.min(x as f32);
            out.y1 = out.y1.min(y as f32);
            out.x2 = out.x2.max(x as f32);
            out.y2 = out.y2.max(y as f32);
        }
        out
    }
}

/// Moves boxes through the map, cuts them off at the output's edges and keeps those that still show their object:
/// wider and higher than 2 px, an aspect ratio under 100, and more than a tenth of the area that zooming by `scale`
/// alone would have left.
pub fn move_truths(truths: &[Truth], map: &Homography, scale: f64, output: (usize, usize)) -> Vec<Truth> {
    const EPSILON: f32 = 1e-16;
    let (width, height) = (output.0 as f32, output.1 as f32);
    let move_one = |truth: &Truth| {
        let bbox = clip(&map.bounds(&truth.bbox), width, height);
        let (w, h) = (bbox.width(), bbox.height());
        let scale = scale as f32;
        let before = truth.bbox.width() * scale * (truth.bbox.height() * scale);
        let aspect = (w / (h + EPSILON)).max(h / (w + EPSILON));
        let keep = w > 2.0 && h > 2.0 && w * h / (before + EPSILON) > 0.1 && aspect < 100.0;
        keep.then_some(Truth { class: truth.class, bbox })
    };
    truths.iter().filter_map(move_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Purpose;
    use proptest::prelude::*;

    fn truth(x1: f32, y1: f32, x2: f32, y2: f32) -> Truth {
        Truth { class: 0, bbox: Xyxy { x1, y1, x2, y2 } }
    }

    #[test]
    fn centred_crops_the_middle_of_a_larger_canvas() {
        let map = AffineParams::CENTRED.matrix((200, 200), (100, 100));
        assert_eq!(map.point(100.0, 100.0), (50.0, 50.0));
        assert_eq!(map.point(50.0, 150.0), (0.0, 100.0));
    }

    #[test]
    fn rotation_is_counter_clockwise_as_seen() {
        let params = AffineParams { angle: 90.0, scale: 2.0, ..AffineParams::CENTRED };
        let (x, y) = params.matrix((10, 10), (10, 10)).point(6.0, 5.0);
        assert!((x - 5.0).abs() < 1e-9 && (y - 3.0).abs() < 1e-9, "{x} {y}");
    }

    #[test]
    fn candidates_are_filtered_by_size_aspect_and_area() {
        let id = Homography::IDENTITY;
        let kept = |t: Truth, scale: f64| !move_truths(&[t], &id, scale, (640, 640)).is_empty();
        assert!(kept(truth(0.0, 0.0, 2.1, 2.1), 1.0));
        assert!(!kept(truth(0.0, 0.0, 2.0, 50.0), 1.0));
        assert!(!kept(truth(0.0, 0.0, 3.0, 301.0), 1.0));
        assert!(kept(truth(0.0, 0.0, 3.0, 299.0), 1.0));
        // 9 of 100 columns stay inside, then 11.
        assert!(!kept(truth(-91.0, 0.0, 9.0, 50.0), 1.0));
        assert!(kept(truth(-89.0, 0.0, 11.0, 50.0), 1.0));
        // The same 9 columns suffice where the zoom explains the loss.
        assert!(kept(truth(-91.0, 0.0, 9.0, 50.0), 0.5));
    }

    proptest! {
        #[test]
        fn inverse_undoes_the_map(seed: u64) {
            let config = AugmentConfig { degrees: 180.0, shear: 20.0, perspective: 0.0005, ..AugmentConfig::default() };
            let params = AffineParams::draw(&config, &mut Draw::new(seed, 0, 0, Purpose::Affine));
            let map = params.matrix((640, 480), (640, 480));
            // A shear of 20 degrees both ways leaves a determinant of at least 0.7 times the zoom's square.
            let inverse = map.inverse().unwrap();
            for (x, y) in [(320.0, 240.0), (350.0, 200.0)] {
                let (u, v) = map.point(x, y);
                let (a, b) = inverse.point(u, v);
                prop_assert!((a - x).abs() < 1e-6 && (b - y).abs() < 1e-6);
            }
        }

        #[test]
        fn moved_boxes_stay_in_range(seed: u64, x in 0.0f32..600.0, y in 0.0f32..600.0, w in 0.0f32..600.0, h in 0.0f32..600.0) {
            let config = AugmentConfig { degrees: 180.0, shear: 45.0, perspective: 0.001, scale: 0.9, ..AugmentConfig::default() };
            let params = AffineParams::draw(&config, &mut Draw::new(seed, 0, 0, Purpose::Affine));
            let map = params.matrix((1280, 1280), (640, 640));
            for moved in move_truths(&[truth(x, y, x + w, y + h)], &map, params.scale, (640, 640)) {
                let b = moved.bbox;
                prop_assert!(0.0 <= b.x1 && b.x1 < b.x2 && b.x2 <= 640.0, "{b:?}");
                prop_assert!(0.0 <= b.y1 && b.y1 < b.y2 && b.y2 <= 640.0, "{b:?}");
            }
        }
    }
}
