//! The fourteen operations of RandAugment (Cubuk et al., 2019, arXiv:1909.13719) on 8-bit RGB images. What a moved
//! image does not cover becomes black.

use crate::data::raster::Rgb8;
use crate::data::rng::Draw;

/// One operation with its strength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Nothing.
    Identity,
    /// Columns slide by this times the row (about the image's top left).
    ShearX(f64),
    /// Rows slide by this times the column.
    ShearY(f64),
    /// Moved right by so many pixels.
    TranslateX(f64),
    /// Moved down by so many pixels.
    TranslateY(f64),
    /// Turned by so many degrees about the middle.
    Rotate(f64),
    /// Blended from black: 1 leaves it, 2 doubles.
    Brightness(f64),
    /// Blended from its grey image.
    Colour(f64),
    /// Blended from its mean grey.
    Contrast(f64),
    /// Blended from its smoothed image.
    Sharpness(f64),
    /// Keeps so many bits of each value.
    Posterize(u32),
    /// Values of at least this are inverted.
    Solarize(u8),
    /// Each channel stretched over the full range.
    AutoContrast,
    /// Each channel's histogram flattened.
    Equalize,
}

impl Op {
    /// One of the fourteen, all equally likely, at `strength` (0 to 1); operations with a direction take either. `side`
    /// is that of the image in pixels.
    pub(super) fn draw(draw: &mut Draw, strength: f64, side: usize) -> Op {
        let which = draw.below(14);
        let sign = if draw.chance(0.5) { -1.0 } else { 1.0 };
        match which {
            0 => Op::Identity,
            1 => Op::ShearX(sign * 0.3 * strength),
            2 => Op::ShearY(sign * 0.3 * strength),
            3 => Op::TranslateX(sign * (150.0 / 331.0) * side as f64 * strength),
            4 => Op::TranslateY(sign * (150.0 / 331.0) * side as f64 * strength),
            5 => Op::Rotate(sign * 30.0 * strength),
            6 => Op::Brightness(1.0 + sign * 0.9 * strength),
            7 => Op::Colour(1.0 + sign * 0.9 * strength),
            8 => Op::Contrast(1.0 + sign * 0.9 * strength),
            9 => Op::Sharpness(1.0 + sign * 0.9 * strength),
            10 => Op::Posterize(8 - (4.0 * strength).round() as u32),
            11 => Op::Solarize((255.0 * (1.0 - strength)) as u8),
            12 => Op::AutoContrast,
            _ => Op::Equalize,
        }
    }
}

/// From where in the image a pixel comes.
pub(crate) type Moving = Box<dyn Fn(f64, f64) -> (f64, f64)>;

/// How an operation moves pixels of an image of `width` x `height`; none where it changes colours, or nothing.
pub(crate) fn moving(op: Op, (width, height): (usize, usize)) -> Option<Moving> {
    Some(match op {
        Op::ShearX(s) => Box::new(move |x, y| (x + s * y, y)),
        Op::ShearY(s) => Box::new(move |x, y| (x, y + s * x)),
        Op::TranslateX(d) => Box::new(move |x, y| (x - d.trunc(), y)),
        Op::TranslateY(d) => Box::new(move |x, y| (x, y - d.trunc())),
        Op::Rotate(degrees) => {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let (cx, cy) = ((width as f64 - 1.0) / 2.0, (height as f64 - 1.0) / 2.0);
            Box::new(move |x, y| {
                let (dx, dy) = (x - cx, y - cy);
                (cx + cos * dx - sin * dy, cy + sin * dx + cos * dy)
            })
        }
        _ => return None,
    })
}

