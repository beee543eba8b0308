//! Parameters: names and shapes as PyTorch has them, values in one arena in the engine's layout.

use super::Graph;

/// What a parameter is for; optimisers and initialisation go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Convolution or linear weight.
    Weight,
    /// Batch norm's gamma.
    NormScale,
    /// Batch norm's beta.
    NormShift,
    /// A convolution's or linear layer's bias.
    Bias,
    /// Batch norm's running mean: a buffer, never trained.
    RunningMean,
    /// Batch norm's running variance: a buffer, never trained.
    RunningVar,
    /// Layer scale, one a channel.
    ChannelScale,
}

impl Role {
    /// Whether gradients exist for it (buffers have none).
    pub fn is_trained(self) -> bool {
        !matches!(self, Role::RunningMean | Role::RunningVar)
    }
}

/// A parameter's name, PyTorch shape and place in the arena.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Dotted name, as in a PyTorch state dict.
    pub name: String,
    /// Shape in PyTorch's order: convolutions `[out, in / groups, kh, kw]`, linear `[out, in]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// First element in the arena; a multiple of 16.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
}

impl ParamInfo {
    /// The elements' place in the arena.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }

    /// The arena's layout as a matrix, `(rows, columns)`: the output channel is last, so a convolution is
    /// `[kh * kw * in, out]`. None for vectors.
    pub fn matrix(&self) -> Option<(usize, usize)> {
        (self.shape.len() > 1).then(|| (self.len / self.shape[0], self.shape[0]))
    }
}

/// The values of a graph's parameters, in one arena.
///
/// Layout: convolution weights `[kh][kw][in][out]`, linear `[in][out]`, all else as in PyTorch. Gaps between
/// parameters (each starts at a multiple of 16) stay zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Names, shapes and places.
    pub infos: Vec<ParamInfo>,
    /// The arena.
    pub values: Vec<f32>,
}

impl Params {
    /// Zeros, but norm scales, channel scales and running variances of 1.
    pub fn new(graph: &Graph) -> Params {
        let infos = graph.params().to_vec();
        let mut values = vec![0.0; infos.last().map_or(0, |p| (p.offset + p.len).next_multiple_of(16))];
        for info in &infos {
            if matches!(info.role, Role::NormScale | Role::RunningVar | Role::ChannelScale) {
                values[info.range()].fill(1.0);
            }
        }
        Params { infos, values }
    }

    /// The index of the parameter of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.infos.iter().position(|info| info.name == name)
    }

    /// A parameter's values in the engine's layout.
    pub fn get(&self, i: usize) -> &[f32] {
        &self.values[self.infos[i].range()]
    }

    /// Takes values in PyTorch's order.
    ///
    /// # Panics
    /// If the number of elements differs.
    pub fn set_torch(&mut self, i: usize, data: &[f32]) {
        let info = &self.infos[i];
        assert_eq!(data.len(), info.len, "{} has {} elements", info.name, info.len);
        let destination = &mut self.values[info.offset..info.offset + info.len];
        permute(&info.shape, |torch, engine| destination[engine] = data[torch]);
    }

    /// Values in PyTorch's order.
    pub fn get_torch(&self, i: usize) -> Vec<f32> {
        to_torch(&self.infos[i], self.get(i))
    }
}

/// Brings one parameter's values (or its gradient's) from the engine's layout to PyTorch's order.
pub fn to_torch(info: &ParamInfo, engine_values: &[f32]) -> Vec<f32> {
    let mut data = vec![0.0; info.len];
    permute(&info.shape, |torch, engine| data[torch] = engine_values[engine]);
    data
}

impl ParamInfo {
    /// Brings this parameter's values (or its gradient's) from the engine's layout to PyTorch's order.
    pub fn to_torch(&self, engine_values: &[f32]) -> Vec<f32> {
        to_torch(self, engine_values)
    }
}

/// Calls `f(torch index, engine index)` for each element.
fn permute(shape: &[usize], mut f: impl FnMut(usize, usize)) {
    let len: usize = shape.iter().product();
    if shape.len() < 2 {
        (0..len).for_each(|i| f(i, i));
        return;
    }
    let out = shape[0];
    let inner = shape[1];
    let taps = len / (out * inner).max(1);
    for o in 0..out {
        for i in 0..inner {
            for t in 0..taps {
                f((o * inner + i) * taps + t, (t * inner + i) * out + o);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv;

    #[test]
    fn torch_order_in_and_out() {
        let mut graph = Graph::new();
        let x = graph.input("x", [1, 4, 4, 2]);
        let conv = Conv {
            name: "c".into(),
            out: 3,
            kernel: (1, 2),
            stride: (1, 1),
            pad: [0; 4],
            groups: 1,
            bias: false,
        };
        graph.conv2d(x, conv);
        let mut params = Params::new(&graph);
        let torch: Vec<f32> = (0..12).map(|i| i as f32).collect();
        params.set_torch(0, &torch);
        // [kw][in][out]: tap 0, input 0, outputs 0..3 are torch's elements 0, 4, 8.
        assert_eq!(params.get(0)[..3], [0.0, 4.0, 8.0]);
        assert_eq!(params.get(0)[3..6], [2.0, 6.0, 10.0]);
        assert_eq!(params.get_torch(0), torch);
    }
}
