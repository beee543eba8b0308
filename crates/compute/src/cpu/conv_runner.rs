//! A plan's convolution with its prepared weights: dense or depthwise, forward and both gradients.

use crate::graph::{Params, Role};
use crate::plan::ConvInfo;

use super::conv::{DenseConv, Epilogue, Weights};
use super::depthwise::Depthwise;
use super::element::{Bf16, Element, Storage};
use super::norm::{Affine, Moments};
use super::scratch::{Arena, Shared, Tensor, floats};
use super::simd::Isa;
use super::tile::{Product, Tiles};
use super::weight_grad::WeightGrad;
use super::window::Window;
use super::winograd::{self, Winograd, WinogradWeightGrad};

/// A dense convolution, by one of two algorithms.
enum Gather {
    Direct(DenseConv),
    Winograd(Winograd),
}

enum DenseWeightGrad {
    Direct(WeightGrad),
    Winograd(WinogradWeightGrad),
}

enum Kernels {
    Dense { forward: Gather, data_grad: Option<Gather>, weight_grad: DenseWeightGrad },
    Depthwise { forward: Depthwise, data_grad: Option<Depthwise> },
}

impl Gather {
    /// Packs the weights for tensors of T; see [`DenseConv::pack`].
    fn pack<T: Element>(
        &self,
        isa: Isa,
        weights: &Weights,
        turned: bool,
        scale: Option<&[f32]>,
        out: &mut Arena,
    ) {
        let len = match self {
            Gather::Direct(conv) => conv.packed_len(),
            Gather::Winograd(conv) => conv.packed_len(Tiles::of(isa)),
        };
        out.reserve(floats::<T>(len));
        let to = out.as_mut_ptr().cast::<T>();
        // SAFETY: the arena has room for the packed elements and was zero when it was made.
        unsafe {
            match self {
                Gather::Direct(conv) => conv.pack(isa, weights, turned, scale, to),
                Gather::Winograd(conv) => conv.pack(isa, weights, turned, scale, to),
            }
        }
    }

    /// # Safety
    /// As [`DenseConv::run`].
    unsafe fn run<T: Product>(
        &self,
        isa: Isa,
        source: Tensor<T>,
        destination: Tensor<T>,
        packed: &[f32],
        epilogue: Epilogue<T>,
        moments: Option<&mut [Moments]>,
    ) {
        let packed = Shared(packed.as_ptr().cast::<T>().cast_mut());
        // SAFETY: the caller's promise; the weights were packed for T.
        unsafe {
            match self {
                Gather::Direct(conv) => conv.run(isa, source, destination, packed, epilogue, moments),
                Gather::Winograd(conv) => conv.run(isa, source, destination, packed, epilogue, moments),
            }
        }
    }
}

/// See the module.
pub(super) struct ConvRunner {
    info: ConvInfo,
    storage: Storage,
    kernels: Kernels,
    /// Weights as the forward kernel wants them (packed, or `[kh][kw][c]`), with a folded norm's scale.
    forward: Arena,
    /// Weights as the data gradient wants them.
    data_grad: Arena,
    bias: Option<Vec<f32>>,
}

impl ConvRunner {
    pub fn new(isa: Isa, storage: Storage, info: &ConvInfo) -> ConvRunner {
        let g = info.geometry;
        let tiles = Tiles::of(isa);
        let group = storage.group();
        let [_, oh, ow, _] = info.output;
        let [_, h, w, _] = info.input;
        let kernels = if g.groups == 1 && winograd::pays(isa, storage, &g, info.input, info.output) {
            let data_grad = || Gather::Winograd(Winograd::data_grad(group, &g, info.input, info.output));
            Kernels::Dense {
                forward: Gather::Winograd(Winograd::forward(group, &g, info.input, info.output)),
                data_grad: info.data_grad.then(data_grad),
                weight_grad: DenseWeightGrad::Winograd(WinogradWeightGrad::new(
                    group,
                    &g,
                    info.input,
                    info.output,
                )),
            }
        } else if g.groups == 1 {
            let direct = |windows, from, to| Gather::Direct(DenseConv::new(tiles, group, windows, from, to));
            Kernels::Dense {
                forward: direct(vec![Window::forward(&g, oh, ow)], info.input, info.output),
                data_grad: info
                    .data_grad
                    .then(|| direct(Window::data_grad(&g, h, w), info.output, info.input)),
                weight_grad: DenseWeightGrad::Direct(WeightGrad::new(
                    (group, isa == Isa::Amx),
                    g,
                    info.input,
                    info.output,
                )),
            }
        } else {
            Kernels::Depthwise {
                forward: Depthwise::new(g, info.input, info.output),
                data_grad: info
                    .data_grad
                    .then(|| Depthwise::data_grad(&g, info.input, info.output))
                    .flatten(),
            }
        };
        ConvRunner {
            info: info.clone(),
            storage,
            kernels,
            forward: Arena::new(0),
            data_grad: Arena::new(0),
            bias: None,
        }
    }

    /// Takes the weights in; `folded`: the affine form of the norm that is folded in.
    pub fn prepare(&mut self, isa: Isa, params: &Params, folded: Option<&Affine>) {
        match self.storage {
            Storage::Float32 => self.prepare_for::<f32>(isa, params, folded),
            Storage::Bf16 => self.prepare_for::<Bf16>(isa, params, folded),
        }
    }

