//! Dense convolutions: which kernel, with which grid.

use crate::graph::Activation;
use crate::plan::ConvInfo;

use super::super::sources::{CONV, CONV_TF32, PREPARE, SIMPLE, WEIGHT_GRAD, WEIGHT_GRAD_TF32};
use super::super::{CudaError, Precision, Stream, Tensor};
use super::executor::Executor;
use super::layout::{classes, pixels_of};
use super::structures::{ConvClass, ConvProblem, MAX_CLASSES, NormFinish, WeightGradProblem, WeightTap};
use super::tiles::{GradShape, GradTile, WAVES, choose_tile, split_floats};
use super::workspace::Part;

/// Channels that inputs of fewer are padded to, so that pixels can be copied at once.
pub(super) const PADDED: usize = 4;
/// Taps of a window at most: conv.cu keeps which of them lie inside the input as the bits of a number.
const MAX_TAPS: usize = 64;

/// A convolution's products: forward, and where the plan asks for it the gradient of its input.
pub(super) struct DenseConv {
    pub forward: ConvProblem,
    pub data_grad: Option<ConvProblem>,
    /// Where the input is padded to [`PADDED`] channels: the first element of the copy.
    pub padded: Option<usize>,
}

/// What a convolution adds to its sums.
pub(super) struct Behind<'a> {
    /// Address of a bias, or 0.
    pub bias: u64,
    pub activation: Activation,
    pub residual: Option<Tensor>,
    /// Where the batch statistics of the result go.
    pub stats: Option<&'a NormFinish>,
    pub add: bool,
}

impl DenseConv {
    /// Takes places for the packed weights from `weights`, for a padded input from `copies`.
    pub fn new(info: &ConvInfo, precision: Precision, weights: &mut usize, copies: &mut usize) -> DenseConv {
        let g = &info.geometry;
        let ([_, h, w, c], [_, oh, ow, out]) = (info.input, info.output);
        let padded = (precision == Precision::Bf16 && c < PADDED).then(|| {
            let at = *copies;
            *copies += pixels_of(info.input) * PADDED;
            at
        });
        let channels = if padded.is_some() { PADDED } else { c };
        let mut take = |rows: usize, inner: usize| {
            let padded = inner.next_multiple_of(8);
            let at = *weights;
            *weights += rows * padded;
            (at as i32, padded as i32)
        };
        let inner = g.kernel.0 * g.kernel.1 * channels;
        let (at, row) = take(out, inner);
        let mut forward = ConvProblem {
            h: h as i32,
            width: w as i32,
            cin: channels as i32,
            oh: oh as i32,
            ow: ow as i32,
            out: out as i32,
            stride_y: g.stride.0 as i32,
            stride_x: g.stride.1 as i32,
            step_y: 1,
            step_x: 1,
            total: pixels_of(info.output) as i32,
            ..ConvProblem::default()
        };
        forward.classes[0] = ConvClass {
            taps_y: g.kernel.0 as i32,
            taps_x: g.kernel.1 as i32,
            base_y: -(g.pad[0] as i32),
            base_x: -(g.pad[1] as i32),
            grid_h: oh as i32,
            grid_w: ow as i32,
            weights: at,
            inner: inner as i32,
            padded: row,
            pixels: pixels_of(info.output) as i32,
            ..ConvClass::default()
        };
        let data_grad = info.data_grad.then(|| {
            let mut grad = ConvProblem {
                h: oh as i32,
                width: ow as i32,
                cin: out as i32,
                oh: h as i32,
                ow: w as i32,
                out: c as i32,
                stride_y: 1,
                stride_x: 1,
                step_y: g.stride.0 as i32,
                step_x: g.stride.1 as i32,
                total: pixels_of(info.input) as i32,
                ..ConvProblem::default()
            };
            for py in 0..g.stride.0 {
                for px in 0..g.stride.1 {
                    let (y, x) = (
                        Phase::new(py, g.kernel.0, g.stride.0, g.pad[0], h),
                        Phase::new(px, g.kernel.1, g.stride.1, g.pad[1], w),
                    );
                    let inner = y.taps * x.taps * out;
                    let (at, padded) = take(c, inner);
                    grad.classes[py * g.stride.1 + px] = ConvClass {
                        taps_y: y.taps as i32,
                        taps_x: x.taps.max(1) as i32,
                        base_y: y.base,
                        base_x: x.base,
                        grid_h: y.grid as i32,
                        grid_w: x.grid as i32,
                        phase_y: py as i32,
                        phase_x: px as i32,
                        weights: at,
                        inner: inner as i32,
                        padded,
                        pixels: (info.input[0] * y.grid * x.grid) as i32,
                    };
                }
            }
            grad
        });
        DenseConv { forward, data_grad, padded }
    }

