//! A network's own nodes, in ONNX's layout `[n, c, h, w]`.

use onsa_compute::graph::{Activation, Attention};

use super::builder::{Attr, Builder, Elem};
use crate::export::network::{Conv, Kind, Network, Node};
use crate::export::quantise::{Quantisation, Scheme};

/// How the nodes are written.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// float32 or float16, of weights and values.
    pub elem: Elem,
    /// Whether height and width are known only when the model runs.
    pub free_size: bool,
    /// Where the convolutions are quantised: how.
    pub quantised: Option<&'a Quantisation>,
}

/// Writes every node. `input` is the image's name; the result is the outputs' names.
pub fn write(b: &mut Builder, network: &Network, input: &str, style: &Style<'_>) -> Vec<String> {
    let count = network.shapes.len();
    let mut writer =
        Writer { b, network, style, names: vec![String::new(); count], rounded: vec![None; count] };
    writer.names[network.input] = input.to_owned();
    for node in &network.nodes {
        let name = writer.node(node);
        writer.names[node.output] = name;
    }
    network.outputs.iter().map(|&value| writer.names[value].clone()).collect()
}

struct Writer<'a, 'b> {
    b: &'b mut Builder,
    network: &'a Network,
    style: &'a Style<'a>,
    /// Each value's name once it is made.
    names: Vec<String>,
    /// The name of its quantised and dequantised form, once a convolution asked for it.
    rounded: Vec<Option<String>>,
}

impl Writer<'_, '_> {
    fn node(&mut self, node: &Node) -> String {
        let x = self.names[node.inputs[0]].clone();
        match &node.kind {
            Kind::Conv(conv) => self.conv(node, conv),
            Kind::Activation(activation) => self.activation(&node.name, &x, *activation),
            Kind::Add => {
                let y = self.names[node.inputs[1]].clone();
                self.b.named(&node.name, "Add", &[&x, &y], &[])
            }
            Kind::Gate => {
                let y = self.names[node.inputs[1]].clone();
                self.b.named(&node.name, "Mul", &[&x, &y], &[])
            }
            Kind::Affine { scale, shift } => {
                let dims = [1, scale.len(), 1, 1];
                let factor = self.b.floats(&format!("{}.scale", node.name), self.style.elem, &dims, scale);
                let y = self.b.named(&node.name, "Mul", &[&x, &factor], &[]);
                match shift {
                    Some(shift) => {
                        let name = format!("{}.shift", node.name);
                        let shift = self.b.floats(&name, self.style.elem, &dims, shift);
                        self.b.op("Add", &[&y, &shift])
                    }
                    None => y,
                }
            }
            Kind::Concat => {
                let names: Vec<&str> = node.inputs.iter().map(|&v| self.names[v].as_str()).collect();
                self.b.named(&node.name, "Concat", &names, &[("axis", Attr::Int(1))])
            }
            Kind::Slice { start, len } => self.b.slice(&x, 1, *start as i64, (start + len) as i64),
            Kind::GatherHeads { heads, start, len } => {
                let group = self.channels(node.inputs[0]) / heads;
                let picked: Vec<i64> =
                    (0..heads * len).map(|i| ((i / len) * group + start + i % len) as i64).collect();
                let picked = self.b.ints(&picked);
                self.b.op_with("Gather", &[&x, &picked], &[("axis", Attr::Int(1))])
            }
            Kind::MaxPool { kernel, stride, pad } => {
                let both = |v: usize| Attr::Ints(vec![v as i64; 2]);
                let attributes = [
                    ("kernel_shape", both(*kernel)),
                    ("strides", both(*stride)),
                    ("pads", Attr::Ints(vec![*pad as i64; 4])),
                ];
                self.b.named(&node.name, "MaxPool", &[&x], &attributes)
            }
            Kind::Upsample2 => {
                let factors = self.b.constant(&[4], &[1.0, 1.0, 2.0, 2.0]);
                let attributes = [
                    ("mode", Attr::Text("nearest")),
                    ("coordinate_transformation_mode", Attr::Text("asymmetric")),
                    ("nearest_mode", Attr::Text("floor")),
                ];
                self.b.named(&node.name, "Resize", &[&x, "", &factors], &attributes)
            }
            Kind::Attention(attention) => self.attention(node, *attention),
            Kind::GlobalAvgPool => self.b.named(&node.name, "GlobalAveragePool", &[&x], &[]),
        }
    }