    fn prepare_for<T: Element>(&mut self, isa: Isa, params: &Params, folded: Option<&Affine>) {
        let weight = params.get(self.info.weight.index());
        let bias = self.info.bias.map(|b| params.get(b.index()));
        let (kernel_cols, channels, out) =
            (self.info.geometry.kernel.1, self.info.input[3], self.info.output[3]);
        let scale = |o: usize| folded.map_or(1.0, |f| f.scale[o]);
        match &self.kernels {
            Kernels::Dense { forward, data_grad, .. } => {
                let weights = Weights { values: weight, kernel_cols, channels, out };
                forward.pack::<T>(isa, &weights, false, folded.map(|f| &f.scale[..]), &mut self.forward);
                if let Some(data_grad) = data_grad {
                    data_grad.pack::<T>(isa, &weights, true, None, &mut self.data_grad);
                }
            }
            Kernels::Depthwise { data_grad, .. } => {
                self.forward.reserve(weight.len());
                let scaled = weight.iter().enumerate().map(|(i, w)| w * scale(i % out));
                self.forward.as_mut_slice().iter_mut().zip(scaled).for_each(|(to, w)| *to = w);
                if self.info.data_grad {
                    self.data_grad.reserve(weight.len());
                    let to = self.data_grad.as_mut_slice();
                    match data_grad {
                        Some(_) => Depthwise::turn(weight, channels, to),
                        None => to.copy_from_slice(weight),
                    }
                }
            }
        }
        if bias.is_some() || folded.is_some() {
            let shifted = |o: usize| match (bias, folded) {
                (bias, Some(folded)) => folded.shift[o] + bias.map_or(0.0, |b| b[o] * folded.scale[o]),
                (bias, None) => bias.map_or(0.0, |b| b[o]),
            };
            let to = self.bias.get_or_insert_default();
            to.clear();
            to.extend((0..out).map(shifted));
        }
    }

    /// Pixels of each part in which the forward pass takes statistics.
    pub fn part_counts(&self, out: &mut Vec<usize>) {
        out.clear();
        match &self.kernels {
            Kernels::Dense { forward: Gather::Direct(conv), .. } => conv.part_counts(self.info.output, out),
            Kernels::Dense { forward: Gather::Winograd(conv), .. } => out.extend(conv.part_counts()),
            Kernels::Depthwise { forward, .. } => out.extend(forward.part_counts()),
        }
    }

    /// # Safety
    /// Tensors are the plan's, of the shapes in its [`ConvInfo`].
    pub unsafe fn forward<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        y: Tensor<T>,
        epilogue: Epilogue<T>,
        moments: Option<&mut [Moments]>,
    ) {
        let bias = self.bias.as_ref().map(|b| Shared(b.as_ptr().cast_mut()));
        let epilogue = Epilogue { bias, ..epilogue };
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { forward, .. } => {
                    forward.run(isa, x, y, self.forward.as_slice(), epilogue, moments)
                }
                Kernels::Depthwise { forward, .. } => {
                    forward.run(isa, x, y, self.forward.as_slice(), epilogue, moments)
                }
            }
        }
    }

    /// # Safety
    /// As [`ConvRunner::forward`]; the plan asked for data gradients.
    pub unsafe fn data_grad<T: Product>(&self, isa: Isa, dy: Tensor<T>, dx: Tensor<T>, add: bool) {
        let epilogue = Epilogue { add, ..Epilogue::NONE };
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { data_grad, .. } => {
                    let kernel = data_grad.as_ref().expect("made where the plan has the step");
                    kernel.run(isa, dy, dx, self.data_grad.as_slice(), epilogue, None);
                }
                Kernels::Depthwise { data_grad: Some(kernel), .. } => {
                    kernel.run(isa, dy, dx, self.data_grad.as_slice(), epilogue, None);
                }
                Kernels::Depthwise { forward, data_grad: None } => {
                    forward.scatter_data_grad(dy, dx, self.data_grad.as_slice(), add);
                }
            }
        }
    }

    /// # Safety
    /// As [`ConvRunner::forward`].
    pub unsafe fn weight_grad<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        buffer: &mut Arena,
        out: &mut [f32],
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { weight_grad: DenseWeightGrad::Direct(kernel), .. } => {
                    buffer.reserve(kernel.partial_len());
                    kernel.run(isa, x, dy, buffer.as_mut_slice(), out);
                }
                Kernels::Dense { weight_grad: DenseWeightGrad::Winograd(kernel), .. } => {
                    buffer.reserve(kernel.partial_len());
                    kernel.run(isa, x, dy, buffer.as_mut_slice(), out);
                }
                Kernels::Depthwise { forward, .. } => {
                    buffer.reserve(forward.partial_len());
                    forward.weight_grad(isa, x, dy, buffer.as_mut_slice(), out);
                }
            }
        }
    }

    /// The weight's place in the gradient arena.
    pub fn weight_range(&self, params: &[crate::graph::ParamInfo]) -> std::ops::Range<usize> {
        debug_assert_eq!(params[self.info.weight.index()].role, Role::Weight);
        params[self.info.weight.index()].range()
    }
}
