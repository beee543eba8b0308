//! Numbers that are not finite, found before they spread.

use onsa_compute::Params;
use rayon::prelude::*;

use super::optimiser::CHUNK;

/// Whether every value is finite.
pub fn all(values: &[f32]) -> bool {
    values.par_chunks(CHUNK).all(is_finite)
}

/// No branch a value, so that the loop is vectorised.
fn is_finite(chunk: &[f32]) -> bool {
    chunk.iter().fold(true, |finite, v| finite & v.is_finite())
}

/// The name of the first parameter or running statistic with a value that is not finite.
pub fn first_bad(params: &Params) -> Option<String> {
    if all(&params.values) {
        return None;
    }
    let bad = params.infos.iter().find(|info| !is_finite(&params.values[info.range()]));
    Some(bad.map_or_else(|| "the padding between parameters".to_owned(), |info| info.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_is_found_wherever_it_stands() {
        let mut values = vec![f32::MAX; 3 * CHUNK + 5];
        assert!(all(&values));
        for (at, bad) in [(0, f32::NAN), (CHUNK, f32::INFINITY), (3 * CHUNK + 4, f32::NEG_INFINITY)] {
            values[at] = bad;
            assert!(!all(&values), "{at}");
            values[at] = -0.0;
        }
    }
}