    /// Appends the packing of each tap of the weight at `from` in the parameters.
    pub fn taps(
        &self,
        info: &ConvInfo,
        from: usize,
        scale: Option<usize>,
        taps: &mut Vec<WeightTap>,
        tiles: &mut usize,
    ) {
        let g = &info.geometry;
        let (c, out) = (info.input[3], info.output[3]);
        let forward = &self.forward.classes[0];
        for (ky, kx) in (0..g.kernel.0).flat_map(|ky| (0..g.kernel.1).map(move |kx| (ky, kx))) {
            let tap = ky * g.kernel.1 + kx;
            let (backward, backward_pitch) = self.data_grad.as_ref().map_or((-1, 0), |grad| {
                let y = Phase::of_tap(ky, g.kernel.0, g.stride.0, g.pad[0]);
                let x = Phase::of_tap(kx, g.kernel.1, g.stride.1, g.pad[1]);
                let class = &grad.classes[y.0 * g.stride.1 + x.0];
                (class.weights + ((y.1 as i32 * class.taps_x) + x.1 as i32) * out as i32, class.padded)
            });
            taps.push(WeightTap {
                from: (from + tap * c * out) as i32,
                inputs: c as i32,
                out: out as i32,
                scale: scale.map_or(-1, |at| at as i32),
                forward: forward.weights + tap as i32 * self.forward.cin,
                forward_pitch: forward.padded,
                backward,
                backward_pitch,
                first_tile: *tiles as i32,
            });
            *tiles += c.div_ceil(32) * out.div_ceil(32);
        }
    }
}

/// One axis of a class of the data gradient: input positions `step * i + phase`. They see the taps `first + step * j`, and
/// tap number `t` in falling order at output position `i + base + t`.
struct Phase {
    taps: usize,
    base: i32,
    grid: usize,
}

impl Phase {
    fn new(phase: usize, kernel: usize, step: usize, pad: usize, size: usize) -> Phase {
        let first = (phase + pad) % step;
        let taps = if first < kernel { (kernel - 1 - first) / step + 1 } else { 0 };
        let base = ((phase + pad - first) / step) as i32 - taps as i32 + 1;
        Phase { taps, base, grid: size.saturating_sub(phase).div_ceil(step) }
    }

    /// Of a tap: the phase that sees it, and its number there.
    fn of_tap(k: usize, kernel: usize, step: usize, pad: usize) -> (usize, usize) {
        let first = k % step;
        let phase = (first + step * pad - pad) % step;
        let taps = (kernel - 1 - first) / step + 1;
        (phase, taps - 1 - k / step)
    }
}

