//! Convolutions and pooling.

use rayon::prelude::*;

use super::gemm::{Number, Packed};
use super::window::Axis;
use super::{Data, Step, broken};
use crate::export::proof::ProofError;
use crate::export::tflite::schema::{Fused, Op, Options, Padding};

/// Rows and columns of a window over an input `[n, h, w, c]`.
struct Geometry {
    images: usize,
    rows: Axis,
    columns: Axis,
    kernel: (usize, usize),
    channels: usize,
}

impl Geometry {
    fn new(
        [n, h, w, c]: [usize; 4],
        kernel: (usize, usize),
        stride: (usize, usize),
        padding: Padding,
    ) -> Self {
        Geometry {
            images: n,
            rows: Axis::new(h, kernel.0, stride.0, padding),
            columns: Axis::new(w, kernel.1, stride.1, padding),
            kernel,
            channels: c,
        }
    }

    /// The values under the windows of one row of outputs: `[columns, kh * kw * c]`, zeros beyond the borders.
    fn patches<S: Copy, T: Number>(&self, x: &[S], row: usize, widen: impl Fn(S) -> T) -> Vec<T> {
        let c = self.channels;
        let (image, row) = (row / self.rows.output, row % self.rows.output);
        let len = self.kernel.0 * self.kernel.1 * c;
        let mut out = vec![T::default(); self.columns.output * len];
        for (column, patch) in out.chunks_exact_mut(len).enumerate() {
            for (ky, y) in self.rows.taps(row) {
                for (kx, at) in self.columns.taps(column) {
                    let from = ((image * self.rows.input + y) * self.columns.input + at) * c;
                    let to = (ky * self.kernel.1 + kx) * c;
                    for (to, &from) in patch[to..to + c].iter_mut().zip(&x[from..from + c]) {
                        *to = widen(from);
                    }
                }
            }
        }
        out
    }

    /// Sums of products of one row of outputs, a kernel `[kh * kw, c]` that each channel has to itself.
    fn depthwise<S: Copy, T: Number>(
        &self,
        x: &[S],
        kernel: &[T],
        row: usize,
        widen: impl Fn(S) -> T,
    ) -> Vec<T> {
        let c = self.channels;
        let (image, row) = (row / self.rows.output, row % self.rows.output);
        let mut out = vec![T::default(); self.columns.output * c];
        for (column, sums) in out.chunks_exact_mut(c).enumerate() {
            for (ky, y) in self.rows.taps(row) {
                for (kx, at) in self.columns.taps(column) {
                    let from = ((image * self.rows.input + y) * self.columns.input + at) * c;
                    let taps = &kernel[(ky * self.kernel.1 + kx) * c..][..c];
                    for ((sum, &x), &w) in sums.iter_mut().zip(&x[from..from + c]).zip(taps) {
                        *sum += widen(x) * w;
                    }
                }
            }
        }
        out
    }
}

