//! Box conventions, stated in the types: which corner, which unit.

/// One labelled object: centre and size as fractions of the image's width and height (0 to 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// Index into the data set's class names.
    pub class: u32,
    /// Centre, fraction of the width.
    pub cx: f32,
    /// Centre, fraction of the height.
    pub cy: f32,
    /// Width, fraction of the image's width.
    pub w: f32,
    /// Height, fraction of the image's height.
    pub h: f32,
}

/// Corners in pixels: (x1, y1) top left, (x2, y2) bottom right, with x growing right and y down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xyxy {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

/// A predicted object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Index into the model's class names.
    pub class: u32,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Where, in pixels of the image that the caller names.
    pub bbox: Xyxy,
}

impl Label {
    /// The box's corners on an image of `width` x `height` pixels.
    pub fn to_xyxy(&self, width: f32, height: f32) -> Xyxy {
        Xyxy {
            x1: (self.cx - self.w / 2.0) * width,
            y1: (self.cy - self.h / 2.0) * height,
            x2: (self.cx + self.w / 2.0) * width,
            y2: (self.cy + self.h / 2.0) * height,
        }
    }
}

impl Xyxy {
    /// Width in pixels; negative if the corners are swapped.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Height in pixels; negative if the corners are swapped.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// Area in square pixels; 0 for a box with swapped corners.
    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Intersection over union, 0 to 1; 0 where both boxes are empty.
    pub fn iou(&self, other: &Xyxy) -> f32 {
        let w = self.x2.min(other.x2) - self.x1.max(other.x1);
        let h = self.y2.min(other.y2) - self.y1.max(other.y1);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        let intersection = w * h;
        intersection / (self.area() + other.area() - intersection)
    }

    /// The box as fractions of an image of `width` x `height` pixels, with its class.
    pub fn to_label(&self, class: u32, width: f32, height: f32) -> Label {
        Label {
            class,
            cx: (self.x1 + self.x2) / 2.0 / width,
            cy: (self.y1 + self.y2) / 2.0 / height,
            w: self.width() / width,
            h: self.height() / height,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_and_back() {
        let label = Label { class: 3, cx: 0.5, cy: 0.25, w: 0.5, h: 0.25 };
        let corners = label.to_xyxy(80.0, 40.0);
        assert_eq!(corners, Xyxy { x1: 20.0, y1: 5.0, x2: 60.0, y2: 15.0 });
        assert_eq!(corners.to_label(3, 80.0, 40.0), label);
    }

    #[test]
    fn iou_of_a_shifted_box() {
        let a = Xyxy { x1: 0.0, y1: 0.0, x2: 2.0, y2: 2.0 };
        let b = Xyxy { x1: 1.0, y1: 0.0, x2: 3.0, y2: 2.0 };
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&Xyxy { x1: 2.0, y1: 0.0, x2: 3.0, y2: 1.0 }), 0.0);
    }
}
