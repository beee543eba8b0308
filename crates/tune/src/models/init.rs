//! Initial values of a network that is trained from scratch, and of the parts that a checkpoint does not fill.
//!
//! Every random number is a function of (seed, parameter's name, element), so that it depends on nothing else: not on
//! the other parameters, the order of their creation or the number of threads.

use onsa_compute::graph::{Params, Role};

use super::architecture::Model;

/// Edge of the square image, pixels, whose positions the class bias counts on.
const NOMINAL_IMAGE: f64 = 640.0;
/// Objects that such an image is expected to hold.
const EXPECTED_OBJECTS: f64 = 5.0;
/// Bias of the box logits.
const BOX_BIAS: f32 = 2.0;
/// Initial scale of a residual attention block.
const CHANNEL_SCALE: f32 = 0.01;

/// Initial values for the whole network.
///
/// Convolutions: uniform in +-1/sqrt(fan in), fan in = input channels a group times kernel area (He et al., 2015, with
/// the slope sqrt(5) that is PyTorch's default). Norms: scale 1, shift 0, mean 0, variance 1. Head: see [`class_bias`].
pub fn init_fresh(model: &Model, seed: u64) -> Params {
    let mut params = model.blank_params();
    for i in 0..params.infos.len() {
        if let Some(values) = initial_values(model, &params.infos[i].name, seed) {
            params.set_torch(i, &values);
        }
    }
    params
}

/// A parameter's initial values in PyTorch's order; None where [`Params::new`]'s are right.
///
/// # Panics
/// If the model has no parameter of that name.
fn initial_values(model: &Model, name: &str, seed: u64) -> Option<Vec<f32>> {
    let infos = model.graph.params();
    let info = infos.iter().find(|info| info.name == name).expect("the name comes from this graph");
    match info.role {
        Role::Weight => {
            let fan_in: usize = info.shape[1..].iter().product();
            Some(uniform(seed, name, info.len, 1.0 / (fan_in as f32).sqrt()))
        }
        Role::ChannelScale => Some(vec![CHANNEL_SCALE; info.len]),
        Role::Bias => {
            for (level, place) in model.levels.iter().enumerate() {
                let (boxes, classes) = model.logit_names(level);
                if name.strip_suffix(".bias") == Some(&boxes) {
                    return Some(vec![BOX_BIAS; info.len]);
                }
                if name.strip_suffix(".bias") == Some(&classes) {
                    return Some(vec![class_bias(info.len, place.stride); info.len]);
                }
            }
            None
        }
        Role::NormScale | Role::NormShift | Role::RunningMean | Role::RunningVar => None,
    }
}

/// Bias of the class logits: log(5 / classes / (640 / stride)^2), which makes the untrained head expect about five
/// objects on an image of 640 px (the prior of Lin et al., 2017, arXiv:1708.02002).
pub fn class_bias(classes: usize, stride: usize) -> f32 {
    let positions = (NOMINAL_IMAGE / stride as f64).powi(2);
    (EXPECTED_OBJECTS / classes as f64 / positions).ln() as f32
}

/// `len` numbers, uniform in [-bound, bound): a stream for each seed and parameter.
pub(super) fn uniform(seed: u64, name: &str, len: usize, bound: f32) -> Vec<f32> {
    // FNV-1a of the name starts the parameter's own stream.
    let stream = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let key = mix(seed ^ mix(stream));
    let unit = |i: usize| (mix(key.wrapping_add(i as u64)) >> 40) as f32 / (1u64 << 24) as f32;
    (0..len).map(|i| (2.0 * unit(i) - 1.0) * bound).collect()
}

/// SplitMix64's step (Steele, Lea and Flood, 2014): a bijection that scatters neighbouring inputs.
fn mix(input: u64) -> u64 {
    let mut z = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Family, Scale};

    #[test]
    fn values_are_in_bounds_seeded_and_spread() {
        let a = uniform(1, "w", 4096, 0.5);
        assert!(a.iter().all(|v| (-0.5..0.5).contains(v)));
        let mean = a.iter().sum::<f32>() / 4096.0;
        let variance = a.iter().map(|v| v * v).sum::<f32>() / 4096.0;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0 / 12.0).abs() < 0.004, "{variance}");
        assert_eq!(a, uniform(1, "w", 4096, 0.5));
        assert_ne!(a, uniform(2, "w", 4096, 0.5));
        assert_ne!(a, uniform(1, "v", 4096, 0.5));
    }

    #[test]
    fn a_fresh_head_expects_few_objects() {
        let model = Model::build(&Architecture::published(Family::Yolo12, Scale::L, 3), [1, 32, 32]).unwrap();
        let params = init_fresh(&model, 7);
        let get = |name: &str| params.get(params.find(name).unwrap()).to_vec();
        assert_eq!(get("model.21.cv2.0.2.bias"), vec![2.0; 64]);
        let expected = (5.0f64 / 3.0 / 400.0).ln() as f32; // level 2: 20 x 20 positions
        assert_eq!(get("model.21.cv3.2.2.bias"), vec![expected; 3]);
        assert!(get("model.6.gamma").iter().all(|&v| v == 0.01));
        assert!(get("model.0.bn.weight").iter().all(|&v| v == 1.0));
        // 3 input channels, 3x3: bound 1/sqrt(27).
        let stem = get("model.0.conv.weight");
        let largest = stem.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= 1.0 / 27f32.sqrt() && largest > 0.9 / 27f32.sqrt(), "{largest}");
    }
}
