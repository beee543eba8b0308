//! The anchors: one at the centre of every cell of every level.

/// One level of the head's maps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Rows of cells.
    pub h: usize,
    /// Cells in a row.
    pub w: usize,
    /// Pixels of the network's input per cell.
    pub stride: usize,
    /// Index of the level's first anchor.
    pub first: usize,
}

impl Level {
    /// Number of anchors.
    pub fn cells(&self) -> usize {
        self.h * self.w
    }
}

/// All anchors: level by level, each row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grid {
    levels: Vec<Level>,
    anchors: usize,
}

impl Grid {
    /// Levels of `shapes` (rows, columns), each with its stride in pixels.
    pub fn new(shapes: &[(usize, usize)], strides: &[usize]) -> Self {
        let mut first = 0;
        let levels = shapes
            .iter()
            .zip(strides)
            .map(|(&(h, w), &stride)| {
                let level = Level { h, w, stride, first };
                first += h * w;
                level
            })
            .collect();
        Self { levels, anchors: first }
    }

    /// The levels in order.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Number of anchors over all levels.
    pub fn anchors(&self) -> usize {
        self.anchors
    }

    /// Level and cell of an anchor.
    ///
    /// # Panics
    /// If `anchor` is not below [`Grid::anchors`].
    pub fn locate(&self, anchor: usize) -> (usize, usize) {
        let level = self.levels.partition_point(|l| l.first + l.cells() <= anchor);
        (level, anchor - self.levels[level].first)
    }

    /// Centre of a cell in units of the level's stride.
    pub fn centre(&self, level: usize, cell: usize) -> (f32, f32) {
        let w = self.levels[level].w;
        ((cell % w) as f32 + 0.5, (cell / w) as f32 + 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_run_level_by_level() {
        let grid = Grid::new(&[(2, 3), (1, 2)], &[8, 16]);
        assert_eq!(grid.anchors(), 8);
        assert_eq!(grid.locate(5), (0, 5));
        assert_eq!(grid.locate(6), (1, 0));
        assert_eq!(grid.locate(7), (1, 1));
        assert_eq!(grid.centre(0, 5), (2.5, 1.5));
        assert_eq!(grid.centre(1, 1), (1.5, 0.5));
    }
}
