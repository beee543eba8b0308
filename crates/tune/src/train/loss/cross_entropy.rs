//! The classification loss: softmax cross-entropy of the logits against one class an image, the mean over the batch; beside
//! it, where a starting model teaches, [`super::distill_softmax`].

use super::distill::{DistillConfig, Taught};
use super::{LossError, LossItems, Target, distill_softmax};

/// Cross-entropy in which each class has a weight; the mean is that of the weighted images.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    weights: Vec<f32>,
    distill: Option<DistillConfig>,
}

/// Natural logarithms of the softmax of one image's logits, in double precision.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
    let total: f64 = logits.iter().map(|&v| (f64::from(v) - most).exp()).sum();
    logits.iter().map(|&v| f64::from(v) - most - total.ln()).collect()
}

impl CrossEntropy {
    /// What each class's loss is multiplied by; as many numbers as classes.
    pub fn new(weights: Vec<f32>) -> CrossEntropy {
        CrossEntropy { weights, distill: None }
    }

    /// The same with what a starting model teaches, where it does.
    pub fn taught(self, distill: Option<DistillConfig>) -> CrossEntropy {
        CrossEntropy { distill, ..self }
    }

    /// The loss of `logits` (`[n, classes]`) and, where asked for, its gradient with respect to them. The gradient is that
    /// of the mean over the batch.
    ///
    /// # Errors
    /// A logit that is not finite, or targets that do not give each image one of the classes.
    pub fn compute(
        &self,
        logits: &[f32],
        n: usize,
        targets: &[Target],
        gradient: Option<&mut [f32]>,
    ) -> Result<LossItems, LossError> {
        self.compute_taught(logits, n, targets, None, gradient)
    }

    /// As [`CrossEntropy::compute`], with what the starting model says (`[n, old]`): images without a class are then those
    /// of which it alone speaks.
    ///
    /// # Errors
    /// As [`CrossEntropy::compute`].
    pub fn compute_taught(
        &self,
        logits: &[f32],
        n: usize,
        targets: &[Target],
        taught: Option<Taught<'_>>,
        mut gradient: Option<&mut [f32]>,
    ) -> Result<LossItems, LossError> {
        let lesson = self.distill.as_ref().zip(taught);
        let classes = self.weights.len();
        if logits.len() != n * classes || gradient.as_ref().is_some_and(|g| g.len() != logits.len()) {
            return Err(LossError::Shape { level: 0, found: logits.len(), expected: n * classes });
        }
        let mut truth = vec![None; n];
        for target in targets {
            let (image, class) = (target.image as usize, target.label.class as usize);
            let place = truth.get_mut(image).ok_or(LossError::Image { image, n })?;
            if class >= classes {
                return Err(LossError::Class { image, class, nc: classes });
            }
            *place = Some(class);
        }
        let weight = |class: usize| f64::from(self.weights[class]);
        let total: f64 = truth.iter().flatten().map(|&class| weight(class)).sum();
        let mut sum = 0.0;
        for (image, (row, truth)) in logits.chunks_exact(classes).zip(&truth).enumerate() {
            if row.iter().any(|v| !v.is_finite()) {
                return Err(LossError::NonFinite { image });
            }
            let Some(truth) = *truth else {
                let Some(gradient) = gradient.as_deref_mut().filter(|_| lesson.is_some()) else {
                    return Err(LossError::Unlabelled { image });
                };
                gradient[image * classes..][..classes].fill(0.0);
                continue;
            };
            let logs = log_softmax(row);
            sum -= weight(truth) * logs[truth];
            if let Some(gradient) = gradient.as_deref_mut() {
                for (c, (out, log)) in
                    gradient[image * classes..][..classes].iter_mut().zip(&logs).enumerate()
                {
                    let hit = if c == truth { 1.0 } else { 0.0 };
                    *out = (weight(truth) * (log.exp() - hit) / total) as f32;
                }
            }
        }
        let cls = sum / total.max(f64::MIN_POSITIVE);
        let distill = match lesson {
            None => None,
            Some((config, taught)) => Some(learn(config, &taught, (logits, n, classes), gradient)?),
        };
        let total = cls + distill.unwrap_or(0.0);
        Ok(LossItems { cls, distill, total, foreground: n, ..LossItems::default() })
    }
}