    fn channels(&self, value: usize) -> usize {
        self.network.shapes[value][3]
    }

    fn conv(&mut self, node: &Node, conv: &Conv) -> String {
        let g = conv.geometry;
        let pair = |(h, w): (usize, usize)| Attr::Ints(vec![h as i64, w as i64]);
        let attributes = [
            ("kernel_shape", pair(g.kernel)),
            ("strides", pair(g.stride)),
            ("pads", Attr::Ints(g.pad.iter().map(|&p| p as i64).collect())),
            ("group", Attr::Int(g.groups as i64)),
        ];
        let dims = [conv.out, conv.input / g.groups, g.kernel.0, g.kernel.1];
        let (weight_name, bias_name) = (format!("{}.weight", node.name), format!("{}.bias", node.name));
        let quantised = self.style.quantised.and_then(|q| Some((q, q.input_scheme(node)?)));
        let Some((quantisation, input)) = quantised else {
            let x = self.names[node.inputs[0]].clone();
            let weight = self.b.floats(&weight_name, self.style.elem, &dims, &conv.weight);
            let bias = self.b.floats(&bias_name, self.style.elem, &[conv.out], &conv.bias);
            let y = self.b.named(&node.name, "Conv", &[&x, &weight, &bias], &attributes);
            return self.activation(&format!("{}.activation", node.name), &y, conv.activation);
        };
        let x = self.rounded(node.inputs[0], input);
        let weights = crate::export::quantise::weights(conv, input, quantisation.input_means(node));
        let bytes = weights.values.iter().map(|&v| v as u8).collect();
        let weight = self.b.tensor(&weight_name, Elem::I8, &dims, bytes);
        let weight = self.dequantised(&weight, &weight_name, Elem::I8, &weights.scales);
        let bytes = weights.bias.iter().flat_map(|v| v.to_le_bytes()).collect();
        let bias = self.b.tensor(&bias_name, Elem::I32, &[conv.out], bytes);
        let bias = self.dequantised(&bias, &bias_name, Elem::I32, &weights.bias_scales);
        let y = self.b.named(&node.name, "Conv", &[&x, &weight, &bias], &attributes);
        let y = self.activation(&format!("{}.activation", node.name), &y, conv.activation);
        match quantisation.output_scheme(node).filter(|_| !quantisation.smooth) {
            Some(output) => {
                let rounded = self.quantise(&y, output);
                // A convolution that reads it takes it as it is.
                self.rounded[node.output] = Some(rounded.clone());
                rounded
            }
            None => y,
        }
    }

    /// One scale a channel, symmetric.
    fn dequantised(&mut self, x: &str, name: &str, elem: Elem, scales: &[f32]) -> String {
        let zeros = vec![0; scales.len() * if elem == Elem::I32 { 4 } else { 1 }];
        let scale = self.b.floats(&format!("{name}.scale"), Elem::F32, &[scales.len()], scales);
        let zero = self.b.tensor(&format!("{name}.zero"), elem, &[scales.len()], zeros);
        self.b.op_with("DequantizeLinear", &[x, &scale, &zero], &[("axis", Attr::Int(0))])
    }

    /// A value rounded to int8 and back: what a runtime fuses into an integer convolution.
    fn rounded(&mut self, value: usize, scheme: Scheme) -> String {
        if let Some(done) = &self.rounded[value] {
            return done.clone();
        }
        let x = self.names[value].clone();
        let y = self.quantise(&x, scheme);
        self.rounded[value] = Some(y.clone());
        y
    }

