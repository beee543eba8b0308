//! Batches of images of 16 bits.

use rayon::prelude::*;

use crate::boxes::Label;
use crate::data::batch::{Batch, Buffers, PlannedBatch, Target};

/// Fills a batch of `channels` channels: `render` draws one item into its samples and gives its labels. As
/// [`crate::data::batch::assemble`], but for the bytes, which there are none of.
pub(crate) fn assemble<E: Send>(
    plan: &PlannedBatch,
    buffers: Buffers,
    channels: usize,
    render: impl Fn(usize, &mut [u16]) -> Result<Vec<Label>, E> + Sync,
) -> Result<Batch, E> {
    let (n, h, w) = (plan.items.len(), plan.height, plan.width);
    let size = h * w * channels;
    let mut images = buffers.floats;
    images.resize(n * size, 0.0);
    let labels: Vec<Result<Vec<Label>, E>> = images
        .par_chunks_mut(size)
        .zip(&plan.items)
        .map(|(floats, &item)| {
            let mut samples = vec![0u16; size];
            let labels = render(item, &mut samples)?;
            floats.iter_mut().zip(&samples).for_each(|(out, &v)| *out = f32::from(v) / 65535.0);
            Ok(labels)
        })
        .collect();
    let mut targets = Vec::new();
    for (image, labels) in labels.into_iter().enumerate() {
        targets.extend(labels?.into_iter().map(|label| Target { image: image as u32, label }));
    }
    Ok(Batch { n, h, w, images, images_u8: Vec::new(), targets, items: plan.items.clone() })
}
