//! Copies, sums, activations, pooling, enlargement.

use crate::graph::Activation;

use super::super::sources::ELEMENTWISE;
use super::super::tensor::common_vector;
use super::super::{Argument, CudaError, Stream, Tensor};
use super::depthwise::grid;
use super::executor::Executor;
use super::structures::Image;
use super::workspace::Part;

/// A window of a pooling.
#[derive(Clone, Copy)]
pub(super) struct Pool {
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

fn image(large: &Tensor, small: &Tensor, v: usize) -> Image {
    let [n, h, w, c] = large.shape;
    let [_, oh, ow, _] = small.shape;
    Image {
        n: n as i32,
        h: h as i32,
        w: w as i32,
        oh: oh as i32,
        ow: ow as i32,
        groups: (c / v) as i32,
        xs: large.pixel_stride as i64,
        ys: small.pixel_stride as i64,
        ..Image::default()
    }
}

impl Executor {
    /// Launches a kernel of elementwise.cu for `items` groups of channels.
    ///
    /// # Safety
    /// As `Kernel::launch`.
    unsafe fn elementwise(
        &self,
        stream: &Stream,
        name: &str,
        v: usize,
        items: usize,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        let kernel = self.kernels.get(&ELEMENTWISE, &format!("{name}_{}_{v}", self.precision.name()))?;
        // SAFETY: the caller's promise.
        unsafe { kernel.launch(stream, [grid(items, 256), 1, 1], [256, 1, 1], 0, arguments) }
    }

