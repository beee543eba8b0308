//! Weights of classes by their rarity.

/// What each class's cross-entropy is multiplied by: (1 / its boxes) ^ `power`, scaled to a mean of 1. A class without a
/// box gets the mean weight of those that have some. `counts` holds each class's boxes; `power` lies from 0 (all alike) to
/// 1 (a class counts as much as any other, however rare).
pub fn class_weights(counts: &[usize], power: f64) -> Vec<f32> {
    let weight = |count: usize| (1.0 / count as f64).powf(power);
    let present: Vec<f64> = counts.iter().filter(|&&count| count > 0).map(|&count| weight(count)).collect();
    if power == 0.0 || present.is_empty() {
        return vec![1.0; counts.len()];
    }
    // The classes without boxes take the mean, so the mean over all classes is that of those with boxes.
    let mean = present.iter().sum::<f64>() / present.len() as f64;
    counts.iter().map(|&count| if count > 0 { (weight(count) / mean) as f32 } else { 1.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_classes_weigh_more_and_the_mean_is_1() {
        // 1/100, 1/25 and the mean of the two: .01, .04, .025 over .025.
        assert_eq!(class_weights(&[100, 25, 0], 1.0), [0.4, 1.6, 1.0]);
        // 1/10 and 1/5 over .15.
        let halfway = class_weights(&[100, 25], 0.5);
        assert!(
            (halfway[0] - 2.0 / 3.0).abs() < 1e-6 && (halfway[1] - 4.0 / 3.0).abs() < 1e-6,
            "{halfway:?}"
        );
    }

    #[test]
    fn without_power_or_boxes_all_weigh_the_same() {
        assert_eq!(class_weights(&[7, 1], 0.0), [1.0, 1.0]);
        assert_eq!(class_weights(&[0, 0], 1.0), [1.0, 1.0]);
    }
}
