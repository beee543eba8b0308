//! Batches as the network takes them, and which items go into which.

use rayon::prelude::*;

use crate::boxes::Label;

use super::rng::{epoch_order, permutation, share};

/// A label and the image of the batch that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Index of the image in the batch.
    pub image: u32,
    /// Class and box, the box as fractions of the batch image.
    pub label: Label,
}

/// Images of one size with their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Images. The last batch of an epoch has as many as are left, and buffers of that size.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// `n * h * w * 3` values, NHWC, RGB, 0 to 1: the bytes divided by 255. Empty where only bytes were asked for.
    pub images: Vec<f32>,
    /// The same as bytes, 0 to 255.
    pub images_u8: Vec<u8>,
    /// All boxes, ordered by image.
    pub targets: Vec<Target>,
    /// The item in each place.
    pub items: Vec<usize>,
}

/// The memory of a batch, to be used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) bytes: Vec<u8>,
    pub(crate) floats: Vec<f32>,
}

/// Which items form a batch, and its size in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedBatch {
    /// Item indices.
    pub items: Vec<usize>,
    /// Width of the batch image.
    pub width: usize,
    /// Height of the batch image.
    pub height: usize,
}

/// The batches of an epoch in random order: items `epoch_order`ed and cut into runs of `batch`, square.
pub fn shuffled_batches(
    seed: u64,
    epoch: u32,
    items: usize,
    batch: usize,
    imgsz: usize,
    (rank, world): (u32, u32),
) -> Vec<PlannedBatch> {
    epoch_order(seed, epoch, items as u32, rank, world)
        .chunks(batch)
        .map(|run| PlannedBatch {
            items: run.iter().map(|&i| i as usize).collect(),
            width: imgsz,
            height: imgsz,
        })
        .collect()
}

/// Batches of images with similar aspect ratios, in order of height / width: each batch image is the smallest multiple of
/// `stride` that holds its images at a long side of `imgsz`, with `pad` strides to spare (0.5 in validation, 0 in training).
pub fn rectangular_batches(
    sizes: &[(u32, u32)],
    batch: usize,
    imgsz: usize,
    stride: usize,
    pad: f64,
) -> Vec<PlannedBatch> {
    let ratio = |i: usize| f64::from(sizes[i].1) / f64::from(sizes[i].0);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| ratio(a).total_cmp(&ratio(b)));
    let side = |fraction: f64| {
        let strides = (fraction * imgsz as f64 / stride as f64 + pad).ceil();
        (strides as usize).max(1) * stride
    };
    let plan = |run: &[usize]| {
        // Sorted, so the extremes stand at the ends: (height, width) as fractions of the long side.
        let (flattest, tallest) = (ratio(run[0]), ratio(run[run.len() - 1]));
        let (height, width) = if tallest < 1.0 {
            (tallest, 1.0)
        } else if flattest > 1.0 {
            (1.0, 1.0 / flattest)
        } else {
            (1.0, 1.0)
        };
        PlannedBatch { items: run.to_vec(), width: side(width), height: side(height) }
    };
    order.chunks(batch).map(plan).collect()
}

/// Rectangular batches of fixed content in random order, shared among `world` processes.
pub fn shuffled_rectangular(
    plan: &[PlannedBatch],
    seed: u64,
    epoch: u32,
    (rank, world): (u32, u32),
) -> Vec<PlannedBatch> {
    let order = permutation(seed, epoch, plan.len() as u32);
    share(&order, rank, world).into_iter().map(|i| plan[i as usize].clone()).collect()
}

