//! Four images around one point: where each comes to lie on a canvas of twice the network's size.
//!
//! Bochkovskiy et al., "YOLOv4: Optimal speed and accuracy of object detection" (2020). Partners come uniformly from
//! the whole set; the reference draws them from a buffer of recently loaded images unless images are cached, which
//! is an artefact of its loader.

use crate::data::rng::Draw;

/// The numbers that make one mosaic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MosaicLayout {
    /// Where the four images meet, canvas pixels from the left; from s/2 to 3s/2 for a network size s.
    pub centre_x: usize,
    /// Where the four images meet, canvas pixels from the top.
    pub centre_y: usize,
    /// The items at the top right, bottom left and bottom right; the sample's own item lies at the top left.
    pub partners: [usize; 3],
}

/// Where one image lies on the canvas, after what does not fit has been cut off. Half-open pixel ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First column on the canvas.
    pub x1: usize,
    /// First row on the canvas.
    pub y1: usize,
    /// Column after the last.
    pub x2: usize,
    /// Row after the last.
    pub y2: usize,
    /// Canvas column of the image's own column 0; negative where its left part is cut off.
    pub left: isize,
    /// Canvas row of the image's own row 0.
    pub top: isize,
}

impl MosaicLayout {
    /// Draws a layout for a network size of `size` pixels over `items` items.
    pub fn draw(size: usize, items: usize, draw: &mut Draw) -> MosaicLayout {
        let (low, high) = (size as f64 * 0.5, size as f64 * 1.5);
        let centre_y = draw.uniform(low, high) as usize;
        let centre_x = draw.uniform(low, high) as usize;
        let partners = std::array::from_fn(|_| draw.below(items as u32) as usize);
        MosaicLayout { centre_x, centre_y, partners }
    }

    /// Where image `position` (0 top left, 1 top right, 2 bottom left, 3 bottom right) of `width` x `height` pixels
    /// lies: with one corner at the centre, cut off at the edges of the canvas of 2 `size` pixels square.
    pub fn place(&self, position: usize, size: usize, width: usize, height: usize) -> Placement {
        let side = 2 * size;
        let axis = |centre: usize, length: usize, before: bool| {
            if before {
                (centre.saturating_sub(length), centre, centre as isize - length as isize)
            } else {
                (centre, (centre + length).min(side), centre as isize)
            }
        };
        let (x1, x2, left) = axis(self.centre_x, width, position.is_multiple_of(2));
        let (y1, y2, top) = axis(self.centre_y, height, position < 2);
        Placement { x1, y1, x2, y2, left, top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rng::Purpose;

    #[test]
    fn images_meet_at_the_centre_and_are_cut_at_the_edges() {
        let layout = MosaicLayout { centre_x: 60, centre_y: 120, partners: [0; 3] };
        let place = |position| layout.place(position, 100, 100, 70);
        assert_eq!(place(0), Placement { x1: 0, y1: 50, x2: 60, y2: 120, left: -40, top: 50 });
        assert_eq!(place(1), Placement { x1: 60, y1: 50, x2: 160, y2: 120, left: 60, top: 50 });
        assert_eq!(place(2), Placement { x1: 0, y1: 120, x2: 60, y2: 190, left: -40, top: 120 });
        assert_eq!(
            layout.place(3, 100, 150, 90),
            Placement { x1: 60, y1: 120, x2: 200, y2: 200, left: 60, top: 120 }
        );
    }

    #[test]
    fn centres_fill_the_middle_half_and_partners_the_set() {
        let mut seen = [false; 5];
        for sample in 0..200 {
            let layout = MosaicLayout::draw(64, 5, &mut Draw::new(0, 0, sample, Purpose::Mosaic));
            assert!((32..96).contains(&layout.centre_x) && (32..96).contains(&layout.centre_y));
            layout.partners.iter().for_each(|&partner| seen[partner] = true);
        }
        assert_eq!(seen, [true; 5]);
    }
}