    fn quantise(&mut self, x: &str, scheme: Scheme) -> String {
        let scale = self.b.scalar(Elem::F32, f64::from(scheme.scale));
        let zero = self.b.scalar(Elem::I8, f64::from(scheme.zero));
        let q = self.b.op("QuantizeLinear", &[x, &scale, &zero]);
        self.b.op("DequantizeLinear", &[&q, &scale, &zero])
    }

    fn activation(&mut self, name: &str, x: &str, activation: Activation) -> String {
        match activation {
            Activation::Identity => x.to_owned(),
            Activation::Silu => {
                let gate = self.b.op("Sigmoid", &[x]);
                self.b.named(name, "Mul", &[x, &gate], &[])
            }
            Activation::Relu => self.b.named(name, "Relu", &[x], &[]),
            Activation::Relu6 => {
                let (low, high) = (self.b.scalar(self.style.elem, 0.0), self.b.scalar(self.style.elem, 6.0));
                self.b.named(name, "Clip", &[x, &low, &high], &[])
            }
            Activation::Hardswish => self.b.named(name, "HardSwish", &[x], &[]),
            Activation::Hardsigmoid => {
                let attributes = [("alpha", Attr::Float(1.0 / 6.0)), ("beta", Attr::Float(0.5))];
                self.b.named(name, "HardSigmoid", &[x], &attributes)
            }
            Activation::Sigmoid => self.b.named(name, "Sigmoid", &[x], &[]),
        }
    }

    /// `softmax(q k^T / sqrt(key_dim)) v` within each area.
    fn attention(&mut self, node: &Node, a: Attention) -> String {
        let x = self.names[node.inputs[0]].clone();
        let [_, h, w, _] = self.network.shapes[node.inputs[0]];
        let (heads, key, value) = (a.heads as i64, a.key_dim as i64, a.value_dim as i64);
        let dim = 2 * key + value;
        // [n, heads, (areas,) channels, positions of an area]
        let (split, axis) = if a.areas > 1 {
            let cut = self.b.reshape(&x, &[0, heads, dim, a.areas as i64, -1]);
            (self.b.transpose(&cut, &[0, 1, 3, 2, 4]), 3)
        } else {
            (self.b.reshape(&x, &[0, heads, dim, -1]), 2)
        };
        let swapped: &[i64] = if a.areas > 1 { &[0, 1, 2, 4, 3] } else { &[0, 1, 3, 2] };
        let parts = self.b.split(&split, axis, &[key, key, value]);
        let query = self.b.transpose(&parts[0], swapped);
        let scale = self.b.scalar(self.style.elem, f64::from(a.key_dim as f32).sqrt().recip());
        let query = self.b.op("Mul", &[&query, &scale]);
        let logits = self.b.op("MatMul", &[&query, &parts[1]]);
        let weights = self.b.op_with("Softmax", &[&logits], &[("axis", Attr::Int(-1))]);
        let values = self.b.transpose(&parts[2], swapped);
        let mixed = self.b.op("MatMul", &[&weights, &values]);
        // [n, heads, (areas,) positions, value] -> [n, heads, value, (areas,) positions]
        let order: &[i64] = if a.areas > 1 { &[0, 1, 4, 2, 3] } else { &[0, 1, 3, 2] };
        let mixed = self.b.transpose(&mixed, order);
        if self.style.free_size {
            let size = self.b.op_with("Shape", &[&x], &[("start", Attr::Int(2))]);
            let front = self.b.ints(&[0, heads * value]);
            let shape = self.b.concat(&[&front, &size], 0);
            self.b.named(&node.name, "Reshape", &[&mixed, &shape], &[])
        } else {
            let shape = self.b.ints(&[0, heads * value, h as i64, w as i64]);
            self.b.named(&node.name, "Reshape", &[&mixed, &shape], &[])
        }
    }
}