    /// y = x (+ z) (+ y).
    pub(super) fn sum(
        &self,
        stream: &Stream,
        x: Tensor,
        z: Option<Tensor>,
        y: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let mut tensors = vec![&x, &y];
        tensors.extend(&z);
        let v = common_vector(&tensors);
        let (xs, ys) = (x.pixel_stride as i64, y.pixel_stride as i64);
        let (other, zs) = z.map_or((0u64, 0i64), |z| (z.address, z.pixel_stride as i64));
        let (pixels, groups, add) = (x.pixels() as i32, (x.channels() / v) as i32, i32::from(add));
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&other).into(),
            (&zs).into(),
            (&y.address).into(),
            (&ys).into(),
            (&pixels).into(),
            (&groups).into(),
            (&add).into(),
        ];
        // SAFETY: the kernel's arguments; the views lie in the arena and `v` fits them.
        unsafe { self.elementwise(stream, "sum", v, x.pixels() * (x.channels() / v), &arguments) }
    }

    pub(super) fn zero(&self, stream: &Stream, y: Tensor) -> Result<(), CudaError> {
        let v = common_vector(&[&y]);
        let ys = y.pixel_stride as i64;
        let (pixels, groups) = (y.pixels() as i32, (y.channels() / v) as i32);
        let arguments = [(&y.address).into(), (&ys).into(), (&pixels).into(), (&groups).into()];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "zero", v, y.pixels() * (y.channels() / v), &arguments) }
    }

    /// y = act(x), or where dy is given y (+)= dy * act'(x).
    pub(super) fn activation(
        &self,
        stream: &Stream,
        x: Tensor,
        dy: Option<Tensor>,
        y: Tensor,
        activation: Activation,
        add: bool,
    ) -> Result<(), CudaError> {
        let mut tensors = vec![&x, &y];
        tensors.extend(&dy);
        let v = common_vector(&tensors);
        let (xs, ys) = (x.pixel_stride as i64, y.pixel_stride as i64);
        let (other, ds) = dy.map_or((0u64, 0i64), |d| (d.address, d.pixel_stride as i64));
        let (pixels, groups) = (x.pixels() as i32, (x.channels() / v) as i32);
        let (kind, add) = (activation as i32, i32::from(add));
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&other).into(),
            (&ds).into(),
            (&y.address).into(),
            (&ys).into(),
            (&pixels).into(),
            (&groups).into(),
            (&kind).into(),
            (&add).into(),
        ];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "activation", v, x.pixels() * (x.channels() / v), &arguments) }
    }

    /// y (+)= x * scale; `scale`: address of float32, one a channel.
    pub(super) fn scale_channels(
        &self,
        stream: &Stream,
        x: Tensor,
        scale: u64,
        y: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &y]);
        let (xs, ys) = (x.pixel_stride as i64, y.pixel_stride as i64);
        let (pixels, groups, add) = (x.pixels() as i32, (x.channels() / v) as i32, i32::from(add));
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&scale).into(),
            (&y.address).into(),
            (&ys).into(),
            (&pixels).into(),
            (&groups).into(),
            (&add).into(),
        ];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "scale_channels", v, x.pixels() * (x.channels() / v), &arguments) }
    }

    /// y (+)= x * factors; factors is `[n, 1, 1, c]`.
    pub(super) fn gate(
        &self,
        stream: &Stream,
        x: Tensor,
        factors: Tensor,
        y: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &factors, &y]);
        let [xs, fs, ys] = [&x, &factors, &y].map(|t| t.pixel_stride as i64);
        let [_, h, w, channels] = x.shape;
        let (pixels, per_image, groups) = (x.pixels() as i32, (h * w) as i32, (channels / v) as i32);
        let add = i32::from(add);
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&factors.address).into(),
            (&fs).into(),
            (&y.address).into(),
            (&ys).into(),
            (&pixels).into(),
            (&per_image).into(),
            (&groups).into(),
            (&add).into(),
        ];
        // SAFETY: the kernel's arguments; the views lie in the arena and `v` fits them.
        unsafe { self.elementwise(stream, "gate", v, x.pixels() * (channels / v), &arguments) }
    }

    /// d_factors (+)= the sums of x * dy over each image's pixels.
    pub(super) fn gate_factors_grad(
        &self,
        stream: &Stream,
        x: Tensor,
        dy: Tensor,
        d_factors: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &dy, &d_factors]);
        let [xs, ds, fs] = [&x, &dy, &d_factors].map(|t| t.pixel_stride as i64);
        let [n, h, w, channels] = x.shape;
        let (per_image, groups, add) = ((h * w) as i32, (channels / v) as i32, i32::from(add));
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&dy.address).into(),
            (&ds).into(),
            (&d_factors.address).into(),
            (&fs).into(),
            (&per_image).into(),
            (&groups).into(),
            (&add).into(),
        ];
        let kernel =
            self.kernels.get(&ELEMENTWISE, &format!("gate_factors_grad_{}_{v}", self.precision.name()))?;
        let grid = [(channels / v).div_ceil(8) as u32, n as u32, 1];
        // SAFETY: as above.
        unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &arguments) }
    }

    /// Of each of `heads` groups of x's channels those from `start` on to y; with `back` added from y to x.
    pub(super) fn gather_heads(
        &self,
        stream: &Stream,
        x: Tensor,
        y: Tensor,
        heads: usize,
        start: usize,
        back: bool,
    ) -> Result<(), CudaError> {
        let (group, len) = (x.channels() / heads, y.channels() / heads);
        let vector = self.precision.vector();
        let even = [group, start, len].iter().all(|n| n.is_multiple_of(vector));
        let v = if even { common_vector(&[&x, &y]) } else { 1 };
        let (xs, ys) = (x.pixel_stride as i64, y.pixel_stride as i64);
        let pixels = x.pixels() as i32;
        let numbers = [heads, group, start, len].map(|n| n as i32);
        let back = i32::from(back);
        let arguments = [
            (&x.address).into(),
            (&xs).into(),
            (&y.address).into(),
            (&ys).into(),
            (&pixels).into(),
            (&numbers[0]).into(),
            (&numbers[1]).into(),
            (&numbers[2]).into(),
            (&numbers[3]).into(),
            (&back).into(),
        ];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "gather_heads", v, x.pixels() * (y.channels() / v), &arguments) }
    }

    pub(super) fn max_pool(
        &self,
        stream: &Stream,
        pool: Pool,
        x: Tensor,
        y: Tensor,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &y]);
        let p = Image { ..pooled(pool, image(&x, &y, v)) };
        let places = 0u64;
        let arguments = [(&x.address).into(), (&y.address).into(), (&places).into(), (&p).into()];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "max_pool", v, y.pixels() * (y.channels() / v), &arguments) }
    }

    pub(super) fn max_pool_grad(
        &self,
        stream: &Stream,
        pool: Pool,
        x: Tensor,
        dy: Tensor,
        dx: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &dy, &dx]);
        let (places, none) = (self.workspace.address(Part::Places), 0u64);
        let p = pooled(pool, image(&x, &dy, v));
        let arguments = [(&x.address).into(), (&none).into(), (&places).into(), (&p).into()];
        // SAFETY: as above; a place for each element of dy has room.
        unsafe { self.elementwise(stream, "max_pool", v, dy.pixels() * (dy.channels() / v), &arguments)? };
        let p = Image { add: i32::from(add), ..pooled(pool, image(&dx, &dy, v)) };
        let arguments = [(&dy.address).into(), (&places).into(), (&dx.address).into(), (&p).into()];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "max_pool_grad", v, dx.pixels() * (dx.channels() / v), &arguments) }
    }

    pub(super) fn upsample(&self, stream: &Stream, x: Tensor, y: Tensor) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &y]);
        let p = image(&x, &y, v);
        let arguments = [(&x.address).into(), (&y.address).into(), (&p).into()];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "upsample", v, y.pixels() * (y.channels() / v), &arguments) }
    }

    pub(super) fn upsample_grad(
        &self,
        stream: &Stream,
        dy: Tensor,
        dx: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&dy, &dx]);
        let p = Image { add: i32::from(add), ..image(&dx, &dy, v) };
        let arguments = [(&dy.address).into(), (&dx.address).into(), (&p).into()];
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "upsample_grad", v, dx.pixels() * (dx.channels() / v), &arguments) }
    }

    pub(super) fn global_mean(&self, stream: &Stream, x: Tensor, y: Tensor) -> Result<(), CudaError> {
        let v = common_vector(&[&x, &y]);
        let p = image(&x, &y, v);
        let arguments = [(&x.address).into(), (&y.address).into(), (&p).into()];
        let items = 32 * x.shape[0] * (x.channels() / v);
        // SAFETY: as above.
        unsafe { self.elementwise(stream, "global_mean", v, items, &arguments) }
    }

    pub(super) fn global_mean_grad(
        &self,
        stream: &Stream,
        dy: Tensor,
        dx: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let v = common_vector(&[&dy, &dx]);
        let p = Image { add: i32::from(add), ..image(&dx, &dy, v) };
        let arguments = [(&dy.address).into(), (&dx.address).into(), (&p).into()];
        // SAFETY: as above.
        unsafe {
            self.elementwise(stream, "global_mean_grad", v, dx.pixels() * (dx.channels() / v), &arguments)
        }
    }

    /// Dense float32 values at `from` to a view.
    pub(super) fn bring(&self, stream: &Stream, from: u64, to: Tensor) -> Result<(), CudaError> {
        self.convert(stream, "bring", from, to.address, to)
    }

    /// A view to dense float32 values at `to`.
    pub(super) fn fetch(&self, stream: &Stream, from: Tensor, to: u64) -> Result<(), CudaError> {
        self.convert(stream, "fetch", from.address, to, from)
    }

    fn convert(
        &self,
        stream: &Stream,
        name: &str,
        from: u64,
        to: u64,
        view: Tensor,
    ) -> Result<(), CudaError> {
        let kernel = self.kernels.get(&ELEMENTWISE, &format!("{name}_{}", self.precision.name()))?;
        let (stride, channels) = (view.pixel_stride as i64, view.channels() as i32);
        let total = (view.pixels() * view.channels()) as i64;
        let arguments = [(&from).into(), (&to).into(), (&stride).into(), (&channels).into(), (&total).into()];
        // SAFETY: the kernel's arguments; the view lies in the arena, the dense side has room for its elements.
        unsafe { kernel.launch(stream, [grid(total as usize, 256), 1, 1], [256, 1, 1], 0, &arguments) }
    }
}

fn pooled(pool: Pool, image: Image) -> Image {
    let [kernel, stride, pad] = [pool.kernel, pool.stride, pool.pad].map(|n| n as i32);
    Image { kernel, stride, pad, ..image }
}
