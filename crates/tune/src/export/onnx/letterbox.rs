//! Preprocessing in the graph: an RGB picture `[height, width, 3]` of bytes, fitted into the network's input as this program
//! itself does it ([`crate::data::letterbox`], [`crate::data::resize`]), to the last bit: the same sampling points, the same
//! weights of 1/2048, the same rounding.

use super::builder::{Attr, Builder, Dim, Elem};
use crate::data::raster::FILL;

/// Where the picture came to lie.
pub struct Placement {
    /// Canvas pixels per picture pixel, a scalar.
    ratio: String,
    /// Padding left and above, `[1, 2, 1]`.
    pad: String,
    /// The picture's width and height, `[1, 2, 1]`.
    size: String,
}

/// How much of one axis's resizing the graph has worked out.
struct Taps {
    first: String,
    second: String,
    weights: [String; 2],
}

/// Adds the input `image` and gives the network's input `[1, 3, height, width]`, 0 to 1.
pub fn letterbox(b: &mut Builder, [height, width]: [usize; 2]) -> (String, Placement) {
    let image = b.input("image", Elem::U8, &[Dim::Free("height"), Dim::Free("width"), Dim::Fixed(3)]);
    let shape = b.op("Shape", &[&image]);
    let side = |b: &mut Builder, axis: i64| {
        let at = b.scalar(Elem::I64, axis as f64);
        b.op_with("Gather", &[&shape, &at], &[("axis", Attr::Int(0))])
    };
    let (h, w) = (side(b, 0), side(b, 1));
    let (h64, w64) = (b.cast(&h, Elem::F64), b.cast(&w, Elem::F64));
    let (canvas_h, canvas_w) = (b.scalar(Elem::F64, height as f64), b.scalar(Elem::F64, width as f64));
    let (by_height, by_width) = (b.op("Div", &[&canvas_h, &h64]), b.op("Div", &[&canvas_w, &w64]));
    let ratio = b.op("Min", &[&by_height, &by_width]);
    let one = b.scalar(Elem::F64, 1.0);
    let inner = |b: &mut Builder, side: &str, canvas: &str| {
        let scaled = b.op("Mul", &[side, &ratio]);
        let rounded = b.op("Round", &[&scaled]);
        let least = b.op("Max", &[&rounded, &one]);
        let most = b.op("Min", &[&least, canvas]);
        b.cast(&most, Elem::I32)
    };
    let (inner_h, inner_w) = (inner(b, &h64, &canvas_h), inner(b, &w64, &canvas_w));
    let (h32, w32) = (b.cast(&h, Elem::I32), b.cast(&w, Elem::I32));
    let (rows, columns) = (taps(b, &h32, &inner_h), taps(b, &w32, &inner_w));

    let pixels = b.cast(&image, Elem::I32);
    let mix = |b: &mut Builder, x: &str, taps: &Taps, axis: i64, weight_shape: &[i64], coarse: bool| {
        let mut parts = Vec::new();
        for (index, weight) in [&taps.first, &taps.second].into_iter().zip(&taps.weights) {
            let mut part = b.op_with("Gather", &[x, index], &[("axis", Attr::Int(axis))]);
            let weight = b.reshape(weight, weight_shape);
            if coarse {
                // Four bits go before the product and sixteen after it, as in OpenCV's arithmetic.
                let divisor = b.scalar(Elem::I32, 16.0);
                part = b.op("Div", &[&part, &divisor]);
            }
            part = b.op("Mul", &[&part, &weight]);
            if coarse {
                let divisor = b.scalar(Elem::I32, 65536.0);
                part = b.op("Div", &[&part, &divisor]);
            }
            parts.push(part);
        }
        b.op("Add", &[&parts[0], &parts[1]])
    };
    let stretched = mix(b, &pixels, &columns, 1, &[-1, 1], false);
    let sum = mix(b, &stretched, &rows, 0, &[-1, 1, 1], true);
    let (two, four) = (b.scalar(Elem::I32, 2.0), b.scalar(Elem::I32, 4.0));
    let sum = b.op("Add", &[&sum, &two]);
    let resized = b.op("Div", &[&sum, &four]);
    let resized = b.cast(&resized, Elem::F32);
    let planes = b.transpose(&resized, &[2, 0, 1]);

    let padding = |b: &mut Builder, inner: &str, canvas: usize| {
        let canvas = b.scalar(Elem::I32, canvas as f64);
        let all = b.op("Sub", &[&canvas, inner]);
        let before = b.op("Div", &[&all, &two]);
        let after = b.op("Sub", &[&all, &before]);
        [before, after].map(|v| {
            let v = b.cast(&v, Elem::I64);
            b.reshape(&v, &[1])
        })
    };
    let ([top, bottom], [left, right]) = (padding(b, &inner_h, height), padding(b, &inner_w, width));
    let zero = b.ints(&[0]);
    let pads = b.concat(&[&zero, &top, &left, &zero, &bottom, &right], 0);
    let fill = b.scalar(Elem::F32, f64::from(FILL));
    let padded = b.op_with("Pad", &[&planes, &pads, &fill], &[("mode", Attr::Text("constant"))]);
    let padded = b.reshape(&padded, &[1, 3, height as i64, width as i64]);
    let white = b.scalar(Elem::F32, 255.0);
    let input = b.op("Div", &[&padded, &white]);

    let ratio = b.cast(&ratio, Elem::F32);
    let pair = |b: &mut Builder, x: &str, y: &str| {
        let pair = b.concat(&[x, y], 0);
        let pair = b.cast(&pair, Elem::F32);
        b.reshape(&pair, &[1, 2, 1])
    };
    let pad = pair(b, &left, &top);
    let (w, h) = (b.reshape(&w, &[1]), b.reshape(&h, &[1]));
    let size = pair(b, &w, &h);
    (input, Placement { ratio, pad, size })
}

