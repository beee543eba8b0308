//! A network's own nodes, channels last as they are.

use half::f16;
use onsa_compute::graph::{Activation, Attention, ConvGeometry};

use super::schema::{Elem, Fused, Op, Operator, Options, Padding, Steps, Tensor};
use crate::export::network::{Conv, Kind, Network, Node};
use crate::export::onnx::Numbers;
use crate::export::quantise::{Scheme, weights};
use crate::models::Normalise;

/// A value that is not there as float32, or not yet.
const UNMADE: i32 = -1;

/// A file in the making.
pub struct Writer<'a> {
    network: &'a Network,
    numbers: &'a Numbers,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    /// The picture's tensor, values from 0 to 1.
    input: i32,
    /// Each value's float32 tensor, once it is made; [`UNMADE`] before.
    values: Vec<i32>,
    /// The tensor of its int8 form, once a convolution asked for it.
    rounded: Vec<Option<i32>>,
}

impl<'a> Writer<'a> {
    /// Starts with the picture, entering as `normalise` has it.
    pub fn new(network: &'a Network, numbers: &'a Numbers, normalise: Normalise) -> Writer<'a> {
        let count = network.shapes.len();
        let mut writer = Writer {
            network,
            numbers,
            input: UNMADE,
            tensors: Vec::new(),
            operators: Vec::new(),
            values: vec![UNMADE; count],
            rounded: vec![None; count],
        };
        let shape = &network.shapes[network.input];
        let mut x = writer.tensor("images", Elem::F32, shape, None);
        writer.input = x;
        if normalise != Normalise::NONE {
            let (means, factors): (Vec<f32>, Vec<f32>) = normalise.factors(shape[3]).into_iter().unzip();
            let (means, factors) = (
                writer.floats("means", &[shape[3]], &means),
                writer.floats("factors", &[shape[3]], &factors),
            );
            x = writer.op(Op::Sub, &[x, means], shape, Options::None);
            x = writer.op(Op::Mul, &[x, factors], shape, Options::None);
        }
        writer.values[network.input] = x;
        writer
    }

    pub fn input(&self) -> i32 {
        self.input
    }

    /// Writes every node; the outputs' tensors.
    pub fn network(&mut self) -> Vec<i32> {
        for node in &self.network.nodes {
            let made = self.node(node);
            self.values[node.output] = made;
        }
        self.network.outputs.iter().map(|&value| self.float(value)).collect()
    }

    fn tensor(&mut self, name: &str, elem: Elem, shape: &[usize], data: Option<Vec<u8>>) -> i32 {
        let shape = shape.iter().map(|&d| d as i32).collect();
        self.tensors.push(Tensor { name: name.to_owned(), shape, elem, data, steps: None });
        self.tensors.len() as i32 - 1
    }

    pub fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> i32 {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, Elem::F32, shape, Some(bytes))
    }

    pub fn ints(&mut self, name: &str, values: &[i32]) -> i32 {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, Elem::I32, &[values.len()], Some(bytes))
    }

    /// An operator with one float32 output.
    pub fn op(&mut self, op: Op, inputs: &[i32], shape: &[usize], options: Options) -> i32 {
        let name = format!("{op:?}_{}", self.operators.len());
        let output = self.tensor(&name, Elem::F32, shape, None);
        self.push(op, 1, inputs, output, options);
        output
    }

    fn push(&mut self, op: Op, version: i32, inputs: &[i32], output: i32, options: Options) {
        self.operators.push(Operator {
            op,
            version,
            inputs: inputs.to_vec(),
            outputs: vec![output],
            options,
        });
    }

    pub fn reshape(&mut self, x: i32, shape: &[usize]) -> i32 {
        let target: Vec<i32> = shape.iter().map(|&d| d as i32).collect();
        let target = self.ints("shape", &target);
        self.op(Op::Reshape, &[x, target], shape, Options::None)
    }

    pub fn slice(&mut self, x: i32, begin: &[usize], size: &[usize]) -> i32 {
        let whole = |values: &[usize]| values.iter().map(|&v| v as i32).collect::<Vec<_>>();
        let (start, extent) = (self.ints("begin", &whole(begin)), self.ints("size", &whole(size)));
        self.op(Op::Slice, &[x, start, extent], size, Options::None)
    }

    fn transpose(&mut self, x: i32, order: [i32; 4], shape: &[usize]) -> i32 {
        let order = self.ints("order", &order);
        self.op(Op::Transpose, &[x, order], shape, Options::None)
    }

    fn node(&mut self, node: &Node) -> i32 {
        // A convolution may take its input in integers: it asks for itself.
        let x = if matches!(node.kind, Kind::Conv(_)) { UNMADE } else { self.float(node.inputs[0]) };
        let from = self.network.shapes[node.inputs[0]];
        let shape = self.network.shapes[node.output];
        match &node.kind {
            Kind::Conv(conv) => self.conv(node, conv),
            Kind::Activation(activation) => self.activation(x, &shape, *activation),
            Kind::Add => {
                let y = self.float(node.inputs[1]);
                self.op(Op::Add, &[x, y], &shape, Options::None)
            }
            Kind::Gate => {
                let y = self.float(node.inputs[1]);
                self.op(Op::Mul, &[x, y], &shape, Options::None)
            }
            Kind::Affine { scale, shift } => {
                let factor = self.floats(&format!("{}.scale", node.name), &[scale.len()], scale);
                let y = self.op(Op::Mul, &[x, factor], &shape, Options::None);
                match shift {
                    Some(shift) => {
                        let term = self.floats(&format!("{}.shift", node.name), &[shift.len()], shift);
                        self.op(Op::Add, &[y, term], &shape, Options::None)
                    }
                    None => y,
                }
            }
            Kind::Concat => {
                let inputs: Vec<i32> = node.inputs.iter().map(|&v| self.float(v)).collect();
                self.op(Op::Concatenation, &inputs, &shape, Options::Concatenation { axis: 3 })
            }
            Kind::Slice { start, .. } => self.slice(x, &[0, 0, 0, *start], &shape),
            Kind::GatherHeads { heads, start, len } => {
                let [n, h, w, c] = from;
                let grouped = self.reshape(x, &[n * h * w, *heads, c / heads]);
                let cut = self.slice(grouped, &[0, 0, *start], &[n * h * w, *heads, *len]);
                self.reshape(cut, &shape)
            }
            Kind::MaxPool { kernel, stride, pad } => {
                let keeps_size = *stride == 1 && *kernel == 2 * pad + 1;
                let (x, padding) = if keeps_size || *pad == 0 {
                    (x, if keeps_size { Padding::Same } else { Padding::Valid })
                } else {
                    // What is padded must never win.
                    let lowest = self.floats("lowest", &[1], &[f32::MIN]);
                    (self.padded(x, from, [*pad; 4], Some(lowest)), Padding::Valid)
                };
                let options = Options::Pool { padding, stride: *stride, kernel: *kernel };
                self.op(Op::MaxPool2d, &[x], &shape, options)
            }
            Kind::Upsample2 => {
                let size = self.ints("size", &[shape[1] as i32, shape[2] as i32]);
                self.op(Op::ResizeNearestNeighbor, &[x, size], &shape, Options::None)
            }
            Kind::Attention(attention) => self.attention(x, from, *attention),
            Kind::GlobalAvgPool => {
                let axes = self.ints("axes", &[1, 2]);
                let [n, _, _, c] = shape;
                let mean = self.op(Op::Mean, &[x, axes], &[n, c], Options::None);
                self.reshape(mean, &shape)
            }
        }
    }

    /// So many zeros before and after each row of the last of three axes.
    pub fn padded_last(&mut self, x: i32, shape: &[usize; 3], (before, after): (usize, usize)) -> i32 {
        let pads = [0, 0, 0, 0, before as i32, after as i32].iter().flat_map(|v| v.to_le_bytes()).collect();
        let pads = self.tensor("pads", Elem::I32, &[3, 2], Some(pads));
        self.op(Op::Pad, &[x, pads], &[shape[0], shape[1], before + shape[2] + after], Options::None)
    }

    /// Rows and columns of `fill` (0 where none) at the top, left, bottom and right.
    fn padded(&mut self, x: i32, [n, h, w, c]: [usize; 4], pad: [usize; 4], fill: Option<i32>) -> i32 {
        let [top, left, bottom, right] = pad.map(|v| v as i32);
        let bytes =
            [0, 0, top, bottom, left, right, 0, 0].iter().flat_map(|v: &i32| v.to_le_bytes()).collect();
        let pads = self.tensor("pads", Elem::I32, &[4, 2], Some(bytes));
        let shape = [n, h + pad[0] + pad[2], w + pad[1] + pad[3], c];
        let (op, inputs) = match fill {
            Some(fill) => (Op::PadV2, vec![x, pads, fill]),
            None => (Op::Pad, vec![x, pads]),
        };
        let source = &self.tensors[x as usize];
        let (elem, steps) = (source.elem, source.steps.clone());
        let name = format!("{}.padded", source.name);
        let output = self.tensor(&name, elem, &shape, None);
        self.tensors[output as usize].steps = steps;
        // int8 came with the second version.
        self.push(op, if elem == Elem::I8 { 2 } else { 1 }, &inputs, output, Options::None);
        output
    }

    fn conv(&mut self, node: &Node, conv: &Conv) -> i32 {
        let g = conv.geometry;
        let from = self.network.shapes[node.inputs[0]];
        let shape = self.network.shapes[node.output];
        let same = g.pad == same_padding(from, &g);
        let padding = if same { Padding::Same } else { Padding::Valid };
        let explicit = (!same && g.pad != [0; 4]).then_some(g.pad);
        let fused = match conv.activation {
            Activation::Relu => Fused::Relu,
            Activation::Relu6 => Fused::Relu6,
            _ => Fused::None,
        };
        let (op, options, dims) = if conv.is_depthwise() {
            let options = Options::Depthwise { padding, stride: g.stride, fused };
            (Op::DepthwiseConv2d, options, [1, g.kernel.0, g.kernel.1, conv.out])
        } else {
            let options = Options::Conv { padding, stride: g.stride, fused };
            (Op::Conv2d, options, [conv.out, g.kernel.0, g.kernel.1, conv.input])
        };
        let (weight_name, bias_name) = (format!("{}.weight", node.name), format!("{}.bias", node.name));
        let scheme = match self.numbers {
            Numbers::Int8(q) => {
                q.input_scheme(node).zip(q.output_scheme(node)).map(|(x, y)| (x, y, q.input_means(node)))
            }
            _ => None,
        };
        let Some((input, output, means)) = scheme else {
            let mut x = self.float(node.inputs[0]);
            if let Some(pad) = explicit {
                x = self.padded(x, from, pad, None);
            }
            let kernel = channels_last(conv, &conv.weight);
            let weight = if matches!(self.numbers, Numbers::Float16) {
                let bytes = kernel.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
                let half = self.tensor(&weight_name, Elem::F16, &dims, Some(bytes));
                let whole = self.tensor(&format!("{weight_name}.float32"), Elem::F32, &dims, None);
                self.push(Op::Dequantize, 3, &[half], whole, Options::None);
                whole
            } else {
                self.floats(&weight_name, &dims, &kernel)
            };
            let bias = self.floats(&bias_name, &[conv.out], &conv.bias);
            return self.op(op, &[x, weight, bias], &shape, options);
        };

        let mut x = self.whole(node.inputs[0], input);
        if let Some(pad) = explicit {
            // In integers too, what is padded stands for 0.
            x = self.padded(x, from, pad, None);
        }
        let whole = weights(conv, input, means);
        let bytes = channels_last(conv, &whole.values).iter().map(|&v| v as u8).collect();
        let weight = self.tensor(&weight_name, Elem::I8, &dims, Some(bytes));
        let axis = if conv.is_depthwise() { 3 } else { 0 };
        let zeros = vec![0; conv.out];
        self.tensors[weight as usize].steps =
            Some(Steps { scales: whole.scales, zeros: zeros.clone(), axis });
        let bytes = whole.bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bias = self.tensor(&bias_name, Elem::I32, &[conv.out], Some(bytes));
        self.tensors[bias as usize].steps = Some(Steps { scales: whole.bias_scales, zeros, axis: 0 });
        let y = self.tensor(&format!("{}.int8", node.name), Elem::I8, &shape, None);
        self.tensors[y as usize].steps = Some(steps(output));
        self.push(op, 3, &[x, weight, bias], y, options);
        self.rounded[node.output] = Some(y);
        UNMADE
    }

    /// A value in float32: dequantised where a convolution in integers gave it.
    fn float(&mut self, value: usize) -> i32 {
        if let (UNMADE, Some(whole)) = (self.values[value], self.rounded[value]) {
            let name = format!("{}.float32", self.tensors[whole as usize].name);
            let made = self.tensor(&name, Elem::F32, &self.network.shapes[value], None);
            self.push(Op::Dequantize, 2, &[whole], made, Options::None);
            self.values[value] = made;
        }
        self.values[value]
    }

    /// A value in int8.
    fn whole(&mut self, value: usize, scheme: Scheme) -> i32 {
        if let Some(done) = self.rounded[value] {
            return done;
        }
        let x = self.float(value);
        let name = format!("{}.int8", self.tensors[x as usize].name);
        let made = self.tensor(&name, Elem::I8, &self.network.shapes[value], None);
        self.tensors[made as usize].steps = Some(steps(scheme));
        self.push(Op::Quantize, 1, &[x], made, Options::None);
        self.rounded[value] = Some(made);
        made
    }

    fn activation(&mut self, x: i32, shape: &[usize], activation: Activation) -> i32 {
        match activation {
            Activation::Identity => x,
            Activation::Silu => {
                let gate = self.op(Op::Logistic, &[x], shape, Options::None);
                self.op(Op::Mul, &[x, gate], shape, Options::None)
            }
            Activation::Relu => self.op(Op::Relu, &[x], shape, Options::None),
            Activation::Relu6 => self.op(Op::Relu6, &[x], shape, Options::None),
            Activation::Hardswish => self.op(Op::HardSwish, &[x], shape, Options::None),
            Activation::Hardsigmoid => {
                let (three, sixth) =
                    (self.floats("three", &[1], &[3.0]), self.floats("sixth", &[1], &[1.0 / 6.0]));
                let moved = self.op(Op::Add, &[x, three], shape, Options::None);
                let cut = self.op(Op::Relu6, &[moved], shape, Options::None);
                self.op(Op::Mul, &[cut, sixth], shape, Options::None)
            }
            Activation::Sigmoid => self.op(Op::Logistic, &[x], shape, Options::None),
        }
    }

    fn attention(&mut self, x: i32, [n, h, w, _]: [usize; 4], a: Attention) -> i32 {
        let (runs, len) = (n * a.areas, h * w / a.areas);
        let dim = 2 * a.key_dim + a.value_dim;
        let cut = self.reshape(x, &[runs, len, a.heads, dim]);
        let by_head = self.transpose(cut, [0, 2, 1, 3], &[runs, a.heads, len, dim]);
        let query = self.slice(by_head, &[0, 0, 0, 0], &[runs, a.heads, len, a.key_dim]);
        let key = self.slice(by_head, &[0, 0, 0, a.key_dim], &[runs, a.heads, len, a.key_dim]);
        let value = self.slice(by_head, &[0, 0, 0, 2 * a.key_dim], &[runs, a.heads, len, a.value_dim]);
        let square = [runs, a.heads, len, len];
        let logits = self.op(Op::BatchMatmul, &[query, key], &square, Options::MatmulTransposed);
        let beta = (a.key_dim as f32).sqrt().recip();
        let shares = self.op(Op::Softmax, &[logits], &square, Options::Softmax { beta });
        let mixed =
            self.op(Op::BatchMatmul, &[shares, value], &[runs, a.heads, len, a.value_dim], Options::None);
        let back = self.transpose(mixed, [0, 2, 1, 3], &[runs, len, a.heads, a.value_dim]);
        self.reshape(back, &[n, h, w, a.heads * a.value_dim])
    }
}

