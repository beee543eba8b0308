//! Mirroring.

use super::truth::Truth;

/// Mirrors left and right.
pub fn flip_left_right(image: &mut [u8], width: usize, truths: &mut [Truth]) {
    for row in image.chunks_exact_mut(width * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
    mirror(width, truths);
}

/// Where boxes lie once their image of `width` pixels is mirrored left and right.
pub(crate) fn mirror(width: usize, truths: &mut [Truth]) {
    for truth in truths {
        let b = &mut truth.bbox;
        (b.x1, b.x2) = (width as f32 - b.x2, width as f32 - b.x1);
    }
}

/// Turns upside down.
pub fn flip_up_down(image: &mut [u8], width: usize, truths: &mut [Truth]) {
    let stride = width * 3;
    let height = image.len() / stride;
    let (upper, lower) = image.split_at_mut(height / 2 * stride);
    for (a, b) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
        a.swap_with_slice(b);
    }
    overturn(height, truths);
}

/// Where boxes lie once their image of `height` pixels is turned upside down.
pub(crate) fn overturn(height: usize, truths: &mut [Truth]) {
    for truth in truths {
        let b = &mut truth.bbox;
        (b.y1, b.y2) = (height as f32 - b.y2, height as f32 - b.y1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Xyxy;

    #[test]
    fn pixels_and_boxes_move_together() {
        let bytes: Vec<u8> = (0..18).collect();
        let mut image = bytes.clone();
        let mut truths = [Truth { class: 0, bbox: Xyxy { x1: 0.0, y1: 0.0, x2: 1.0, y2: 1.0 } }];
        flip_left_right(&mut image, 2, &mut truths);
        assert_eq!(image[..6], [3, 4, 5, 0, 1, 2]);
        assert_eq!(truths[0].bbox, Xyxy { x1: 1.0, y1: 0.0, x2: 2.0, y2: 1.0 });
        flip_up_down(&mut image, 2, &mut truths);
        assert_eq!(image, [15, 16, 17, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
        assert_eq!(truths[0].bbox, Xyxy { x1: 1.0, y1: 2.0, x2: 2.0, y2: 3.0 });
        flip_up_down(&mut image, 2, &mut truths);
        flip_left_right(&mut image, 2, &mut truths);
        assert_eq!(image, bytes);
    }
}
