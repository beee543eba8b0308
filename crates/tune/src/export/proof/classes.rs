//! The proof of a classifier: what the file says of each picture, beside what the model says.

use std::path::PathBuf;

use serde::Serialize;

use super::{Classifying, Picture, ProofError, model_scores};
use crate::engine::Inference;
use crate::evaluate::classify::top_classes;

/// How much an exported classifier may differ, in fractions of 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassTolerance {
    /// Largest difference of any class's probability; none: not judged.
    pub score: Option<f64>,
    /// Largest mean change of the likeliest class's probability, up or down; none: not judged.
    pub score_shift: Option<f64>,
    /// Least share of pictures whose likeliest class is the same.
    pub agreement: f64,
    /// Two classes whose probabilities in the model differ by less are a tie, which rounding may turn: either counts as the
    /// same.
    pub tie: f64,
    /// Largest difference of top-1 accuracy. One picture may always change where numbers are rounded: of a few pictures it is
    /// a large share.
    pub top1: f64,
}

/// What a proof of a classifier found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassProof {
    /// What ran the exported file.
    pub runtime: &'static str,
    /// Pictures compared.
    pub images: usize,
    /// Share of them whose likeliest class is the same.
    pub top1_agreement: f64,
    /// Pictures where it is another, but one that the model holds for as likely.
    pub ties: usize,
    /// Largest difference of any class's probability.
    pub max_score_difference: f64,
    /// Mean change of the probability of the model's likeliest class, with its sign.
    pub score_shift: f64,
    /// The model's top-1 accuracy on the pictures.
    pub top1_model: f64,
    /// The export's.
    pub top1_export: f64,
    /// Difference of the two.
    pub top1_difference: f64,
    /// Whether the pictures' labels were the truth; else the model's own classes were.
    pub labelled: bool,
    /// The picture that differs most.
    pub worst_image: Option<PathBuf>,
    /// What was allowed.
    pub tolerance: ClassTolerance,
    /// Whether everything is within it.
    pub ok: bool,
}

/// Runs the model and the exported file on the middle square of every picture, `side` pixels.
///
/// # Errors
/// See [`ProofError`].
pub fn prove_classes(
    (network, names, side): (&mut Inference, &[String], usize),
    exported: &mut dyn Classifying,
    pictures: &[Picture],
    tolerance: ClassTolerance,
    mut progress: impl FnMut(usize, usize),
) -> Result<ClassProof, ProofError> {
    // The file's classes by name: one whose classes come in another order says other names for the same picture.
    let order: Vec<Option<usize>> =
        names.iter().map(|name| exported.names().iter().position(|n| n == name)).collect();
    let (mut same, mut ties, mut labelled) = (0usize, 0usize, 0usize);
    let (mut right, mut right_there) = (0usize, 0usize);
    let mut shift = 0.0;
    let (mut most, mut worst): (f64, Option<(f64, PathBuf)>) = (0.0, None);
    for (i, picture) in pictures.iter().enumerate() {
        let ours = model_scores(network, &picture.image, side)?;
        let given = exported.scores(&picture.image)?;
        let theirs: Vec<f32> =
            order.iter().map(|place| place.and_then(|p| given.get(p)).copied().unwrap_or(0.0)).collect();
        let (first, there) = (best(&ours), best(&theirs));
        let difference = ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let truth = picture.truths.as_ref().and_then(|truths| truths.first()).map(|t| t.class as usize);
        labelled += usize::from(truth.is_some());
        let truth = truth.unwrap_or(first);
        same += usize::from(first == there);
        ties += usize::from(first != there && f64::from(ours[first] - ours[there]) < tolerance.tie);
        right += usize::from(first == truth);
        right_there += usize::from(there == truth);
        most = most.max(difference);
        shift += f64::from(theirs[first] - ours[first]);
        // Another class weighs more than any difference of the scores.
        let badness = difference + f64::from(u8::from(first != there));
        if worst.as_ref().is_none_or(|(before, _)| badness > *before) {
            worst = Some((badness, picture.name.clone()));
        }
        progress(i + 1, pictures.len());
    }
    let images = pictures.len();
    let share = |count: usize| if images == 0 { 0.0 } else { count as f64 / images as f64 };
    let changed = right.abs_diff(right_there);
    let rounds = tolerance.score.is_none_or(|score| score > 2e-3);
    let score_shift = shift / images.max(1) as f64;
    let ok = images > 0
        && tolerance.score_shift.is_none_or(|limit| score_shift.abs() <= limit)
        && tolerance.score.is_none_or(|limit| most <= limit)
        && share(same + ties) >= tolerance.agreement
        && (share(changed) <= tolerance.top1 || (rounds && changed <= 1));
    Ok(ClassProof {
        runtime: exported.runtime(),
        images,
        top1_agreement: share(same),
        ties,
        max_score_difference: most,
        score_shift,
        top1_model: share(right),
        top1_export: share(right_there),
        top1_difference: share(changed),
        labelled: labelled == images && images > 0,
        worst_image: worst.map(|(_, name)| name),
        tolerance,
        ok,
    })
}

fn best(scores: &[f32]) -> usize {
    let scores: Vec<f64> = scores.iter().map(|&v| f64::from(v)).collect();
    top_classes(&scores, 1).first().copied().unwrap_or(0)
}