impl Executor {
    /// y (+)= act(conv(x) + bias) + residual, for one of a convolution's problems.
    pub(super) fn dense(
        &self,
        stream: &Stream,
        problem: &ConvProblem,
        count: usize,
        x: Tensor,
        y: Tensor,
        behind: &Behind,
    ) -> Result<(), CudaError> {
        let p = ConvProblem {
            x: x.address,
            w: self.weights.address(),
            y: y.address,
            bias: behind.bias,
            residual: behind.residual.map_or(0, |r| r.address),
            xs: x.pixel_stride as i32,
            ys: y.pixel_stride as i32,
            rs: behind.residual.map_or(0, |r| r.pixel_stride as i32),
            activation: behind.activation as i32,
            add: i32::from(behind.add),
            ..*problem
        };
        let most = p.classes[..count].iter().map(|class| class.pixels as usize).max().unwrap_or(0);
        let out = p.out as usize;
        let taps = p.classes[..count].iter().map(|class| class.taps_y * class.taps_x).max().unwrap_or(0);
        if self.precision == Precision::Float32 || taps as usize > MAX_TAPS {
            let kernel = self.kernels.get(&SIMPLE, &format!("simple_conv_{}", self.precision.name()))?;
            let grid = [most.div_ceil(64) as u32, out.div_ceil(64) as u32, count as u32];
            // SAFETY: simple.cu's `ConvProblem`; the views lie in the arena, the weights are packed.
            unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &[(&p).into()])? };
            return behind.stats.map_or(Ok(()), |finish| self.norm_stats(stream, y, finish));
        }
        let vectors: &[usize] = if self.precision == Precision::Tf32 { &[4] } else { &[8, 4] };
        let vector = vectors.iter().copied().find(|&v| x.allows(v)).unwrap_or(1);
        let processors = self.device.info().processors as usize;
        let inner = p.classes[..count].iter().map(|class| class.inner as usize).max().unwrap_or(0);
        let tile = choose_tile(most, out, (inner, count), (vector, self.precision), processors);
        let source = if self.precision == Precision::Tf32 { &CONV_TF32 } else { &CONV };
        let kernel = self.kernels.get(source, &tile.name(self.precision))?;
        kernel.allow_shared(tile.shared())?;
        let columns = out.div_ceil(tile.columns);
        let mut blocks = most.div_ceil(tile.rows);
        let mut p = p;
        if let Some(finish) = behind.stats {
            let resident = kernel.blocks_per_processor(tile.threads, tile.shared())? as usize * processors;
            blocks = blocks.min((resident / columns).clamp(1, super::layout::MAX_SUM_BLOCKS));
            (p.partials, p.tickets) = self.scratch(stream);
            (p.mean, p.var, p.gamma, p.beta) = (finish.mean, finish.var, finish.gamma, finish.beta);
            (p.affine, p.eps) = (finish.affine, finish.eps);
        }
        let grid = [blocks as u32, columns as u32, count as u32];
        // SAFETY: conv.cu's `ConvProblem`; the views lie in the arena, the weights are packed, `vector` fits x.
        unsafe { kernel.launch(stream, grid, [tile.threads, 1, 1], tile.shared(), &[(&p).into()]) }
    }

    /// An input of few channels padded to [`PADDED`], where the convolution reads it so. `copy`: whether to make the copy.
    pub(super) fn padded(
        &self,
        stream: &Stream,
        dense: &DenseConv,
        x: Tensor,
        copy: bool,
    ) -> Result<Tensor, CudaError> {
        let Some(at) = dense.padded else { return Ok(x) };
        let address = self.workspace.address_of(Part::Copies, at * self.precision.bytes());
        if copy {
            let kernel = self.kernels.get(&PREPARE, "pad_channels_bf16")?;
            let (stride, channels, pixels) = (x.pixel_stride as i64, x.channels() as i32, x.pixels() as i32);
            let arguments = [
                (&x.address).into(),
                (&stride).into(),
                (&address).into(),
                (&channels).into(),
                (&pixels).into(),
            ];
            let grid = super::depthwise::grid(x.pixels(), 256);
            // SAFETY: the kernel's arguments; the copy has room for its convolution's input.
            unsafe { kernel.launch(stream, [grid, 1, 1], [256, 1, 1], 0, &arguments)? };
        }
        let [n, h, w, _] = x.shape;
        Ok(Tensor { address, pixel_stride: PADDED, shape: [n, h, w, PADDED], ..x })
    }

    /// The weight's gradient, to `out` in the gradients (`[kh][kw][in][out]`).
    pub(super) fn dense_weight_grad(
        &self,
        stream: &Stream,
        info: &ConvInfo,
        x: Tensor,
        dy: Tensor,
        out: u64,
    ) -> Result<(), CudaError> {
        let g = &info.geometry;
        let ([_, h, w, real], [_, oh, ow, channels]) = (info.input, info.output);
        let c = x.channels();
        let rows = g.kernel.0 * g.kernel.1 * c;
        let pixels = pixels_of(info.output);
        let len = g.kernel.0 * g.kernel.1 * real * channels;
        let most = split_floats(len, pixels) / len;
        let processors = self.device.info().processors as usize;
        let shape = GradShape { rows, out: channels, len, pixels, most, processors };
        let (tile, waves, name) = if self.precision == Precision::Float32 {
            (GradTile::SIMPLE, WAVES, "simple_weight_grad_float".to_owned())
        } else {
            let (tile, waves, va, vb) = shape.tile(&x, &dy);
            let kind = if self.precision == Precision::Tf32 { "weight_grad_tf32" } else { "weight_grad" };
            (tile, waves, format!("{kind}_{}_{}_{va}_{vb}", tile.rows, tile.columns))
        };
        let (bm, bn) = (tile.rows, tile.columns);
        let source = match self.precision {
            Precision::Bf16 => &WEIGHT_GRAD,
            Precision::Float32 => &SIMPLE,
            Precision::Tf32 => &WEIGHT_GRAD_TF32,
        };
        let kernel = self.kernels.get(source, &name)?;
        kernel.allow_shared(tile.shared())?;
        let (split, splits) = shape.splits(tile, waves);
        let p = WeightGradProblem {
            x: x.address,
            dy: dy.address,
            partials: if splits == 1 { out } else { self.splits() },
            h: h as i32,
            width: w as i32,
            xs: x.pixel_stride as i32,
            cin: c as i32,
            oh: oh as i32,
            ow: ow as i32,
            ys: dy.pixel_stride as i32,
            out: channels as i32,
            taps_x: g.kernel.1 as i32,
            rows: rows as i32,
            pad_y: g.pad[0] as i32,
            pad_x: g.pad[1] as i32,
            stride_y: g.stride.0 as i32,
            stride_x: g.stride.1 as i32,
            pixels: pixels as i32,
            split: split as i32,
            real: real as i32,
        };
        let grid = [rows.div_ceil(bm) as u32, channels.div_ceil(bn) as u32, splits as u32];
        // SAFETY: `WeightGrad` of the kernel's source; the views lie in the arena; the partial results have room.
        unsafe { kernel.launch(stream, grid, [tile.threads, 1, 1], tile.shared(), &[(&p).into()])? };
        if splits > 1 { self.reduce_splits(stream, out, splits, len) } else { Ok(()) }
    }

    /// Adds the partial results `[splits][len]` to `out`.
    pub(super) fn reduce_splits(
        &self,
        stream: &Stream,
        out: u64,
        splits: usize,
        len: usize,
    ) -> Result<(), CudaError> {
        let kernel = self.kernels.get(&WEIGHT_GRAD, "reduce_splits")?;
        let (from, splits, len) = (self.splits(), splits as i32, len as i32);
        let grid = [(len as u32).div_ceil(32), 1, 1];
        let arguments = [(&from).into(), (&out).into(), (&splits).into(), (&len).into()];
        // SAFETY: the kernel's arguments; `out` has room for the parameter.
        unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &arguments) }
    }
}

/// Whether a convolution's data gradient has not too many classes.
pub(super) fn check(info: &ConvInfo) -> Result<(), CudaError> {
    if info.geometry.groups == 1 && info.data_grad && classes(&info.geometry) > MAX_CLASSES {
        return Err(CudaError::Unsupported(format!(
            "a convolution with a step of {:?} that gradients pass",
            info.geometry.stride
        )));
    }
    Ok(())
}
