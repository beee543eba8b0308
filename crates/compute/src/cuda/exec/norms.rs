//! Batch norm with what is behind it, and other sums over pixels.

use crate::graph::Activation;

use super::super::sources::NORM;
use super::super::tensor::common_vector;
use super::super::{CudaError, Precision, Stream, Tensor};
use super::executor::Executor;
use super::layout::MAX_SUM_BLOCKS;
use super::structures::NormFinish;

/// Threads of a block in norm.cu, groups of channels of a block.
const THREADS: usize = 256;
const LANES: usize = 8;
/// Pixels that a thread takes, where there are many.
const DEEP: usize = 4;

impl Executor {
    /// Blocks `[x, y]` of a kernel that sums over pixels.
    fn sum_grid(&self, pixels: usize, channels: usize, v: usize) -> [u32; 3] {
        let groups = channels / v;
        let rows = THREADS / groups.min(LANES);
        let columns = groups.div_ceil(LANES);
        let most = (4 * self.device.info().processors as usize / columns).clamp(1, MAX_SUM_BLOCKS);
        [pixels.div_ceil(rows * DEEP).clamp(1, most) as u32, columns as u32, 1]
    }

    fn apply_grid(&self, pixels: usize, channels: usize, v: usize) -> [u32; 3] {
        let lanes = (channels / v).min(THREADS);
        let rows = THREADS / lanes;
        let most = 8 * self.device.info().processors as usize;
        [pixels.div_ceil(rows * DEEP).clamp(1, most) as u32, (channels / v).div_ceil(lanes) as u32, 1]
    }

    fn norm_kernel(
        &self,
        which: &str,
        activation: Activation,
        v: usize,
    ) -> Result<super::super::Kernel, CudaError> {
        let special = self.precision == Precision::Bf16 && v == 8;
        let kind = match activation {
            Activation::Identity if special => "identity",
            Activation::Silu if special => "silu",
            _ => "any",
        };
        self.kernels.get(&NORM, &format!("{which}_{kind}_{}_{v}", self.precision.name()))
    }

