//! A batch's images on their way into the network.

use rayon::prelude::*;

use crate::data::batch::{Batch, to_floats};
use crate::models::Architecture;

/// Pixels that a thread writes at a time.
const RUN: usize = 1 << 13;

/// Writes a batch's images to `out` as the network takes them: its floats, or where it has none its bytes as fractions of
/// 255. On the threads of the pool, which would otherwise wait for one.
///
/// # Panics
/// If the lengths differ.
pub(super) fn enter(batch: &Batch, architecture: &Architecture, pool: &rayon::ThreadPool, out: &mut [f32]) {
    let (normalise, channels) = (architecture.normalise(), architecture.image_channels);
    let run = RUN * channels;
    let bytes = batch.images.is_empty();
    let given = if bytes { batch.images_u8.len() } else { batch.images.len() };
    assert_eq!(given, out.len(), "as many values in as out");
    pool.install(|| {
        let runs = out.par_chunks_mut(run);
        if bytes {
            runs.zip(batch.images_u8.par_chunks(run)).for_each(|(out, bytes)| {
                to_floats(bytes, out);
                normalise.change(channels, out);
            });
        } else {
            let images = batch.images.par_chunks(run);
            runs.zip(images).for_each(|(out, images)| normalise.apply(images, channels, out));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Normalise;

    #[test]
    fn bytes_and_floats_enter_as_the_same_values() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        // More than two runs, the last of them short.
        let (h, w) = (130, 140);
        let images_u8: Vec<u8> = (0..h * w * 3).map(|i| (i * 7 % 256) as u8).collect();
        let mut images = vec![0.0; images_u8.len()];
        to_floats(&images_u8, &mut images);
        let bytes = Batch { n: 1, h, w, images_u8, ..Batch::default() };
        let floats = Batch { images, ..bytes.clone() };
        for name in ["yolo11n", "resnet18"] {
            let architecture = crate::models::registry::find(name).unwrap().architecture(10);
            let mut expected = vec![0.0; floats.images.len()];
            architecture.normalise().apply(&floats.images, 3, &mut expected);
            assert_eq!(architecture.normalise() == Normalise::NONE, name == "yolo11n");
            for batch in [&bytes, &floats] {
                let mut out = vec![9.0; expected.len()];
                enter(batch, &architecture, &pool, &mut out);
                assert!(out == expected, "{name}");
            }
        }
    }
}
