//! Batch norm that was folded into the convolutions, and how it comes back.
//!
//! An exported network has no norms: their scale and shift are in the convolutions' weights and biases. A norm that
//! changes nothing restores the same function for inference. For training that is not enough: as soon as batch
//! statistics take the place of the running ones, it would normalise activations that it should leave alone. So
//! the running statistics are set from data, and scale and shift such that the function stays the same.

use onsa_compute::graph::Params;

use super::blocks::NORM_EPS;
use super::error::ModelError;

/// Mean and variance over n, h and w, one a channel, of one batch norm's input.
#[derive(Clone, Debug, PartialEq)]
pub struct NormStatistics {
    /// The norm's dotted name, such as `model.0.bn`.
    pub name: String,
    /// Means.
    pub mean: Vec<f32>,
    /// Variances, 0 or more.
    pub var: Vec<f32>,
}

/// Running variance of a norm of scale 1 that divides by 1.
pub(super) fn identity_variance() -> f32 {
    1.0 - NORM_EPS
}

/// Whether some norm is as a file gives it whose norms were folded away: training has to calibrate them first.
pub(super) fn is_folded(params: &Params) -> bool {
    params.infos.iter().any(|info| {
        let Some(norm) = info.name.strip_suffix(".running_var") else { return false };
        let mean = params.find(&format!("{norm}.running_mean"));
        params.values[info.range()].iter().all(|&var| var == identity_variance())
            && mean.is_some_and(|mean| params.get(mean).iter().all(|&mean| mean == 0.0))
    })
}

/// Takes the statistics of each norm's input for its running ones, and changes its scale and shift so that in
/// evaluation mode it computes what it computed before: for a norm that changed nothing but added `b`, scale =
/// sqrt(var + eps) and shift = b + mean.
///
/// # Errors
/// Statistics of an unknown norm, of another number of channels, or that are no numbers.
pub fn calibrate(params: &mut Params, statistics: &[NormStatistics]) -> Result<(), ModelError> {
    let eps = f64::from(NORM_EPS);
    // Check all before changing anything: an error leaves the parameters as they were.
    let mut places = Vec::with_capacity(statistics.len());
    for norm in statistics {
        let at = |part: &str| {
            let name = format!("{}.{part}", norm.name);
            params.find(&name).ok_or_else(|| ModelError::Tensor {
                name,
                reason: "statistics were given for a norm that the model does not have".into(),
            })
        };
        let place = [at("weight")?, at("bias")?, at("running_mean")?, at("running_var")?];
        let channels = params.infos[place[0]].len;
        let fits = norm.mean.len() == channels && norm.var.len() == channels;
        let numbers =
            norm.mean.iter().all(|m| m.is_finite()) && norm.var.iter().all(|v| v.is_finite() && *v >= 0.0);
        if !fits || !numbers {
            let reason = if fits {
                "its input's statistics are not finite; the weights or the images are damaged".to_owned()
            } else {
                format!("{} means and {} variances for {channels} channels", norm.mean.len(), norm.var.len())
            };
            return Err(ModelError::Tensor { name: norm.name.clone(), reason });
        }
        places.push(place);
    }
    for (norm, place) in statistics.iter().zip(places) {
        let [scale, shift, mean, var] = place.map(|i| params.infos[i].offset);
        for c in 0..norm.mean.len() {
            let [old_scale, old_shift, old_mean, old_var] =
                [scale, shift, mean, var].map(|start| f64::from(params.values[start + c]));
            let factor = old_scale / (old_var + eps).sqrt();
            let offset = old_shift - factor * old_mean;
            let (new_mean, new_var) = (f64::from(norm.mean[c]), f64::from(norm.var[c]));
            params.values[scale + c] = (factor * (new_var + eps).sqrt()) as f32;
            params.values[shift + c] = (offset + factor * new_mean) as f32;
            params.values[mean + c] = norm.mean[c];
            params.values[var + c] = norm.var[c];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Family, Model, Scale, init_fresh};

    #[test]
    fn one_norm_that_was_folded_away_is_seen() {
        let model = Model::build(&Architecture::published(Family::Yolo11, Scale::N, 1), [1, 32, 32]).unwrap();
        let mut params = init_fresh(&model, 0);
        assert!(!is_folded(&params), "a fresh norm is none");
        let place = params.infos[params.find("model.1.bn.running_var").unwrap()].range();
        params.values[place].fill(identity_variance());
        assert!(is_folded(&params));
    }
    use onsa_compute::graph::Graph;

    fn one_norm(channels: usize) -> Params {
        let mut graph = Graph::new();
        let x = graph.input("x", [1, 1, 1, channels]);
        graph.batch_norm(x, "model.0.bn", NORM_EPS, 0.03);
        Params::new(&graph)
    }

    fn evaluate(params: &Params, x: f32, c: usize) -> f32 {
        let get = |part: &str| params.get(params.find(&format!("model.0.bn.{part}")).unwrap())[c];
        (x - get("running_mean")) / (get("running_var") + NORM_EPS).sqrt() * get("weight") + get("bias")
    }

    #[test]
    fn an_identity_norm_takes_the_statistics_and_stays_the_same_function() {
        let mut params = one_norm(2);
        let shift = params.find("model.0.bn.bias").unwrap();
        params.set_torch(shift, &[0.5, -3.0]);
        let var = params.find("model.0.bn.running_var").unwrap();
        params.set_torch(var, &[identity_variance(); 2]);
        let before = [evaluate(&params, 2.0, 0), evaluate(&params, 2.0, 1)];
        assert!((before[0] - 2.5).abs() < 1e-6 && (before[1] + 1.0).abs() < 1e-6);

        let norm = NormStatistics { name: "model.0.bn".into(), mean: vec![4.0, -0.25], var: vec![9.0, 0.0] };
        calibrate(&mut params, &[norm]).unwrap();
        let scale = params.get(params.find("model.0.bn.weight").unwrap());
        assert!((scale[0] - 9.001f32.sqrt()).abs() < 1e-6 && (scale[1] - 1e-3f32.sqrt()).abs() < 1e-7);
        let shift = params.get(params.find("model.0.bn.bias").unwrap());
        assert!((shift[0] - 4.5).abs() < 1e-6 && (shift[1] + 3.25).abs() < 1e-6);
        for (c, before) in before.into_iter().enumerate() {
            assert!((evaluate(&params, 2.0, c) - before).abs() < 1e-5, "channel {c}");
        }
    }

    #[test]
    fn unusable_statistics_change_nothing() {
        let mut params = one_norm(1);
        let original = params.clone();
        let norm =
            |name: &str, mean: Vec<f32>, var: f32| NormStatistics { name: name.into(), mean, var: vec![var] };
        let good = norm("model.0.bn", vec![1.0], 2.0);
        for bad in [
            norm("model.9.bn", vec![1.0], 2.0),
            norm("model.0.bn", vec![1.0, 2.0], 2.0),
            norm("model.0.bn", vec![f32::NAN], 2.0),
            norm("model.0.bn", vec![1.0], -1.0),
        ] {
            assert!(calibrate(&mut params, &[good.clone(), bad]).is_err());
            assert_eq!(params, original);
        }
    }
}
