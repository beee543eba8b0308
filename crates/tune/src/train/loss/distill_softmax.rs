//! Distillation: what a classifier that is given new classes learns of its old ones, from the frozen model that it started
//! from.
//!
//! With x the network's logits, y the starting model's (of the old classes alone), T = 2 and p(z) = softmax(z / T):
//!
//! ```text
//! an image of the new data:    T^2 KL(p(y) || p(x_old))
//! a replayed old image:        T^2 KL((p(y), 0) || p(x))
//! ```
//!
//! The first is the term of Li and Hoiem, "Learning without Forgetting" (ECCV 2016), with the temperature of Hinton, Vinyals and
//! Dean (2015, arXiv:1503.02531): on a new class's image only the old classes' proportions are the starting model's to say.
//! An old image shows no new class: there the new classes' share is 0. The batch's term is the mean over its images.

use super::log_softmax;

/// T: how much the proportions of unlikely classes count.
const TEMPERATURE: f64 = 2.0;

/// The term of one image, and its gradient by the logits added to `gradient` times `scale`. `replayed`: an old image.
pub(super) fn image(x: &[f32], y: &[f32], replayed: bool, scale: f64, gradient: Option<&mut [f32]>) -> f64 {
    let heard = if replayed { x.len() } else { y.len() };
    let tempered = |logits: &[f32]| {
        log_softmax(&logits.iter().map(|&v| (f64::from(v) / TEMPERATURE) as f32).collect::<Vec<_>>())
    };
    let (ours, theirs) = (tempered(&x[..heard]), tempered(y));
    let divergence: f64 = theirs.iter().zip(&ours).map(|(q, p)| q.exp() * (q - p)).sum();
    if let Some(gradient) = gradient {
        for (c, (out, p)) in gradient[..heard].iter_mut().zip(&ours).enumerate() {
            let q = theirs.get(c).map_or(0.0, |q| q.exp());
            *out += (scale * TEMPERATURE * (p.exp() - q)) as f32;
        }
    }
    TEMPERATURE * TEMPERATURE * divergence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope_and_a_replayed_image_shows_no_new_class() {
        let (x, y) = ([0.5f32, -1.0, 2.0, 1.5], [1.0f32, 0.25]);
        for replayed in [false, true] {
            let mut gradient = [0.0; 4];
            let value = image(&x, &y, replayed, 0.5, Some(&mut gradient));
            assert!(value > 0.0);
            for i in 0..4 {
                let at = |h: f32| {
                    let mut moved = x;
                    moved[i] += h;
                    image(&moved, &y, replayed, 0.0, None)
                };
                let slope = 0.5 * (at(0.015625) - at(-0.015625)) / 0.03125;
                assert!(
                    (slope - f64::from(gradient[i])).abs() < 1e-4,
                    "{replayed} {i}: {slope} {}",
                    gradient[i]
                );
            }
            assert_eq!(gradient[2] > 0.0, replayed, "new classes are pushed down on old images alone");
        }
        let nothing = image(&[1.0, 2.0, 9.0], &[3.0, 4.0], false, 1.0, None);
        assert!(nothing.abs() < 1e-12, "a common shift of the old logits is no difference: {nothing}");
    }
}