/// The image after one operation.
pub(super) fn apply(op: Op, image: &Rgb8) -> Rgb8 {
    if let Some(from) = moving(op, (image.width, image.height)) {
        return moved(image, from);
    }
    match op {
        Op::Identity
        | Op::ShearX(_)
        | Op::ShearY(_)
        | Op::TranslateX(_)
        | Op::TranslateY(_)
        | Op::Rotate(_) => image.clone(),
        Op::Brightness(f) => blended(image, f, |_, _| [0.0; 3]),
        Op::Colour(f) => blended(image, f, |_, pixel| [grey(pixel); 3]),
        Op::Contrast(f) => {
            let pixels = image.data.as_chunks::<3>().0;
            let mean = pixels.iter().map(|&p| f64::from(grey(p))).sum::<f64>() / pixels.len() as f64;
            let mean = mean.round() as f32;
            blended(image, f, |_, _| [mean; 3])
        }
        Op::Sharpness(f) => {
            blended(image, f, |at, pixel| smoothed(image, at).unwrap_or(pixel.map(f32::from)))
        }
        Op::Posterize(bits) => mapped(image, |v| v & (0xffu8 << (8 - bits.min(8)))),
        Op::Solarize(from) => mapped(image, |v| if v >= from { 255 - v } else { v }),
        Op::AutoContrast => by_channel(image, stretched),
        Op::Equalize => by_channel(image, equalised),
    }
}

fn grey([r, g, b]: [u8; 3]) -> f32 {
    (0.2989 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)).floor()
}

fn mapped(image: &Rgb8, f: impl Fn(u8) -> u8) -> Rgb8 {
    Rgb8 { data: image.data.iter().map(|&v| f(v)).collect(), ..*image }
}

/// `f * image + (1 - f) * other`, where other is given by a pixel's place and value.
fn blended(image: &Rgb8, f: f64, other: impl Fn(usize, [u8; 3]) -> [f32; 3]) -> Rgb8 {
    let f = f as f32;
    let mut out = image.clone();
    for (at, pixel) in out.data.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let other = other(at, *pixel);
        for (value, other) in pixel.iter_mut().zip(other) {
            *value = (f * f32::from(*value) + (1.0 - f) * other).clamp(0.0, 255.0) as u8;
        }
    }
    out
}

/// The 3x3 mean with a middle weight of 5; `None` at the edge.
fn smoothed(image: &Rgb8, at: usize) -> Option<[f32; 3]> {
    let (x, y) = (at % image.width, at / image.width);
    if x == 0 || y == 0 || x + 1 >= image.width || y + 1 >= image.height {
        return None;
    }
    let mut sums = [0u32; 3];
    for (dy, dx) in (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))) {
        let weight = if dy == 1 && dx == 1 { 5 } else { 1 };
        let from = ((y + dy - 1) * image.width + x + dx - 1) * 3;
        for (sum, &value) in sums.iter_mut().zip(&image.data[from..from + 3]) {
            *sum += weight * u32::from(value);
        }
    }
    Some(sums.map(|sum| (sum as f32 / 13.0).round()))
}

/// Each channel through a table made from its histogram.
fn by_channel(image: &Rgb8, table: impl Fn(&[u32; 256]) -> [u8; 256]) -> Rgb8 {
    let mut counts = [[0u32; 256]; 3];
    for pixel in image.data.as_chunks::<3>().0 {
        for (counts, &value) in counts.iter_mut().zip(pixel) {
            counts[usize::from(value)] += 1;
        }
    }
    let tables = counts.map(|counts| table(&counts));
    let mut out = image.clone();
    for pixel in out.data.as_chunks_mut::<3>().0 {
        for (value, table) in pixel.iter_mut().zip(&tables) {
            *value = table[usize::from(*value)];
        }
    }
    out
}

fn stretched(counts: &[u32; 256]) -> [u8; 256] {
    let low = counts.iter().position(|&c| c > 0).unwrap_or(0);
    let high = counts.iter().rposition(|&c| c > 0).unwrap_or(255);
    if low >= high {
        return std::array::from_fn(|v| v as u8);
    }
    std::array::from_fn(|v| ((v.clamp(low, high) - low) * 255 / (high - low)) as u8)
}

fn equalised(counts: &[u32; 256]) -> [u8; 256] {
    let last = counts.iter().rev().find(|&&c| c > 0).copied().unwrap_or(0);
    let step = (counts.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return std::array::from_fn(|v| v as u8);
    }
    let mut sum = step / 2;
    std::array::from_fn(|v| {
        let value = (sum / step).min(255) as u8;
        sum += counts[v];
        value
    })
}