/// The distillation of a batch, its gain applied; its gradient is added.
fn learn(
    config: &DistillConfig,
    taught: &Taught<'_>,
    (logits, n, classes): (&[f32], usize, usize),
    mut gradient: Option<&mut [f32]>,
) -> Result<f64, LossError> {
    let said = taught.maps[0];
    if said.len() != n * config.old {
        return Err(LossError::Shape { level: 0, found: said.len(), expected: n * config.old });
    }
    let scale = f64::from(config.gain) / n as f64;
    let mut sum = 0.0;
    let rows = logits.chunks_exact(classes).zip(said.chunks_exact(config.old));
    for (image, ((x, y), &source)) in rows.zip(taught.sources).enumerate() {
        if y.iter().any(|v| !v.is_finite()) {
            return Err(LossError::NonFinite { image });
        }
        let own = gradient.as_deref_mut().map(|g| &mut g[image * classes..][..classes]);
        sum += distill_softmax::image(x, y, source == 1, scale, own);
    }
    Ok(scale * sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::classify::label_of;

    fn target(image: u32, class: u32) -> Target {
        Target { image, label: label_of(class) }
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let loss = CrossEntropy::new(vec![0.5, 2.0, 1.0]);
        let logits = [0.5f32, -1.0, 2.0, 100.0, 101.0, 99.0];
        let targets = [target(0, 1), target(1, 0)];
        let mut gradient = [0.0; 6];
        let items = loss.compute(&logits, 2, &targets, Some(&mut gradient)).unwrap();
        let expected = |row: [f64; 3], t: usize| row.iter().map(|v| (v - row[t]).exp()).sum::<f64>().ln();
        let want = (2.0 * expected([0.5, -1.0, 2.0], 1) + 0.5 * expected([100.0, 101.0, 99.0], 0)) / 2.5;
        assert!((items.cls - want).abs() < 1e-12, "{} {want}", items.cls);
        for i in 0..6 {
            let at = |h: f32| {
                let mut moved = logits;
                moved[i] += h;
                loss.compute(&moved, 2, &targets, None).unwrap().cls
            };
            let slope = (at(0.0078125) - at(-0.0078125)) / 0.015625;
            assert!((slope - f64::from(gradient[i])).abs() < 1e-5, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_starting_model_speaks_where_there_is_no_label() {
        let config = DistillConfig { gain: 2.0, old: 2, sources: Vec::new() };
        let loss = CrossEntropy::new(vec![1.0; 3]).taught(Some(config));
        let logits = [0.5f32, -1.0, 2.0, 1.0, 0.0, -2.0];
        let said = [1.0f32, 0.0, 3.0, -1.0];
        let (maps, sources) = ([said.as_slice()], [0, 1]);
        let taught = || Some(Taught { maps: &maps, sources: &sources });
        let mut gradient = [0.0; 6];
        let items = loss.compute_taught(&logits, 2, &[target(0, 2)], taught(), Some(&mut gradient)).unwrap();
        let plain = CrossEntropy::new(vec![1.0; 3]).compute(&logits[..3], 1, &[target(0, 2)], None).unwrap();
        assert_eq!(items.cls, plain.cls, "the mean is that of the labelled images");
        assert!((items.total - items.cls - items.distill.unwrap()).abs() < 1e-12);
        for i in 0..6 {
            let at = |h: f32| {
                let mut moved = logits;
                moved[i] += h;
                let mut unused = [0.0; 6];
                loss.compute_taught(&moved, 2, &[target(0, 2)], taught(), Some(&mut unused)).unwrap().total
            };
            let slope = (at(0.015625) - at(-0.015625)) / 0.03125;
            assert!((slope - f64::from(gradient[i])).abs() < 2e-4, "{i}: {slope} {}", gradient[i]);
        }
        assert_eq!(loss.compute(&logits, 2, &[target(0, 2)], None), Err(LossError::Unlabelled { image: 1 }));
    }

    #[test]
    fn bad_batches_are_refused() {
        let loss = CrossEntropy::new(vec![1.0; 2]);
        let refuse = |logits: &[f32], targets: &[Target]| loss.compute(logits, 1, targets, None).unwrap_err();
        assert_eq!(refuse(&[f32::NAN, 0.0], &[target(0, 0)]), LossError::NonFinite { image: 0 });
        assert_eq!(refuse(&[0.0, 0.0], &[target(0, 2)]), LossError::Class { image: 0, class: 2, nc: 2 });
        assert_eq!(refuse(&[0.0, 0.0], &[]), LossError::Unlabelled { image: 0 });
        assert_eq!(refuse(&[0.0, 0.0], &[target(1, 0)]), LossError::Image { image: 1, n: 1 });
        assert!(matches!(refuse(&[0.0], &[target(0, 0)]), LossError::Shape { .. }));
    }
}
