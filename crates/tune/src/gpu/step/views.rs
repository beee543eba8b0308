//! The network's buffers as the kernels of training see them.

use onsa_compute::cuda::{Precision, Tensor};

use super::super::augment::InputView;
use super::super::cross_entropy::LogitsView;
use super::super::loss::HeadLevel;

impl HeadLevel {
    /// The level of an output of the network, and of the gradient with respect to it.
    pub fn of(map: &Tensor, grad: Option<&Tensor>) -> HeadLevel {
        let [_, h, w, _] = map.shape;
        HeadLevel {
            map: map.address,
            grad: grad.map_or(0, |grad| grad.address),
            h,
            w,
            map_pitch: map.pixel_stride,
            grad_pitch: grad.map_or(0, |grad| grad.pixel_stride),
            map_half: map.precision == Precision::Bf16,
            grad_half: grad.is_some_and(|grad| grad.precision == Precision::Bf16),
        }
    }
}

impl InputView {
    /// The view of a network's input.
    pub fn of(tensor: &Tensor) -> InputView {
        let half = tensor.precision == Precision::Bf16;
        InputView { address: tensor.address, stride: tensor.pixel_stride, half }
    }
}

impl LogitsView {
    /// The view of a classifier's output, or of its gradient.
    pub fn of(tensor: &Tensor) -> LogitsView {
        let half = tensor.precision == Precision::Bf16;
        LogitsView { address: tensor.address, pitch: tensor.pixel_stride, half }
    }
}