/// Fills a batch: `render` draws one item into its bytes and gives its labels. Items are drawn in parallel on the
/// current rayon pool; the result does not depend on the number of threads. Where several items fail, the
/// error is that of the first.
pub(crate) fn assemble<E: Send>(
    plan: &PlannedBatch,
    buffers: Buffers,
    floats: bool,
    render: impl Fn(usize, &mut [u8]) -> Result<Vec<Label>, E> + Sync,
) -> Result<Batch, E> {
    let (n, h, w) = (plan.items.len(), plan.height, plan.width);
    let size = h * w * 3;
    let Buffers { bytes: mut images_u8, floats: mut images } = buffers;
    images_u8.resize(n * size, 0);
    images.resize(if floats { n * size } else { 0 }, 0.0);
    let labels: Vec<Result<Vec<Label>, E>> = if floats {
        images_u8
            .par_chunks_mut(size)
            .zip(images.par_chunks_mut(size))
            .zip(&plan.items)
            .map(|((bytes, floats), &item)| {
                let labels = render(item, bytes)?;
                to_floats(bytes, floats);
                Ok(labels)
            })
            .collect()
    } else {
        images_u8.par_chunks_mut(size).zip(&plan.items).map(|(bytes, &item)| render(item, bytes)).collect()
    };
    let mut targets = Vec::new();
    for (image, labels) in labels.into_iter().enumerate() {
        targets.extend(labels?.into_iter().map(|label| Target { image: image as u32, label }));
    }
    Ok(Batch { n, h, w, images, images_u8, targets, items: plan.items.clone() })
}

/// Bytes as fractions of 255.
pub(crate) fn to_floats(bytes: &[u8], floats: &mut [f32]) {
    for (out, &byte) in floats.iter_mut().zip(bytes) {
        *out = f32::from(byte) / 255.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shapes_follow_the_aspect_ratios() {
        // Ratios h/w .5, .75, 1, 2 in batches of two.
        let sizes = [(100, 200), (640, 480), (300, 300), (800, 400)];
        let plan = rectangular_batches(&sizes, 2, 640, 32, 0.5);
        assert_eq!(plan[0], PlannedBatch { items: vec![3, 1], width: 672, height: 512 });
        assert_eq!(plan[1], PlannedBatch { items: vec![2, 0], width: 672, height: 672 });
        let tight = rectangular_batches(&sizes[..1], 2, 640, 32, 0.0);
        assert_eq!(tight, [PlannedBatch { items: vec![0], width: 320, height: 640 }]);
    }

    #[test]
    fn bytes_become_fractions() {
        let plan = PlannedBatch { items: vec![7, 8], width: 1, height: 1 };
        let draw = |item: usize, bytes: &mut [u8]| {
            bytes.copy_from_slice(&[item as u8, 51, 255]);
            Ok::<_, ()>(vec![Label { class: item as u32, cx: 0.5, cy: 0.5, w: 1.0, h: 1.0 }])
        };
        let batch = assemble(&plan, Buffers::default(), true, draw).unwrap();
        assert_eq!((batch.n, batch.h, batch.w), (2, 1, 1));
        assert_eq!(batch.images, [7.0 / 255.0, 0.2, 1.0, 8.0 / 255.0, 0.2, 1.0]);
        assert_eq!(
            batch.targets.iter().map(|t| (t.image, t.label.class)).collect::<Vec<_>>(),
            [(0, 7), (1, 8)]
        );
        let bytes = assemble(&plan, Buffers::default(), false, draw).unwrap();
        assert!(bytes.images.is_empty() && bytes.images_u8 == batch.images_u8);
    }

    #[test]
    fn the_first_failing_item_is_reported() {
        let plan = PlannedBatch { items: (0..64).collect(), width: 1, height: 1 };
        let fail = |item: usize, _: &mut [u8]| if item % 7 == 3 { Err(item) } else { Ok(Vec::new()) };
        assert_eq!(assemble(&plan, Buffers::default(), true, fail), Err(3));
    }

    proptest! {
        #[test]
        fn every_item_is_in_exactly_one_batch(
            sizes in prop::collection::vec((1u32..3000, 1u32..3000), 1..40), batch in 1usize..9, seed: u64,
        ) {
            let rect = rectangular_batches(&sizes, batch, 640, 32, 0.5);
            for plan in [shuffled_rectangular(&rect, seed, 1, (0, 1)), shuffled_batches(seed, 1, sizes.len(), batch, 640, (0, 1))] {
                let mut seen: Vec<usize> = plan.iter().flat_map(|b| b.items.clone()).collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
                prop_assert!(plan.iter().all(|b| b.width % 32 == 0 && b.height % 32 == 0 && b.items.len() <= batch));
            }
            // Every image fits its batch at its load size.
            for planned in &rect {
                for &i in &planned.items {
                    let (w, h) = crate::data::resize::load_size(sizes[i].0, sizes[i].1, 640);
                    prop_assert!(w as usize <= planned.width && h as usize <= planned.height);
                }
            }
        }
    }
}