impl Step<'_> {
    pub(super) fn convolution(&self) -> Result<Data, ProofError> {
        let (padding, stride, fused) = match self.operator.options {
            Options::Conv { padding, stride, fused } | Options::Depthwise { padding, stride, fused } => {
                (padding, stride, fused)
            }
            _ => return Err(broken("a convolution without its options")),
        };
        let depthwise = self.operator.op == Op::DepthwiseConv2d;
        let (from, kernel) = (self.shape4(0)?, self.shape4(1)?);
        let [filters, kh, kw, last] = kernel;
        let channels = if depthwise { last } else { filters };
        if last != from[3] || (depthwise && filters != 1) || self.shape(2)? != [channels] {
            return Err(broken(format!("a kernel of {kernel:?} over {from:?}")));
        }
        let g = Geometry::new(from, (kh, kw), stride, padding);
        if self.output_shape() != [g.images, g.rows.output, g.columns.output, channels] {
            return Err(broken(format!("a convolution's output is {:?}", self.output_shape())));
        }
        match (self.data(0)?, self.data(1)?) {
            (Data::F32(x), Data::F32(w)) => {
                let bias = self.floats(2)?;
                let cut = |v: f32| match fused {
                    Fused::None => v,
                    Fused::Relu => v.max(0.0),
                    Fused::Relu6 => v.clamp(0.0, 6.0),
                };
                let finish = |o: usize, sum: f32| cut(sum + bias[o]);
                Ok(Data::F32(compute(&g, depthwise, (x, |v| v), (w, |v| v), channels, finish)))
            }
            (Data::I8(x), Data::I8(w)) => {
                let bias = self.data(2)?.whole()?;
                let ((input, zero), (output, rest)) =
                    (self.input_steps(0)?, self.steps(self.output_tensor())?);
                let weights = &self.file.model.tensors[self.tensor(1)?];
                let axis = if depthwise { 3 } else { 0 };
                let scales = weights
                    .steps
                    .as_ref()
                    .filter(|s| {
                        s.axis == axis && s.scales.len() == channels && s.zeros.iter().all(|&z| z == 0)
                    })
                    .ok_or_else(|| broken(format!("{} has no scale a channel", weights.name)))?;
                let factors: Vec<f64> = scales
                    .scales
                    .iter()
                    .map(|&w| f64::from(input) * f64::from(w) / f64::from(output))
                    .collect();
                let low = if fused == Fused::None { -128 } else { rest.max(-128) };
                let high = match fused {
                    Fused::Relu6 => ((6.0 / output).round() as i32 + rest).min(127),
                    _ => 127,
                };
                let finish = |o: usize, sum: i32| {
                    let steps = f64::from(sum + bias[o]) * factors[o];
                    (steps.round() as i32 + rest).clamp(low, high) as i8
                };
                let shifted = |v: i8| i32::from(v) - zero;
                Ok(Data::I8(compute(&g, depthwise, (x, shifted), (w, i32::from), channels, finish)))
            }
            _ => Err(broken("a convolution of mixed types")),
        }
    }

    pub(super) fn max_pool(&self) -> Result<Data, ProofError> {
        let Options::Pool { padding, stride, kernel } = self.operator.options else {
            return Err(broken("a pooling without its options"));
        };
        let g = Geometry::new(self.shape4(0)?, (kernel, kernel), (stride, stride), padding);
        let (x, c) = (self.floats(0)?, g.channels);
        let mut out = vec![f32::NEG_INFINITY; g.images * g.rows.output * g.columns.output * c];
        for (row, line) in out.chunks_exact_mut((g.columns.output * c).max(1)).enumerate() {
            let (image, row) = (row / g.rows.output, row % g.rows.output);
            for (column, most) in line.chunks_exact_mut(c).enumerate() {
                for (_, y) in g.rows.taps(row) {
                    for (_, at) in g.columns.taps(column) {
                        let from = ((image * g.rows.input + y) * g.columns.input + at) * c;
                        for (most, &v) in most.iter_mut().zip(&x[from..from + c]) {
                            *most = most.max(v);
                        }
                    }
                }
            }
        }
        Ok(Data::F32(out))
    }
}

/// Sums of products at every place, each through `finish(channel, sum)`. Kernels are `[out, kh, kw, in]`, or of a depthwise
/// convolution `[kh, kw, channels]`.
fn compute<S, W, T, R>(
    g: &Geometry,
    depthwise: bool,
    (x, widen): (&[S], impl Fn(S) -> T + Sync),
    (kernel, widen_weight): (&[W], impl Fn(W) -> T),
    channels: usize,
    finish: impl Fn(usize, T) -> R + Sync,
) -> Vec<R>
where
    S: Copy + Sync,
    W: Copy,
    T: Number,
    R: Send,
{
    let rows = g.images * g.rows.output;
    let done = |sums: Vec<T>| -> Vec<R> {
        sums.chunks_exact(channels)
            .flat_map(|pixel| pixel.iter().enumerate().map(|(o, &sum)| finish(o, sum)))
            .collect()
    };
    let lines: Vec<Vec<R>> = if depthwise {
        let kernel: Vec<T> = kernel.iter().map(|&w| widen_weight(w)).collect();
        (0..rows).into_par_iter().map(|row| done(g.depthwise(x, &kernel, row, &widen))).collect()
    } else {
        let inner = kernel.len() / channels;
        let packed = Packed::new(inner, channels, |k, o| widen_weight(kernel[o * inner + k]));
        let line = |row: usize| {
            let patches = g.patches(x, row, &widen);
            let mut sums = vec![T::default(); g.columns.output * packed.columns()];
            packed.rows(&patches, &mut sums);
            done(sums)
        };
        (0..rows).into_par_iter().map(line).collect()
    };
    lines.into_iter().flatten().collect()
}