/// The format's SAME padding: as many outputs as the stride fits into the input, the odd pixel after it.
fn same_padding([_, h, w, _]: [usize; 4], g: &ConvGeometry) -> [usize; 4] {
    let side = |size: usize, kernel: usize, stride: usize| {
        let needed = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
        (needed / 2, needed - needed / 2)
    };
    let (top, bottom) = side(h, g.kernel.0, g.stride.0);
    let (left, right) = side(w, g.kernel.1, g.stride.1);
    [top, left, bottom, right]
}

fn steps(scheme: Scheme) -> Steps {
    Steps { scales: vec![scheme.scale], zeros: vec![i64::from(scheme.zero)], axis: 0 }
}

/// `[out, in / groups, kh, kw]` as `[out, kh, kw, in]`, or for depthwise kernels `[kh, kw, out]`.
fn channels_last<T: Copy>(conv: &Conv, weight: &[T]) -> Vec<T> {
    let (kh, kw) = conv.geometry.kernel;
    let inner = conv.input / conv.geometry.groups;
    let at = |o: usize, i: usize, t: usize| weight[(o * inner + i) * kh * kw + t];
    let mut out = Vec::with_capacity(weight.len());
    if conv.is_depthwise() {
        for t in 0..kh * kw {
            out.extend((0..conv.out).map(|o| at(o, 0, t)));
        }
    } else {
        for o in 0..conv.out {
            for t in 0..kh * kw {
                out.extend((0..inner).map(|i| at(o, i, t)));
            }
        }
    }
    out
}