/// The image whose pixel at a place is, bilinearly, the source's where `from` says; black outside.
fn moved(image: &Rgb8, from: impl Fn(f64, f64) -> (f64, f64)) -> Rgb8 {
    let mut out = Rgb8::filled(image.width, image.height, 0);
    let value = |x: i64, y: i64, c: usize| -> f32 {
        let inside = x >= 0 && y >= 0 && x < image.width as i64 && y < image.height as i64;
        if inside { f32::from(image.data[(y as usize * image.width + x as usize) * 3 + c]) } else { 0.0 }
    };
    for (at, pixel) in out.data.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = from((at % image.width) as f64, (at / image.width) as f64);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = ((x - x0) as f32, (y - y0) as f32);
        let (x0, y0) = (x0 as i64, y0 as i64);
        for (c, out) in pixel.iter_mut().enumerate() {
            let top = value(x0, y0, c) * (1.0 - fx) + value(x0 + 1, y0, c) * fx;
            let below = value(x0, y0 + 1, c) * (1.0 - fx) + value(x0 + 1, y0 + 1, c) * fx;
            *out = (top * (1.0 - fy) + below * fy).round() as u8;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Rgb8 {
        let data = (0..6 * 6).flat_map(|i| [(i * 7) as u8, (i * 3) as u8, 200]).collect();
        Rgb8::new(6, 6, data).unwrap()
    }

    #[test]
    fn blends_at_one_change_nothing_and_at_zero_are_the_other_image() {
        let image = ramp();
        for op in
            [Op::Brightness(1.0), Op::Colour(1.0), Op::Contrast(1.0), Op::Sharpness(1.0), Op::Rotate(0.0)]
        {
            assert_eq!(apply(op, &image), image, "{op:?}");
        }
        assert!(apply(Op::Brightness(0.0), &image).data.iter().all(|&v| v == 0));
        let grey = apply(Op::Colour(0.0), &image);
        assert!(grey.data.as_chunks::<3>().0.iter().all(|p| p[0] == p[1] && p[1] == p[2]));
        let flat = apply(Op::Contrast(0.0), &image);
        assert!(flat.data.iter().all(|&v| v == flat.data[0]));
    }

    #[test]
    fn moves_leave_black_behind() {
        let image = ramp();
        let right = apply(Op::TranslateX(2.0), &image);
        assert_eq!(right.data[..6], [0; 6]);
        assert_eq!(right.row(0)[6..], image.row(0)[..12]);
        let down = apply(Op::TranslateY(-1.0), &image);
        assert_eq!((down.row(0), down.row(5)), (image.row(1), &[0u8; 18][..]));
        let quarter = apply(Op::Rotate(90.0), &image);
        let corner = |i: &Rgb8, x: usize, y: usize| i.row(y)[x * 3];
        // Turned by a quarter: each corner is another corner of the source.
        assert_eq!(corner(&quarter, 0, 0), corner(&image, 5, 0));
        assert_eq!(corner(&apply(Op::ShearX(1.0), &image), 0, 2), corner(&image, 2, 2));
    }

    #[test]
    fn tables_are_those_of_their_definitions() {
        let image = Rgb8::new(2, 1, vec![50, 0, 9, 100, 255, 9]).unwrap();
        assert_eq!(apply(Op::AutoContrast, &image).data, [0, 0, 9, 255, 255, 9]);
        assert_eq!(apply(Op::Posterize(4), &image).data, [48, 0, 0, 96, 240, 0]);
        assert_eq!(apply(Op::Solarize(100), &image).data, [50, 0, 9, 155, 0, 9]);
        // 1,024 pixels of two values: the darker becomes black, the lighter white.
        let two = Rgb8::new(32, 32, (0..32 * 32).flat_map(|i| [if i < 512 { 90 } else { 110 }; 3]).collect())
            .unwrap();
        let flat = apply(Op::Equalize, &two);
        assert_eq!((flat.data[0], flat.data[3 * 1023]), (0, 255));
    }
}
