//! The tables of a step in one block, so that one copy brings them to the GPU.

use onsa_compute::cuda::Plain;

use super::super::loss::{TargetRow, TargetTable};
use super::super::machine::bytes_of;
use super::super::optimiser::RatesRow;

/// Tables begin at multiples of this many bytes.
const ALIGN: usize = 16;
/// Tables from which a batch's images are drawn, at most.
pub(super) const DRAWING: usize = 3;

/// Where each table begins. The targets, whose number varies, come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    images: usize,
    drawing: [usize; DRAWING],
    capacity: usize,
}

impl Layout {
    /// For so many images, with tables of `drawing` bytes an image, and `capacity` targets.
    pub(super) fn new(images: usize, drawing: [usize; DRAWING], capacity: usize) -> Layout {
        Layout { images, drawing, capacity }
    }

    /// Targets that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// A table from which images are drawn.
    pub(super) fn drawing(&self, table: usize) -> usize {
        self.drawing[..table].iter().map(|bytes| (self.images * bytes).next_multiple_of(ALIGN)).sum()
    }

    pub(super) fn rates(&self) -> usize {
        self.drawing(DRAWING)
    }

    pub(super) fn starts(&self) -> usize {
        self.rates() + size_of::<RatesRow>().next_multiple_of(ALIGN)
    }

    pub(super) fn targets(&self) -> usize {
        self.starts() + ((self.images + 1) * size_of::<i32>()).next_multiple_of(ALIGN)
    }

    /// Size of the block, a multiple of eight.
    pub(super) fn bytes(&self) -> usize {
        (self.targets() + self.capacity * size_of::<TargetRow>()).next_multiple_of(8)
    }

    /// Writes the tables; gives how many bytes are in use. A batch of ready pixels is drawn from nothing.
    ///
    /// # Panics
    /// If a table has more rows than the layout says.
    pub(super) fn fill(
        &self,
        block: &mut [u8],
        drawing: [&[u8]; DRAWING],
        rates: &RatesRow,
        targets: &TargetTable,
    ) -> usize {
        assert!(drawing.iter().zip(self.drawing).all(|(table, bytes)| table.len() <= self.images * bytes));
        assert!(targets.starts.len() == self.images + 1 && targets.rows.len() <= self.capacity);
        let mut put = |start: usize, bytes: &[u8]| block[start..start + bytes.len()].copy_from_slice(bytes);
        for (i, table) in drawing.into_iter().enumerate() {
            put(self.drawing(i), table);
        }
        put(self.rates(), bytes_of(std::slice::from_ref(rates)));
        put(self.starts(), bytes_of(&targets.starts));
        put(self.targets(), bytes_of(&targets.rows));
        self.targets() + size_of_val(targets.rows.as_slice())
    }
}

/// One plain value from its bytes.
pub(super) fn read<T: Plain>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: as many bytes as the value has, any of which are a value; read without regard to alignment.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_do_not_overlap_and_are_read_back() {
        let layout = Layout::new(3, [104, 0, 12], 5);
        let (first, last) = (vec![1u8; 3 * 104], vec![2u8; 3 * 12]);
        let targets = TargetTable { rows: vec![TargetRow::default(); 2], starts: vec![0, 1, 1, 2] };
        let rates = RatesRow::default();
        let mut block = vec![7u8; layout.bytes()];
        let used = layout.fill(&mut block, [&first, &[], &last], &rates, &targets);
        assert_eq!(used, layout.targets() + 2 * size_of::<TargetRow>());
        assert!(block[used..].iter().all(|&byte| byte == 7), "behind the last target nothing is written");
        let starts: Vec<i32> = (0..4).map(|i| read(&block[layout.starts() + 4 * i..][..4])).collect();
        assert_eq!(starts, targets.starts);
        assert_eq!(&block[layout.drawing(2)..][..36], &last[..]);
        let begins = [0, 1, 2].map(|table| layout.drawing(table)).into_iter();
        let begins: Vec<usize> = begins.chain([layout.rates(), layout.starts(), layout.targets()]).collect();
        let sizes = [312, 0, 36, size_of::<RatesRow>(), 16];
        for ((begin, next), size) in begins.iter().zip(&begins[1..]).zip(sizes) {
            assert!(begin.is_multiple_of(ALIGN) && begin + size <= *next);
        }
    }
}
