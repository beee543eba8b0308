//! Ranks: the likeliest classes, and the area under the receiver operating characteristic.

/// The `count` classes with the highest scores, the highest first; of equal ones the lower number.
pub fn top_classes(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

/// The chance that a positive scores above a negative, ties counting half (Hanley and McNeil, 1982). None where either is
/// missing.
pub fn area_under_curve(scored: &[(f64, bool)]) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let negatives = scored.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let mut order: Vec<&(f64, bool)> = scored.iter().collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    // The sum of the positives' ranks, equal scores sharing their mean rank.
    let mut sum = 0.0;
    let mut start = 0;
    while start < order.len() {
        let run = order[start..].iter().take_while(|one| one.0 == order[start].0).count();
        let rank = start as f64 + (run as f64 + 1.0) / 2.0;
        sum += rank * order[start..start + run].iter().filter(|one| one.1).count() as f64;
        start += run;
    }
    let least = positives as f64 * (positives as f64 + 1.0) / 2.0;
    Some((sum - least) / (positives as f64 * negatives as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_counts_ordered_pairs() {
        let scored = [(0.1, false), (0.4, true), (0.35, false), (0.8, true)];
        assert_eq!(area_under_curve(&scored), Some(1.0));
        // One of four pairs is in the wrong order, one is a tie.
        let scored = [(0.1, false), (0.5, false), (0.5, true), (0.2, true)];
        assert_eq!(area_under_curve(&scored), Some((1.0 + 0.5 + 1.0 + 0.0) / 4.0));
        assert_eq!(area_under_curve(&[(0.3, true)]), None);
    }

    #[test]
    fn the_top_is_sorted_and_ties_are_settled() {
        assert_eq!(top_classes(&[0.1, 0.5, 0.2, 0.5], 3), [1, 3, 2]);
        assert_eq!(top_classes(&[0.1], 5), [0]);
    }
}
