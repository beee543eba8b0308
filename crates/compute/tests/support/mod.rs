//! A plain float64 interpreter of graphs: slow, obvious, and independent of the engine's lowering and kernels.

pub mod build;

use onsa_compute::graph::Op;
use onsa_compute::{Activation, Graph, Params};

/// Random numbers in [-1, 1) from a counter.
pub fn random(n: usize, seed: u64) -> Vec<f32> {
    (0..n as u64)
        .map(|i| {
            let mut x = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn activate(a: Activation, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match a {
        Activation::Identity => x,
        Activation::Silu => x * sigmoid,
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Hardswish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Hardsigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => sigmoid,
    }
}

/// Values of every node; `batch_stats` as in training.
pub fn evaluate(graph: &Graph, params: &[f64], inputs: &[Vec<f64>], batch_stats: bool) -> Vec<Vec<f64>> {
    let infos = graph.params();
    let param = |id: onsa_compute::graph::ParamId| &params[infos[id.index()].range()];
    let mut values: Vec<Vec<f64>> = Vec::new();
    let mut input = inputs.iter();
    for node in graph.nodes() {
        let [n, h, w, c] = node.shape;
        let source = |i: usize| {
            let v = node.inputs[i];
            (&values[v.index()], graph.shape(v))
        };
        let mut out = vec![0.0; n * h * w * c];
        match &node.op {
            Op::Input => out.clone_from(input.next().expect("as many inputs as nodes")),
            Op::Conv2d { weight, bias, geometry: g } => {
                let (x, [_, ih, iw, ic]) = source(0);
                let weight = param(*weight);
                for (at, y) in out.iter_mut().enumerate() {
                    let (b, oy, ox, o) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
                    *y = bias.map_or(0.0, |b| param(b)[o]);
                    for (ky, kx) in (0..g.kernel.0).flat_map(|ky| (0..g.kernel.1).map(move |kx| (ky, kx))) {
                        let iy = (oy * g.stride.0 + ky).wrapping_sub(g.pad[0]);
                        let ix = (ox * g.stride.1 + kx).wrapping_sub(g.pad[1]);
                        if iy >= ih || ix >= iw {
                            continue;
                        }
                        let from = ((b * ih + iy) * iw + ix) * ic;
                        let tap = ky * g.kernel.1 + kx;
                        if g.groups == 1 {
                            for i in 0..ic {
                                *y += x[from + i] * weight[(tap * ic + i) * c + o];
                            }
                        } else {
                            *y += x[from + o] * weight[tap * c + o];
                        }
                    }
                }
            }
            Op::BatchNorm { scale, shift, mean, var, eps, .. } => {
                let (x, _) = source(0);
                let pixels = n * h * w;
                for ch in 0..c {
                    let column = || (0..pixels).map(|p| x[p * c + ch]);
                    let (m, v) = if batch_stats {
                        let m = column().sum::<f64>() / pixels as f64;
                        (m, column().map(|x| (x - m).powi(2)).sum::<f64>() / pixels as f64)
                    } else {
                        (param(*mean)[ch], param(*var)[ch])
                    };
                    let inverse = 1.0 / (v + f64::from(*eps)).sqrt();
                    for p in 0..pixels {
                        out[p * c + ch] =
                            (x[p * c + ch] - m) * inverse * param(*scale)[ch] + param(*shift)[ch];
                    }
                }
            }
            Op::Activation(a) => out = source(0).0.iter().map(|&x| activate(*a, x)).collect(),
            Op::Add => out = source(0).0.iter().zip(source(1).0).map(|(a, b)| a + b).collect(),
            Op::ScaleChannels { scale } => {
                let s = param(*scale);
                out = source(0).0.iter().enumerate().map(|(i, x)| x * s[i % c]).collect();
            }
            Op::Gate => {
                let (x, factors) = (source(0).0, source(1).0);
                out = x.iter().enumerate().map(|(i, x)| x * factors[i / (h * w * c) * c + i % c]).collect();
            }
            Op::Concat => {
                let mut start = 0;
                for i in 0..node.inputs.len() {
                    let (x, [.., ic]) = source(i);
                    for (at, v) in x.iter().enumerate() {
                        out[at / ic * c + start + at % ic] = *v;
                    }
                    start += ic;
                }
            }
            Op::Slice { start } => {
                let (x, [.., ic]) = source(0);
                for (at, y) in out.iter_mut().enumerate() {
                    *y = x[at / c * ic + start + at % c];
                }
            }
            Op::GatherHeads { heads, start, len } => {
                let (x, [.., ic]) = source(0);
                for (at, y) in out.iter_mut().enumerate() {
                    let (head, i) = (at % c / len, at % len);
                    *y = x[at / c * ic + head * (ic / heads) + start + i];
                }
            }
            Op::MaxPool { kernel, stride, pad } => {
                let (x, [_, ih, iw, _]) = source(0);
                for (at, y) in out.iter_mut().enumerate() {
                    let (b, oy, ox, o) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
                    *y = f64::NEG_INFINITY;
                    for (ky, kx) in (0..*kernel).flat_map(|ky| (0..*kernel).map(move |kx| (ky, kx))) {
                        let iy = (oy * stride + ky).wrapping_sub(*pad);
                        let ix = (ox * stride + kx).wrapping_sub(*pad);
                        if iy < ih && ix < iw {
                            *y = y.max(x[((b * ih + iy) * iw + ix) * c + o]);
                        }
                    }
                }
            }
            Op::Upsample2 => {
                let (x, [_, ih, iw, _]) = source(0);
                for (at, y) in out.iter_mut().enumerate() {
                    let (b, oy, ox, o) = (at / (h * w * c), at / (w * c) % h, at / c % w, at % c);
                    *y = x[((b * ih + oy / 2) * iw + ox / 2) * c + o];
                }
            }
            Op::Attention(a) => {
                let (x, [.., ic]) = source(0);
                let group = 2 * a.key_dim + a.value_dim;
                let run = h * w / a.areas;
                for item in 0..n * a.areas * a.heads {
                    let (first, head) = (item / a.heads * run, item % a.heads);
                    let at = |p: usize, i: usize| x[(first + p) * ic + head * group + i];
                    for i in 0..run {
                        let scores: Vec<f64> = (0..run)
                            .map(|j| {
                                let dot: f64 = (0..a.key_dim).map(|d| at(i, d) * at(j, a.key_dim + d)).sum();
                                (dot / (a.key_dim as f64).sqrt()).exp()
                            })
                            .collect();
                        let total: f64 = scores.iter().sum();
                        for d in 0..a.value_dim {
                            let sum: f64 = (0..run).map(|j| scores[j] * at(j, 2 * a.key_dim + d)).sum();
                            out[(first + i) * c + head * a.value_dim + d] = sum / total;
                        }
                    }
                }
            }
            Op::GlobalAvgPool => {
                let (x, [_, ih, iw, _]) = source(0);
                for (at, y) in out.iter_mut().enumerate() {
                    let (b, o) = (at / c, at % c);
                    *y = (0..ih * iw).map(|p| x[(b * ih * iw + p) * c + o]).sum::<f64>() / (ih * iw) as f64;
                }
            }
        }
        values.push(out);
    }
    values
}

/// Sum over outputs of output times its weights.
pub fn weighted_sum(graph: &Graph, values: &[Vec<f64>], weights: &[Vec<f32>]) -> f64 {
    graph
        .outputs()
        .iter()
        .zip(weights)
        .map(|((_, v), w)| values[v.index()].iter().zip(w).map(|(a, &b)| a * f64::from(b)).sum::<f64>())
        .sum()
}

/// Parameters with random values of sensible size for their role.
pub fn random_params(graph: &Graph, seed: u64) -> Params {
    use onsa_compute::Role::*;
    let mut params = Params::new(graph);
    for i in 0..params.infos.len() {
        let info = params.infos[i].clone();
        let fan_in = (info.len / info.shape[0]).max(1) as f32;
        let values = random(info.len, seed * 1000 + i as u64);
        for (x, r) in params.values[info.range()].iter_mut().zip(values) {
            *x = match info.role {
                Weight => r * (3.0 / fan_in).sqrt(),
                NormScale | RunningVar | ChannelScale => 1.0 + 0.5 * r,
                NormShift | Bias | RunningMean => 0.5 * r,
            };
        }
    }
    params
}
