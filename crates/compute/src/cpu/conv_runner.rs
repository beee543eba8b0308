//! A plan's convolution with its prepared weights: dense or depthwise, forward and both gradients.

use crate::graph::{Params, Role};
use crate::plan::ConvInfo;

use super::conv::{DenseConv, Epilogue, Weights};
use super::depthwise::Depthwise;
use super::norm::{Affine, Moments};
use super::scratch::{Shared, Tensor};
use super::simd::Isa;
use super::tile::Tiles;
use super::weight_grad::WeightGrad;
use super::window::Window;

enum Kernels {
    Dense { forward: DenseConv, data_grad: Option<DenseConv>, weight_grad: WeightGrad },
    Depthwise { forward: Depthwise, data_grad: Option<Depthwise> },
}

/// See the module.
pub(super) struct ConvRunner {
    info: ConvInfo,
    kernels: Kernels,
    /// Weights as the forward kernel wants them (packed, or `[kh][kw][c]`), with a folded norm's scale.
    forward: Vec<f32>,
    /// Weights as the data gradient wants them.
    data_grad: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl ConvRunner {
    pub fn new(isa: Isa, info: &ConvInfo) -> ConvRunner {
        let g = info.geometry;
        let tiles = Tiles::of(isa);
        let [_, oh, ow, _] = info.output;
        let [_, h, w, _] = info.input;
        let kernels = if g.groups == 1 {
            Kernels::Dense {
                forward: DenseConv::new(tiles, vec![Window::forward(&g, oh, ow)], info.input, info.output),
                data_grad: info
                    .data_grad
                    .then(|| DenseConv::new(tiles, Window::data_grad(&g, h, w), info.output, info.input)),
                weight_grad: WeightGrad::new(g, info.input, info.output),
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
        ConvRunner { info: info.clone(), kernels, forward: Vec::new(), data_grad: Vec::new(), bias: None }
    }

    /// Takes the weights in; `folded`: the affine form of the norm that is folded in.
    pub fn prepare(&mut self, isa: Isa, params: &Params, folded: Option<&Affine>) {
        let weight = params.get(self.info.weight.index());
        let bias = self.info.bias.map(|b| params.get(b.index()));
        let (kernel_cols, channels, out) =
            (self.info.geometry.kernel.1, self.info.input[3], self.info.output[3]);
        let scale = |o: usize| folded.map_or(1.0, |f| f.scale[o]);
        match &self.kernels {
            Kernels::Dense { forward, data_grad, .. } => {
                let weights = Weights { values: weight, kernel_cols, channels, out };
                self.forward.resize(forward.packed_len(), 0.0);
                forward.pack(isa, &weights, false, folded.map(|f| &f.scale[..]), &mut self.forward);
                if let Some(data_grad) = data_grad {
                    self.data_grad.resize(data_grad.packed_len(), 0.0);
                    data_grad.pack(isa, &weights, true, None, &mut self.data_grad);
                }
            }
            Kernels::Depthwise { data_grad, .. } => {
                self.forward = weight.iter().enumerate().map(|(i, w)| w * scale(i % out)).collect();
                if self.info.data_grad {
                    let turned = data_grad.is_some();
                    self.data_grad = if turned { Depthwise::turn(weight, channels) } else { weight.to_vec() };
                }
            }
        }
        self.bias = match (bias, folded) {
            (None, None) => None,
            (Some(bias), None) => Some(bias.to_vec()),
            (bias, Some(folded)) => Some(
                (0..out).map(|o| folded.shift[o] + bias.map_or(0.0, |b| b[o] * folded.scale[o])).collect(),
            ),
        };
    }

    /// Pixels of each part in which the forward pass takes statistics.
    pub fn part_counts(&self, out: &mut Vec<usize>) {
        out.clear();
        match &self.kernels {
            Kernels::Dense { forward, .. } => forward.part_counts(self.info.output, out),
            Kernels::Depthwise { forward, .. } => out.extend(forward.part_counts()),
        }
    }

    /// # Safety
    /// Tensors are the plan's, of the shapes in its [`ConvInfo`].
    pub unsafe fn forward(
        &self,
        isa: Isa,
        x: Tensor,
        y: Tensor,
        epilogue: Epilogue,
        moments: Option<&mut [Moments]>,
    ) {
        let bias = self.bias.as_ref().map(|b| Shared(b.as_ptr().cast_mut()));
        let epilogue = Epilogue { bias, ..epilogue };
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { forward, .. } => forward.run(isa, x, y, &self.forward, epilogue, moments),
                Kernels::Depthwise { forward, .. } => {
                    forward.run(isa, x, y, &self.forward, epilogue, moments)
                }
            }
        }
    }

    /// # Safety
    /// As [`ConvRunner::forward`]; the plan asked for data gradients.
    pub unsafe fn data_grad(&self, isa: Isa, dy: Tensor, dx: Tensor, add: bool) {
        let epilogue = Epilogue { add, ..Epilogue::NONE };
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { data_grad, .. } => {
                    let kernel = data_grad.as_ref().expect("made where the plan has the step");
                    kernel.run(isa, dy, dx, &self.data_grad, epilogue, None);
                }
                Kernels::Depthwise { data_grad: Some(kernel), .. } => {
                    kernel.run(isa, dy, dx, &self.data_grad, epilogue, None);
                }
                Kernels::Depthwise { forward, data_grad: None } => {
                    forward.scatter_data_grad(dy, dx, &self.data_grad, add);
                }
            }
        }
    }

    /// # Safety
    /// As [`ConvRunner::forward`].
    pub unsafe fn weight_grad(
        &self,
        isa: Isa,
        x: Tensor,
        dy: Tensor,
        partial: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let need = match &self.kernels {
            Kernels::Dense { weight_grad, .. } => weight_grad.partial_len(),
            Kernels::Depthwise { forward, .. } => forward.partial_len(),
        };
        if partial.len() < need {
            partial.resize(need, 0.0);
        }
        // SAFETY: the caller's promise.
        unsafe {
            match &self.kernels {
                Kernels::Dense { weight_grad, .. } => weight_grad.run(isa, x, dy, partial, out),
                Kernels::Depthwise { forward, .. } => forward.weight_grad(isa, x, dy, partial, out),
            }
        }
    }

    /// The weight's place in the gradient arena.
    pub fn weight_range(&self, params: &[crate::graph::ParamInfo]) -> std::ops::Range<usize> {
        debug_assert_eq!(params[self.info.weight.index()].role, Role::Weight);
        params[self.info.weight.index()].range()
    }
}
