//! A classifier's preprocessing in the graph: an RGB picture `[height, width, 3]` of bytes, its short side brought to the
//! network's, its middle square cut out, as [`crate::predict::middle_square`] does it: the same weights (Pillow's: each new
//! pixel the mean of what it covers, by a triangle), rounded to whole numbers as there, and bytes between the two passes.

use super::builder::{Attr, Builder, Dim, Elem};

/// Binary digits that a weight may be multiplied up to, and so many more as keep it in 16 bits with its sign.
const MOST_DIGITS: u32 = 21;
const LARGEST: f64 = 32768.0;

/// Adds the input `image` and gives the network's input `[1, 3, side, side]`, 0 to 1.
pub fn middle_square(b: &mut Builder, side: usize) -> String {
    let image = b.input("image", Elem::U8, &[Dim::Free("height"), Dim::Free("width"), Dim::Fixed(3)]);
    let shape = b.op("Shape", &[&image]);
    let axis = |b: &mut Builder, axis: i64| {
        let at = b.scalar(Elem::I64, axis as f64);
        let length = b.op_with("Gather", &[&shape, &at], &[("axis", Attr::Int(0))]);
        b.cast(&length, Elem::I32)
    };
    let (height, width) = (axis(b, 0), axis(b, 1));
    let short = b.op("Min", &[&height, &width]);
    let (rows, columns) = (taps(b, &height, &short, side), taps(b, &width, &short, side));

    // [height, width, 3] -> [height, width * 3]: rows are mixed without moving a pixel.
    let pixels = b.cast(&image, Elem::F32);
    let flat = b.reshape(&pixels, &[0, -1]);
    let mixed = b.op("MatMul", &[&rows.weights, &flat]);
    let mixed = bytes(b, &mixed, &rows);
    let mixed = b.reshape(&mixed, &[side as i64, -1, 3]);
    let planes = b.transpose(&mixed, &[2, 0, 1]);
    let columns = Taps { weights: b.transpose(&columns.weights, &[1, 0]), ..columns };
    let square = b.op("MatMul", &[&planes, &columns.weights]);
    let square = bytes(b, &square, &columns);
    let square = b.reshape(&square, &[1, 3, side as i64, side as i64]);
    let white = b.scalar(Elem::F32, 255.0);
    b.op("Div", &[&square, &white])
}

struct Taps {
    /// `[side, length]`: whole numbers that add up to about `unit` in each row.
    weights: String,
    /// A power of two.
    unit: String,
}

/// The sums of weighted bytes as bytes.
fn bytes(b: &mut Builder, sums: &str, taps: &Taps) -> String {
    let half = b.scalar(Elem::F32, 0.5);
    let (zero, most) = (b.scalar(Elem::F32, 0.0), b.scalar(Elem::F32, 255.0));
    let values = b.op("Div", &[sums, &taps.unit]);
    let values = b.op("Add", &[&values, &half]);
    let values = b.op("Floor", &[&values]);
    let values = b.op("Max", &[&values, &zero]);
    b.op("Min", &[&values, &most])
}

/// The weights of the middle `side` pixels along an axis of `length` pixels of a picture whose shorter one has `short`.
fn taps(b: &mut Builder, length: &str, short: &str, side: usize) -> Taps {
    let (zero, one, two) = (b.scalar(Elem::I32, 0.0), b.scalar(Elem::I32, 1.0), b.scalar(Elem::I32, 2.0));
    let target = b.scalar(Elem::I32, side as f64);
    let scaled = b.op("Mul", &[length, &target]);
    let out = b.op("Div", &[&scaled, short]);
    let margin = b.op("Sub", &[&out, &target]);
    let margin = b.cast(&margin, Elem::F32);
    let halves = b.scalar(Elem::F32, 2.0);
    let margin = b.op("Div", &[&margin, &halves]);
    let margin = b.op("Round", &[&margin]);
    let start = b.cast(&margin, Elem::I32);
    let end = b.op("Add", &[&start, &target]);

    // The centre of pixel i among the source's: ((2 i + 1) length - out) / (2 out), in whole numbers; from one pixel further
    // left, so that nothing is negative.
    let places = b.op("Range", &[&start, &end, &one]);
    let doubled = b.op("Mul", &[&places, &two]);
    let odd = b.op("Add", &[&doubled, &one]);
    let scaled = b.op("Mul", &[&odd, length]);
    let denominator = b.op("Mul", &[&out, &two]);
    let moved = b.op("Add", &[&scaled, &out]);
    let next = b.op("Div", &[&moved, &denominator]);
    let whole = b.op("Mul", &[&next, &denominator]);
    let rest = b.op("Sub", &[&moved, &whole]);
    let first = b.op("Sub", &[&next, &one]);
    let (rest, denominator) = (b.cast(&rest, Elem::F32), b.cast(&denominator, Elem::F32));
    let fraction = b.op("Div", &[&rest, &denominator]);

    let source = b.op("Range", &[&zero, length, &one]);
    let first = b.reshape(&first, &[-1, 1]);
    let apart = b.op("Sub", &[&source, &first]); // [side, length]
    let apart = b.cast(&apart, Elem::F32);
    let fraction = b.reshape(&fraction, &[-1, 1]);
    let apart = b.op("Sub", &[&apart, &fraction]);
    let apart = b.op("Abs", &[&apart]);
    let (length, out) = (b.cast(length, Elem::F32), b.cast(&out, Elem::F32));
    let unit = b.scalar(Elem::F32, 1.0);
    let reach = b.op("Div", &[&length, &out]);
    let reach = b.op("Max", &[&reach, &unit]);
    let share = b.op("Div", &[&apart, &reach]);
    let share = b.op("Sub", &[&unit, &share]);
    let none = b.scalar(Elem::F32, 0.0);
    let share = b.op("Max", &[&share, &none]);
    let axis = b.ints(&[1]);
    let sum = b.op_with("ReduceSum", &[&share, &axis], &[("keepdims", Attr::Int(1))]);
    let share = b.op("Div", &[&share, &sum]);

    // The largest power of two that leaves the largest weight below 2^15.
    let largest = b.op_with("ReduceMax", &[&share], &[("keepdims", Attr::Int(0))]);
    let powers: Vec<f32> = (1..=MOST_DIGITS).map(|digits| (1u32 << digits) as f32).collect();
    let powers = b.constant(&[powers.len()], &powers);
    let scaled = b.op("Mul", &[&powers, &largest]);
    let scaled = b.op("Round", &[&scaled]);
    let limit = b.scalar(Elem::F32, LARGEST);
    let fits = b.op("Less", &[&scaled, &limit]);
    let fits = b.cast(&fits, Elem::F32);
    let fitting = b.op("Mul", &[&powers, &fits]);
    let unit = b.op_with("ReduceMax", &[&fitting], &[("keepdims", Attr::Int(0))]);
    let weights = b.op("Mul", &[&share, &unit]);
    Taps { weights: b.op("Round", &[&weights]), unit }
}