    /// The batch statistics of z.
    pub(super) fn norm_stats(
        &self,
        stream: &Stream,
        z: Tensor,
        finish: &NormFinish,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&z]);
        let kernel = self.kernels.get(&NORM, &format!("norm_stats_{}_{v}", self.precision.name()))?;
        let (from, stride) = (z.address, z.pixel_stride as i64);
        let (pixels, channels) = (z.pixels() as i32, z.channels() as i32);
        let (partials, counters) = self.scratch(stream);
        let arguments = [
            (&from).into(),
            (&stride).into(),
            (&pixels).into(),
            (&channels).into(),
            (&partials).into(),
            (&counters).into(),
            finish.into(),
        ];
        let grid = self.sum_grid(z.pixels(), z.channels(), v);
        // SAFETY: the kernel's arguments; z lies in the arena, the tables have room for the norm.
        unsafe { kernel.launch(stream, grid, [THREADS as u32, 1, 1], 0, &arguments) }
    }

    /// y = act(z * scale + shift) + residual.
    pub(super) fn norm_apply(
        &self,
        stream: &Stream,
        z: Tensor,
        y: Tensor,
        residual: Option<Tensor>,
        affine: u64,
        activation: Activation,
    ) -> Result<(), CudaError> {
        let mut tensors = vec![&z, &y];
        tensors.extend(&residual);
        let v = common_vector(&tensors);
        let kernel = self.norm_kernel("norm_apply", activation, v)?;
        let (from, from_stride) = (z.address, z.pixel_stride as i64);
        let (to, to_stride) = (y.address, y.pixel_stride as i64);
        let (other, other_stride) = residual.map_or((0u64, 0i64), |r| (r.address, r.pixel_stride as i64));
        let (pixels, channels) = (z.pixels() as i32, z.channels() as i32);
        let kind = activation as i32;
        let arguments = [
            (&from).into(),
            (&from_stride).into(),
            (&to).into(),
            (&to_stride).into(),
            (&other).into(),
            (&other_stride).into(),
            (&pixels).into(),
            (&channels).into(),
            (&affine).into(),
            (&kind).into(),
        ];
        let grid = self.apply_grid(z.pixels(), z.channels(), v);
        // SAFETY: as above.
        unsafe { kernel.launch(stream, grid, [THREADS as u32, 1, 1], 0, &arguments) }
    }

    /// From dy = dL/d(act(norm(z))) to dz (+)=, and where `finish` names them the gradients of scale and shift.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn norm_grad(
        &self,
        stream: &Stream,
        z: Tensor,
        dy: Tensor,
        dz: Tensor,
        add: bool,
        activation: Activation,
        finish: &NormFinish,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&z, &dy, &dz]);
        let (from, from_stride) = (z.address, z.pixel_stride as i64);
        let (grads, grads_stride) = (dy.address, dy.pixel_stride as i64);
        let (to, to_stride) = (dz.address, dz.pixel_stride as i64);
        let (pixels, channels) = (z.pixels() as i32, z.channels() as i32);
        let (partials, counters) = self.scratch(stream);
        let (kind, add) = (activation as i32, i32::from(add));
        let sums = finish.batch_stats != 0 || finish.d_gamma != 0;
        if sums {
            let kernel = self.norm_kernel("norm_grad_sums", activation, v)?;
            let arguments = [
                (&from).into(),
                (&from_stride).into(),
                (&grads).into(),
                (&grads_stride).into(),
                (&pixels).into(),
                (&channels).into(),
                (&partials).into(),
                (&counters).into(),
                finish.into(),
                (&kind).into(),
            ];
            let grid = self.sum_grid(z.pixels(), z.channels(), v);
            // SAFETY: as above.
            unsafe { kernel.launch(stream, grid, [THREADS as u32, 1, 1], 0, &arguments)? };
        }
        let kernel = self.norm_kernel("norm_grad_apply", activation, v)?;
        let coefficients = if finish.batch_stats != 0 { finish.coefficients } else { 0 };
        let arguments = [
            (&from).into(),
            (&from_stride).into(),
            (&grads).into(),
            (&grads_stride).into(),
            (&to).into(),
            (&to_stride).into(),
            (&pixels).into(),
            (&channels).into(),
            (&finish.affine).into(),
            (&finish.mean).into(),
            (&coefficients).into(),
            (&add).into(),
            (&kind).into(),
        ];
        let grid = self.apply_grid(z.pixels(), z.channels(), v);
        // SAFETY: as above; each thread reads its pixels before it writes them, so dz may be dy's place.
        unsafe { kernel.launch(stream, grid, [THREADS as u32, 1, 1], 0, &arguments) }
    }

    /// out = the sums over pixels of x, or of x * y.
    pub(super) fn sums(
        &self,
        stream: &Stream,
        x: Tensor,
        y: Option<Tensor>,
        out: u64,
    ) -> Result<(), CudaError> {
        let mut tensors = vec![&x];
        tensors.extend(&y);
        let v = common_vector(&tensors);
        let kernel = self.kernels.get(&NORM, &format!("sums_{}_{v}", self.precision.name()))?;
        let (from, stride) = (x.address, x.pixel_stride as i64);
        let (other, other_stride) = y.map_or((0u64, 0i64), |y| (y.address, y.pixel_stride as i64));
        let (pixels, channels) = (x.pixels() as i32, x.channels() as i32);
        let (partials, counters) = self.scratch(stream);
        let arguments = [
            (&from).into(),
            (&stride).into(),
            (&other).into(),
            (&other_stride).into(),
            (&pixels).into(),
            (&channels).into(),
            (&partials).into(),
            (&counters).into(),
            (&out).into(),
        ];
        let grid = self.sum_grid(x.pixels(), x.channels(), v);
        // SAFETY: as above; `out` has room for the channels.
        unsafe { kernel.launch(stream, grid, [THREADS as u32, 1, 1], 0, &arguments) }
    }
}