/// The two source pixels of each of `out` pixels along an axis of `input`, and their weights in units of 1/2048. Whole-number
/// arithmetic: float32 would lose the sampling points of large pictures.
fn taps(b: &mut Builder, input: &str, out: &str) -> Taps {
    let (zero, one, two) = (b.scalar(Elem::I32, 0.0), b.scalar(Elem::I32, 1.0), b.scalar(Elem::I32, 2.0));
    // ((2 i + 1) in - out) / (2 out): the centre of pixel i in the source.
    let places = b.op("Range", &[&zero, out, &one]);
    let doubled = b.op("Mul", &[&places, &two]);
    let odd = b.op("Add", &[&doubled, &one]);
    let scaled = b.op("Mul", &[&odd, input]);
    let numerator = b.op("Sub", &[&scaled, out]);
    let denominator = b.op("Mul", &[out, &two]);
    // Outside the outermost centres the edge pixel stands alone: rounding two shares of it would lose a level.
    let last = b.op("Sub", &[input, &one]);
    let end = b.op("Mul", &[&last, &denominator]);
    let numerator = b.op("Max", &[&numerator, &zero]);
    let numerator = b.op("Min", &[&numerator, &end]);
    let first = b.op("Div", &[&numerator, &denominator]);
    let whole = b.op("Mul", &[&first, &denominator]);
    let rest = b.op("Sub", &[&numerator, &whole]);
    let next = b.op("Add", &[&first, &one]);
    let second = b.op("Min", &[&next, &last]);

    let (rest, denominator) = (b.cast(&rest, Elem::F32), b.cast(&denominator, Elem::F32));
    let floor = b.cast(&first, Elem::F32);
    let fraction = b.op("Div", &[&rest, &denominator]);
    // Through the centre in float32, as the program rounds it.
    let centre = b.op("Add", &[&floor, &fraction]);
    let fraction = b.op("Sub", &[&centre, &floor]);
    let unit = b.scalar(Elem::F32, 1.0);
    let complement = b.op("Sub", &[&unit, &fraction]);
    let steps = b.scalar(Elem::F32, 2048.0);
    let weights = [complement, fraction].map(|share| {
        let scaled = b.op("Mul", &[&share, &steps]);
        let rounded = b.op("Round", &[&scaled]);
        b.cast(&rounded, Elem::I32)
    });
    Taps { first, second, weights }
}

/// Edges `[n, 2, anchors]` in pixels of the network's input as pixels of the picture, those outside it too.
pub fn to_picture(b: &mut Builder, edges: &str, placement: &Placement) -> String {
    let moved = b.op("Sub", &[edges, &placement.pad]);
    b.op("Div", &[&moved, &placement.ratio])
}

/// Boxes `[n, places, 4]` cut off at the picture's borders.
pub fn clip(b: &mut Builder, boxes: &str, placement: &Placement) -> String {
    let zero = b.scalar(Elem::F32, 0.0);
    let low = b.op("Max", &[boxes, &zero]);
    let size = b.reshape(&placement.size, &[1, 1, 2]);
    let both = b.concat(&[&size, &size], 2);
    b.op("Min", &[&low, &both])
}
