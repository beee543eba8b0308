//! Depthwise convolutions.

use crate::plan::ConvInfo;

use super::super::sources::DEPTHWISE;
use super::super::tensor::common_vector;
use super::super::{CudaError, Stream, Tensor};
use super::dense::Behind;
use super::executor::Executor;
use super::layout::pixels_of;
use super::structures::DepthwiseProblem;

/// Output pixels of a row that one thread has: `STRIP` in depthwise.cu.
const STRIP: usize = 4;

fn problem(info: &ConvInfo) -> DepthwiseProblem {
    let g = &info.geometry;
    let ([n, h, w, c], [_, oh, ow, _]) = (info.input, info.output);
    DepthwiseProblem {
        n: n as i32,
        h: h as i32,
        w: w as i32,
        oh: oh as i32,
        ow: ow as i32,
        channels: c as i32,
        kh: g.kernel.0 as i32,
        kw: g.kernel.1 as i32,
        stride_y: g.stride.0 as i32,
        stride_x: g.stride.1 as i32,
        pad_y: g.pad[0] as i32,
        pad_x: g.pad[1] as i32,
        ..DepthwiseProblem::default()
    }
}

impl Executor {
    /// y (+)= act(conv(x) + bias) + residual; `weights`: address of float32 `[taps][channels]`.
    pub(super) fn depthwise(
        &self,
        stream: &Stream,
        info: &ConvInfo,
        weights: u64,
        x: Tensor,
        y: Tensor,
        behind: &Behind,
    ) -> Result<(), CudaError> {
        let p = DepthwiseProblem {
            xs: x.pixel_stride as i64,
            ys: y.pixel_stride as i64,
            rs: behind.residual.map_or(0, |r| r.pixel_stride as i64),
            activation: behind.activation as i32,
            add: i32::from(behind.add),
            ..problem(info)
        };
        self.windows(stream, &p, weights, x, y, behind)?;
        behind.stats.map_or(Ok(()), |finish| self.norm_stats(stream, y, finish))
    }

    fn windows(
        &self,
        stream: &Stream,
        p: &DepthwiseProblem,
        weights: u64,
        x: Tensor,
        y: Tensor,
        behind: &Behind,
    ) -> Result<(), CudaError> {
        let mut tensors = vec![&x, &y];
        tensors.extend(&behind.residual);
        let v = common_vector(&tensors);
        let square = p.kh == p.kw && p.stride_y == p.stride_x;
        let special = square && v > 1 && matches!((p.kh, p.stride_y), (3 | 5, 1 | 2) | (7, 1));
        let (k, s) = if special { (p.kh, p.stride_y) } else { (0, 0) };
        let name = format!("depthwise_{k}_{s}_{}_{v}", self.precision.name());
        let kernel = self.kernels.get(&DEPTHWISE, &name)?;
        let items = (p.n * p.oh) as usize * (p.ow as usize).div_ceil(STRIP) * (p.channels as usize / v);
        let (from, to) = (x.address, y.address);
        let residual = behind.residual.map_or(0, |r| r.address);
        let bias = behind.bias;
        let arguments =
            [(&from).into(), (&to).into(), (&residual).into(), (&weights).into(), (&bias).into(), p.into()];
        // SAFETY: the kernel's arguments; the views lie in the arena and `v` fits them.
        unsafe { kernel.launch(stream, [grid(items, 128), 1, 1], [128, 1, 1], 0, &arguments) }
    }

    /// dx (+)= the gradient of the input.
    pub(super) fn depthwise_data_grad(
        &self,
        stream: &Stream,
        info: &ConvInfo,
        weights: u64,
        dy: Tensor,
        dx: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let p = problem(info);
        let g = &info.geometry;
        if g.stride == (1, 1) && g.pad[0] < g.kernel.0 && g.pad[1] < g.kernel.1 {
            let turned = DepthwiseProblem {
                h: p.oh,
                w: p.ow,
                oh: p.h,
                ow: p.w,
                pad_y: p.kh - 1 - p.pad_y,
                pad_x: p.kw - 1 - p.pad_x,
                xs: dy.pixel_stride as i64,
                ys: dx.pixel_stride as i64,
                add: i32::from(add),
                flipped: 1,
                ..p
            };
            let behind = Behind {
                bias: 0,
                activation: crate::graph::Activation::Identity,
                residual: None,
                stats: None,
                add,
            };
            return self.windows(stream, &turned, weights, dy, dx, &behind);
        }
        let p = DepthwiseProblem {
            xs: dx.pixel_stride as i64,
            ys: dy.pixel_stride as i64,
            add: i32::from(add),
            ..p
        };
        let v = common_vector(&[&dy, &dx]);
        let groups = info.input[3] / v;
        let strips = v > 1 && p.kh == p.kw && matches!(p.kh, 3 | 5) && g.stride == (2, 2);
        let (name, items) = if strips {
            let [n, h, w, _] = info.input;
            (format!("depthwise_data_grad_{}_{}", p.kh, p.pad_x & 1), n * h * w.div_ceil(STRIP) * groups)
        } else {
            ("depthwise_scatter".to_owned(), pixels_of(info.input) * groups)
        };
        let kernel = self.kernels.get(&DEPTHWISE, &format!("{name}_{}_{v}", self.precision.name()))?;
        let (from, to) = (dy.address, dx.address);
        let arguments = [(&from).into(), (&to).into(), (&weights).into(), (&p).into()];
        // SAFETY: as above.
        unsafe { kernel.launch(stream, [grid(items, 128), 1, 1], [128, 1, 1], 0, &arguments) }
    }

    /// The weight's gradient, to `out` in the gradients.
    pub(super) fn depthwise_weight_grad(
        &self,
        stream: &Stream,
        info: &ConvInfo,
        x: Tensor,
        dy: Tensor,
        out: u64,
    ) -> Result<(), CudaError> {
        let p = DepthwiseProblem { xs: x.pixel_stride as i64, ys: dy.pixel_stride as i64, ..problem(info) };
        let (v, g) = (common_vector(&[&x, &dy]), &info.geometry);
        let strips = v > 1 && p.kh == p.kw && matches!(p.kh, 3 | 5) && matches!(g.stride, (1, 1) | (2, 2));
        let (name, items) = if strips {
            let [n, oh, ow, _] = info.output;
            (format!("{}_{}", p.kh, p.stride_y), n * oh * ow.div_ceil(STRIP))
        } else {
            (if p.kw <= 3 { "3".into() } else { "7".into() }, pixels_of(info.output).div_ceil(4))
        };
        let name = format!("depthwise_weight_grad_{name}_{}_{v}", self.precision.name());
        let kernel = self.kernels.get(&DEPTHWISE, &name)?;
        let groups = info.input[3] / v;
        let rows = 256 / groups.min(8);
        let columns = groups.div_ceil(8);
        let len = (p.kh * p.kw) as usize * info.input[3];
        let pixels = pixels_of(info.output);
        let processors = self.device.info().processors as usize;
        let wanted = (4 * processors).div_ceil(columns * p.kh as usize);
        let most = super::tiles::split_floats(len, pixels) / len;
        let blocks = items.div_ceil(rows).min(wanted).min(most).max(1);
        let partials = if blocks == 1 { out } else { self.splits() };
        let (from, grads) = (x.address, dy.address);
        let arguments = [(&from).into(), (&grads).into(), (&partials).into(), (&p).into()];
        let grid = [blocks as u32, columns as u32, p.kh as u32];
        // SAFETY: as above; the partial results have room for `most` splits.
        unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &arguments)? };
        if blocks > 1 { self.reduce_splits(stream, out, blocks, len) } else { Ok(()) }
    }
}

/// Blocks of `threads` for `items`, each with one at least.
pub(super) fn grid(items: usize, threads: usize) -> u32 {
    items.div_ceil(threads).clamp(1, 1 << 20) as u32
}
